//! Peers that mean harm, step by step over loopback: whatever is slow, garbage, cut off, said twice or not authentic ends in the
//! reason that it has, and an honest peer is served all the while.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use cairn_net::enode::Enode;
use cairn_net::eth::message::code;
use cairn_net::p2p::{self, Capability, DisconnectReason, Hello};
use cairn_net::reactor::NetEvent;
use cairn_net::rlpx::frame::{BODY_LIMIT_BYTES, HEADER_BYTES};
use cairn_net::session::Close;
use common::puppet::{End, Honest, Puppet, Target, auth, connect, hung_up};
use common::*;

const BREACH: End = End::Told(DisconnectReason::ProtocolBreach);
const SUBPROTOCOL: End = End::Told(DisconnectReason::Subprotocol);

/// A node that has one honest peer already.
fn watched(n: u8) -> (Node, Target, Honest) {
    let node = Node::start(reactor_config(n));
    let target = (node.addr, node.id);
    let honest = Honest::start(9, target, headers_request(), 3);
    node.connected();
    (node, target, honest)
}

/// Nothing more came of the hostile, and the honest one was served.
#[track_caller]
fn over(node: &Node, honest: Honest, what: &str) {
    node.assert_quiet(50);
    honest.finish(what);
}

/// A key that did no harm yet: after four faults a node is banned.
fn stranger() -> u8 {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    100 + NEXT.fetch_add(1, Ordering::Relaxed) % 150
}

/// How far a puppet goes before it does harm.
#[derive(Clone, Copy, Debug)]
enum Step {
    Hello,
    Status,
    Ready,
}

const STEPS: [Step; 3] = [Step::Hello, Step::Status, Step::Ready];

impl Step {
    fn reach(self, key: u8, target: Target) -> Puppet {
        match self {
            Step::Hello => Puppet::dial(key, target),
            Step::Status => Puppet::greeted(key, target),
            Step::Ready => Puppet::ready(key, target),
        }
    }

    /// A frame that is right at this step.
    fn frame(self, puppet: &mut Puppet) -> Vec<u8> {
        let pong = [&[p2p::PONG][..], &[0x01, 0x00, 0xc0]].concat();
        let mut hello = Vec::new();
        Hello {
            version: p2p::VERSION,
            client: String::new(),
            capabilities: vec![],
            port: 0,
            id: id(9),
        }
        .encode(&mut hello);
        match self {
            Step::Hello => puppet.sealed(&[&[0x80][..], &hello].concat()),
            Step::Status | Step::Ready => puppet.sealed(&pong),
        }
    }
}

/// What of a peer came to the service: nothing of one that never was ready, and of another that it came and went.
fn assert_gone(node: &Node, step: Step) {
    if matches!(step, Step::Ready) {
        node.connected();
        node.gone();
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..len).map(next).collect()
}

#[test]
fn a_peer_that_trickles_is_ended_by_the_clock_at_every_step() {
    let (node, target, honest) = watched(61);
    const EACH: Duration = Duration::from_millis(100);
    let five = Duration::from_millis(4_800)..Duration::from_secs(9);
    let thirty = Duration::from_millis(29_000)..Duration::from_secs(36);
    let timeout = End::Told(DisconnectReason::Timeout);
    // The node dials a listener whose ack comes byte by byte.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    node.send(cairn_net::reactor::Command::AddStatic(Enode {
        id: id(62),
        ip: addr.ip(),
        tcp: addr.port(),
        udp: 0,
    }));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            let stream = connect(target.0);
            assert_eq!(hung_up(stream), 0);
            assert!(
                five.contains(&start.elapsed()),
                "TCP: {:?}",
                start.elapsed()
            );
        });
        scope.spawn(|| {
            let start = Instant::now();
            let mut stream = connect(target.0);
            let (_, auth) = auth(3, target.1);
            let reader = stream.try_clone().unwrap();
            scope.spawn(move || {
                for byte in auth {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(EACH);
                }
            });
            assert_eq!(hung_up(reader), 0);
            assert!(
                five.contains(&start.elapsed()),
                "auth: {:?}",
                start.elapsed()
            );
        });
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let start = Instant::now();
            let reader = stream.try_clone().unwrap();
            scope.spawn(move || {
                for byte in [0x01, 0xea, 0x04].into_iter().chain(std::iter::repeat(7)) {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(EACH);
                }
            });
            assert!(hung_up(reader) > 0, "its auth");
            assert!(
                five.contains(&start.elapsed()),
                "ack: {:?}",
                start.elapsed()
            );
        });
        for (step, key, within) in [
            (Step::Hello, 4, &five),
            (Step::Status, 5, &five),
            (Step::Ready, 6, &thirty),
        ] {
            scope.spawn(move || {
                let mut puppet = step.reach(key, target);
                // The header of a frame, and of its body a byte at a time.
                let mut wire = puppet.sealed(&noise(2000));
                let rest = wire.split_off(HEADER_BYTES);
                puppet.write(&wire);
                let (end, took) = puppet.trickle(&rest, EACH);
                assert_eq!(end, timeout, "{step:?}");
                assert!(within.contains(&took), "{step:?}: {took:?}");
            });
        }
    });
    assert_gone(&node, Step::Ready);
    over(&node, honest, "slow peers");
}

#[test]
fn garbage_instead_of_a_frame_is_a_breach_at_every_step() {
    let (node, target, honest) = watched(1);
    for step in STEPS {
        for len in [HEADER_BYTES, 1000, 100_000] {
            let mut puppet = step.reach(stranger(), target);
            puppet.write(&noise(len));
            assert_eq!(puppet.end(), BREACH, "{step:?}: {len} bytes");
            assert_gone(&node, step);
        }
    }
    // And in the place of an ack, which is nobody to be told.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    node.send(cairn_net::reactor::Command::AddStatic(Enode {
        id: id(63),
        ip: addr.ip(),
        tcp: addr.port(),
        udp: 0,
    }));
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&noise(2000)).unwrap();
    hung_up(stream);
    over(&node, honest, "garbage");
}

#[test]
fn a_wrong_mac_is_a_breach_at_every_step() {
    let (node, target, honest) = watched(1);
    for step in STEPS {
        // In the header, in its MAC, in the body, in the last byte of all.
        for at in [0, HEADER_BYTES - 1, HEADER_BYTES, usize::MAX] {
            let mut puppet = step.reach(stranger(), target);
            let mut wire = step.frame(&mut puppet);
            let at = at.min(wire.len() - 1);
            wire[at] ^= 1;
            puppet.write(&wire);
            assert_eq!(puppet.end(), BREACH, "{step:?}: byte {at}");
            assert_gone(&node, step);
        }
    }
    over(&node, honest, "wrong MACs");
}

#[test]
fn a_connection_cut_off_anywhere_is_over_and_leaves_nothing() {
    let (node, target, honest) = watched(1);
    let (_, packet) = auth(3, target.1);
    for len in [0, 1, 2, 3, 100, packet.len() - 1, packet.len()] {
        let mut stream = connect(target.0);
        stream.write_all(&packet[..len]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let said = hung_up(stream);
        assert_eq!(
            said > 0,
            len == packet.len(),
            "{len} of {} bytes",
            packet.len()
        );
    }
    for step in STEPS {
        for cut in [1, HEADER_BYTES, HEADER_BYTES + 1, usize::MAX] {
            let mut puppet = step.reach(stranger(), target);
            let wire = step.frame(&mut puppet);
            puppet.write(&wire[..cut.min(wire.len() - 1)]);
            puppet.stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(puppet.end(), End::Silent, "{step:?}: {cut} bytes");
            if matches!(step, Step::Ready) {
                node.connected();
                let (_, close) = node.gone();
                assert!(matches!(close, Close::Io(_)), "{close:?}");
            }
        }
    }
    over(&node, honest, "cut connections");
}

#[test]
fn what_is_said_twice_is_refused_at_every_step() {
    let (node, target, honest) = watched(1);
    for step in STEPS {
        let mut puppet = step.reach(stranger(), target);
        let wire = match step {
            Step::Hello => puppet.sealed(&[p2p::DISCONNECT]),
            _ => step.frame(&mut puppet),
        };
        match step {
            // Nothing but Hello may be said, and it is said once: the frame before it is replayed in its place.
            Step::Hello => {
                let mut other = Puppet::dial(4, target);
                other.write(&wire);
                assert_eq!(other.end(), BREACH, "a frame of another connection");
            }
            _ => {
                puppet.write(&wire);
                puppet.write(&wire);
                assert_eq!(puppet.end(), BREACH, "{step:?}");
                assert_gone(&node, step);
            }
        }
    }
    // A whole connection: its auth passes for new, but the first frame shows that its sender has no key.
    let (state, recorded) = auth(5, target.1);
    let mut stream = connect(target.0);
    stream.write_all(&recorded).unwrap();
    drop((state, stream));
    let mut puppet = Puppet::dial(5, target);
    let frames = Step::Hello.frame(&mut puppet);
    drop(puppet);
    let recorded = [recorded, frames].concat();
    for _ in 0..8 {
        let mut stream = connect(target.0);
        stream.write_all(&recorded).unwrap();
        let said = hung_up(stream);
        assert!(
            said > 0,
            "an ack, Hello and Disconnect that only the key's holder can read"
        );
    }
    // Whose auth it was has done nothing, and is welcome.
    drop(Puppet::ready(5, target));
    assert_gone(&node, Step::Ready);
    over(&node, honest, "replays");
}

#[test]
fn a_frame_above_its_limit_is_refused_at_its_header() {
    let (node, target, honest) = watched(1);
    for step in STEPS {
        let mut puppet = step.reach(stranger(), target);
        let mut wire = Vec::new();
        let body = vec![0; BODY_LIMIT_BYTES];
        puppet.link.writer.write(&[&body], &mut wire);
        puppet.write(&wire[..HEADER_BYTES]);
        assert_eq!(puppet.end(), BREACH, "{step:?}");
        assert_gone(&node, step);
    }
    over(&node, honest, "frames of 16 MiB");
}

#[test]
fn a_hello_of_ten_thousand_capabilities_is_refused_and_one_that_fits_is_read() {
    let (node, target, honest) = watched(1);
    let many = |count: u64| {
        let of = |version| Capability {
            name: "eth".to_owned(),
            version,
        };
        (0..count)
            .map(|n| of(1000 + n))
            .chain([of(69)])
            .collect::<Vec<_>>()
    };
    let mut puppet = Puppet::dial(3, target);
    puppet.say_hello(|hello| hello.capabilities = many(10_000));
    assert_eq!(puppet.end(), BREACH);
    let mut puppet = Puppet::dial(3, target);
    puppet.eth = 69;
    puppet.say_hello(|hello| hello.capabilities = many(200));
    puppet.read().expect("Hello");
    puppet.learn_status();
    puppet.say_status(|_| {});
    node.connected();
    drop(puppet);
    node.gone();
    over(&node, honest, "endless Hellos");
}

#[test]
fn a_length_of_four_gib_before_snappy_is_refused_before_anything_is_unpacked() {
    let (node, target, honest) = watched(1);
    const BOMB: [u8; 6] = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    for step in [Step::Status, Step::Ready] {
        for code in [code::STATUS, code::BLOCK_BODIES] {
            let mut puppet = step.reach(stranger(), target);
            puppet.say_raw(p2p::FIRST_CAPABILITY_ID + code, &BOMB);
            assert_eq!(puppet.end(), SUBPROTOCOL, "{step:?}, code {code}");
            assert_gone(&node, step);
        }
        // A Ping is not unpacked at all: what is in it does not matter.
        let mut puppet = step.reach(stranger(), target);
        puppet.say_raw(p2p::PING, &BOMB);
        let pong = std::iter::from_fn(|| puppet.read()).find(|(id, _)| *id == p2p::PONG);
        assert!(pong.is_some());
        drop(puppet);
        assert_gone(&node, step);
    }
    over(&node, honest, "snappy bombs");
}

#[test]
fn rlp_that_nests_lies_or_is_not_canonical_is_an_error_of_the_subprotocol() {
    let (node, target, honest) = watched(1);
    // Lists in lists, each of a four-byte length, as deep as a message is long.
    let mut nested = Vec::new();
    const DEPTH: usize = 100_000;
    for level in 0..DEPTH {
        let inside = (DEPTH - 1 - level) * 4;
        nested.extend_from_slice(&[
            0xfa,
            (inside >> 16) as u8,
            (inside >> 8) as u8,
            inside as u8,
        ]);
    }
    let cases: [(&str, Vec<u8>); 9] = [
        ("nothing", vec![]),
        ("nested", nested),
        ("longer than it is", vec![0xc5, 1, 0xc0]),
        ("2^64-1 bytes long", vec![0xff; 9]),
        ("a long form of a short length", vec![0xf8, 2, 1, 0xc0]),
        ("a length with a leading zero", vec![0xf9, 0, 2, 1, 0xc0]),
        ("a number with a leading zero", vec![0xc4, 0x82, 0, 1, 0xc0]),
        ("a small number in a long form", vec![0xc3, 0x81, 1, 0xc0]),
        ("more than its message", vec![0xc2, 1, 0xc0, 1]),
    ];
    let codes = [
        code::NEW_BLOCK_HASHES,
        code::GET_BLOCK_HEADERS,
        code::BLOCK_HEADERS,
        code::GET_BLOCK_BODIES,
        code::BLOCK_BODIES,
        code::NEW_BLOCK,
        code::GET_RECEIPTS,
        code::RECEIPTS,
        code::BLOCK_RANGE_UPDATE,
    ];
    for (what, payload) in &cases {
        for code in codes {
            let mut puppet = Puppet::ready(stranger(), target);
            puppet.say_eth(code, payload);
            assert_eq!(puppet.end(), SUBPROTOCOL, "{what}, code {code:#x}");
            assert_gone(&node, Step::Ready);
        }
    }
    over(&node, honest, "bad RLP");
}

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
