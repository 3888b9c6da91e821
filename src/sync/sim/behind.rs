//! The runs of a node that could seal: it must not while a better chain is to be had, and must although one is only claimed.

use alloy_primitives::B256;
use cairn_net::eth::message::Message;
use cairn_net::reactor::{NetEvent, PeerId};

use super::Dice;
use super::chain::{CHAIN, GENESIS_S, PERIOD_S, RULES, SimBlock, seal};
use super::liars::Lie;
use super::peer::Nature;
use super::runs::{config, peer};
use super::world::{Event, World};
use crate::sync::SealedBlock;
use crate::sync::heads::Told;

/// A block of our own over the machine's head.
fn own_block(world: &World) -> SealedBlock {
    let tip = world.machine.tip();
    let parent = SimBlock {
        header: tip.header.clone(),
        body: bytes::Bytes::new(),
        td: tip.td,
    };
    let time_s = tip.header.header.timestamp + PERIOD_S;
    let block = seal(&parent, time_s, true, &mut Dice::new(77));
    SealedBlock {
        header: block.header.clone(),
        body: block.body.clone(),
    }
}

#[test]
fn nothing_of_our_own_is_stored_while_a_better_chain_is_being_caught_up_with() {
    for eth in [68, 69] {
        let mut world = World::new(3, RULES.clone(), &CHAIN, 100, config());
        assert!(world.machine.is_caught_up(), "nobody is there");
        let mut dice = Dice::new(3);
        world.join(10, peer(1, Nature::Honest, &CHAIN, eth, &mut dice));
        let (mut heads, best) = (0, CHAIN.last().unwrap().header.hash);
        while world.head() != best {
            let stored = world.store.0.len();
            assert!(world.run(60_000, |world| world.store.0.len() > stored
                || world.now_ms == 10));
            if world.head() == best {
                break;
            }
            if world.peers[&PeerId(1)].connected {
                heads += 1;
                assert!(!world.machine.is_caught_up(), "at {}", world.now_ms);
                let (block, head) = (own_block(&world), world.head());
                world
                    .machine
                    .handle_sealed(world.now_ms, block, &world.store);
                world.carry_out();
                assert_eq!(world.head(), head);
            }
            if world.store.0.len() == stored {
                world.run(world.now_ms + 1, |_| false);
            }
        }
        assert!(heads > 2, "{heads} heads on the way");
        assert!(world.machine.is_caught_up());
        let block = own_block(&world);
        world.allow(&vec![std::sync::Arc::new(SimBlock {
            header: block.header.clone(),
            body: block.body.clone(),
            td: world.machine.tip().td + block.header.header.difficulty,
        })]);
        let hash = block.header.hash;
        world
            .machine
            .handle_sealed(world.now_ms, block, &world.store);
        world.carry_out();
        assert_eq!(world.head(), hash);
    }
}

#[test]
fn a_peer_that_boasts_again_and_again_holds_the_sealer_up_for_a_limited_time() {
    let mut world = World::new(4, RULES.clone(), &CHAIN, 100, config());
    world.epoch_s = GENESIS_S + 101 * PERIOD_S;
    // It takes nine seconds for each empty answer, so that it is not found to be silent.
    let mut boaster = peer(
        1,
        Nature::Liar(Lie::Empty),
        &CHAIN[..=100].to_vec(),
        69,
        &mut Dice::new(4),
    );
    boaster.latency_ms = 4_500;
    world.join(0, boaster);
    for second in 1..40u8 {
        let message = Message::BlockRange {
            earliest: 0,
            latest: 1_000_000 + u64::from(second),
            latest_hash: B256::repeat_byte(second),
        };
        let event = NetEvent::Message {
            peer: PeerId(1),
            message,
        };
        world.at(u64::from(second) * 1000, Event::Net(event));
    }
    let (mut held_up_ms, mut told, mut heard) = (0, Told::default(), Vec::new());
    for ms in (0..39_000).step_by(100) {
        let head = world.machine.tip().clone();
        let news = told.news(&world.machine, &head, false);
        heard.extend(news.map(|head| head.map(|head| head.header.hash)));
        world.run(ms + 100, |_| false);
        held_up_ms += u64::from(!world.machine.is_caught_up()) * 100;
        assert!(
            ms > 29_000 || held_up_ms > ms / 2,
            "it is believed at first"
        );
    }
    assert!(world.punished.is_empty(), "{:?}", world.punished);
    assert!(world.machine.is_caught_up());
    assert!((25_000..=35_000).contains(&held_up_ms), "{held_up_ms} ms");
    // The sealer had the head, which was taken back; at last it has the same again.
    let head = Some(world.head());
    assert!(heard.starts_with(&[head, None]) && heard.last() == Some(&head));
    assert_eq!(heard.iter().flatten().max(), head.as_ref());
    // A block of our own does not make the boasts believed again.
    let block = own_block(&world);
    world.allow(&vec![std::sync::Arc::new(SimBlock {
        header: block.header.clone(),
        body: block.body.clone(),
        td: world.machine.tip().td + block.header.header.difficulty,
    })]);
    let hash = block.header.hash;
    world
        .machine
        .handle_sealed(world.now_ms, block, &world.store);
    world.carry_out();
    assert_eq!(world.head(), hash);
    assert!(world.machine.is_caught_up());
}

/// Two are asked for what a slow one owes; the chain is here when one of them has answered.
#[test]
fn what_a_slow_peer_still_owes_of_blocks_that_are_stored_keeps_nobody_from_sealing() {
    let mut world = World::new(5, RULES.clone(), &CHAIN, 100, config());
    let mut dice = Dice::new(5);
    let mut slow = peer(1, Nature::Honest, &CHAIN, 69, &mut dice);
    slow.latency_ms = 4_900; // it answers just in time, one request after the other
    world.join(0, slow);
    world.join(500, peer(2, Nature::Honest, &CHAIN, 69, &mut dice));
    let best = CHAIN.last().unwrap().header.hash;
    assert!(world.run(60_000, |world| world.head() == best));
    world.run(world.now_ms + 100, |_| false);
    let in_flight = world.machine.status().in_flight;
    assert!(in_flight > 0, "the slow one was quick enough");
    assert!(world.machine.is_caught_up(), "at {} ms", world.now_ms);
}

#[test]
fn a_head_is_stale_when_nothing_newer_has_come_for_long_but_not_at_once() {
    let last = CHAIN.last().unwrap();
    let mut world = World::new(1, RULES.clone(), &CHAIN, last.number(), config());
    let made_s = last.header.header.timestamp;
    let overdue = |world: &mut World, ms: u64, s: u64| {
        world.machine.handle_timeout(ms, s, &world.store);
        world.machine.overdue_s(s)
    };
    assert_eq!(
        overdue(&mut world, 1_000, made_s + 9_000),
        None,
        "it has just started"
    );
    assert_eq!(overdue(&mut world, 61_000, made_s + 15), None);
    assert_eq!(overdue(&mut world, 61_000, made_s + 16), Some(16));
}
