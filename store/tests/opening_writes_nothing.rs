//! Promise: opening, reading and verifying change no byte, no name and no time, for the writer too.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cairn_store::{Error, Reader, Writer};
use common::{assert_chain, chain, commit, create, verify};

/// Every name below a folder with its time and bytes.
fn image(dir: &Path) -> Vec<(PathBuf, SystemTime, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        found.push((
            folder.clone(),
            folder.metadata().unwrap().modified().unwrap(),
            Vec::new(),
        ));
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let time = path.metadata().unwrap().modified().unwrap();
                let bytes = fs::read(&path).unwrap();
                found.push((path, time, bytes));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn for_readers_writers_and_verify() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(5000, 0);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..3000]).unwrap();
    commit(&mut writer, &blocks[3000..]).unwrap();
    drop(writer);
    let before = image(dir.path());
    let writer = Writer::open(dir.path()).unwrap();
    assert_chain(&writer.reader().snapshot(), &blocks);
    drop(writer);
    let reader = Reader::open(dir.path()).unwrap();
    reader.refresh().unwrap();
    assert_chain(&reader.snapshot(), &blocks);
    assert!(verify(dir.path()).is_sound());
    assert!(image(dir.path()) == before);
    // A session's first commit makes sure of what it found; after that there is nothing to write for what is there.
    let mut writer = Writer::open(dir.path()).unwrap();
    writer.commit(&[], blocks[5000].hash).unwrap();
    let before = image(dir.path());
    writer.commit(&[], blocks[5000].hash).unwrap();
    commit(&mut writer, &blocks[4000..]).unwrap();
    assert!(image(dir.path()) == before);
}

#[test]
fn also_what_a_crash_left_stays_until_the_first_change() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(3, 100);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..3]).unwrap();
    drop(writer);
    let sequence = Reader::open(dir.path()).unwrap().snapshot().sequence();
    let left = dir.path().join(format!("tip.{:08x}", sequence + 1));
    let unfinished = dir.path().join("headers").join("000000.000000ff.new");
    let foreign = dir.path().join("notes.txt");
    for path in [&left, &unfinished, &foreign] {
        fs::write(path, b"left").unwrap();
    }
    let newer = dir.path().join("MANIFEST.1");
    fs::write(&newer, b"torn").unwrap();
    let before = image(dir.path());
    let mut writer = Writer::open(dir.path()).unwrap();
    let report = verify(dir.path());
    assert!(
        report.is_sound() && report.notices.len() == 3,
        "{report:#?}"
    );
    assert!(image(dir.path()) == before);
    commit(&mut writer, &blocks[3..]).unwrap();
    drop(writer);
    assert!(!unfinished.exists() && foreign.exists());
    common::assert_stored(dir.path(), &blocks);
    assert_eq!(verify(dir.path()).notices, []);
    assert_eq!(
        fs::read(dir.path().join("MANIFEST.0")).unwrap(),
        fs::read(newer).unwrap()
    );
}

#[test]
fn a_folder_with_newer_files_than_its_manifest_is_only_read() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(3, 100);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..3]).unwrap();
    drop(writer);
    let newer = dir.path().join("bodies").join("000000.00000063");
    fs::write(&newer, b"of another time").unwrap();
    let before = image(dir.path());
    let mut writer = Writer::open(dir.path()).unwrap();
    assert_chain(&writer.reader().snapshot(), &blocks[..3]);
    let error = commit(&mut writer, &blocks[3..]).unwrap_err();
    assert!(
        matches!(&error, Error::Ahead { path, .. } if *path == newer),
        "{error}"
    );
    assert!(image(dir.path()) == before);
    assert!(!verify(dir.path()).is_sound());
}
