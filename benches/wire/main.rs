//! What serving costs in CPU time, beside what the primitives under it cost in the same run: `cargo bench --bench wire`.
//!
//! The node's own serving code runs on a net thread over loopback sockets, with a store on the disk, in a process of its own;
//! the ceilings run in another. This process is the peer. Bodies and headers are generated. `CAIRN_BENCH_ROUNDS` says how
//! often each is measured in turns with its ceiling (15), `CAIRN_BENCH_ONLY` names one part.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod ceiling;
mod chain;
mod client;
mod curve;
#[allow(dead_code)] // of the store's benchmark, which needs more of it
#[path = "../../store/benches/beside/machine.rs"]
mod machine;
mod parts;
mod server;
#[allow(dead_code)] // the benchmark of sync has rates, too
mod table;

use std::path::{Path, PathBuf};

use table::Table;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let arg = |i: usize| args.get(i).map_or("", String::as_str);
    match arg(1) {
        "serve" => return server::run(arg(2), Path::new(arg(3))),
        "ceiling" => return ceiling::run(Path::new(arg(2))),
        _ => {} // cargo's own arguments
    }
    let root = std::env::var_os("CAIRN_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let rounds = std::env::var("CAIRN_BENCH_ROUNDS").map_or(15, |text| text.parse().unwrap());
    let only = std::env::var("CAIRN_BENCH_ONLY").unwrap_or_default();
    server::raise_descriptors();
    let dir = tempfile::tempdir_in(&root).unwrap();
    let chain = chain::make(dir.path());
    let mut table = Table::default();
    type Part = fn(&Path, &chain::Chain, usize, &mut Table);
    let all: [(&str, Part); 7] = [
        ("bodies", parts::bodies),
        ("several", parts::several),
        ("headers", parts::headers),
        ("single", parts::single_headers),
        ("handshakes", parts::handshakes),
        ("idle", parts::idle),
        ("flight", parts::in_flight),
    ];
    for (name, part) in all {
        if only.is_empty() || only == name {
            part(dir.path(), &chain, rounds, &mut table);
        }
    }
    println!("CPU time, medians of {rounds} rounds in turns with their ceilings.\n\n{table}");
}
