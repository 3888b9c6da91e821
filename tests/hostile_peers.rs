//! A peer's faults: garbage at each step, another network, lies. The node runs on, and its other peers notice nothing.
#![allow(clippy::unwrap_used)]
mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use cairn::generate::Params;
use common::*;

fn address(node: &Node) -> SocketAddr {
    node.enode.rsplit('@').next().unwrap().parse().unwrap()
}

/// Connects, says `bytes`, and waits for the node to hang up.
fn say(node: &Node, bytes: &[u8], within: Duration) {
    let mut stream = TcpStream::connect(address(node)).unwrap();
    let _ = stream.write_all(bytes);
    stream.set_read_timeout(Some(within)).unwrap();
    let start = Instant::now();
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            // A process that was stopped and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!(
                "the node did not hang up after {:?}: {error}",
                start.elapsed()
            ),
        }
    }
}

#[test]
fn garbage_instead_of_a_handshake_is_hung_up_on_and_nobody_else_notices() {
    let dir = tempfile::tempdir().unwrap();
    let sealing = ["--enable-consensus", "--block-interval-ms", "1000"];
    let mut validator = Node::start(&dir.path().join("v"), &sealing);
    let mut fullnode = Node::start(&dir.path().join("f"), &["--bootnodes", &validator.enode]);
    fullnode.wait_head(1);
    let random: Vec<u8> = (0..2000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let within = Duration::from_secs(20); // it gives five
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0; 307],
        &[0xff; 2000],
        &random,
        &[0x01, 0x33],       // an EIP-8 auth that never comes
        &[0x00, 0x00, 0x04], // one of no length
    ] {
        say(&validator, bytes, within);
    }
    // Connecting and saying nothing ends too.
    say(&validator, &[], within);
    let head = validator.head();
    fullnode.wait_head(head + 2);
    validator.wait_log("Imported");
    validator.stop();
    fullnode.stop();
}

#[test]
fn two_hundred_silent_connections_do_not_keep_a_peer_out_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let validator = Node::start(
        &dir.path().join("v"),
        &["--enable-consensus", "--block-interval-ms", "1000"],
    );
    let silent: Vec<TcpStream> = (0..200)
        .filter_map(|_| TcpStream::connect(address(&validator)).ok())
        .collect();
    let mut fullnode = Node::start(&dir.path().join("f"), &["--bootnodes", &validator.enode]);
    fullnode.wait_head(2);
    drop(silent);
    validator.stop();
    fullnode.stop();
}

#[test]
fn a_peer_of_another_network_is_told_so_once_and_the_node_runs_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut validator = Node::start(
        &dir.path().join("v"),
        &["--enable-consensus", "--block-interval-ms", "1000"],
    );
    let mut other = Node::start(
        &dir.path().join("o"),
        &["--networkid", "99", "--bootnodes", &validator.enode],
    );
    let line = other.wait_log("network");
    assert!(!line.contains("Peer connected"), "{line}");
    let sepolia = dir.path().join("s");
    run_ok(&["init", "--datadir", text(&sepolia), "--sepolia"]);
    let mut other_genesis = Node::start(
        &sepolia,
        &["--networkid", "1337", "--bootnodes", &validator.enode],
    );
    other_genesis.wait_log("genesis");
    let head = validator.head();
    validator.wait_head(head + 2);
    assert_eq!(other.head(), 0);
    validator.stop();
    other.stop();
    other_genesis.stop();
}

#[test]
fn a_node_that_is_told_to_dial_itself_or_a_stranger_under_another_name_runs_on() {
    let dir = tempfile::tempdir().unwrap();
    let validator = Node::start(
        &dir.path().join("v"),
        &["--enable-consensus", "--block-interval-ms", "1000"],
    );
    // The validator's address under another node's key.
    let stranger = format!(
        "enode://79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8@{}",
        address(&validator)
    );
    let nodes = format!("{stranger},{}", validator.enode);
    let mut fullnode = Node::start(&dir.path().join("f"), &["--bootnodes", &nodes]);
    fullnode.wait_head(2);
    validator.stop();
    fullnode.stop();
}

/// A chain with a bad block can only come from a peer that does not check: its store is written without the rules.
#[test]
fn a_peer_that_serves_a_chain_with_a_bad_seal_is_dropped_and_an_honest_one_completes_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let params = Params {
        blocks: 400,
        txs_per_block: 2,
        seed: 9,
        ..Params::default()
    };
    let chain = chain_file(dir.path(), &params);
    let (honest, liar, fresh) = (
        dir.path().join("honest"),
        dir.path().join("liar"),
        dir.path().join("fresh"),
    );
    for data in [&honest, &liar, &fresh] {
        run_ok(&["init", "--datadir", text(data), text(&chain.genesis)]);
    }
    run_ok(&["import", "--datadir", text(&honest), text(&chain.blocks)]);
    lie(&honest, &liar, 250);
    let lying = Node::start(&liar, &[]);
    let mut node = Node::start(&fresh, &["--bootnodes", &lying.enode]);
    node.wait_log("Dropping peer");
    node.wait_log("Banned id=");
    assert!(node.head() < 250);
    node.stop();
    // A restart forgives nothing: the liar is not even dialled.
    let bans = std::fs::read_to_string(fresh.join("bans.json")).unwrap();
    let id = &lying.enode["enode://".len()..][..128];
    assert!(bans.contains(id), "{bans}");
    let serving = Node::start(&honest, &[]);
    let both = format!("{},{}", lying.enode, serving.enode);
    let mut node = Node::start(&fresh, &["--bootnodes", &both]);
    node.wait_head(400);
    assert!(!node.log().contains(&id[..16]), "{}", node.log());
    node.stop();
    // Where it is trusted it is dropped each time, and dialled again.
    let again = dir.path().join("again");
    run_ok(&["init", "--datadir", text(&again), text(&chain.genesis)]);
    let args = ["--bootnodes", &lying.enode, "--trusted", &lying.enode];
    let mut node = Node::start(&again, &args);
    let drops = |node: &Node| node.log().matches("Dropping peer").count();
    node.wait_log("Dropping peer");
    let deadline = Instant::now() + STEP_TIMEOUT;
    while drops(&node) < 2 {
        assert!(Instant::now() < deadline, "{}", node.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!node.log().contains("Banned"), "{}", node.log());
    node.stop();
    assert!(!again.join("bans.json").exists());
    serving.stop();
    lying.kill();
    assert_same_chain(&honest, &fresh, 400);
}

/// Copies a store block by block, but gives block `bad` another state root and seals nothing anew, and goes on from there
/// with blocks that link.
fn lie(from: &std::path::Path, to: &std::path::Path, bad: u64) {
    use cairn_store::{NewBlock, Writer};
    let from = reader(from).snapshot();
    let mut writer = Writer::open(&to.join("blocks")).unwrap();
    let mut parent = from.genesis_hash();
    let mut blocks = Vec::new();
    for number in 1..=from.head().number {
        let raw = bytes::Bytes::copy_from_slice(&from.header(number).unwrap().unwrap());
        let mut header = cairn::chain::SealedHeader::decode(raw).unwrap().header;
        if number >= bad {
            header.state_root = alloy_primitives::B256::repeat_byte(9);
        }
        header.parent_hash = parent;
        let header = cairn::chain::SealedHeader::from_header(header);
        parent = header.hash;
        blocks.push((
            header,
            from.body(number).unwrap().unwrap(),
            from.td(number).unwrap().unwrap(),
        ));
    }
    let new: Vec<NewBlock<'_>> = blocks
        .iter()
        .map(|(header, body, td)| NewBlock {
            number: header.header.number,
            hash: header.hash,
            td: *td,
            header: &header.raw,
            body,
            receipts: None,
        })
        .collect();
    writer.commit(&new, parent).unwrap();
}
