//! The runs with announcements: lies in them, and what is never sent again.

use std::sync::Arc;

use alloy_primitives::{B256, U256};
use bytes::Bytes;
use cairn_net::eth::message::{Message, Request};
use cairn_net::p2p::DisconnectReason;
use cairn_net::reactor::{NetEvent, OwnedOutgoing, PeerId};
use cairn_net::session::Close;

use super::Dice;
use super::chain::{CHAIN, Chain, GENESIS_S, PERIOD_S, RULES, seal};
use super::liars::Lie;
use super::peer::Nature;
use super::runs::{config, peer};
use super::world::{Event, World};
use crate::chain::{Rules, SealedHeader};
use crate::generate::{self, Fork, Params};
use crate::sync::{Fault, MachineConfig};

/// A node at block 100 with an honest peer (1) and another (2), both at 100, as block 101 comes.
fn at_the_head() -> World {
    let mut dice = Dice::new(5);
    let base: Chain = CHAIN[..=100].to_vec();
    let mut world = World::new(5, RULES.clone(), &CHAIN, 100, config());
    world.epoch_s = GENESIS_S + 101 * PERIOD_S;
    for id in [1, 2] {
        let mut peer = peer(id, Nature::Honest, &base, 68, &mut dice);
        (peer.client, peer.latency_ms) = ("cairn", 10);
        world.join(0, peer);
    }
    world.allow(&CHAIN);
    world.run(10, |_| false);
    world
}

fn announce(world: &mut World, message: Message) {
    let event = NetEvent::Message {
        peer: PeerId(2),
        message,
    };
    world.at(world.now_ms, Event::Net(event));
    world.run(world.now_ms + 1, |_| false);
}

fn block(header: &SealedHeader, body: &Bytes) -> Message {
    Message::NewBlock {
        header: header.raw.clone(),
        body: body.clone(),
        td: U256::from(1_000_000),
    }
}

#[test]
fn a_lie_in_an_announcement_costs_its_teller_and_nobody_else() {
    let next = &CHAIN[101];
    let changed = |change: &dyn Fn(&mut alloy_consensus::Header)| {
        let mut header = next.header.header.clone();
        change(&mut header);
        SealedHeader::from_header(header)
    };
    let bad_root = changed(&|header| header.state_root.0[0] ^= 1);
    let heavy = changed(&|header| {
        (header.parent_hash, header.number) = (B256::repeat_byte(7), 150);
        header.extra_data = vec![0; 1 << 20].into();
    });
    let bad_gas = changed(&|header| header.gas_limit = 1);
    let lies = [
        ("a seal of nobody's", block(&bad_root, &next.body)),
        ("a broken rule", block(&bad_gas, &next.body)),
        ("another body", block(&next.header, &CHAIN[103].body)),
        (
            "a cut body",
            block(&next.header, &next.body.slice(..next.body.len() - 1)),
        ),
        (
            "no header",
            Message::NewBlock {
                header: Bytes::from_static(&[0xc0]),
                body: next.body.clone(),
                td: U256::ZERO,
            },
        ),
        (
            "a megabyte of extra data over no block that is known",
            block(&heavy, &next.body),
        ),
        (
            "too many hashes",
            Message::NewBlockHashes(vec![(B256::ZERO, 1); 5_000]),
        ),
    ];
    assert_ne!(CHAIN[101].body, CHAIN[103].body);
    for (lie, message) in lies {
        let mut world = at_the_head();
        announce(&mut world, message);
        assert_eq!(world.punished.len(), 1, "{lie}");
        assert_eq!(world.punished[0].0, PeerId(2), "{lie}");
        world.at(world.now_ms, Event::Grow(PeerId(1), next.clone()));
        assert!(
            world.run(world.now_ms + 20, |world| world.store.0.len() == 102),
            "{lie}"
        );
    }
}

#[test]
fn an_announced_hash_that_nobody_has_costs_little_and_its_tellers_are_dropped_in_the_end() {
    let mut world = at_the_head();
    for n in 0..12u8 {
        announce(
            &mut world,
            Message::NewBlockHashes(vec![(B256::repeat_byte(n + 1), 101)]),
        );
        world.run(world.now_ms + 100, |_| false);
    }
    assert!(matches!(
        world.punished[..],
        [(PeerId(2), Fault::NoProgress { .. })]
    ));
    assert!(
        world.requests.len() < 30,
        "{} requests",
        world.requests.len()
    );
}

#[test]
fn an_announced_block_is_fetched_of_another_when_the_first_gives_two_bodies() {
    let mut world = at_the_head();
    let next = (101..).find(|&n| CHAIN[n].body.len() > 3).unwrap();
    for (id, nature) in [(1, Nature::Honest), (2, Nature::Liar(Lie::TwoBodies))] {
        let peer = world.peers.get_mut(&PeerId(id)).unwrap();
        (peer.client, peer.nature) = ("hashes", nature);
    }
    world.epoch_s += (next as u64 - 101) * PERIOD_S;
    for number in 101..next {
        world.at(world.now_ms, Event::Grow(PeerId(1), CHAIN[number].clone()));
        world.at(world.now_ms, Event::Grow(PeerId(2), CHAIN[number].clone()));
        world.run(world.now_ms + 100, |_| false);
    }
    world.at(world.now_ms, Event::Grow(PeerId(2), CHAIN[next].clone()));
    world.at(
        world.now_ms + 5,
        Event::Grow(PeerId(1), CHAIN[next].clone()),
    );
    world.run(world.now_ms + 200, |_| false);
    assert!(
        matches!(
            world.punished[..],
            [(PeerId(2), Fault::TooManyItems { .. })]
        ),
        "{:?}",
        world.punished
    );
    assert_eq!(world.head(), CHAIN[next].header.hash);
}

#[test]
fn duplicates_are_let_go_and_told_to_nobody_twice() {
    let mut world = at_the_head();
    for _ in 0..3 {
        announce(&mut world, block(&CHAIN[101].header, &CHAIN[101].body));
    }
    world.at(world.now_ms, Event::Grow(PeerId(1), CHAIN[101].clone()));
    world.run(world.now_ms + 100, |_| false);
    assert_eq!((world.commits.len(), world.told.len()), (1, 1));
    assert_eq!(world.told[0].0, PeerId(1));
}

#[test]
fn blocks_that_come_before_their_parents_wait_for_them() {
    let mut world = at_the_head();
    world.epoch_s += 10 * PERIOD_S;
    for number in [104, 103, 102] {
        let (header, body) = (&CHAIN[number].header, &CHAIN[number].body);
        announce(&mut world, block(header, body));
    }
    announce(&mut world, block(&CHAIN[101].header, &CHAIN[101].body));
    assert_eq!(world.store.0.len(), 105);
}

#[test]
fn a_peer_that_leaves_over_an_announcement_gets_none_again() {
    let mut world = at_the_head();
    world.epoch_s += 10 * PERIOD_S;
    world.at(20, Event::Grow(PeerId(1), CHAIN[101].clone()));
    world.run(50, |_| false);
    let blocks_to = |world: &World, id: PeerId| {
        let is = |(to, message): &&(PeerId, OwnedOutgoing)| {
            *to == id && matches!(message, OwnedOutgoing::NewBlock { .. })
        };
        world.told.iter().filter(is).count()
    };
    assert_eq!(blocks_to(&world, PeerId(2)), 1);
    let reason = DisconnectReason::Subprotocol;
    let gone = NetEvent::Gone {
        peer: PeerId(2),
        close: Close::Remote { reason },
    };
    world.at(60, Event::Net(gone));
    let mut again = world.peers[&PeerId(2)].clone();
    let info = again.info(world.told_head()); // the same node: ids are made of the first connection's
    again.id = PeerId(9);
    world.peers.insert(again.id, again);
    let addr = ([127, 0, 0, 1], 1).into();
    world.at(
        100,
        Event::Net(NetEvent::Connected {
            peer: PeerId(9),
            addr,
            info,
        }),
    );
    world.at(200, Event::Grow(PeerId(1), CHAIN[102].clone()));
    world.run(400, |_| false);
    assert_eq!(
        (world.store.0.len(), blocks_to(&world, PeerId(9))),
        (103, 0)
    );
}

#[test]
fn a_generated_prague_chain_is_followed_to_its_target() {
    let params = Params {
        blocks: 60,
        txs_per_block: 3,
        fork: Fork::Prague,
        ..Params::default()
    };
    let (generated, blocks) = generate::blocks(&params);
    let genesis = &generated.genesis;
    let mut chain: Chain = vec![Arc::new(super::chain::SimBlock {
        header: Arc::new(genesis.header.clone()),
        body: genesis.body.clone(),
        td: genesis.header.header.difficulty,
    })];
    chain.extend(blocks.map(|block| {
        Arc::new(super::chain::SimBlock {
            header: Arc::new(block.header),
            body: Bytes::from(block.body),
            td: block.td,
        })
    }));
    let target = chain[60].header.hash;
    let config = MachineConfig {
        sync_target: Some(target),
        ..MachineConfig::default()
    };
    let rules = Arc::new(Rules::new(genesis));
    let mut world = World::new(1, rules, &chain, 0, config);
    world.epoch_s = chain[60].header.header.timestamp;
    for id in 1..=2 {
        world.join(0, peer(id, Nature::Honest, &chain, 69, &mut Dice::new(id)));
    }
    assert!(
        world.run(30_000, |world| world.head() == target),
        "{:?}",
        world.punished
    );
    assert!(world.punished.is_empty());
}

/// Found by the whole simulation, seed 198.
#[test]
fn an_announced_block_that_was_caught_up_with_meanwhile_is_not_asked_for_again() {
    let mut world = at_the_head();
    world.epoch_s += 10 * PERIOD_S;
    let slow = world.peers.get_mut(&PeerId(2)).unwrap();
    (slow.chain, slow.latency_ms) = (CHAIN[..=101].to_vec(), 500);
    let next = &CHAIN[101];
    assert!(next.body.len() > 3, "its body has to be asked for");
    announce(
        &mut world,
        Message::NewBlockHashes(vec![(next.header.hash, 101)]),
    );
    let chain: Chain = CHAIN[..=102].to_vec();
    let mut newer = peer(3, Nature::Honest, &chain, 69, &mut Dice::new(6));
    newer.latency_ms = 10;
    world.join(world.now_ms, newer);
    assert!(world.run(400, |world| world.store.0.len() > 102));
    world.run(3_000, |_| false);
    let is_body = |(to, message): &&(PeerId, OwnedOutgoing)| {
        let request = match message {
            OwnedOutgoing::Request { request, .. } => request,
            _ => return false,
        };
        to.0 == 2 && matches!(request, Request::Bodies { .. })
    };
    let asked: Vec<_> = world.requests.iter().filter(is_body).collect();
    assert!(asked.is_empty(), "{asked:?}");
}

#[test]
fn who_tells_of_a_block_that_is_no_better_than_our_head_is_told_of_our_head_again_each_time() {
    let mut world = at_the_head();
    let mut dice = Dice::new(13);
    let head = &CHAIN[101];
    announce(&mut world, block(&head.header, &head.body));
    assert_eq!(world.head(), head.header.hash);
    let told = |world: &World| {
        let is_head = |message: &OwnedOutgoing| matches!(message, OwnedOutgoing::NewBlock { header, .. } if *header == head.header.raw);
        let to = |(to, message): &&(PeerId, OwnedOutgoing)| to.0 == 2 && is_head(message);
        world.told.iter().filter(to).count()
    };
    assert_eq!(told(&world), 0, "it told us");
    for times in 1..=3 {
        let time_s = GENESIS_S + 101 * PERIOD_S;
        let side = seal(&CHAIN[100], time_s, false, &mut dice);
        for _ in 0..2 {
            announce(&mut world, block(&side.header, &side.body)); // the second time it is known
        }
        assert_eq!(told(&world), times);
        assert_eq!(world.head(), head.header.hash);
    }
    assert!(world.punished.is_empty(), "{:?}", world.punished);
}
