//! Promise: one writer at a time; readers, in other processes too, see each commit after a refresh and never a half of one.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_store::{Error, Reader, Writer};
use common::{assert_block, assert_chain, assert_stored, chain, commit, create, extend};

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(2, 100);
    let writer = create(dir.path(), &blocks);
    let error = Writer::open(dir.path()).err().unwrap();
    assert!(
        matches!(&error, Error::Locked { dir: found } if found == dir.path()),
        "{error}"
    );
    drop(writer);
    Writer::open(dir.path()).unwrap();
}

#[test]
fn a_snapshot_does_not_change_and_a_refreshed_one_has_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(1, 2000);
    let mut writer = create(dir.path(), &blocks);
    let reader = Reader::open(dir.path()).unwrap();
    let first = reader.snapshot();
    assert_chain(&first, &blocks[..1]);
    let of_writer = writer.reader();
    commit(&mut writer, &blocks[1..]).unwrap();
    assert_chain(&of_writer.snapshot(), &blocks);
    assert_chain(&reader.snapshot(), &blocks[..1]);
    reader.refresh().unwrap();
    assert_chain(&reader.snapshot(), &blocks);
    // Live blocks, then a batch that replaces the log under the old snapshot, then live blocks again.
    for (count, size) in [(3, 100), (300, 60_000), (2, 100), (200, 60_000)] {
        let from = blocks.len();
        extend(&mut blocks, count, 0, size);
        commit(&mut writer, &blocks[from..]).unwrap();
        assert_chain(&first, &blocks[..1]);
        let before = reader.snapshot();
        reader.refresh().unwrap();
        assert_chain(&reader.snapshot(), &blocks);
        assert_chain(&before, &blocks[..from]);
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn threads_read_while_the_writer_writes() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(2500, 300);
    extend(&mut blocks, 200, 0, 60_000);
    let mut writer = create(dir.path(), &blocks);
    let stop = AtomicBool::new(false);
    let (stop, blocks, path) = (&stop, &blocks, dir.path());
    let own = writer.reader();
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for number in 0..3_u64 {
            let reader = if number == 0 {
                own.clone()
            } else {
                Reader::open(path).unwrap()
            };
            readers.push(scope.spawn(move || {
                let mut random = common::Random(number);
                let mut heads = 0;
                let mut last = 0;
                let mut more = true;
                while more {
                    more = !stop.load(Ordering::Relaxed); // one more look after the writer is done
                    reader.refresh().unwrap();
                    let snapshot = reader.snapshot();
                    let head = snapshot.head();
                    assert_eq!(head, blocks[head.number as usize].head());
                    assert!(head.number >= last);
                    heads += u64::from(head.number > last);
                    last = head.number;
                    for _ in 0..20 {
                        assert_block(&snapshot, &blocks[random.below(head.number + 1) as usize]);
                    }
                }
                (heads, last)
            }));
        }
        // Also if the writer fails: the scope waits for the readers.
        let stop_at_end = Stop(stop);
        let mut at = 1;
        for count in [1, 1, 1, 500, 1, 700, 3, 900, 1, 392, 100, 100] {
            let end = (at + count).min(blocks.len());
            commit(&mut writer, &blocks[at..end]).unwrap();
            at = end;
        }
        assert_eq!(at, blocks.len());
        drop(stop_at_end);
        for reader in readers {
            let (heads, last) = reader.join().unwrap();
            assert!(heads > 0 && last == 2700);
        }
    });
}

/// Not a test of its own: the other process of the next one. Reads the chain there and refuses to write.
#[test]
fn child() {
    let Ok(dir) = std::env::var("CAIRN_STORE_READER") else {
        return;
    };
    let dir = std::path::Path::new(&dir);
    assert_stored(dir, &chain(50, 700));
    assert!(matches!(
        Writer::open(dir).err().unwrap(),
        Error::Locked { .. }
    ));
    println!("read {} blocks", 51);
}

#[test]
fn another_process_reads_and_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(50, 700);
    let mut writer = create(dir.path(), &blocks);
    for i in 1..=50 {
        commit(&mut writer, &blocks[i..=i]).unwrap();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("CAIRN_STORE_READER", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("read 51 blocks"),
        "{said}"
    );
}
