//! Many connections, or one that should not be, over real sockets: caps by node, by address and by rate hold, and an honest peer is
//! served all the while.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Instant;

use cairn_net::limits::{ACCEPTS_PER_TURN, MAX_INBOUND_HANDSHAKES};
use cairn_net::p2p::{self, DisconnectReason};
use cairn_net::reactor::NetEvent;
use cairn_net::session::Close;
use common::puppet::{End, Puppet, auth, connect};
use common::steps::*;
use common::*;

#[test]
fn a_peer_under_the_nodes_own_key_is_told_that_it_is_the_node_itself() {
    let (node, target, honest) = watched(53);
    let mut puppet = Puppet::dial(53, target);
    assert_eq!(puppet.end(), End::Told(DisconnectReason::SelfConnect));
    over(&node, honest, "itself");
}

#[test]
fn of_a_hundred_connections_under_one_id_the_first_stays() {
    let (node, target, honest) = watched(1);
    let mut first = Puppet::ready(3, target);
    node.connected();
    for _ in 0..100 {
        let mut puppet = Puppet::dial(3, target);
        puppet.say_hello(|_| {});
        assert_eq!(puppet.end(), End::Told(DisconnectReason::AlreadyConnected));
    }
    first.request(1, &headers_request());
    assert!(first.message().is_some());
    over(&node, honest, "one id a hundred times");
}

#[test]
fn a_storm_of_disconnects_is_heard_and_forgotten() {
    let (node, target, honest) = watched(1);
    for n in 0..300_u32 {
        let step = STEPS[n as usize % 3];
        let mut puppet = step.reach(3 + (n % 5) as u8, target);
        // Several at once: only the first is read.
        for reason in [n as u8, 0x04, 0x00] {
            puppet.say_raw(p2p::DISCONNECT, &[0xc1, reason & 0x7f]);
        }
        assert_eq!(
            puppet.end(),
            End::Silent,
            "{step:?}: nothing is said to who said goodbye"
        );
        if matches!(step, Step::Ready) {
            let of_this = |event: NetEvent| match event {
                NetEvent::Connected { .. } => None,
                NetEvent::Gone { close, .. } => Some(close),
                NetEvent::Message { .. } => panic!("it said none"),
            };
            assert_eq!(of_this(node.event()), None);
            let close = of_this(node.event());
            assert!(matches!(close, Some(Close::Remote { .. })), "{close:?}");
        }
    }
    over(&node, honest, "a storm of disconnects");
}

#[test]
fn a_flood_of_connections_that_stop_at_any_step_locks_nobody_out() {
    let (node, target, honest) = watched(1);
    let mut held: Vec<TcpStream> = Vec::new();
    for n in 0..300 {
        match n % 3 {
            0 => held.push(connect(target.0)),
            1 => {
                let mut stream = connect(target.0);
                stream.write_all(&[0x01]).unwrap();
                held.push(stream);
            }
            _ => {
                let mut stream = connect(target.0);
                let (_, auth) = auth(100 + (n % 100) as u8, target.1);
                stream.write_all(&auth).unwrap();
                held.push(stream);
            }
        }
        if n % 50 == 0 {
            let mut late = Puppet::ready(3, target);
            late.request(1, &headers_request());
            assert!(late.message().is_some());
            node.connected();
            drop(late);
            node.gone();
        }
    }
    over(&node, honest, "a flood of half handshakes");
    let mut oldest = &held[0];
    assert!(
        matches!(oldest.read(&mut [0; 1]), Ok(0) | Err(_)),
        "it made room"
    );
}

#[test]
fn of_many_that_come_at_once_nobody_who_has_spoken_is_taken_for_silent() {
    let node = Node::start(reactor_config(1));
    let mut asks = Puppet::ready(3, (node.addr, node.id));
    node.connected();
    let say_auth = |n: usize| {
        let mut stream = connect(node.addr);
        stream
            .write_all(&auth(100 + (n % 100) as u8, node.id).1)
            .unwrap();
        stream
    };
    let had_ack = |mut stream: TcpStream| stream.read_exact(&mut [0; 2]).unwrap();
    let _under_way: Vec<TcpStream> = (0..MAX_INBOUND_HANDSHAKES).map(say_auth).collect();
    // Its thread is held up, as by a machine that is busy, while more come.
    let gate = node.gate.lock().unwrap();
    asks.request(1, &headers_request());
    let start = Instant::now();
    while node.answers.load(Ordering::SeqCst) == 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let at_once: Vec<TcpStream> = (0..2 * ACCEPTS_PER_TURN).map(say_auth).collect();
    drop(gate);
    at_once.into_iter().for_each(had_ack);
}
