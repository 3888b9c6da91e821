//! The runs on a chain whose seals cannot be checked: a trusted hash is followed, and nothing else.

use alloy_primitives::B256;

use super::chain::{Chain, STAKE, STAKE_RULES, stake};
use super::liars::Lie;
use super::peer::Nature;
use super::runs::{MEMORY, check_punished, config, peer};
use super::world::World;
use super::{Dice, seeds};

/// A node with the blocks up to `number` of `chain` that is told to trust `target`.
fn world(seed: u64, chain: &Chain, number: u64, target: Option<B256>) -> World {
    let mut config = config();
    config.sync_target = target;
    World::new(seed, STAKE_RULES.clone(), chain, number, config)
}

#[test]
fn the_sync_target_is_reached_with_one_honest_peer_among_liars() {
    let target = STAKE[290].header.hash; // not the peers' head
    // 326: an answer from the time when the chain fell came late, into a window that was fetched again, and went on below it.
    for seed in (0..seeds(100)).chain([326]) {
        let mut dice = Dice::new(seed ^ 0xfeed);
        let mut world = world(seed, &STAKE, dice.below(40), Some(target));
        let eth = if dice.once_in(2) { 68 } else { 69 };
        world.join(
            dice.below(300),
            peer(1, Nature::Honest, &STAKE, eth, &mut dice),
        );
        for id in 2..2 + dice.below(8) {
            let nature = match dice.below(8) {
                0 => Nature::Flighty,
                1 => Nature::Poor,
                _ => Nature::Liar(Lie::any(&mut dice)),
            };
            let eth = if dice.once_in(2) { 68 } else { 69 };
            let mut other = peer(id, nature, &STAKE, eth, &mut dice);
            match (nature, dice.below(3)) {
                (Nature::Poor, 0) => other.chain.truncate(200),
                (Nature::Poor, 1) => other.most = 5,
                (Nature::Poor, _) => other.bytes_per_ms = 2,
                _ => {}
            }
            world.join(dice.below(400), other);
        }
        let done = world.run(240_000, |world| world.head() == target);
        assert!(
            done,
            "seed {seed}: at block {} after {} ms, {:?}, punished {:?}",
            world.store.0.len() - 1,
            world.now_ms,
            world.machine.status(),
            world.punished
        );
        check_punished(&world, seed);
        assert!(
            world.most_memory <= MEMORY + MEMORY / 2,
            "seed {seed}: {}",
            world.most_memory
        );
        let asked = world.requests.len();
        world.run(world.now_ms + 300_000, |_| false);
        assert_eq!(world.head(), target, "and nothing is followed beyond it");
        assert_eq!(world.requests.len(), asked);
    }
}

#[test]
fn headers_are_fetched_once_where_there_is_room_for_them() {
    let target = STAKE[300].header.hash;
    let asked = |memory_limit_bytes| {
        let mut config = config();
        (config.sync_target, config.memory_limit_bytes) = (Some(target), memory_limit_bytes);
        let mut world = World::new(1, STAKE_RULES.clone(), &STAKE, 0, config);
        world.join(0, peer(1, Nature::Honest, &STAKE, 69, &mut Dice::new(1)));
        assert!(world.run(60_000, |world| world.head() == target));
        let headers = |m: &&(_, _)| format!("{m:?}").contains("Headers");
        world.requests.iter().filter(headers).count()
    };
    assert_eq!(asked(8 << 20), 19, "300 headers in sixteens");
    assert!(asked(MEMORY) > 19 + 10, "the upper windows were let go");
}

#[test]
fn without_a_sync_target_nothing_is_asked_for() {
    let mut world = world(1, &STAKE, 0, None);
    world.join(0, peer(1, Nature::Honest, &STAKE, 68, &mut Dice::new(1)));
    world.run(300_000, |_| false);
    assert!(world.requests.is_empty() && world.store.0.len() == 1);
}

#[test]
fn a_target_that_hangs_below_what_is_settled_is_refused_and_nobody_is_blamed() {
    let other = stake(&STAKE, 100, 200, 77);
    for (target, have) in [(200, 150), (120, 150)] {
        let mut world = world(1, &STAKE, have, Some(other[target].header.hash));
        world.store.1 = 110;
        world.join(0, peer(1, Nature::Honest, &other, 69, &mut Dice::new(1)));
        world.run(100_000, |_| false);
        assert_eq!(world.store.0.len() as u64, have + 1);
        assert!(world.punished.is_empty(), "{:?}", world.punished);
        let asked = world.requests.len();
        world.run(200_000, |_| false);
        assert_eq!(world.requests.len(), asked, "it has stopped");
    }
}

#[test]
fn a_target_that_is_stored_already_asks_for_its_header_only() {
    let mut world = world(1, &STAKE, 150, Some(STAKE[120].header.hash));
    world.join(0, peer(1, Nature::Honest, &STAKE, 69, &mut Dice::new(1)));
    world.run(100_000, |_| false);
    assert!(world.requests.len() <= 1 && world.commits.is_empty());
}

#[test]
fn a_target_that_nobody_has_yet_is_asked_for_again() {
    let target = STAKE[250].header.hash;
    let mut world = world(1, &STAKE, 0, Some(target));
    let mut dice = Dice::new(1);
    world.join(
        0,
        peer(1, Nature::Honest, &STAKE[..=200].to_vec(), 68, &mut dice),
    );
    world.run(30_000, |_| false);
    assert!(
        (2..10).contains(&world.requests.len()),
        "{}",
        world.requests.len()
    );
    world.join(0, peer(2, Nature::Honest, &STAKE, 68, &mut dice));
    assert!(world.run(60_000, |world| world.head() == target));
}
