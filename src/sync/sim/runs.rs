//! The runs: catch-up among liars, following, reorganisations, sync targets.

use alloy_primitives::B256;
use cairn_net::reactor::{OwnedOutgoing, PeerId};

use super::chain::{CHAIN, Chain, FORK, GENESIS_S, PERIOD_S, RULES, grow, seal};
use super::liars::Lie;
use super::peer::{Nature, SimPeer};
use super::world::{Event, World};
use super::{Dice, seeds};
use crate::snapshots::Kept;
use crate::sync::{Limits, MachineConfig};

pub(super) const MEMORY: usize = 96 << 10;

pub(super) fn config() -> MachineConfig {
    MachineConfig {
        sync_target: None,
        memory_limit_bytes: MEMORY,
        earliest: 0,
        settled: 0,
        receipts: false,
        kept: Kept::default(),
        limits: Limits {
            header_batch: 24,
            header_bytes: MEMORY / 4 / 96, // a window of 96
            body_batch_start: 8,
            body_batch_min: 2,
            body_batch_max: 32,
            receipt_window: 48,
            receipt_batch_start: 4,
            receipt_batch_max: 16,
            answer_bytes: 4 << 10,
            commit_bytes: 16 << 10,
            commit_blocks: 40,
            anchor_every: 16,
            ..Limits::default()
        },
    }
}

pub(super) fn peer(id: u64, nature: Nature, chain: &Chain, eth: u8, dice: &mut Dice) -> SimPeer {
    SimPeer {
        id: PeerId(id),
        nature,
        chain: chain.clone(),
        eth,
        client: "geth",
        latency_ms: 1 + dice.below(120),
        bytes_per_ms: 20 + dice.below(2_000),
        most: 1024,
        earliest: 0,
        receipts_from: 0,
        headers_from: 0,
        receipt_bytes: 4 << 10,
        busy_until_ms: 0,
        answered: 0,
        connected: false,
    }
}

/// One honest peer, up to nine of other natures, a chain to catch up with.
fn among_liars(seed: u64) -> World {
    let mut dice = Dice::new(seed ^ 0xc0ffee);
    let mut world = World::new(seed, RULES.clone(), &CHAIN, dice.below(40), config());
    let eth = |dice: &mut Dice| if dice.once_in(2) { 68 } else { 69 };
    let version = eth(&mut dice);
    let honest = peer(1, Nature::Honest, &CHAIN, version, &mut dice);
    world.join(dice.below(200), honest);
    for id in 2..2 + dice.below(10) {
        let nature = match dice.below(12) {
            0 => Nature::Flighty,
            1 | 2 => Nature::Poor,
            _ => Nature::Liar(Lie::any(&mut dice)),
        };
        let version = eth(&mut dice);
        let mut other = peer(id, nature, &CHAIN, version, &mut dice);
        match (nature, dice.below(5)) {
            (Nature::Poor, 0) => other
                .chain
                .truncate(1 + usize::try_from(dice.below(290)).unwrap()),
            (Nature::Poor, 1) => other.most = 1 + usize::try_from(dice.below(20)).unwrap(),
            (Nature::Poor, 2) => other.bytes_per_ms = 2,
            (Nature::Poor, 3) => other.earliest = dice.below(290),
            (Nature::Poor, _) => other.chain = FORK.clone(),
            (Nature::Liar(_), 0) => other.chain = FORK.clone(),
            _ => {}
        }
        world.join(dice.below(400), other);
    }
    world
}

pub(super) fn check_punished(world: &World, seed: u64) {
    for (id, fault) in &world.punished {
        let nature = world.peers[id].nature;
        assert!(
            matches!(nature, Nature::Liar(_)),
            "seed {seed}: peer {} is {nature:?} and was punished: {fault}",
            id.0
        );
    }
}

#[test]
fn one_honest_peer_among_liars_gets_us_to_the_head() {
    let head = CHAIN.last().unwrap().header.hash;
    for seed in 0..seeds(200) {
        let mut world = among_liars(seed);
        let done = world.run(120_000, |world| world.head() == head);
        assert!(
            done,
            "seed {seed}: at block {} after {} ms, status {:?}, punished {:?}",
            world.store.0.len() - 1,
            world.now_ms,
            world.machine.status(),
            world.punished
        );
        check_punished(&world, seed);
        // An answer may be larger than the average makes it expected to be.
        assert!(
            world.most_memory <= MEMORY + MEMORY / 2,
            "seed {seed}: {}",
            world.most_memory
        );
    }
}

#[test]
fn every_kind_of_liar_that_can_be_proved_one_is_dropped_for_it() {
    let honest: Chain = CHAIN[..=280].to_vec();
    for lie in Lie::ALL {
        for eth in [68, 69] {
            let mut dice = Dice::new(7);
            let mut world = World::new(1, RULES.clone(), &CHAIN, 0, config());
            world.join(0, peer(2, Nature::Liar(lie), &CHAIN, eth, &mut dice));
            world.join(400, peer(1, Nature::Honest, &honest, 69, &mut dice));
            let done = world.run(120_000, |world| world.store.0.len() > 280);
            assert!(
                done,
                "{lie:?} on {eth}: at {}, {:?}",
                world.store.0.len(),
                world.punished
            );
            world.run(world.now_ms + 60_000, |_| false);
            check_punished(&world, 0);
            assert!(
                !lie.is_provable() || world.punished.len() == 1,
                "{lie:?} on {eth}"
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let head = CHAIN.last().unwrap().header.hash;
    for seed in 1000..1010 {
        let traces: Vec<B256> = (0..2)
            .map(|_| {
                let mut world = among_liars(seed);
                world.run(180_000, |world| world.head() == head);
                world.trace_hash()
            })
            .collect();
        assert_eq!(traces[0], traces[1]);
    }
    let (mut one, mut other) = (among_liars(1), among_liars(2));
    one.run(10_000, |_| false);
    other.run(10_000, |_| false);
    assert_ne!(
        one.trace_hash(),
        other.trace_hash(),
        "other seeds give other runs"
    );
}

#[test]
fn several_honest_peers_share_the_work() {
    let head = CHAIN.last().unwrap().header.hash;
    let mut dice = Dice::new(3);
    let mut world = World::new(3, RULES.clone(), &CHAIN, 0, config());
    for id in 1..=4 {
        let mut peer = peer(id, Nature::Honest, &CHAIN, 69, &mut dice);
        (peer.latency_ms, peer.bytes_per_ms) = (50, 100);
        world.join(0, peer);
    }
    assert!(world.run(60_000, |world| world.head() == head));
    for peer in world.peers.values() {
        assert!(
            peer.answered >= 4,
            "peer {} was asked {} times",
            peer.id.0,
            peer.answered
        );
    }
    assert!(world.punished.is_empty());
}

/// A peer of each way to announce, and a chain that grows by a block each period.
fn live(client: &'static str, eth: u8) -> World {
    let mut dice = Dice::new(5);
    let base: Chain = CHAIN[..=100].to_vec();
    let mut world = World::new(5, RULES.clone(), &CHAIN, 90, config());
    world.epoch_s = GENESIS_S + 100 * PERIOD_S;
    let mut source = peer(1, Nature::Honest, &base, eth, &mut dice);
    source.client = client;
    world.join(0, source);
    for block in &CHAIN[101..=130] {
        let at = (block.number() - 100) * PERIOD_S * 1000;
        world.at(at, Event::Grow(PeerId(1), block.clone()));
    }
    world
}

#[test]
fn announced_blocks_are_stored_at_once_however_they_are_announced() {
    for (client, eth, bound_ms) in [
        ("cairn", 69, 300),
        ("cairn", 68, 300),
        ("hashes", 68, 700),
        ("ranges", 69, 700),
    ] {
        let mut world = live(client, eth);
        assert!(
            world.run(60_000, |world| world.store.0.len() == 101),
            "{client}: catches up"
        );
        for block in &CHAIN[102..=130] {
            let hash = block.header.hash;
            let due = (block.number() - 100) * PERIOD_S * 1000;
            let done = world.run(due + bound_ms, |world| world.head() == hash);
            assert!(
                done,
                "{client}: block {} at {} ms",
                block.number(),
                world.now_ms
            );
        }
        let lives = world.commits.iter().filter(|commit| commit.2).count();
        assert!(client == "ranges" || lives >= 29, "{client}: {lives} live");
        assert!(world.punished.is_empty());
        let told = world
            .told
            .iter()
            .filter(|(_, m)| !matches!(m, OwnedOutgoing::BlockRange { .. }));
        assert_eq!(
            told.count(),
            0,
            "nothing is announced to the one who announced it"
        );
    }
}

#[test]
fn a_peer_that_announces_nothing_is_polled_rarely() {
    let mut world = live("silent", 68);
    let head = CHAIN[130].header.hash;
    assert!(world.run(120_000, |world| world.head() == head));
    let asked = world.requests.len();
    world.run(world.now_ms + 150_000, |_| false);
    let polls = world.requests.len() - asked;
    assert!((5..=11).contains(&polls), "{polls} polls in 150 s");
    assert!(world.punished.is_empty());
}

#[test]
fn a_block_of_the_near_future_is_held_until_it_is_due_and_costs_nothing() {
    let mut world = live("cairn", 68);
    world.epoch_s -= 5; // our clock is behind
    let hash = CHAIN[110].header.hash;
    let due_ms = (CHAIN[110].header.header.timestamp - world.epoch_s) * 1000;
    assert!(!world.run(due_ms - 1, |world| world.head() == hash));
    assert!(world.run(due_ms + 300, |world| world.head() == hash));
    assert!(world.punished.is_empty());
}

#[test]
fn a_live_block_is_announced_to_those_who_take_it_and_to_nobody_else() {
    let mut world = live("cairn", 68);
    let mut dice = Dice::new(1);
    let mut listener = |id, client, eth| {
        let mut listener = peer(id, Nature::Honest, &CHAIN[..=100].to_vec(), eth, &mut dice);
        listener.client = client;
        world.join(10, listener);
    };
    listener(2, "cairn", 69);
    listener(3, "geth", 68);
    listener(4, "geth", 69);
    assert!(world.run(61_000, |world| world.store.0.len() == 131));
    let told = |id: u64| {
        let told = world
            .told
            .iter()
            .filter(move |(to, _)| to.0 == id)
            .map(|(_, message)| message);
        let blocks = told
            .clone()
            .filter(|m| matches!(m, OwnedOutgoing::NewBlock { .. }))
            .count();
        let ranges = told
            .clone()
            .filter(|m| matches!(m, OwnedOutgoing::BlockRange { .. }))
            .count();
        (blocks, ranges, told.count() - blocks - ranges)
    };
    assert_eq!(told(1), (0, 0, 0), "the source");
    assert_eq!(told(2).0, 30);
    assert_eq!(told(3), (30, 0, 0));
    let (blocks, ranges, hashes) = told(4);
    assert_eq!((blocks, hashes), (0, 0));
    assert_eq!(ranges, 1, "after 32 blocks");
}

/// The head moved while the connection came up: it was announced before the newcomer was there, and after our Status was said.
#[test]
fn a_newcomer_whose_status_was_old_is_told_of_the_head() {
    for (eth, blocks_behind, hashes, ranges) in
        [(68, 1, 1, 0), (69, 1, 1, 0), (69, 64, 1, 1), (69, 0, 0, 0)]
    {
        let mut dice = Dice::new(3);
        let mut world = World::new(3, RULES.clone(), &CHAIN, 100, config());
        world.status_is_behind = blocks_behind;
        let start: Chain = CHAIN[..=10].to_vec();
        let mut newcomer = peer(1, Nature::Honest, &start, eth, &mut dice);
        newcomer.client = "cairn";
        world.join(0, newcomer);
        world.run(3_000, |_| false);
        let count =
            |is: fn(&OwnedOutgoing) -> bool| world.told.iter().filter(|(_, m)| is(m)).count();
        assert_eq!(
            count(|m| matches!(m, OwnedOutgoing::NewBlockHashes(_))),
            hashes,
            "{eth} {blocks_behind}"
        );
        assert_eq!(
            count(|m| matches!(m, OwnedOutgoing::BlockRange { .. })),
            ranges,
            "{eth} {blocks_behind}"
        );
        assert_eq!(count(|m| matches!(m, OwnedOutgoing::NewBlock { .. })), 0);
    }
}

#[test]
fn a_heavier_branch_replaces_ours_and_a_lighter_one_does_not() {
    let heavy: Chain = CHAIN[..=290].to_vec(); // FORK leaves at 280 and ends at 296
    for eth in [68, 69] {
        let mut dice = Dice::new(9);
        let mut world = World::new(9, RULES.clone(), &FORK, 296, config());
        world.allow(&FORK);
        world.join(0, peer(1, Nature::Honest, &heavy, eth, &mut dice));
        world.run(30_000, |_| false);
        assert_eq!(
            world.head(),
            FORK[296].header.hash,
            "ten blocks are lighter than sixteen"
        );
        world.join(
            world.now_ms,
            peer(2, Nature::Honest, &CHAIN, eth, &mut dice),
        );
        let head = CHAIN[300].header.hash;
        assert!(
            world.run(90_000, |world| world.head() == head),
            "{:?}",
            world.machine.status()
        );
        assert_eq!(world.reorgs, 1);
        assert!(world.punished.is_empty(), "{:?}", world.punished);
    }
}

#[test]
fn a_branch_that_hangs_below_what_is_settled_is_refused_without_blame() {
    // By the store, or by a checkpoint that is trusted.
    for (by_store, by_trust) in [(286, 0), (0, 286)] {
        let mut dice = Dice::new(9);
        let config = MachineConfig {
            settled: by_trust,
            ..config()
        };
        let mut world = World::new(9, RULES.clone(), &FORK, 296, config);
        world.store.1 = by_store;
        world.join(0, peer(1, Nature::Honest, &CHAIN, 69, &mut dice));
        world.run(60_000, |_| false);
        assert_eq!(world.head(), FORK[296].header.hash);
        assert!(world.punished.is_empty(), "{:?}", world.punished);
    }
}

#[test]
fn two_blocks_at_one_height_settle_on_the_one_in_turn_without_asking_anyone() {
    let mut world = live("cairn", 68);
    let mut dice = Dice::new(11);
    let base: Chain = CHAIN[..=100].to_vec();
    let late = seal(&CHAIN[100], GENESIS_S + 101 * PERIOD_S, false, &mut dice);
    let mut other = peer(2, Nature::Honest, &base, 68, &mut dice);
    (other.client, other.latency_ms) = ("cairn", 1);
    world.join(0, other);
    world.at(2_000, Event::Grow(PeerId(2), late.clone()));
    assert!(world.run(2_010, |world| world.head() == late.header.hash));
    let asked = world.requests.len();
    assert!(world.run(3_000, |world| world.head() == CHAIN[101].header.hash));
    assert!(world.run(4_500, |world| world.head() == CHAIN[102].header.hash));
    assert_eq!((world.requests.len(), world.reorgs), (asked, 1));
}

#[test]
fn a_node_that_sealed_alone_joins_the_heavier_chain() {
    let mut dice = Dice::new(13);
    let mine = grow(&CHAIN, 100, 140, 99);
    let mut world = World::new(13, RULES.clone(), &mine, 140, config());
    for id in 1..=3 {
        let mut other = peer(id, Nature::Honest, &CHAIN, 68, &mut dice);
        other.client = "cairn";
        world.join(0, other);
    }
    let head = CHAIN[300].header.hash;
    assert!(
        world.run(60_000, |world| world.head() == head),
        "{:?}",
        world.punished
    );
    assert!(world.punished.is_empty());
}

/// Found by the whole simulation, seeds 287 and 376: what was of the far future by a wrong clock was never asked for again of a peer
/// that had nothing new to tell.
#[test]
fn once_our_clock_is_right_again_the_blocks_that_it_kept_from_us_are_fetched() {
    let base: Chain = CHAIN[..=100].to_vec();
    for eth in [68, 69] {
        let mut world = World::new(5, RULES.clone(), &CHAIN, 90, config());
        world.epoch_s = GENESIS_S + 90 * PERIOD_S - 7_200;
        world.join(0, peer(1, Nature::Honest, &base, eth, &mut Dice::new(5)));
        world.run(20_000, |_| false);
        assert_eq!(world.head(), CHAIN[90].header.hash);
        world.epoch_s += 7_200 + 10 * PERIOD_S;
        let head = CHAIN[100].header.hash;
        assert!(world.run(60_000, |world| world.head() == head), "{eth}");
        assert!(world.punished.is_empty(), "{:?}", world.punished);
    }
}

#[test]
fn a_peer_whose_chain_begins_above_ours_is_neither_blamed_nor_waited_for() {
    for seed in 0..seeds(20) {
        let mut dice = Dice::new(seed);
        let mut world = World::new(seed, RULES.clone(), &CHAIN, 20, config());
        let begun = |id: u64, dice: &mut Dice| {
            let mut peer = peer(id, Nature::Honest, &CHAIN[..=200].to_vec(), 69, dice);
            (peer.earliest, peer.headers_from) = (150, 150);
            peer.client = if id == 1 { "ranges" } else { "cairn" };
            peer
        };
        for id in 1..=2 {
            world.join(0, begun(id, &mut dice));
            // Each new head is a new claim.
            for block in &CHAIN[201..=260] {
                let at = 1_000 + (block.number() - 201) * 500;
                world.at(at, Event::Grow(PeerId(id), block.clone()));
            }
        }
        world.run(60_000, |_| false);
        assert!(
            world.punished.is_empty(),
            "seed {seed}: {:?}",
            world.punished
        );
        assert_eq!(world.store.0.len(), 21, "seed {seed}");
        let begins_above = |world: &World| world.machine.status().begins_above;
        assert_eq!(begins_above(&world), Some(150), "seed {seed}");
        let whole = peer(3, Nature::Honest, &CHAIN[..=240].to_vec(), 69, &mut dice);
        world.join(world.now_ms, whole);
        let end = world.now_ms + 60_000;
        let done = world.run(end, |world| world.store.0.len() == 261);
        assert!(done, "seed {seed}: at {}", world.store.0.len() - 1);
        assert_eq!(begins_above(&world), None, "seed {seed}");
        assert!(
            world.punished.is_empty(),
            "seed {seed}: {:?}",
            world.punished
        );
    }
}
