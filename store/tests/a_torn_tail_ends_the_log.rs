//! Promise: whatever a crash leaves of the last frame, the store opens at the commit before it and goes on; a frame that
//! does not verify before one that does is damage.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use cairn_store::{Error, Reader, Writer};
use common::{Block, assert_stored, chain, commit, create, verify};

/// Copies a store of small files.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn tip(dir: &Path) -> PathBuf {
    let is_tip = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("tip.")
    };
    let mut tips: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(is_tip)
        .collect();
    assert_eq!(tips.len(), 1);
    tips.pop().unwrap()
}

/// The offsets of the frames but for the closing one, and where the last one's length says that it ends.
fn frames(log: &[u8]) -> (Vec<usize>, usize) {
    let salt = &log[40..48];
    let mut at = 4096;
    let (mut found, mut end) = (Vec::new(), at);
    while at + 72 <= log.len() && &log[at + 16..at + 24] == salt && log[at + 4..at + 8] != [0; 4] {
        found.push(at);
        let length = u64::from_le_bytes(log[at + 8..at + 16].try_into().unwrap()) as usize;
        end = at + length;
        at = end.next_multiple_of(4096);
    }
    (found, end)
}

/// The log as a power loss leaves it that came before the closing frame was on the disk.
fn unclosed(path: &Path) -> Vec<u8> {
    let mut log = fs::read(path).unwrap();
    let (_, end) = frames(&log);
    let closing = end.next_multiple_of(4096);
    assert_eq!(log[closing + 8..closing + 16], 72_u64.to_le_bytes());
    log[closing..closing + 72].fill(0);
    log
}

/// A store whose last commit holds one block of a frame of several pages.
fn store() -> (tempfile::TempDir, Vec<Block>) {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(6, 14_000);
    let mut writer = create(dir.path(), &blocks);
    for i in 1..=6 {
        commit(&mut writer, &blocks[i..=i]).unwrap();
    }
    (dir, blocks)
}

#[test]
fn at_every_byte_of_the_last_frame() {
    let (dir, blocks) = store();
    let path = tip(dir.path());
    let log = unclosed(&path);
    let (at, end) = frames(&log);
    assert_eq!(at.len(), 7);
    let last = *at.last().unwrap();
    assert!(end - last > 8192);
    // The file ends there; or it is long, and zeros or garbage stand where the rest was not written.
    for cut in last..end {
        fs::write(&path, &log[..cut]).unwrap();
        let head = Reader::open(dir.path()).unwrap().snapshot().head();
        assert_eq!(head, blocks[5].head(), "cut at {}", cut - last);
        if cut % 61 == 0 || cut < last + 80 || cut + 4 > end {
            // Bytes that were zeros already are as they were written.
            for rest in [0_u8, 0xa5] {
                let mut torn = log.clone();
                torn[cut..end].fill(rest);
                if torn != log {
                    fs::write(&path, &torn).unwrap();
                    assert_eq!(
                        Reader::open(dir.path()).unwrap().snapshot().head(),
                        blocks[5].head()
                    );
                }
            }
        }
    }
    // Every page of it that was not written, the others were.
    for page in (last..end).step_by(4096) {
        let mut torn = log.clone();
        torn[page..page + 4096].fill(0);
        fs::write(&path, &torn).unwrap();
        assert_stored(dir.path(), &blocks[..6]);
    }
    fs::write(&path, &log[..end]).unwrap();
    assert_stored(dir.path(), &blocks);
}

/// Behind a commit that was acknowledged is a closing frame, unless a power loss came too soon: then damage of the commit is
/// told from a torn tail.
#[test]
fn the_last_frame_before_a_closing_one_is_not_torn() {
    let (dir, blocks) = store();
    let path = tip(dir.path());
    let log = fs::read(&path).unwrap();
    let (at, end) = frames(&log);
    assert_eq!(verify(dir.path()).notices, []);
    for page in (at[6]..end).step_by(4096) {
        let mut bad = log.clone();
        bad[page..page + 4096].fill(0);
        fs::write(&path, &bad).unwrap();
        let error = Reader::open(dir.path()).err().unwrap();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(!verify(dir.path()).is_sound());
    }
    // The closing frame itself holds nothing: torn at any byte, nothing is lost.
    let closing = end.next_multiple_of(4096);
    for cut in closing..closing + 72 {
        let mut torn = log.clone();
        torn[cut..closing + 72].fill(0xa5);
        fs::write(&path, &torn).unwrap();
        let report = verify(dir.path());
        assert!(report.is_sound(), "{report:#?}");
        assert!(report.notices[0].what.contains("damaged since"));
        assert_eq!(report.head, Some(blocks[6].head()));
    }
    let mut torn = log.clone();
    torn[closing] ^= 1;
    fs::write(&path, &torn).unwrap();
    let says = verify(dir.path()).notices.remove(0).what;
    assert!(says.contains("it holds no block"), "{says}");
    // What is behind it says so where a later commit has taken its place, and is lost.
    let mut other = blocks.clone();
    common::extend(&mut other, 2, 0, 500);
    fs::write(&path, &log).unwrap();
    let again = tempfile::tempdir().unwrap();
    let mut writer = create(again.path(), &other);
    for i in 1..=6 {
        commit(&mut writer, &other[i..=i]).unwrap();
    }
    let path = tip(again.path());
    let before = fs::read(&path).unwrap();
    for i in 7..=8 {
        commit(&mut writer, &other[i..=i]).unwrap();
    }
    let mut lost = fs::read(&path).unwrap();
    lost[closing..closing + 4096].copy_from_slice(&before[closing..closing + 4096]);
    fs::write(&path, &lost).unwrap();
    let error = Reader::open(again.path()).err().unwrap();
    assert!(matches!(error, Error::Damaged { offset_bytes, .. } if offset_bytes == closing as u64));
}

#[test]
fn the_writer_goes_on_behind_a_torn_tail() {
    let (dir, blocks) = store();
    let path = tip(dir.path());
    let log = unclosed(&path);
    let (at, end) = frames(&log);
    for cut in [at[6], at[6] + 1, at[6] + 72, end - 1] {
        let again = tempfile::tempdir().unwrap();
        copy(dir.path(), again.path());
        let mut torn = log.clone();
        torn[cut..end].fill(0);
        fs::write(tip(again.path()), &torn).unwrap();
        let report = verify(again.path());
        assert!(report.is_sound(), "{report:#?}");
        assert_eq!(report.notices.is_empty(), cut == at[6], "{report:#?}");
        let says = report
            .notices
            .iter()
            .map(|notice| &notice.what[..])
            .collect::<String>();
        // What is left of its head says what it held.
        let named = "and with block 6 ";
        assert_eq!(says.contains(named), cut >= at[6] + 72, "{says}");
        let either = "it was never finished, or its bytes were damaged since";
        assert_eq!(says.contains(either), cut > at[6], "{says}");
        let mut writer = Writer::open(again.path()).unwrap();
        assert_eq!(writer.head(), blocks[5].head());
        commit(&mut writer, &blocks[6..]).unwrap();
        drop(writer);
        assert_stored(again.path(), &blocks);
        assert_eq!(verify(again.path()).notices, []);
    }
}

#[test]
fn frames_of_an_older_log_do_not_pass_for_ours() {
    let (dir, blocks) = store();
    let path = tip(dir.path());
    let log = unclosed(&path);
    let (at, end) = frames(&log);
    // The same commits in another store: the same frames but for the salt, whole and of the next number.
    let other = tempfile::tempdir().unwrap();
    let mut longer = blocks.clone();
    common::extend(&mut longer, 1, 0, 500);
    let mut writer = create(other.path(), &longer);
    for i in 1..=7 {
        commit(&mut writer, &longer[i..=i]).unwrap();
    }
    let stale = unclosed(&tip(other.path()));
    let (stale_at, stale_end) = frames(&stale);
    assert_eq!(stale_at[..7], at[..]);
    let mut mixed = log.clone();
    mixed[stale_at[7]..stale_end].copy_from_slice(&stale[stale_at[7]..stale_end]);
    fs::write(&path, &mixed).unwrap();
    assert_stored(dir.path(), &blocks);
    // Also where the last frame should have been.
    let mut mixed = log.clone();
    mixed[at[6]..end].copy_from_slice(&stale[at[6]..end]);
    fs::write(&path, &mixed).unwrap();
    assert_stored(dir.path(), &blocks[..6]);
}

#[test]
fn a_bad_frame_before_a_good_one_is_damage() {
    let (dir, _) = store();
    let path = tip(dir.path());
    let log = unclosed(&path);
    let (at, end) = frames(&log);
    for (frame, pair) in at.windows(2).enumerate() {
        for offset in [pair[0], pair[0] + 9, pair[0] + 17, pair[0] + 200] {
            let mut bad = log.clone();
            bad[offset] ^= 4;
            fs::write(&path, &bad).unwrap();
            let error = Reader::open(dir.path()).err().unwrap();
            let Error::Damaged {
                path: found,
                offset_bytes,
                what,
            } = &error
            else {
                panic!("{error}")
            };
            assert_eq!((found, *offset_bytes as usize), (&path, pair[0]), "{what}");
            assert!(matches!(
                Writer::open(dir.path()).err().unwrap(),
                Error::Damaged { .. }
            ));
            let report = verify(dir.path());
            assert!(
                !report.is_sound() && report.problems[0].offset_bytes as usize == pair[0],
                "frame {frame}"
            );
        }
    }
    // The only frame: no genesis block.
    let mut bad = log[..at[1]].to_vec();
    bad[at[0] + 100] ^= 1;
    fs::write(&path, &bad).unwrap();
    assert!(matches!(
        Reader::open(dir.path()).err().unwrap(),
        Error::Damaged { .. }
    ));
    assert!(!verify(dir.path()).is_sound());
    fs::write(&path, &log[..end]).unwrap();
    Reader::open(dir.path()).unwrap();
}
