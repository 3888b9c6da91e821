//! Sessions spread over several reactors: each served on its own thread, all under the same caps.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::HashSet;

use alloy_primitives::B256;
use cairn_net::eth::message::Message;
use cairn_net::limits::LINGER_MS;
use cairn_net::p2p::DisconnectReason;
use cairn_net::reactor::Command;
use cairn_net::session::Close;
use common::*;

#[test]
fn peers_are_spread_and_commands_reach_the_reactor_that_has_them() {
    let a = Node::with_threads(reactor_config(1), 4);
    let mut bares: Vec<Bare> = (10..18).map(|n| Bare::dial(n, &a).unwrap()).collect();
    let mut peers: Vec<_> = (0..8).map(|_| a.connected()).collect();
    let threads: HashSet<u64> = peers.iter().map(|(peer, _)| peer.0 % 4).collect();
    assert_eq!(threads.len(), 4, "{peers:?}");
    bares.iter_mut().for_each(Bare::assert_served);
    // What the node asks of a peer comes to that peer.
    peers.sort_by_key(|(_, info)| info.id.0);
    bares.sort_by_key(|bare| bare.info.as_ref().map(|_| bare.key_id().0));
    for ((peer, info), bare) in peers.iter().zip(&mut bares) {
        assert_eq!(info.id, bare.key_id());
        a.request(*peer, peer.0, headers_request());
        match bare.message() {
            Message::Request { id, .. } => assert_eq!(id, peer.0),
            other => panic!("{other:?}"),
        }
    }
    // And so do a new chain, and the end.
    let mut next = chain();
    (next.head_number, next.head) = (10, B256::repeat_byte(10));
    a.send(Command::SetChain(next));
    eventually("every reactor tells of the new head", || {
        (20..24).all(|n| {
            let bare = Bare::dial_again(n, &a);
            bare.info.as_ref().unwrap().status.latest == Some(10)
        })
    });
    a.stop();
    for bare in &mut bares {
        let close = loop {
            if let cairn_net::session::SessionEvent::Closed(close) = bare.event() {
                break close;
            }
        };
        assert!(is_remote(&close, DisconnectReason::Quitting), "{close:?}");
    }
}

#[test]
fn a_stop_of_several_threads_does_not_wait_for_peers_that_have_not_closed_their_side() {
    let took = quickest(|| {
        let a = Node::with_threads(reactor_config(1), 4);
        let _peers: Vec<Bare> = (10..18).map(|n| Bare::dial(n, &a).unwrap()).collect();
        a.stop()
    });
    assert!(took.as_millis() < u128::from(LINGER_MS), "{took:?}");
}

#[test]
fn the_caps_are_those_of_the_node_and_not_of_each_thread() {
    let mut config = reactor_config(1);
    config.max_peers = 3;
    let a = Node::with_threads(config, 4);
    let bares: Vec<Bare> = (10..13).map(|n| Bare::dial(n, &a).unwrap()).collect();
    for _ in 0..3 {
        a.connected();
    }
    for n in 20..28 {
        let refused = Bare::dial(n, &a).map(|_| ()).unwrap_err();
        assert!(
            is_remote(&refused, DisconnectReason::TooManyPeers),
            "{refused:?}"
        );
    }
    for n in 10..13 {
        let again = Bare::dial(n, &a).map(|_| ()).unwrap_err();
        assert!(
            is_remote(&again, DisconnectReason::AlreadyConnected),
            "{again:?}"
        );
    }
    drop(bares);
    for _ in 0..3 {
        assert!(matches!(a.gone().1, Close::Io(_)));
    }
    // A thread tells of an end first, and then takes it off the books of all.
    let next: Vec<Bare> = (30..33).map(|n| Bare::dial_again(n, &a)).collect();
    next.into_iter().for_each(|mut bare| bare.assert_served());
}

#[test]
fn two_nodes_of_several_threads_that_dial_each_other_end_with_one_connection() {
    for (a_key, b_key) in [(11, 12), (12, 11), (21, 34), (40, 39)] {
        let a = Node::with_threads(reactor_config(a_key), 3);
        let b = Node::with_threads(reactor_config(b_key), 2);
        a.send(Command::AddStatic(b.enode()));
        b.send(Command::AddStatic(a.enode()));
        assert_one_connection([&a, &b]);
    }
}

#[test]
fn a_slow_reader_on_one_thread_costs_the_others_nothing() {
    let a = Node::with_threads(reactor_config(1), 2);
    let mut slow = Bare::dial(10, &a).unwrap();
    for id in 0..50 {
        slow.request(id, &bodies_request());
    }
    for n in 11..15 {
        Bare::dial(n, &a).unwrap().assert_served();
    }
}
