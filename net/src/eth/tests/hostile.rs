//! Hostile bytes: refused with their place, never a panic.

use alloy_primitives::{B256, U256};
use alloy_rlp::{Encodable, Header};

use super::encoded;
use crate::eth::message::{Message, Outgoing, Request, code, decode};
use crate::eth::vectors::{all, vector};
use crate::eth::{DecodeError, What};
use crate::limits::{MAX_ANNOUNCED_BLOCKS, MAX_ITEMS};

fn list(items: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    Header {
        list: true,
        payload_length: items.iter().map(|item| item.len()).sum(),
    }
    .encode(&mut out);
    items.iter().for_each(|item| out.extend_from_slice(item));
    out
}

fn refused(version: u8, code: u8, payload: Vec<u8>) -> DecodeError {
    decode(version, code, payload.into()).unwrap_err()
}

#[test]
fn codes_that_the_version_does_not_have_are_refused() {
    // 0x0d and 0x0e were GetNodeData and NodeData until eth/66.
    for (version, code) in [
        (68, 0x11),
        (68, 0x0b),
        (69, 0x0d),
        (69, 0x0e),
        (69, 0x12),
        (69, 0xff),
        (70, 0x12),
        (70, 0x13),
        (71, 0x14), // GetCells is eth/72's
    ] {
        assert_eq!(
            refused(version, code, vec![0xc0]).what,
            What::Code { code },
            "{version} {code}"
        );
    }
    assert_eq!(
        refused(69, code::STATUS, vector("STATUS_69").to_vec()).message,
        "Status"
    );
}

#[test]
fn an_error_names_message_field_and_place() {
    // [1111, [9999, 5, 5, 2]]: reverse is at byte 10.
    let mut payload = vector("GET_HEADERS_NUMBER").to_vec();
    *payload.last_mut().unwrap() = 2;
    let error = refused(68, code::GET_BLOCK_HEADERS, payload);
    assert_eq!(
        error.to_string(),
        "GetBlockHeaders: reverse at byte 10: cannot be 2"
    );
}

#[test]
fn a_start_is_a_number_of_at_most_eight_bytes_or_a_hash_of_thirty_two() {
    let request = |start: &[u8]| {
        let mut item = Vec::new();
        start.encode(&mut item);
        list(&[&[0x01], &list(&[&item, &[0x01], &[0x80], &[0x80]])])
    };
    for len in [9, 20, 31, 33] {
        let error = refused(68, code::GET_BLOCK_HEADERS, request(&vec![1; len]));
        assert_eq!(
            (error.field, error.what),
            (
                "startblock",
                What::Length {
                    expected: 8,
                    found: len
                }
            )
        );
    }
    assert!(decode(68, code::GET_BLOCK_HEADERS, request(&[1; 8]).into()).is_ok());
    assert!(
        decode(68, code::GET_BLOCK_HEADERS, request(&[0; 32]).into()).is_ok(),
        "a hash may begin with zeros"
    );
    assert_eq!(
        refused(68, code::GET_BLOCK_HEADERS, request(&[0, 1])).what,
        What::NotCanonical
    );
}

#[test]
fn rlp_that_is_not_canonical_is_refused() {
    let get_bodies = |id: &[u8]| list(&[id, &[0xc0]]);
    for id in [
        &[0x00][..],
        &[0x81, 0x05],
        &[0x82, 0x00, 0x05],
        &[0xb8, 0x01, 0x85],
        &[0xb9, 0x00, 0x38],
    ] {
        assert_eq!(
            refused(68, code::GET_BLOCK_BODIES, get_bodies(id)).what,
            What::NotCanonical,
            "{id:x?}"
        );
    }
    // A request id above 64 bits, a list for an id, a string for a list.
    let error = refused(
        68,
        code::GET_BLOCK_BODIES,
        get_bodies(&[0x89, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    );
    assert_eq!(
        error.what,
        What::Length {
            expected: 8,
            found: 9
        }
    );
    assert_eq!(
        refused(68, code::GET_BLOCK_BODIES, get_bodies(&[0xc0])).what,
        What::List
    );
    assert_eq!(
        refused(68, code::GET_BLOCK_BODIES, list(&[&[1], &[0x80]])).what,
        What::String
    );
    // A long form of a short list, and a length that is not there.
    assert_eq!(
        refused(68, code::GET_BLOCK_BODIES, vec![0xf8, 0x02, 0x01, 0xc0]).what,
        What::NotCanonical
    );
    assert_eq!(
        refused(68, code::GET_BLOCK_BODIES, vec![0xc3, 0x01, 0xc0]).what,
        What::Short
    );
    let claims_four_gib = vec![0xfb, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(
        refused(68, code::BLOCK_BODIES, claims_four_gib).what,
        What::Short
    );
    let claims_everything = [vec![0xff], vec![0xff; 8]].concat();
    assert_eq!(
        refused(68, code::BLOCK_BODIES, claims_everything).what,
        What::Short
    );
}

#[test]
fn bytes_after_the_message_and_fields_too_many_are_refused() {
    for (version, name, code) in incoming() {
        let longer = [&vector(name)[..], &[0x80]].concat();
        assert!(
            decode(version, code, longer.into()).is_err(),
            "{name} with a byte after it"
        );
        if code != code::NEW_BLOCK_HASHES && code != code::TRANSACTIONS {
            let bytes = vector(name);
            let fields = Header::decode_bytes(&mut &bytes[..], true).unwrap();
            assert!(
                decode(version, code, list(&[fields, &[0x80]]).into()).is_err(),
                "{name} with a field more"
            );
        }
    }
}

#[test]
fn an_item_that_is_no_list_is_refused() {
    let error = refused(
        68,
        code::BLOCK_HEADERS,
        list(&[&[1], &list(&[&[0xc0], &[0x83, 1, 2, 3]])]),
    );
    assert_eq!(
        (error.field, error.what, error.offset_bytes),
        ("header", What::String, 4)
    );
    let withdrawals_is_a_string = list(&[&list(&[&[0xc0], &[0xc0], &[0xc0], &[0x80]]), &[0x01]]);
    assert_eq!(
        refused(68, code::NEW_BLOCK, withdrawals_is_a_string).field,
        "withdrawals"
    );
    let no_ommers = list(&[&list(&[&[0xc0], &[0xc0]]), &[0x01]]);
    assert_eq!(refused(68, code::NEW_BLOCK, no_ommers).field, "ommers");
}

#[test]
fn an_answer_of_more_than_1024_items_is_refused_and_one_of_1024_is_not() {
    let answer = |count: usize| list(&[&[1], &list(&[&vec![0xc0; count]])]);
    let Message::Headers { headers, .. } =
        decode(68, code::BLOCK_HEADERS, answer(MAX_ITEMS).into()).unwrap()
    else {
        panic!()
    };
    assert_eq!(headers.len(), MAX_ITEMS);
    for code in [code::BLOCK_HEADERS, code::BLOCK_BODIES, code::RECEIPTS] {
        assert_eq!(
            refused(68, code, answer(MAX_ITEMS + 1)).what,
            What::TooMany { most: MAX_ITEMS }
        );
    }
}

#[test]
fn of_a_request_for_100000_hashes_the_first_1024_are_kept() {
    let hashes: Vec<u8> = (0..100_000u32)
        .flat_map(|n| {
            let mut item = [0; 33];
            item[0] = 0xa0;
            item[29..].copy_from_slice(&n.to_be_bytes());
            item
        })
        .collect();
    let payload = list(&[&[1], &list(&[&hashes])]);
    let message = decode(68, code::GET_BLOCK_BODIES, payload.into()).unwrap();
    let Message::Request {
        request: Request::Bodies { hashes },
        ..
    } = message
    else {
        panic!()
    };
    assert_eq!(hashes.len(), MAX_ITEMS);
    assert_eq!(hashes[1023], B256::from(U256::from(1023)));
    // Items that cannot all be hashes.
    let error = refused(
        68,
        code::GET_BLOCK_BODIES,
        list(&[&[1], &list(&[&[0x80; 34]])]),
    );
    assert_eq!(
        error.what,
        What::Length {
            expected: 66,
            found: 34
        }
    );
}

#[test]
fn an_endless_list_of_new_blocks_is_refused() {
    let block = list(&[&[&[0xa0][..], &[7; 32]].concat(), &[0x01]]);
    let blocks = |count: usize| list(&vec![&block[..]; count]);
    assert!(
        decode(
            68,
            code::NEW_BLOCK_HASHES,
            blocks(MAX_ANNOUNCED_BLOCKS).into()
        )
        .is_ok()
    );
    let error = refused(68, code::NEW_BLOCK_HASHES, blocks(MAX_ANNOUNCED_BLOCKS + 1));
    assert_eq!(
        error.what,
        What::TooMany {
            most: MAX_ANNOUNCED_BLOCKS
        }
    );
}

#[test]
fn a_block_range_that_is_none_is_refused() {
    let range = |earliest: u8, latest: u8, hash: [u8; 32]| {
        list(&[&[earliest], &[latest], &[&[0xa0][..], &hash].concat()])
    };
    assert_eq!(
        refused(69, code::BLOCK_RANGE_UPDATE, range(2, 1, [1; 32])).field,
        "earliest"
    );
    assert_eq!(
        refused(69, code::BLOCK_RANGE_UPDATE, range(1, 1, [0; 32])).field,
        "latestHash"
    );
}

#[test]
fn receipts_that_are_cut_must_be_there_and_nothing_else_may_be_said_of_them() {
    let answer = |flag: u8, blocks: &[u8]| list(&[&[1], &[flag], &list(&[blocks])]);
    for version in [70, 71] {
        let error = refused(version, code::RECEIPTS, answer(1, &[]));
        assert_eq!(
            (error.field, error.what),
            ("lastBlockIncomplete", What::Value { found: 1 })
        );
        assert_eq!(
            refused(version, code::RECEIPTS, answer(2, &[0xc0])).what,
            What::Value { found: 2 }
        );
        assert!(decode(version, code::RECEIPTS, answer(1, &[0xc0]).into()).is_ok());
    }
    // One version's form is not another's.
    let refuses = |version, name| refused(version, code::RECEIPTS, vector(name).to_vec()).field;
    assert_eq!(refuses(69, "RECEIPTS_70"), "items");
    assert_eq!(refuses(70, "RECEIPTS_69"), "lastBlockIncomplete");
    let refuses = |version, name| refused(version, code::GET_RECEIPTS, vector(name).to_vec()).field;
    assert_eq!(refuses(69, "GET_RECEIPTS_70"), "hashes");
    assert_eq!(refuses(70, "GET_RECEIPTS_69"), "firstBlockReceiptIndex");
}

#[test]
fn a_block_access_list_is_a_list_or_the_empty_string() {
    let answer = |item: &[u8]| list(&[&[1], &list(&[item])]);
    for item in [&[0x01][..], &[0x81, 0x80], &[0x82, 1, 2]] {
        let error = refused(71, code::BLOCK_ACCESS_LISTS, answer(item));
        assert_eq!(
            (error.field, error.what),
            ("block-access-list", What::String)
        );
    }
    assert_eq!(
        refused(
            71,
            code::BLOCK_ACCESS_LISTS,
            answer(&vec![0x80; MAX_ITEMS + 1])
        )
        .what,
        What::TooMany { most: MAX_ITEMS }
    );
}

#[test]
fn announced_transactions_have_each_a_type_a_size_and_a_hash() {
    let hash = [&[0xa0][..], &[7; 32]].concat();
    let announce = |types: &[u8], sizes: &[u8], hashes: &[&[u8]]| {
        let mut item = Vec::new();
        types.encode(&mut item);
        list(&[&item, &list(&[sizes]), &list(hashes)])
    };
    let code = code::NEW_POOLED_TRANSACTION_HASHES;
    let good = announce(&[0, 2], &[0x11, 0x12], &[&hash, &hash]);
    assert!(decode(68, code, good.into()).is_ok());
    for (payload, field) in [
        (announce(&[2], &[0x11, 0x12], &[&hash, &hash]), "txsizes"),
        (announce(&[0, 2], &[0x11], &[&hash, &hash]), "txsize"),
        (announce(&[0, 2], &[0x11, 0x12], &[&hash]), "txhash"),
        (announce(&[2], &[0x11], &[&hash, &hash]), "txhashes"),
        (announce(&[2], &[0x11], &[&[0x80]]), "txhash"),
    ] {
        assert_eq!(refused(68, code, payload).field, field);
    }
}

/// Every message that is read here, with its version and code.
fn incoming() -> Vec<(u8, &'static str, u8)> {
    let place = |name: &str| {
        Some(match name {
            _ if name.starts_with("GET_HEADERS") => (69, code::GET_BLOCK_HEADERS),
            "GET_BODIES" => (69, code::GET_BLOCK_BODIES),
            "GET_RECEIPTS" => (69, code::GET_RECEIPTS),
            "GET_RECEIPTS_70" | "GET_RECEIPTS_70_START" => (70, code::GET_RECEIPTS),
            "GET_POOLED" => (69, code::GET_POOLED_TRANSACTIONS),
            "GET_ACCESS_LISTS" => (71, code::GET_BLOCK_ACCESS_LISTS),
            "HEADERS" | "HEADERS_EMPTY" => (69, code::BLOCK_HEADERS),
            "BODIES" => (69, code::BLOCK_BODIES),
            "RECEIPTS_68" | "RECEIPTS_69" => (69, code::RECEIPTS),
            "RECEIPTS_70" | "RECEIPTS_70_WHOLE" | "RECEIPTS_70_EMPTY" => (70, code::RECEIPTS),
            "ACCESS_LISTS" | "ACCESS_LISTS_NONE" => (71, code::BLOCK_ACCESS_LISTS),
            "NEW_BLOCK_HASHES" => (69, code::NEW_BLOCK_HASHES),
            "NEW_BLOCK" | "NEW_BLOCK_EMPTY" | "NEW_BLOCK_WITHDRAWALS" => (69, code::NEW_BLOCK),
            "NEW_POOLED" | "NEW_POOLED_71" => (69, code::NEW_POOLED_TRANSACTION_HASHES),
            "POOLED" => (69, code::POOLED_TRANSACTIONS),
            "TRANSACTIONS" => (69, code::TRANSACTIONS),
            "BLOCK_RANGE_UPDATE" | "BLOCK_RANGE_ZERO" => (69, code::BLOCK_RANGE_UPDATE),
            _ => return None,
        })
    };
    all()
        .filter_map(|(name, _)| place(name).map(|(version, code)| (version, name, code)))
        .collect()
}

#[test]
fn a_truncated_message_is_refused_at_every_length() {
    let messages = incoming();
    assert_eq!(messages.len(), 30);
    for (version, name, code) in messages {
        let bytes = vector(name);
        for len in 0..bytes.len() {
            assert!(
                decode(version, code, bytes.slice(..len)).is_err(),
                "{name} cut to {len}"
            );
        }
    }
}

#[test]
fn no_single_changed_byte_makes_a_decoder_panic_or_take_what_it_does_not_write() {
    for (version, name, code) in incoming() {
        let good = vector(name);
        for at in 0..good.len().min(80) {
            for value in 0..=255u8 {
                let mut bytes = good.to_vec();
                bytes[at] = value;
                let message = decode(version, code, bytes.clone().into());
                let Ok(Message::Request { id, request }) = message else {
                    continue;
                };
                // What is read is canonical: written again it is the same.
                let request = Outgoing::Request {
                    id,
                    request: &request,
                };
                assert_eq!(encoded(version, request).1, bytes, "{name} {at} {value}");
            }
        }
    }
}
