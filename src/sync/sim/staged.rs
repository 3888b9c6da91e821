//! The runs with branches that are longer than the memory: weighed by their headers, fetched into the store part by part.

use alloy_primitives::B256;
use cairn_net::eth::message::{Message, Request};
use cairn_net::reactor::{NetEvent, OwnedOutgoing, PeerId};

use super::chain::{
    CHAIN, Chain, GENESIS_S, PERIOD_S, RULES, STAKE, STAKE_RULES, grow, seal, stake,
};
use super::liars::Lie;
use super::peer::Nature;
use super::runs::{MEMORY, check_punished, config, peer};
use super::world::{Event, World};
use super::{Dice, seeds};

/// A node with 290 blocks of its own, all but the first `at` of them others than those of the heavier chain.
fn apart(seed: u64, at: u64) -> World {
    World::new(
        seed,
        RULES.clone(),
        &grow(&CHAIN, at, 290, 7),
        290,
        config(),
    )
}

fn is_asked_for_bodies(world: &World) -> bool {
    world.requests.iter().any(is_bodies)
}

fn is_bodies((_, message): &(PeerId, OwnedOutgoing)) -> bool {
    let OwnedOutgoing::Request { request, .. } = message else {
        return false;
    };
    matches!(request, Request::Bodies { .. })
}

#[test]
fn a_branch_longer_than_the_memory_takes_the_place_of_ours_at_once_and_from_several_peers() {
    let head = CHAIN[300].header.hash;
    for seed in 0..seeds(60) {
        let mut dice = Dice::new(seed ^ 0x57a9);
        let at = dice.below(100);
        let mut world = apart(seed, at);
        for id in 1..=1 + dice.below(3) {
            let eth = if dice.once_in(2) { 68 } else { 69 };
            let honest = peer(id, Nature::Honest, &CHAIN, eth, &mut dice);
            world.join(dice.below(300), honest);
        }
        for id in 10..10 + dice.below(5) {
            let nature = match dice.below(5) {
                0 => Nature::Flighty,
                _ => Nature::Liar(Lie::any(&mut dice)),
            };
            let other = peer(id, nature, &CHAIN, 69, &mut dice);
            world.join(dice.below(400), other);
        }
        let done = world.run(240_000, |world| world.head() == head);
        assert!(
            done,
            "seed {seed}: fork at {at}, head {}, {:?}, punished {:?}",
            world.store.0.len() - 1,
            world.machine.status(),
            world.punished
        );
        assert_eq!(world.reorgs, 1, "seed {seed}: never a part of it");
        assert!(world.stagings > 0, "seed {seed}: it was held in memory");
        check_punished(&world, seed);
        assert!(
            world.most_memory <= MEMORY + MEMORY / 2,
            "seed {seed}: {}",
            world.most_memory
        );
    }
}

#[test]
fn a_branch_that_nobody_keeps_the_bodies_of_is_not_begun_with() {
    let mut world = apart(3, 20);
    let mine = world.head();
    let mut pruned = peer(1, Nature::Honest, &CHAIN, 69, &mut Dice::new(3));
    pruned.earliest = 250;
    world.join(0, pruned);
    world.run(200_000, |_| false);
    assert_eq!((world.head(), world.stagings), (mine, 0));
    assert!(world.machine.is_caught_up());
    assert!(world.punished.is_empty(), "{:?}", world.punished);
}

#[test]
fn a_branch_that_is_weighed_and_not_to_be_had_is_let_go_and_our_chain_goes_on() {
    let mut world = apart(3, 20);
    let mine = world.head();
    let withholding = Nature::Liar(Lie::NoBodies);
    world.join(0, peer(1, withholding, &CHAIN, 69, &mut Dice::new(3)));
    assert!(world.run(60_000, is_asked_for_bodies));
    assert!(!world.machine.is_caught_up());
    let patience_ms = 31_000;
    assert!(world.run(world.now_ms + patience_ms, |world| {
        world.machine.is_caught_up()
    }));
    assert_eq!((world.head(), world.staged.is_none()), (mine, true));
    // It is not begun with again, and a block of our own chain is taken.
    let ours: Chain = grow(&CHAIN, 20, 290, 7);
    let time_s = GENESIS_S + 291 * PERIOD_S;
    let next = seal(&ours[290], time_s, true, &mut Dice::new(9));
    let mut other = peer(2, Nature::Honest, &ours, 68, &mut Dice::new(4));
    other.client = "cairn";
    world.join(world.now_ms, other);
    world.at(world.now_ms + 1_000, Event::Grow(PeerId(2), next.clone()));
    let taken = world.run(260_000, |world| world.head() == next.header.hash);
    assert!(taken && world.staged.is_none());
}

#[test]
fn receipts_wait_while_a_branch_comes_in() {
    let mut config = config();
    config.receipts = true;
    let mine = grow(&CHAIN, 20, 290, 7);
    let mut world = World::new(6, RULES.clone(), &mine, 290, config);
    let mut slow = peer(1, Nature::Honest, &CHAIN, 69, &mut Dice::new(3));
    slow.bytes_per_ms = 20;
    world.join(0, slow);
    let head = CHAIN[300].header.hash;
    assert!(world.run(240_000, |world| world.head() == head)); // and it does not spin
    assert_eq!(world.stagings, 1);
    let whole = |world: &World| world.first_without_receipts(21).is_none();
    assert!(world.run(world.now_ms + 240_000, whole));
}

#[test]
fn a_branch_that_its_peer_does_not_claim_any_more_makes_room_for_others() {
    let mut config = config();
    config.memory_limit_bytes = 1 << 20; // it is held in memory
    let mine = grow(&CHAIN, 200, 290, 7);
    let mut world = World::new(8, RULES.clone(), &mine, 290, config);
    let lying = Nature::Liar(Lie::NoBodies);
    world.join(0, peer(1, lying, &CHAIN, 69, &mut Dice::new(3)));
    assert!(world.run(60_000, is_asked_for_bodies));
    let message = Message::BlockRange {
        earliest: 0,
        latest: 1,
        latest_hash: CHAIN[1].header.hash,
    };
    let event = NetEvent::Message {
        peer: PeerId(1),
        message,
    };
    world.at(world.now_ms, Event::Net(event));
    world.join(
        world.now_ms + 100,
        peer(2, Nature::Honest, &CHAIN, 69, &mut Dice::new(4)),
    );
    let head = CHAIN[300].header.hash;
    assert!(world.run(world.now_ms + 60_000, |world| world.head() == head));
}

#[test]
fn a_branch_that_loses_its_last_peer_is_let_go() {
    let mut world = apart(4, 20);
    let mine = world.head();
    let mut slow = peer(1, Nature::Honest, &CHAIN, 69, &mut Dice::new(3));
    slow.bytes_per_ms = 5;
    world.join(0, slow);
    let begun = |world: &World| {
        world
            .staged
            .as_ref()
            .is_some_and(|(_, blocks)| !blocks.is_empty())
    };
    assert!(world.run(120_000, begun));
    world.at(world.now_ms, Event::Leave(PeerId(1)));
    assert!(world.run(world.now_ms + 120_000, |world| world.staged.is_none()));
    assert_eq!((world.head(), world.reorgs), (mine, 0));
    assert!(world.machine.is_caught_up());
}

/// A node with 150 blocks of a chain without seals, told to trust block `number` of one that leaves it after block 100.
fn told_of_another(number: usize) -> (World, Chain, B256) {
    let other = stake(&STAKE, 100, 250, 77);
    let target = other[number].header.hash;
    let mut config = config();
    config.sync_target = Some(target);
    let world = World::new(1, STAKE_RULES.clone(), &STAKE, 150, config);
    (world, other, target)
}

#[test]
fn a_target_on_another_fork_takes_the_place_of_our_blocks() {
    for number in [250, 151, 150, 149, 120, 101] {
        let (mut world, other, target) = told_of_another(number);
        world.join(0, peer(1, Nature::Honest, &other, 69, &mut Dice::new(1)));
        world.join(0, peer(2, Nature::Honest, &STAKE, 69, &mut Dice::new(2)));
        let done = world.run(100_000, |world| world.head() == target);
        assert!(done, "{number}: {:?}", world.machine.status());
        assert_eq!((world.store.0.len() - 1, world.reorgs), (number, 1));
        assert!(world.punished.is_empty(), "{:?}", world.punished);
        let asked = world.requests.len();
        world.run(world.now_ms + 100_000, |_| false);
        assert_eq!(world.requests.len(), asked, "it has stopped");
    }
}

#[test]
fn a_target_on_another_fork_waits_for_the_bodies_that_nobody_has_yet() {
    let (mut world, other, target) = told_of_another(250);
    let mut pruned = peer(1, Nature::Honest, &other, 69, &mut Dice::new(1));
    pruned.earliest = 200;
    world.join(0, pruned);
    world.run(300_000, |_| false);
    assert_eq!(world.store.0.len(), 151);
    assert!(
        world
            .requests
            .iter()
            .filter(|asked| is_bodies(asked))
            .count()
            < 50
    );
    world.join(
        world.now_ms,
        peer(2, Nature::Honest, &other, 69, &mut Dice::new(2)),
    );
    assert!(world.run(400_000, |world| world.head() == target));
}
