//! The user's own two command lines: a validator seals, a full node follows, both go on after restarts.
#![allow(clippy::unwrap_used)]
mod common;

use std::io::Read as _;
use std::time::Duration;

use common::*;

#[test]
fn a_full_node_follows_a_validator_and_both_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (left, right) = (
        dir.path().join("data/validator"),
        dir.path().join("data/fullnode"),
    );
    std::fs::create_dir_all(dir.path().join("data")).unwrap();
    let mut validator = Node::start(&left, &SEALING);
    let enode = validator.enode.clone();
    assert!(
        validator.log().contains("EVERYBODY knows"),
        "{}",
        validator.log()
    );
    let mut fullnode = Node::start(&right, &["--bootnodes", &enode]);
    fullnode.wait_head(3);
    for what in [
        "Peer connected",
        "Announced block",
        "Imported new chain segment number=",
    ] {
        fullnode.wait_log(what);
    }
    validator.wait_log("Imported new chain segment number=");

    // The full node is away for a while, and catches up.
    let enode_of_fullnode = fullnode.enode.clone();
    fullnode.stop();
    let sealed = validator.head();
    validator.wait_head(sealed + 2);
    let port = |enode: &str| enode.rsplit(':').next().unwrap().parse().unwrap();
    let mut fullnode = Node::start_on(&right, port(&enode_of_fullnode), &["--bootnodes", &enode]);
    assert_eq!(fullnode.enode, enode_of_fullnode, "the node key lasts");
    fullnode.wait_head(sealed + 2);

    // The validator is away, and is dialled again.
    validator.stop();
    let before = head(&left);
    let mut validator = Node::start_on(&left, port(&enode), &SEALING);
    assert_eq!(validator.enode, enode);
    validator.wait_head(before + 2);
    fullnode.wait_head(before + 2);
    validator.stop();
    fullnode.stop();
    assert_same_chain(&left, &right, before + 2);
}

#[test]
fn peers_that_are_spread_over_threads_follow_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("validator");
    let validator = Node::start(&left, &[&SEALING[..], &["--net-threads", "3"]].concat());
    let mut followers: Vec<Node> = (0..4)
        .map(|n| {
            let args = ["--net-threads", "2", "--bootnodes", &validator.enode];
            Node::start(&dir.path().join(format!("f{n}")), &args)
        })
        .collect();
    followers.iter_mut().for_each(|node| node.wait_head(4));
    let folders: Vec<_> = followers.iter().map(|node| node.datadir.clone()).collect();
    // A busy machine only ever adds to what a stop takes, and hardly to each.
    let took = followers.into_iter().map(Node::stop).min().unwrap();
    assert!(took < Duration::from_secs(1), "{took:?}");
    validator.stop();
    for folder in folders {
        assert_same_chain(&left, &folder, 4);
    }
}

#[test]
fn blocks_are_sealed_at_the_longer_of_the_period_and_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("slow");
    let mut args = SEALING.to_vec();
    args[4] = "3000";
    let mut node = Node::start(&data, &args);
    node.wait_head(2);
    node.stop();
    let chain = reader(&data).snapshot();
    let time = |number| {
        let raw = bytes::Bytes::copy_from_slice(&chain.header(number).unwrap().unwrap());
        cairn::chain::SealedHeader::decode(raw)
            .unwrap()
            .header
            .timestamp
    };
    assert_eq!(time(2) - time(1), 3);
}

#[test]
fn ctrl_c_ends_a_node_within_a_second_while_its_peers_stay_silent() {
    // A bootnode that accepts and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let enode = format!(
        "enode://{}@{}",
        "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8",
        silent.local_addr().unwrap()
    );
    let stop = |_| {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(&dir.path().join("node"), &["--bootnodes", &enode]);
        let (mut held, _) = silent.accept().unwrap();
        held.read_exact(&mut [0; 100]).unwrap(); // of its auth, which is not answered
        node.stop()
    };
    // A busy machine only ever adds to what a stop takes, and hardly each time.
    let took = (0..5).map(stop).min().unwrap();
    assert!(took < Duration::from_secs(1), "{took:?}");
}
