//! How many turns signers miss that nothing happens to, and why: what clocks, lines and disks that are as usual cost alone.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, U256};

use super::network::{Disks, Network};
use crate::chain::clique::DIFFICULTY_IN_TURN;

/// Blocks of `cargo test`; `CAIRN_SIM_BLOCKS=10000 cargo test --release -p cairn --lib sim::quiet -- --nocapture` has the figure.
const FEW_BLOCKS: u64 = 300;
/// Clocks that NTP keeps are nearer to each other.
const SKEW_MS: u64 = 50;
/// An SSD that is busy: `signed.rs` syncs one file, a commit one frame.
const DISKS: Disks = Disks {
    commit_ms: 30,
    sign_ms: 20,
};

/// Why a turn was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// Its signer sealed one of the blocks before, out of turn, and the rules kept it from sealing this one.
    SignedRecently,
    /// Its signer sealed it, and it is not in the chain.
    Lost,
    /// Its signer did not seal it.
    NotSealed,
}

/// What became of the turns.
#[derive(Debug)]
struct Turns {
    missed: BTreeMap<Cause, u64>,
    /// Blocks that were sealed beside those of the chain.
    beside: usize,
}

/// The blocks of a network from `first` on.
fn turns(network: &Network, signers: usize, first: u64, blocks: u64) -> Turns {
    let chain: Vec<_> = network.chain(0).collect();
    let signer_of = |number: u64| chain[number as usize - 1].signer().unwrap();
    let all: BTreeSet<Address> = network.offered.keys().map(|(signer, _)| *signer).collect();
    let all: Vec<Address> = all.into_iter().collect();
    assert_eq!(all.len(), signers, "each has sealed");
    let mut missed = BTreeMap::new();
    for number in first..first + blocks {
        let header = &chain[number as usize - 1].header;
        if header.difficulty == U256::from(DIFFICULTY_IN_TURN) {
            continue;
        }
        let in_turn = all[(number % signers as u64) as usize];
        let recents = number.saturating_sub(signers as u64 / 2).max(1)..number;
        let sealed = |(by, block): (&(Address, _), &(_, u64))| by.0 == in_turn && block.1 == number;
        let cause = match network.offered.iter().any(sealed) {
            _ if recents.into_iter().any(|n| signer_of(n) == in_turn) => Cause::SignedRecently,
            true => Cause::Lost,
            false => Cause::NotSealed,
        };
        *missed.entry(cause).or_default() += 1;
    }
    let of_chain: BTreeSet<_> = chain.iter().map(|header| header.hash).collect();
    let is_beside = |(hash, number): &&(_, u64)| {
        (first..first + blocks).contains(number) && !of_chain.contains(hash)
    };
    let beside = network.offered.values().filter(is_beside).count();
    Turns { missed, beside }
}

/// A network of five signers and a node that follows, with a block a second, that nothing happens to.
fn quiet(seed: u64, blocks: u64, skew_ms: u64, disks: Disks) -> Turns {
    let (signers, first) = (5, 20);
    let mut network = Network::new(seed, signers, 1, 69, 1);
    network.disks = disks;
    for node in 0..network.nodes.len() {
        let off_ms = network.dice.below(2 * skew_ms + 1);
        network.skew(node, off_ms as i64 - skew_ms as i64);
        network.start(node);
    }
    // Some are dialled only after seconds.
    network.run(20_000);
    let end = first + blocks;
    while network.top() < end + signers as u64 {
        let before = network.top();
        network.run(network.now_ms + 20_000);
        assert!(network.top() > before, "{}", network.state());
    }
    assert!(network.agree(signers), "{}", network.state());
    assert!(network.punished.is_empty(), "{:?}", network.punished);
    turns(&network, signers, first, blocks)
}

#[test]
fn signers_that_nothing_happens_to_miss_no_turn() {
    let blocks = std::env::var("CAIRN_SIM_BLOCKS").map_or(FEW_BLOCKS, |it| it.parse().unwrap());
    let turns = quiet(1, blocks, SKEW_MS, DISKS);
    println!(
        "{} of {blocks} turns missed: {:?}; {} blocks beside those of the chain",
        turns.missed.values().sum::<u64>(),
        turns.missed,
        turns.beside
    );
    assert!(turns.missed.is_empty(), "{turns:?}");
}

#[test]
fn turns_that_are_missed_are_counted() {
    // On disks that take longer than a block does.
    let slow = Disks {
        commit_ms: 3_000,
        sign_ms: 1_000,
    };
    let turns = quiet(1, 60, SKEW_MS, slow);
    println!("{turns:?}");
    assert!(!turns.missed.is_empty(), "{turns:?}");
}

#[test]
fn a_chain_that_goes_on_is_never_said_to_stand_still_and_one_that_does_is_soon() {
    for (seed, signers) in [3, 4, 5, 7].into_iter().enumerate() {
        let period_s = 1 + seed as u64;
        let mut network = Network::new(seed as u64, signers, 1, 69, period_s);
        network.disks = DISKS;
        for node in 0..network.nodes.len() {
            network.start(node);
        }
        network.run(70_000);
        // Those that the others can do without, and then one more.
        let majority = signers / 2 + 1;
        for node in majority..signers {
            network.kill(node);
        }
        let first = network.top();
        for _ in 0..600 {
            network.run(network.now_ms + 1_000);
            for node in (0..majority).chain([signers]) {
                let overdue_s = network.overdue_s(node);
                assert_eq!(overdue_s, None, "{signers} signers: {}", network.state());
            }
        }
        assert!(network.top() > first + 100, "{}", network.state());
        network.kill(0);
        // Those that are left may seal one block each.
        let last_ms = majority as u64 * (period_s * 1_000 + 2_000);
        network.run(network.now_ms + last_ms + (4 * period_s).max(15) * 1_000);
        assert!(network.overdue_s(1).is_some(), "{}", network.state());
        assert!(network.overdue_s(signers).is_some(), "{}", network.state());
    }
}
