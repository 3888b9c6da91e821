//! `verify --deep`: what breaks a rule of the chain is found though every checksum and root is right, and a verify that was cut off
//! goes on where it was.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use alloy_primitives::Address;
use cairn::{
    chain::{DEV_SIGNER_KEY, SealedHeader, clique},
    generate::{self, Fork, GeneratedBlock, Params},
};
use common::{Fixture, tree};
use secp256k1::SecretKey;
use serde_json::{Value, json};

/// A clique chain whose last header is changed by `change` and sealed by `key`: only rules can tell.
fn with_last(key: [u8; 32], change: impl FnOnce(&mut GeneratedBlock)) -> Fixture {
    let params = Params {
        blocks: 20,
        txs_per_block: 2,
        ..Params::default()
    };
    let (generated, blocks) = generate::blocks(&params);
    let mut blocks: Vec<_> = blocks.collect();
    let last = blocks.last_mut().unwrap();
    change(last);
    let mut header = last.header.header.clone();
    clique::seal(&mut header, &SecretKey::from_byte_array(&key).unwrap());
    last.header = SealedHeader::from_header(header);
    Fixture::of(generated.genesis, blocks)
}

#[test]
fn a_sound_chain_is_sound_by_its_rules() {
    let clique = Fixture::clique(60);
    let found = clique.run(&["verify", "--deep", "--json"]).ok().json();
    assert_eq!(found["sound"], true);
    assert_eq!(found["deep"], true);
    assert_eq!(found["blocks_checked"], 61);
    let checked = found["checked"].to_string();
    assert!(checked.contains("clique: seals"), "{checked}");

    let prague = Fixture::prague(6);
    let ran = prague.run(&["verify", "--deep", "--json"]).ok();
    let without = ran.json()["not_checked"].to_string();
    assert!(without.contains("genesis.json"), "{without}");
    prague.write_genesis(Fork::Prague);
    let found = prague.run(&["verify", "--deep", "--json"]).ok().json();
    let not_checked = found["not_checked"].to_string();
    assert!(!not_checked.contains("genesis.json"), "{not_checked}");
    assert!(not_checked.contains("proof of stake"), "{not_checked}");
    let text = prague.run(&["verify", "--deep"]).ok();
    assert!(text.text().contains("checked: "), "{}", text.text());
}

#[test]
fn the_genesis_may_be_named_and_must_be_the_stores() {
    let prague = Fixture::prague(2);
    let other = Fixture::clique(2);
    other.write_genesis(Fork::London);
    let named = |store: &Fixture| store.dir.path().join("genesis.json");
    let run = |file: &Path| prague.run(&["verify", "--deep", "--genesis", file.to_str().unwrap()]);
    run(&named(&other)).refused(2, "the store's is 0x");
    run(&named(&prague)).refused(2, "genesis.json");
    prague.write_genesis(Fork::Prague);
    let _ = run(&named(&prague)).ok();
}

#[test]
fn a_header_that_breaks_a_rule_is_found_with_its_field() {
    let sound = with_last(DEV_SIGNER_KEY, |_| ());
    let _ = sound.run(&["verify", "--deep"]).ok();
    type Change = fn(&mut GeneratedBlock);
    let broken: [(Change, &str); 4] = [
        (|block| change(block, |h| h.gas_limit *= 2), "gasLimit"),
        (
            |block| change(block, |h| h.base_fee_per_gas = Some(1)),
            "baseFeePerGas",
        ),
        (|block| change(block, |h| h.gas_used = 21_000), "gasUsed"),
        (|block| change(block, |h| h.nonce = [1; 8].into()), "nonce"),
    ];
    for (change, field) in broken {
        let store = with_last(DEV_SIGNER_KEY, change);
        let _ = store.run(&["verify"]).ok();
        store
            .run(&["verify", "--deep"])
            .refused(1, &format!("block 20: {field}"));
    }
}

fn change(block: &mut GeneratedBlock, change: fn(&mut alloy_consensus::Header)) {
    let mut header = block.header.header.clone();
    change(&mut header);
    block.header = SealedHeader::from_header(header);
}

#[test]
fn a_seal_of_somebody_who_may_not_seal_is_found() {
    let store = with_last([7; 32], |_| ());
    let _ = store.run(&["verify"]).ok();
    let stranger = SecretKey::from_byte_array(&[7; 32]).unwrap();
    let stranger: Address = clique::address_of(&stranger);
    let ran = store.run(&["verify", "--deep", "--json"]);
    ran.refused(1, "block 20");
    let what = ran.json()["problems"][0]["what"]
        .as_str()
        .unwrap()
        .to_lowercase();
    assert!(
        what.contains(&stranger.to_string().to_lowercase()),
        "{what}"
    );
}

#[test]
fn a_header_that_is_not_what_its_hash_says_is_found_though_its_checksum_is_right() {
    let store = Fixture::new(&Params {
        blocks: 2_200,
        txs_per_block: 0,
        ..Params::default()
    });
    // As if it had been damaged before it was stored. The format is that of store's documentation.
    const NUMBER: u64 = 100;
    let path = file(&store, "headers", 0);
    let mut bytes = fs::read(&path).unwrap();
    let entry = |slot: usize| 4096 + 16 * slot;
    let end = |bytes: &[u8], slot: usize| {
        let at = entry(slot);
        135_168 + u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
    };
    let (from, to) = (end(&bytes, 99), end(&bytes, 100));
    bytes[from + 100] ^= 1;
    let mut covered = NUMBER.to_le_bytes().to_vec();
    covered.extend([0; 4]);
    covered.extend(((to - from) as u32).to_le_bytes());
    covered.extend(&bytes[from..to]);
    let at = entry(100) + 12;
    bytes[at..at + 4].copy_from_slice(&crc32(&covered).to_le_bytes());
    fs::write(&path, &bytes).unwrap();

    for args in [&["verify"][..], &["verify", "--deep"], &["gaps"]] {
        store.run(args).refused(1, "block 10");
    }
    let found = store.run(&["gaps", "--json"]).json();
    assert_eq!(found["unlinked"], json!([101]));
    assert_eq!(found["headers"]["damaged"], json!([]));
}

/// zlib's CRC-32, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    })
}

#[test]
fn receipts_that_are_not_their_headers_are_found() {
    let store = Fixture::with_receipts(6);
    store.write_genesis(Fork::Prague);
    let found = store.run(&["verify", "--deep", "--json"]).ok().json();
    assert_eq!(found["receipts_checked"], 6, "the genesis block has none");
    let (generated, blocks) = generate::blocks(&Params {
        blocks: 6,
        txs_per_block: 12,
        fork: Fork::Prague,
        ..Params::default()
    });
    let mut blocks: Vec<_> = blocks.collect();
    blocks[3].receipts = blocks[2].receipts.clone();
    blocks[4].receipts = vec![0xc1, 0x05];
    let store = Fixture::made(generated.genesis, blocks, true);
    store.write_genesis(Fork::Prague);
    for args in [&["verify", "--json"][..], &["verify", "--deep", "--json"]] {
        let ran = store.run(args);
        ran.refused(1, "block 4: receiptsRoot: expected 0x");
        assert_eq!(ran.json()["problems"].as_array().unwrap().len(), 2);
        ran.refused(1, "block 5: receipts[0]");
    }
}

/// A chain of three eras, the last unfinished.
fn eras() -> Fixture {
    eras_of(18_000)
}

fn eras_of(blocks: u64) -> Fixture {
    let store = Fixture::new(&Params {
        blocks,
        txs_per_block: 0,
        ..Params::default()
    });
    store.write_genesis(Fork::London);
    store
}

/// The file of `era` of `kind`.
fn file(store: &Fixture, kind: &str, era: u64) -> PathBuf {
    let name = format!("/{kind}/{era:06}.");
    let mut paths = tree(&store.store()).into_keys();
    paths
        .find(|path| path.to_str().unwrap().contains(&name))
        .unwrap()
}

#[test]
fn a_verify_that_was_cut_off_goes_on_where_it_was() {
    let store = eras();
    let notes = tempfile::tempdir().unwrap();
    let notes = notes.path().join("notes");
    let args = [
        "verify",
        "--deep",
        "--json",
        "--resume",
        notes.to_str().unwrap(),
    ];
    let whole = |found: &Value| {
        found["blocks_checked"].as_u64().unwrap() + found["blocks_resumed"].as_u64().unwrap()
    };

    // Damage in the second era: the first is noted as sound, and the notes stay.
    let headers = file(&store, "headers", 1);
    let sound = fs::read(&headers).unwrap();
    let mut bytes = sound.clone();
    let middle = bytes.len() * 3 / 4;
    bytes[middle] ^= 4;
    fs::write(&headers, &bytes).unwrap();
    let ran = store.run(&args);
    ran.refused(1, headers.to_str().unwrap());
    let found = ran.json();
    assert!(
        found["not_checked"]
            .to_string()
            .contains("blocks 8192..16383"),
        "{found}"
    );
    let kept = fs::read_to_string(&notes).unwrap();
    assert_eq!(kept.lines().count(), 2, "{kept}{found:#}");
    fs::write(&headers, &sound).unwrap();

    // A power cut while a line was written: half of it does not count.
    fs::write(&notes, format!("{kept}{{\"era\":1,\"last_ha")).unwrap();
    let before = tree(store.dir.path());
    let found = store.run(&args).ok().json();
    assert_eq!(found["blocks_resumed"], 8192);
    assert_eq!(found["blocks_checked"], 18_001 - 8192);
    assert_eq!(found["records_resumed"], false);
    assert_eq!(tree(store.dir.path()), before);
    assert!(!notes.exists(), "nothing is left to go on with");

    // Records and two eras noted; then a file of one of them is not what it was.
    fs::write(&notes, &kept).unwrap();
    let mut all = kept.clone();
    all.push_str("{\"records\":true}\n");
    fs::write(&notes, &all).unwrap();
    let found = store.run(&args).ok().json();
    assert_eq!(found["records_resumed"], true);
    assert_eq!(found["blocks_resumed"], 8192);
    assert_eq!(whole(&found), 18_001);
    let first = file(&store, "headers", 0);
    let mut longer = fs::read(&first).unwrap();
    longer.push(0);
    fs::write(&first, longer).unwrap();
    fs::write(&notes, &all).unwrap();
    let found = store.run(&args).ok().json();
    assert_eq!(found["blocks_resumed"], 0, "its files have changed");
    assert_eq!(whole(&found), 18_001);
}

#[test]
fn notes_are_of_one_store_and_never_overwrite_anything() {
    let store = Fixture::clique(20);
    let other = Fixture::clique(20);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("letter"), "Dear Sir,\n").unwrap();
    fs::write(path("note"), "Dear Sir,").unwrap();
    for name in ["letter", "note"] {
        let file = path(name);
        let before = fs::read(&file).unwrap();
        store
            .run(&["verify", "--resume", &file])
            .refused(2, "something else");
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    // Notes of an unsound store stay; they are of no use for another store, nor for a deeper verify.
    let notes = path("notes");
    let info = store.run(&["info", "--json"]).ok().json();
    let genesis = info["genesis_hash"].as_str().unwrap();
    let foreign = json!({
        "cairn_store_verify": 1, "store_id": "0x00", "genesis_hash": genesis, "deep": false,
    });
    fs::write(&notes, format!("{foreign}\n")).unwrap();
    for store in [&store, &other] {
        store
            .run(&["verify", "--resume", &notes])
            .refused(2, "of store");
    }
    assert_eq!(fs::read_to_string(&notes).unwrap(), format!("{foreign}\n"));

    let inside = store.store().join("notes");
    let before = tree(store.dir.path());
    store
        .run(&["verify", "--resume", inside.to_str().unwrap()])
        .refused(2, "outside");
    assert_eq!(tree(store.dir.path()), before);
}

#[test]
fn any_number_of_jobs_finds_the_same() {
    let store = eras_of(10_000);
    let found = |jobs: &str| {
        let mut found = store
            .run(&["verify", "--deep", "--json", "--jobs", jobs])
            .ok()
            .json();
        let map = found.as_object_mut().unwrap();
        map.remove("seconds");
        map.remove("jobs");
        found
    };
    let one = found("1");
    assert_eq!(one["blocks_checked"], 10_001);
    assert_eq!(found("5"), one);
    store.run(&["verify", "--jobs", "0"]).refused(2, "--jobs");
}
