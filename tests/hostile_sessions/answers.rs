//! What peers answer.

use std::time::Duration;

use alloy_primitives::{B256, keccak256};
use alloy_rlp::Header;
use cairn_net::eth::message::{AnswerKind, Message, Outgoing, Request, Start};
use cairn_net::p2p::DisconnectReason;

use crate::common::reader;
use crate::peer::puppet::{End, Puppet};
use crate::{BLOCKS, CHAIN, MIB, Watched, alone};

/// A peer that claims the chain.
fn ahead(watched: &Watched, key: u8) -> Puppet {
    let head = CHAIN.last().unwrap();
    Puppet::ready_with(key, watched.target, |status| {
        status.latest = status.latest.map(|_| BLOCKS);
        status.head = head.header.hash;
        status.td = status.td.map(|_| head.td);
    })
}

/// The honest answer.
fn truth(request: &Request) -> (AnswerKind, Vec<&'static [u8]>) {
    let of = |hash: &B256| CHAIN.iter().find(|block| block.header.hash == *hash);
    match request {
        Request::Headers {
            start: Start::Number(first),
            amount,
            skip: 0,
            reverse: false,
        } => {
            let chain = CHAIN.iter().map(|block| &block.header.raw[..]);
            let from = chain.skip(*first as usize - 1);
            (AnswerKind::Headers, from.take(*amount as usize).collect())
        }
        Request::Headers {
            start: Start::Hash(hash),
            ..
        } => {
            let found = of(hash).map(|block| &block.header.raw[..]);
            (AnswerKind::Headers, Vec::from_iter(found))
        }
        Request::Bodies { hashes } => {
            let found = hashes.iter().filter_map(of);
            let bodies = found.map(|block| &block.body[..]);
            (AnswerKind::Bodies, bodies.collect())
        }
        Request::Receipts {
            hashes,
            first_index: 0,
        } => {
            let found = hashes.iter().filter_map(of);
            let receipts = found.map(|block| &block.receipts[..]);
            (AnswerKind::Receipts, receipts.collect())
        }
        other => panic!("{other:?}"),
    }
}

fn answer(puppet: &mut Puppet, kind: AnswerKind, id: u64, items: &[&[u8]]) {
    puppet.send(Outgoing::Answer { kind, id, items });
}

/// The first request of this kind for so many items, and what is true of it; all before it are answered with the truth.
fn asked_for(
    puppet: &mut Puppet,
    kind: AnswerKind,
    least: usize,
    what: &str,
) -> (u64, Vec<&'static [u8]>) {
    loop {
        let Some(Message::Request { id, request }) = puppet.message() else {
            panic!("{what}: nothing was asked");
        };
        let (of, items) = truth(&request);
        if of == kind && items.len() >= least {
            return (id, items);
        }
        answer(puppet, of, id, &items);
    }
}

#[test]
fn answers_other_than_what_was_asked_for_end_in_a_disconnect_and_change_nothing() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let watched = Watched::start(dir.path(), false);
    let before = watched.memory();
    let chain: Vec<&[u8]> = CHAIN.iter().map(|block| &block.header.raw[..]).collect();
    let ready = |key| ahead(&watched, key);
    let told = End::Told(DisconnectReason::Subprotocol);

    // Nobody asked.
    for (n, kind) in [
        AnswerKind::Headers,
        AnswerKind::Bodies,
        AnswerKind::Receipts,
        AnswerKind::BlockAccessLists,
    ]
    .into_iter()
    .enumerate()
    {
        let mut puppet = Puppet::ready(20 + n as u8, watched.target);
        let (id, items) = (u64::MAX, &[][..]);
        puppet.send(Outgoing::Answer { kind, id, items });
        assert_eq!(puppet.end(), told, "{kind:?} that nobody asked for");
    }

    type Lie<'a> = &'a dyn Fn(&mut Puppet, u64, &[&[u8]]);
    let headers = AnswerKind::Headers;
    let bodies = AnswerKind::Bodies;
    // Each is given the honest answer.
    let lies: [(&str, AnswerKind, Lie<'_>); 11] = [
        ("too many headers", headers, &|puppet, id, items| {
            answer(puppet, headers, id, &[items, &items[..1]].concat());
        }),
        ("headers out of order", headers, &|puppet, id, items| {
            let mut items = items.to_vec();
            items.swap(0, 1);
            answer(puppet, headers, id, &items);
        }),
        ("headers of other blocks", headers, &|puppet, id, items| {
            answer(puppet, headers, id, &items[3..]);
        }),
        ("headers under another id", headers, &|puppet, id, items| {
            answer(puppet, headers, id ^ 0x5555, items);
        }),
        ("bodies for headers", headers, &|puppet, id, _| {
            answer(puppet, bodies, id, &[&[0xc2, 0xc0, 0xc0]]);
        }),
        ("no headers at all", headers, &|puppet, id, _| {
            answer(puppet, headers, id, &[&[0xc1, 0x80]]);
        }),
        ("too many bodies", bodies, &|puppet, id, items| {
            answer(puppet, bodies, id, &[items, &items[..1]].concat());
        }),
        ("bodies out of order", bodies, &|puppet, id, items| {
            let mut items = items.to_vec();
            items.swap(0, 1);
            answer(puppet, bodies, id, &items);
        }),
        ("bodies of other blocks", bodies, &|puppet, id, items| {
            let empty: &[u8] = &[0xc2, 0xc0, 0xc0];
            answer(puppet, bodies, id, &vec![empty; items.len()]);
        }),
        ("bodies under another id", bodies, &|puppet, id, items| {
            answer(puppet, bodies, id ^ 0x5555, items);
        }),
        ("headers for bodies", bodies, &|puppet, id, _| {
            answer(puppet, headers, id, &chain[..1]);
        }),
    ];
    for (n, (what, kind, lie)) in lies.into_iter().enumerate() {
        let mut puppet = ready(40 + n as u8);
        let (id, items) = asked_for(&mut puppet, kind, 5, what);
        lie(&mut puppet, id, &items);
        assert_eq!(puppet.end(), told, "{what}");
        assert_eq!(watched.node.head(), 0, "{what}");
    }
    watched.assert_memory("false answers", before, 32 * MIB); // what the allocator keeps
    watched.over("false answers");
}

/// The first `count` of the receipts of a block.
fn some_receipts(mut receipts: &[u8], count: usize) -> Vec<u8> {
    let mut payload = Header::decode_bytes(&mut receipts, true).unwrap();
    let whole = payload;
    for _ in 0..count {
        Header::decode_bytes(&mut payload, true).unwrap();
    }
    let taken = &whole[..whole.len() - payload.len()];
    let mut list = Vec::new();
    Header {
        list: true,
        payload_length: taken.len(),
    }
    .encode(&mut list);
    list.extend_from_slice(taken);
    list
}

/// The chain does not wait for receipts: a peer that served it honestly lies about those.
#[test]
fn receipts_other_than_what_was_asked_for_end_in_a_disconnect_and_are_not_kept() {
    let _alone = alone();
    type Lie<'a> = &'a dyn Fn(&mut Puppet, u64, &[&[u8]]);
    let receipts = AnswerKind::Receipts;
    let lies: [(&str, Lie<'_>); 6] = [
        ("too many", &|puppet, id, items| {
            answer(puppet, receipts, id, &[items, &items[..1]].concat());
        }),
        ("out of order", &|puppet, id, items| {
            let mut items = items.to_vec();
            items.swap(0, 1);
            answer(puppet, receipts, id, &items);
        }),
        ("of another block", &|puppet, id, items| {
            // Of one without transactions.
            answer(puppet, receipts, id, &vec![&[0xc0][..]; items.len()]);
        }),
        ("under another id", &|puppet, id, items| {
            answer(puppet, receipts, id ^ 0x5555, items);
        }),
        ("cut short", &|puppet, id, items| {
            answer(puppet, receipts, id, &[&some_receipts(items[0], 1)]);
        }),
        ("cut, and go on with others", &|puppet, id, items| {
            let first = some_receipts(items[0], 1);
            answer(puppet, AnswerKind::CutReceipts, id, &[&first]);
            let id = loop {
                match puppet.message() {
                    Some(Message::Request {
                        id,
                        request: Request::Receipts { first_index: 1, .. },
                    }) => break id,
                    Some(Message::Request { id, request }) => {
                        let (kind, items) = truth(&request);
                        answer(puppet, kind, id, &items);
                    }
                    other => panic!("{other:?}"),
                }
            };
            answer(puppet, receipts, id, &[&first]);
        }),
    ];
    for (what, lie) in lies {
        let dir = tempfile::tempdir().unwrap();
        let watched = Watched::start_with(dir.path(), false, &["--receipts"]);
        let mut puppet = ahead(&watched, 40);
        let (id, items) = asked_for(&mut puppet, receipts, 2, what);
        lie(&mut puppet, id, &items);
        let told = End::Told(DisconnectReason::Subprotocol);
        assert_eq!(puppet.end(), told, "receipts {what}");
        let snapshot = reader(&dir.path().join("node")).snapshot();
        for (number, block) in (1..).zip(CHAIN.iter()) {
            let kept = snapshot.receipts(number).unwrap();
            assert!(kept.is_none_or(|kept| kept == block.receipts), "{what}");
        }
        watched.over(&format!("receipts {what}"));
    }
}

#[test]
fn of_a_thousand_announced_hashes_only_so_many_are_asked_for_as_a_peer_may_owe() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let watched = Watched::start(dir.path(), false);
    let before = watched.memory();
    let mut puppet = Puppet::ready(3, watched.target);
    let hashes: Vec<(B256, u64)> = (0..1_000_u32)
        .map(|n| (keccak256(n.to_be_bytes()), 1))
        .collect();
    for _ in 0..10 {
        puppet.send(Outgoing::NewBlockHashes(&hashes));
    }
    // Nothing is answered. The limit of `net`'s table: requests of ours in flight.
    let mut asked = 0;
    let mut read = |puppet: &mut Puppet| {
        let message = puppet.message().expect("it is not hung up on");
        if let Message::Request { request, .. } = message {
            assert!(matches!(request, Request::Headers { amount: 1, .. }));
            asked += 1;
        }
        asked
    };
    while read(&mut puppet) < 32 {}
    let more = Duration::from_secs(2);
    puppet.stream.set_read_timeout(Some(more)).unwrap();
    while puppet.stream.peek(&mut [0]).is_ok_and(|len| len > 0) {
        assert_eq!(read(&mut puppet), 32);
    }
    watched.assert_memory("announced hashes", before, 8 * MIB);
    watched.over("announced hashes");
}
