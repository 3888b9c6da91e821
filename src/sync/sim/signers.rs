//! The runs of networks of signers: whatever is done to a minority, blocks go on; whatever is done to all, they go on again.

use super::network::{Disks, Network, Watch};
use super::{Dice, Hint, one_seed, seeds};

/// As many as may be missing: the others are a majority, and the recents rule lets them go on.
fn tolerated(signers: usize) -> usize {
    signers - (signers / 2 + 1)
}

/// Some of the first `count` nodes, no more than `most`.
fn some(dice: &mut Dice, count: usize, most: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..count).collect();
    let wanted = usize::try_from(dice.below(most as u64 + 1)).unwrap();
    let mut chosen = Vec::new();
    while chosen.len() < wanted {
        let at = usize::try_from(dice.below(all.len() as u64)).unwrap();
        chosen.push(all.remove(at));
    }
    chosen
}

/// Up to so long; once in four times up to four times that, in which a network that stands still is found out.
fn some_time(dice: &mut Dice, most_ms: u64) -> u64 {
    let times = if dice.once_in(4) { 4 } else { 1 };
    dice.below(most_ms * times)
}

/// One thing that goes wrong, for some time.
fn trouble(network: &mut Network, watch: &mut Watch, dice: &mut Dice, signers: usize) {
    let count = network.nodes.len();
    match dice.below(6) {
        // Some are killed, and come back one after the other.
        0 | 1 => {
            let most = if dice.once_in(2) {
                tolerated(signers)
            } else {
                count
            };
            let killed = some(dice, count, most);
            for &node in &killed {
                network.kill(node);
                watch.pass(network, dice.below(3_000));
            }
            watch.pass(network, some_time(dice, 30_000));
            for node in killed {
                network.start(node);
                watch.pass(network, dice.below(5_000));
            }
        }
        // The network falls apart.
        2 | 3 => {
            let parts = 2 + dice.below(2);
            let part = |_| usize::try_from(dice.below(parts)).unwrap();
            let part = (0..count).map(part).collect();
            network.part(part);
            watch.pass(network, some_time(dice, 40_000));
            network.part(vec![0; count]);
            watch.pass(network, dice.below(20_000));
        }
        // Whoever signs may die of it.
        4 => {
            network.killed_signing = Some(2 + dice.below(10));
            watch.pass(network, dice.below(20_000));
            network.killed_signing = None;
            for node in 0..count {
                network.start(node);
            }
        }
        // All are gone at once, for a while.
        _ => {
            (0..count).for_each(|node| network.kill(node));
            watch.pass(network, dice.below(600_000));
            for node in 0..count {
                network.start(node);
                watch.pass(network, dice.below(2_000));
            }
        }
    }
}

/// Sets the clocks of some wrong, of so few that with those who were wrong a moment ago they are no more than may be missing, and the others'
/// right.
fn skew(network: &mut Network, dice: &mut Dice, signers: usize) {
    for node in 0..signers {
        network.skew(node, 0);
    }
    let wrong = (0..signers).filter(|node| !network.is_right(*node)).count();
    let most = tolerated(signers).saturating_sub(wrong);
    for node in some(dice, signers, most) {
        let most_ms = if dice.once_in(2) { 3_000 } else { 120_000 };
        network.skew(node, dice.below(2 * most_ms) as i64 - most_ms as i64);
    }
}

#[test]
fn a_network_goes_on_after_every_pattern_of_restarts_partitions_and_clocks() {
    // 1559: of a node whose clock is behind, a branch went the way of our chain again and again, and its peer was blamed.
    let known = [1559].into_iter().filter(|_| one_seed().is_none());
    let seeds = one_seed().map_or(0..seeds(1_000), |seed| seed..seed + 1);
    for seed in seeds.chain(known) {
        run(seed);
    }
}

fn run(seed: u64) {
    let _hint = Hint(seed, "sim::signers");
    let mut dice = Dice::new(seed ^ 0x51_67);
    let signers = [3, 4, 5, 7][usize::try_from(seed % 4).unwrap()];
    let others = usize::try_from(dice.below(3)).unwrap();
    let eth = if dice.once_in(2) { 68 } else { 69 };
    let period_s = 1 + dice.below(3);
    let mut network = Network::new(seed, signers, others, eth, period_s);
    // Half a minute in which claims that nothing comes of may hold a signer up, and then a turn or two that are missed.
    let mut watch = Watch::new(signers, 45_000 + 4_000 * period_s);
    if dice.once_in(2) {
        network.disks = Disks {
            commit_ms: dice.below(500),
            sign_ms: dice.below(200),
        };
    }
    for node in 0..network.nodes.len() {
        network.start(node);
    }
    for _ in 0..1 + dice.below(4) {
        if dice.once_in(2) {
            skew(&mut network, &mut dice, signers);
        }
        watch.pass(&mut network, 10_000);
        trouble(&mut network, &mut watch, &mut dice, signers);
    }
    let start = (network.now_ms, network.top());
    // Half a minute in which claims that nothing comes of may hold a signer up, and then some turns.
    let bound_ms = 45_000 + 4_000 * signers as u64 * period_s;
    watch.pass(&mut network, bound_ms);
    let got_on = network.top() - start.1;
    assert!(
        got_on >= 2 * signers as u64,
        "seed {seed}: {got_on} blocks in {bound_ms} ms after {} ms, signers {signers} period {period_s} eth {eth}{}",
        start.0,
        network.state()
    );
    assert!(network.agree(signers), "seed {seed}: {}", network.state());
    assert!(
        network.punished.is_empty(),
        "seed {seed}: {:?}",
        network.punished
    );
}
