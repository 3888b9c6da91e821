//! Promise: one flipped bit in any file is found by verify, and a reader answers with the right bytes or with an error.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cairn_store::{Error, Reader};
use common::{Block, Random, assert_stored, chain, commit, create, extend, verify};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.retain(|path| path.metadata().unwrap().len() > 0);
    found.sort();
    found
}

/// Reads everything: what is not right must be an error.
fn serve(dir: &Path, blocks: &[Block], indexed: bool) -> Result<(), Error> {
    let snapshot = Reader::open(dir)?.snapshot();
    let mut result = Ok(());
    let mut note = |error: Error| {
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        result = Err(error);
    };
    // No acknowledged block goes unnoticed, the last one neither.
    let head = snapshot.head();
    assert_eq!(head, blocks.last().unwrap().head());
    let mut joined = Vec::new();
    if let Err(e) = snapshot.headers(0, usize::MAX, &mut |bytes| joined.extend_from_slice(bytes)) {
        note(e);
    }
    let mut rest = &joined[..];
    for block in &blocks[..=head.number as usize] {
        let n = block.number;
        if !rest.is_empty() {
            assert!(rest.starts_with(&block.header));
            rest = &rest[block.header.len()..];
        }
        match snapshot.header(n) {
            Ok(header) => assert_eq!(*header.unwrap(), block.header),
            Err(e) => note(e),
        }
        match snapshot.body(n) {
            Ok(body) => assert_eq!(body.unwrap(), block.body),
            Err(e) => note(e),
        }
        match snapshot.receipts(n) {
            Ok(receipts) => assert_eq!(receipts, block.receipts),
            Err(e) => note(e),
        }
        match snapshot.hash(n) {
            Ok(hash) => assert_eq!(hash, Some(block.hash)),
            Err(e) => note(e),
        }
        if n % 97 == 0 {
            match snapshot.td(n) {
                Ok(td) => assert_eq!(td, Some(block.td)),
                Err(e) => note(e),
            }
            match snapshot.number(&block.hash) {
                Ok(None) if indexed => {} // the index can lose a block, not give a wrong one
                Ok(number) => assert_eq!(number, Some(n)),
                Err(e) => note(e),
            }
        }
    }
    result
}

fn flip(path: &Path, at: usize, bit: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

#[test]
fn in_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(100, 2000);
    extend(&mut blocks, 1200, 0, 0);
    extend(&mut blocks, 100, 0, 300);
    for block in &mut blocks[1..] {
        block.receipts = (block.number % 3 > 0).then(|| vec![0xc3, 1, 2, 3]);
    }
    let count = blocks.len();
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..1300]).unwrap();
    extend(&mut blocks, 1000, 0, 0);
    commit(&mut writer, &blocks[1300..count]).unwrap();
    commit(&mut writer, &blocks[count..]).unwrap();
    drop(writer);
    assert_stored(dir.path(), &blocks);
    assert_eq!(verify(dir.path()).notices, []);
    let files = files(dir.path());
    assert_eq!(files.len(), 6, "{files:?}"); // two MANIFESTs, the tip log, one segment of each kind
    let mut random = Random(7);
    let mut served = 0;
    for path in &files {
        let length = path.metadata().unwrap().len();
        // The first page, the table or first frames, and the whole.
        for (of, flips) in [
            (96, 4),
            (length.min(4096), 4),
            (length.min(4096 + 16 * 2400), 10),
            (length, 10),
        ] {
            for _ in 0..flips {
                let (at, bit) = (random.below(of) as usize, random.below(8) as u8);
                flip(path, at, bit);
                let report = verify(dir.path());
                let found = report.problems.len() + report.notices.len();
                assert!(found > 0, "bit {bit} of byte {at} of {}", path.display());
                served += u32::from(serve(dir.path(), &blocks, false).is_ok());
                flip(path, at, bit);
            }
        }
    }
    println!("{served} flips where all could still be served");
    assert_stored(dir.path(), &blocks);
}

/// Every bit of what was committed last, and of both MANIFESTs: frames are small, and the last is as safe as the others.
#[test]
fn in_every_bit_of_small_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(1, 40);
    let mut writer = create(dir.path(), &blocks);
    for size in [40, 0, 60] {
        let at = blocks.len();
        extend(&mut blocks, 1, 0, size);
        blocks[at].receipts = (at == 3).then(|| vec![0xc3, 1, 2, 3]);
        commit(&mut writer, &blocks[1..]).unwrap();
    }
    drop(writer);
    assert_stored(dir.path(), &blocks);
    assert_eq!(verify(dir.path()).notices, []);
    for path in files(dir.path()) {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let log = fs::read(&path).unwrap();
        let is_tip = path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("tip.");
        // A tip log: its page, four frames of a page each, the closing frame, and zeros ahead.
        let closing = 5 * 4096;
        let mut at = 0;
        while at < log.len() {
            let is_filled = log[at] != 0 || (is_tip && at % 4096 < 800 && at < closing + 4096);
            let bits = match is_filled {
                true if !is_tip || at >= closing - 4096 => 0..8,
                true => (at as u8 % 8)..(at as u8 % 8 + 1),
                false => 3..4,
            };
            for bit in bits {
                let place = format!("bit {bit} of byte {at} of {}", path.display());
                let at = at as u64;
                file.write_all_at(&[log[at as usize] ^ 1 << bit], at)
                    .unwrap();
                let report = verify(dir.path());
                assert!(
                    report.problems.len() + report.notices.len() > 0,
                    "{place}: not found"
                );
                // What a frame says is never taken for a torn tail.
                let in_frame = is_tip && at < closing as u64 && log[at as usize] != 0;
                assert!(!in_frame || !report.is_sound(), "{place}: {report:#?}");
                let served = serve(dir.path(), &blocks, false);
                assert!(!in_frame || served.is_err(), "{place}: served");
                file.write_all_at(&log[at as usize..=at as usize], at)
                    .unwrap();
            }
            // Of the zeros some are enough.
            at += if is_filled { 1 } else { 97 };
            if is_tip && at > closing + 4096 {
                at += 30_011;
            }
        }
    }
    assert_stored(dir.path(), &blocks);
}

#[test]
fn in_a_run_of_the_hash_index() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(10_300, 0);
    let mut writer = create(dir.path(), &blocks);
    for part in blocks[1..].chunks(2000) {
        commit(&mut writer, part).unwrap();
    }
    drop(writer);
    assert_stored(dir.path(), &blocks);
    let run = files(&dir.path().join("hash")).pop().unwrap();
    let length = run.metadata().unwrap().len();
    let mut random = Random(8);
    for of in [
        64,
        4096,
        4096 + 33 * 4,
        length,
        length,
        length,
        length,
        length,
    ] {
        let (at, bit) = (random.below(of) as usize, random.below(8) as u8);
        flip(&run, at, bit);
        let report = verify(dir.path());
        assert!(!report.is_sound(), "bit {bit} of byte {at}");
        let _ = serve(dir.path(), &blocks, true);
        flip(&run, at, bit);
    }
    assert_stored(dir.path(), &blocks);
}
