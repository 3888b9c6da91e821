//! Reactors that find each other over loopback: handshakes, requests, duplicates, redials, the end.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::net::TcpListener;

use alloy_primitives::{B256, U256};
use cairn_net::enode::Enode;
use cairn_net::eth::message::{Message, Request};
use cairn_net::fault::Cause;
use cairn_net::limits::LINGER_MS;
use cairn_net::p2p::DisconnectReason;
use cairn_net::reactor::{BindError, Command, NetEvent, OwnedOutgoing, Reactor};
use cairn_net::session::Close;
use common::*;

/// Two nodes, the second of which dials the first.
fn pair() -> (Node, Node) {
    let a = Node::start(reactor_config(1));
    let mut config = reactor_config(2);
    config.statics = vec![a.enode()];
    let b = Node::start(config);
    (a, b)
}

#[test]
fn a_node_dials_another_and_both_know_who_the_other_is() {
    let (a, b) = pair();
    let (_, of_b) = a.connected();
    let (_, of_a) = b.connected();
    assert_eq!(
        (of_b.id, of_b.inbound, of_b.eth, of_b.client.as_str()),
        (b.id, true, 71, "test/2")
    );
    assert_eq!(
        (of_a.id, of_a.inbound, of_a.eth, of_a.client.as_str()),
        (a.id, false, 71, "test/1")
    );
    assert_eq!(
        (of_a.status.latest, of_a.status.head),
        (Some(9), B256::repeat_byte(9))
    );
}

#[test]
fn a_peer_of_eth_68_is_spoken_to_in_eth_68() {
    let a = Node::start(reactor_config(1));
    let mut config = reactor_config(2);
    config.session.eth_versions = vec![68];
    config.statics = vec![a.enode()];
    let b = Node::start(config);
    let (_, of_b) = a.connected();
    assert_eq!((of_b.eth, of_b.status.td), (68, Some(U256::from(19))));
    let (peer, _) = b.connected();
    b.request(peer, 1, headers_request());
    assert!(matches!(
        b.event(),
        NetEvent::Message {
            message: Message::Headers { id: 1, .. },
            ..
        }
    ));
}

#[test]
fn requests_are_answered_in_order_with_their_ids() {
    let (a, b) = pair();
    let (peer, _) = b.connected();
    b.request(peer, 7, headers_request());
    b.request(peer, u64::MAX, bodies_request());
    b.request(peer, 0, Request::Bodies { hashes: vec![] });
    b.request(
        peer,
        9,
        Request::Receipts {
            hashes: vec![B256::ZERO],
            first_index: 0,
        },
    );
    let mut messages = (0..4).map(|_| match b.event() {
        NetEvent::Message { message, .. } => message,
        other => panic!("{other:?}"),
    });
    let headers = [&[0xc1, 1][..], &[0xc1, 2], &[0xc1, 3]].map(|header| header.to_vec().into());
    assert_eq!(
        messages.next(),
        Some(Message::Headers {
            id: 7,
            headers: headers.to_vec()
        })
    );
    let bodies = vec![bytes::Bytes::from_static(body())];
    assert!(
        messages.next()
            == Some(Message::Bodies {
                id: u64::MAX,
                bodies
            }),
        "the whole body"
    );
    // Where the service gives no answer, the empty one goes out.
    assert_eq!(
        messages.next(),
        Some(Message::Bodies {
            id: 0,
            bodies: vec![]
        })
    );
    assert_eq!(
        messages.next(),
        Some(Message::Receipts {
            id: 9,
            blocks: vec![],
            last_is_cut: false
        })
    );
    drop(a);
}

#[test]
fn an_answer_too_long_for_a_message_becomes_the_empty_one() {
    let a = Node::start(reactor_config(1));
    let mut bare = Bare::dial(3, &a).unwrap();
    bare.request(
        5,
        &Request::Receipts {
            hashes: vec![B256::ZERO; 2],
            first_index: 0,
        },
    );
    assert_eq!(
        bare.message(),
        Message::Receipts {
            id: 5,
            blocks: vec![],
            last_is_cut: false
        }
    );
    bare.assert_served();
}

#[test]
fn announcements_reach_the_other_side() {
    let (a, b) = pair();
    let (peer, _) = b.connected();
    a.connected();
    let blocks = vec![(B256::repeat_byte(3), 3)];
    let td = U256::from(5);
    let block = bytes::Bytes::from_static(body());
    let header = bytes::Bytes::from_static(&[0xc0]);
    let three = bytes::Bytes::from_static(&[0xc3, 0xc0, 0xc0, 0xc0]);
    for message in [
        OwnedOutgoing::NewBlockHashes(blocks.clone()),
        OwnedOutgoing::NewBlock {
            header: block.clone(),
            body: three.clone(),
            td,
        },
        OwnedOutgoing::BlockRange {
            earliest: 1,
            latest: 2,
            latest_hash: B256::repeat_byte(2),
        },
        OwnedOutgoing::NewBlock {
            header: header.clone(),
            body: three.clone(),
            td,
        },
    ] {
        b.send(Command::Send { peer, message });
    }
    for expected in [
        Message::NewBlockHashes(blocks),
        Message::NewBlock {
            header: block,
            body: three.clone(),
            td,
        },
        Message::BlockRange {
            earliest: 1,
            latest: 2,
            latest_hash: B256::repeat_byte(2),
        },
        Message::NewBlock {
            header,
            body: three,
            td,
        },
    ] {
        let NetEvent::Message { message, .. } = a.event() else {
            panic!()
        };
        assert!(message == expected);
    }
}

#[test]
fn forty_answers_of_two_mib_arrive_whole() {
    let (a, b) = pair();
    let (peer, _) = b.connected();
    a.connected();
    for id in 0..40 {
        b.request(peer, id, bodies_request());
    }
    for expected in 0..40 {
        let NetEvent::Message {
            message: Message::Bodies { id, bodies },
            ..
        } = b.event()
        else {
            panic!()
        };
        assert_eq!((id, bodies.len()), (expected, 1));
        assert!(bodies[0] == body());
    }
}

#[test]
fn nodes_of_different_chains_part_with_one_line_each_and_no_event() {
    let a = Node::start(reactor_config(1));
    let mut config = reactor_config(52);
    config.chain.network_id = 5;
    config.statics = vec![a.enode()];
    let b = Node::start(config);
    let name = format!("id={}", b.id.short());
    eventually("a logs it", || !log_lines(&name).is_empty());
    a.assert_quiet(300);
    b.assert_quiet(0);
    let lines = log_lines(&name);
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("INFO Handshake failed")),
        "{lines:?}"
    );
}

#[test]
fn the_first_of_two_connections_of_one_node_stays() {
    let a = Node::start(reactor_config(1));
    let mut first = Bare::dial(3, &a).unwrap();
    let second = Bare::dial(3, &a).map(|_| ()).unwrap_err();
    assert!(
        is_remote(&second, DisconnectReason::AlreadyConnected),
        "{second:?}"
    );
    first.assert_served();
    a.connected();
    a.assert_quiet(50);
    drop(first);
    a.gone();
    Bare::dial(3, &a).unwrap();
}

#[test]
fn a_node_does_not_talk_to_itself() {
    let a = Node::start(reactor_config(53));
    a.send(Command::AddStatic(a.enode()));
    eventually("it says so", || {
        log_lines(&a.addr.to_string())
            .iter()
            .any(|line| line.contains("itself"))
    });
    let close = Bare::dial(53, &a).map(|_| ()).unwrap_err();
    let is_self = matches!(
        close,
        Close::Local {
            cause: Cause::SelfConnect,
            ..
        }
    );
    assert!(is_self, "{close:?}");
    a.assert_quiet(50);
}

#[test]
fn two_nodes_that_dial_each_other_end_with_one_connection() {
    for (a_key, b_key) in [(11, 12), (12, 11)] {
        // Both are told of each other at the same moment.
        let a = Node::start(reactor_config(a_key));
        let b = Node::start(reactor_config(b_key));
        a.send(Command::AddStatic(b.enode()));
        b.send(Command::AddStatic(a.enode()));
        assert_one_connection([&a, &b]);
    }
}

#[test]
fn a_static_node_that_comes_back_is_dialled_again() {
    // An address of its own: nobody else is given the port while it is away.
    let mut config = reactor_config(1);
    config.listen = "127.0.0.2:0".parse().unwrap();
    let a = Node::start(config);
    let mut config = reactor_config(2);
    config.statics = vec![a.enode()];
    let b = Node::start(config);
    b.connected();
    let addr = a.addr;
    a.stop();
    let (_, close) = b.gone();
    assert!(is_remote(&close, DisconnectReason::Quitting), "{close:?}");
    let mut config = reactor_config(1);
    config.listen = addr;
    let a = Node::start(config);
    b.connected();
    a.connected();
}

#[test]
fn a_static_node_that_is_not_there_yet_is_found_when_it_comes() {
    // An address of its own: nobody else is given the port meanwhile.
    let addr = TcpListener::bind("127.0.0.3:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut config = reactor_config(54);
    config.statics = vec![Enode {
        id: id(55),
        ip: addr.ip(),
        tcp: addr.port(),
        udp: 0,
    }];
    let b = Node::start(config);
    eventually("it logs the failure", || {
        !log_lines(&format!("Dial failed id={}", id(55).short())).is_empty()
    });
    let mut config = reactor_config(55);
    config.listen = addr;
    let a = Node::start(config);
    b.connected();
    a.connected();
}

#[test]
fn an_enode_with_the_wrong_id_fails_in_the_handshake_and_harms_nobody() {
    let a = Node::start(reactor_config(1));
    let mut config = reactor_config(56);
    config.statics = vec![Enode {
        id: id(99),
        ..a.enode()
    }];
    let b = Node::start(config);
    eventually("it logs the failure", || {
        !log_lines(&format!(
            "Handshake failed id={} addr={}",
            id(99).short(),
            a.addr
        ))
        .is_empty()
    });
    b.assert_quiet(100);
    Bare::dial(3, &a).unwrap().assert_served();
}

#[test]
fn past_max_peers_a_peer_is_told_so_but_a_static_one_is_let_in() {
    let late = Node::start(reactor_config(2));
    let mut config = reactor_config(1);
    config.max_peers = 2;
    let a = Node::start(config);
    let mut first = Bare::dial(3, &a).unwrap();
    let mut second = Bare::dial(4, &a).unwrap();
    let close = Bare::dial(5, &a).map(|_| ()).unwrap_err();
    assert!(
        is_remote(&close, DisconnectReason::TooManyPeers),
        "{close:?}"
    );
    a.connected();
    a.connected();
    a.assert_quiet(50);
    a.send(Command::AddStatic(late.enode()));
    assert_eq!(a.connected().1.id, late.id);
    first.assert_served();
    second.assert_served();
    drop(first);
    a.gone();
}

#[test]
fn a_disconnect_that_is_commanded_reaches_the_peer_and_gives_gone() {
    let a = Node::start(reactor_config(1));
    let mut bare = Bare::dial(3, &a).unwrap();
    let (peer, _) = a.connected();
    a.send(Command::Disconnect {
        peer,
        cause: Cause::EmptyClaims,
    });
    let cairn_net::session::SessionEvent::Closed(close) = bare.event() else {
        panic!()
    };
    assert!(
        is_remote(&close, DisconnectReason::UselessPeer),
        "{close:?}"
    );
    let (gone, close) = a.gone();
    assert_eq!(gone, peer);
    assert!(
        matches!(
            close,
            Close::Local {
                cause: Cause::EmptyClaims,
                ..
            }
        ),
        "{close:?}"
    );
    // Nothing more can be done with it.
    a.send(Command::Disconnect {
        peer,
        cause: Cause::EmptyClaims,
    });
    a.request(peer, 1, headers_request());
    a.assert_quiet(50);
}

#[test]
fn a_new_chain_is_told_to_later_peers() {
    let a = Node::start(reactor_config(1));
    let mut next = chain();
    next.head_number = 10;
    next.head = B256::repeat_byte(10);
    a.send(Command::SetChain(next));
    // Commands are carried out before what came in after them.
    let bare = Bare::dial(3, &a).unwrap();
    let status = &bare.info.as_ref().unwrap().status;
    assert_eq!(
        (status.latest, status.head),
        (Some(10), B256::repeat_byte(10))
    );
}

#[test]
fn a_stop_says_goodbye_and_is_quick() {
    let took = quickest(|| {
        let a = Node::start(reactor_config(1));
        let mut peers: Vec<Bare> = (10..20).map(|n| Bare::dial(n, &a).unwrap()).collect();
        let took = a.stop();
        for bare in &mut peers {
            let cairn_net::session::SessionEvent::Closed(close) = bare.event() else {
                panic!()
            };
            assert!(is_remote(&close, DisconnectReason::Quitting), "{close:?}");
        }
        took
    });
    // The peers here have not closed their side.
    assert!(took.as_millis() < u128::from(LINGER_MS), "{took:?}");
}

#[test]
fn a_handle_of_a_reactor_that_has_ended_says_so() {
    let a = Node::start(reactor_config(1));
    let handle = a.handle.clone();
    a.stop();
    let error = handle.send(Command::Shutdown).unwrap_err();
    assert_eq!(error.to_string(), "the network thread has ended");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let mut config = reactor_config(1);
    config.listen = taken;
    let error = Reactor::bind(config).map(|_| ()).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)));
    let expected = format!(
        "cannot listen on {taken}: address in use: is another node running? choose another --p2p-port"
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_address_of_another_machine_is_named() {
    let mut config = reactor_config(1);
    config.listen = "203.0.113.1:0".parse().unwrap();
    let error = Reactor::bind(config).map(|_| ()).unwrap_err();
    assert!(matches!(error, BindError::NotOurs(_)), "{error}");
}
