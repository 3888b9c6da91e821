//! What the machine is shown of our chain while blocks are on their way into the store, which is a real one here.

use alloy_primitives::{B256, U256, keccak256};
use bytes::Bytes;
use cairn_store::Reader;

use super::chain::{CHAIN, Chain, RULES, fill, grow};
use crate::chain::Tip;
use crate::sync::storing::{self, View};
use crate::sync::tasks::{Task, Tasks};
use crate::sync::{Action, Block, ChainView, Found, Staging};

/// Blocks `from` to `to` of a chain, to be stored.
fn run(chain: &Chain, from: usize, to: usize) -> Vec<Block> {
    let block = |number: usize| Block {
        header: chain[number].header.clone(),
        body: chain[number].body.clone(),
        receipts: None,
        td: chain[number].td,
    };
    (from..=to).map(block).collect()
}

fn commit_of(blocks: Vec<Block>) -> Action {
    let last = blocks.last().unwrap();
    let tip = Tip {
        header: last.header.clone(),
        td: last.td,
        ..RULES.genesis_tip()
    };
    Action::Commit {
        blocks,
        tip,
        live: false,
    }
}

/// All that a view shows of blocks 0 to 20.
fn shown(reader: &Reader, tasks: &Tasks) -> Vec<Option<(B256, B256, U256, bool)>> {
    let view = View::of(reader, tasks);
    let look = |number: u64| {
        let hash = view.hash(number);
        let seen = (view.header(number), view.td(number));
        assert_eq!(seen.0.is_some(), hash.is_some(), "{number}");
        assert_eq!(seen.1.is_some(), hash.is_some(), "{number}");
        let has = view.has_receipts(number);
        Some((hash?, keccak256(seen.0?), seen.1?, has))
    };
    let all = (0..=20).map(look).collect();
    assert!(view.failed().is_none());
    all
}

#[test]
fn the_machine_is_shown_the_same_before_while_and_after_blocks_are_stored() {
    let other = grow(&CHAIN, 8, 13, 9);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = fill(dir.path(), &CHAIN[..=10]);
    let reader = writer.reader();
    let mut tasks = Tasks::default();
    tasks.push(commit_of(run(&CHAIN, 11, 15)));
    tasks.push(commit_of(run(&other, 9, 12))); // it takes the place of six blocks, and is shorter
    tasks.push(commit_of(run(&other, 13, 13)));
    let found = Found {
        number: 12,
        hash: other[12].header.hash,
        receipts: Bytes::from_static(&[0xc0]),
    };
    let stale = Found {
        number: 13,
        hash: CHAIN[13].header.hash,
        receipts: Bytes::from_static(&[0xc0]),
    };
    tasks.push(Action::Keep {
        receipts: vec![found, stale],
    });
    let first = shown(&reader, &tasks);
    for (number, seen) in first.iter().enumerate() {
        let block = match number {
            0..=8 => Some(&CHAIN[number]),
            9..=13 => Some(&other[number]),
            _ => None,
        };
        let hash = block.map(|block| block.header.hash);
        let has = number == 12;
        let expected = block.map(|block| (hash.unwrap(), hash.unwrap(), block.td, has));
        assert_eq!(*seen, expected, "block {number}");
    }
    for last in [15, 12, 13] {
        let Some(Task::Store(action)) = tasks.next() else {
            panic!("blocks are for the store");
        };
        assert!(tasks.next().is_none(), "the store does one thing at a time");
        assert_eq!(shown(&reader, &tasks), first, "before {last}");
        let Action::Commit { blocks, tip, .. } = &*action else {
            panic!("they are blocks");
        };
        storing::commit(&mut writer, blocks, tip).unwrap();
        assert_eq!(writer.head().number, last);
        assert_eq!(
            shown(&reader, &tasks),
            first,
            "after {last}, and not yet told"
        );
        tasks.done();
        assert_eq!(shown(&reader, &tasks), first, "after {last}");
    }
}

#[test]
fn while_a_branch_begins_or_ends_the_machine_waits_and_while_one_comes_in_it_does_not() {
    let mut tasks = Tasks::default();
    tasks.push(commit_of(run(&CHAIN, 1, 2)));
    assert!(!tasks.must_wait());
    for (staging, waits) in [
        (Staging::Begin { fork: 1 }, true),
        (
            Staging::Add {
                blocks: run(&CHAIN, 2, 3),
            },
            false,
        ),
        (Staging::Leave, true),
    ] {
        tasks.push(Action::Stage(staging));
        assert!(tasks.next().is_some());
        tasks.done();
        assert_eq!(tasks.must_wait(), waits, "in line");
        assert!(tasks.next().is_some());
        assert_eq!(tasks.must_wait(), waits, "at work");
        tasks.done();
        assert!(!tasks.must_wait());
        tasks.push(commit_of(run(&CHAIN, 1, 2)));
    }
}
