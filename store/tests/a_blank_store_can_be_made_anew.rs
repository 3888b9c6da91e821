//! Promise: a store without blocks can give way to one that begins elsewhere, and one with blocks never does.
#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_store::faults::{Change, Hook, Verdict};
use cairn_store::{Error, Head, Reader, Writer};
use common::{Block, chain, commit, create, verify};

const ERA: u64 = 8192;

fn above(blocks: &[Block]) -> Head {
    Head {
        number: ERA - 1,
        ..blocks[1].head()
    }
}

/// Makes it begin above the first era.
fn begin_above(dir: &Path, blocks: &[Block]) {
    let writer = Writer::create_at(dir, &blocks[0].genesis(), above(blocks)).unwrap();
    let snapshot = writer.reader().snapshot();
    assert_eq!(
        (snapshot.head(), snapshot.is_blank()),
        (above(blocks), true)
    );
    assert!(verify(dir).is_sound());
}

#[test]
fn and_then_begins_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(2, 0);
    let writer = create(dir.path(), &blocks);
    assert!(writer.reader().snapshot().is_blank());
    writer.unmake().unwrap();
    assert!(matches!(
        Reader::open(dir.path()),
        Err(Error::NoStore { .. })
    ));
    begin_above(dir.path(), &blocks);
    // That one has no block either.
    Writer::open(dir.path()).unwrap().unmake().unwrap();
    drop(create(dir.path(), &blocks));
}

#[test]
fn but_not_with_a_block_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(2, 0);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..2]).unwrap();
    assert!(!writer.reader().snapshot().is_blank());
    assert!(matches!(writer.unmake(), Err(Error::Exists { .. })));
    let writer = Writer::open(dir.path()).unwrap();
    assert_eq!(writer.head(), blocks[1].head());
}

/// Fails every change from the n-th on, as if the power went.
struct From(AtomicU64);

impl Hook for From {
    fn before(&self, _: &Change<'_>) -> Verdict {
        let left = self.0.load(Ordering::Relaxed);
        if left == 0 {
            return Verdict::Fail(io::Error::other("cut short"));
        }
        self.0.store(left - 1, Ordering::Relaxed);
        Verdict::Go
    }
}

#[test]
fn cut_short_there_is_the_whole_store_or_none() {
    let blocks = chain(2, 0);
    let mut left_whole = 0;
    for n in 0.. {
        let dir = tempfile::tempdir().unwrap();
        drop(create(dir.path(), &blocks));
        let hook = Arc::new(From(AtomicU64::new(n)));
        let done = Writer::open_with(dir.path(), hook).unwrap().unmake();
        match Writer::open(dir.path()) {
            Ok(writer) => {
                left_whole += 1;
                assert!(done.is_err());
                assert_eq!(writer.head(), blocks[0].head());
                writer.unmake().unwrap();
            }
            Err(Error::NoStore { .. }) => {}
            Err(error) => panic!("change {n}: {error}"),
        }
        begin_above(dir.path(), &blocks);
        if done.is_ok() {
            assert!(left_whole >= 2 && n >= 4, "{left_whole} of {n}");
            return;
        }
    }
}
