//! The store beside redb and LMDB (heed): the same blocks, the same durability, one after the other, each in a process of
//! its own. `cargo bench -p cairn-store`; `CAIRN_BENCH_BLOCKS`, `CAIRN_BENCH_BODY_BYTES` and `CAIRN_BENCH_DIR` (a folder on
//! a real disk) change what is measured.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cairn_store::{NewBlock, Reader, Writer, snappy};
use heed::types::{Bytes, U64};
use redb::{ReadableDatabase, TableDefinition};

#[path = "../tests/common/mod.rs"]
mod common;
use common::{Block, Random};

/// Blocks of the first part, committed one at a time.
const SINGLE: usize = 200;
/// Blocks of a batch of the rest.
const BATCH: usize = 256;
/// Uncompressed bytes of a response of bodies: eth's soft limit.
const RESPONSE_BYTES: usize = 2 << 20;
const HEADERS_IN_A_ROW: usize = 192;

const ENGINES: [&str; 5] = ["cairn", "redb", "LMDB", "redb, streams", "LMDB, streams"];

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--engine") {
        return measure(&args[at + 1], Path::new(&args[at + 2]));
    }
    let blocks = number("CAIRN_BENCH_BLOCKS", 4000);
    let body = number("CAIRN_BENCH_BODY_BYTES", 60_000);
    println!("{blocks} blocks with bodies of {body} bytes\n");
    let root = std::env::var_os("CAIRN_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let mut columns = Vec::new();
    for engine in ENGINES {
        let dir = tempfile::tempdir_in(&root).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--engine", engine])
            .arg(dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{engine}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        columns.push(text.lines().map(str::to_owned).collect::<Vec<String>>());
    }
    println!(
        "| | {} |\n| --- | {} |",
        ENGINES.join(" | "),
        ["---:"; 5].join(" | ")
    );
    for row in 0..columns[0].len() {
        let cells: Vec<&str> = columns
            .iter()
            .map(|column| column[row].split_once('\t').unwrap().1)
            .collect();
        println!(
            "| {} | {} |",
            columns[0][row].split_once('\t').unwrap().0,
            cells.join(" | ")
        );
    }
}

/// What is measured of each: a store of headers and bodies, by number and by hash.
trait Engine {
    fn append(&mut self, blocks: &[Block]);
    fn header(&self, number: u64) -> usize;
    fn by_hash(&self, block: &Block) -> usize;
    fn scan(&self, first: u64, count: usize) -> usize;
    /// The message that answers a request for these bodies, compressed and contiguous. (Its id and code are the same work
    /// for all.)
    fn response(&self, first: u64, count: usize, out: &mut Vec<u8>);
}

fn list_prefix(payload: usize) -> Vec<u8> {
    let mut out = Vec::new();
    alloy_rlp::Header {
        list: true,
        payload_length: payload,
    }
    .encode(&mut out);
    out
}

/// Streams behind one length and the list's prefix.
fn compose<'a>(raw: usize, streams: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let prefix = list_prefix(raw);
    snappy::varint(out, (prefix.len() + raw) as u64);
    snappy::literal(out, &prefix);
    for stream in streams {
        out.extend_from_slice(stream);
    }
}

/// A body's snappy elements, without the length in front.
fn stream(body: &[u8]) -> Vec<u8> {
    let whole = snap::raw::Encoder::new().compress_vec(body).unwrap();
    let varint = 1 + whole.iter().position(|byte| byte & 0x80 == 0).unwrap();
    whole[varint..].to_vec()
}

struct Cairn {
    writer: Option<Writer>,
    reader: Reader,
}

impl Engine for Cairn {
    fn append(&mut self, blocks: &[Block]) {
        let new: Vec<NewBlock<'_>> = blocks.iter().map(Block::new_block).collect();
        let writer = self.writer.as_mut().unwrap();
        writer.commit(&new, blocks.last().unwrap().hash).unwrap();
    }

    fn header(&self, number: u64) -> usize {
        self.reader
            .snapshot()
            .header(number)
            .unwrap()
            .unwrap()
            .len()
    }

    fn by_hash(&self, block: &Block) -> usize {
        let snapshot = self.reader.snapshot();
        let number = snapshot.number(&block.hash).unwrap().unwrap();
        snapshot.header(number).unwrap().unwrap().len()
    }

    fn scan(&self, first: u64, count: usize) -> usize {
        let mut bytes = 0;
        self.reader
            .snapshot()
            .headers(first, count, &mut |part| bytes += black_box(part).len())
            .unwrap();
        bytes
    }

    fn response(&self, first: u64, count: usize, out: &mut Vec<u8>) {
        let snapshot = self.reader.snapshot();
        let bodies: Vec<_> = (first..first + count as u64)
            .map(|n| snapshot.body_stream(n).unwrap().unwrap())
            .collect();
        let raw = bodies.iter().map(|body| body.raw_len).sum();
        compose(raw, bodies.iter().map(|body| &body.stream[..]), out);
    }
}

const HEADERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("headers");
const BODIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("bodies");
const NUMBERS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("numbers");

struct Redb {
    db: redb::Database,
    streams: bool,
}

/// The length in front of a stream that is kept: what raw bytes say themselves.
fn kept(body: &[u8], streams: bool) -> Vec<u8> {
    if !streams {
        return body.to_vec();
    }
    let mut out = (body.len() as u32).to_le_bytes().to_vec();
    out.extend(stream(body));
    out
}

fn respond(kept: &[&[u8]], streams: bool, out: &mut Vec<u8>) {
    if streams {
        let raw = |kept: &&[u8]| u32::from_le_bytes(kept[..4].try_into().unwrap()) as usize;
        compose(
            kept.iter().map(raw).sum(),
            kept.iter().map(|kept| &kept[4..]),
            out,
        );
        return;
    }
    let raw: usize = kept.iter().map(|kept| kept.len()).sum();
    let mut message = list_prefix(raw);
    message.reserve(raw);
    for kept in kept {
        message.extend_from_slice(kept);
    }
    out.resize(snap::raw::max_compress_len(message.len()), 0);
    let length = snap::raw::Encoder::new().compress(&message, out).unwrap();
    out.truncate(length);
}

impl Engine for Redb {
    fn append(&mut self, blocks: &[Block]) {
        let change = self.db.begin_write().unwrap(); // durable when it commits, which is the default
        {
            let mut headers = change.open_table(HEADERS).unwrap();
            let mut bodies = change.open_table(BODIES).unwrap();
            let mut numbers = change.open_table(NUMBERS).unwrap();
            for block in blocks {
                headers.insert(block.number, &block.header[..]).unwrap();
                bodies
                    .insert(block.number, &kept(&block.body, self.streams)[..])
                    .unwrap();
                numbers.insert(&block.hash[..], block.number).unwrap();
            }
        }
        change.commit().unwrap();
    }

    fn header(&self, number: u64) -> usize {
        let view = self.db.begin_read().unwrap();
        let headers = view.open_table(HEADERS).unwrap();
        headers.get(number).unwrap().unwrap().value().len()
    }

    fn by_hash(&self, block: &Block) -> usize {
        let view = self.db.begin_read().unwrap();
        let numbers = view.open_table(NUMBERS).unwrap();
        let number = numbers.get(&block.hash[..]).unwrap().unwrap().value();
        let headers = view.open_table(HEADERS).unwrap();
        headers.get(number).unwrap().unwrap().value().len()
    }

    fn scan(&self, first: u64, count: usize) -> usize {
        let view = self.db.begin_read().unwrap();
        let headers = view.open_table(HEADERS).unwrap();
        let range = headers.range(first..first + count as u64).unwrap();
        range
            .map(|pair| black_box(pair.unwrap().1.value()).len())
            .sum()
    }

    fn response(&self, first: u64, count: usize, out: &mut Vec<u8>) {
        let view = self.db.begin_read().unwrap();
        let bodies = view.open_table(BODIES).unwrap();
        let range = bodies.range(first..first + count as u64).unwrap();
        let values: Vec<_> = range.map(|pair| pair.unwrap().1).collect();
        let kept: Vec<&[u8]> = values.iter().map(|value| value.value()).collect();
        respond(&kept, self.streams, out);
    }
}

type BigEndian = U64<heed::byteorder::BigEndian>;

struct Lmdb {
    env: heed::Env,
    headers: heed::Database<BigEndian, Bytes>,
    bodies: heed::Database<BigEndian, Bytes>,
    numbers: heed::Database<Bytes, BigEndian>,
    streams: bool,
}

impl Lmdb {
    #[allow(unsafe_code)]
    fn open(dir: &Path, streams: bool) -> Lmdb {
        // SAFETY: this process is the only one that has the file.
        let env = unsafe {
            heed::EnvOpenOptions::new()
                .map_size(64 << 30)
                .max_dbs(3)
                .open(dir)
                .unwrap()
        };
        let mut change = env.write_txn().unwrap();
        let headers = env.create_database(&mut change, Some("headers")).unwrap();
        let bodies = env.create_database(&mut change, Some("bodies")).unwrap();
        let numbers = env.create_database(&mut change, Some("numbers")).unwrap();
        change.commit().unwrap();
        Lmdb {
            env,
            headers,
            bodies,
            numbers,
            streams,
        }
    }
}

impl Engine for Lmdb {
    fn append(&mut self, blocks: &[Block]) {
        let mut change = self.env.write_txn().unwrap();
        for block in blocks {
            self.headers
                .put(&mut change, &block.number, &block.header)
                .unwrap();
            let body = kept(&block.body, self.streams);
            self.bodies.put(&mut change, &block.number, &body).unwrap();
            self.numbers
                .put(&mut change, &block.hash[..], &block.number)
                .unwrap();
        }
        change.commit().unwrap();
    }

    fn header(&self, number: u64) -> usize {
        let view = self.env.read_txn().unwrap();
        self.headers.get(&view, &number).unwrap().unwrap().len()
    }

    fn by_hash(&self, block: &Block) -> usize {
        let view = self.env.read_txn().unwrap();
        let number = self.numbers.get(&view, &block.hash[..]).unwrap().unwrap();
        self.headers.get(&view, &number).unwrap().unwrap().len()
    }

    fn scan(&self, first: u64, count: usize) -> usize {
        let view = self.env.read_txn().unwrap();
        let range = self
            .headers
            .range(&view, &(first..first + count as u64))
            .unwrap();
        range.map(|pair| black_box(pair.unwrap().1).len()).sum()
    }

    fn response(&self, first: u64, count: usize, out: &mut Vec<u8>) {
        let view = self.env.read_txn().unwrap();
        let range = self
            .bodies
            .range(&view, &(first..first + count as u64))
            .unwrap();
        let kept: Vec<&[u8]> = range.map(|pair| pair.unwrap().1).collect();
        respond(&kept, self.streams, out);
    }
}

fn open(engine: &str, dir: &Path, genesis: &Block) -> Box<dyn Engine> {
    let streams = engine.ends_with("streams");
    match engine {
        "cairn" => {
            let dir = dir.join("store");
            let writer = Writer::open(&dir)
                .or_else(|_| Writer::create(&dir, &genesis.genesis()))
                .unwrap();
            Box::new(Cairn {
                reader: writer.reader(),
                writer: Some(writer),
            })
        }
        _ if engine.starts_with("redb") => Box::new(Redb {
            db: redb::Database::builder().create(dir.join("redb")).unwrap(),
            streams,
        }),
        _ => Box::new(Lmdb::open(dir, streams)),
    }
}

fn measure(engine: &str, dir: &Path) {
    let count = number("CAIRN_BENCH_BLOCKS", 4000);
    let size = number("CAIRN_BENCH_BODY_BYTES", 60_000);
    let batch = (96 << 20) / size;
    let mut peak = 0;
    let genesis = common::block(None, 0, 0);
    let mut store = open(engine, dir, &genesis);
    let mut last = genesis.clone();
    // Bodies are made as they are needed, and not kept: only what the store holds counts.
    let mut known = Vec::new();
    let mut next = |count: usize| {
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            let block = common::block(Some(&last), 0, size);
            last = Block {
                body: Vec::new(),
                ..block.clone()
            };
            known.push(last.clone());
            blocks.push(block);
        }
        blocks
    };
    let (mut raw, mut single, mut batched, mut in_batches) = (0, Duration::ZERO, Duration::ZERO, 0);
    let mut busy = 0;
    let written_before = written();
    let blocks = next(SINGLE);
    for block in &blocks {
        raw += block.header.len() + block.body.len();
        let start = Instant::now();
        store.append(std::slice::from_ref(block));
        single += start.elapsed();
    }
    let mut left = count - SINGLE;
    while left > 0 {
        let blocks = next(left.min(BATCH).min(batch.max(1)));
        left -= blocks.len();
        let bytes: usize = blocks
            .iter()
            .map(|block| block.header.len() + block.body.len())
            .sum();
        raw += bytes;
        in_batches += bytes;
        let (start, busy_before) = (Instant::now(), cpu_ms());
        store.append(&blocks);
        batched += start.elapsed();
        busy += cpu_ms() - busy_before;
    }
    let written = written() - written_before;
    drop(store);
    let start = Instant::now();
    let store = open(engine, dir, &genesis);
    let first = store.header(1);
    let opening = start.elapsed();
    black_box(first);
    let count = count as u64;
    let mut random = Random(5);
    let per = |elapsed: Duration, n: u32| elapsed.as_secs_f64() * 1e6 / f64::from(n);
    for n in 1..count {
        black_box(store.header(n));
    }
    black_box(store.by_hash(&known[0]));
    let time = |n: u32, what: &mut dyn FnMut()| {
        what();
        let start = Instant::now();
        for _ in 0..n {
            what();
        }
        per(start.elapsed(), n)
    };
    let by_number = time(50_000, &mut || {
        black_box(store.header(1 + random.below(count - 1)));
    });
    let by_hash = time(50_000, &mut || {
        black_box(store.by_hash(&known[random.below(count - 1) as usize]));
    });
    let row = HEADERS_IN_A_ROW as u64;
    let scan = time(5_000, &mut || {
        black_box(store.scan(1 + random.below(count - row), HEADERS_IN_A_ROW));
    });
    let bodies = (RESPONSE_BYTES / size).clamp(1, 1024);
    let mut out = Vec::with_capacity(2 * RESPONSE_BYTES);
    let responses = 300;
    let response = time(responses, &mut || {
        out.clear();
        store.response(1 + random.below(count - bodies as u64), bodies, &mut out);
        black_box(&out);
    });
    peak = peak.max(anon_kib());
    let disk = size_of(dir);
    let rate = |bytes: usize, elapsed: Duration| bytes as f64 / 1e6 / elapsed.as_secs_f64();
    println!(
        "append, one commit a block, ms\t{:.2}",
        single.as_secs_f64() * 1e3 / SINGLE as f64
    );
    println!(
        "append in batches, MB/s of raw bytes\t{:.0}",
        rate(in_batches, batched)
    );
    let hundreds = in_batches as f64 / 1e8;
    println!(
        "append in batches, CPU ms for 100 MB\t{:.0}",
        busy as f64 / hundreds
    );
    println!("header by number, us\t{by_number:.2}");
    println!("header by hash, us\t{by_hash:.2}");
    println!("{HEADERS_IN_A_ROW} headers in a row, us\t{scan:.1}");
    println!("{bodies} bodies ready to encrypt, us\t{response:.0}");
    println!(
        "opening and a first read, ms\t{:.2}",
        opening.as_secs_f64() * 1e3
    );
    println!(
        "size on disk, of the raw bytes\t{:.3}",
        disk as f64 / raw as f64
    );
    println!(
        "bytes written, of the raw bytes\t{:.2}",
        written as f64 / raw as f64
    );
    println!("RssAnon in the end, MiB\t{:.1}", peak as f64 / 1024.0);
}

fn size_of(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let data = entry.metadata().unwrap();
        sum += if data.is_dir() {
            size_of(&entry.path())
        } else {
            512 * data.blocks()
        };
    }
    sum
}

/// Bytes this process had written to the disk.
fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("write_bytes"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Time this process has been on a CPU, in the kernel too.
fn cpu_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks = |i: usize| fields[i].parse::<u64>().unwrap();
    10 * (ticks(11) + ticks(12)) // hundredths of a second on Linux
}

fn anon_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("RssAnon"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
