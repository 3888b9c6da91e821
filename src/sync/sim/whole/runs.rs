//! The runs: every seed ends in the right head, and the same seed is the same run.

use std::path::PathBuf;

use tempfile::TempDir;

use super::scenario::Scenario;
use super::world::{Outcome, World};
use crate::sync::sim::{Hint, one_seed, seeds};

/// Where the stores are: in memory where that is to be had.
fn folder() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.unwrap()
}

fn run(seed: u64, shown: bool) -> Outcome {
    let _hint = Hint(seed, "sim::whole");
    let folder = folder();
    let scenario = Scenario::draw(seed);
    if shown {
        println!("{scenario}");
    }
    let bound_ms = scenario.bound_ms();
    World::new(scenario, folder.path(), shown).run(bound_ms)
}

#[test]
fn whatever_goes_wrong_the_node_ends_in_the_right_head() {
    if let Some(seed) = one_seed() {
        let outcome = run(seed, true);
        println!(
            "seed {seed}: {} ms after the quiet, {} allowed",
            outcome.took_ms, outcome.bound_ms
        );
        return;
    }
    let count = seeds(2_000);
    let (mut slowest, mut sums) = ((0.0, 0, 0, 0), [0usize; 9]);
    for seed in 0..count {
        let Outcome {
            took_ms,
            bound_ms,
            watch,
            ..
        } = run(seed, false);
        let part = took_ms as f64 / bound_ms as f64;
        if part > slowest.0 {
            slowest = (part, seed, took_ms, bound_ms);
        }
        let counts = [
            watch.restarts - 1,
            watch.deaths[0],
            watch.deaths[1],
            watch.deaths[2],
            watch.commits,
            watch.reorgs,
            watch.punished,
            watch.stalls,
            watch.blocks_stored,
        ];
        sums.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
    }
    let (part, seed, took_ms, bound_ms) = slowest;
    let [
        restarts,
        kills,
        full,
        failed,
        commits,
        reorgs,
        punished,
        stalls,
        blocks,
    ] = sums;
    println!(
        "{count} seeds: {restarts} restarts ({kills} kills, {full} full disks, {failed} failed ones), {commits} commits of {blocks} \
         blocks, {reorgs} reorganisations, {punished} peers punished, {stalls} times no room for events"
    );
    println!(
        "the slowest is seed {seed}: {took_ms} of {bound_ms} ms ({:.0} %)",
        part * 100.0
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    let traces: Vec<u64> = (0..30).map(|seed| run(seed, false).trace).collect();
    for (seed, trace) in (0..).zip(&traces) {
        assert_eq!(run(seed, false).trace, *trace, "seed {seed}");
    }
    let mut different = traces.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), traces.len(), "other seeds are other runs");
}
