//! Real chains, where CAIRN_DATA names them: imported, followed by a second node over RLPx, exported byte for byte.
#![allow(clippy::unwrap_used)]
mod common;

use std::path::{Path, PathBuf};

use common::*;

/// A chain of the data folder: genesis, file of blocks, number of its head.
struct Real {
    genesis: &'static str,
    blocks: &'static str,
    head: u64,
    /// Files that begin at block 0 are exported without a range.
    from_zero: bool,
}

const CHAINS: [Real; 6] = [
    Real {
        genesis: "chains/dao-fork/genesis.json",
        blocks: "chains/dao-fork/nofork-chain.rlp",
        head: 2048,
        from_zero: false,
    },
    Real {
        genesis: "chains/dao-fork/genesis.json",
        blocks: "chains/dao-fork/profork-chain.rlp",
        head: 2176,
        from_zero: false,
    },
    Real {
        genesis: "chains/execution-apis/genesis.json",
        blocks: "chains/execution-apis/chain.rlp",
        head: 54,
        from_zero: false,
    },
    Real {
        genesis: "chains/geth-hivechain-500/genesis.json",
        blocks: "chains/geth-hivechain-500/chain.rlp",
        head: 500,
        from_zero: false,
    },
    Real {
        genesis: "chains/pow-london-1024/genesis.json",
        blocks: "chains/pow-london-1024/hive-engine-blocks_1024_td_135112316.rlp",
        head: 1024,
        from_zero: false,
    },
    Real {
        genesis: "clique/besu-clique_to_pos.genesis.json",
        blocks: "clique/besu-clique.blocks",
        head: 4,
        from_zero: true,
    },
];

fn imported(data: &Path, dir: &Path, real: &Real) -> PathBuf {
    let folder = dir.join("first");
    run_ok(&[
        "init",
        "--datadir",
        text(&folder),
        text(&data.join(real.genesis)),
    ]);
    let output = run_ok(&[
        "import",
        "--json",
        "--datadir",
        text(&folder),
        text(&data.join(real.blocks)),
    ]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        report["head_number"].as_u64(),
        Some(real.head),
        "{}",
        real.blocks
    );
    folder
}

#[test]
fn every_real_chain_is_imported_followed_over_the_wire_and_exported_byte_for_byte() {
    let Some(data) = data() else { return };
    for real in &CHAINS {
        let dir = tempfile::tempdir().unwrap();
        let first = imported(&data, dir.path(), real);
        let second = dir.path().join("second");
        run_ok(&[
            "init",
            "--datadir",
            text(&second),
            text(&data.join(real.genesis)),
        ]);
        let target = reader(&first).snapshot().head().hash.to_string();
        let serving = Node::start(&first, &[]);
        let is_clique = real.genesis.starts_with("clique");
        let mut args = vec!["--bootnodes", &serving.enode];
        if !is_clique {
            args.extend(["--synctarget", &target]);
        }
        let mut following = Node::start(&second, &args);
        following.wait_head(real.head);
        following.stop();
        serving.stop();
        assert_same_chain(&first, &second, real.head);
        for folder in [&first, &second] {
            let out = dir.path().join("out.rlp");
            match real.from_zero {
                true => run_ok(&["export", "--datadir", text(folder), text(&out)]),
                false => run_ok(&["export", "--datadir", text(folder), text(&out), "1"]),
            };
            let same =
                std::fs::read(&out).unwrap() == std::fs::read(data.join(real.blocks)).unwrap();
            assert!(same, "{} came back changed", real.blocks);
        }
        println!(
            "{}: {} blocks imported, followed and exported",
            real.blocks, real.head
        );
    }
}

/// Proof of work of 2,048 and 2,176 blocks that have genesis alone in common: deeper than any tip.
#[test]
fn the_two_chains_of_the_dao_fork_import_in_either_order_and_the_heavier_is_canonical() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (no, pro) = (&CHAINS[0], &CHAINS[1]);
    let heavier = std::fs::read(data.join(pro.blocks)).unwrap();
    for (order, is_reorg) in [([no, pro], true), ([pro, no], false)] {
        let folder = dir.path().join(format!("{is_reorg}"));
        run_ok(&[
            "init",
            "--datadir",
            text(&folder),
            text(&data.join(no.genesis)),
        ]);
        let mut report = serde_json::Value::Null;
        for real in order {
            let file = data.join(real.blocks);
            let output = run_ok(&["import", "--json", "--datadir", text(&folder), text(&file)]);
            report = serde_json::from_slice(&output.stdout).unwrap();
            let said = stderr(&output).contains("Chain reorg detected number=0 ");
            assert_eq!(said, is_reorg && report["head_number"] == pro.head);
        }
        let branch = &report["branch"];
        assert_eq!(branch["canonical"], is_reorg, "{report}");
        assert_eq!(branch["fork_number"], 0);
        let (theirs, stored) = (&branch["branch"]["blocks"], &branch["stored"]["blocks"]);
        assert_eq!(
            (theirs, stored),
            (&order[1].head.into(), &order[0].head.into())
        );
        let out = dir.path().join("out.rlp");
        run_ok(&["export", "--datadir", text(&folder), text(&out), "1"]);
        assert!(std::fs::read(&out).unwrap() == heavier);
        let verified = cairn_store::check::verify(&folder.join("blocks"), &mut |_, _| {}).unwrap();
        assert!(verified.is_sound(), "{verified:?}");
    }
}

#[test]
fn without_a_trusted_head_a_node_follows_nothing_where_no_seal_can_be_checked() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let real = &CHAINS[2];
    let first = imported(&data, dir.path(), real);
    let second = dir.path().join("second");
    run_ok(&[
        "init",
        "--datadir",
        text(&second),
        text(&data.join(real.genesis)),
    ]);
    let serving = Node::start(&first, &[]);
    let mut following = Node::start(&second, &["--bootnodes", &serving.enode]);
    following.wait_log("Peer connected");
    following.wait_log("--synctarget");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(following.head(), 0);
    following.stop();
    serving.stop();
}

/// Imports a file that must be refused into a new folder; gives what was said of it.
fn refused(folder: &Path, genesis: &Path, file: &Path) -> String {
    run_ok(&["init", "--datadir", text(folder), text(genesis)]);
    let output = run(&[
        "import",
        "--verbosity",
        "0",
        "--datadir",
        text(folder),
        text(file),
    ]);
    let said = stderr(&output);
    assert_eq!(status(&output), 1, "{said}");
    said
}

#[test]
fn one_bad_byte_in_a_real_file_is_an_error_with_block_and_field() {
    let Some(data) = data() else { return };
    let real = &CHAINS[4];
    let good = std::fs::read(data.join(real.blocks)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (step, at) in [100_000, 900_001, 1_700_003, good.len() - 5]
        .into_iter()
        .enumerate()
    {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let bad = dir.path().join("bad.rlp");
        std::fs::write(&bad, &bytes).unwrap();
        let folder = dir.path().join(format!("d{step}"));
        let said = refused(&folder, &data.join(real.genesis), &bad);
        assert!(
            said.contains("block ") && said.contains("expected") && said.contains("found"),
            "{said}"
        );
        println!("{}", said.trim());
        let stored = head(&folder);
        assert!(stored < real.head, "{stored}");
        // Where a block does not link, the one before it may be the bad one: it is left out too.
        let named = stored + if said.contains("parentHash") { 2 } else { 1 };
        assert!(
            said.contains(&format!("block {named} ")),
            "{stored}: {said}"
        );
    }
}

/// Most fields of a header are vouched for by nothing but the hash in its child, where no seal is checked.
#[test]
fn a_bad_byte_in_a_field_that_no_rule_knows_is_found_by_the_next_block_and_not_stored() {
    let Some(data) = data() else { return };
    let real = &CHAINS[4];
    let mut bytes = std::fs::read(data.join(real.blocks)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let first = imported(&data, dir.path(), real);
    let state_root = {
        let raw =
            bytes::Bytes::copy_from_slice(&reader(&first).snapshot().header(500).unwrap().unwrap());
        cairn::chain::SealedHeader::decode(raw)
            .unwrap()
            .header
            .state_root
    };
    let at = bytes
        .windows(32)
        .position(|window| window == state_root.as_slice())
        .unwrap();
    bytes[at + 7] ^= 0x10;
    let bad = dir.path().join("bad.rlp");
    std::fs::write(&bad, &bytes).unwrap();
    let folder = dir.path().join("d");
    let said = refused(&folder, &data.join(real.genesis), &bad);
    assert!(
        said.contains("block 501") && said.contains("parentHash"),
        "{said}"
    );
    assert_eq!(head(&folder), 499, "block 500 is the bad one");
    run_ok(&[
        "import",
        "--datadir",
        text(&folder),
        text(&data.join(real.blocks)),
    ]);
    assert_same_chain(&first, &folder, real.head);
}
