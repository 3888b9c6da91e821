//! Bytes that mean harm, step by step over loopback: what is garbage, cut off, said twice, not authentic or not what it claims ends in
//! the reason that it has, and an honest peer is served all the while.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use cairn_net::enode::Enode;
use cairn_net::eth::message::code;
use cairn_net::p2p::{self, Capability};
use cairn_net::reactor::Command;
use cairn_net::rlpx::entropy::Entropy;
use cairn_net::rlpx::frame::{BODY_LIMIT_BYTES, HEADER_BYTES};
use cairn_net::rlpx::handshake::{self, AwaitingAuth, Link, PREFIX_BYTES};
use cairn_net::session::Close;
use common::puppet::{End, Puppet, auth, connect, hung_up};
use common::steps::*;
use common::*;

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

/// What no decoder may take; one of them is lists in lists, so deep.
fn bad_rlp(depth: usize) -> [(&'static str, Vec<u8>); 9] {
    // Each list's length has four bytes.
    let mut nested = Vec::new();
    for level in 0..depth {
        let inside = (depth - 1 - level) * 4;
        nested.extend_from_slice(&[
            0xfa,
            (inside >> 16) as u8,
            (inside >> 8) as u8,
            inside as u8,
        ]);
    }
    [
        ("nothing", vec![]),
        ("nested", nested),
        ("longer than it is", vec![0xc5, 1, 0xc0]),
        ("2^64-1 bytes long", vec![0xff; 9]),
        ("a long form of a short length", vec![0xf8, 2, 1, 0xc0]),
        ("a length with a leading zero", vec![0xf9, 0, 2, 1, 0xc0]),
        ("a number with a leading zero", vec![0xc4, 0x82, 0, 1, 0xc0]),
        ("a small number in a long form", vec![0xc3, 0x81, 1, 0xc0]),
        ("more than its message", vec![0xc2, 1, 0xc0, 1]),
    ]
}

#[test]
fn rlp_that_nests_lies_or_is_not_canonical_is_an_error_of_the_subprotocol() {
    let (node, target, honest) = watched(1);
    let codes = [
        code::NEW_BLOCK_HASHES,
        code::TRANSACTIONS,
        code::GET_BLOCK_HEADERS,
        code::BLOCK_HEADERS,
        code::GET_BLOCK_BODIES,
        code::BLOCK_BODIES,
        code::NEW_BLOCK,
        code::NEW_POOLED_TRANSACTION_HASHES,
        code::GET_POOLED_TRANSACTIONS,
        code::POOLED_TRANSACTIONS,
        code::GET_RECEIPTS,
        code::RECEIPTS,
        code::BLOCK_RANGE_UPDATE,
        code::GET_BLOCK_ACCESS_LISTS,
        code::BLOCK_ACCESS_LISTS,
    ];
    let lists = [
        "nested",
        "a number with a leading zero",
        "a small number in a long form",
    ];
    for (what, payload) in &bad_rlp(100_000) {
        for code in codes {
            let mut puppet = Puppet::ready(stranger(), target);
            puppet.say_eth(code, payload);
            // There is no pool: of transactions only the list is looked at that all of them are, and what is in it is let be.
            let is_list = code == code::TRANSACTIONS && lists.contains(what);
            if is_list {
                puppet.request(1, &headers_request());
                assert!(puppet.message().is_some(), "{what} for transactions");
                puppet.say_raw(p2p::DISCONNECT, &[0xc1, 0x08]);
            }
            let expected = if is_list { End::Silent } else { SUBPROTOCOL };
            assert_eq!(puppet.end(), expected, "{what}, code {code:#x}");
            assert_gone(&node, Step::Ready);
        }
    }
    over(&node, honest, "bad RLP");
}

#[test]
fn garbage_in_a_frame_that_is_authentic_is_refused_at_every_step() {
    let (node, target, honest) = watched(1);
    let more = [
        ("noise", noise(1500)),
        ("zeros", vec![0; 1500]),
        ("a number", vec![5]),
        ("an empty list", vec![0xc0]),
    ];
    // As deep as there is room for before Status.
    for (what, payload) in bad_rlp(400).iter().chain(&more) {
        let mut puppet = Step::Hello.reach(stranger(), target);
        puppet.say_raw(p2p::HELLO, payload);
        assert_eq!(puppet.end(), BREACH, "{what} for a Hello");
        let mut puppet = Step::Status.reach(stranger(), target);
        puppet.say_eth(code::STATUS, payload);
        assert_eq!(puppet.end(), SUBPROTOCOL, "{what} for a Status");
        for step in [Step::Status, Step::Ready] {
            // In a Ping or a Pong it does not matter; in a Disconnect it is the end, as a breach where no reason can be read.
            let mut puppet = step.reach(stranger(), target);
            puppet.say_raw(p2p::PONG, payload);
            puppet.say_raw(p2p::PING, payload);
            let pong = std::iter::from_fn(|| puppet.read()).find(|(id, _)| *id == p2p::PONG);
            assert!(pong.is_some(), "{what} in a Ping");
            puppet.say_raw(p2p::DISCONNECT, payload);
            let end = puppet.end();
            assert!(matches!(end, End::Silent | BREACH), "{what}: {end:?}");
            assert_gone(&node, step);
        }
    }
    // Bodies of frames that begin with no message id, at every step.
    for step in STEPS {
        for body in [&[][..], &[0xff], &[0xc0], &noise(100)] {
            let mut puppet = step.reach(stranger(), target);
            let wire = puppet.sealed(body);
            puppet.write(&wire);
            assert_eq!(puppet.end(), BREACH, "{step:?}: {body:x?}");
            assert_gone(&node, step);
        }
    }
    over(&node, honest, "authentic garbage");
}

/// A node that is dialled, behind the node's own dials to it: each connection is one of those.
struct Dialled {
    key: u8,
    listener: TcpListener,
}

impl Dialled {
    /// The node is told to dial it.
    fn by(node: &Node, key: u8) -> Dialled {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        node.send(Command::AddStatic(Enode {
            id: id(key),
            ip: addr.ip(),
            tcp: addr.port(),
            udp: 0,
        }));
        Dialled { key, listener }
    }

    /// The next dial, its auth, what an honest node would answer, and its end of the link.
    fn answer(&self) -> (TcpStream, Vec<u8>, Link) {
        let (mut stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let state = AwaitingAuth::new(key(self.key));
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let mut entropy = Entropy::new(seed);
        let mut ack = Vec::new();
        let mut auth = vec![0; PREFIX_BYTES];
        stream.read_exact(&mut auth).unwrap();
        let step = state.read(&mut auth, &mut entropy, &mut ack).unwrap();
        let handshake::Step::More {
            state,
            needed_bytes,
        } = step
        else {
            panic!("an auth of two bytes")
        };
        auth.resize(needed_bytes, 0);
        stream.read_exact(&mut auth[PREFIX_BYTES..]).unwrap();
        let step = state.read(&mut auth, &mut entropy, &mut ack).unwrap();
        let handshake::Step::Done(link) = step else {
            panic!("an auth without an end")
        };
        (stream, ack, *link)
    }
}

/// The node says nothing to who cannot read it: nothing came of the dial, and who was dialled is not blamed.
#[test]
fn an_ack_that_is_garbage_cut_off_or_of_another_time_leads_to_nobody() {
    let (node, target, honest) = watched(64);
    // Its own dials come again after a second, then two: all kinds at once.
    type Kind = (&'static str, fn(&[u8]) -> Vec<u8>);
    let kinds: [Kind; 6] = [
        ("garbage", |_| noise(2000)),
        ("nothing", |_| vec![]),
        ("one byte", |ack| ack[..1].to_vec()),
        ("a prefix", |ack| ack[..2].to_vec()),
        ("all but a byte", |ack| ack[..ack.len() - 1].to_vec()),
        ("a bit turned", |ack| {
            let mut ack = ack.to_vec();
            ack[100] ^= 1;
            ack
        }),
    ];
    for (n, (what, of)) in kinds.into_iter().enumerate() {
        let dialled = Dialled::by(&node, 70 + n as u8);
        let (mut stream, ack, _) = dialled.answer();
        stream.write_all(&of(&ack)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(hung_up(stream), 0, "{what}: nothing after the auth");
    }
    // What a node once answered, and its first frame: the node takes the ack for new, and finds that no key is behind it.
    let dialled = Dialled::by(&node, 80);
    let (mut stream, ack, mut link) = dialled.answer();
    let mut recorded = ack;
    link.writer.write(&[&[0x80], &hello(80)], &mut recorded);
    stream.write_all(&recorded).unwrap();
    drop(stream);
    let (mut stream, _, _) = dialled.answer();
    stream.write_all(&recorded).unwrap();
    assert!(hung_up(stream) > 0, "Hello and Disconnect");
    drop(dialled);
    // Three faults of its own are no ban yet: that one was not counted.
    for _ in 0..3 {
        let mut puppet = Puppet::greeted(80, target);
        puppet.write(&noise(1000));
        assert_eq!(puppet.end(), BREACH);
    }
    drop(Puppet::ready(80, target));
    assert_gone(&node, Step::Ready);
    over(&node, honest, "acks");
}
