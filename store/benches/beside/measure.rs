//! One engine and one set of blocks: appending, reading, room.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use cairn_store::NewBlock;

use crate::common::{self, Block, Random};
use crate::engines::{Answer, Engine, open};
use crate::machine::{Peak, cpu, size_of, thread_cpu, written};
use crate::sets::Set;
use crate::{number, row};

/// Blocks of the first part, committed one at a time.
const SINGLE: usize = 200;
/// Uncompressed bytes of a batch: what the node commits at once while it catches up, and four times that.
const BATCH_MIB: usize = 16;
const LARGE_MIB: usize = 64;
const LARGE_BATCHES: usize = 2;
/// Uncompressed bytes of a response of bodies: eth's soft limit.
const RESPONSE_BYTES: usize = 2 << 20;
const HEADERS_IN_A_ROW: usize = 192;

pub(crate) fn run(engine: &str, set: &str, dir: &Path) {
    let set = Set::of(set).unwrap();
    let mib = number("CAIRN_BENCH_MIB", 128) + BATCH_MIB + LARGE_BATCHES * LARGE_MIB;
    let mean = set.bodies.iter().map(Vec::len).sum::<usize>() / set.bodies.len();
    let genesis = common::block(None, 0, 0);
    let mut headers = vec![genesis.clone()];
    common::extend(&mut headers, (SINGLE + (mib << 20) / mean) as u64, 0, 0);
    let (single, batches) = headers[1..].split_at(SINGLE);
    let mut answer = Answer::new();

    // From here on what the process grows by is the engine's.
    let peak = Peak::begin();
    let mut store = open(engine, dir, &genesis);
    let start = Instant::now();
    for block in single {
        store.append(&[set.block(block)]);
    }
    let one_ms = start.elapsed().as_secs_f64() * 1e3 / SINGLE as f64;
    // The first batch settles what was committed one at a time: it does not count.
    let (first, batches) = batches.split_at((BATCH_MIB << 20) / mean);
    append(&mut *store, &set, first, usize::MAX);
    let large = ((LARGE_BATCHES * LARGE_MIB) << 20) / mean;
    let small = batches.len() - large;
    let written_before = written();
    let size_before = size_of(dir);
    let batched = append(&mut *store, &set, &batches[..small], BATCH_MIB << 20);
    let written = written() - written_before;
    let grown = size_of(dir) - size_before;
    let appending = peak.take_mib();
    let larger = append(&mut *store, &set, &batches[small..], LARGE_MIB << 20);
    peak.take_mib();
    drop(store);

    let raw: usize = headers.iter().map(|block| set.raw(block)).sum();
    let start = Instant::now();
    let store = open(engine, dir, &genesis);
    black_box(store.header(1));
    black_box(store.by_hash(&headers[2]));
    let opening = start.elapsed();
    row("append, one commit a block, ms", 2, one_ms);
    row(
        &format!("append in batches of {BATCH_MIB} MiB, MB/s"),
        0,
        batched.rate,
    );
    row(
        &format!("CPU ms for 100 MB of that, {BATCH_MIB} MiB"),
        0,
        batched.cpu_ms,
    );
    row(
        &format!("append in batches of {LARGE_MIB} MiB, MB/s"),
        0,
        larger.rate,
    );
    row(
        &format!("CPU ms for 100 MB of that, {LARGE_MIB} MiB"),
        0,
        larger.cpu_ms,
    );
    read(&*store, &headers, mean, &mut answer);
    row(
        "opening, a header by number and one by hash, ms",
        2,
        opening.as_secs_f64() * 1e3,
    );
    row(
        "size on disk, of the raw bytes",
        3,
        size_of(dir) as f64 / raw as f64,
    );
    row(
        "bytes written for each byte kept, in batches",
        2,
        written as f64 / grown as f64,
    );
    row("most RssAnon while appending, MiB", 1, appending);
    row("most RssAnon while reading, MiB", 1, peak.take_mib());
}

struct Rate {
    /// Uncompressed megabytes a second.
    rate: f64,
    /// Of 100 MB.
    cpu_ms: f64,
}

fn append(store: &mut dyn Engine, set: &Set, mut left: &[Block], limit: usize) -> Rate {
    let (mut took, mut busy, mut raw) = (Duration::ZERO, Duration::ZERO, 0);
    while !left.is_empty() {
        let mut bytes = 0;
        let full = left.iter().position(|block| {
            bytes += set.raw(block);
            bytes >= limit
        });
        let (now, later) = left.split_at(full.map_or(left.len(), |at| at + 1));
        left = later;
        raw += bytes;
        let blocks: Vec<NewBlock<'_>> = now.iter().map(|block| set.block(block)).collect();
        let (start, busy_before) = (Instant::now(), cpu());
        store.append(&blocks);
        took += start.elapsed();
        busy += cpu() - busy_before;
    }
    Rate {
        rate: raw as f64 / 1e6 / took.as_secs_f64(),
        cpu_ms: busy.as_secs_f64() * 1e3 / (raw as f64 / 1e8),
    }
}

/// Hot: everything was read once before, and only this thread's time counts.
fn read(store: &dyn Engine, headers: &[Block], mean: usize, answer: &mut Answer) {
    let count = headers.len() as u64 - 1;
    let mut random = Random(5);
    let time = |n: u32, what: &mut dyn FnMut()| {
        what();
        let start = thread_cpu();
        for _ in 0..n {
            what();
        }
        (thread_cpu() - start).as_secs_f64() * 1e6 / f64::from(n)
    };
    for block in &headers[1..] {
        black_box(store.by_hash(block));
    }
    let by_number = time(50_000, &mut || {
        black_box(store.header(1 + random.below(count)));
    });
    row("header by number, us", 2, by_number);
    let by_hash = time(50_000, &mut || {
        black_box(store.by_hash(&headers[1 + random.below(count) as usize]));
    });
    row("header by hash, us", 2, by_hash);
    let scan = time(5_000, &mut || {
        let first = 1 + random.below(count - HEADERS_IN_A_ROW as u64);
        black_box(store.scan(first, HEADERS_IN_A_ROW));
    });
    row(&format!("{HEADERS_IN_A_ROW} headers in a row, us"), 1, scan);
    let bodies = (RESPONSE_BYTES / mean).clamp(1, 1024);
    let mut first = 1;
    while first + (bodies as u64) < count {
        black_box(store.response(first, bodies, answer));
        first += bodies as u64;
    }
    let response = time(200, &mut || {
        let first = 1 + random.below(count - bodies as u64);
        black_box(store.response(first, bodies, answer));
    });
    row(
        &format!("{bodies} bodies ready to encrypt, us"),
        0,
        response,
    );
}
