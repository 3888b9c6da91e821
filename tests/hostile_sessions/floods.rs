//! What peers cost: answers that they do not read, frames and messages that claim much, connections by the thousand.

use std::time::Duration;

use alloy_primitives::B256;
use cairn_net::eth::message::{AnswerKind, Outgoing, Request, code};
use cairn_net::limits::{
    MAX_FRAME_BYTES, MAX_ITEMS, MAX_MESSAGE_BYTES, OUTPUT_LIMIT_BYTES, READ_BUFFER_BYTES,
};
use cairn_net::p2p::{Capability, DISCONNECT, FIRST_CAPABILITY_ID};
use cairn_net::rlpx::frame::HEADER_BYTES;

use crate::peer::puppet::{End, Puppet, connect};
use crate::peer::steps::{BREACH, SUBPROTOCOL, Step, noise};
use crate::{CHAIN, MIB, Watched, alone, peer};

#[test]
fn thousands_of_requests_whose_answers_are_never_read_cost_a_full_output_each_and_no_more() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let watched = Watched::start(dir.path(), true);
    let before = watched.memory();
    const PEERS: u8 = 6;
    let hashes: Vec<B256> = CHAIN.iter().map(|block| block.header.hash).collect();
    let request = Request::Bodies { hashes };
    let mut puppets: Vec<Puppet> = (0..PEERS)
        .map(|n| Puppet::ready(20 + n, watched.target))
        .collect();
    for puppet in &mut puppets {
        // What the node does not read any more, the sockets do not take.
        puppet
            .stream
            .set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let mut wire = Vec::new();
        for id in 0..5_000 {
            let mut payload = Vec::new();
            Outgoing::Request {
                id,
                request: &request,
            }
            .encode(puppet.eth, &mut payload);
            let packed = snap::raw::Encoder::new().compress_vec(&payload).unwrap();
            wire.extend(puppet.sealed(&[&[0x10 + code::GET_BLOCK_BODIES][..], &packed].concat()));
        }
        puppet.write(&wire);
    }
    std::thread::sleep(Duration::from_secs(1));
    // Output that is full, and the answer that made it so; a vector grows to twice what it holds.
    let each = 2 * (OUTPUT_LIMIT_BYTES as u64 + 3 * MIB);
    watched.assert_memory("answers not read", before, u64::from(PEERS) * each);
    drop(puppets);
    watched.assert_memory("afterwards", before, 32 * MIB); // what the allocator keeps
    watched.over("answers not read");
}

#[test]
fn frames_that_are_announced_and_never_come_cost_what_came_of_them() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let watched = Watched::start(dir.path(), true);
    const PEERS: u8 = 60;
    let mut puppets: Vec<Puppet> = (0..PEERS)
        .map(|n| Puppet::ready(20 + n, watched.target))
        .collect();
    let before = watched.memory();
    // The longest frame that is taken at all: 10 MiB that do not compress.
    let longest = MAX_MESSAGE_BYTES + MAX_MESSAGE_BYTES / 6;
    let mut wires = Vec::new();
    for puppet in &mut puppets {
        let mut whole = Vec::new();
        puppet.link.writer.write(&[&vec![0; longest]], &mut whole);
        let mut wire = whole[..HEADER_BYTES].to_vec();
        wire.extend_from_slice(&[7; 100]);
        puppet.write(&wire);
        wires.push(wire);
    }
    std::thread::sleep(Duration::from_millis(500));
    watched.assert_memory("announced frames", before, 4 * MIB);
    // What comes is kept until the frame is whole: all but the last byte of it, from two of them.
    for puppet in &mut puppets[..2] {
        puppet.write(&vec![7; longest - 100]);
    }
    std::thread::sleep(Duration::from_millis(500));
    watched.assert_memory(
        "frames that lack a byte",
        before,
        2 * 2 * longest as u64 + 4 * MIB,
    );
    drop(puppets);
    watched.assert_memory("afterwards", before, 8 * MIB);
    watched.over("frames that never come");
}

#[test]
fn ten_thousand_connections_and_a_storm_of_disconnects_leave_the_node_as_it_was() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let watched = Watched::start(dir.path(), true);
    let before = watched.memory();
    for _ in 0..10_000 {
        drop(connect(watched.target.0));
    }
    watched.assert_memory("ten thousand connections", before, 8 * MIB);
    for n in 0..300_u32 {
        let mut puppet = match n % 3 {
            0 => Puppet::dial(3, watched.target),
            1 => Puppet::greeted(3, watched.target),
            _ => Puppet::ready(3, watched.target),
        };
        puppet.say_raw(DISCONNECT, &[0xc1, 0x04]);
        assert_eq!(puppet.end(), End::Silent);
    }
    watched.assert_memory("a storm of disconnects", before, 8 * MIB);
    // A stranger cannot fill the log: connections that say nothing are told of ten times a second.
    let log = std::fs::metadata(&watched.node.log).unwrap().len();
    assert!(log < MIB / 2, "{log} bytes of log");
    watched.over("storms");
}

/// A step, and what is done there.
type Attack = (&'static str, Step, fn(&mut Puppet));

/// Each claims more than it is, or is as long as it may be.
const ATTACKS: [Attack; 16] = [
    ("noise for a Hello", Step::Hello, |puppet| {
        puppet.write(&noise(100_000));
    }),
    ("noise for a Status", Step::Status, |puppet| {
        puppet.write(&noise(100_000));
    }),
    ("noise", Step::Ready, |puppet| puppet.write(&noise(100_000))),
    ("a wrong MAC", Step::Ready, |puppet| {
        let mut wire = puppet.sealed(&noise(MAX_MESSAGE_BYTES));
        let last = wire.len() - 1;
        wire[last] ^= 1;
        puppet.write(&wire);
    }),
    ("a frame of 16 MiB", Step::Ready, |puppet| {
        let wire = puppet.sealed(&vec![0; MAX_FRAME_BYTES]);
        puppet.write(&wire);
    }),
    ("a Hello of 10,000 capabilities", Step::Hello, |puppet| {
        let one = Capability {
            name: "eth".to_owned(),
            version: 69,
        };
        puppet.say_hello(|hello| hello.capabilities = vec![one; 10_000]);
    }),
    ("a Status of 4 GiB", Step::Status, |puppet| {
        puppet.say_raw(FIRST_CAPABILITY_ID, &FOUR_GIB);
    }),
    ("headers of 4 GiB", Step::Ready, |puppet| {
        puppet.say_raw(FIRST_CAPABILITY_ID + code::BLOCK_HEADERS, &FOUR_GIB);
    }),
    ("a request of 4 GiB", Step::Ready, |puppet| {
        puppet.say_raw(FIRST_CAPABILITY_ID + code::GET_BLOCK_BODIES, &FOUR_GIB);
    }),
    ("zeros for headers", Step::Ready, |puppet| {
        puppet.say_eth(code::BLOCK_HEADERS, &vec![0; MAX_MESSAGE_BYTES]);
    }),
    ("empty lists for headers", Step::Ready, |puppet| {
        puppet.say_eth(code::BLOCK_HEADERS, &lists(0xc0));
    }),
    ("empty lists for bodies", Step::Ready, |puppet| {
        puppet.say_eth(code::BLOCK_BODIES, &lists(0xc0));
    }),
    ("lists in lists for receipts", Step::Ready, |puppet| {
        puppet.say_eth(code::RECEIPTS, &lists(0xc1));
    }),
    ("a block of empty lists", Step::Ready, |puppet| {
        puppet.say_eth(code::NEW_BLOCK, &lists(0xc0));
    }),
    ("headers of 2^64-1 bytes", Step::Ready, |puppet| {
        puppet.say_eth(code::BLOCK_HEADERS, &[0xff; 9]);
    }),
    ("bodies that nobody asked for", Step::Ready, |puppet| {
        let body = peer::body();
        let (kind, id) = (AnswerKind::Bodies, 7);
        puppet.send(Outgoing::Answer {
            kind,
            id,
            items: &[body; 4],
        });
    }),
];

/// A length before snappy.
const FOUR_GIB: [u8; 6] = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];

/// The number 1 and a list of as many of these bytes as a message has room for, each of which begins a list.
fn lists(byte: u8) -> Vec<u8> {
    let mut message = vec![byte; MAX_MESSAGE_BYTES];
    let list = |length: usize| {
        [
            0xfa,
            (length >> 16) as u8,
            (length >> 8) as u8,
            length as u8,
        ]
    };
    message[..4].copy_from_slice(&list(MAX_MESSAGE_BYTES - 4));
    message[4] = 1;
    message[5..9].copy_from_slice(&list(MAX_MESSAGE_BYTES - 9));
    message
}

#[test]
fn many_short_answers_of_a_thousand_empty_items_are_not_all_in_memory_at_once() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let watched = Watched::start(dir.path(), true);
    let empty: &[u8] = &[0xc0];
    let mut puppets: Vec<Puppet> = (0..10)
        .map(|n| Puppet::ready(20 + n, watched.target))
        .collect();
    let resident = watched.status("VmHWM:");
    for puppet in &mut puppets {
        let mut wire = Vec::new();
        // Some 112 bytes each: 32 KiB when they are read.
        while wire.len() < READ_BUFFER_BYTES {
            let mut payload = Vec::new();
            let (kind, id) = (AnswerKind::Bodies, 7);
            Outgoing::Answer {
                kind,
                id,
                items: &[empty; MAX_ITEMS],
            }
            .encode(puppet.eth, &mut payload);
            let packed = snap::raw::Encoder::new().compress_vec(&payload).unwrap();
            let body = [&[FIRST_CAPABILITY_ID + code::BLOCK_BODIES][..], &packed].concat();
            wire.extend(puppet.sealed(&body));
        }
        puppet.write(&wire);
    }
    for mut puppet in puppets {
        assert_eq!(puppet.end(), SUBPROTOCOL);
    }
    let more = watched.status("VmHWM:") - resident;
    println!("{} KiB at most", more / 1024);
    assert!(more < 10 * MIB, "{more} bytes more at most");
    watched.over("many short answers");
}

#[test]
fn what_messages_claim_is_not_allocated_and_what_they_are_is_not_kept() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let watched = Watched::start(dir.path(), true);
    let before = watched.memory();
    let [resident, mapped] = ["VmHWM:", "VmPeak:"].map(|name| watched.status(name));
    for (n, (what, step, attack)) in ATTACKS.into_iter().enumerate() {
        // Two faults are no ban yet, or only then.
        for _ in 0..2 {
            let mut puppet = step.reach(20 + n as u8, watched.target);
            attack(&mut puppet);
            let end = puppet.end();
            let is_fault = matches!(end, BREACH | SUBPROTOCOL);
            assert!(is_fault, "{what}: {end:?}");
        }
    }
    // The longest message, what it is unpacked to and what is made of it, and a vector that grows.
    let most = 6 * MAX_MESSAGE_BYTES as u64;
    let more = watched.status("VmHWM:") - resident;
    println!("{} KiB at most", more / 1024);
    assert!(more < most, "{more} bytes more at most");
    let more = watched.status("VmPeak:") - mapped;
    assert!(more < 512 * MIB, "{more} bytes were allocated");
    watched.assert_memory("claims", before, 32 * MIB); // what the allocator keeps
    watched.over("claims");
}
