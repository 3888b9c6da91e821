//! What a validator costs that has nothing to do but to seal: CPU time and memory of its own, after a short chain and after a long one.
//!
//! The figures: `cargo test --release -p cairn --test idle -- --ignored --nocapture`, some three minutes; `CAIRN_IDLE_S` asks for another
//! time to look at each than 60 seconds.
#![allow(clippy::unwrap_used)]
mod common;

use std::time::{Duration, Instant};

use cairn::generate::Params;
use common::*;

#[test]
#[ignore = "it measures, for minutes"]
fn what_an_idle_validator_costs() {
    let look_s = std::env::var("CAIRN_IDLE_S").map_or(60, |s| s.parse().unwrap());
    for blocks in [1_000, 100_000] {
        let dir = tempfile::tempdir().unwrap();
        let params = Params {
            blocks,
            txs_per_block: 0,
            ..Params::default()
        };
        let chain = chain_file(dir.path(), &params);
        let data = dir.path().join("d");
        run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
        run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
        let sealing = [&SEALING[..4], &["2000"]].concat();
        let mut node = Node::start(&data, &sealing);
        node.wait_head(blocks + 3);
        let (before, from, begin) = (Used::of(node.child.id()), node.head(), Instant::now());
        std::thread::sleep(Duration::from_secs(look_s));
        let (after, took) = (Used::of(node.child.id()), begin.elapsed());
        let sealed = node.head() - from;
        node.stop();
        let spent_ms = (after.user_ms + after.system_ms) - (before.user_ms + before.system_ms);
        println!(
            "{blocks} blocks, then one every 2 s: {spent_ms} ms of CPU in {took:.1?}, {:.3} % of a core; RssAnon {} KiB; sealed {sealed}",
            spent_ms as f64 / took.as_millis() as f64 * 100.0,
            after.anonymous_kib
        );
        assert!(sealed > 0, "it did not seal");
    }
}
