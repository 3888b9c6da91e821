//! Receipts: behind the blocks, in every version, among liars, late, and of peers that have none.

use cairn_net::eth::message::Request;
use cairn_net::reactor::{OwnedOutgoing, PeerId};

use super::chain::{CHAIN, Chain, FORK, GENESIS_S, PERIOD_S, RULES};
use super::liars::Lie;
use super::peer::Nature;
use super::runs::{MEMORY, check_punished, config, peer};
use super::world::{Event, World};
use super::{Dice, seeds};
use crate::sync::MachineConfig;

const HEAD: u64 = 300;

fn wanting() -> MachineConfig {
    MachineConfig {
        receipts: true,
        ..config()
    }
}

/// A node that has the blocks up to `number`, without receipts.
fn world(seed: u64, number: u64) -> World {
    World::new(seed, RULES.clone(), &CHAIN, number, wanting())
}

fn has_all(world: &World) -> bool {
    world.store.0.len() as u64 == HEAD + 1 && world.first_without_receipts(1).is_none()
}

/// What of its receipts a world has, for a test that fails.
fn state(world: &World) -> String {
    format!(
        "head {}, first without receipts {:?}, punished {:?}",
        world.store.0.len() - 1,
        world.first_without_receipts(1),
        world.punished
    )
}

/// The requests for receipts that a peer was sent: how many hashes, and after how many receipts of the first.
fn asked(world: &World, id: u64) -> Vec<(Vec<u64>, u64)> {
    let number = |hash| CHAIN.iter().position(|block| block.header.hash == hash);
    let to = world.requests.iter().filter(|(to, _)| to.0 == id);
    to.filter_map(|(_, message)| match message {
        OwnedOutgoing::Request {
            request:
                Request::Receipts {
                    hashes,
                    first_index,
                },
            ..
        } => {
            let numbers = hashes.iter().map(|hash| number(*hash).unwrap() as u64);
            Some((numbers.collect(), *first_index))
        }
        _ => None,
    })
    .collect()
}

fn asked_blocks(world: &World, id: u64) -> Vec<u64> {
    asked(world, id)
        .into_iter()
        .flat_map(|(numbers, _)| numbers)
        .collect()
}

/// Blocks that have receipts at all.
fn blocks_with() -> usize {
    CHAIN.iter().filter(|block| block.body.len() > 3).count()
}

#[test]
fn receipts_follow_the_blocks_in_every_version() {
    for eth in [68, 69, 70, 71] {
        let mut dice = Dice::new(3);
        let mut world = world(3, 0);
        for id in 1..=2 {
            world.join(0, peer(id, Nature::Honest, &CHAIN, eth, &mut dice));
        }
        assert!(world.run(60_000, has_all), "eth/{eth}: {}", state(&world));
        assert!(world.punished.is_empty(), "eth/{eth}: {:?}", world.punished);
        let asked = [asked(&world, 1), asked(&world, 2)].concat();
        let goes_on = asked.iter().any(|(_, first_index)| *first_index > 0);
        assert_eq!(goes_on, eth >= 70, "eth/{eth}");
        let most = world.most_receipts;
        assert!(most <= 48 << 10, "eth/{eth}: {most}");
        let requests = asked.len();
        assert!(requests < blocks_with() * 2, "eth/{eth}: {requests}");
    }
}

#[test]
fn without_the_wish_for_receipts_nobody_is_asked_for_any() {
    let mut dice = Dice::new(3);
    let mut world = World::new(3, RULES.clone(), &CHAIN, 0, config());
    world.join(0, peer(1, Nature::Honest, &CHAIN, 71, &mut dice));
    let done = world.run(60_000, |world| world.store.0.len() as u64 == HEAD + 1);
    assert!(done);
    world.run(world.now_ms + 60_000, |_| false);
    assert!(asked(&world, 1).is_empty() && world.store.3.is_empty());
}

#[test]
fn one_honest_peer_among_those_who_lie_about_receipts_gives_us_all_of_them() {
    for seed in 0..seeds(60) {
        let mut dice = Dice::new(seed ^ 0xbeef);
        let mut world = world(seed, dice.below(40));
        let eth = |dice: &mut Dice| 68 + u8::try_from(dice.below(4)).unwrap();
        let version = eth(&mut dice);
        let honest = peer(1, Nature::Honest, &CHAIN, version, &mut dice);
        world.join(dice.below(200), honest);
        for id in 2..2 + dice.below(8) {
            let nature = match dice.below(10) {
                0 => Nature::Flighty,
                1 | 2 => Nature::Poor,
                _ => Nature::Liar(Lie::ON_RECEIPTS[usize::try_from(dice.below(9)).unwrap()]),
            };
            let version = eth(&mut dice);
            let mut other = peer(id, nature, &CHAIN, version, &mut dice);
            match (nature, dice.below(3)) {
                (Nature::Poor, 0) => other.receipts_from = dice.below(320),
                (Nature::Poor, 1) => other.receipt_bytes = 1, // each receipt by itself
                (Nature::Poor, _) => other.chain = FORK.clone(),
                _ => {}
            }
            world.join(dice.below(400), other);
        }
        let done = world.run(180_000, has_all);
        assert!(done, "seed {seed}: {}", state(&world));
        check_punished(&world, seed);
        let most = world.most_receipts;
        // The limit, the part of the first block's, and what comes larger than the average makes it expected to be.
        let limit = MEMORY / 4 + MEMORY + (64 << 10);
        assert!(most <= limit, "seed {seed}: {most}");
    }
}

#[test]
fn who_is_proved_to_lie_about_receipts_is_dropped_and_who_only_lacks_them_is_not() {
    for lie in Lie::ON_RECEIPTS {
        for eth in [68, 69, 70, 71] {
            if eth < 70 && matches!(lie, Lie::CutBeforeFirst | Lie::Endless) {
                continue;
            }
            let mut dice = Dice::new(7);
            let mut world = world(1, HEAD);
            world.join(0, peer(2, Nature::Liar(lie), &CHAIN, eth, &mut dice));
            world.join(5_000, peer(1, Nature::Honest, &CHAIN, 69, &mut dice));
            let done = world.run(180_000, has_all);
            assert!(done, "{lie:?} on {eth}: {}", state(&world));
            check_punished(&world, 0);
            let dropped = usize::from(lie.is_provable());
            assert_eq!(
                world.punished.len(),
                dropped,
                "{lie:?} on {eth}: {:?}",
                world.punished
            );
        }
    }
}

#[test]
fn a_chain_that_was_stored_without_receipts_gets_them_late() {
    let mut dice = Dice::new(5);
    let mut world = world(5, HEAD);
    world.join(0, peer(1, Nature::Honest, &CHAIN, 70, &mut dice));
    assert!(world.run(60_000, has_all), "{}", state(&world));
    assert!(world.commits.is_empty() && world.punished.is_empty());
    // Once they are here nobody is asked again.
    let before = asked(&world, 1).len();
    world.run(world.now_ms + 60_000, |_| false);
    assert_eq!(asked(&world, 1).len(), before);
}

#[test]
fn the_chain_does_not_wait_for_receipts_and_who_comes_later_with_them_is_asked() {
    let mut dice = Dice::new(6);
    let mut world = world(6, 0);
    let mut without = peer(1, Nature::Honest, &CHAIN, 69, &mut dice);
    without.receipts_from = u64::MAX;
    world.join(0, without);
    let done = world.run(10_000, |world| world.store.0.len() as u64 == HEAD + 1);
    assert!(done, "{}", state(&world));
    world.run(300_000, |_| false);
    // Asked twice for what it lacks, and not without end.
    let blocks = asked_blocks(&world, 1).len();
    assert!(blocks <= 2 * blocks_with(), "{blocks}");
    assert!(world.punished.is_empty());

    // One that has the later half, then one that has all.
    let mut half = peer(2, Nature::Honest, &CHAIN, 69, &mut dice);
    (half.earliest, half.receipts_from) = (150, 150);
    world.join(world.now_ms, half);
    let has_half = |world: &World| world.first_without_receipts(150).is_none();
    assert!(
        world.run(world.now_ms + 200_000, has_half),
        "{}",
        state(&world)
    );
    let old = asked_blocks(&world, 2).iter().any(|number| *number < 150);
    assert!(!old, "a peer is not asked below its first block");
    let whole = peer(3, Nature::Honest, &CHAIN, 68, &mut dice);
    world.join(world.now_ms, whole);
    assert!(
        world.run(world.now_ms + 200_000, has_all),
        "{}",
        state(&world)
    );
}

#[test]
fn above_receipts_that_nobody_has_no_more_are_fetched_than_there_is_room_for() {
    let first = CHAIN.iter().position(|block| block.body.len() > 3).unwrap() as u64;
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let mut world = world(seed, HEAD);
        let mut lacks = peer(1, Nature::Poor, &CHAIN, 69, &mut dice);
        lacks.receipts_from = first + 1;
        world.join(0, lacks);
        world.run(60_000, |_| false);
        let most = world.most_receipts;
        assert!(most <= 48 << 10, "seed {seed}: {most}");
    }
}

#[test]
fn a_peer_that_never_answers_for_receipts_goes_on_serving_the_chain() {
    let mut dice = Dice::new(8);
    let mut world = world(8, 0);
    let mute = Nature::Liar(Lie::SilentOnReceipts);
    world.join(0, peer(1, mute, &CHAIN[..=200].to_vec(), 68, &mut dice));
    assert!(world.run(20_000, |world| world.store.0.len() == 201));
    world.run(120_000, |_| false);
    assert!(world.punished.is_empty(), "{:?}", world.punished);
    let sent = asked(&world, 1).len();
    assert!(sent > 0);
    for block in &CHAIN[201..=205] {
        let at = world.now_ms + block.number();
        world.at(at, Event::Grow(PeerId(1), block.clone()));
    }
    let follows = |world: &World| world.store.0.len() == 206;
    assert!(
        world.run(world.now_ms + 60_000, follows),
        "{}",
        state(&world)
    );
    assert_eq!(asked(&world, 1).len(), sent, "not asked again");
}

#[test]
fn a_live_block_has_its_receipts_soon_after_it() {
    let mut dice = Dice::new(5);
    let base: Chain = CHAIN[..=100].to_vec();
    let mut world = world(5, 90);
    world.epoch_s = GENESIS_S + 100 * PERIOD_S;
    let mut source = peer(1, Nature::Honest, &base, 68, &mut dice);
    source.client = "cairn";
    world.join(0, source);
    for block in &CHAIN[101..=130] {
        let at = (block.number() - 100) * PERIOD_S * 1000;
        world.at(at, Event::Grow(PeerId(1), block.clone()));
    }
    for block in &CHAIN[105..=130] {
        let due = (block.number() - 100) * PERIOD_S * 1000;
        let has = |world: &World| world.store.3.contains_key(&block.number());
        assert!(world.run(due + 700, has), "block {}", block.number());
    }
    assert!(world.punished.is_empty());
}

#[test]
fn the_receipts_of_a_replaced_branch_are_replaced() {
    let mut dice = Dice::new(9);
    let mut world = World::new(9, RULES.clone(), &FORK, 296, wanting());
    world.allow(&FORK);
    world.join(0, peer(1, Nature::Honest, &FORK, 70, &mut dice));
    let done = world.run(60_000, |world| world.first_without_receipts(1).is_none());
    assert!(done, "{}", state(&world));
    let other = peer(2, Nature::Honest, &CHAIN, 70, &mut dice);
    world.join(world.now_ms, other);
    assert!(
        world.run(world.now_ms + 60_000, has_all),
        "{}",
        state(&world)
    );
    assert_eq!(world.reorgs, 1);
    assert!(world.punished.is_empty(), "{:?}", world.punished);
}

/// Found by the whole simulation, seed 197: the store passed over the receipts that came with a block it had without.
#[test]
fn a_block_that_is_ours_again_after_two_reorganisations_gets_its_receipts() {
    let mut world = world(1, 290);
    world.allow(&FORK);
    let mut dice = Dice::new(1);
    world.join(0, peer(1, Nature::Honest, &FORK, 69, &mut dice));
    let on_fork = FORK[296].header.hash;
    assert!(world.run(60_000, |world| world.head() == on_fork));
    world.join(world.now_ms, peer(2, Nature::Honest, &CHAIN, 69, &mut dice));
    assert!(world.run(240_000, has_all), "{}", state(&world));
    assert_eq!(world.reorgs, 2);
}
