//! A node that starts goes on from the snapshot of the signers that it kept, also on a chain without checkpoints; without the file it
//! makes one anew.
#![allow(clippy::unwrap_used)]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cairn::generate::Params;
use common::*;

const BLOCKS: u64 = 3000;

/// A generated chain that has no checkpoints for ever.
fn endless(dir: &Path) -> ChainFile {
    let params = Params {
        blocks: BLOCKS,
        txs_per_block: 1,
        seed: 12,
        ..Params::default()
    };
    let chain = chain_file(dir, &params);
    let mut json: serde_json::Value =
        serde_json::from_slice(&fs::read(&chain.genesis).unwrap()).unwrap();
    json["config"]["clique"]["epoch"] = (1_u64 << 63).into();
    fs::write(&chain.genesis, json.to_string()).unwrap();
    chain
}

/// What a node says that was started and stopped.
fn log_of_a_start(data: &Path) -> String {
    let node = Node::start(data, &["--verbosity", "4"]);
    let log = node.log.clone();
    node.stop();
    fs::read_to_string(log).unwrap()
}

/// The snapshot that the node went on from, and how many headers it read.
fn restored(log: &str) -> (Option<u64>, u64) {
    let line = log
        .lines()
        .find(|line| line.contains("Rebuilt the chain's state"));
    let line = line.unwrap_or_else(|| panic!("it does not say what it read: {log}"));
    let value = |name: &str| {
        let (_, rest) = line.split_once(name).unwrap();
        rest.split(' ').next().unwrap().to_owned()
    };
    (
        value("kept=").parse().ok(),
        value("headers=").parse().unwrap(),
    )
}

/// Every file of a folder, and when it was last written.
fn files(dir: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            found.extend(files(&entry.path()));
        } else {
            let state = (metadata.len(), metadata.modified().unwrap());
            found.insert(entry.path(), state);
        }
    }
    found
}

#[test]
fn a_start_reads_few_headers_and_what_is_missing_or_damaged_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let chain = endless(dir.path());
    let data = dir.path().join("d");
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
    let file = data.join("snapshots");

    // Whoever only looks writes nothing.
    let before = files(&data);
    let out = dir.path().join("out.rlp");
    run_ok(&["export", "--datadir", text(&data), text(&out)]);
    for command in [&["clique", "status"][..], &["status"]] {
        let output = run(&[command, &["--datadir", text(&data)]].concat());
        assert_eq!(status(&output), 1, "there is no node: {command:?}");
    }
    assert_eq!(files(&data), before);
    assert!(!file.exists());

    let told = "The kept snapshots of the signers cannot be used";
    let log = log_of_a_start(&data);
    let (kept, headers) = restored(&log);
    assert_eq!(kept, None, "{log}");
    assert!(headers >= BLOCKS, "{headers}");
    assert!(!log.contains(told), "{log}");
    let whole = fs::read(&file).unwrap();

    let log = log_of_a_start(&data);
    assert_eq!(restored(&log), (Some(BLOCKS), 1), "{log}");
    assert_eq!(
        fs::read(&file).unwrap(),
        whole,
        "nothing new was to be kept"
    );

    fs::remove_file(&file).unwrap();
    assert_eq!(restored(&log_of_a_start(&data)).0, None);
    assert_eq!(fs::read(&file).unwrap(), whole);

    for damaged in [&whole[..whole.len() / 2], &[]] {
        fs::write(&file, damaged).unwrap();
        let log = log_of_a_start(&data);
        assert_eq!(restored(&log).0, None);
        assert_eq!(log.matches(told).count(), 1, "{log}");
        assert!(log.contains(text(&file)), "{log}");
        assert_eq!(fs::read(&file).unwrap(), whole);
    }
}

#[test]
fn a_node_keeps_snapshots_while_it_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let chain = endless(dir.path());
    let (left, right) = (dir.path().join("left"), dir.path().join("right"));
    for data in [&left, &right] {
        run_ok(&["init", "--datadir", text(data), text(&chain.genesis)]);
    }
    run_ok(&["import", "--datadir", text(&left), text(&chain.blocks)]);
    let serving = Node::start(&left, &[]);
    let mut node = Node::start(&right, &["--bootnodes", &serving.enode]);
    node.wait_head(BLOCKS);
    node.stop();
    serving.stop();
    let (kept, headers) = restored(&log_of_a_start(&right));
    let kept = kept.expect("a node that stored so many blocks kept one");
    assert!(BLOCKS - kept < 1024, "{kept}");
    assert!(headers < 1024 + 3, "{headers}");
}
