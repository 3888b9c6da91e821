//! Promise: what was committed is read back byte for byte, across eras, batches, sessions and forks.
#![allow(clippy::unwrap_used)]

mod common;

use cairn_store::{Error, Reader, Writer};
use common::{assert_chain, assert_stored, chain, commit, create, extend};

#[test]
fn one_block_at_a_time_across_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(60, 3000);
    let mut writer = create(dir.path(), &blocks);
    assert_chain(&writer.reader().snapshot(), &blocks[..1]);
    for i in 1..=60 {
        assert_eq!(
            commit(&mut writer, &blocks[i..=i]).unwrap(),
            blocks[i].head()
        );
        assert_eq!(writer.head(), blocks[i].head());
        if i % 7 == 0 {
            drop(writer);
            assert_stored(dir.path(), &blocks[..=i]);
            writer = Writer::open(dir.path()).unwrap();
        }
    }
    assert_chain(&writer.reader().snapshot(), &blocks);
}

#[test]
fn small_blocks_settle_and_cross_an_era() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(20_000, 0);
    let mut writer = create(dir.path(), &blocks);
    for part in blocks[1..].chunks(700) {
        commit(&mut writer, part).unwrap();
    }
    let snapshot = writer.reader().snapshot();
    assert!(
        snapshot.first_unsettled() > 2 * 8192,
        "{}",
        snapshot.first_unsettled()
    );
    assert_chain(&snapshot, &blocks);
    drop(writer);
    assert_stored(dir.path(), &blocks);
}

#[test]
fn batches_go_on_in_the_middle_of_an_era() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(8000, 0);
    extend(&mut blocks, 1200, 0, 40_000);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..8001]).unwrap();
    for part in blocks[8001..].chunks(300) {
        commit(&mut writer, part).unwrap();
        let head = part.last().unwrap();
        assert_chain(
            &writer.reader().snapshot(),
            &blocks[..=head.number as usize],
        );
        assert!(head.number - writer.reader().snapshot().first_unsettled() < 300);
    }
    drop(writer);
    assert_stored(dir.path(), &blocks);
    // Live blocks after a catch-up, in a new session.
    let mut writer = Writer::open(dir.path()).unwrap();
    extend(&mut blocks, 3, 5, 500);
    for i in 9201..=9203 {
        commit(&mut writer, &blocks[i..=i]).unwrap();
    }
    assert_stored(dir.path(), &blocks);
}

#[test]
fn receipts_are_kept_with_holes() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(3000, 0);
    for block in &mut blocks[10..] {
        if block.number % 5 != 0 {
            block.receipts = Some(if block.number % 2 == 0 {
                vec![0xc0]
            } else {
                vec![0xc3, 1, 2, 3]
            });
        }
    }
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..2000]).unwrap();
    commit(&mut writer, &blocks[2000..]).unwrap();
    assert!(writer.reader().snapshot().first_unsettled() > 0);
    assert_stored(dir.path(), &blocks);
}

#[test]
fn forks_live_in_the_tip_and_the_head_moves_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let main = chain(30, 1000);
    let mut writer = create(dir.path(), &main);
    commit(&mut writer, &main[1..]).unwrap();
    let mut side = main[..=20].to_vec();
    extend(&mut side, 5, 77, 1000);
    // Side blocks alone: the head stays.
    let new: Vec<_> = side[21..].iter().map(common::Block::new_block).collect();
    assert_eq!(writer.commit(&new, main[30].hash).unwrap(), main[30].head());
    assert_eq!(
        writer.reader().snapshot().number(&side[25].hash).unwrap(),
        None
    );
    assert_eq!(
        writer
            .reader()
            .snapshot()
            .block_by_hash(&side[25].hash)
            .unwrap(),
        Some(25)
    );
    assert_stored(dir.path(), &main);
    // To the side, back, and to a rewound head; each survives a new session.
    for (head, chain) in [
        (&side[25], &side[..]),
        (&main[30], &main[..]),
        (&main[3], &main[..4]),
        (&side[25], &side[..]),
    ] {
        assert_eq!(writer.commit(&[], head.hash).unwrap(), head.head());
        assert_chain(&writer.reader().snapshot(), chain);
        assert_stored(dir.path(), chain);
        drop(writer);
        writer = Writer::open(dir.path()).unwrap();
        assert_chain(&writer.reader().snapshot(), chain);
    }
    assert_eq!(writer.commit(&[], main[0].hash).unwrap(), main[0].head());
    assert_stored(dir.path(), &main[..1]);
}

#[test]
fn a_side_chain_survives_settling() {
    let dir = tempfile::tempdir().unwrap();
    let main = chain(3500, 0);
    let mut writer = create(dir.path(), &main);
    commit(&mut writer, &main[1..1500]).unwrap();
    let mut side = main[..=1400].to_vec();
    extend(&mut side, 20, 3, 200);
    let new: Vec<_> = side[1401..].iter().map(common::Block::new_block).collect();
    writer.commit(&new, main[1499].hash).unwrap();
    commit(&mut writer, &main[1500..2200]).unwrap();
    assert!(writer.reader().snapshot().first_unsettled() > 1000);
    assert_eq!(
        writer.commit(&[], side[1420].hash).unwrap(),
        side[1420].head()
    );
    assert_stored(dir.path(), &side);
    writer.commit(&[], main[2199].hash).unwrap();
    assert_stored(dir.path(), &main[..2200]);
    // Below the tip too: the settled blocks are replaced.
    let mut deep = main[..=100].to_vec();
    extend(&mut deep, 3, 9, 0);
    assert_eq!(commit(&mut writer, &deep[101..]).unwrap(), deep[103].head());
    assert_stored(dir.path(), &deep);
    commit(&mut writer, &main[101..2200]).unwrap();
    assert_stored(dir.path(), &main[..2200]);
    assert_eq!(writer.commit(&[], main[7].hash).unwrap(), main[7].head());
    assert_stored(dir.path(), &main[..8]);
    commit(&mut writer, &main[8..2200]).unwrap();
    commit(&mut writer, &main[2200..]).unwrap();
    assert_stored(dir.path(), &main);
}

#[test]
fn blocks_that_are_there_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(4000, 0);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[..2500]).unwrap();
    commit(&mut writer, &blocks[..2500]).unwrap();
    assert!(writer.reader().snapshot().first_unsettled() > 0);
    commit(&mut writer, &blocks).unwrap();
    assert_stored(dir.path(), &blocks);
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(10, 100);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..5]).unwrap();
    let error = commit(&mut writer, &blocks[6..8]).unwrap_err();
    assert!(
        matches!(error, Error::NotLinked { number: 6, parent } if parent == blocks[5].hash),
        "{error}"
    );
    let error = writer.commit(&[], blocks[9].hash).unwrap_err();
    assert!(
        matches!(error, Error::UnknownHead { hash } if hash == blocks[9].hash),
        "{error}"
    );
    let mut wrong = blocks[5].clone();
    wrong.td += alloy_primitives::U256::from(1);
    assert!(matches!(
        commit(&mut writer, &[wrong]).unwrap_err(),
        Error::BadBlock { number: 5, .. }
    ));
    let mut wrong = blocks[5].clone();
    wrong.body.clear();
    assert!(matches!(
        commit(&mut writer, &[wrong]).unwrap_err(),
        Error::BadBlock { number: 5, .. }
    ));
    let other = chain(0, 0);
    let error = Writer::create(dir.path(), &other[0].genesis())
        .err()
        .unwrap();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(writer);
    let error = Writer::create(dir.path(), &other[0].genesis())
        .err()
        .unwrap();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(
        Reader::open(nothing.path()).err().unwrap(),
        Error::NoStore { .. }
    ));
    assert!(matches!(
        Writer::open(nothing.path()).err().unwrap(),
        Error::NoStore { .. }
    ));
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0);
    assert_stored(dir.path(), &blocks[..5]);
}

#[test]
fn a_block_too_large_for_the_tip_goes_cold_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(2, 100);
    extend(&mut blocks, 1, 0, 20 << 20);
    extend(&mut blocks, 3, 0, 100);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..3]).unwrap();
    commit(&mut writer, &blocks[3..4]).unwrap();
    assert_eq!(writer.reader().snapshot().first_unsettled(), 4);
    assert_stored(dir.path(), &blocks[..4]);
    // On an empty tip: the next blocks, a rewind to the last cold one, and a new session.
    commit(&mut writer, &blocks[4..6]).unwrap();
    assert_eq!(
        writer.commit(&[], blocks[3].hash).unwrap(),
        blocks[3].head()
    );
    assert_stored(dir.path(), &blocks[..4]);
    drop(writer);
    let mut writer = Writer::open(dir.path()).unwrap();
    commit(&mut writer, &blocks[4..]).unwrap();
    assert_stored(dir.path(), &blocks);
    assert_eq!(
        writer.commit(&[], blocks[2].hash).unwrap(),
        blocks[2].head()
    );
    assert_stored(dir.path(), &blocks[..3]);
}

#[test]
fn readers_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Reader>();
    shared::<cairn_store::Snapshot>();
    shared::<cairn_store::Record<'static>>();
    fn sent<T: Send>() {}
    sent::<Writer>();
}
