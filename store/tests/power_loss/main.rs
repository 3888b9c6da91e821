//! Promise: a power loss at any moment loses nothing that was committed and shows nothing that was not.
//!
//! The store's own files are built here a second time, with tiny eras and on a simulated disk in the place of `file.rs`:
//! it keeps what the cache shows apart from what the disk has. Random histories of every kind of change are cut anywhere;
//! what the disk may have then (any subset of unsynced sectors and names, lengths without data, stale or random bytes in
//! unsynced areas, what a failed sync lost while the cache still shows it) is opened with the real code and checked.
//!
//! `CAIRN_HISTORIES=20000` runs so many, `CAIRN_FIRST=1000000` from that seed on, `CAIRN_SEED=17` one again.
#![allow(
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications
)]

#[path = "../../src/append.rs"]
mod append;
#[path = "../../src/block.rs"]
mod block;
#[path = "../../src/change.rs"]
mod change;
#[path = "../../src/check.rs"]
mod check;
#[path = "../../src/cold.rs"]
mod cold;
#[path = "../../src/error.rs"]
mod error;
#[path = "disk.rs"]
mod file;
#[path = "../../src/format.rs"]
mod format;
#[path = "../../src/frame.rs"]
mod frame;
#[path = "../../src/join.rs"]
mod join;
#[path = "../../src/manifest.rs"]
mod manifest;
#[path = "../../src/mapped.rs"]
mod mapped;
#[path = "../../src/merge.rs"]
mod merge;
#[path = "../../src/pack.rs"]
mod pack;
#[path = "../../src/plan.rs"]
mod plan;
#[path = "../../src/reader.rs"]
mod reader;
#[path = "../../src/record.rs"]
mod record;
#[path = "../../src/repair.rs"]
mod repair;
#[path = "../../src/replace.rs"]
mod replace;
#[path = "../../src/rlp.rs"]
mod rlp;
#[path = "../../src/runs.rs"]
mod runs;
mod scale;
#[path = "../../src/segment.rs"]
mod segment;
#[path = "../../src/session.rs"]
mod session;
#[path = "../../src/settle.rs"]
mod settle;
#[path = "../../src/snappy.rs"]
mod snappy;
#[path = "../../src/snapshot.rs"]
mod snapshot;
#[path = "../../src/tip.rs"]
mod tip;
#[path = "../../src/tiplog.rs"]
mod tiplog;
#[path = "../../src/writer.rs"]
mod writer;

mod changes;
mod damage;
mod history;
mod machine;
mod model;
mod random;
mod wrong;

use block::{Genesis, Head, NewBlock, NewBody, NewReceipts};
use error::Error;
use history::Counts;
use reader::Reader;
use snapshot::Snapshot;
use writer::Writer;
use wrong::Wrong;

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: not a number"))
    })
}

/// Runs one history; what went wrong, if something did.
fn run(seed: u64, wrong: Option<Wrong>, counts: &mut Counts) -> Result<(), String> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        history::run(seed, wrong, counts)
    }));
    result.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

#[test]
fn nothing_is_lost_in_any_history() {
    let mut counts = Counts::default();
    if let Some(seed) = number_of("CAIRN_SEED") {
        history::set_loud();
        run(seed, None, &mut counts).unwrap();
        return;
    }
    let first = number_of("CAIRN_FIRST").unwrap_or(0);
    let histories = number_of("CAIRN_HISTORIES").unwrap_or(1000);
    let start = std::time::Instant::now();
    for seed in first..first + histories {
        if let Err(what) = run(seed, None, &mut counts) {
            panic!("history {seed}: {what}\nCAIRN_SEED={seed} runs it again");
        }
    }
    println!("{histories} histories in {:?}: {counts:?}", start.elapsed());
}

/// The tests of the test: each of these orders of writes is wrong, and is found.
#[test]
fn every_wrong_order_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let histories = number_of("CAIRN_WRONG_HISTORIES").unwrap_or(20_000);
    let mut missed = Vec::new();
    for wrong in Wrong::ALL {
        let mut counts = Counts::default();
        let found = (0..histories).find_map(|seed| {
            let what = run(seed, Some(wrong), &mut counts).err()?;
            Some((seed, what))
        });
        match found {
            Some((seed, what)) => {
                let what = what.lines().next().unwrap_or_default().to_owned();
                println!("{wrong:?}: found in history {seed}: {what}");
            }
            None => missed.push(wrong),
        }
    }
    let _ = std::panic::take_hook();
    assert!(
        missed.is_empty(),
        "not found in {histories} histories: {missed:?}"
    );
}
