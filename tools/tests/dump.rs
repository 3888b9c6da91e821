//! `dump` and `gaps`: blocks as they were stored, and an honest account of what is there.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use cairn::generate::encode_block;
use common::{Fixture, tree};
use serde_json::{Value, json};

#[test]
fn dump_prints_each_block_as_get_does_on_one_line() {
    let store = Fixture::clique(2_100);
    // 1,076 and below have settled, the others are in the tip.
    let ran = store.run(&["dump", "1070..1085", "--json"]).ok();
    let lines: Vec<Value> = ran
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 16);
    for (number, line) in (1070..).zip(&lines) {
        let got = store.run(&["get", &u64::to_string(&number), "--json"]);
        assert_eq!(*line, got.ok().json(), "block {number}");
    }
    assert_eq!(store.run(&["dump", "1070..1085"]).ok().text(), ran.text());
}

#[test]
fn dump_raw_is_what_an_export_holds() {
    let store = Fixture::clique(12);
    let expected: Vec<u8> = store.blocks[3..8].iter().flat_map(encode_block).collect();
    assert_eq!(store.run(&["dump", "4..8", "--raw"]).ok().out, expected);
    let head = encode_block(store.blocks.last().unwrap());
    assert_eq!(store.run(&["dump", "12..", "--raw"]).ok().out, head);
}

#[test]
fn dump_gives_all_that_was_asked_for_or_says_why_not() {
    let store = Fixture::clique(5);
    store.run(&["dump", "4..6"]).refused(1, "the head is 5");
    store.run(&["dump"]).refused(2, "FROM");
    store.run(&["dump", "5..4"]).refused(2, "empty range");
    store
        .run(&["dump", "1", "--raw", "--json"])
        .refused(2, "--json");
}

#[test]
fn gaps_of_a_whole_store_are_none() {
    let store = Fixture::clique(2_100);
    let found = store.run(&["gaps", "--json"]).ok().json();
    assert_eq!(found["sound"], true);
    assert_eq!(found["head"]["number"], 2_100);
    let whole = json!({ "there": [[0, 2100]], "missing": [], "damaged": [] });
    assert_eq!(found["headers"], whole);
    assert_eq!(found["bodies"], whole);
    let none = json!({ "there": [], "missing": [[0, 2100]], "damaged": [] });
    assert_eq!(found["receipts"], none);
    assert_eq!(found["unlinked"], json!([]));
    let text = store.run(&["gaps"]).ok();
    assert!(text.text().contains("0..2100"), "{}", text.text());
}

#[test]
fn gaps_finds_damage_and_says_of_which_blocks() {
    let store = Fixture::clique(2_200);
    let needle = &store.blocks[99].body;
    let needle = &needle[needle.len() - 25..needle.len() - 5];
    let hit = tree(&store.store())
        .into_iter()
        .find_map(|(path, (bytes, _))| {
            let mut bytes = bytes.filter(|_| path.to_str().unwrap().contains("/bodies/"))?;
            let at = bytes
                .windows(needle.len())
                .position(|part| part == needle)?;
            bytes[at] ^= 1;
            Some((path, bytes))
        });
    let (path, bytes) = hit.unwrap();
    fs::write(path, bytes).unwrap();
    let ran = store.run(&["gaps", "--json"]);
    ran.refused(1, "bodies of blocks 100..100 are damaged");
    let found = ran.json();
    assert_eq!(found["sound"], false);
    assert_eq!(found["bodies"]["there"], json!([[0, 99], [101, 2200]]));
    assert_eq!(found["bodies"]["damaged"], json!([[100, 100]]));
    store.run(&["gaps"]).refused(1, "not sound");
}
