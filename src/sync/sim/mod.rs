//! A deterministic simulation of the machine among honest and lying peers: virtual time, and every run from a seed.
//!
//! `runs`, `live`, `branches`, `hindered`, `targets`, `falling`, `receipts`, `merge` and `behind` have the machine alone, with messages in place of sessions and
//! a list in place of the store: quick, and close to what is looked at. `signers` has whole networks of sync machines and sealers, each with
//! a clock of its own, that are cut apart and killed (`network`); `quiet` counts the turns that they miss when nothing is done to them.
//! `whole/` has everything but sockets and threads, and says what it covers and what it cannot.
#![allow(clippy::unwrap_used)]

mod behind;
mod branches;
mod chain;
mod falling;
mod hindered;
mod liars;
mod live;
mod merge;
mod network;
mod peer;
mod quiet;
mod receipts;
mod runs;
mod signers;
mod staged;
mod targets;
mod view;
mod whole;
mod world;

/// How many seeds a test runs: `few`, or more with `CAIRN_SIM_SEEDS=10000 cargo test --release -p cairn --lib sync::sim`.
fn seeds(few: u64) -> u64 {
    std::env::var("CAIRN_SIM_SEEDS").map_or(few, |seeds| seeds.parse().unwrap())
}

/// The one seed that is to be run, and shown, if `CAIRN_SIM_SEED` names one.
fn one_seed() -> Option<u64> {
    let seed = std::env::var("CAIRN_SIM_SEED").ok()?;
    Some(seed.parse().unwrap())
}

/// Tells, if the run of this seed fails, how to have it again: by the name of its tests.
struct Hint(u64, &'static str);

impl Drop for Hint {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "that was seed {0}: CAIRN_SIM_SEED={0} cargo test -p cairn --lib {1} -- --nocapture",
                self.0, self.1
            );
        }
    }
}

/// A small generator of numbers: the whole run follows from its seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// splitmix64.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True once in `n` times.
    pub(super) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
