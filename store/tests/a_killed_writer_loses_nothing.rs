//! Promise: a writer killed at any moment leaves a store that opens, verifies and has every block it acknowledged.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cairn_store::{Reader, Writer};
use common::{Block, Random, assert_stored, chain, commit, extend};

/// Kills in a row, on one store.
const KILLS: u64 = 20;

/// Large enough that the writer never finishes before it is killed for good.
fn blocks() -> Vec<Block> {
    let mut blocks = chain(30, 500);
    for _ in 0..6 {
        extend(&mut blocks, 110, 0, 100_000);
        extend(&mut blocks, 40, 0, 2000);
        extend(&mut blocks, 700, 0, 0);
    }
    blocks
}

/// Not a test of its own: the process that is killed. Says each head once its commit has returned.
#[test]
fn child() {
    let Ok(dir) = std::env::var("CAIRN_STORE_WRITER") else {
        return;
    };
    let dir = Path::new(&dir);
    let blocks = blocks();
    let mut writer = Writer::open(dir)
        .or_else(|_| Writer::create(dir, &blocks[0].genesis()))
        .unwrap();
    println!("head {}", writer.head().number);
    let mut random = Random(writer.head().number);
    let mut at = writer.head().number as usize + 1;
    while at < blocks.len() {
        let count = [1, 1, 3, 100, 400][random.below(5) as usize];
        let end = (at + count).min(blocks.len());
        let head = commit(&mut writer, &blocks[at..end]).unwrap();
        println!("head {}", head.number);
        at = end;
    }
}

#[test]
fn twenty_times_in_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let blocks = blocks();
    let mut random = Random(std::process::id().into());
    let mut last = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env("CAIRN_STORE_WRITER", &store)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The moment counts from the first word, so that making the blocks is not what is killed.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        let mut note = |line: String| {
            if let Some(number) = line.split("head ").nth(1) {
                acknowledged = number.trim().parse().unwrap();
                true
            } else {
                false
            }
        };
        while !note(lines.next().unwrap().unwrap()) {}
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            note(line.unwrap());
        }
        let head = Reader::open(&store).unwrap().snapshot().head().number;
        assert!(
            head >= acknowledged && acknowledged >= last,
            "kill {kill}: {head}, {acknowledged} were acknowledged"
        );
        assert_stored(&store, &blocks[..=head as usize]);
        last = head;
        println!("kill {kill}: head {head}, acknowledged {acknowledged}");
    }
    // And it goes on.
    let mut writer = Writer::open(&store).unwrap();
    let from = writer.head().number as usize + 1;
    commit(&mut writer, &blocks[from.min(blocks.len() - 1)..]).unwrap();
    drop(writer);
    assert_stored(&store, &blocks);
}
