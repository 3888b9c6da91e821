//! Faults weigh, over real sockets: who is banned, for how long, and who is not.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use alloy_primitives::B256;
use cairn_net::enode::Enode;
use cairn_net::eth::message::Outgoing;
use cairn_net::fault::Cause;
use cairn_net::limits::BAN_FIRST_S;
use cairn_net::p2p::DisconnectReason;
use cairn_net::reactor::{Command, NetEvent};
use cairn_net::scores::{Ban, Subject};
use cairn_net::session::{Close, SessionEvent};
use common::*;

/// Connects as `n` and says that its blocks end before they begin; gives how the node took it.
fn misbehave(n: u8, node: &Node) -> Close {
    let mut bare = match Bare::dial(n, node) {
        Ok(bare) => bare,
        Err(close) => return close,
    };
    let range = Outgoing::BlockRange {
        earliest: 5,
        latest: 1,
        latest_hash: B256::repeat_byte(1),
    };
    bare.send(range).unwrap();
    match bare.event() {
        SessionEvent::Closed(close) => close,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_breaks_the_protocol_again_and_again_is_banned_and_nobody_else_is() {
    let a = Node::start(reactor_config(1));
    let mut healthy = Bare::dial(4, &a).unwrap();
    for _ in 0..4 {
        let close = misbehave(3, &a);
        assert!(
            is_remote(&close, DisconnectReason::Subprotocol),
            "{close:?}"
        );
    }
    let close = misbehave(3, &a);
    assert!(
        is_remote(&close, DisconnectReason::UselessPeer),
        "{close:?}"
    );
    healthy.assert_served();
    Bare::dial_again(5, &a).assert_served();
    assert!(!log_lines("Banned").is_empty());

    // The ban outlives the node.
    let bans = a.handle.bans();
    let [
        Ban {
            subject: Subject::Id(banned),
            count: 1,
            ..
        },
    ] = bans[..]
    else {
        panic!("{bans:?}")
    };
    assert_eq!((banned, a.handle.bans_version()), (id(3), 1));
    a.stop();
    let mut config = reactor_config(1);
    config.bans = bans.clone();
    let a = Node::start(config);
    let close = misbehave(3, &a);
    assert!(
        is_remote(&close, DisconnectReason::UselessPeer),
        "{close:?}"
    );
    assert_eq!(a.handle.bans(), bans);
}

#[test]
fn a_lie_that_is_proved_is_a_ban_at_once_and_the_liar_is_not_dialled() {
    let a = Node::start(reactor_config(1));
    let mut config = reactor_config(2);
    config.statics = vec![a.enode()];
    let b = Node::start(config);
    let (peer, _) = b.connected();
    let cause = Cause::FalseData;
    let before_s = now_s();
    b.send(Command::Disconnect { peer, cause });
    b.gone();
    // It would be dialled again after a second.
    b.assert_quiet(2_500);
    let bans = b.handle.bans();
    assert_eq!(bans.len(), 1, "{bans:?}");
    let since_s = bans[0].until_s - BAN_FIRST_S;
    assert!((before_s..=now_s()).contains(&since_s), "{bans:?}");
}

fn now_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

#[test]
fn what_may_be_the_networks_fault_is_forgiven_without_end() {
    let a = Node::start(reactor_config(1));
    for n in 0..30 {
        let mut bare = Bare::dial_again(3, &a);
        let (peer, _) = a.connected();
        match n % 3 {
            0 => drop(bare), // the line breaks
            1 => a.send(Command::Disconnect {
                peer,
                cause: Cause::NoAnswer,
            }),
            _ => {
                bare.session.disconnect(Cause::Requested);
                bare.flush().unwrap();
            }
        }
        a.gone();
    }
    assert_eq!(a.handle.bans(), []);
    Bare::dial_again(3, &a).assert_served();
}

#[test]
fn a_trusted_node_stands_above_the_cap_and_is_never_banned() {
    let trusted = |n| Enode {
        id: id(n),
        ip: [203, 0, 113, 7].into(),
        tcp: 30303,
        udp: 30303,
    };
    let mut config = reactor_config(1);
    config.max_peers = 1;
    config.trusted = vec![trusted(3)];
    let a = Node::start(config);
    let _full = Bare::dial(4, &a).unwrap();
    let refused = Bare::dial(5, &a).map(|_| ()).unwrap_err();
    assert!(is_remote(&refused, DisconnectReason::TooManyPeers));
    for _ in 0..10 {
        let close = misbehave(3, &a);
        assert!(
            is_remote(&close, DisconnectReason::Subprotocol),
            "{close:?}"
        );
    }
    Bare::dial_again(3, &a).assert_served();
    assert_eq!(a.handle.bans(), []);
    // Trust may come later.
    a.send(Command::Trust(trusted(5)));
    Bare::dial_again(5, &a).assert_served();
    let events = a.events.try_iter();
    let connected = events.filter(|event| matches!(event, NetEvent::Connected { .. }));
    assert!(connected.count() >= 13);
}
