//! Promise: beside its header, body and receipts as they are kept a settled block takes at most 64 bytes of the disk:
//! an entry in each of three tables and one in the hash index.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{Random, body, chain, commit, create};

/// An era that has begun has its whole table.
const TABLE_BYTES: u64 = 4096 + 8192 * 16;

fn size_of(dir: &Path) -> u64 {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

#[test]
fn with_receipts_and_the_hash_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(6 * 8192 + 3000, 150);
    for block in &mut blocks[1..] {
        block.receipts = Some(body(60, &mut Random(block.number)));
    }
    let mut writer = create(dir.path(), &blocks);
    for part in blocks[1..].chunks(5000) {
        commit(&mut writer, part).unwrap();
    }
    let snapshot = writer.reader().snapshot();
    let settled = snapshot.first_unsettled();
    assert!(settled > 6 * 8192);
    let mut kept = 0;
    for n in 0..settled {
        kept += snapshot.header(n).unwrap().unwrap().len();
        kept += match blocks[n as usize].body.len() {
            3 | 4 => 0, // an empty body takes no bytes
            _ => snapshot.body_stream(n).unwrap().unwrap().stream.len(),
        };
        let receipts = snapshot.receipts_stream(n).unwrap();
        kept += receipts.map_or(0, |receipts| receipts.stream.len());
    }
    let taken: u64 = ["headers", "bodies", "receipts", "hash"]
        .map(|folder| size_of(&dir.path().join(folder)))
        .iter()
        .sum();
    let overhead = taken - kept as u64 - 3 * TABLE_BYTES;
    let of_a_block = overhead as f64 / settled as f64;
    println!("{of_a_block:.1} bytes a block");
    assert!(of_a_block <= 64.0, "{of_a_block}");
}
