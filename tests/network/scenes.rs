//! What happens to the network. Each scene begins and ends with all nodes on one chain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_store::Snapshot;
use rustix::process::Signal;

use super::chain::Chain;
use super::dice::Dice;
use super::fleet::{Cut, Fleet};
use super::relay::Line;
use super::space;

/// What a healed network may take to be on one chain: the longest wait before a lost peer is dialled again (30 s and a
/// quarter), and some blocks; three times that, for a machine with other work.
const HEAL_S: u64 = 120;
/// What the majority may take for a block, on average: out of turn one comes up to a second and a half late.
const SLOWEST_BLOCK_S: u64 = 3;
/// What it may take longer on a machine with other work.
const PATIENCE_S: u64 = 30;

/// Everybody starts; those who have nothing catch up, and all follow.
pub fn start(fleet: &mut Fleet, chain: &Chain) {
    (0..fleet.count()).for_each(|place| fleet.start(place));
    fleet.note("all are started");
    let all: Vec<usize> = (0..fleet.count()).collect();
    let least = chain.last + 3;
    fleet.wait("all have caught up and follow", HEAL_S, |fleet| {
        fleet.agree(&all, least)
    });
}

/// The network is cut in two, in one way or (`None`) each line in its own; where the majority of the signers is it goes on, and
/// healed all follow that chain.
pub fn partition(fleet: &mut Fleet, dice: &mut Dice, how: Option<Cut>, longest_s: usize) {
    let signers: Vec<usize> = (0..fleet.signers).collect();
    let others: Vec<usize> = (fleet.signers..fleet.count()).collect();
    // The fewest that are no majority's hindrance go with some of the others.
    let mut small = dice.some(&signers, (fleet.signers - 1) / 2);
    let count = 2 + dice.below(others.len() / 2);
    small.extend(dice.some(&others, count));
    let large: Vec<usize> = (0..fleet.count())
        .filter(|place| !small.contains(place))
        .collect();
    let crosses = |line: &&Line| small.contains(&line.0) != small.contains(&line.1);
    let lines: Vec<Line> = fleet.lines.iter().filter(crosses).copied().collect();
    let cuts: Vec<(Line, Cut)> = lines
        .into_iter()
        .map(|line| (line, how.unwrap_or_else(|| dice.pick(&Cut::ALL))))
        .collect();
    let count = |kind: Cut| cuts.iter().filter(|(_, how)| *how == kind).count();
    fleet.note(&format!(
        "cut off {small:?}: {} lines reset, {} paused, {} lost",
        count(Cut::Reset),
        count(Cut::Paused),
        count(Cut::Lost)
    ));
    cuts.iter().for_each(|(line, cut)| fleet.cut(*line, *cut));
    let before = fleet.top(&large);
    let apart = dice.between_ms(10_000, longest_s * 1000);
    fleet.pass(apart);
    let least = before + apart.as_secs() / SLOWEST_BLOCK_S;
    fleet.wait("the majority has gone on", PATIENCE_S, |fleet| {
        fleet.top(&large) >= least
    });
    let (large_top, small_top) = (fleet.top(&large), fleet.top(&small));
    fleet.note(&format!(
        "the larger side stands at {large_top}, the smaller at {small_top}"
    ));
    cuts.iter().for_each(|(line, cut)| fleet.join(*line, *cut));
    fleet.wait_all("joined, all are on one chain", HEAL_S, 1);
}

/// Three nodes are killed, a signer among them, and come back.
pub fn kills(fleet: &mut Fleet, dice: &mut Dice) {
    let mut killed = vec![dice.below(fleet.signers)];
    let others: Vec<usize> = (fleet.signers..fleet.count()).collect();
    killed.extend(dice.some(&others, 2));
    fleet.note(&format!("kill {killed:?}"));
    killed.iter().for_each(|place| fleet.kill(*place));
    fleet.wait_all("the others go on", PATIENCE_S, 3);
    fleet.pass(dice.between_ms(0, 3000));
    fleet.note("start them again");
    killed.iter().for_each(|place| fleet.start(*place));
    fleet.wait_all("all are on one chain", HEAL_S, 2);
}

/// The lights go out everywhere, and come back.
pub fn outage(fleet: &mut Fleet, dice: &mut Dice) {
    fleet.note("kill all");
    (0..fleet.count()).for_each(|place| fleet.kill(place));
    fleet.pass(dice.between_ms(0, 5_000));
    (0..fleet.count()).for_each(|place| fleet.start(place));
    fleet.note("all are started");
    fleet.wait_all("all are on one chain", HEAL_S, 2);
}

/// A follower's lines go bad in every way that tells nobody: it follows by what is left.
pub fn bad_lines(fleet: &mut Fleet, dice: &mut Dice) {
    let place = fleet.signers + dice.below(fleet.count() - fleet.signers);
    let lines = fleet.lines_of(place);
    let chosen = dice.some(&lines, 3);
    let (&[slow, late, silent] | &[slow, late, silent, ..]) = &chosen[..] else {
        panic!("node {place} has fewer than three lines: {lines:?}");
    };
    fleet.note(&format!(
        "of node {place} line {slow:?} passes 4 kB/s, {late:?} takes 500 ms, {silent:?} is silent"
    ));
    fleet
        .relay
        .change(slow, |nature| nature.bytes_per_s = 4_000);
    fleet
        .relay
        .change(late, |nature| nature.latency = Duration::from_millis(500));
    fleet.cut(silent, Cut::Paused);
    let end = Instant::now() + Duration::from_secs(14); // more than a request may take
    while Instant::now() < end {
        // Long before the silent one counts as gone.
        fleet.wait_all("all follow", 20, 1);
        fleet.pass(Duration::from_secs(2));
    }
    fleet.mend();
    fleet.wait_all("all are on one chain", HEAL_S, 1);
}

/// A node's wire is pulled: its packets vanish. Back in, it follows again.
pub fn unplugged(fleet: &mut Fleet, dice: &mut Dice, longest_s: usize) {
    let place = dice.below(fleet.count());
    fleet.note(&format!("pull the wire of node {place}"));
    space::plug(place, false);
    fleet.pass(dice.between_ms(2_000, longest_s * 1000));
    space::plug(place, true);
    fleet.note("put it back");
    fleet.wait_all("all are on one chain", HEAL_S, 1);
}

/// A signer and a follower stand still for a while, as a machine does that sleeps, and wake up in a network that went on.
pub fn asleep(fleet: &mut Fleet, dice: &mut Dice, longest_s: usize) {
    let follower = fleet.signers + dice.below(fleet.count() - fleet.signers);
    let places = [dice.below(fleet.signers), follower];
    fleet.note(&format!("stop {places:?}"));
    places
        .iter()
        .for_each(|place| fleet.signal(*place, Signal::STOP));
    fleet.pass(dice.between_ms(4_000, longest_s * 1000));
    places
        .iter()
        .for_each(|place| fleet.signal(*place, Signal::CONT));
    fleet.note("they go on");
    fleet.wait_all("all are on one chain", HEAL_S, 1);
}

/// A node that lost everything catches up, over lines of which one is slow, one takes long and all are cut at random.
pub fn late_joiner(fleet: &mut Fleet, dice: &mut Dice, chain: &Chain) {
    let place = dice.below(fleet.count());
    let lines = fleet.lines_of(place);
    fleet.wipe(place, chain);
    for (index, line) in lines.iter().enumerate() {
        fleet.relay.change(*line, |nature| {
            nature.bytes_per_s = 1_000_000;
            match index {
                0 => nature.bytes_per_s = 8_000,
                1 => nature.latency = Duration::from_millis(500),
                _ => nature.latency = Duration::from_millis(20),
            }
        });
    }
    fleet.note(&format!(
        "node {place} begins with nothing; a line of its is cut now and then"
    ));
    fleet.start(place);
    let all: Vec<usize> = (0..fleet.count())
        .filter(|place| fleet.is_running(*place))
        .collect();
    let (mut cuts, mut next) = (0, Instant::now());
    let least = fleet.top(&all) + 1;
    fleet.wait("it has caught up and follows", HEAL_S, |fleet| {
        if Instant::now() >= next && cuts < 12 {
            fleet.relay.cut(dice.pick(&lines), false);
            next = Instant::now() + dice.between_ms(600, 2_000);
            cuts += 1;
        }
        fleet.agree(&all, least)
    });
    fleet.note(&format!("{cuts} cuts"));
    fleet.mend();
}

/// Everybody has the same chain, and nobody thinks ill of anybody.
pub fn end(fleet: &mut Fleet) {
    let all: Vec<usize> = (0..fleet.count()).collect();
    fleet.wait("all say that they follow", PATIENCE_S, |fleet| {
        let says = |place: &usize| fleet.status(*place)["sync"]["phase"] == "following";
        all.iter().all(says)
    });
    for place in all {
        let before = fleet.head(place).unwrap();
        let status = fleet.status(place);
        let after = fleet.head(place).unwrap();
        let said = status["head"]["number"].as_u64().unwrap();
        assert!(
            said <= after.number && said + 2 >= before.number,
            "node {place}: {status}, stored {before:?} before and {after:?} after"
        );
        let peers = status["peers"].as_array().unwrap();
        assert!(!peers.is_empty(), "node {place}: {status}");
    }
    fleet.stop();
    let mut warnings = BTreeMap::new();
    for place in 0..fleet.count() {
        let bans = std::fs::read_to_string(fleet.datadir(place).join("bans.json"));
        assert!(
            bans.as_ref().is_err() || bans.as_ref().is_ok_and(|bans| bans == "[]"),
            "node {place} banned a peer: {bans:?}"
        );
        for wrong in ["panicked", " ERROR ", "Our own sealed block"] {
            let found = fleet.lines_with(place, wrong);
            assert!(found.is_empty(), "node {place}: {found:?}");
        }
        for line in fleet.lines_with(place, "Dropping peer") {
            // A silent line may cost its peer the connection, and nothing else.
            assert!(
                line.contains("gave no answer"),
                "node {place} dropped an honest peer: {line}"
            );
        }
        for line in fleet.lines_with(place, " WARN ") {
            let words: Vec<&str> = line.split_whitespace().skip(2).take(4).collect();
            *warnings.entry(words.join(" ")).or_insert(0) += 1;
        }
    }
    for (warning, count) in warnings {
        fleet.note(&format!("{count} times warned: {warning} ..."));
    }
    one_chain(fleet);
}

/// Every number has the same hash in all stores, but for the last ones, which may have been in dispute when all were stopped.
fn one_chain(fleet: &mut Fleet) {
    let stores: Vec<Arc<Snapshot>> = (0..fleet.count())
        .map(|place| fleet.snapshot(place).unwrap())
        .collect();
    let heads = stores.iter().map(|store| store.head().number);
    let last = heads.min().unwrap().saturating_sub(3);
    for number in 0..=last {
        let hash = |store: &Arc<Snapshot>| store.hash(number).unwrap();
        let first = hash(&stores[0]);
        for (place, store) in stores.iter().enumerate() {
            assert!(
                first.is_some() && hash(store) == first,
                "block {number} of node {place}: {:?}, of node 0: {first:?}",
                hash(store)
            );
        }
    }
    let count = stores.len();
    fleet.note(&format!(
        "one chain of {last} blocks and more in {count} stores"
    ));
}
