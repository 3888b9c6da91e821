//! Promise: a branch of any length replaces what is above its fork, given in parts and with bounded memory; until it is
//! finished, and if it never is, nothing has changed.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use cairn_store::{Error, NewBlock, NewReceipts, Reader, Writer};
use common::{Block, Random, assert_stored, block, chain, commit, create, extend, verify};

const ERA: u64 = 8192;

/// One test at a time: one of them measures the process.
static ALONE: Mutex<()> = Mutex::new(());

/// Gives the blocks in parts.
fn replace(writer: &mut Writer, fork: u64, branch: &[Block], part: usize) -> Result<(), Error> {
    let mut replace = writer.replace_above(fork)?;
    for part in branch.chunks(part) {
        let new: Vec<NewBlock<'_>> = part.iter().map(Block::new_block).collect();
        replace.append(&new)?;
    }
    replace.finish(branch.last().unwrap().hash).map(drop)
}

/// Receipts for two blocks of three.
fn with_receipts(blocks: &mut [Block]) {
    for block in blocks.iter_mut().filter(|block| block.number % 3 > 0) {
        block.receipts = Some(common::body(50, &mut Random(block.number)));
    }
}

fn leftovers(dir: &Path) -> usize {
    let folders = ["headers", "bodies", "receipts", "hash"];
    let names = folders.map(|folder| std::fs::read_dir(dir.join(folder)).unwrap().count());
    names.iter().sum()
}

#[test]
fn over_several_eras_from_any_fork() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut blocks = chain(100, 500);
    extend(&mut blocks, 2 * ERA + 900, 0, 0);
    with_receipts(&mut blocks[1..]);
    let head = blocks.len() as u64 - 1;
    // In an era, at the ends of eras, below the tip and in it, at the head, and at the genesis block.
    for (turn, fork) in [
        0,
        50,
        ERA - 1,
        ERA,
        2 * ERA - 1,
        head - 1500,
        head - 20,
        head,
    ]
    .into_iter()
    .enumerate()
    {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = create(dir.path(), &blocks);
        for part in blocks[1..].chunks(3000) {
            commit(&mut writer, part).unwrap();
        }
        let mut longer = blocks[..=fork as usize].to_vec();
        extend(&mut longer, 3 * ERA + 77 - fork, 1, 0);
        extend(&mut longer, 30, 1, 200);
        with_receipts(&mut longer[fork as usize + 1..]);
        // A session's first change, or a later one.
        if turn % 2 == 0 {
            drop(writer);
            writer = Writer::open(dir.path()).unwrap();
        }
        let before = writer.reader().snapshot();
        replace(
            &mut writer,
            fork,
            &longer[fork as usize + 1..],
            1 + 2000 * turn,
        )
        .unwrap();
        assert_eq!(before.head(), blocks[head as usize].head());
        assert_eq!(
            before.body(head).unwrap(),
            Some(blocks[head as usize].body.clone())
        );
        drop(before);
        common::assert_chain(&writer.reader().snapshot(), &longer);
        // Its last blocks are in the tip: one frame reorganises them.
        let sequence = writer.reader().snapshot().sequence();
        let end = longer.len() as u64 - 1;
        let other = block(Some(&longer[end as usize - 3]), 9, 10);
        commit(&mut writer, std::slice::from_ref(&other)).unwrap();
        assert_eq!(writer.reader().snapshot().sequence(), sequence);
        commit(&mut writer, &longer[end as usize..]).unwrap();
        drop(writer);
        assert_stored(dir.path(), &longer);
    }
}

/// Of a short branch, which stays in the tip, and of one so long that its first blocks settle: canonical blocks and side blocks.
#[test]
fn receipts_that_came_late_are_kept_where_the_branch_has_the_same_blocks_without() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let blocks = chain(60, 200);
    let mut with = blocks.clone();
    with_receipts(&mut with[1..]);
    let late: Vec<NewReceipts<'_>> = with
        .iter()
        .filter_map(|block| {
            Some(NewReceipts {
                number: block.number,
                hash: block.hash,
                receipts: block.receipts.as_deref()?,
            })
        })
        .collect();
    for (more, goes_first) in [(5, false), (5, true), (1500, false), (1500, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = create(dir.path(), &blocks);
        commit(&mut writer, &blocks[1..]).unwrap();
        writer.add_receipts(&late).unwrap();
        if goes_first {
            let mut other = blocks[..=20].to_vec();
            extend(&mut other, 50, 1, 0);
            commit(&mut writer, &other[21..]).unwrap();
        }
        let mut branch = blocks.clone();
        extend(&mut branch, more, 2, 0);
        replace(&mut writer, 10, &branch[11..], 100).unwrap();
        drop(writer);
        branch[..with.len()].clone_from_slice(&with);
        assert_stored(dir.path(), &branch);
    }
}

#[test]
fn given_up_or_refused_it_changes_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(ERA + 3000, 0);
    with_receipts(&mut blocks[1..]);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..]).unwrap();
    let files = leftovers(dir.path());
    let mut branch = blocks[..=100].to_vec();
    extend(&mut branch, 2 * ERA, 1, 0);
    let new: Vec<NewBlock<'_>> = branch[101..].iter().map(Block::new_block).collect();

    let mut begun = writer.replace_above(100).unwrap();
    begun.append(&new[..9000]).unwrap();
    assert!(leftovers(dir.path()) > files);
    let report = verify(dir.path());
    assert!(report.is_sound(), "{report:#?}");
    common::assert_chain(&Reader::open(dir.path()).unwrap().snapshot(), &blocks);
    // Blocks that do not follow are refused; the right ones may still be given.
    for wrong in [&new[8999], &new[9001], &blocks[9101].new_block()] {
        let error = begun.append(&[wrong_copy(wrong)]).unwrap_err();
        assert!(matches!(error, Error::BadBlock { .. }), "{error}");
    }
    let heavier = NewBlock {
        td: new[9000].td + alloy_primitives::U256::from(1),
        ..wrong_copy(&new[9000])
    };
    assert!(begun.append(&[wrong_copy(&new[9000]), heavier]).is_err());
    begun.append(&new[9000..9500]).unwrap();
    drop(begun);
    assert_eq!(leftovers(dir.path()), files);
    common::assert_chain(&writer.reader().snapshot(), &blocks);

    // Another head than the last block given.
    let mut begun = writer.replace_above(100).unwrap();
    begun.append(&new[..200]).unwrap();
    let refused = begun.finish(new[100].hash).unwrap_err();
    assert!(matches!(refused, Error::UnknownHead { .. }));
    assert_eq!(leftovers(dir.path()), files);
    // Forks that are not there.
    let refused = writer.replace_above(blocks.len() as u64).err().unwrap();
    assert!(matches!(refused, Error::BadBlock { .. }), "{refused}");

    // Ordinary commits go on, and so does the branch in the end.
    let mut longer = blocks.clone();
    extend(&mut longer, 5, 0, 0);
    commit(&mut writer, &longer[blocks.len()..]).unwrap();
    replace(&mut writer, 100, &branch[101..], 777).unwrap();
    drop(writer);
    assert_stored(dir.path(), &branch);

    // A process that was killed in the middle leaves files that the next session's first change removes.
    let mut writer = Writer::open(dir.path()).unwrap();
    let mut begun = writer.replace_above(50).unwrap();
    let mut again = blocks[..=50].to_vec();
    extend(&mut again, 2000, 2, 0);
    let new: Vec<NewBlock<'_>> = again[51..].iter().map(Block::new_block).collect();
    begun.append(&new).unwrap();
    std::mem::forget(begun);
    drop(writer);
    assert_stored(dir.path(), &branch);
    let mut writer = Writer::open(dir.path()).unwrap();
    let mut longer = branch.clone();
    extend(&mut longer, 1, 0, 0);
    commit(&mut writer, &longer[branch.len()..]).unwrap();
    drop(writer);
    assert_stored(dir.path(), &longer);
    assert_eq!(verify(dir.path()).notices, []);
}

fn wrong_copy<'a>(block: &NewBlock<'a>) -> NewBlock<'a> {
    NewBlock { ..*block }
}

#[test]
#[cfg(target_os = "linux")]
fn with_a_few_megabytes_of_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let anonymous = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap();
        kib >> 10
    };
    let dir = tempfile::tempdir().unwrap();
    let genesis = chain(0, 0);
    let mut writer = create(dir.path(), &genesis);
    let mut first = genesis.clone();
    extend(&mut first, 3, 0, 100);
    commit(&mut writer, &first[1..]).unwrap();
    // 300 MB of a branch, of which no more than a part is ever held here.
    let body = common::body(30_000, &mut Random(1));
    let before = anonymous();
    let mut most = 0;
    let mut branch = writer.replace_above(0).unwrap();
    let mut last = genesis[0].clone();
    for _ in 0..500 {
        let mut part = vec![last];
        extend(&mut part, 20, 1, 0);
        for block in &mut part[1..] {
            block.body.clone_from(&body);
        }
        let new: Vec<NewBlock<'_>> = part[1..].iter().map(Block::new_block).collect();
        branch.append(&new).unwrap();
        last = part.pop().unwrap();
        most = most.max(anonymous());
    }
    let head = branch.finish(last.hash).unwrap();
    assert_eq!(head, last.head());
    println!(
        "RssAnon: {before} MiB before, at most {most} MiB, {} MiB after",
        anonymous()
    );
    assert!(most < before + 24, "{before} {most}");
    drop(writer);
    let snapshot = Reader::open(dir.path()).unwrap().snapshot();
    assert_eq!(snapshot.head(), last.head());
    assert_eq!(snapshot.body(5000).unwrap(), Some(body));
}
