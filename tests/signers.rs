//! Validators among others: one that is behind catches up before it seals, and two seal one chain together.
#![allow(clippy::unwrap_used)]
mod common;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cairn::chain::clique::signer;
use cairn::generate::Params;
use common::*;

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[test]
fn a_validator_that_is_behind_catches_up_before_it_seals() {
    let dir = tempfile::tempdir().unwrap();
    let params = Params {
        blocks: 3000,
        txs_per_block: 1,
        seed: 8,
        end_time_s: Some(now_s() - 5),
        ..Params::default()
    };
    let chain = chain_file(dir.path(), &params);
    let (left, right) = (dir.path().join("left"), dir.path().join("right"));
    run_ok(&["init", "--datadir", text(&left), text(&chain.genesis)]);
    run_ok(&["import", "--datadir", text(&left), text(&chain.blocks)]);
    let serving = Node::start(&left, &[]);
    let sealing = [
        "--enable-consensus",
        "--block-interval-ms",
        "1000",
        "--bootnodes",
        &serving.enode,
    ];
    let mut validator = Node::start(&right, &sealing);
    validator.wait_head(3002);
    let log = validator.log();
    let sealed: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("Sealed new block"))
        .collect();
    assert!(
        sealed[0].contains("number=3001"),
        "sealed on a chain it was behind of: {}",
        sealed[0]
    );
    assert!(!log.contains("reorg"), "{log}");
    validator.stop();
    serving.stop();
    assert_same_chain(&left, &right, 3000);
}

/// A genesis with these keys as signers, and a file of each key.
fn network(dir: &Path, keys: &[u8]) -> (PathBuf, Vec<PathBuf>) {
    let network = clique_network(dir, keys, keys.len(), 5);
    (network.genesis, network.keys)
}

#[test]
fn two_validators_seal_one_chain_over_checkpoints_and_a_full_node_follows() {
    let dir = tempfile::tempdir().unwrap();
    let (genesis, keys) = network(dir.path(), &[3, 4]);
    let folders: Vec<PathBuf> = ["one", "two", "full"]
        .iter()
        .map(|name| dir.path().join(name))
        .collect();
    for folder in &folders {
        run_ok(&["init", "--datadir", text(folder), text(&genesis)]);
    }
    let mut one = Node::start(
        &folders[0],
        &["--enable-consensus", "--signer-key", text(&keys[0])],
    );
    let enode = one.enode.clone();
    let mut two = Node::start(
        &folders[1],
        &[
            "--enable-consensus",
            "--signer-key",
            text(&keys[1]),
            "--bootnodes",
            &enode,
        ],
    );
    let both = format!("{},{}", enode, two.enode);
    let mut full = Node::start(&folders[2], &["--bootnodes", &both]);
    for node in [&mut one, &mut two, &mut full] {
        node.wait_head(12);
    }
    full.stop();
    two.stop();
    one.stop();
    assert_same_chain(&folders[0], &folders[2], 11);
    assert_same_chain(&folders[1], &folders[2], 11);
    let chain = reader(&folders[2]).snapshot();
    let mut sealed = std::collections::BTreeMap::new();
    for number in 1..=10 {
        let raw = bytes::Bytes::copy_from_slice(&chain.header(number).unwrap().unwrap());
        let header = cairn::chain::SealedHeader::decode(raw).unwrap().header;
        *sealed.entry(signer(&header).unwrap()).or_insert(0) += 1;
    }
    assert_eq!(
        sealed.into_values().collect::<Vec<_>>(),
        [5, 5],
        "they take turns"
    );
}

#[test]
fn a_chain_whose_blocks_its_own_rules_refuse_is_not_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let (genesis, keys) = network(dir.path(), &[5]);
    let json = std::fs::read_to_string(&genesis).unwrap();
    std::fs::write(&genesis, json.replace("0x1c9c380", "0x0")).unwrap();
    let data = dir.path().join("d");
    run_ok(&["init", "--datadir", text(&data), text(&genesis)]);
    let output = run(&[
        "--datadir",
        text(&data),
        "--port",
        "0",
        "--enable-consensus",
        "--signer-key",
        text(&keys[0]),
    ]);
    let said = stderr(&output);
    assert_eq!(status(&output), 1, "{said}");
    assert!(
        said.contains("cannot be sealed") && said.contains("gasLimit"),
        "{said}"
    );
}

#[test]
fn a_validator_that_lost_its_blocks_seals_the_same_ones_again() {
    let dir = tempfile::tempdir().unwrap();
    let (genesis, keys) = network(dir.path(), &[6]);
    let data = dir.path().join("d");
    let key = keys[0].clone();
    let args = ["--enable-consensus", "--signer-key", text(&key)];
    let hashes = |from: u64, to: u64| -> Vec<_> {
        let chain = reader(&data).snapshot();
        (from..=to)
            .map(|number| chain.hash(number).unwrap().unwrap())
            .collect()
    };
    run_ok(&["init", "--datadir", text(&data), text(&genesis)]);
    let mut node = Node::start(&data, &args);
    node.wait_head(3);
    node.kill();
    let last = head(&data);
    let before = hashes(1, last);
    let record = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("signed-")
        })
        .unwrap();
    // The two slots of the first record, and how far one is from the next.
    let (slots, step) = ([4096, 4096 + 256 * 8192], 8192);
    let flip = |places: &[usize]| {
        let mut bytes = std::fs::read(&record).unwrap();
        places.iter().for_each(|place| bytes[place + 100] ^= 1);
        std::fs::write(&record, bytes).unwrap();
    };
    // With all that was signed damaged in one place, the newest too, it is the same.
    for damaged in [false, true] {
        std::fs::remove_dir_all(data.join("blocks")).unwrap();
        run_ok(&["init", "--datadir", text(&data), text(&genesis)]);
        if damaged {
            let places = (0..last as usize).map(|n| slots[n % 2] + n * step);
            flip(&places.collect::<Vec<_>>());
        }
        let mut node = Node::start(&data, &args);
        node.wait_head(last);
        node.stop();
        assert_eq!(hashes(1, last), before, "never two blocks over one parent");
    }

    // What was signed cannot be read any more: it is not sealed on, and says why.
    flip(&slots);
    let mut damaged = vec!["--datadir", text(&data), "--port", "0"];
    damaged.extend(args);
    fails(&damaged, 1, &[text(&record), "damaged", "remove it once"]);
}
