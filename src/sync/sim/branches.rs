//! The runs with branches that are claimed, and not to be had.

use alloy_primitives::{B256, U256};
use cairn_net::eth::message::{Message, Request, Start};
use cairn_net::reactor::{NetEvent, OwnedOutgoing, PeerId};

use super::Dice;
use super::chain::{CHAIN, Chain, GENESIS_S, PERIOD_S, RULES, grow, seal};
use super::liars::Lie;
use super::peer::Nature;
use super::runs::{config, peer};
use super::world::{Event, World};
use crate::sync::Fault;

/// Lets peer 1 claim a head, now.
fn claim(world: &mut World, latest: u64, latest_hash: B256) {
    let message = Message::BlockRange {
        earliest: 0,
        latest,
        latest_hash,
    };
    let peer = PeerId(1);
    world.at(
        world.now_ms,
        Event::Net(NetEvent::Message { peer, message }),
    );
}

/// Lets peer 1 have a branch that leaves our chain after block `at` and is lighter at the same length, and claim it.
fn claim_branch(world: &mut World, at: u64) {
    let mut fork: Chain = grow(&CHAIN, at, 299, at);
    let time_s = GENESIS_S + 300 * PERIOD_S;
    fork.push(seal(&fork[299], time_s, false, &mut Dice::new(at)));
    let hash = fork[300].header.hash;
    world.peers.get_mut(&PeerId(1)).unwrap().chain = fork;
    claim(world, 300, hash);
}

#[test]
fn a_better_branch_that_hangs_below_what_was_settled_meanwhile_is_let_go() {
    let mine = grow(&CHAIN, 100, 140, 99);
    let mut world = World::new(13, RULES.clone(), &mine, 140, config());
    let mut other = peer(1, Nature::Honest, &CHAIN, 68, &mut Dice::new(13));
    other.latency_ms = 50;
    world.join(0, other);
    let is_bodies = |(_, message): &(PeerId, OwnedOutgoing)| {
        matches!(
            message,
            OwnedOutgoing::Request {
                request: Request::Bodies { .. },
                ..
            }
        )
    };
    assert!(world.run(60_000, |world| world.requests.iter().any(is_bodies)));
    assert_eq!(world.reorgs, 0);
    world.store.1 = 120;
    world.run(120_000, |_| false);
    assert_eq!((world.head(), world.reorgs), (mine[140].header.hash, 0));
    assert!(world.punished.is_empty(), "{:?}", world.punished);
    assert!(
        world.requests.len() < 100,
        "{} requests",
        world.requests.len()
    );
}

#[test]
fn claims_that_nothing_comes_of_cost_their_teller_its_place() {
    let mut world = World::new(4, RULES.clone(), &CHAIN, 100, config());
    let base: Chain = CHAIN[..=100].to_vec();
    let mut boaster = peer(1, Nature::Liar(Lie::Empty), &base, 69, &mut Dice::new(4));
    boaster.latency_ms = 10;
    world.join(0, boaster);
    for n in 1..20u8 {
        world.run(u64::from(n) * 1_000, |_| false);
        claim(&mut world, 1_000 + u64::from(n), B256::repeat_byte(n));
    }
    assert!(
        matches!(world.punished[..], [(PeerId(1), Fault::NoProgress { .. })]),
        "{:?}",
        world.punished
    );
    assert!(world.requests.len() < 25, "{}", world.requests.len());
}

#[test]
fn a_peer_has_the_state_at_old_blocks_rebuilt_once_in_a_while_only() {
    let mut world = World::new(5, RULES.clone(), &CHAIN, 300, config());
    let read = |world: &World| world.store.2.get();
    let before = read(&world);
    let base: Chain = CHAIN[..=300].to_vec();
    let mut other = peer(1, Nature::Honest, &base, 69, &mut Dice::new(5));
    other.latency_ms = 1;
    world.join(0, other);
    for (n, at) in (1..).zip([80, 70, 60, 50, 40]) {
        world.run(n * 5_000, |_| false);
        claim_branch(&mut world, at);
    }
    world.run(40_000, |_| false);
    let once = read(&world) - before;
    assert!((80..100).contains(&once), "{once} headers were read");
    assert_eq!(world.head(), CHAIN[300].header.hash);
    assert!(world.punished.is_empty(), "{:?}", world.punished);
    // The one that is at hand is not read again, and a minute later another is.
    claim_branch(&mut world, 80);
    world.run(45_000, |_| false);
    assert_eq!(read(&world) - before, once);
    world.run(80_000, |_| false);
    claim_branch(&mut world, 60);
    world.run(85_000, |_| false);
    assert!(read(&world) - before > once);
}

#[test]
fn an_old_state_is_rebuilt_from_the_newest_snapshot_below_it() {
    let header = |number: u64| CHAIN.get(usize::try_from(number).unwrap());
    let mut read = |number| header(number).map(|block| block.header.raw.clone());
    let old = RULES.restore(70, U256::ZERO, None, &mut read).unwrap();
    let mut config = config();
    assert!(config.kept.moved(69, old.clique.as_ref(), 70)); // as if it were a checkpoint
    let mut world = World::new(5, RULES.clone(), &CHAIN, 300, config);
    let before = world.store.2.get();
    let base: Chain = CHAIN[..=300].to_vec();
    let mut other = peer(1, Nature::Honest, &base, 69, &mut Dice::new(5));
    other.latency_ms = 1;
    world.join(0, other);
    world.run(5_000, |_| false);
    claim_branch(&mut world, 80);
    world.run(10_000, |_| false);
    // The block itself, ten above the snapshot, and two of those again for who sealed them.
    assert_eq!(world.store.2.get() - before, 13);
    assert!(world.machine.restored.is_some());
}

/// Headers asked for falling or one by one, to find an ancestor: requests, and headers in them.
fn looks(world: &World) -> (usize, u64) {
    let looks = world
        .requests
        .iter()
        .filter_map(|(_, message)| match message {
            OwnedOutgoing::Request {
                request:
                    Request::Headers {
                        start: Start::Number(_),
                        reverse: true,
                        amount,
                        ..
                    },
                ..
            } => Some(*amount),
            _ => None,
        });
    (looks.clone().count(), looks.sum())
}

/// A node with 290 blocks of its own meets a peer whose heavier chain leaves it after block `at`.
fn meets_a_deep_branch(at: u64) -> (World, B256) {
    let mine = grow(&CHAIN, at, 290, 7);
    let mut world = World::new(at, RULES.clone(), &mine, 290, config());
    let mut other = peer(1, Nature::Honest, &CHAIN, 69, &mut Dice::new(at));
    other.latency_ms = 5;
    world.join(0, other);
    (world, CHAIN[300].header.hash)
}

#[test]
fn where_a_deep_branch_leaves_our_chain_is_found_by_halving() {
    for at in [0, 1, 2, 40, 127, 128, 225, 226, 227, 289] {
        let (mut world, theirs) = meets_a_deep_branch(at);
        let moved = world.run(120_000, |world| world.head() == theirs);
        assert!(moved, "fork at {at}");
        assert_eq!(world.reorgs, 1);
        let (requests, headers) = looks(&world);
        assert!(requests <= 12 && headers <= 64 + 12, "{requests} {headers}");
        assert!(world.punished.is_empty(), "{:?}", world.punished);
    }
}

#[test]
fn a_branch_that_is_deeper_than_allowed_is_found_out_by_one_header_more() {
    for (at, is_allowed) in [(191, true), (190, true), (189, false), (20, false)] {
        let (mut world, theirs) = meets_a_deep_branch(at);
        world.store.1 = 190;
        let mine = world.head();
        world.run(60_000, |world| world.head() == theirs);
        let expected = if is_allowed { theirs } else { mine };
        assert_eq!(world.head(), expected, "fork at {at}");
        let (requests, _) = looks(&world);
        assert!(is_allowed || requests <= 2, "fork at {at}: {requests}");
        assert!(world.punished.is_empty(), "{:?}", world.punished);
    }
}

/// Found by the whole simulation, seed 390.
#[test]
fn a_search_that_our_head_has_outrun_does_not_ask_for_what_is_stored() {
    let mut world = World::new(6, RULES.clone(), &CHAIN, 100, config());
    let chain: Chain = CHAIN[..=105].to_vec();
    for id in [1, 2] {
        let mut other = peer(id, Nature::Honest, &chain, 68, &mut Dice::new(id));
        (other.client, other.latency_ms) = ("geth", 100);
        other.chain.truncate(101);
        world.join(0, other);
    }
    world.allow(&chain);
    world.run(10, |_| false);
    for id in [1, 2] {
        world.peers.get_mut(&PeerId(id)).unwrap().chain = chain.clone();
    }
    claim(&mut world, 100, B256::repeat_byte(7));
    world.run(20, |_| false);
    let block = &CHAIN[101];
    let message = Message::NewBlock {
        header: block.header.raw.clone(),
        body: block.body.clone(),
        td: block.td,
    };
    let peer = PeerId(2);
    world.at(20, Event::Net(NetEvent::Message { peer, message }));
    assert!(world.run(30, |world| world.head() == block.header.hash));
    claim(&mut world, 105, CHAIN[105].header.hash);
    let asked = world.requests.len();
    assert!(world.run(5_000, |world| world.head() == CHAIN[105].header.hash));
    for (_, message) in &world.requests[asked..] {
        if let OwnedOutgoing::Request {
            request:
                Request::Headers {
                    start: Start::Number(first),
                    reverse: false,
                    ..
                },
            ..
        } = message
        {
            assert!(*first > 101, "{message:?}");
        }
    }
    assert!(world.punished.is_empty(), "{:?}", world.punished);
}

/// Found by the whole simulation, seed 427: nobody else was looked at for ever.
#[test]
fn a_branch_whose_bodies_its_peer_has_forgotten_makes_room_for_a_peer_that_has_them() {
    let mine = grow(&CHAIN, 100, 140, 99);
    let mut world = World::new(13, RULES.clone(), &mine, 140, config());
    let mut pruned = peer(1, Nature::Honest, &CHAIN, 69, &mut Dice::new(1));
    pruned.earliest = 120;
    world.join(0, pruned);
    world.run(5_000, |_| false);
    assert_eq!(world.head(), mine[140].header.hash);
    let shorter: Chain = CHAIN[..=290].to_vec();
    let whole = peer(2, Nature::Honest, &shorter, 68, &mut Dice::new(2));
    world.join(world.now_ms, whole);
    let head = CHAIN[300].header.hash;
    assert!(world.run(60_000, |world| world.head() == head));
    assert!(world.punished.is_empty(), "{:?}", world.punished);
}
