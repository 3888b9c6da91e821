//! `info`, `list` and `get`: what they say is what was stored, and nothing is written.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Stdio};

use cairn::generate::{self, Params, encode_block};
use cairn_store::Writer;
use common::{Fixture, run, tree};
use serde_json::Value;

const DEV_SIGNER: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";

#[test]
fn info_says_which_chain_how_far_and_in_how_many_bytes() {
    let store = Fixture::clique(30);
    let head = store.blocks.last().unwrap();
    let info = store.run(&["info", "--json"]).ok().json();
    assert_eq!(info["chain_id"], 1337);
    assert_eq!(info["genesis_hash"], store.genesis.header.hash.to_string());
    assert_eq!(info["head"]["number"], 30);
    assert_eq!(info["head"]["hash"], head.header.hash.to_string());
    assert_eq!(info["head"]["td"], format!("{:#x}", head.td));
    assert_eq!(info["first_body"], 0);
    assert!(info["sequence"].as_u64().unwrap() > 0);
    assert_eq!(info["format"]["version_to_read"], 1);
    assert_eq!(info["format"]["version_to_write"], 1);

    let files = info["files"].as_array().unwrap();
    assert!(!files.is_empty());
    let mut total = 0;
    for file in files {
        let path = store.store().join(file["path"].as_str().unwrap());
        let bytes = file["bytes"].as_u64().unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().len(), bytes);
        total += bytes;
    }
    assert_eq!(info["total_bytes"], total);

    let text = store.run(&["info"]).ok();
    for part in [
        "1337".to_owned(),
        head.header.hash.to_string(),
        store.genesis.header.hash.to_string(),
    ] {
        assert!(text.text().contains(&part), "{part} in {}", text.text());
    }
}

#[test]
fn list_prints_a_line_for_each_block_asked_for() {
    let store = Fixture::clique(40);
    let lines = |args: &[&str]| -> Vec<Value> {
        let ran = store.run(args).ok();
        ran.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let numbers = |args: &[&str]| -> Vec<u64> {
        lines(args)
            .iter()
            .map(|line| line["number"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(numbers(&["list", "--json"]), (21..=40).collect::<Vec<_>>());
    assert_eq!(numbers(&["list", "--json", "7"]), [7]);
    assert_eq!(numbers(&["list", "--json", "38.."]), [38, 39, 40]);
    assert_eq!(numbers(&["list", "--json", "..2"]), [0, 1, 2]);
    assert_eq!(numbers(&["list", "--json", "39..99"]), [39, 40]);

    let line = &lines(&["list", "--json", "7"])[0];
    let block = &store.blocks[6];
    assert_eq!(line["hash"], block.header.hash.to_string());
    assert_eq!(line["timestamp"], block.header.header.timestamp);
    assert_eq!(line["transactions"], 3);
    assert_eq!(line["signer"], DEV_SIGNER);
    assert_eq!(
        line["raw_bytes"],
        (block.header.raw.len() + block.body.len()) as u64
    );
    assert!(line["stored_bytes"].as_u64() < line["raw_bytes"].as_u64());

    let text = store.run(&["list", "5..9"]).ok();
    assert_eq!(text.text().lines().count(), 6, "a heading and five blocks");
    store.run(&["list", "41.."]).refused(1, "the head is 40");
}

#[test]
fn list_names_no_signer_where_nothing_is_sealed() {
    let store = Fixture::prague(2);
    let ran = store.run(&["list", "--json", "1"]).ok();
    assert_eq!(ran.json().get("signer"), None);
}

#[test]
fn list_ends_quietly_when_its_reader_goes_away() {
    let store = Fixture::clique(600);
    let mut child = Command::new(env!("CARGO_BIN_EXE_cairn-store"))
        .args(["list", "0..", "--json", "--datadir", store.datadir()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn get_raw_gives_the_bytes_that_were_stored() {
    let store = Fixture::clique(12);
    let block = &store.blocks[8];
    let hash = block.header.hash.to_string();
    for name in ["9", &hash] {
        let raw = |part| store.run(&["get", name, part, "--raw"]).ok().out;
        assert_eq!(raw("header"), block.header.raw);
        assert_eq!(raw("body"), block.body);
        assert_eq!(raw("block"), encode_block(block));
    }
    let head = store.run(&["get", "head", "--raw"]).ok().out;
    assert_eq!(head, encode_block(store.blocks.last().unwrap()));
    let genesis = store.run(&["get", "0", "header", "--raw"]).ok().out;
    assert_eq!(genesis, store.genesis.header.raw);
}

#[test]
fn get_decodes_headers_and_transactions() {
    let store = Fixture::clique(12);
    let block = &store.blocks[8];
    let header = &block.header.header;
    let value = store.run(&["get", "9", "--json"]).ok().json();
    assert_eq!(value["number"], 9);
    assert_eq!(value["hash"], block.header.hash.to_string());
    assert_eq!(value["td"], format!("{:#x}", block.td));
    assert_eq!(value["header"]["gas_used"], header.gas_used);
    assert_eq!(
        value["header"]["parent_hash"],
        header.parent_hash.to_string()
    );
    assert_eq!(
        value["header"]["base_fee_per_gas"],
        header.base_fee_per_gas.unwrap()
    );
    assert_eq!(value["header"]["difficulty"], "0x2");
    assert_eq!(
        value["header"].get("withdrawals_root"),
        None,
        "unknown to London"
    );
    assert_eq!(value["transactions"].as_array().unwrap().len(), 3);
    for transaction in value["transactions"].as_array().unwrap() {
        assert_eq!(transaction.get("undecoded"), None);
        assert_eq!(transaction["from"].as_str().unwrap().len(), 42);
        assert!(transaction["nonce"].is_u64());
    }
    assert_eq!(value["ommers"], Value::Array(vec![]));

    let header = store.run(&["get", "9", "header", "--json"]).ok().json();
    assert_eq!(header, value["header"]);
    let body = store.run(&["get", "9", "body", "--json"]).ok().json();
    assert_eq!(body["transactions"], value["transactions"]);

    let text = store.run(&["get", "head"]).ok();
    assert!(text.text().contains("UTC"), "{}", text.text());
    assert!(text.text().contains("transactions"), "{}", text.text());
}

#[test]
fn get_decodes_receipts_and_gives_their_bytes() {
    let store = Fixture::with_receipts(3);
    let raw = store.run(&["get", "2", "receipts", "--raw"]).ok().out;
    assert_eq!(raw, store.blocks[1].receipts);
    let value = store.run(&["get", "2", "receipts", "--json"]).ok().json();
    let receipts = value["receipts"].as_array().unwrap();
    assert_eq!(receipts.len(), 12);
    for receipt in receipts {
        assert_eq!(receipt["status"], 1);
        assert_eq!(receipt["logs"], Value::Array(vec![]));
    }
    let gas_used = store.blocks[1].header.header.gas_used;
    assert_eq!(receipts[11]["cumulative_gas_used"], gas_used);
}

#[test]
fn get_decodes_every_type_of_transaction_and_withdrawals() {
    let store = Fixture::prague(8);
    let mut kinds = [false; 5];
    for number in 1..=8 {
        let value = store
            .run(&["get", &number.to_string(), "--json"])
            .ok()
            .json();
        assert_eq!(value["withdrawals"].as_array().unwrap().len(), 16);
        assert!(value["withdrawals"][0]["amount_gwei"].is_u64());
        for transaction in value["transactions"].as_array().unwrap() {
            let kind = usize::try_from(transaction["type"].as_u64().unwrap()).unwrap();
            kinds[kind] = true;
            match kind {
                3 => assert!(transaction["blob_versioned_hashes"][0].is_string()),
                4 => assert!(transaction["authorization_list"][0]["authority"].is_string()),
                _ => {}
            }
        }
    }
    assert_eq!(kinds, [true; 5]);
}

#[test]
fn what_cannot_be_decoded_is_shown_raw() {
    let (generated, blocks) = generate::blocks(&Params {
        blocks: 3,
        ..Params::default()
    });
    let mut blocks: Vec<_> = blocks.collect();
    // A type that only a rollup knows, then a transaction list that is a string.
    blocks[0].body = vec![0xc6, 0xc4, 0x83, 0x7e, 0x01, 0x02, 0xc0];
    blocks[1].body = vec![0xc3, 0x81, 0x80, 0xc0];
    let store = Fixture::of(generated.genesis, blocks);
    let value = store.run(&["get", "1", "--json"]).ok().json();
    let transaction = &value["transactions"][0];
    assert_eq!(transaction["type"], 0x7e);
    assert_eq!(transaction["raw"], "0x7e0102");
    assert!(transaction["undecoded"].is_string());
    assert_eq!(value["header"]["number"], 1);
    let value = store.run(&["get", "2", "body", "--json"]).ok().json();
    assert_eq!(value["raw"], "0xc38180c0");
    assert!(value["undecoded"].is_string());
    assert!(store.run(&["get", "1"]).ok().text().contains("0x7e0102"));
    let _ = store.run(&["list"]).ok();
}

#[test]
fn a_store_can_be_inspected_while_a_node_writes_to_it() {
    let store = Fixture::clique(20);
    let _writer = Writer::open(&store.store()).unwrap();
    for command in ["info", "list", "gaps", "verify"] {
        let _ = store.run(&[command]).ok();
    }
    let _ = store.run(&["get", "head"]).ok();
}

#[test]
fn what_is_not_there_is_said_with_status_1() {
    let store = Fixture::clique(5);
    store.run(&["get", "6"]).refused(1, "the head is 5");
    let unknown = format!("0x{}", "77".repeat(32));
    store.run(&["get", &unknown]).refused(1, &unknown);
}

#[test]
fn wrong_usage_is_status_2_and_says_what_is_right() {
    let store = Fixture::clique(2);
    store.run(&["get", "0x12"]).refused(2, "64 hex digits");
    store.run(&["get", "latest"]).refused(2, "head");
    store
        .run(&["get", "1", "state"])
        .refused(2, "possible values");
    store
        .run(&["get", "1", "receipts"])
        .refused(1, "no receipts of it");
    store
        .run(&["get", "1", "--raw", "--json"])
        .refused(2, "--json");
    store.run(&["list", "9..3"]).refused(2, "empty range");
    store.run(&["frobnicate"]).refused(2, "frobnicate");
    run(&["info"]).refused(2, "--datadir");
    run(&[]).refused(2, "Usage");
}

#[test]
fn a_folder_without_a_store_is_status_2_and_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let datadir = empty.path().to_str().unwrap();
    let missing = format!("{datadir}/nowhere");
    for command in ["info", "list", "verify"] {
        let ran = run(&[command, "--datadir", datadir]);
        ran.refused(2, datadir);
        ran.refused(2, &format!("{datadir}/blocks"));
        run(&[command, "--datadir", &missing]).refused(2, &missing);
    }
}

#[test]
fn a_stores_own_folder_is_as_good_as_the_nodes() {
    let store = Fixture::clique(3);
    let folder = store.store();
    let direct = run(&["info", "--json", "--datadir", folder.to_str().unwrap()]).ok();
    assert_eq!(direct.json(), store.run(&["info", "--json"]).ok().json());
}

#[test]
fn what_inspects_never_writes() {
    let store = Fixture::clique(30);
    let before = tree(store.dir.path());
    for args in [
        &["info"][..],
        &["info", "--json"],
        &["list"],
        &["list", "0..", "--json"],
        &["get", "3"],
        &["get", "head", "body", "--raw"],
        &["dump", "3..9"],
        &["gaps"],
        &["stats", "--by", "7"],
        &["bench", "--seconds", "0.1"],
        &["verify"],
        &["verify", "--json"],
        &["verify", "--deep"],
    ] {
        let _ = store.run(args).ok();
        assert_eq!(tree(store.dir.path()), before, "{args:?}");
    }
}
