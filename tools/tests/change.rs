//! What writes: `import`, `export`, `prune`, `rebuild-index`, `repair`. Refused while a node runs, tried dry without a trace, and
//! sound afterwards.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::{fs, path::PathBuf};

use cairn::{
    chain::Genesis,
    generate::{Fork, Params, encode_block},
};
use cairn_store::Writer;
use common::{Fixture, tree};
use serde_json::json;

/// The files of the store whose path holds `part`.
fn files(store: &Fixture, part: &str) -> Vec<PathBuf> {
    tree(&store.store())
        .into_keys()
        .filter(|path| path.is_file() && path.to_str().unwrap().contains(part))
        .collect()
}

#[test]
fn what_writes_is_refused_while_a_node_runs() {
    let store = Fixture::clique(20);
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("blocks");
    fs::write(&file, encode_block(&store.blocks[0])).unwrap();
    let file = file.to_str().unwrap();
    let _writer = Writer::open(&store.store()).unwrap();
    let before = tree(store.dir.path());
    for args in [
        &["import", file][..],
        &["prune", "--before", "10"],
        &["rebuild-index"],
        &["repair"],
        &["repair", "--dry-run"],
    ] {
        store.run(args).refused(1, "another process is writing");
        assert_eq!(tree(store.dir.path()), before, "{args:?}");
    }
}

#[test]
fn what_was_exported_can_be_imported() {
    let whole = Fixture::clique(40);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blocks.rlp");
    let path = file.to_str().unwrap();
    let said = whole.run(&["export", path, "1..", "--json"]).ok().json();
    assert_eq!(said["blocks"], 40);
    let expected: Vec<u8> = whole.blocks.iter().flat_map(encode_block).collect();
    assert_eq!(fs::read(&file).unwrap(), expected);
    let text = whole.run(&["export", path]).ok();
    assert!(text.text().contains("41 blocks"), "{}", text.text());
    assert_eq!(whole.run(&["export", "-", "1.."]).ok().out, expected);

    let part = Fixture::clique(15);
    let said = part.run(&["import", path, "--json"]).ok().json();
    assert_eq!(said["blocks"], 25);
    assert_eq!(said["known"], 16);
    assert_eq!(
        part.run(&["dump", "0..", "--json"]).ok().text(),
        whole.run(&["dump", "0..", "--json"]).ok().text()
    );
    let _ = part.run(&["verify", "--deep"]).ok();
}

#[test]
fn a_file_that_is_not_of_the_chain_is_refused_with_its_place() {
    let store = Fixture::clique(5);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blocks.rlp");
    let path = file.to_str().unwrap();
    let later = Fixture::clique(8);
    let mut bytes: Vec<u8> = later.blocks[5..].iter().flat_map(encode_block).collect();
    bytes.truncate(bytes.len() - 1);
    fs::write(&file, &bytes).unwrap();
    store.run(&["import", path]).refused(1, "truncated");
    assert_eq!(
        store.run(&["info", "--json"]).ok().json()["head"]["number"],
        7
    );
    store
        .run(&["import", "nowhere.rlp"])
        .refused(2, "nowhere.rlp");
    store.run(&["export", path, "3..99"]).refused(2, "the head");
    let inside = store.store().join("x.rlp");
    store
        .run(&["export", inside.to_str().unwrap()])
        .refused(2, "outside");
    let prague = Fixture::prague(2);
    prague.run(&["import", path]).refused(2, "genesis.json");
    prague.write_genesis(Fork::Prague);
    prague.run(&["import", path]).refused(1, "block");
}

/// A chain of three eras, the last unfinished.
fn eras() -> Fixture {
    Fixture::new(&Params {
        blocks: 18_500,
        txs_per_block: 1,
        ..Params::default()
    })
}

#[test]
fn pruning_forgets_whole_eras_and_says_so_before() {
    let store = eras();
    let before = tree(store.dir.path());
    let dry = store
        .run(&["prune", "--before", "9000", "--dry-run", "--json"])
        .ok()
        .json();
    assert_eq!(tree(store.dir.path()), before);
    assert_eq!(dry["blocks"], 8192);
    store
        .run(&["prune", "--before", "99999"])
        .refused(1, "the head");
    store.run(&["prune"]).refused(2, "--before");
    let text = store.run(&["prune", "--before", "8191"]).ok();
    assert!(text.text().contains("nothing to prune"), "{}", text.text());

    let done = store
        .run(&["prune", "--before", "9000", "--json"])
        .ok()
        .json();
    for key in ["blocks", "first_body", "first_body_before", "freed_bytes"] {
        assert_eq!(done[key], dry[key], "{key}");
    }
    assert!(done["freed_bytes"].as_u64().unwrap() > 1_000_000);
    assert_eq!(files(&store, "/bodies/000000."), [] as [PathBuf; 0]);
    let found = store.run(&["gaps", "--json"]).ok().json();
    assert_eq!(found["bodies"]["missing"], json!([[0, 8191]]));
    assert_eq!(found["headers"]["missing"], json!([]));
    let found = store.run(&["verify", "--deep", "--json"]).ok().json();
    assert_eq!(found["sound"], true);
    store
        .run(&["dump", "8191"])
        .refused(1, "bodies begin at 8192");
    let _ = store.run(&["dump", "8192"]).ok();
    assert_eq!(
        store.run(&["info", "--json"]).ok().json()["first_body"],
        8192
    );
    let stats = store.run(&["stats", "..8191", "--json"]).ok().json();
    assert_eq!(stats["total"]["bodies"], 0);
    assert_eq!(stats["total"]["blocks"], 8192);
    let _ = store.run(&["bench", "--seconds", "0.1"]).ok();
}

#[test]
fn damage_is_told_dry_then_repaired_and_what_was_there_is_kept() {
    let store = eras();
    let sound = store.run(&["repair", "--dry-run"]).ok();
    assert!(
        sound.text().contains("nothing to repair"),
        "{}",
        sound.text()
    );

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("blocks.rlp");
    let copy = copy.to_str().unwrap();
    let _ = store.run(&["export", copy]).ok();
    let bodies = files(&store, "/bodies/000000.").remove(0);
    let mut bytes = fs::read(&bodies).unwrap();
    let middle = (135_168 + bytes.len()) / 2;
    bytes[middle] ^= 0x20;
    fs::write(&bodies, &bytes).unwrap();

    let before = tree(store.dir.path());
    let dry = store.run(&["repair", "--dry-run", "--json"]);
    dry.refused(1, "without --dry-run");
    let dry = dry.json();
    assert_eq!(tree(store.dir.path()), before);
    assert_eq!(dry["sound"], false);
    let actions = dry["actions"].as_array().unwrap();
    assert_eq!(actions.len(), 1);
    assert_eq!(actions[0]["file"], bodies.to_str().unwrap());

    let done = store.run(&["repair", "--json"]).json();
    assert_eq!(done["actions"], dry["actions"]);
    assert_eq!(files(&store, ".damaged").len(), 1);
    assert_eq!(fs::read(&files(&store, ".damaged")[0]).unwrap(), bytes);
    // What could not be saved is absent, and that is said, too.
    let ran = store.run(&["gaps", "--json"]);
    ran.refused(1, "are missing");
    let missing = &ran.json()["bodies"]["missing"][0];
    assert_eq!(missing[0], missing[1], "one body");
    let lost = missing[0].to_string();
    store
        .run(&["verify"])
        .refused(1, &format!("block {lost}: the body is missing"));
    let there = store.run(&["get", &lost, "header"]).ok();
    assert!(there.text().contains(&lost));
    // A file that has the block puts it back, once.
    for restored in [1, 0] {
        let said = store.run(&["import", copy, "--json"]).ok().json();
        assert_eq!(said["bodies_restored"], restored);
    }
    let _ = store.run(&["verify"]).ok();
}

#[test]
fn a_lost_index_is_made_anew() {
    let store = eras();
    for index in files(&store, "/hash/") {
        fs::remove_file(index).unwrap();
    }
    store.run(&["verify"]).refused(1, "hash/");
    let said = store.run(&["rebuild-index", "--json"]).ok().json();
    assert_eq!(said["blocks_listed"], 16_384);
    let _ = store.run(&["verify"]).ok();
    let block = &store.blocks[99];
    let hash = block.header.hash.to_string();
    let got = store.run(&["get", &hash, "header", "--json"]).ok().json();
    assert_eq!(got["number"], 100);
}

#[test]
fn an_era1_file_of_a_real_network_is_imported_verified_counted_and_exported() {
    let Some(data) = std::env::var_os("CAIRN_DATA") else {
        println!("skipped: CAIRN_DATA is not set");
        return;
    };
    let file = PathBuf::from(data).join("era1/sepolia-00000-643a00f7.era1");
    let store = Fixture::of(Genesis::sepolia(), Vec::new());
    let said = store
        .run(&["import", file.to_str().unwrap(), "--json"])
        .ok()
        .json();
    assert_eq!(said["blocks"], 8191);
    let found = store.run(&["verify", "--deep", "--json"]).ok().json();
    assert_eq!(found["receipts_checked"], 8192);
    let stats = store.run(&["stats", "--json"]).ok().json();
    assert_eq!(stats["total"]["receipts"], 8192);
    let found = store.run(&["gaps", "--json"]).ok().json();
    assert_eq!(found["receipts"]["there"], json!([[0, 8191]]));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sepolia-00000-643a00f7.era1");
    let said = store
        .run(&["export", out.to_str().unwrap(), "--json"])
        .ok()
        .json();
    let root = said["eras"][0]["accumulator"].as_str().unwrap();
    assert!(root.starts_with("0x643a00f7"), "{root}");
}
