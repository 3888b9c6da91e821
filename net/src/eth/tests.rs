//! The promises of the messages: geth's bytes are read and written.
#![allow(clippy::unwrap_used)]

mod hostile;

use alloy_primitives::{B256, U256, b256, keccak256};
use bytes::Bytes;

use super::message::{AnswerKind, Message, Outgoing, Request, Start, code, decode};
use super::vectors::vector;

const DEADC0DE: B256 = b256!("00000000000000000000000000000000000000000000000000000000deadc0de");
const FEEDBEEF: B256 = b256!("00000000000000000000000000000000000000000000000000000000feedbeef");

fn encoded(version: u8, message: Outgoing<'_>) -> (u8, Vec<u8>) {
    let mut out = b"before".to_vec();
    let code = message.encode(version, &mut out);
    assert_eq!(&out[..6], b"before", "a message is appended");
    (code, out.split_off(6))
}

/// Geth's bytes give the request, and the request gives geth's bytes.
fn is_request(version: u8, name: &str, code: u8, id: u64, request: Request) {
    let bytes = vector(name);
    assert_eq!(
        encoded(
            version,
            Outgoing::Request {
                id,
                request: &request
            }
        ),
        (code, bytes.to_vec()),
        "{name}"
    );
    assert_eq!(
        decode(version, code, bytes).unwrap(),
        Message::Request { id, request },
        "{name}"
    );
}

#[test]
fn requests_read_and_write_as_geth_does() {
    let headers = |start, amount, skip, reverse| Request::Headers {
        start,
        amount,
        skip,
        reverse,
    };
    let code = code::GET_BLOCK_HEADERS;
    let request = headers(Start::Number(9999), 5, 5, false);
    is_request(68, "GET_HEADERS_NUMBER", code, 1111, request);
    let request = headers(Start::Hash(DEADC0DE), 1024, 0, true);
    is_request(68, "GET_HEADERS_HASH", code, u64::MAX, request);
    let request = headers(Start::Number(0), 0, 0, false);
    is_request(68, "GET_HEADERS_ZERO", code, 0, request);
    let request = headers(Start::Number(u64::MAX), u64::MAX, u64::MAX, true);
    is_request(68, "GET_HEADERS_MAX", code, 1, request);

    let hashes = || vec![DEADC0DE, FEEDBEEF];
    let code = code::GET_BLOCK_BODIES;
    let request = Request::Bodies { hashes: hashes() };
    is_request(68, "GET_BODIES", code, 1111, request);
    let request = Request::BlockAccessLists { hashes: hashes() };
    let code = code::GET_BLOCK_ACCESS_LISTS;
    is_request(71, "GET_ACCESS_LISTS", code, 1111, request);
    for (version, name, first_index) in [
        (68, "GET_RECEIPTS", 0),
        (69, "GET_RECEIPTS_69", 0),
        (70, "GET_RECEIPTS_70_START", 0),
        (70, "GET_RECEIPTS_70", 5),
        (71, "GET_RECEIPTS_70", 5),
    ] {
        let hashes = hashes();
        let request = Request::Receipts {
            hashes,
            first_index,
        };
        is_request(version, name, code::GET_RECEIPTS, 1111, request);
    }
}

#[test]
fn announcements_read_and_write_as_geth_does() {
    let hash = |n: u64| B256::from(U256::from(n));
    let blocks = vec![(hash(1), 1), (hash(0xffee), 0), (hash(3), u64::MAX)];
    let bytes = vector("NEW_BLOCK_HASHES");
    assert_eq!(
        encoded(68, Outgoing::NewBlockHashes(&blocks)),
        (code::NEW_BLOCK_HASHES, bytes.to_vec())
    );
    assert_eq!(
        decode(68, code::NEW_BLOCK_HASHES, bytes).unwrap(),
        Message::NewBlockHashes(blocks)
    );

    for (name, range) in [
        ("BLOCK_RANGE_UPDATE", (15_537_394, 23_000_000, FEEDBEEF)),
        (
            "BLOCK_RANGE_ZERO",
            (
                0,
                0,
                b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"),
            ),
        ),
    ] {
        let (earliest, latest, latest_hash) = range;
        let bytes = vector(name);
        let outgoing = Outgoing::BlockRange {
            earliest,
            latest,
            latest_hash,
        };
        assert_eq!(
            encoded(69, outgoing),
            (code::BLOCK_RANGE_UPDATE, bytes.to_vec())
        );
        let message = decode(69, code::BLOCK_RANGE_UPDATE, bytes).unwrap();
        assert_eq!(
            message,
            Message::BlockRange {
                earliest,
                latest,
                latest_hash
            }
        );
    }
}

#[test]
fn a_new_block_gives_its_header_and_the_body_that_block_bodies_would_carry() {
    let td: U256 = "58750003716598352816469".parse().unwrap();
    let empty_body = Bytes::from_static(&[0xc2, 0xc0, 0xc0]);
    for (name, body, td) in [
        ("NEW_BLOCK", vector("BODY_0"), td),
        ("NEW_BLOCK_EMPTY", empty_body, U256::ZERO),
        ("NEW_BLOCK_WITHDRAWALS", vector("BODY_2"), U256::ONE),
    ] {
        let bytes = vector(name);
        let header = vector("HEADER_2");
        let outgoing = Outgoing::NewBlock {
            header: &header,
            body: &body,
            td,
        };
        assert_eq!(
            encoded(68, outgoing),
            (code::NEW_BLOCK, bytes.to_vec()),
            "{name}"
        );
        assert_eq!(
            decode(68, code::NEW_BLOCK, bytes).unwrap(),
            Message::NewBlock { header, body, td },
            "{name}"
        );
    }
}

#[test]
fn headers_come_out_as_the_very_bytes_that_hash_to_the_blocks_hash() {
    let payload = vector("HEADERS");
    let Message::Headers { id, headers } =
        decode(68, code::BLOCK_HEADERS, payload.clone()).unwrap()
    else {
        panic!()
    };
    assert_eq!(
        (id, &headers),
        (1111, &vec![vector("HEADER_1"), vector("HEADER_2")])
    );
    assert_eq!(keccak256(&headers[0]), *vector("HASH_1"));
    // Slices of the payload, not copies.
    assert!(payload.as_ptr_range().contains(&headers[0].as_ptr()));
    let items: [&[u8]; 2] = [&headers[0], &headers[1]];
    let answer = Outgoing::Answer {
        kind: AnswerKind::Headers,
        id,
        items: &items,
    };
    assert_eq!(encoded(68, answer), (code::BLOCK_HEADERS, payload.to_vec()));
    // Several in one slice make the same message.
    let joined = [&headers[0][..], &headers[1][..]].concat();
    let answer = Outgoing::Answer {
        kind: AnswerKind::Headers,
        id,
        items: &[&joined],
    };
    assert_eq!(encoded(68, answer).1, payload);
}

#[test]
fn bodies_and_receipts_come_out_raw() {
    let payload = vector("BODIES");
    let bodies = vec![
        vector("BODY_0"),
        Bytes::from_static(&[0xc2, 0xc0, 0xc0]),
        vector("BODY_2"),
    ];
    let items: Vec<&[u8]> = bodies.iter().map(|body| &body[..]).collect();
    let answer = Outgoing::Answer {
        kind: AnswerKind::Bodies,
        id: 1111,
        items: &items,
    };
    assert_eq!(encoded(68, answer), (code::BLOCK_BODIES, payload.to_vec()));
    assert_eq!(
        decode(68, code::BLOCK_BODIES, payload).unwrap(),
        Message::Bodies { id: 1111, bodies }
    );

    let of_68 = [vector("RECEIPTS_68_BLOCK_0"), Bytes::from_static(&[0xc0])];
    let of_69 = [vector("RECEIPTS_69_BLOCK_0")];
    for (version, name, blocks, last_is_cut) in [
        (68, "RECEIPTS_68", &of_68[..], false),
        (69, "RECEIPTS_69", &of_69, false),
        (70, "RECEIPTS_70", &of_69, true),
        (70, "RECEIPTS_70_WHOLE", &of_69, false),
        (71, "RECEIPTS_70_WHOLE", &of_69, false),
    ] {
        let items: Vec<&[u8]> = blocks.iter().map(|block| &block[..]).collect();
        let kind = match last_is_cut {
            false => AnswerKind::Receipts,
            true => AnswerKind::CutReceipts,
        };
        let answer = Outgoing::Answer {
            kind,
            id: 1111,
            items: &items,
        };
        let bytes = vector(name);
        assert_eq!(
            encoded(version, answer),
            (code::RECEIPTS, bytes.to_vec()),
            "{name}"
        );
        let (id, blocks) = (1111, blocks.to_vec());
        let message = Message::Receipts {
            id,
            blocks,
            last_is_cut,
        };
        assert_eq!(
            decode(version, code::RECEIPTS, bytes).unwrap(),
            message,
            "{name}"
        );
    }
}

#[test]
fn block_access_lists_come_out_raw_and_one_that_is_not_there_is_told_from_an_empty_one() {
    let account = vector("ACCESS_LISTS_2");
    let empty = Bytes::from_static(&[0xc0]);
    for (name, lists) in [
        (
            "ACCESS_LISTS",
            vec![None, Some(empty), Some(account.clone())],
        ),
        ("ACCESS_LISTS_NONE", vec![None, None]),
    ] {
        let items: Vec<&[u8]> = lists
            .iter()
            .map(|list| list.as_deref().unwrap_or(&[0x80]))
            .collect();
        let answer = Outgoing::Answer {
            kind: AnswerKind::BlockAccessLists,
            id: 1111,
            items: &items,
        };
        let payload = vector(name);
        assert_eq!(
            encoded(71, answer),
            (code::BLOCK_ACCESS_LISTS, payload.to_vec())
        );
        assert_eq!(
            decode(71, code::BLOCK_ACCESS_LISTS, payload).unwrap(),
            Message::BlockAccessLists { id: 1111, lists }
        );
    }
}

#[test]
fn the_prefix_of_a_ready_answer_and_its_items_are_the_whole_answer() {
    let (header_1, header_2) = (vector("HEADER_1"), vector("HEADER_2"));
    let items = [&header_1[..], &header_2[..]].concat();
    let ready = Outgoing::ReadyAnswer {
        kind: AnswerKind::Headers,
        id: 1111,
        raw_len: items.len(),
        streams: &[],
    };
    let (code, prefix) = encoded(69, ready);
    assert_eq!(
        (code, [prefix, items].concat()),
        (code::BLOCK_HEADERS, vector("HEADERS").to_vec())
    );
}

#[test]
fn an_empty_answer_is_an_empty_list() {
    let empty = Outgoing::EmptyAnswer {
        code: code::BLOCK_HEADERS,
        id: 7,
    };
    assert_eq!(
        encoded(68, empty),
        (code::BLOCK_HEADERS, vector("HEADERS_EMPTY").to_vec())
    );
    let message = decode(68, code::BLOCK_HEADERS, vector("HEADERS_EMPTY")).unwrap();
    assert_eq!(
        message,
        Message::Headers {
            id: 7,
            headers: vec![]
        }
    );
    // From eth/70 on an answer without receipts still says that the last block is not cut.
    let empty = Outgoing::EmptyAnswer {
        code: code::RECEIPTS,
        id: 1111,
    };
    let bytes = vector("RECEIPTS_70_EMPTY");
    assert_eq!(encoded(70, empty), (code::RECEIPTS, bytes.to_vec()));
    let answer = Outgoing::Answer {
        kind: AnswerKind::Receipts,
        id: 1111,
        items: &[],
    };
    assert_eq!(encoded(71, answer).1, bytes);
}

#[test]
fn transaction_messages_are_ignored_and_a_request_among_them_is_answered_empty() {
    for (name, code) in [
        ("NEW_POOLED", code::NEW_POOLED_TRANSACTION_HASHES),
        ("NEW_POOLED_71", code::NEW_POOLED_TRANSACTION_HASHES),
        ("TRANSACTIONS", code::TRANSACTIONS),
    ] {
        let message = decode(68, code, vector(name)).unwrap();
        assert_eq!(message, Message::Ignored { code, id: None }, "{name}");
        assert!(message.empty_answer().is_none());
    }
    assert_eq!(
        decode(71, code::POOLED_TRANSACTIONS, vector("POOLED")).unwrap(),
        Message::PooledTransactions { id: 1111 }
    );
    let request = decode(69, code::GET_POOLED_TRANSACTIONS, vector("GET_POOLED")).unwrap();
    let (code, answer) = encoded(69, request.empty_answer().unwrap());
    assert_eq!(
        (code, &answer[..]),
        (
            code::POOLED_TRANSACTIONS,
            &[0xc4, 0x82, 0x04, 0x57, 0xc0][..]
        )
    );
}
