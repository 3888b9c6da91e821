//! Promise: the store's range of bodies and receipts is what it says: pruned by whole eras, joined again below, receipts
//! added late; headers stay, and a replaced history is gone from every index.
#![allow(clippy::unwrap_used)]

mod common;

use cairn_store::{Error, Head, NewReceipts, Reader, Snapshot, Writer};
use common::{Block, assert_stored, block, chain, commit, create, extend, verify};

const ERA: u64 = 8192;

fn with_receipts(blocks: &mut [Block]) {
    for block in blocks {
        block.receipts = Some(common::body(
            (block.number % 3) as usize * 40,
            &mut common::Random(block.number),
        ));
    }
}

fn assert_history(snapshot: &Snapshot, blocks: &[Block], first_body: u64) {
    assert_eq!(snapshot.first_body(), first_body);
    assert_eq!(snapshot.head(), blocks.last().unwrap().head());
    for block in blocks.iter().step_by(61).chain(&blocks[blocks.len() - 3..]) {
        let n = block.number;
        assert_eq!(&*snapshot.header(n).unwrap().unwrap(), &block.header[..]);
        assert_eq!(snapshot.number(&block.hash).unwrap(), Some(n));
        let kept = n >= first_body;
        assert_eq!(
            snapshot.body(n).unwrap(),
            kept.then(|| block.body.clone()),
            "{n}"
        );
        let receipts = block.receipts.clone().filter(|_| kept);
        assert_eq!(snapshot.receipts(n).unwrap(), receipts, "{n}");
    }
}

#[test]
fn pruned_and_joined_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(3 * ERA + 3000, 0);
    with_receipts(&mut blocks);
    blocks[0].receipts = None;
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..]).unwrap();
    assert_eq!(writer.expire(2 * ERA - 1).unwrap(), ERA);
    assert_history(&writer.reader().snapshot(), &blocks, ERA);
    assert_eq!(writer.expire(u64::MAX).unwrap(), 3 * ERA);
    assert_eq!(writer.expire(5).unwrap(), 3 * ERA);
    drop(writer);
    assert_history(
        &Reader::open(dir.path()).unwrap().snapshot(),
        &blocks,
        3 * ERA,
    );
    assert!(verify(dir.path()).is_sound());
    let mut writer = Writer::open(dir.path()).unwrap();
    // Another chain's blocks are refused, as are too few; nothing is left of either.
    let other = block(Some(&blocks[ERA as usize - 1]), 7, 0);
    let mut join = writer.join_below(ERA).unwrap();
    assert!(matches!(
        join.push(&other.new_block()).unwrap_err(),
        Error::BadBlock { .. }
    ));
    join.push(&blocks[ERA as usize].new_block()).unwrap();
    assert!(matches!(join.finish().unwrap_err(), Error::BadBlock { .. }));
    for first in [ERA, 0] {
        let mut join = writer.join_below(first).unwrap();
        for n in first..join.end() {
            join.push(&blocks[n as usize].new_block()).unwrap();
        }
        join.finish().unwrap();
        assert_history(&writer.reader().snapshot(), &blocks, first);
    }
    assert!(matches!(
        writer.join_below(0).err().unwrap(),
        Error::BadBlock { .. }
    ));
    drop(writer);
    assert_stored(dir.path(), &blocks);
    assert_eq!(verify(dir.path()).notices, []);
}

#[cfg(target_os = "linux")]
#[test]
fn the_room_of_what_expired_is_free_though_readers_stay() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(2 * ERA + 2000, 0);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..]).unwrap();
    let other = Reader::open(dir.path()).unwrap();
    for reader in [&writer.reader(), &other] {
        assert!(reader.snapshot().body(5).unwrap().is_some());
    }
    let is_held = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut lines = maps
            .lines()
            .filter(|line| line.contains(dir.path().to_str().unwrap()));
        lines.any(|line| line.contains("/bodies/000000.") && line.ends_with("(deleted)"))
    };
    assert_eq!(writer.expire(ERA).unwrap(), ERA);
    assert!(is_held(), "the other reader has not looked yet");
    other.refresh().unwrap();
    assert!(!is_held());
    assert!(writer.reader().snapshot().body(ERA).unwrap().is_some());
}

#[test]
fn begun_above_genesis() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(2 * ERA + 2500, 0);
    with_receipts(&mut blocks);
    blocks[0].receipts = None;
    let below = blocks[2 * ERA as usize - 1].head();
    let genesis = blocks[0].genesis();
    let mut writer = Writer::create_at(dir.path(), &genesis, below).unwrap();
    assert_eq!(writer.head(), below);
    let from = 2 * ERA as usize;
    commit(&mut writer, &blocks[from..from + 5]).unwrap();
    drop(writer);
    let mut writer = Writer::open(dir.path()).unwrap();
    commit(&mut writer, &blocks[from + 5..]).unwrap();
    let snapshot = writer.reader().snapshot();
    assert_eq!(
        (snapshot.first_header(), snapshot.first_body()),
        (2 * ERA, 2 * ERA)
    );
    assert_eq!(snapshot.number(&blocks[from].hash).unwrap(), Some(2 * ERA));
    assert!(snapshot.header(2 * ERA - 1).unwrap().is_none());
    assert_eq!(snapshot.td(2 * ERA).unwrap(), Some(blocks[from].td));
    assert!(verify(dir.path()).is_sound());
    for first in [ERA, 0] {
        let mut join = writer.join_below(first).unwrap();
        for n in first..join.end() {
            join.push(&blocks[n as usize].new_block()).unwrap();
        }
        join.finish().unwrap();
        assert!(verify(dir.path()).is_sound());
    }
    drop(writer);
    assert_stored(dir.path(), &blocks);
    let inside = Head { number: 5, ..below };
    let other = tempfile::tempdir().unwrap();
    assert!(Writer::create_at(other.path(), &genesis, inside).is_err());
}

#[test]
fn receipts_may_come_late() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(ERA + 2100, 0);
    let mut late = blocks.clone();
    with_receipts(&mut late);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..]).unwrap();
    let mut add = |numbers: &mut dyn Iterator<Item = u64>| {
        let mut new = Vec::new();
        for n in numbers {
            let receipts = late[n as usize].receipts.clone();
            blocks[n as usize].receipts.clone_from(&receipts);
            new.push(n);
        }
        let new: Vec<NewReceipts<'_>> = new
            .iter()
            .map(|&n| NewReceipts {
                number: n,
                hash: late[n as usize].hash,
                receipts: late[n as usize].receipts.as_deref().unwrap(),
            })
            .collect();
        writer.add_receipts(&new).unwrap();
        assert_stored(dir.path(), &blocks);
    };
    add(&mut (ERA + 2090..=ERA + 2100)); // of the tip: a frame
    add(&mut (ERA - 100..ERA + 300)); // the first settled ones
    add(&mut (ERA + 400..ERA + 420)); // behind them, with a gap
    add(&mut (50..60)); // below
    add(&mut [55, 3, ERA + 350, ERA + 2000].into_iter()); // one is there, two replace, one is the tip's
    drop(writer);
    let mut writer = Writer::open(dir.path()).unwrap();
    let wrong = NewReceipts {
        number: 9,
        hash: blocks[10].hash,
        receipts: &[0xc0],
    };
    assert!(matches!(
        writer.add_receipts(&[wrong]).unwrap_err(),
        Error::BadBlock { .. }
    ));
    // They survive settling.
    extend(&mut blocks, 2500, 0, 0);
    let from = ERA as usize + 2101;
    commit(&mut writer, &blocks[from..]).unwrap();
    drop(writer);
    assert_stored(dir.path(), &blocks);
}

#[test]
fn eras_are_replaced_by_a_longer_branch_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut main = chain(3 * ERA + 2100, 0);
    with_receipts(&mut main);
    main[0].receipts = None;
    let mut side = main[..=ERA as usize + 700].to_vec();
    extend(&mut side, 2 * ERA + 2000, 5, 0);
    let fork = ERA as usize + 701;
    let mut writer = create(dir.path(), &main);
    commit(&mut writer, &main[1..]).unwrap();
    let held = writer.reader().snapshot();
    let kept = held.body_stream(2 * ERA).unwrap().unwrap();
    for round in 0..2 {
        commit(&mut writer, &side[fork..]).unwrap();
        assert_stored(dir.path(), &side);
        let snapshot = writer.reader().snapshot();
        assert_eq!(snapshot.number(&main[fork].hash).unwrap(), None);
        assert_eq!(snapshot.number(&main[2 * ERA as usize].hash).unwrap(), None);
        commit(&mut writer, &main[fork..]).unwrap();
        assert_stored(dir.path(), &main);
        if round == 0 {
            drop(writer);
            writer = Writer::open(dir.path()).unwrap();
        }
    }
    // Side blocks that hang below are passed over; what was handed out is readable still.
    let head = main.last().unwrap().hash;
    writer.commit(&[side[fork].new_block()], head).unwrap();
    assert_stored(dir.path(), &main);
    assert_eq!(kept.raw_len, main[2 * ERA as usize].body.len());
    assert_eq!(verify(dir.path()).notices, []);
}

#[test]
fn two_chains_that_share_only_genesis_are_committed_in_either_order() {
    let genesis = chain(0, 0);
    let (mut short, mut long) = (genesis.clone(), genesis);
    extend(&mut short, 2048, 1, 100);
    extend(&mut long, 2176, 2, 100);
    for [first, second] in [[&short, &long], [&long, &short]] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = create(dir.path(), first);
        for blocks in [first, second] {
            // As an import gives them: some at a time, and the rest hangs on the part before.
            for part in blocks[1..].chunks(1000) {
                commit(&mut writer, part).unwrap();
            }
            assert_stored(dir.path(), blocks);
        }
    }
}
