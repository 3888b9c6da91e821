//! A long chain of blocks with empty bodies: what it costs to open it, and how much room a block takes beside its records.

use std::path::Path;
use std::time::{Duration, Instant};

use cairn_store::NewBlock;

use crate::common::{self, Block, Random};
use crate::engines::open as open_engine;
use crate::machine::{anon_kib, size_of, thread_cpu};
use crate::row;

/// Blocks of a commit.
const BATCH: u64 = 50_000;
/// What opening the store, with the first look-ups, may cost for any number of blocks.
const OPEN_MOST: Duration = Duration::from_millis(50);
const OPEN_MOST_KIB: u64 = 8 << 10;
/// Blocks that are asked for by hash.
const SAMPLE: u64 = 2_000;

/// Makes a store of so many blocks, and a file with the hashes to ask for.
pub(crate) fn make(engine: &str, dir: &Path, count: u64) {
    let mut blocks = vec![common::block(None, 0, 0)];
    let genesis = blocks[0].clone();
    let home = dir.join("store");
    std::fs::create_dir(&home).unwrap();
    let mut store = open_engine(engine, &home, &genesis);
    let mut sample = Vec::new();
    let mut raw = 0;
    while blocks[blocks.len() - 1].number < count {
        blocks.drain(..blocks.len() - 1);
        let next = BATCH.min(count - blocks[0].number);
        common::extend(&mut blocks, next, 0, 0);
        let new: Vec<NewBlock<'_>> = blocks[1..].iter().map(Block::new_block).collect();
        store.append(&new);
        for block in &blocks[1..] {
            raw += block.header.len() + block.body.len();
            if block.number % count.div_ceil(SAMPLE) == 0 {
                sample.extend_from_slice(&block.number.to_le_bytes());
                sample.extend_from_slice(block.hash.as_slice());
            }
        }
    }
    drop(store);
    std::fs::write(dir.join("sample"), sample).unwrap();
    let overhead = size_of(&home) as f64 - raw as f64;
    if engine == "cairn" && count > 100_000 {
        assert!(
            overhead / count as f64 <= 64.0,
            "{overhead} bytes beside the records"
        );
    }
    row(
        "room beside the raw records, bytes a block",
        1,
        overhead / count as f64,
    );
}

/// Opens it in this new process, and reads a little.
pub(crate) fn open(engine: &str, dir: &Path) {
    let bytes = std::fs::read(dir.join("sample")).unwrap();
    let sample: Vec<Block> = bytes
        .chunks(40)
        .map(|part| Block {
            number: u64::from_le_bytes(part[..8].try_into().unwrap()),
            hash: alloy_primitives::B256::from_slice(&part[8..]),
            td: Default::default(),
            header: Vec::new(),
            body: Vec::new(),
            receipts: None,
        })
        .collect();
    let genesis = common::block(None, 0, 0);
    let before_kib = anon_kib();
    let (start, busy) = (Instant::now(), thread_cpu());
    let store = open_engine(engine, &dir.join("store"), &genesis);
    let last = &sample[sample.len() - 1];
    store.header(last.number);
    store.by_hash(last);
    let (took, busy) = (start.elapsed(), thread_cpu() - busy);
    let opened_kib = anon_kib() - before_kib;
    if engine == "cairn" {
        assert!(
            busy < OPEN_MOST && opened_kib < OPEN_MOST_KIB,
            "{busy:?}, {opened_kib} KiB"
        );
    }
    let mut random = Random(3);
    let mut any = || &sample[random.below(sample.len() as u64) as usize];
    let mut each = |n: u32, what: &mut dyn FnMut(&Block)| {
        let start = thread_cpu();
        for _ in 0..n {
            what(any());
        }
        (thread_cpu() - start).as_secs_f64() * 1e6 / f64::from(n)
    };
    each(2 * SAMPLE as u32, &mut |block| {
        store.by_hash(block);
    });
    let by_number = each(20_000, &mut |block| {
        store.header(block.number);
    });
    let by_hash = each(20_000, &mut |block| {
        store.by_hash(block);
    });
    row(
        "opening, a header by number and one by hash, ms",
        2,
        took.as_secs_f64() * 1e3,
    );
    row("the same, CPU ms", 2, busy.as_secs_f64() * 1e3);
    row("RssAnon after that, MiB", 1, opened_kib as f64 / 1024.0);
    row(
        "RssAnon after reading, MiB",
        1,
        anon_kib().saturating_sub(before_kib) as f64 / 1024.0,
    );
    row("header by number, us", 2, by_number);
    row("header by hash, us", 2, by_hash);
}
