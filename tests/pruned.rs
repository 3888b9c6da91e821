//! History served honestly: a node whose bodies begin above genesis says so, answers headers below and nothing else, and who follows it
//! asks it for no more than it has.
#![allow(clippy::unwrap_used)]
mod common;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn::generate::Params;
use cairn_net::eth::message::{Message, Request, Start};
use cairn_store::Writer;
use common::peer::Peer;
use common::*;

const ERA: u64 = 8192;
const HEAD: u64 = ERA + 1100;
/// What the archive has above.
const MORE: u64 = 100;

/// A folder whose store has forgotten the first era, one that has all of a longer chain, one that has nothing; and the genesis.
fn folders(dir: &Path) -> (PathBuf, PathBuf, PathBuf, PathBuf) {
    let params = |blocks| Params {
        blocks,
        txs_per_block: 1,
        body_bytes: Some(120),
        ..Params::default()
    };
    let made = |name: &str, blocks| {
        let data = dir.join(name);
        let chain = chain_file(dir, &params(blocks));
        run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
        if name != "fresh" {
            run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
        }
        data
    };
    let pruned = made("pruned", HEAD);
    let mut writer = Writer::open(&pruned.join("blocks")).unwrap();
    assert_eq!(writer.expire(ERA + 7).unwrap(), ERA);
    drop(writer);
    let (archive, fresh) = (made("archive", HEAD + MORE), made("fresh", 1));
    (pruned, archive, fresh, dir.join("genesis.json"))
}

fn headers(peer: &mut Peer, start: Start, amount: u64, reverse: bool) -> Vec<Bytes> {
    let request = Request::Headers {
        start,
        amount,
        skip: 0,
        reverse,
    };
    match peer.ask(&request) {
        Message::Headers { headers, .. } => headers,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pruned_node_announces_its_true_range_and_answers_headers_below_it_but_no_bodies_or_receipts() {
    let dir = tempfile::tempdir().unwrap();
    let (pruned, archive, _, genesis) = folders(dir.path());
    let genesis = genesis_of(&genesis);
    let node = Node::start(&pruned, &[]);
    let snapshot = reader(&pruned).snapshot();
    let hash = |number| snapshot.hash(number).unwrap().unwrap();
    let mut last = None;
    for eth in [68, 69] {
        let mut peer = Peer::dial(&node, &genesis, eth);
        let (earliest, latest) = (peer.status.earliest, peer.status.latest);
        match eth {
            68 => assert_eq!((earliest, latest), (None, None)),
            _ => assert_eq!((earliest, latest), (Some(ERA), Some(HEAD))),
        }
        let from_genesis = headers(&mut peer, Start::Number(0), 1024, false);
        assert_eq!(from_genesis.len(), 1024);
        assert_eq!(alloy_primitives::keccak256(&from_genesis[1000]), hash(1000));
        let falling = headers(&mut peer, Start::Hash(hash(ERA + 1)), 4, true);
        assert_eq!(falling.len(), 4);
        assert_eq!(alloy_primitives::keccak256(&falling[3]), hash(ERA - 2));
        let asked = [1, ERA - 1, ERA, HEAD].map(hash).to_vec();
        match peer.ask(&Request::Bodies {
            hashes: asked.clone(),
        }) {
            Message::Bodies { bodies, .. } => {
                let kept = [ERA, HEAD].map(|number| snapshot.body(number).unwrap().unwrap());
                assert_eq!(bodies, kept);
            }
            other => panic!("{other:?}"),
        }
        match peer.ask(&Request::Receipts {
            hashes: asked,
            first_index: 0,
        }) {
            Message::Receipts { blocks, .. } => assert_eq!(blocks.len(), 0),
            other => panic!("{other:?}"),
        }
        last = Some(peer);
    }
    // It goes on, and says of its longer chain that it begins where it does.
    let archive = Node::start(&archive, &["--bootnodes", &node.enode]);
    let mut peer = last.unwrap();
    loop {
        if let Message::BlockRange {
            earliest, latest, ..
        } = peer.message()
        {
            assert_eq!(earliest, ERA);
            if latest == HEAD + MORE {
                break;
            }
        }
    }
    archive.stop();
    node.stop();
}

#[test]
fn who_follows_a_pruned_node_asks_it_for_no_body_that_it_does_not_announce() {
    let dir = tempfile::tempdir().unwrap();
    let (pruned, archive, fresh, _) = folders(dir.path());
    let serving = Node::start(&pruned, &["--verbosity", "4"]);
    let mut node = Node::start(&fresh, &["--bootnodes", &serving.enode]);
    // Alone it says what is missing, and asks for nothing over and over.
    let line = node.wait_log("No peer has the body of block 1:");
    assert!(line.contains("below 8192"), "{line}");
    let asked = |node: &Node, what: &str| node.log().matches(what).count();
    let before = asked(&serving, "GetBlockHeaders");
    std::thread::sleep(std::time::Duration::from_secs(12));
    assert!(asked(&serving, "GetBlockHeaders") <= before + 2);
    assert_eq!(asked(&serving, "GetBlockBodies"), 0);
    assert_eq!(node.head(), 0);
    // With one that keeps all it gets on.
    let archive = Node::start(&archive, &["--bootnodes", &node.enode]);
    node.wait_head(HEAD + MORE);
    assert_eq!(asked(&node, "No peer has the body"), 1);
    // Who was asked for a body that it announced has it.
    for line in serving
        .log()
        .lines()
        .filter(|line| line.contains("GetBlockBodies"))
    {
        assert!(!line.contains("bodies=0"), "{line}");
    }
    node.stop();
    let expected = reader(&archive.datadir).snapshot().head();
    archive.stop();
    serving.stop();
    assert_eq!(reader(&fresh).snapshot().head(), expected);
    let report = cairn_store::check::verify(&fresh.join("blocks"), &mut |_, _| {}).unwrap();
    assert!(
        report.is_sound() && report.bodies == HEAD + MORE + 1,
        "{report:?}"
    );
}
