//! What catching up costs, beside what receiving and checking the same blocks costs at the least: `cargo bench --bench sync`.
//!
//! Real nodes as processes on loopback; the ceilings run in this one, in turn with them. The chains are made once, and kept with
//! the build: two minutes for a GB of blocks, two for a million headers. `CAIRN_BENCH_BLOCKS` (20,000) and `CAIRN_BENCH_HEADERS`
//! (1,000,000) make them shorter, `CAIRN_BENCH_SEALED` (100) says how many blocks are sealed live, `CAIRN_BENCH_ROUNDS` (3) how
//! often most rates are measured, and `CAIRN_BENCH_ONLY` names one part. Real blocks are those of `CAIRN_DATA`.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod ceiling;
mod chains;
mod live;
#[allow(dead_code)] // of the store's benchmark, which needs more of it
#[path = "../../store/benches/beside/machine.rs"]
mod machine;
mod node;
mod one_peer;
#[path = "../../tests/common/mod.rs"]
mod program;
mod relay;
mod several;
#[path = "../wire/table.rs"]
mod table;

use std::path::{Path, PathBuf};

use table::Table;

/// What a part is given.
pub(crate) struct Bench {
    /// Where chains are kept from run to run.
    pub(crate) root: PathBuf,
    pub(crate) rounds: usize,
    pub(crate) blocks: u64,
    pub(crate) headers: u64,
    pub(crate) sealed: usize,
    pub(crate) table: Table,
    /// The most memory of its own that a follower had, in MiB, by what it did.
    pub(crate) peaks: Vec<(String, f64)>,
}

impl Bench {
    /// Keeps the most memory seen at this.
    pub(crate) fn peak(&mut self, what: &str, mib: f64) {
        match self.peaks.iter_mut().find(|(known, _)| known == what) {
            Some((_, peak)) => *peak = peak.max(mib),
            None => self.peaks.push((what.into(), mib)),
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn main() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sync");
    std::fs::create_dir_all(&root).unwrap();
    let only = std::env::var("CAIRN_BENCH_ONLY").unwrap_or_default();
    let mut bench = Bench {
        root,
        rounds: number("CAIRN_BENCH_ROUNDS", 3) as usize,
        blocks: number("CAIRN_BENCH_BLOCKS", 20_000),
        headers: number("CAIRN_BENCH_HEADERS", 1_000_000),
        sealed: number("CAIRN_BENCH_SEALED", 100) as usize,
        table: Table::default(),
        peaks: Vec::new(),
    };
    type Part = fn(&mut Bench);
    let all: [(&str, Part); 5] = [
        ("full", one_peer::full),
        ("mainnet", one_peer::mainnet),
        ("headers", one_peer::headers),
        ("several", several::several),
        ("live", live::live),
    ];
    for (name, part) in all {
        if only.is_empty() || only == name {
            part(&mut bench);
        }
    }
    memory(&mut bench);
    println!("Medians of {} rounds.\n\n{}", bench.rounds, bench.table);
}

fn memory(bench: &mut Bench) {
    for (what, mib) in &bench.peaks {
        let mut samples = table::Samples::new();
        samples.push(*mib);
        let what = format!("peak RssAnon of the full node, {what}, MiB");
        bench.table.row(&what, &samples, None, "48");
    }
}
