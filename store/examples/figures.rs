//! Figures of the store on this machine: batch append, live append, reading, opening. Run with `--release`.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use cairn_store::{NewBlock, Reader, Writer};
use common::{Block, Random, chain, extend};

/// CPU seconds of this process, user and system.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// Opens the store in `dir`, asks once by number and once by hash, and says what that cost.
fn open(dir: &std::path::Path) {
    let start = Instant::now();
    let reader = Reader::open(dir).unwrap();
    let opened = start.elapsed();
    let snapshot = reader.snapshot();
    let head = snapshot.head();
    let hash = snapshot.hash(head.number / 2).unwrap().unwrap();
    assert_eq!(snapshot.number(&hash).unwrap(), Some(head.number / 2));
    assert_eq!(snapshot.number(&head.hash).unwrap(), Some(head.number));
    assert_eq!(snapshot.number(&Default::default()).unwrap(), None);
    println!(
        "{} blocks: open {opened:?}, with the first look-ups {:?}",
        head.number,
        start.elapsed()
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status
        .lines()
        .filter(|line| line.contains("Rss"))
        .for_each(|line| println!("{line}"));
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("open") {
        return open(std::env::args().nth(2).unwrap().as_ref());
    }
    if std::env::args().nth(1).as_deref() == Some("make") {
        // A store of many empty blocks, to be opened: made a part at a time.
        let count: u64 = std::env::args().nth(3).unwrap().parse().unwrap();
        let mut blocks = chain(0, 0);
        let mut writer = common::create(std::env::args().nth(2).unwrap().as_ref(), &blocks);
        while writer.head().number < count {
            blocks.drain(..blocks.len() - 1);
            extend(&mut blocks, 10_000.min(count - writer.head().number), 0, 0);
            common::commit(&mut writer, &blocks[1..]).unwrap();
        }
        return;
    }
    let base = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(base).unwrap();
    let mut blocks = chain(1, 0);
    let rounds = 12;
    extend(&mut blocks, 500, 0, 100_000);
    let mut writer = common::create(dir.path(), &blocks);
    // The same 500 bodies under rising headers: making blocks is not what is measured.
    let mut parent = blocks[500].clone();
    let first = &blocks[1..=500];
    let start = Instant::now();
    let mut bytes = 0;
    let (mut took, mut cpu) = (0.0, 0.0);
    for round in 0..rounds {
        let part: Vec<Block> = if round == 0 {
            first.to_vec()
        } else {
            let mut part = Vec::new();
            for body in first.iter().map(|block| &block.body) {
                let mut block = common::block(Some(&parent), round, 0);
                block.body.clone_from(body);
                parent = block.clone();
                part.push(block);
            }
            part
        };
        let new: Vec<NewBlock<'_>> = part.iter().map(Block::new_block).collect();
        let (one, one_cpu) = (Instant::now(), cpu_s());
        writer.commit(&new, part[499].hash).unwrap();
        took += one.elapsed().as_secs_f64();
        cpu += cpu_s() - one_cpu;
        bytes += part
            .iter()
            .map(|block| block.body.len() + block.header.len())
            .sum::<usize>();
    }
    println!(
        "batch append: {:.0} blocks/s, {:.0} MB/s of raw bodies ({:.2} CPU s a GB; {:.2} s with making blocks)",
        f64::from(rounds as u32) * 500.0 / took,
        bytes as f64 / took / 1e6,
        cpu / (bytes as f64 / 1e9),
        start.elapsed().as_secs_f64()
    );
    let snapshot = writer.reader().snapshot();
    let head = snapshot.head().number;
    let mut random = Random(1);
    let start = Instant::now();
    let mut sum = 0;
    for _ in 0..20_000 {
        sum += snapshot
            .body_stream(1 + random.below(head))
            .unwrap()
            .unwrap()
            .stream
            .len();
    }
    let took = start.elapsed().as_secs_f64();
    println!(
        "body streams, random: {:.2} us each, {:.1} GB/s kept",
        took / 20_000.0 * 1e6,
        sum as f64 / took / 1e9
    );
    let start = Instant::now();
    let mut sum = 0;
    for i in 0..2000 {
        snapshot
            .headers(1 + i * 2, 192, &mut |slice| sum += slice.len())
            .unwrap();
    }
    let took = start.elapsed().as_secs_f64();
    println!(
        "192 headers: {:.1} us, {:.1} GB/s",
        took / 2000.0 * 1e6,
        sum as f64 / took / 1e9
    );
    let hashes: Vec<_> = (1..head)
        .map(|n| snapshot.hash(n).unwrap().unwrap())
        .collect();
    snapshot.number(&hashes[0]).unwrap();
    let start = Instant::now();
    for hash in &hashes {
        assert!(snapshot.number(hash).unwrap().is_some());
    }
    println!(
        "by hash: {:.2} us",
        start.elapsed().as_secs_f64() / hashes.len() as f64 * 1e6
    );
    let start = Instant::now();
    for _ in 0..200 {
        let mut block = common::block(Some(&parent), 99, 0);
        block.body.clone_from(&first[1].body);
        writer.commit(&[block.new_block()], block.hash).unwrap();
        parent = block;
    }
    println!(
        "live append of 100 kB: {:.2} ms a block",
        start.elapsed().as_secs_f64() / 200.0 * 1e3
    );
    let start = Instant::now();
    for _ in 0..200 {
        let block = common::block(Some(&parent), 98, 0);
        writer.commit(&[block.new_block()], block.hash).unwrap();
        parent = block;
    }
    println!(
        "live append of empty blocks: {:.2} ms a block",
        start.elapsed().as_secs_f64() / 200.0 * 1e3
    );
    drop(writer);
    let start = Instant::now();
    let reader = Reader::open(dir.path()).unwrap();
    println!("open: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    print!(
        "{}",
        status
            .lines()
            .filter(|line| line.contains("Rss"))
            .map(|line| line.to_owned() + "\n")
            .collect::<String>()
    );
    drop(reader);
    let start = Instant::now();
    Writer::open(dir.path()).unwrap();
    println!(
        "open for writing: {:.2} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    let start = Instant::now();
    let report = common::verify(dir.path());
    assert!(report.is_sound(), "{report:?}");
    println!(
        "verify: {:.2} s, kept/raw {:.3}",
        start.elapsed().as_secs_f64(),
        report.stored_bytes as f64 / report.raw_bytes as f64
    );
}
