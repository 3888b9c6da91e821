//! Promise: repair says what it does and why, can be tried dry, never deletes what may be valid, and leaves what it cannot
//! make whole.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use cairn_store::repair::{self, rebuild_index};
use cairn_store::{Error, NewBody, Reader, Writer};
use common::{Block, assert_stored, chain, commit, create, extend, verify};

const DATA: u64 = 4096 + 16 * 8192;

/// A store of two finished eras, more settled blocks, and a tip of several frames.
fn store() -> (tempfile::TempDir, Vec<Block>) {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(2 * 8192 + 1500, 0);
    extend(&mut blocks, 100, 0, 300);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..16_000]).unwrap();
    commit(&mut writer, &blocks[16_000..17_950]).unwrap();
    for block in &blocks[17_950..] {
        commit(&mut writer, std::slice::from_ref(block)).unwrap();
    }
    drop(writer);
    assert_stored(dir.path(), &blocks);
    (dir, blocks)
}

/// The store's files of a folder, named as the store names them.
fn files(dir: &Path, folder: &str) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir.join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending.len() == 8))
        .collect();
    names.sort();
    names
}

fn tip(dir: &Path) -> PathBuf {
    let mut names = files(dir, ".");
    names.retain(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("tip.")
    });
    assert_eq!(names.len(), 1);
    names.remove(0)
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn image(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for folder in [".", "headers", "bodies", "receipts", "hash"] {
        for entry in fs::read_dir(dir.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                all.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

/// Tries it dry, does it, and returns what it said.
fn repaired(dir: &Path) -> repair::Repair {
    assert!(!verify(dir).is_sound() || !verify(dir).notices.is_empty());
    let before = image(dir);
    let dry = repair::repair(dir, true).unwrap();
    assert!(image(dir) == before);
    let done = repair::repair(dir, false).unwrap();
    assert_eq!(dry.actions, done.actions);
    for action in &done.actions {
        println!("{action}");
    }
    done
}

#[test]
fn a_sound_store_is_left_alone() {
    let (dir, blocks) = store();
    let before = image(dir.path());
    let repair = repair::repair(dir.path(), false).unwrap();
    assert!(repair.actions.is_empty() && repair.left.is_empty());
    assert!(image(dir.path()) == before);
    let writer = Writer::open(dir.path()).unwrap();
    let refused = repair::repair(dir.path(), true).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }));
    drop(writer);
    let nowhere = repair::repair(&dir.path().join("nowhere"), true).unwrap_err();
    assert!(matches!(nowhere, Error::NoStore { .. }));
    assert_stored(dir.path(), &blocks);
}

#[test]
fn the_index_is_rebuilt() {
    let (dir, blocks) = store();
    for path in files(dir.path(), "hash") {
        flip(&path, 5000);
    }
    let repair = repaired(dir.path());
    assert_eq!((repair.actions.len(), repair.left.len()), (1, 0));
    assert_stored(dir.path(), &blocks);
    fs::remove_file(&files(dir.path(), "hash")[0]).unwrap();
    assert!(!verify(dir.path()).is_sound());
    assert_eq!(rebuild_index(dir.path()).unwrap(), 2 * 8192);
    assert_stored(dir.path(), &blocks);
}

#[test]
fn a_damaged_body_becomes_absent_and_the_others_stay() {
    let (dir, blocks) = store();
    let path = files(dir.path(), "bodies").remove(1);
    // The raw length in the table's entry of block 8192 + 7.
    flip(&path, 4096 + 16 * 7 + 8);
    let damaged = fs::read(&path).unwrap();
    let repair = repaired(dir.path());
    assert_eq!((repair.actions.len(), repair.left.len()), (1, 0));
    let mut aside = path.clone().into_os_string();
    aside.push(".damaged");
    assert_eq!(fs::read(aside).unwrap(), damaged);
    let snapshot = Reader::open(dir.path()).unwrap().snapshot();
    for block in &blocks {
        let expected = (block.number != 8192 + 7).then(|| block.body.clone());
        assert_eq!(snapshot.body(block.number).unwrap(), expected);
    }
    assert!(verify(dir.path()).is_sound());
}

#[test]
fn a_body_that_repair_left_out_is_put_back() {
    let (dir, blocks) = store();
    let path = files(dir.path(), "bodies").remove(1);
    flip(&path, 4096 + 16 * 7); // where the body of block 8192 + 7 ends: the next begins there
    repaired(dir.path());
    let lacking: Vec<&Block> = {
        let snapshot = Reader::open(dir.path()).unwrap().snapshot();
        let lacks = |block: &&Block| snapshot.body(block.number).unwrap().is_none();
        blocks.iter().filter(lacks).collect()
    };
    assert!(!lacking.is_empty());
    let mut writer = Writer::open(dir.path()).unwrap();
    let late = |block: &'_ Block, hash| {
        let body = block.body.clone();
        (block.number, hash, body)
    };
    let mut put = |(number, hash, body): (u64, _, Vec<u8>)| {
        writer.add_bodies(&[NewBody {
            number,
            hash,
            body: &body,
        }])
    };
    let wrong = put(late(lacking[0], blocks[1].hash));
    assert!(matches!(wrong, Err(Error::BadBlock { .. })), "{wrong:?}");
    for block in &lacking {
        put(late(block, block.hash)).unwrap();
    }
    // One that is there stays as it is.
    put((9, blocks[9].hash, vec![0xc0])).unwrap();
    drop(writer);
    assert_stored(dir.path(), &blocks);
    assert!(verify(dir.path()).is_sound());
}

#[test]
fn a_page_and_a_place_in_a_table_are_made_anew() {
    let (dir, blocks) = store();
    let headers = files(dir.path(), "headers");
    flip(&headers[0], 70);
    flip(&headers[1], 17);
    flip(&headers[2], 4096 + 16 * 5 + 1); // where the header of slot 5 ends
    flip(&files(dir.path(), "bodies")[0], 9);
    let repair = repaired(dir.path());
    assert_eq!(
        (repair.actions.len(), repair.left.len()),
        (4, 0),
        "{repair:#?}"
    );
    assert_stored(dir.path(), &blocks);
}

#[test]
fn a_damaged_header_is_left() {
    let (dir, _) = store();
    flip(&files(dir.path(), "headers")[0], DATA + 2000);
    let before = image(dir.path());
    let repair = repair::repair(dir.path(), false).unwrap();
    assert!(
        repair.actions.is_empty() && !repair.left.is_empty(),
        "{repair:#?}"
    );
    assert!(image(dir.path()) == before);
}

#[test]
fn a_tip_log_ends_before_its_damage() {
    let (dir, blocks) = store();
    let path = tip(dir.path());
    let length = fs::metadata(&path).unwrap().len();
    // In the midst of the frames of one block each: zeros lie a MiB ahead of them.
    let bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    assert!(end < length);
    flip(&path, (end / 4096 - 10) * 4096 + 80);
    assert!(matches!(
        Writer::open(dir.path()).err().unwrap(),
        Error::Damaged { .. }
    ));
    let repair = repaired(dir.path());
    assert_eq!(
        (repair.actions.len(), repair.left.len()),
        (1, 0),
        "{repair:#?}"
    );
    let mut writer = Writer::open(dir.path()).unwrap();
    let head = writer.head().number as usize;
    assert!(
        head < blocks.len() - 5 && head > blocks.len() - 30,
        "{head}"
    );
    assert_stored(dir.path(), &blocks[..=head]);
    commit(&mut writer, &blocks[head + 1..]).unwrap();
    drop(writer);
    assert_stored(dir.path(), &blocks);
}

#[test]
fn a_torn_manifest_and_newer_files_are_put_right() {
    let (dir, blocks) = store();
    flip(&dir.path().join("MANIFEST.0"), 100);
    fs::write(
        dir.path().join("bodies/000000.0000ffff"),
        b"of another time",
    )
    .unwrap();
    let repair = repaired(dir.path());
    assert_eq!(
        (repair.actions.len(), repair.left.len()),
        (2, 0),
        "{repair:#?}"
    );
    assert!(dir.path().join("bodies/000000.0000ffff.aside").exists());
    assert_stored(dir.path(), &blocks);
    assert_eq!(verify(dir.path()).notices, []);
    // Without any MANIFEST there is nothing to go by, and nothing is touched.
    for name in ["MANIFEST.0", "MANIFEST.1"] {
        flip(&dir.path().join(name), 100);
    }
    let before = image(dir.path());
    let repair = repair::repair(dir.path(), false).unwrap();
    assert!(repair.actions.is_empty() && !repair.left.is_empty());
    assert!(image(dir.path()) == before);
}

/// Two things at once: each is found, and what can be repaired is.
#[test]
fn damage_in_two_files_is_told_apart() {
    let (dir, blocks) = store();
    // A header that stays damaged: the index waits for it.
    let header = files(dir.path(), "headers").remove(0);
    flip(&header, DATA + 2000);
    let run = files(dir.path(), "hash").remove(1);
    flip(&run, 5000);
    let report = verify(dir.path());
    for path in [&header, &run] {
        assert!(report.problems.iter().any(|problem| problem.path == *path));
    }
    let before = image(dir.path());
    let repair = repair::repair(dir.path(), false).unwrap();
    assert!(repair.actions.is_empty(), "{repair:#?}");
    assert_eq!(repair.left, report.problems);
    assert!(image(dir.path()) == before);
    flip(&header, DATA + 2000);
    // A header's page whose difficulty cannot be summed up from below is known from above.
    let pages = files(dir.path(), "headers");
    flip(&pages[0], DATA + 2000);
    flip(&pages[1], 70);
    flip(&pages[2], 70);
    let dry = repair::repair(dir.path(), true).unwrap();
    let done = repair::repair(dir.path(), false).unwrap();
    assert_eq!((&dry.actions, done.actions.len()), (&done.actions, 2));
    flip(&pages[0], DATA + 2000);
    let again = repair::repair(dir.path(), false).unwrap();
    assert_eq!(again.left, []);
    assert_stored(dir.path(), &blocks);
}

#[test]
fn a_lost_tip_log_is_said_and_nothing_touched() {
    let (dir, _) = store();
    let path = tip(dir.path());
    fs::remove_file(&path).unwrap();
    let before = image(dir.path());
    let repair = repair::repair(dir.path(), false).unwrap();
    assert!(repair.actions.is_empty() && repair.left.iter().any(|left| left.path == path));
    assert!(image(dir.path()) == before);
}

/// A lost run stops merging and nothing else.
#[test]
fn a_lost_run_does_not_stop_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(4 * 8192 + 3000, 0);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..3 * 8192]).unwrap();
    fs::remove_file(&files(dir.path(), "hash")[0]).unwrap();
    for part in blocks[3 * 8192..].chunks(1500) {
        commit(&mut writer, part).unwrap();
    }
    assert_eq!(files(dir.path(), "hash").len(), 3);
    drop(writer);
    assert!(!verify(dir.path()).is_sound());
    assert_eq!(rebuild_index(dir.path()).unwrap(), 4 * 8192);
    assert_stored(dir.path(), &blocks);
}
