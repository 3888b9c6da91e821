//! `--receipts`: a full node keeps the receipts of what it catches up with, of what it follows, and of what it has without.
#![allow(clippy::unwrap_used)]
mod common;

use std::path::{Path, PathBuf};

use cairn::generate::{self, Params};
use cairn_store::{NewBlock, Writer};
use common::*;

const BLOCKS: u64 = 1500;

/// A folder whose chain has the receipts of all its blocks, and its genesis file.
fn whole(dir: &Path) -> (PathBuf, PathBuf) {
    let params = Params {
        blocks: BLOCKS,
        txs_per_block: 3,
        seed: 12,
        ..Params::default()
    };
    let (generated, blocks) = generate::blocks(&params);
    let genesis = dir.join("genesis.json");
    std::fs::write(&genesis, &generated.genesis_json).unwrap();
    let folder = dir.join("whole");
    run_ok(&["init", "--datadir", text(&folder), text(&genesis)]);
    let blocks: Vec<_> = blocks.collect();
    let new: Vec<NewBlock<'_>> = blocks
        .iter()
        .map(|block| NewBlock {
            number: block.header.number(),
            hash: block.header.hash,
            td: block.td,
            header: &block.header.raw,
            body: &block.body,
            receipts: Some(&block.receipts),
        })
        .collect();
    let mut writer = Writer::open(&folder.join("blocks")).unwrap();
    writer
        .commit(&new, blocks.last().unwrap().header.hash)
        .unwrap();
    (folder, genesis)
}

/// Waits until `folder` has the receipts of all blocks of `of`, the same ones.
fn wait_receipts(node: &mut Node, of: &Path) {
    let expected = reader(of).snapshot();
    let deadline = std::time::Instant::now() + STEP_TIMEOUT;
    let mut number = 1;
    loop {
        let found = reader(&node.datadir).snapshot();
        while number <= BLOCKS {
            let Some(receipts) = found.receipts(number).unwrap() else {
                break;
            };
            assert_eq!(Some(receipts), expected.receipts(number).unwrap());
            number += 1;
        }
        if number > BLOCKS {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "no receipts of block {number}:\n{}",
            node.log()
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn receipts_are_fetched_in_catch_up_and_of_a_chain_that_was_stored_without() {
    let dir = tempfile::tempdir().unwrap();
    let (from, genesis) = whole(dir.path());
    let serving = Node::start(&from, &[]);
    let (eager, late) = (dir.path().join("eager"), dir.path().join("late"));
    for folder in [&eager, &late] {
        run_ok(&["init", "--datadir", text(folder), text(&genesis)]);
    }
    let mut node = Node::start(&eager, &["--receipts", "--bootnodes", &serving.enode]);
    wait_receipts(&mut node, &from);
    node.stop();

    let mut node = Node::start(&late, &["--bootnodes", &serving.enode]);
    node.wait_head(BLOCKS);
    node.stop();
    assert!(reader(&late).snapshot().receipts(1).unwrap().is_none());
    let mut node = Node::start(&late, &["--receipts", "--bootnodes", &serving.enode]);
    wait_receipts(&mut node, &from);
    assert!(!node.log().contains("Dropping"), "{}", node.log());
    node.stop();
    // What it has it serves on.
    let relay = Node::start(&late, &[]);
    let third = dir.path().join("third");
    run_ok(&["init", "--datadir", text(&third), text(&genesis)]);
    let mut node = Node::start(&third, &["--receipts", "--bootnodes", &relay.enode]);
    wait_receipts(&mut node, &from);
    for node in [node, relay, serving] {
        node.stop();
    }
    assert_same_chain(&from, &third, BLOCKS);
}

/// A validator seals only empty blocks: that they have no receipts is known without asking.
#[test]
fn the_receipts_of_empty_blocks_are_known_as_they_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let sealing = ["--enable-consensus", "--block-interval-ms", "1000"];
    let validator = Node::start(&dir.path().join("v"), &sealing);
    let mut node = Node::start(
        &dir.path().join("f"),
        &["--receipts", "--bootnodes", &validator.enode],
    );
    node.wait_head(3);
    let snapshot = reader(&node.datadir).snapshot();
    for number in 1..=3 {
        assert_eq!(snapshot.receipts(number).unwrap(), Some(vec![0xc0]));
    }
    assert!(!node.log().contains("receipts=1"), "{}", node.log());
    node.stop();
    validator.stop();
}
