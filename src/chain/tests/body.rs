//! Bodies: their roots, and blocks taken apart and put together.

use alloy_primitives::b256;
use bytes::Bytes;

use super::{block, vectors};
use crate::chain::{BodyError, SealedHeader, body, body::Roots};

fn kind(error: &BodyError) -> (&'static str, String) {
    let kind = match error {
        BodyError::Malformed(_) => "malformed",
        BodyError::NotOfHeader(_) => "not of header",
        BodyError::Invalid(_) => "invalid",
    };
    (kind, error.fault().field.clone())
}

fn malformed<T: std::fmt::Debug>(result: Result<T, BodyError>) -> String {
    let (kind, field) = kind(&result.unwrap_err());
    assert_eq!(kind, "malformed");
    field
}

#[test]
fn geths_bodies_have_the_roots_of_their_headers() {
    for text in [vectors::CANCUN, vectors::PRAGUE] {
        let block = block(text);
        let (raw, _) = body::split_block(&block).unwrap();
        let header = SealedHeader::decode(Bytes::copy_from_slice(raw))
            .unwrap()
            .header;
        let found = body::roots(&body::body_of_block(&block).unwrap()).unwrap();
        let expected = Roots {
            transactions: header.transactions_root,
            ommers: header.ommers_hash,
            withdrawals: header.withdrawals_root,
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn a_block_is_put_together_as_it_was() {
    for text in [vectors::CANCUN, vectors::PRAGUE] {
        let block = block(text);
        let (header, payload) = body::split_block(&block).unwrap();
        let body = body::body_of_block(&block).unwrap();
        assert!(body.ends_with(payload));
        assert_eq!(body::join_block(header, &body).unwrap(), block);
        assert_eq!(body::block_length(header.len(), &body), block.len());
    }
}

#[test]
fn transactions_are_given_as_the_trie_holds_them() {
    let block = block(vectors::PRAGUE);
    let body = body::body_of_block(&block).unwrap();
    let first: Vec<u8> = body::transactions(&body)
        .map(|raw| raw[0].min(0xc0))
        .collect();
    assert_eq!(first, [0xc0, 4, 0xc0, 2, 3, 0xc0]);
}

#[test]
fn an_empty_body_has_the_empty_roots() {
    let roots = body::roots(&[0xc3, 0xc0, 0xc0, 0xc0]).unwrap();
    let empty = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");
    assert_eq!(roots.transactions, empty);
    assert_eq!(roots.withdrawals, Some(empty));
    assert_eq!(
        roots.ommers,
        b256!("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347")
    );
    assert_eq!(body::roots(&[0xc2, 0xc0, 0xc0]).unwrap().withdrawals, None);
}

#[test]
fn blocks_end_to_end_are_taken_off_one_by_one() {
    let (cancun, prague) = (block(vectors::CANCUN), block(vectors::PRAGUE));
    let file = [&cancun[..], &prague].concat();
    let mut rest = &file[..];
    assert_eq!(body::next_block(&mut rest).unwrap(), Some(&cancun[..]));
    assert_eq!(body::next_block(&mut rest).unwrap(), Some(&prague[..]));
    assert_eq!(body::next_block(&mut rest).unwrap(), None);
    let mut cut = &file[..file.len() - 1];
    body::next_block(&mut cut).unwrap();
    assert_eq!(malformed(body::next_block(&mut cut)), "block");
}

#[test]
fn what_is_malformed_is_named() {
    let cases: [(&[u8], &str); 11] = [
        (&[], "body"),
        (&[0x80], "body"),
        (&[0xc2, 0xc0, 0xc0, 0xc0], "body"),
        (&[0xc0], "transactions"),
        (&[0xc2, 0x80, 0xc0], "transactions"),
        (&[0xc1, 0xc0], "uncles"),
        (&[0xc2, 0xc0, 0x80], "uncles"),
        (&[0xc3, 0xc0, 0xc0, 0x80], "withdrawals"),
        (&[0xc4, 0xc0, 0xc0, 0xc0, 0xc0], "body"),
        (&[0xc5, 0xc2, 0x01, 0x85, 0xc0, 0xc0], "transactions[1]"),
        // A withdrawal of three fields.
        (&[0xc7, 0xc0, 0xc0, 0xc4, 0xc3, 1, 1, 1], "withdrawals[0]"),
    ];
    for (bytes, field) in cases {
        assert_eq!(malformed(body::roots(bytes)), field, "{bytes:x?}");
    }
    // A prefix that claims more than there is.
    assert_eq!(
        malformed(body::roots(&[0xfb, 0xff, 0xff, 0xff, 0xff])),
        "body"
    );
    assert_eq!(malformed(body::roots(&[0xff; 9])), "body");
}

#[test]
fn no_cut_or_flipped_body_panics_or_keeps_its_roots() {
    let body = body::body_of_block(&block(vectors::PRAGUE)).unwrap();
    let roots = body::roots(&body).unwrap();
    for end in 0..body.len() {
        assert!(body::roots(&body[..end]).is_err());
    }
    for place in 0..body.len() {
        for bit in 0..8 {
            let mut bad = body.clone();
            bad[place] ^= 1 << bit;
            assert_ne!(body::roots(&bad), Ok(roots), "byte {place} bit {bit}");
        }
    }
}

/// Each takes some hundred bytes of memory on the way to the root, and one byte of a message.
#[test]
fn a_list_of_more_tiny_things_than_a_message_has_room_for_real_ones_is_refused() {
    let list = |count: usize| {
        let mut out = Vec::new();
        crate::chain::rlp::list_prefix(&mut out, count);
        out.resize(out.len() + count, 0xc0);
        out
    };
    let body = |lists: &[Vec<u8>]| {
        let mut out = Vec::new();
        crate::chain::rlp::list_prefix(&mut out, lists.iter().map(Vec::len).sum());
        lists.iter().for_each(|list| out.extend_from_slice(list));
        out
    };
    let empty = list(0);
    let most = body(&[list(body::ITEMS_LIMIT), empty.clone()]);
    assert!(body::roots(&most).is_ok());
    for count in [body::ITEMS_LIMIT + 1, 10 << 20] {
        let more = body(&[list(count), empty.clone()]);
        assert_eq!(malformed(body::roots(&more)), "transactions");
    }
}
