//! `stats`: counts that agree with the blocks, and a picture that holds together.
#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::BTreeMap, fs};

use cairn::{
    chain::{SealedHeader, clique},
    generate::{self, Fork, GeneratedBlock, Params},
};
use common::{Fixture, tree};
use secp256k1::SecretKey;
use serde_json::{Value, json};

/// Who seals the blocks of `uneven`, and how often.
const SHARES: [u64; 3] = [5, 3, 1];

fn key(of: usize) -> SecretKey {
    SecretKey::from_byte_array(&[of as u8 + 1; 32]).unwrap()
}

/// A clique chain of several signers with pauses. Nobody but `stats` would take it.
fn uneven(blocks: u64) -> Fixture {
    let (generated, made) = generate::blocks(&Params {
        blocks,
        txs_per_block: 3,
        ..Params::default()
    });
    let mut time_s = 1_710_000_000;
    let mut parent = generated.genesis.header.hash;
    let blocks: Vec<GeneratedBlock> = made
        .map(|mut block| {
            let mut header = block.header.header.clone();
            let number = header.number;
            time_s += if number.is_multiple_of(10) { 4 } else { 1 };
            header.timestamp = time_s;
            header.parent_hash = parent;
            let turn = number % SHARES.iter().sum::<u64>();
            let signer = match turn {
                0..5 => 0,
                5..8 => 1,
                _ => 2,
            };
            clique::seal(&mut header, &key(signer));
            block.header = SealedHeader::from_header(header);
            parent = block.header.hash;
            block
        })
        .collect();
    let store = Fixture::of(generated.genesis, blocks);
    store.write_genesis(Fork::London);
    store
}

#[test]
fn counts_are_those_of_the_blocks() {
    let store = Fixture::prague(40);
    let found = store.run(&["stats", "--json"]).ok().json();
    let total = &found["total"];
    assert_eq!(total["blocks"], 41);
    let sum = |of: &dyn Fn(&GeneratedBlock) -> u64| store.blocks.iter().map(of).sum::<u64>();
    let with_genesis = store.genesis.header.raw.len() as u64;
    assert_eq!(
        total["header_bytes"],
        with_genesis + sum(&|block| block.header.raw.len() as u64)
    );
    assert_eq!(
        total["body_bytes"],
        store.genesis.body.len() as u64 + sum(&|block| block.body.len() as u64)
    );
    assert!(total["body_stored_bytes"].as_u64() < total["body_bytes"].as_u64());
    assert_eq!(
        total["gas_used"],
        sum(&|block| block.header.header.gas_used)
    );
    let mut types = BTreeMap::new();
    for block in &store.blocks {
        for transaction in cairn::chain::body::transactions(&block.body) {
            let kind = if transaction[0] < 0x80 {
                transaction[0]
            } else {
                0
            };
            *types.entry(kind.to_string()).or_insert(0) += 1;
        }
    }
    assert_eq!(types.len(), 5, "the chain has every type");
    assert_eq!(total["transactions_by_type"], json!(types));
    assert_eq!(total["transactions"], types.values().sum::<u64>());
    assert_eq!(total["empty_blocks"], 1, "the genesis block");
    assert_eq!(total.get("signers"), None);
    let fees = store
        .blocks
        .iter()
        .map(|b| b.header.header.base_fee_per_gas.unwrap());
    let fees: Vec<u64> = fees
        .chain(store.genesis.header.header.base_fee_per_gas)
        .collect();
    assert_eq!(
        total["base_fee_per_gas"]["min"],
        *fees.iter().min().unwrap()
    );
    assert_eq!(
        total["base_fee_per_gas"]["max"],
        *fees.iter().max().unwrap()
    );
}

#[test]
fn intervals_missed_slots_and_signers_of_a_clique_chain_are_counted() {
    let store = uneven(900);
    let found = store.run(&["stats", "1..", "--json"]).ok().json();
    assert_eq!(found["period_s"], 1);
    let total = &found["total"];
    // Of 899 intervals every tenth is 4 seconds: three slots missed each.
    let expected = json!({ "min": 1, "median": 1, "p95": 4, "max": 4 });
    assert_eq!(total["interval_s"], expected);
    assert_eq!(total["missed_slots"], 90 * 3);
    let signers = total["signers"].as_array().unwrap();
    for (at, (signer, share)) in signers.iter().zip(SHARES).enumerate() {
        let address = clique::address_of(&key(at)).to_string().to_lowercase();
        assert_eq!(signer["signer"], address);
        assert_eq!(signer["blocks"], 100 * share);
        assert_eq!(
            signer["in_turn"],
            100 * share,
            "the generator seals in turn"
        );
    }
    assert_eq!(signers.len(), 3);
    let text = store.run(&["stats"]).ok();
    for part in ["signers           3", "270 slots of 1 s missed", "2,700, "] {
        assert!(text.text().contains(part), "no {part:?} in {}", text.text());
    }
}

#[test]
fn parts_add_up_to_the_total_and_do_not_depend_on_the_threads() {
    let store = uneven(500);
    let run = |jobs: &str| {
        let args = ["stats", "7..480", "--by", "100", "--json", "--jobs", jobs];
        store.run(&args).ok().json()
    };
    let found = run("1");
    assert_eq!(run("4"), found);
    let parts = found["parts"].as_array().unwrap();
    let spans: Vec<_> = parts
        .iter()
        .map(|p| (p["first"].as_u64().unwrap(), p["last"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        spans,
        [(7, 106), (107, 206), (207, 306), (307, 406), (407, 480)]
    );
    for key in [
        "blocks",
        "transactions",
        "body_bytes",
        "gas_used",
        "missed_slots",
    ] {
        let sum: u64 = parts.iter().map(|part| part[key].as_u64().unwrap()).sum();
        assert_eq!(found["total"][key], sum, "{key}");
    }
    let whole = store.run(&["stats", "7..480", "--json"]).ok().json();
    assert_eq!(whole["total"], found["total"]);
    let text = store.run(&["stats", "7..480", "--by", "100"]).ok();
    let (_, table) = text.text().split_once("\n\n").unwrap();
    assert_eq!(table.lines().count(), 1 + 5, "{table}");
}

#[test]
fn the_picture_is_well_formed_and_overwrites_nothing_unasked() {
    let store = uneven(300);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("picture.svg");
    let path = file.to_str().unwrap();
    let _ = store.run(&["stats", "--svg", path]).ok();
    let picture = fs::read_to_string(&file).unwrap();
    assert!(picture.starts_with("<svg xmlns="));
    assert_balanced(&picture);
    for part in [
        "Blocks 0 to 300 of chain 1337",
        "Bytes of a block",
        "Transactions of a block, by type",
        "Gas of a block",
        "Seconds between blocks",
        "Signers and the blocks they sealed",
        "prefers-color-scheme:dark",
    ] {
        assert!(picture.contains(part), "no {part:?}");
    }
    assert!(
        !picture.contains("NaN") && !picture.contains("inf"),
        "{picture}"
    );

    store.run(&["stats", "--svg", path]).refused(2, "--force");
    let _ = store.run(&["stats", "..0", "--svg", path, "--force"]).ok();
    assert!(!fs::read_to_string(&file).unwrap().contains("NaN"));
    let inside = store.store().join("picture.svg");
    let before = tree(store.dir.path());
    store
        .run(&["stats", "--svg", inside.to_str().unwrap()])
        .refused(2, "outside");
    assert_eq!(tree(store.dir.path()), before);
    if let Ok(keep) = std::env::var("CAIRN_PICTURES") {
        let keep = |name: &str| format!("{keep}/{name}.svg");
        let _ = uneven(5_000)
            .run(&["stats", "--svg", &keep("clique"), "--force"])
            .ok();
        let prague = Fixture::new(&Params {
            blocks: 400,
            txs_per_block: 60,
            fork: Fork::Prague,
            ..Params::default()
        });
        let _ = prague
            .run(&["stats", "--svg", &keep("prague"), "--force"])
            .ok();
        let _ = Fixture::prague(3)
            .run(&["stats", "--svg", &keep("tiny"), "--force"])
            .ok();
    }
}

/// Fails unless every tag that is opened is closed, in order.
fn assert_balanced(svg: &str) {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn stored_bytes_are_those_of_the_files() {
    // Of empty bodies nothing is kept but their length.
    for txs_per_block in [0, 4] {
        let store = Fixture::new(&Params {
            blocks: 40,
            txs_per_block,
            ..Params::default()
        });
        let total = &store.run(&["stats", "--json"]).ok().json()["total"];
        let verified = store.run(&["verify", "--json"]).ok().json();
        let sum = |keys: &[&str]| {
            keys.iter()
                .map(|key| total[*key].as_u64().unwrap())
                .sum::<u64>()
        };
        assert_eq!(
            verified["stored_bytes"],
            sum(&["header_bytes", "body_stored_bytes", "receipts_stored_bytes"])
        );
        assert_eq!(
            verified["raw_bytes"],
            sum(&["header_bytes", "body_bytes", "receipts_bytes"])
        );
    }
}

#[test]
fn what_cannot_be_counted_is_said() {
    let store = Fixture::clique(5);
    store.run(&["stats", "3..9"]).refused(1, "the head is 5");
    store.run(&["stats", "--by", "0"]).refused(2, "--by");
    store.run(&["stats", "--force"]).refused(2, "--svg");
    let value: Value = store.run(&["stats", "3", "--json"]).ok().json();
    assert_eq!(value["total"]["blocks"], 1);
    assert_eq!(value["total"]["interval_s"]["median"].as_u64().unwrap(), 1);
}
