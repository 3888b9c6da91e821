//! What peers ask.

use alloy_primitives::{B256, keccak256};
use cairn_net::eth::message::{Message, Request, Start};
use cairn_net::limits::{MAX_HASH_REQUEST_BYTES, MAX_ITEMS};
use cairn_net::p2p::DisconnectReason;

use crate::peer::puppet::{End, Puppet};
use crate::{BLOCKS, CHAIN, MIB, Watched, alone};

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
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let watched = Watched::start(dir.path(), true);
    let before = watched.memory();
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
    // A hundred thousand are refused by their length, whatever is asked for.
    let all = || hashes.clone();
    for (n, request) in [
        Request::Bodies { hashes: all() },
        Request::Receipts {
            hashes: all(),
            first_index: u64::MAX,
        },
        Request::BlockAccessLists { hashes: all() },
    ]
    .iter()
    .enumerate()
    {
        let mut endless = Puppet::ready(4 + n as u8, watched.target);
        endless.request(5, request);
        assert_eq!(endless.end(), End::Told(DisconnectReason::Subprotocol));
    }
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
    // Receipts from the last index that can be said on, and of blocks that nobody has.
    for (n, hash) in [CHAIN[0].header.hash, B256::repeat_byte(7)]
        .into_iter()
        .enumerate()
    {
        let id = 8 + n as u64;
        let hashes = vec![hash; MAX_ITEMS];
        puppet.request(
            id,
            &Request::Receipts {
                hashes,
                first_index: u64::MAX,
            },
        );
        match puppet.message() {
            Some(Message::Receipts {
                id: found, blocks, ..
            }) => assert_eq!((found, blocks.len()), (id, 0)),
            other => panic!("{other:?}"),
        }
    }
    watched.assert_memory("absurd requests", before, 16 * MIB);
    watched.over("absurd requests");
}
