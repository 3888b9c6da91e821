//! Peers that cannot be proved liars, and would keep us from the chain for long: late, one item at a time, with heads that they have not.

use alloy_primitives::B256;
use cairn_net::eth::message::Message;
use cairn_net::reactor::{NetEvent, PeerId};

use super::Dice;
use super::chain::{CHAIN, Chain, FORK, RULES, STAKE, STAKE_RULES, grow};
use super::liars::Lie;
use super::peer::{Nature, SimPeer};
use super::runs::{config, peer};
use super::world::{Event, World};
use crate::sync::MachineConfig;

/// A peer that lies, quick but for its lie.
fn liar(id: u64, lie: Lie, chain: &Chain) -> SimPeer {
    quick(peer(id, Nature::Liar(lie), chain, 69, &mut Dice::new(id)))
}

fn honest(id: u64, chain: &Chain) -> SimPeer {
    quick(peer(id, Nature::Honest, chain, 69, &mut Dice::new(id)))
}

fn quick(mut peer: SimPeer) -> SimPeer {
    (peer.latency_ms, peer.bytes_per_ms) = (20, 1_000);
    peer
}

/// Whether the node has this head in time, and nobody honest was punished for it.
fn gets_to(world: &mut World, chain: &Chain, until_ms: u64) {
    let head = chain.last().unwrap().header.hash;
    let done = world.run(until_ms, |world| world.head() == head);
    assert!(
        done,
        "at block {} after {until_ms} ms, {:?}",
        world.store.0.len() - 1,
        world.machine.status()
    );
    let blamed = |id: &PeerId| world.peers[id].nature == Nature::Honest;
    let punished = &world.punished;
    assert!(!punished.iter().any(|(id, _)| blamed(id)), "{punished:?}");
}

/// Found by a reader: what hangs on our head and has no bodies was begun with again and again, and who has the chain was taken to be on
/// another branch for ever.
#[test]
fn headers_without_bodies_do_not_keep_us_from_who_has_another_chain_above_the_same_block() {
    for (lie, until_ms) in [
        (Lie::NoBodies, 15_000),
        (Lie::SilentOnBodies, 15_000),
        (Lie::Drip, 45_000),
    ] {
        let mut world = World::new(1, RULES.clone(), &CHAIN, 280, config());
        world.join(0, liar(1, lie, &FORK));
        world.join(3_000, honest(2, &CHAIN));
        gets_to(&mut world, &CHAIN, until_ms);
    }
}

/// Found by a reader, too: each claim made its peer one that may have what it kept back.
#[test]
fn nor_if_their_peer_claims_another_head_at_every_moment() {
    let mut world = World::new(6, RULES.clone(), &CHAIN, 280, config());
    world.join(0, liar(1, Lie::NoBodies, &FORK));
    world.join(3_000, honest(2, &CHAIN));
    for n in 1..1_000u64 {
        let message = Message::BlockRange {
            earliest: 0,
            latest: 296,
            latest_hash: B256::left_padding_from(&n.to_be_bytes()),
        };
        let peer = PeerId(1);
        world.at(n * 20, Event::Net(NetEvent::Message { peer, message }));
    }
    gets_to(&mut world, &CHAIN, 19_000);
}

#[test]
fn heads_that_are_claimed_again_and_again_and_are_not_there_do_not_keep_us_from_a_heavier_branch() {
    let base: Chain = FORK[..=290].to_vec();
    let mut world = World::new(2, RULES.clone(), &FORK, 290, config());
    world.join(0, liar(1, Lie::BoastAgain, &base));
    world.join(4_000, liar(2, Lie::BoastAgain, &base)); // one of them always owes something
    world.join(5_000, honest(3, &CHAIN));
    gets_to(&mut world, &CHAIN, 25_000);
}

#[test]
fn a_branch_that_comes_one_header_at_a_time_makes_room_for_the_next() {
    let long = grow(&CHAIN, 200, 330, 3);
    let mut world = World::new(3, RULES.clone(), &FORK, 296, config());
    world.allow(&FORK);
    world.join(0, liar(1, Lie::Drip, &long));
    world.join(5_000, honest(2, &CHAIN));
    gets_to(&mut world, &CHAIN, 90_000);
}

#[test]
fn headers_that_fall_are_asked_of_who_gives_them_quickly() {
    let target = STAKE.last().unwrap().header.hash;
    for lie in [Lie::Drip, Lie::Late] {
        let config = MachineConfig {
            sync_target: Some(target),
            ..config()
        };
        let mut world = World::new(4, STAKE_RULES.clone(), &STAKE, 0, config);
        world.join(0, liar(1, lie, &STAKE));
        world.join(10, honest(2, &STAKE));
        gets_to(&mut world, &STAKE, 10_000);
    }
}

#[test]
fn receipts_are_asked_of_who_gives_them_quickly() {
    // In the small memory of these runs, what one peer owes leaves little room for the others.
    for (lie, until_ms) in [(Lie::Late, 180_000), (Lie::SilentOnReceipts, 60_000)] {
        let config = MachineConfig {
            receipts: true,
            ..config()
        };
        let mut world = World::new(5, RULES.clone(), &CHAIN, 300, config);
        let mut late = liar(1, lie, &CHAIN);
        late.eth = 70;
        world.join(0, late);
        world.join(10, honest(2, &CHAIN));
        let done = world.run(until_ms, |world| world.first_without_receipts(1).is_none());
        assert!(done, "{lie:?}: at {:?}", world.first_without_receipts(1));
    }
}
