//! The runs on a clique chain that passes its terminal total difficulty: past it only a trusted hash is followed.

use std::sync::{Arc, LazyLock};

use alloy_primitives::{B256, U256};
use cairn_net::eth::message::Message;
use cairn_net::reactor::{NetEvent, PeerId};

use super::Dice;
use super::chain::{CHAIN, Chain, genesis, stake};
use super::peer::Nature;
use super::runs::{config, peer};
use super::world::{Event, World};
use crate::chain::Rules;

/// The last block with a seal.
const TERMINAL: u64 = 50;

/// Rules as Besu's genesis has them for such a chain: clique, and a terminal total difficulty.
static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| {
    let mut genesis = genesis();
    genesis.spec.terminal_total_difficulty = Some(U256::from(1 + 2 * TERMINAL));
    Arc::new(Rules::new(&genesis))
});
static MERGED: LazyLock<Chain> = LazyLock::new(|| stake(&CHAIN, TERMINAL, 120, 3));

/// A node that has `have` blocks among two peers that have all.
fn world(have: u64, target: Option<B256>, eth: u8) -> World {
    let mut config = config();
    config.sync_target = target;
    let mut world = World::new(1, RULES.clone(), &MERGED, have, config);
    for id in 1..=2 {
        let mut peer = peer(id, Nature::Honest, &MERGED, eth, &mut Dice::new(id));
        peer.client = "cairn";
        world.join(0, peer);
    }
    world
}

#[test]
fn without_a_target_the_terminal_block_is_the_last_that_is_followed() {
    for (have, eth) in [
        (0, 68),
        (0, 69),
        (TERMINAL - 1, 69),
        (TERMINAL, 69),
        (60, 69),
    ] {
        let mut world = world(have, None, eth);
        let last = MERGED[have.max(TERMINAL) as usize].header.hash;
        world.run(20_000, |_| false);
        assert_eq!(world.head(), last, "from {have} on eth/{eth}");
        let asked = world.requests.len();
        let next = &MERGED[have.max(TERMINAL) as usize + 1];
        let announced = [
            Message::NewBlock {
                header: next.header.raw.clone(),
                body: next.body.clone(),
                td: next.td,
            },
            Message::NewBlockHashes(vec![(next.header.hash, next.number())]),
            Message::BlockRange {
                earliest: 0,
                latest: 500,
                latest_hash: B256::repeat_byte(5),
            },
        ];
        for message in announced {
            let peer = PeerId(1);
            world.at(
                world.now_ms,
                Event::Net(NetEvent::Message { peer, message }),
            );
        }
        world.run(100_000, |_| false);
        assert_eq!((world.head(), world.requests.len()), (last, asked));
        assert!(world.punished.is_empty(), "{:?}", world.punished);
        assert!(!world.machine.is_caught_up(), "nobody seals here");
    }
}

#[test]
fn a_block_over_the_terminal_one_that_is_announced_at_once_is_not_taken() {
    // Announced with its parent, before the machine has looked at anything else.
    let mut world = world(TERMINAL - 1, None, 69);
    let peer = PeerId(1);
    for number in [TERMINAL as usize + 1, TERMINAL as usize] {
        let block = &MERGED[number];
        let message = Message::NewBlock {
            header: block.header.raw.clone(),
            body: block.body.clone(),
            td: block.td,
        };
        world.at(0, Event::Net(NetEvent::Message { peer, message }));
    }
    world.run(60_000, |_| false);
    assert_eq!(world.head(), MERGED[TERMINAL as usize].header.hash);
    assert!(world.punished.is_empty(), "{:?}", world.punished);
}

#[test]
fn a_target_is_reached_across_the_terminal_block() {
    for have in [0, 30, TERMINAL, 60] {
        let target = MERGED[110].header.hash;
        let mut world = world(have, Some(target), 69);
        assert!(
            world.run(60_000, |world| world.head() == target),
            "from {have}"
        );
        world.run(100_000, |_| false);
        assert_eq!(world.head(), target, "and nothing beyond it");
        assert!(world.punished.is_empty(), "{:?}", world.punished);
    }
}
