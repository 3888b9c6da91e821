//! A whole node and peers that mean harm: what they ask, what they answer and how many they are. Its memory is measured from outside,
//! and an honest peer is served all the while.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "../net/tests/common/mod.rs"]
mod peer;

use std::path::Path;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, keccak256};
use cairn::generate::{self, GeneratedBlock, Params};
use cairn_net::enode::Enode;
use cairn_net::eth::message::{AnswerKind, Message, Outgoing, Request, Start, code};
use cairn_net::limits::{MAX_HASH_REQUEST_BYTES, MAX_ITEMS, MAX_MESSAGE_BYTES, OUTPUT_LIMIT_BYTES};
use cairn_net::p2p::DisconnectReason;
use cairn_net::rlpx::frame::HEADER_BYTES;
use common::{Node, chain_file, run_ok, text};
use peer::puppet::{End, Honest, Puppet, Target, connect};

const BLOCKS: u64 = 120;
const MIB: u64 = 1 << 20;

/// The memory of nodes is measured: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn params() -> Params {
    Params {
        blocks: BLOCKS,
        txs_per_block: 2,
        seed: 4,
        body_bytes: Some(60_000),
        ..Params::default()
    }
}

/// The chain that the node serves.
static CHAIN: LazyLock<Vec<GeneratedBlock>> =
    LazyLock::new(|| generate::blocks(&params()).1.collect());

/// A node that holds the chain (or only its genesis) and has one honest peer.
struct Watched {
    node: Node,
    target: Target,
    honest: Honest,
}

impl Watched {
    fn start(dir: &Path, is_full: bool) -> Watched {
        let data = dir.join("node");
        let chain = chain_file(dir, &params());
        run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
        if is_full {
            run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
        }
        let node = Node::start(&data, &["--maxpeers", "200"]);
        let enode: Enode = node.enode.parse().unwrap();
        let target = (enode.tcp_addr(), enode.id);
        let request = Request::Headers {
            start: Start::Number(0),
            amount: 3,
            skip: 0,
            reverse: false,
        };
        let honest = Honest::start(9, target, request, if is_full { 3 } else { 1 });
        Watched {
            node,
            target,
            honest,
        }
    }

    /// Anonymous memory of the node's process, in bytes.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.node.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib * 1024
    }

    /// How much more memory there is than `before`, which must stay below the bound. Waits until it is, or patience ends.
    #[track_caller]
    fn assert_memory(&self, what: &str, before: u64, most: u64) {
        let start = Instant::now();
        loop {
            let more = self.memory().saturating_sub(before);
            if more <= most || start.elapsed() > Duration::from_secs(10) {
                println!(
                    "{what}: {} KiB more than before, at most {} KiB",
                    more / 1024,
                    most / 1024
                );
                assert!(more <= most, "{what}: {more} bytes more, at most {most}");
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn over(self, what: &str) {
        self.honest.finish(what);
        self.node.stop();
    }
}

fn headers(start: Start, amount: u64, skip: u64, reverse: bool) -> Request {
    Request::Headers {
        start,
        amount,
        skip,
        reverse,
    }
}

#[test]
fn requests_at_the_ends_of_what_numbers_can_be_are_answered_with_what_there_is() {
    let _alone = ALONE.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let watched = Watched::start(dir.path(), true);
    let mut puppet = Puppet::ready(3, watched.target);
    let head = Start::Number(BLOCKS);
    let first = Start::Number(0);
    let max = u64::MAX;
    let all = BLOCKS as usize + 1;
    for (n, (request, count)) in [
        (headers(Start::Number(max), max, max, false), 0),
        (headers(Start::Number(max), max, max, true), 0),
        (headers(Start::Number(max), 1, 0, true), 0),
        (headers(Start::Hash(B256::repeat_byte(7)), 5, 0, false), 0),
        (headers(first, 0, 0, false), 0),
        (headers(first, max, 0, false), all),
        (headers(first, max, max, false), 1),
        (headers(first, max, max, true), 1),
        (headers(head, max, 0, true), all),
        (headers(head, max, max - 1, true), 1),
        (headers(head, 3, max / 2, false), 1),
        (headers(Start::Number(1), max, max - 1, false), 1),
        (headers(Start::Number(BLOCKS + 1), 1, 0, true), 0),
    ]
    .into_iter()
    .enumerate()
    {
        let id = [0, 1, max][n % 3];
        puppet.request(id, &request);
        match puppet.message() {
            Some(Message::Headers { id: found, headers }) => {
                assert_eq!((found, headers.len()), (id, count), "{request:?}");
            }
            other => panic!("{request:?}: {other:?}"),
        }
    }

    // As many hashes as a request may have: the known ones come first, then only such as nobody has.
    let known = CHAIN.iter().map(|block| block.header.hash);
    let unknown = (0..100_000_u32).map(|n| keccak256(n.to_be_bytes()));
    let hashes: Vec<B256> = known.take(20).chain(unknown).collect();
    let most = MAX_HASH_REQUEST_BYTES / 33 - 1;
    puppet.request(
        5,
        &Request::Bodies {
            hashes: hashes[..most].to_vec(),
        },
    );
    match puppet.message() {
        Some(Message::Bodies { id: 5, bodies }) => {
            let bodies: Vec<&[u8]> = bodies.iter().map(|body| &body[..]).collect();
            let stored: Vec<&[u8]> = CHAIN[..20].iter().map(|block| &block.body[..]).collect();
            assert!(bodies == stored, "{} bodies", bodies.len());
        }
        other => panic!("{other:?}"),
    }
    // A hundred thousand are refused by their length.
    let mut endless = Puppet::ready(4, watched.target);
    endless.request(
        5,
        &Request::Bodies {
            hashes: hashes.clone(),
        },
    );
    assert_eq!(endless.end(), End::Told(DisconnectReason::Subprotocol));
    // The known ones behind all that a request may name are not looked for.
    let late: Vec<B256> = hashes[20..20 + MAX_ITEMS]
        .iter()
        .chain(&hashes[..1])
        .copied()
        .collect();
    puppet.request(6, &Request::Bodies { hashes: late });
    assert!(
        matches!(puppet.message(), Some(Message::Bodies { id: 6, bodies }) if bodies.is_empty())
    );
    // The same block a thousand times: bounded by bytes as any answer.
    let same = vec![CHAIN[0].header.hash; MAX_ITEMS];
    puppet.request(7, &Request::Bodies { hashes: same });
    match puppet.message() {
        Some(Message::Bodies { id: 7, bodies }) => assert!((30..40).contains(&bodies.len())),
        other => panic!("{other:?}"),
    }
    watched.over("absurd requests");
}

#[test]
fn thousands_of_requests_whose_answers_are_never_read_cost_a_full_output_each_and_no_more() {
    let _alone = ALONE.lock().unwrap();
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
    let _alone = ALONE.lock().unwrap();
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
        let mut wire = Vec::new();
        drop(puppet.link.writer.begin(longest, &mut wire));
        wire.truncate(HEADER_BYTES);
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
    let _alone = ALONE.lock().unwrap();
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
        puppet.say_raw(cairn_net::p2p::DISCONNECT, &[0xc1, 0x04]);
        assert_eq!(puppet.end(), End::Silent);
    }
    watched.assert_memory("a storm of disconnects", before, 8 * MIB);
    // A stranger cannot fill the log: connections that say nothing are told of ten times a second.
    let log = std::fs::metadata(&watched.node.log).unwrap().len();
    assert!(log < MIB / 2, "{log} bytes of log");
    watched.over("storms");
}

#[test]
fn answers_other_than_what_was_asked_for_end_in_a_disconnect_and_change_nothing() {
    let _alone = ALONE.lock().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let watched = Watched::start(dir.path(), false);
    let chain: Vec<&[u8]> = CHAIN.iter().map(|block| &block.header.raw[..]).collect();
    let head = CHAIN.last().unwrap();
    let ready = |key| {
        Puppet::ready_with(key, watched.target, |status| {
            status.latest = status.latest.map(|_| BLOCKS);
            status.head = head.header.hash;
            status.td = status.td.map(|_| head.td);
        })
    };
    let answer = |puppet: &mut Puppet, id, items: &[&[u8]]| {
        let kind = AnswerKind::Headers;
        puppet.send(Outgoing::Answer { kind, id, items });
    };
    let told = End::Told(DisconnectReason::Subprotocol);

    // Nobody asked.
    for (n, kind) in [
        AnswerKind::Headers,
        AnswerKind::Bodies,
        AnswerKind::Receipts,
    ]
    .into_iter()
    .enumerate()
    {
        let mut puppet = Puppet::ready(20 + n as u8, watched.target);
        let (id, items) = (u64::MAX, &[][..]);
        puppet.send(Outgoing::Answer { kind, id, items });
        assert_eq!(puppet.end(), told, "{kind:?} that nobody asked for");
    }

    type Lie<'a> = &'a dyn Fn(&mut Puppet, u64, usize, usize);
    let lies: [(&str, Lie<'_>); 6] = [
        ("too many", &|puppet, id, first, count| {
            let more = (count + 1).min(chain.len() - first);
            let mut items = chain[first..first + more].to_vec();
            while items.len() <= count {
                items.push(chain[0]);
            }
            answer(puppet, id, &items);
        }),
        ("out of order", &|puppet, id, first, count| {
            let mut items = chain[first..]
                .iter()
                .copied()
                .take(count)
                .collect::<Vec<_>>();
            items.swap(0, 1);
            answer(puppet, id, &items);
        }),
        ("of other blocks", &|puppet, id, first, count| {
            let items: Vec<&[u8]> = chain[first + 3..].iter().copied().take(count).collect();
            answer(puppet, id, &items);
        }),
        ("under another id", &|puppet, id, first, count| {
            let items: Vec<&[u8]> = chain[first..].iter().copied().take(count).collect();
            answer(puppet, id ^ 0x5555, &items);
        }),
        ("of another kind", &|puppet, id, _, _| {
            let (kind, items) = (AnswerKind::Bodies, &[&[0xc2, 0xc0, 0xc0][..]][..]);
            puppet.send(Outgoing::Answer { kind, id, items });
        }),
        ("no headers at all", &|puppet, id, _, _| {
            answer(puppet, id, &[&[0xc1, 0x80]]);
        }),
    ];
    for (n, (what, lie)) in lies.into_iter().enumerate() {
        let mut puppet = ready(40 + n as u8);
        // The first request that names a number is answered with the lie.
        loop {
            let Some(Message::Request { id, request }) = puppet.message() else {
                panic!("{what}: nothing was asked");
            };
            match request {
                Request::Headers {
                    start: Start::Number(first),
                    amount,
                    skip: 0,
                    reverse: false,
                } if (1..chain.len() as u64 - 4).contains(&first) => {
                    lie(&mut puppet, id, first as usize - 1, amount as usize);
                    break;
                }
                Request::Headers {
                    start: Start::Hash(hash),
                    ..
                } => {
                    let found = CHAIN.iter().find(|block| block.header.hash == hash);
                    let items: Vec<&[u8]> =
                        found.iter().map(|block| &block.header.raw[..]).collect();
                    answer(&mut puppet, id, &items);
                }
                other => panic!("{what}: {other:?}"),
            }
        }
        assert_eq!(puppet.end(), told, "{what}");
        assert_eq!(watched.node.head(), 0, "{what}");
    }
    watched.over("false answers");
}
