//! Headers are read strictly and name what is wrong.

use alloy_primitives::b256;
use bytes::Bytes;

use super::{block, refused, vectors};
use crate::chain::{Genesis, SealedHeader, body, rlp};

fn header_of(text: &str) -> Vec<u8> {
    body::split_block(&block(text)).unwrap().0.to_vec()
}

/// `header` with the field at `index` replaced by this RLP item; with `None` it is cut off there.
fn with_field(header: &[u8], index: usize, item: Option<&[u8]>) -> Bytes {
    let mut rest = header;
    let mut fields = rlp::list(&mut rest).unwrap();
    let mut payload = Vec::new();
    for place in 0.. {
        if place == index {
            let Some(item) = item else { break };
            payload.extend_from_slice(item);
        }
        if fields.is_empty() {
            break;
        }
        let field = rlp::item(&mut fields).unwrap().raw;
        if place != index {
            payload.extend_from_slice(field);
        }
    }
    let mut raw = Vec::new();
    rlp::list_prefix(&mut raw, payload.len());
    raw.extend_from_slice(&payload);
    raw.into()
}

#[test]
fn geths_headers_are_read_and_hashed() {
    let cancun = SealedHeader::decode(header_of(vectors::CANCUN).into()).unwrap();
    assert_eq!(
        cancun.hash,
        b256!("31d1d333de0234836b06628d127b49604ec49c0f62a741c89cae4596a428b4c4")
    );
    assert_eq!(cancun.number(), 43);
    let prague = SealedHeader::decode(header_of(vectors::PRAGUE).into()).unwrap();
    assert_eq!(
        prague.hash,
        b256!("e4165d5a6e4d31469f4a9354c30bffec633a640940b40bc0bc1ae86d1b391643")
    );
    assert!(prague.header.requests_hash.is_some());
}

#[test]
fn a_header_is_encoded_as_it_was_read() {
    for text in [vectors::CANCUN, vectors::PRAGUE] {
        let read = SealedHeader::decode(header_of(text).into()).unwrap();
        assert_eq!(SealedHeader::from_header(read.header.clone()), read);
    }
    for genesis in [Genesis::mainnet(), Genesis::sepolia(), Genesis::dev()] {
        assert_eq!(
            SealedHeader::decode(genesis.header.raw.clone()).unwrap(),
            genesis.header
        );
    }
}

#[test]
fn extra_data_is_a_slice_of_the_bytes() {
    let raw = Genesis::sepolia().header.raw;
    let read = SealedHeader::decode(raw.clone()).unwrap();
    assert!(!read.header.extra_data.is_empty());
    assert!(
        raw.as_ptr_range()
            .contains(&read.header.extra_data.as_ptr())
    );
}

#[test]
fn what_is_malformed_is_named() {
    const LEADING_ZERO: &[u8] = &[0x82, 0, 1];
    const TOO_LONG: &[u8] = &[0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    const LONG_SINGLE: &[u8] = &[0x81, 1];
    let header = header_of(vectors::PRAGUE);
    let cases: [(usize, &[u8], &str); 15] = [
        (0, &[0x80], "parentHash"),
        (1, &[0xc0], "sha3Uncles"),
        (2, &[0x81, 0xff], "miner"),
        (6, &[0x80], "logsBloom"),
        (7, LEADING_ZERO, "difficulty"),
        (8, TOO_LONG, "number"),
        (8, LONG_SINGLE, "number"),
        (9, LEADING_ZERO, "gasLimit"),
        (10, &[0], "gasUsed"),
        (11, TOO_LONG, "timestamp"),
        (12, &[0xc0], "extraData"),
        (14, &[0x87, 0, 0, 0, 0, 0, 0, 0], "nonce"),
        (15, TOO_LONG, "baseFeePerGas"),
        (18, LEADING_ZERO, "excessBlobGas"),
        (20, &[0x80], "requestsHash"),
    ];
    for (index, item, field) in cases {
        let bad = with_field(&header, index, Some(item));
        assert_eq!(refused(SealedHeader::decode(bad)), field, "{index}");
    }
}

#[test]
fn nothing_may_follow_a_header_and_nothing_be_missing() {
    let header = header_of(vectors::PRAGUE);
    let longer = [&header[..], &[0x80]].concat();
    assert_eq!(refused(SealedHeader::decode(longer.into())), "header");
    assert_eq!(refused(SealedHeader::decode(Bytes::new())), "header");
    let cut = with_field(&header, 14, None);
    assert_eq!(refused(SealedHeader::decode(cut)), "nonce");
    // Every number of later fields is a header, whether or not a fork has it.
    for index in 15..=20 {
        assert!(SealedHeader::decode(with_field(&header, index, None)).is_ok());
    }
    let unknown = with_field(
        &header,
        21,
        Some(&[&[0xa0], &[1; 32][..], &[5, 5]].concat()),
    );
    assert_eq!(refused(SealedHeader::decode(unknown)), "header");
}

#[test]
fn no_cut_or_flipped_header_panics_or_keeps_its_hash() {
    let header = header_of(vectors::PRAGUE);
    let hash = SealedHeader::decode(header.clone().into()).unwrap().hash;
    for end in 0..header.len() {
        assert!(SealedHeader::decode(header[..end].to_vec().into()).is_err());
    }
    for place in 0..header.len() {
        for bit in 0..8 {
            let mut bad = header.clone();
            bad[place] ^= 1 << bit;
            if let Ok(read) = SealedHeader::decode(bad.into()) {
                assert_ne!(read.hash, hash);
            }
        }
    }
}
