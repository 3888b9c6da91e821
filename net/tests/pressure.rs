//! Backpressure and hostile peers over loopback: whoever does not read, floods, says nothing or talks garbage costs
//! nobody else.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use cairn_net::eth::message::{Message, Outgoing};
use cairn_net::fault::Cause;
use cairn_net::limits::{COMMAND_QUEUE, LINGER_MS, RLPX_TIMEOUT_MS};
use cairn_net::p2p::DisconnectReason;
use cairn_net::reactor::{Command, NetEvent, Reactor, SendError};
use cairn_net::session::Close;
use common::puppet::hung_up;
use common::*;

#[test]
fn a_peer_that_does_not_read_costs_only_itself_and_gets_everything_when_it_does() {
    let a = Node::start(reactor_config(1));
    let mut stalled = Bare::dial(3, &a).unwrap();
    for id in 0..60 {
        stalled
            .send(Outgoing::Request {
                id,
                request: &bodies_request(),
            })
            .unwrap();
    }
    stalled.flush_until_blocked(200);
    // Answers stop when the output and both sockets' buffers are full.
    let mut last = 0;
    eventually("the answers stop", || {
        std::thread::sleep(Duration::from_millis(200));
        let now = a.answers.load(Ordering::SeqCst);
        std::mem::replace(&mut last, now) == now && now > 0
    });

    // Another is served meanwhile.
    let mut other = Bare::dial(4, &a).unwrap();
    for _ in 0..50 {
        other.assert_served();
    }
    let answers = a.answers.load(Ordering::SeqCst) - 50;
    assert!(
        answers < 20,
        "{answers} answers of 2 MiB for a peer that reads none"
    );

    for expected in 0..60 {
        let Message::Bodies { id, bodies } = stalled.message() else {
            panic!()
        };
        assert_eq!(id, expected);
        assert!(bodies[0] == body());
    }
}

#[test]
fn a_service_without_room_stops_its_peers_through_tcp_and_loses_nothing() {
    let a = Node::with_room(reactor_config(1), 4);
    let mut flood = Bare::dial(3, &a).unwrap();
    let mut polite = Bare::dial(4, &a).unwrap();
    let blocks = vec![(B256::repeat_byte(1), 0); 1000];
    const MESSAGES: u64 = 1000;
    for n in 0..MESSAGES {
        let mut blocks = blocks.clone();
        blocks[0].1 = n;
        // Hashes that compress badly make the messages long on the wire.
        blocks.iter_mut().enumerate().for_each(|(i, block)| {
            block.0 = alloy_primitives::keccak256((n * 1000 + i as u64).to_be_bytes());
        });
        flood.send(Outgoing::NewBlockHashes(&blocks)).unwrap();
    }
    assert!(
        !flood.flush_until_blocked(300),
        "36 MB were taken in although nobody wanted them"
    );
    eventually("refused", || a.refusals.load(Ordering::SeqCst) > 0);
    // What needs no room is served still.
    polite.assert_served();

    // The service takes events again, four at a time.
    let writer = std::thread::spawn(move || {
        flood.flush().unwrap();
        flood
    });
    let mut next = 0;
    let mut connected = 0;
    while next < MESSAGES {
        match a.event() {
            NetEvent::Connected { .. } => connected += 1,
            NetEvent::Message {
                message: Message::NewBlockHashes(blocks),
                ..
            } => {
                assert_eq!(blocks[0].1, next, "in order");
                next += 1;
            }
            other => panic!("{other:?}"),
        }
        a.handle.wake();
    }
    assert_eq!(connected, 2);
    let flood = writer.join().unwrap();
    // The ends of peers wait for room too.
    drop((flood, polite));
    let mut gone = [a.gone().0, a.gone().0];
    gone.sort_unstable();
    assert!(gone[0] < gone[1]);
}

#[test]
fn of_many_short_messages_read_at_once_none_is_lost_when_the_service_has_no_room() {
    let a = Node::with_room(reactor_config(1), 1);
    let mut bare = Bare::dial(3, &a).unwrap();
    const MESSAGES: u64 = 3000;
    for n in 0..MESSAGES {
        let announced = [(B256::repeat_byte(1), n)];
        bare.send(Outgoing::NewBlockHashes(&announced)).unwrap();
    }
    bare.flush().unwrap();
    drop(bare); // what it said before is heard
    a.connected();
    for n in 0..MESSAGES {
        match a.event() {
            NetEvent::Message {
                message: Message::NewBlockHashes(blocks),
                ..
            } => assert_eq!(blocks[0].1, n),
            other => panic!("{other:?}"),
        }
        a.handle.wake();
    }
    a.gone();
}

#[test]
fn commands_that_nobody_takes_are_bounded_and_the_next_is_given_back() {
    let (reactors, handle) = Reactor::bind_threads(reactor_config(1), 1).unwrap();
    let command = || Command::SetChain(chain());
    for _ in 0..COMMAND_QUEUE {
        handle.send(command()).unwrap();
    }
    let refused = handle.send(command()).unwrap_err();
    assert!(matches!(refused, SendError::Full(_)), "{refused}");
    drop(reactors);
}

#[test]
fn an_event_given_back_is_offered_again_even_if_nobody_wakes_the_reactor() {
    let a = Node::with_room(reactor_config(1), 1);
    let mut bare = Bare::dial(3, &a).unwrap();
    bare.send(Outgoing::NewBlockHashes(&[(B256::ZERO, 5)]))
        .unwrap();
    bare.flush().unwrap();
    eventually("refused", || a.refusals.load(Ordering::SeqCst) > 0);
    a.connected();
    assert!(matches!(a.event(), NetEvent::Message { .. }));
}

#[test]
fn a_peer_that_goes_while_the_service_has_no_room_is_told_of_when_there_is() {
    let a = Node::with_room(reactor_config(1), 1);
    let first = Bare::dial(3, &a).unwrap();
    let second = Bare::dial(4, &a).unwrap();
    // The second's Connected is held; then the first goes, and its end waits too.
    eventually("refused", || a.refusals.load(Ordering::SeqCst) > 0);
    drop(first);
    std::thread::sleep(Duration::from_millis(50));
    let (one, _) = a.connected();
    a.handle.wake();
    let mut two = None;
    let mut gone = None;
    for _ in 0..2 {
        match a.event() {
            NetEvent::Connected { peer, .. } => two = Some(peer),
            NetEvent::Gone { peer, .. } => gone = Some(peer),
            other => panic!("{other:?}"),
        }
        a.handle.wake();
    }
    assert_eq!(gone, Some(one));
    assert!(two.is_some_and(|two| two != one));
    drop(second);
    assert_eq!(Some(a.gone().0), two);
}

#[test]
fn garbage_is_closed_and_the_node_goes_on() {
    let a = Node::start(reactor_config(1));
    let mut healthy = Bare::dial(3, &a).unwrap();
    let mut x = 1u64;
    let noise: Vec<u8> = (0..100_000)
        .map(|_| {
            x = x
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (x >> 56) as u8
        })
        .collect();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 1000],
        &[0xff; 70_000],
        &noise,
        &[0x01, 0x94],
        &[0x00, 0x00],
    ] {
        let mut stream = TcpStream::connect(a.addr).unwrap();
        // It may close before everything is written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(hung_up(stream), 0, "nothing is said to garbage");
        healthy.assert_served();
    }
    a.connected();
    a.assert_quiet(50);
}

#[test]
fn two_hundred_silent_connections_lock_nobody_out() {
    let a = Node::start(reactor_config(1));
    let mut healthy = Bare::dial(3, &a).unwrap();
    let start = Instant::now();
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(a.addr).unwrap())
        .collect();
    let mut late = Bare::dial(4, &a).unwrap();
    late.assert_served();
    healthy.assert_served();
    // The oldest made room, and not by the clock: the others have their five seconds.
    for stream in &silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut silent = silent.into_iter();
    assert_eq!(silent.next().map(hung_up), Some(0));
    let five = Duration::from_millis(RLPX_TIMEOUT_MS);
    assert!(start.elapsed() < five, "{:?}", start.elapsed());
    assert_eq!(silent.next_back().map(hung_up), Some(0));
    assert!(start.elapsed() >= five - TICK, "{:?}", start.elapsed());
    healthy.assert_served();
}

#[test]
fn a_reset_in_the_middle_of_an_answer_ends_only_that_peer() {
    let a = Node::start(reactor_config(1));
    let mut healthy = Bare::dial(3, &a).unwrap();
    a.connected();
    for n in 10..14 {
        let mut bare = Bare::dial(n, &a).unwrap();
        for id in 0..20 {
            bare.request(id, &bodies_request());
        }
        a.connected();
        // Closing with unread bytes resets the connection.
        let _ = bare.stream.read(&mut [0; 1000]);
        drop(bare);
        let (_, close) = a.gone();
        assert!(matches!(close, Close::Io(_)), "{close:?}");
        healthy.assert_served();
    }
}

#[test]
fn a_peer_that_says_why_it_goes_is_heard_even_if_we_were_writing_to_it() {
    let a = Node::start(reactor_config(1));
    let mut bare = Bare::dial(3, &a).unwrap();
    a.connected();
    bare.request(1, &headers_request());
    bare.session.disconnect(Cause::NoCommonEth);
    bare.flush().unwrap();
    drop(bare);
    let (_, close) = a.gone();
    assert!(
        is_remote(&close, DisconnectReason::UselessPeer),
        "{close:?}"
    );
}

#[test]
fn a_stop_does_not_wait_for_a_peer_that_does_not_read() {
    let took = quickest(|| {
        let a = Node::start(reactor_config(1));
        let mut stalled = Bare::dial(3, &a).unwrap();
        for id in 0..50 {
            stalled.request(id, &bodies_request());
        }
        eventually("it is being answered", || {
            a.answers.load(Ordering::SeqCst) > 0
        });
        a.stop()
    });
    assert!(took.as_millis() < u128::from(LINGER_MS), "{took:?}");
}

#[test]
fn two_thousand_connects_leave_the_node_as_it_was() {
    let a = Node::start(reactor_config(1));
    let mut healthy = Bare::dial(3, &a).unwrap();
    for _ in 0..2_000 {
        drop(TcpStream::connect(a.addr).unwrap());
    }
    healthy.assert_served();
    Bare::dial(4, &a).unwrap().assert_served();
}

#[test]
fn a_flood_of_small_requests_does_not_starve_another_peer() {
    let a = Node::start(reactor_config(1));
    let mut flood = Bare::dial(3, &a).unwrap();
    let mut polite = Bare::dial(4, &a).unwrap();
    // It goes on until the other has been served.
    let is_served = Arc::new(AtomicBool::new(false));
    let is_over = is_served.clone();
    let writer = std::thread::spawn(move || {
        for id in (0..).take_while(|id| id % 100 > 0 || !is_over.load(Ordering::SeqCst)) {
            flood
                .send(Outgoing::Request {
                    id,
                    request: &headers_request(),
                })
                .unwrap();
            if id % 100 == 99 {
                flood.flush().unwrap();
                for _ in 0..100 {
                    assert!(matches!(flood.message(), Message::Headers { .. }));
                }
            }
        }
    });
    for _ in 0..100 {
        polite.assert_served();
    }
    is_served.store(true, Ordering::SeqCst);
    writer.join().unwrap();
}
