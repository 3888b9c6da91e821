//! Signers vote others in and out through `cairn clique`, and the control socket says who may seal, who has, and how the votes stand.
#![allow(clippy::unwrap_used)]
mod common;

use std::collections::BTreeMap;
use std::path::Path;

use alloy_primitives::{Address, B64, hex};
use cairn::chain::SealedHeader;
use cairn::chain::clique::{NONCE_AUTHORISE, NONCE_DROP};
use cairn::generate::Params;
use cairn::ipc::{self, CallError};
use common::*;
use serde_json::{Value, json};

fn ask(node: &Node, method: &str, params: Value) -> Value {
    ipc::call(&node.datadir.join("cairn.ipc"), method, &params)
        .unwrap_or_else(|error| panic!("{method} {params}: {error}"))
}

#[track_caller]
fn refused(node: &Node, method: &str, params: Value, says: &str) {
    match ipc::call(&node.datadir.join("cairn.ipc"), method, &params) {
        Err(CallError::Refused(why)) if why.contains(says) => {}
        other => panic!("{method} {params}: {other:?}, not {says:?}"),
    }
}

/// `cairn clique ... --json` on a node.
fn clique(node: &Node, args: &[&str]) -> Value {
    let mut all = vec!["clique"];
    all.extend_from_slice(args);
    all.extend_from_slice(&["--json", "--datadir", text(&node.datadir)]);
    serde_json::from_slice(&run_ok(&all).stdout).unwrap()
}

fn lower(address: &Address) -> String {
    format!("{address:#x}")
}

fn signers(node: &Node) -> Vec<String> {
    let signers = clique(node, &["signers"]);
    let signers = signers.as_array().unwrap().iter();
    signers.map(|s| s.as_str().unwrap().to_owned()).collect()
}

fn header(datadir: &Path, number: u64) -> SealedHeader {
    let chain = reader(datadir).snapshot();
    let raw = chain.header(number).unwrap().unwrap();
    SealedHeader::decode(bytes::Bytes::copy_from_slice(&raw)).unwrap()
}

/// What `clique_getSnapshot` must say where no vote was decided since block `since`, a checkpoint or the last block that decided one:
/// by EIP-225, from the headers alone.
fn derived(datadir: &Path, since: u64, number: u64, signers: &[String]) -> Value {
    let mut votes: Vec<(String, u64, String, bool)> = Vec::new();
    for block in since + 1..=number {
        let header = header(datadir, block);
        if header.header.beneficiary.is_zero() {
            continue;
        }
        let signer = lower(&header.signer().unwrap());
        let target = lower(&header.header.beneficiary);
        let authorise = header.header.nonce == NONCE_AUTHORISE;
        votes.retain(|(who, _, whom, _)| (who, whom) != (&signer, &target));
        if signers.contains(&target) != authorise {
            votes.push((signer, block, target, authorise));
        }
    }
    let limit = signers.len() as u64 / 2 + 1;
    let first = (number + 1).saturating_sub(limit).max(1);
    let recents: BTreeMap<String, String> = (first..=number)
        .map(|block| {
            let signer = header(datadir, block).signer().unwrap();
            (block.to_string(), lower(&signer))
        })
        .collect();
    let mut tally: BTreeMap<String, Value> = BTreeMap::new();
    for (_, _, target, authorise) in &votes {
        let count = votes.iter().filter(|vote| vote.2 == *target).count();
        let entry = json!({"authorize": authorise, "votes": count});
        tally.insert(target.clone(), entry);
    }
    let signers: BTreeMap<&String, Value> = signers.iter().map(|s| (s, json!({}))).collect();
    let votes: Vec<Value> = votes
        .iter()
        .map(|(signer, block, target, authorise)| {
            json!({"signer": signer, "block": block, "address": target, "authorize": authorise})
        })
        .collect();
    json!({
        "number": number,
        "hash": header(datadir, number).hash.to_string(),
        "signers": signers,
        "recents": recents,
        "votes": votes,
        "tally": tally,
    })
}

#[test]
fn two_signers_vote_a_third_in_and_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let network = clique_network(dir.path(), &[3, 4, 5], 2, 12);
    let [first, second, third] = network.addresses[..] else {
        panic!("three keys");
    };
    let folder = |name: &str| {
        let folder = dir.path().join(name);
        run_ok(&["init", "--datadir", text(&folder), text(&network.genesis)]);
        folder
    };
    let start = |name: &str, key: usize, peers: &str| {
        let key = text(&network.keys[key]);
        let args = [
            "--enable-consensus",
            "--signer-key",
            key,
            "--bootnodes",
            peers,
        ];
        Node::start(&folder(name), &args)
    };
    let mut one = start("one", 0, "");
    let two = start("two", 1, &one.enode);
    let peers = format!("{},{}", one.enode, two.enode);
    let mut three = start("three", 2, &peers);
    let mut follower = Node::start(&folder("follower"), &["--bootnodes", &peers]);
    one.wait_head(2);
    three.wait_log("none of the chain's signers");
    assert!(!signers(&three).contains(&lower(&third)));

    // In.
    let target = third.to_string();
    let said = clique(&one, &["propose", &target, "--auth"]);
    let expected =
        json!({"target": target, "authorise": true, "is_signer": false, "signers": 2, "needed": 2});
    assert_eq!(said, expected);
    assert_eq!(
        ask(&two, "clique_propose", json!([lower(&third), true])),
        Value::Null
    );
    assert_eq!(clique(&two, &["proposals"]), json!({lower(&third): true}));
    wait_until("it is in", || signers(&follower).contains(&lower(&third)));
    assert_eq!(signers(&follower).len(), 3);
    three.wait_log("Sealed new block");
    let status = clique(&three, &["status"]);
    assert_eq!(status["signer"], json!(target));
    assert_eq!(status["snapshot"]["signers"].as_object().unwrap().len(), 3);
    let shown = run_ok(&["clique", "status", "--datadir", text(&three.datadir)]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("Signers   3, of which 2 decide")
            && shown.contains(&format!("{target} sealed")),
        "{shown}"
    );

    // Out: it takes two of three, and the one it is about needs not agree.
    clique(&one, &["propose", &target, "--drop"]);
    clique(&two, &["propose", &target, "--drop"]);
    wait_until("it is out", || !signers(&follower).contains(&lower(&third)));
    let expected: Vec<String> = [first, second].iter().map(lower).collect();
    let out = signers(&follower);
    assert!(
        out.len() == 2 && expected.iter().all(|signer| out.contains(signer)),
        "{out:?}"
    );
    let after = follower.head();
    three.wait_head(after + 3);
    for number in after + 1..=after + 3 {
        assert_ne!(header(&three.datadir, number).signer().unwrap(), third);
    }

    // No vote stood at a checkpoint, and each says who may seal.
    three.wait_head(13);
    follower.wait_head(13);
    let last = follower.head().min(three.head());
    for number in (12..=last).step_by(12) {
        let checkpoint = header(&three.datadir, number).header;
        assert!(checkpoint.beneficiary.is_zero() && checkpoint.nonce == NONCE_DROP);
        let after = ask(
            &follower,
            "clique_getSigners",
            json!([format!("{number:#x}")]),
        );
        let listed: Vec<String> = checkpoint.extra_data[32..checkpoint.extra_data.len() - 65]
            .chunks(20)
            .map(hex::encode_prefixed)
            .collect();
        assert_eq!(after, json!(listed));
    }
    for node in [one, two, three, follower] {
        node.stop();
    }
}

#[test]
fn a_snapshot_of_any_block_is_what_its_headers_say_and_a_discarded_vote_is_cast_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let network = clique_network(dir.path(), &[6], 1, 7);
    let signer = network.addresses[0];
    let own = vec![lower(&signer)];
    let datadir = dir.path().join("node");
    run_ok(&["init", "--datadir", text(&datadir), text(&network.genesis)]);
    let key = text(&network.keys[0]);
    let mut node = Node::start(&datadir, &["--enable-consensus", "--signer-key", key]);
    // A vote that means nothing is proposed, and never cast.
    let said = clique(&node, &["propose", &signer.to_string(), "--auth"]);
    assert_eq!(said["is_signer"], true);
    node.wait_head(3);

    // Neither is one to put out who is out.
    let other = Address::repeat_byte(0x99).to_string();
    clique(&node, &["propose", &other, "--drop"]);
    node.wait_head(5);
    for number in 1..=5 {
        assert!(
            header(&datadir, number).header.beneficiary.is_zero(),
            "{number}"
        );
    }
    let discarded = clique(&node, &["discard", &other]);
    assert_eq!(discarded, json!({"discarded": other}));
    let all = ask(&node, "clique_proposals", json!([]));
    assert_eq!(all, json!({lower(&signer): true}));
    fails(
        &["clique", "discard", &other, "--datadir", text(&datadir)],
        1,
        &["votes for nothing about", "cairn clique proposals"],
    );

    // What was said of a head is said of it later, when it is rebuilt, and is what the headers say.
    let live = ask(&node, "clique_getSnapshot", json!([]));
    let number = live["number"].as_u64().unwrap();
    node.wait_head(number + 2);
    let later = ask(&node, "clique_getSnapshot", json!([format!("{number:#x}")]));
    assert_eq!(later, live);
    assert_eq!(later, derived(&datadir, number / 7 * 7, number, &own));
    node.wait_head(9);
    for number in 0..=9 {
        let expected = derived(&datadir, number / 7 * 7, number, &own);
        assert_eq!(ask(&node, "clique_getSnapshot", json!([number])), expected);
        let hash = expected["hash"].clone();
        assert_eq!(
            ask(&node, "clique_getSnapshotAtHash", json!([hash])),
            expected
        );
        assert_eq!(
            ask(&node, "clique_getSignersAtHash", json!([hash])),
            json!(own)
        );
    }

    // By number, by hash, by the bytes of a header and of a block.
    let block = header(&datadir, 8);
    let mut whole = Vec::new();
    let body = reader(&datadir).snapshot().body(8).unwrap().unwrap();
    let lists = alloy_rlp::Header::decode_bytes(&mut &body[..], true).unwrap();
    alloy_rlp::Header {
        list: true,
        payload_length: block.raw.len() + lists.len(),
    }
    .encode(&mut whole);
    whole.extend_from_slice(&block.raw);
    whole.extend_from_slice(lists);
    for named in [
        json!([]),
        json!(["latest"]),
        json!(["0x8"]),
        json!([8]),
        json!([block.hash.to_string()]),
        json!([{"blockNumber": "0x8"}]),
        json!([{"blockHash": block.hash.to_string()}]),
        json!([hex::encode_prefixed(&block.raw)]),
        json!([hex::encode_prefixed(&whole)]),
    ] {
        assert_eq!(
            ask(&node, "clique_getSigner", named.clone()),
            json!(own[0]),
            "{named}"
        );
    }

    let activity = ask(&node, "clique_status", json!([]));
    let blocks = activity["numBlocks"].as_u64().unwrap();
    assert!(blocks >= 9, "{activity}");
    assert_eq!(activity["sealerActivity"], json!({own[0].clone(): blocks}));
    assert_eq!(activity["inturnPercent"], 100.0);

    for (method, params, says) in [
        (
            "clique_getSnapshot",
            json!([100_000]),
            "unknown block 100000",
        ),
        (
            "clique_getSnapshotAtHash",
            json!([B64::ZERO.to_string()]),
            "no hash",
        ),
        (
            "clique_getSignersAtHash",
            json!(["0x".to_owned() + &"ab".repeat(32)]),
            "unknown block",
        ),
        (
            "clique_getSigners",
            json!(["pending"]),
            "expected a block's number",
        ),
        ("clique_getSigner", json!(["earliest"]), "sealed by nobody"),
        (
            "clique_getSigner",
            json!(["0x".to_owned() + &"c0".repeat(40)]),
            "neither a block nor a header",
        ),
        ("clique_propose", json!([other]), "two parameters"),
        ("clique_propose", json!(["0x12", true]), "no address"),
        ("clique_discard", json!([]), "one parameter"),
    ] {
        refused(&node, method, params, says);
    }
    node.stop();
}

#[test]
fn an_open_vote_stands_in_the_snapshot_until_the_checkpoint_and_stays_when_its_proposal_is_discarded()
 {
    let dir = tempfile::tempdir().unwrap();
    let network = clique_network(dir.path(), &[3, 4], 2, 1000);
    let folders: Vec<_> = ["one", "two"].map(|name| dir.path().join(name)).into();
    for folder in &folders {
        run_ok(&["init", "--datadir", text(folder), text(&network.genesis)]);
    }
    let args = |key: usize| {
        [
            "--enable-consensus",
            "--signer-key",
            text(&network.keys[key]),
        ]
    };
    let one = Node::start(&folders[0], &args(0));
    let mut two = {
        let mut all = args(1).to_vec();
        all.extend_from_slice(&["--bootnodes", &one.enode]);
        Node::start(&folders[1], &all)
    };
    let mut own: Vec<String> = network.addresses.iter().map(lower).collect();
    own.sort();
    let other = Address::repeat_byte(0x77);
    clique(&one, &["propose", &other.to_string(), "--auth"]);
    clique(
        &one,
        &["propose", &network.addresses[1].to_string(), "--drop"],
    );
    let open = |node: &Node| {
        let at = ask(node, "clique_getSnapshot", json!([]));
        at["votes"].as_array().unwrap().len()
    };
    wait_until("both votes are cast", || open(&two) == 2);
    for target in [other, network.addresses[1]] {
        clique(&one, &["discard", &target.to_string()]);
    }
    assert_eq!(clique(&one, &["proposals"]), json!({}));
    // One block may have been in the making, and one more on its way to the store.
    let discarded = one.head().max(two.head()) + 2;
    two.wait_head(discarded + 4);
    for number in discarded + 1..=discarded + 4 {
        assert!(
            header(&two.datadir, number).header.beneficiary.is_zero(),
            "{number}"
        );
    }
    assert_eq!(open(&two), 2, "what was sealed stands");
    for number in 1..=discarded + 4 {
        let expected = derived(&two.datadir, 0, number, &own);
        assert_eq!(ask(&one, "clique_getSnapshot", json!([number])), expected);
    }
    one.stop();
    two.stop();
}

#[test]
fn who_has_no_vote_is_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("follower");
    let follower = Node::start(&folder, &[]);
    let target = Address::repeat_byte(1).to_string();
    let on = ["--datadir", text(&folder)];
    let with = |args: &[&'static str]| [args, &on].concat();
    assert_eq!(signers(&follower), [DEV_SIGNER.to_lowercase()]);
    let propose = [&["clique", "propose", &target, "--auth"], &on[..]].concat();
    fails(&propose, 1, &["does not seal", "--enable-consensus"]);
    let discard = [&["clique", "discard", &target], &on[..]].concat();
    fails(&discard, 1, &["votes for nothing about"]);
    refused(
        &follower,
        "clique_discard",
        json!([target]),
        "does not seal",
    );
    let both = [&["clique", "propose", &target, "--auth", "--drop"], &on[..]].concat();
    fails(&both, 2, &["cannot be used with"]);
    let neither = [&["clique", "propose", &target], &on[..]].concat();
    fails(&neither, 2, &["--auth"]);
    fails(
        &with(&["clique", "propose", "0x12", "--auth"]),
        2,
        &["0x12"],
    );
    follower.stop();
    fails(&with(&["clique", "status"]), 1, &["no node is running"]);

    let datadir = dir.path().join("main");
    run_ok(&["init", "--mainnet", "--datadir", text(&datadir)]);
    let main = Node::start(&datadir, &["--maxpeers", "1"]);
    let on = ["--datadir", text(&datadir)];
    for command in ["status", "signers", "proposals"] {
        let args = [&["clique", command], &on[..]].concat();
        fails(&args, 1, &["no clique chain", "config.clique"]);
    }
    refused(&main, "clique_getSigner", json!([0]), "no clique chain");
    main.stop();
}

#[test]
fn a_batch_that_would_have_the_chain_read_over_and_over_is_refused_the_rest() {
    use std::io::{BufRead as _, Write as _};
    let dir = tempfile::tempdir().unwrap();
    let params = Params {
        blocks: 3000,
        txs_per_block: 0,
        seed: 3,
        ..Params::default()
    };
    let chain = chain_file(dir.path(), &params);
    let datadir = dir.path().join("node");
    run_ok(&["init", "--datadir", text(&datadir), text(&chain.genesis)]);
    run_ok(&["import", "--datadir", text(&datadir), text(&chain.blocks)]);
    let node = Node::start(&datadir, &[]);
    let mut stream = std::os::unix::net::UnixStream::connect(datadir.join("cairn.ipc")).unwrap();
    stream.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
    let one = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "clique_getSnapshot", "params": [2999]});
    let batch: Vec<Value> = (0..30).map(one).collect();
    stream
        .write_all(json!(batch).to_string().as_bytes())
        .unwrap();
    stream.write_all(one(30).to_string().as_bytes()).unwrap();
    let mut lines = std::io::BufReader::new(stream).lines();
    let answers: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 30);
    for (place, answer) in answers.iter().enumerate() {
        // 60,000 headers: twenty times 3,000.
        if place < 20 {
            assert_eq!(answer["result"]["number"], 2999);
        } else {
            assert_eq!(answer["error"]["code"], -32005, "{answer}");
        }
    }
    let next: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        next["result"]["number"], 2999,
        "and the next request is a new one"
    );
    node.stop();
}
