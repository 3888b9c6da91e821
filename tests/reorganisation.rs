//! Two chains from one genesis: a node moves to the heavier one, also below its settled blocks, and never to a lighter one.
#![allow(clippy::unwrap_used)]
mod common;

use std::time::Duration;

use cairn::generate::{self, Fork, Params};
use common::*;

/// A node with `ours` blocks of one chain meets a peer with `theirs` of another; gives both folders and the node.
fn meet(dir: &std::path::Path, ours: &Params, theirs: &Params) -> (std::path::PathBuf, Node, Node) {
    let mut folders = Vec::new();
    for (name, params) in [("ours", ours), ("theirs", theirs)] {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let chain = chain_file(&folder, params);
        let data = folder.join("data");
        run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
        run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
        folders.push(data);
    }
    let serving = Node::start(&folders[1], &[]);
    let node = Node::start(&folders[0], &["--bootnodes", &serving.enode]);
    (folders.remove(0), node, serving)
}

#[test]
fn a_node_moves_to_a_heavier_chain_that_leaves_its_own_at_genesis() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Params {
        blocks: 200,
        txs_per_block: 1,
        seed: 1,
        ..Params::default()
    };
    let theirs = Params {
        blocks: 300,
        seed: 2,
        ..ours.clone()
    };
    let (data, mut node, serving) = meet(dir.path(), &ours, &theirs);
    node.wait_head(300);
    node.wait_log("reorg");
    let theirs = serving.datadir.clone();
    node.stop();
    serving.stop();
    assert_same_chain(&data, &theirs, 300);
    assert!(
        cairn_store::check::verify(&data.join("blocks"), &mut |_, _| {})
            .unwrap()
            .is_sound()
    );
}

#[test]
fn a_node_stays_with_a_heavier_chain_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Params {
        blocks: 300,
        txs_per_block: 1,
        seed: 1,
        ..Params::default()
    };
    let theirs = Params {
        blocks: 200,
        seed: 2,
        ..ours.clone()
    };
    let (data, node, mut serving) = meet(dir.path(), &ours, &theirs);
    // The lighter one was dialled, and moves all the same.
    serving.wait_head(300);
    assert_eq!(node.head(), 300);
    let before = reader(&data).snapshot().head();
    node.stop();
    serving.stop();
    assert_eq!(reader(&data).snapshot().head(), before);
}

#[test]
fn a_node_moves_to_a_heavier_chain_below_its_settled_blocks() {
    let dir = tempfile::tempdir().unwrap();
    // More than 8 MiB: the store settles all but the last 64 blocks.
    let ours = Params {
        blocks: 300,
        txs_per_block: 20,
        seed: 1,
        body_bytes: Some(40_000),
        ..Params::default()
    };
    let theirs = Params {
        blocks: 320,
        seed: 2,
        ..ours.clone()
    };
    let (data, mut node, serving) = meet(dir.path(), &ours, &theirs);
    node.wait_head(320);
    node.wait_log("reorg");
    let theirs = serving.datadir.clone();
    node.stop();
    serving.stop();
    assert_same_chain(&data, &theirs, 320);
    assert!(
        cairn_store::check::verify(&data.join("blocks"), &mut |_, _| {})
            .unwrap()
            .is_sound()
    );
}

/// Longer than what is held in memory of a branch: it goes into the store part by part.
#[test]
fn a_node_moves_to_a_heavier_chain_that_left_its_own_thousands_of_blocks_ago() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Params {
        blocks: 5_000,
        txs_per_block: 1,
        seed: 1,
        ..Params::default()
    };
    let theirs = Params {
        blocks: 5_010,
        seed: 2,
        ..ours.clone()
    };
    let (data, mut node, serving) = meet(dir.path(), &ours, &theirs);
    node.wait_log("Fetching a branch fork=0 ");
    let line = node.wait_log("Chain reorg detected number=0 ");
    assert!(line.contains(" drop=5000 "), "{line}");
    node.wait_head(5_010);
    let theirs = serving.datadir.clone();
    node.stop();
    serving.stop();
    assert_eq!(
        reader(&data).snapshot().head(),
        reader(&theirs).snapshot().head()
    );
    assert!(
        cairn_store::check::verify(&data.join("blocks"), &mut |_, _| {})
            .unwrap()
            .is_sound()
    );
}

#[test]
fn a_node_killed_while_a_long_branch_comes_in_has_its_chain_and_moves_later() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Params {
        blocks: 2_300,
        txs_per_block: 2,
        seed: 1,
        body_bytes: Some(8_000),
        ..Params::default()
    };
    let theirs = Params {
        blocks: 2_310,
        seed: 2,
        ..ours.clone()
    };
    let (data, mut node, serving) = meet(dir.path(), &ours, &theirs);
    let before = reader(&data).snapshot().head();
    let args = [
        "--bootnodes",
        &serving.enode,
        "--sync-memory-mb",
        "16", // of which 2,048 headers fit into a branch's part
    ];
    for wait_ms in [0, 30, 100, 200] {
        node.kill();
        if reader(&data).snapshot().head() != before {
            node = Node::start(&data, &args);
            break;
        }
        let mut again = Node::start(&data, &args);
        again.wait_log("Fetching a branch fork=0 ");
        std::thread::sleep(Duration::from_millis(wait_ms));
        node = again;
    }
    node.kill();
    let head = reader(&data).snapshot().head();
    assert!(
        head == before || head.number >= 2_301,
        "all or nothing: {head:?}"
    );
    let report = cairn_store::check::verify(&data.join("blocks"), &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    let mut node = Node::start(&data, &args);
    node.wait_head(2_310);
    let theirs = serving.datadir.clone();
    node.stop();
    serving.stop();
    assert_same_chain(&data, &theirs, 2_310);
}

/// Chains without seals, which have no total difficulty: only the target says which is the better one. The other leaves the stored one
/// after block 100; the last of it is the target.
#[test]
fn a_node_told_of_a_target_on_another_fork_moves_to_it_be_it_longer_or_shorter() {
    let ours = Params {
        blocks: 200,
        txs_per_block: 1,
        fork: Fork::Prague,
        ..Params::default()
    };
    for number in [250, 150] {
        let dir = tempfile::tempdir().unwrap();
        let theirs = Params {
            blocks: number,
            ..ours.clone()
        };
        let chain = chain_file(dir.path(), &ours);
        let other = dir.path().join("other");
        let blocks = branch(&theirs, 100, 7);
        let bytes: Vec<u8> = blocks.iter().flat_map(generate::encode_block).collect();
        std::fs::write(&other, bytes).unwrap();
        let [data, serving] =
            [("ours", &chain.blocks), ("theirs", &other)].map(|(name, blocks)| {
                let data = dir.path().join(name);
                run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
                run_ok(&["import", "--datadir", text(&data), text(blocks)]);
                data
            });
        assert_eq!(head(&data), 200);
        assert_eq!(head(&serving), number);
        let target = reader(&serving).snapshot().head().hash;

        let peer = Node::start(&serving, &[]);
        let args = [
            "--bootnodes",
            &peer.enode,
            "--synctarget",
            &target.to_string(),
        ];
        let mut node = Node::start(&data, &args);
        let line = node.wait_log("Chain reorg detected number=100 ");
        assert!(line.contains(" drop=100 "), "{line}");
        assert!(line.contains(&format!(" add={} ", number - 100)), "{line}");
        node.stop();
        peer.stop();
        assert_same_chain(&data, &serving, number);
        let stored = reader(&data).snapshot();
        assert_eq!(stored.head().hash, target);
        assert_eq!(stored.hash(number + 1).unwrap(), None);
        let report = cairn_store::check::verify(&data.join("blocks"), &mut |_, _| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.problems);
    }
}
