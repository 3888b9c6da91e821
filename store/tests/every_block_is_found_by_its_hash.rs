//! Promise: every canonical block is found by its hash, whichever era it is in and however the index's runs are merged.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use alloy_primitives::B256;
use cairn_store::{Reader, Writer};
use common::{chain, commit, create, verify};

#[test]
fn across_five_eras_and_a_merge() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(5 * 8192 + 3000, 0);
    let runs = || {
        let names = fs::read_dir(dir.path().join("hash")).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
            .iter()
            .map(|name| name[..6].to_owned())
            .collect::<Vec<String>>()
    };
    let mut writer = create(dir.path(), &blocks);
    let mut counts = Vec::new();
    for (i, part) in blocks[1..].chunks(1900).enumerate() {
        commit(&mut writer, part).unwrap();
        if i == 9 {
            drop(writer);
            writer = Writer::open(dir.path()).unwrap();
        }
        if counts.last() != Some(&runs()) {
            counts.push(runs());
        }
    }
    let expected: [&[&str]; 6] = [
        &[],
        &["000000"],
        &["000000", "000001"],
        &["000000", "000001", "000002"],
        &["000000"], // four became one of the next level
        &["000000", "000004"],
    ];
    assert_eq!(counts, expected);
    for snapshot in [
        writer.reader().snapshot(),
        Reader::open(dir.path()).unwrap().snapshot(),
    ] {
        for block in &blocks {
            assert_eq!(snapshot.number(&block.hash).unwrap(), Some(block.number));
            let mut other = block.hash;
            other[31] ^= 1;
            assert_eq!(snapshot.number(&other).unwrap(), None);
        }
        assert_eq!(snapshot.number(&B256::ZERO).unwrap(), None);
        assert_eq!(snapshot.number(&B256::repeat_byte(0xff)).unwrap(), None);
    }
    let report = verify(dir.path());
    assert!(
        report.is_sound() && report.notices.is_empty(),
        "{report:#?}"
    );
}

#[test]
fn several_eras_in_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(4 * 8192 + 3000, 0);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..]).unwrap();
    // The first run's name is taken in this commit: the next that writes a MANIFEST gives it to the merged one.
    assert_eq!(fs::read_dir(dir.path().join("hash")).unwrap().count(), 5);
    drop(writer);
    common::assert_stored(dir.path(), &blocks);
    let mut writer = Writer::open(dir.path()).unwrap();
    let mut blocks = blocks;
    common::extend(&mut blocks, 1, 0, 0);
    commit(&mut writer, &blocks[blocks.len() - 1..]).unwrap();
    let names = || fs::read_dir(dir.path().join("hash")).unwrap().count();
    assert_eq!(names(), 1);
    let snapshot = writer.reader().snapshot();
    for block in blocks.iter().step_by(37) {
        assert_eq!(snapshot.number(&block.hash).unwrap(), Some(block.number));
    }
    common::assert_stored(dir.path(), &blocks);
}
