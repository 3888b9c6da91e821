//! The store beside redb and LMDB (heed): the same blocks, the same durability, in turns, each in a process of its own.
//! `cargo bench -p cairn-store` prints the tables of the README.
//!
//! `CAIRN_DATA` names the folder of real blocks, `CAIRN_BENCH_DIR` a folder on a real disk; `CAIRN_BENCH_MIB` (blocks
//! appended in small batches, 128), `CAIRN_BENCH_BLOCKS` (of the long chain, 1,000,000) and `CAIRN_BENCH_ROUNDS` (3)
//! change how much is measured.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../../tests/common/mod.rs"]
mod common;
mod engines;
mod long;
mod machine;
mod measure;
mod sets;

use engines::ENGINES;

/// A figure as a child process prints it, a line each: what it is, its decimals, its value.
fn row(what: &str, decimals: usize, value: f64) {
    println!("{what}\t{decimals}\t{value}");
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let arg = |i: usize| args.get(i).map_or("", String::as_str);
    match arg(1) {
        "measure" => return measure::run(arg(2), arg(3), Path::new(arg(4))),
        "make" => return long::make(arg(2), Path::new(arg(3)), arg(4).parse().unwrap()),
        "open" => return long::open(arg(2), Path::new(arg(3))),
        _ => {} // cargo's own arguments
    }
    let root = std::env::var_os("CAIRN_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let rounds = number("CAIRN_BENCH_ROUNDS", 3);
    for set in ["generated", "real"] {
        let Some(blocks) = sets::Set::of(set) else {
            println!("{set} blocks: skipped, CAIRN_DATA names no folder with them\n");
            continue;
        };
        println!("{} Median of {rounds} rounds.\n", blocks.what);
        drop(blocks);
        let mut columns = vec![Column::default(); ENGINES.len()];
        for _ in 0..rounds {
            for (engine, column) in ENGINES.iter().zip(&mut columns) {
                let dir = tempfile::tempdir_in(&root).unwrap();
                column.add(&child(&["measure", engine, set], dir.path()));
            }
        }
        table(&ENGINES, &columns);
    }
    let blocks = number("CAIRN_BENCH_BLOCKS", 1_000_000);
    println!("Opened by a new process: {blocks} blocks with empty bodies. Median of 5.\n");
    let engines = ["cairn", "redb", "LMDB"];
    let mut columns = vec![Column::default(); engines.len()];
    for (engine, column) in engines.iter().zip(&mut columns) {
        for (blocks, opened) in [(1000, 5), (blocks, 5)] {
            let dir = tempfile::tempdir_in(&root).unwrap();
            let count = blocks.to_string();
            let made = child_with(&["make", engine], dir.path(), &count);
            for _ in 0..opened {
                column.add_all(&made, &child(&["open", engine], dir.path()), blocks);
            }
        }
    }
    table(&engines, &columns);
}

fn child(args: &[&str], dir: &Path) -> String {
    child_with(args, dir, "")
}

/// What this program says when it is run again with these arguments.
fn child_with(args: &[&str], dir: &Path, last: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(args).arg(dir).arg(last).output().unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The figures of one engine: of each row its decimals and the values seen.
#[derive(Default, Clone)]
struct Column(Vec<(String, usize, Vec<f64>)>);

impl Column {
    fn add(&mut self, text: &str) {
        for line in text.lines() {
            let mut parts = line.split('\t');
            let mut next = || parts.next().unwrap();
            let (what, decimals, value) = (next(), next(), next());
            self.push(what, decimals.parse().unwrap(), value.parse().unwrap());
        }
    }

    /// What making and opening a chain of so many blocks said.
    fn add_all(&mut self, made: &str, opened: &str, blocks: usize) {
        let named = |text: &str| {
            text.lines()
                .map(|line| format!("{blocks} blocks: {line}\n"))
                .collect::<String>()
        };
        self.add(&named(opened));
        self.add(&named(made));
    }

    fn push(&mut self, what: &str, decimals: usize, value: f64) {
        match self.0.iter_mut().find(|row| row.0 == what) {
            Some(row) => row.2.push(value),
            None => self.0.push((what.to_owned(), decimals, vec![value])),
        }
    }

    fn median(&self, row: usize) -> String {
        let (_, decimals, values) = &self.0[row];
        let mut values = values.clone();
        values.sort_by(f64::total_cmp);
        format!("{:.decimals$}", values[values.len() / 2])
    }
}

fn table(engines: &[&str], columns: &[Column]) {
    println!("| | {} |", engines.join(" | "));
    println!("| --- |{}", " ---: |".repeat(engines.len()));
    for (row, (what, ..)) in columns[0].0.iter().enumerate() {
        let cells: Vec<String> = columns.iter().map(|column| column.median(row)).collect();
        println!("| {what} | {} |", cells.join(" | "));
    }
    println!();
}
