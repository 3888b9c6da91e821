//! Which snapshots are kept, what may stand in their file, and the file beside a real store.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{Address, B256, hex};
use cairn_store::{NewBlock, Writer};

use super::{Kept, SnapshotFile, decode, encode};
use crate::chain::clique::{Snapshot, Vote};
use crate::chain::{Genesis, Rules, Tip};
use crate::datadir::DataDir;
use crate::generate::{Generated, GeneratedBlock, Params, blocks};

const EPOCH: u64 = 10;
const NEVER: u64 = 1 << 63;

/// A generated chain with a checkpoint each ten blocks: its genesis, its blocks from 1 on, and the tips from block 0 on.
pub(crate) fn chain(seed: u64, length: u64) -> (Genesis, Vec<GeneratedBlock>, Vec<Tip>) {
    let mut json: serde_json::Value = serde_json::from_str(Genesis::dev_json()).unwrap();
    json["config"]["clique"]["epoch"] = EPOCH.into();
    let genesis_json = json.to_string();
    let genesis = Genesis::from_json(genesis_json.as_bytes()).unwrap();
    let params = Params {
        blocks: length,
        txs_per_block: 1,
        seed,
        genesis: Some(Generated {
            genesis: genesis.clone(),
            genesis_json,
        }),
        ..Params::default()
    };
    let rules = Rules::new(&genesis);
    let mut tips = vec![rules.genesis_tip()];
    let blocks: Vec<_> = blocks(&params).1.collect();
    for block in &blocks {
        let header = Arc::new(block.header.clone());
        tips.push(rules.extend(tips.last().unwrap(), header, None).unwrap());
    }
    (genesis, blocks, tips)
}

/// A store of these blocks.
fn store(dir: &Path, genesis: &Genesis, blocks: &[GeneratedBlock]) -> Writer {
    let data = DataDir::new(dir);
    data.init(genesis, None).unwrap();
    let mut writer = Writer::open(&data.blocks()).unwrap();
    let new: Vec<_> = blocks
        .iter()
        .map(|block| NewBlock {
            number: block.header.number(),
            hash: block.header.hash,
            td: block.td,
            header: &block.header.raw,
            body: &block.body,
            receipts: None,
        })
        .collect();
    writer
        .commit(&new, blocks.last().unwrap().header.hash)
        .unwrap();
    writer
}

pub(crate) fn numbers(kept: &Kept) -> Vec<u64> {
    kept.0.iter().map(|kept| kept.number).collect()
}

/// What a snapshot is made of.
#[derive(Clone)]
struct Parts {
    number: u64,
    signers: Vec<Address>,
    recents: Vec<(u64, Address)>,
    votes: Vec<Vote>,
}

impl Parts {
    /// Three signers, of whom two voted and two sealed the last blocks.
    fn at(number: u64) -> Parts {
        let [a, b, c, d] = [1, 2, 3, 4].map(Address::repeat_byte);
        let vote = |signer, block, target, authorise| Vote {
            signer,
            block,
            target,
            authorise,
        };
        Parts {
            number,
            signers: vec![a, b, c],
            recents: vec![(number - 1, b), (number, a)],
            votes: vec![
                vote(a, number - 7, d, true),
                vote(a, number - 4, b, false),
                vote(c, number - 2, b, false),
            ],
        }
    }

    fn snapshot(self) -> Option<Snapshot> {
        let hash = B256::repeat_byte(self.number as u8);
        Snapshot::from_parts(self.number, hash, self.signers, self.recents, self.votes)
    }
}

fn at(number: u64) -> Arc<Snapshot> {
    Arc::new(Parts::at(number).snapshot().unwrap())
}

#[test]
fn a_snapshot_is_kept_each_1024_blocks_and_at_each_checkpoint() {
    let mut kept = Kept::default();
    let mut those = Vec::new();
    for number in 10..6_000 {
        if kept.moved(number - 1, Some(&at(number)), NEVER) {
            those.push(number);
        }
    }
    assert_eq!(those, [1024, 2048, 3072, 4096, 5120]);
    assert_eq!(numbers(&kept), those[1..]);

    // Runs of blocks come in: the head may pass a mark without having been there.
    let mut kept = Kept::default();
    let heads = [
        1000, 2000, 3000, 3023, 3024, 4047, 30_000, 30_100, 31_023, 31_024,
    ];
    let is_kept = |head: &u64| kept.moved(head - 9, Some(&at(*head)), 30_000);
    let those: Vec<u64> = heads.into_iter().filter(is_kept).collect();
    assert_eq!(those, [2000, 3024, 30_000, 31_024]);
}

#[test]
fn what_gives_way_to_a_branch_is_kept_no_longer() {
    let mut kept = Kept::default();
    for head in [2000, 4000, 6000] {
        assert!(kept.moved(head - 1, Some(&at(head)), NEVER));
    }
    assert!(!kept.moved(3_999, Some(&at(3_000)), NEVER));
    assert_eq!(numbers(&kept), [2000]);
    assert!(kept.moved(3_000, Some(&at(3_024)), NEVER));
    assert!(!kept.moved(2_000, Some(&at(2_001)), NEVER));
    assert_eq!(numbers(&kept), [2000]);
    assert!(!kept.moved(1_999, None, NEVER));
    assert!(numbers(&kept).is_empty());
}

#[test]
fn what_is_kept_is_written_in_this_form() {
    let genesis = B256::repeat_byte(0xee);
    let bytes = encode(&genesis, &[at(12)]);
    let [a, b, c, d, e] = ["01", "02", "03", "04", "ee"].map(|byte| byte.repeat(20));
    let expected = [
        format!("f9014301a0{e}{}f9011e", "ee".repeat(12)), // version, genesis
        format!("f9011b0ca0{}", "0c".repeat(32)),          // number, hash
        format!("f83f94{a}94{b}94{c}"),
        format!("eed60b94{b}d60c94{a}"),
        format!("f887ec94{a}0594{d}01ec94{a}0894{b}80ec94{c}0a94{b}80"),
    ];
    assert_eq!(hex::encode(&bytes), expected.concat());
    assert_eq!(decode(&bytes, &genesis), Ok(vec![at(12)]));
    assert_eq!(decode(&encode(&genesis, &[]), &genesis), Ok(vec![]));
    let four = [at(12), at(13), at(20), at(1000)];
    assert_eq!(decode(&encode(&genesis, &four), &genesis), Ok(four.into()));
}

#[test]
fn what_no_chain_can_have_is_no_snapshot() {
    type Break = fn(&mut Parts);
    let breaks: [(&str, Break); 19] = [
        ("no signers", |it| it.signers.clear()),
        ("signers not in order", |it| it.signers.swap(0, 1)),
        ("a signer twice", |it| it.signers[1] = it.signers[0]),
        ("nobody sealed", |it| it.recents.clear()),
        ("who sealed the head is not known", |it| {
            it.recents.pop();
        }),
        ("who sealed what comes", |it| it.recents[1].0 += 1),
        ("a gap", |it| it.recents[0].0 -= 1),
        ("recents not in order", |it| it.recents.swap(0, 1)),
        ("too many recents", |it| {
            let before = it.recents[0].0 - 1;
            it.recents.insert(0, (before, it.signers[2]));
        }),
        ("who sealed block 0", |it| {
            let signer = it.signers[0];
            (it.number, it.recents) = (1, vec![(0, signer), (1, signer)]);
            it.votes.clear();
        }),
        ("a number that wraps", |it| {
            let signer = it.signers[0];
            (it.number, it.recents) = (0, vec![(u64::MAX, signer), (0, signer)]);
            it.votes.clear();
        }),
        ("votes not in order", |it| it.votes.swap(0, 1)),
        ("two votes in a block", |it| {
            it.votes[1].block = it.votes[0].block;
        }),
        ("a vote in block 0", |it| it.votes[0].block = 0),
        ("a vote in what comes", |it| {
            it.votes[2].block = it.number + 1;
        }),
        ("a vote of a stranger", |it| {
            it.votes[1].signer = Address::repeat_byte(9);
        }),
        ("a vote to let in a signer", |it| {
            it.votes[1].authorise = true;
        }),
        ("a vote to put out a stranger", |it| {
            it.votes[0].authorise = false;
        }),
        ("two votes of one on one", |it| {
            it.votes[2].signer = it.votes[1].signer;
        }),
    ];
    assert!(Parts::at(12).snapshot().is_some());
    for (name, break_it) in breaks {
        let mut parts = Parts::at(12);
        break_it(&mut parts);
        assert_eq!(parts.snapshot(), None, "{name}");
    }
}

#[test]
fn bytes_that_are_not_what_is_kept_are_refused() {
    let genesis = B256::repeat_byte(0xee);
    let wrong = |bytes: &[u8]| decode(bytes, &genesis).unwrap_err();
    let whole = encode(&genesis, &[at(12)]);
    assert_eq!(
        wrong(&encode(&B256::ZERO, &[at(12)])),
        "it is of another chain"
    );
    let mut other = whole.clone();
    other[3] = 2; // behind the prefix of the list
    assert_eq!(wrong(&other), "it is of another version of cairn");
    assert_eq!(
        wrong(&[&whole[..], &[0]].concat()),
        "something stands behind its end"
    );
    for kept in [
        vec![at(13), at(12)],
        vec![at(12), at(12)],
        (12..17).map(at).collect(),
    ] {
        assert_eq!(
            wrong(&encode(&genesis, &kept)),
            "its snapshots are too many or not in order"
        );
    }
    for length in 0..whole.len() {
        assert_eq!(wrong(&whole[..length]), "it is no RLP of the right form");
    }
    // A signer's first byte, so that they are not in order any more.
    let mut other = whole.clone();
    let signer = other.windows(2).position(|pair| pair == [2, 2]).unwrap();
    other[signer] = 0xff;
    assert_eq!(wrong(&other), "it has a snapshot that can be none");
}

#[test]
fn a_file_is_gone_on_with_after_a_restart_and_opening_it_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (genesis, blocks, tips) = chain(1, 45);
    let writer = store(dir.path(), &genesis, &blocks);
    let stored = writer.reader().snapshot();
    let path = DataDir::new(dir.path()).snapshots();
    let open = || SnapshotFile::open(path.clone(), &genesis, &stored);
    let mut file = open();
    assert!(numbers(file.kept()).is_empty() && !path.exists());
    for (ancestor, tip) in (0..).zip(&tips[1..]) {
        file.moved(ancestor, tip);
    }
    let written = fs::read(&path).unwrap();
    let file = open();
    assert_eq!(numbers(file.kept()), [10, 20, 30, 40]);
    let newest = file.kept().before(45, EPOCH).unwrap();
    assert_eq!(Some(newest), tips[40].clique.as_deref());
    assert_eq!(fs::read(&path).unwrap(), written);
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 2, "the store and this file");
}

#[test]
fn a_damaged_or_foreign_file_is_as_if_missing_and_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (genesis, blocks, tips) = chain(1, 20);
    let writer = store(dir.path(), &genesis, &blocks);
    let stored = writer.reader().snapshot();
    let path = dir.path().join("snapshots");
    let open = || SnapshotFile::open(path.clone(), &genesis, &stored);
    let mut file = open();
    file.moved(9, &tips[10]);
    let whole = fs::read(&path).unwrap();
    assert_eq!(numbers(open().kept()), [10]);

    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|end| whole[..end].into()).collect();
    for place in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << (place % 8);
        damaged.push(flipped);
    }
    damaged.push([&whole[..], &[0]].concat());
    damaged.push(vec![0; whole.len()]); // a power cut before it was on the disk
    damaged.push(vec![0; 2 << 20]);
    let rest = encode(&B256::repeat_byte(7), &[tips[10].clique.clone().unwrap()]);
    damaged.push([&crc32fast::hash(&rest).to_le_bytes(), &rest[..]].concat());
    for (place, bytes) in damaged.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        assert!(numbers(open().kept()).is_empty(), "{place}");
    }
    let mut file = open();
    file.moved(19, &tips[20]);
    assert_eq!(numbers(open().kept()), [20]);
}

#[test]
fn a_snapshot_of_what_is_not_stored_any_more_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (genesis, blocks, tips) = chain(1, 30);
    let (same, other_blocks, _) = chain(2, 30);
    assert_eq!(genesis.header.hash, same.header.hash);
    let path = dir.path().join("snapshots");
    let whole = store(&dir.path().join("whole"), &genesis, &blocks);
    let shorter = store(&dir.path().join("shorter"), &genesis, &blocks[..25]);
    let other = store(&dir.path().join("other"), &genesis, &other_blocks);
    let open =
        |writer: &Writer| SnapshotFile::open(path.clone(), &genesis, &writer.reader().snapshot());
    let mut file = open(&whole);
    for (ancestor, tip) in (0..).zip(&tips[1..]) {
        file.moved(ancestor, tip);
    }
    assert_eq!(numbers(open(&whole).kept()), [10, 20, 30]);
    assert_eq!(numbers(open(&shorter).kept()), [10, 20]);
    assert!(numbers(open(&other).kept()).is_empty());
}

#[test]
fn a_file_that_cannot_be_written_ends_nothing_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (genesis, blocks, tips) = chain(1, 20);
    let writer = store(dir.path(), &genesis, &blocks);
    let stored = writer.reader().snapshot();
    let folder = dir.path().join("not-there");
    let path = folder.join("snapshots");
    let mut file = SnapshotFile::open(path.clone(), &genesis, &stored);
    file.moved(9, &tips[10]);
    assert_eq!(numbers(file.kept()), [10], "it still serves this run");
    fs::create_dir(folder).unwrap();
    file.moved(19, &tips[20]);
    let file = SnapshotFile::open(path, &genesis, &stored);
    assert_eq!(numbers(file.kept()), [10, 20]);
}
