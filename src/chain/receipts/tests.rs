//! Both forms against real blocks and geth's encoding, and every kind of fault told by its field.
#![allow(clippy::unwrap_used)]

use alloy_primitives::hex;
use bytes::Bytes;

use super::vectors::*;
use super::*;
use crate::chain::Genesis;

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

fn header(text: &str) -> SealedHeader {
    SealedHeader::decode(Bytes::from(bytes(text))).unwrap()
}

fn mainnet() -> Rules {
    Rules::new(&Genesis::mainnet())
}

fn check(header: &SealedHeader, form: Form, raw: &[u8]) -> Result<(), ReceiptsError> {
    mainnet().check_receipts(header, &Receipts::decode(form, raw)?)
}

fn fault(form: Form, raw: &[u8]) -> String {
    Receipts::decode(form, raw).unwrap_err().to_string()
}

/// A line of the vectors that the wire's tests use too, made by geth.
fn geth(name: &str) -> Vec<u8> {
    let text = include_str!("../../../net/vectors/eth.txt");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    bytes(line.unwrap())
}

#[test]
fn a_typed_receipt_of_mainnet_has_the_root_bloom_and_gas_of_its_header_in_both_forms() {
    let header = header(TYPED_HEADER);
    let (eth68, eth69) = (bytes(TYPED_ETH68), bytes(TYPED_ETH69));
    assert_eq!(convert(Form::Eth68, Form::Eth69, &eth68).unwrap(), eth69);
    assert_eq!(convert(Form::Eth69, Form::Eth68, &eth69).unwrap(), eth68);
    check(&header, Form::Eth68, &eth68).unwrap();
    check(&header, Form::Eth69, &eth69).unwrap();
}

#[test]
fn receipts_with_state_roots_keep_them_in_both_forms() {
    let header = header(OLD_HEADER);
    let eth68 = bytes(OLD_ETH68);
    let eth69 = convert(Form::Eth68, Form::Eth69, &eth68).unwrap();
    assert_eq!(convert(Form::Eth69, Form::Eth68, &eth69).unwrap(), eth68);
    check(&header, Form::Eth68, &eth68).unwrap();
    check(&header, Form::Eth69, &eth69).unwrap();
    let receipts = Receipts::decode(Form::Eth69, &eth69).unwrap();
    assert_eq!((receipts.len(), receipts.is_empty()), (2, false));
}

#[test]
fn geths_two_encodings_of_the_same_receipts_are_made_of_each_other() {
    let (eth68, eth69) = (geth("RECEIPTS_68_BLOCK_0"), geth("RECEIPTS_69_BLOCK_0"));
    assert_eq!(convert(Form::Eth68, Form::Eth69, &eth68).unwrap(), eth69);
    assert_eq!(convert(Form::Eth69, Form::Eth68, &eth69).unwrap(), eth68);
    for (form, raw) in [(Form::Eth68, &eth68), (Form::Eth69, &eth69)] {
        let receipts = Receipts::decode(form, raw).unwrap();
        assert_eq!(receipts.encode(form), *raw, "{form:?}");
        assert_eq!((receipts.len(), receipts.gas_used()), (2, 42_000));
    }
}

#[test]
fn no_receipts_are_the_same_bytes_in_both_forms_and_have_the_empty_root() {
    for form in [Form::Eth68, Form::Eth69] {
        let receipts = Receipts::decode(form, NO_RECEIPTS).unwrap();
        assert_eq!(receipts.encode(Form::Eth68), NO_RECEIPTS);
        assert_eq!(receipts.encode(Form::Eth69), NO_RECEIPTS);
        assert_eq!(receipts.root(), alloy_trie::EMPTY_ROOT_HASH);
        assert_eq!(receipts.logs_bloom(), Bloom::ZERO);
    }
}

#[test]
fn receipts_of_another_block_are_refused_by_their_root() {
    let error = check(&header(OLD_HEADER), Form::Eth68, &bytes(TYPED_ETH68)).unwrap_err();
    assert!(matches!(error, ReceiptsError::NotOfHeader(_)), "{error}");
    let said = error.to_string();
    assert!(
        said.starts_with("block 1000000 (0x") && said.contains("receiptsRoot: expected 0x"),
        "{said}"
    );
}

#[test]
fn a_header_that_contradicts_its_own_receipts_is_invalid() {
    let (header, raw) = (header(TYPED_HEADER), bytes(TYPED_ETH69));
    let mut other = header.header.clone();
    other.gas_used += 1;
    let error = check(&SealedHeader::from_header(other), Form::Eth69, &raw).unwrap_err();
    assert!(matches!(error, ReceiptsError::Invalid(_)), "{error}");
    assert_eq!(error.fault().field, "gasUsed");
    let mut other = header.header.clone();
    other.logs_bloom.data_mut()[7] ^= 1;
    let error = check(&SealedHeader::from_header(other), Form::Eth69, &raw).unwrap_err();
    assert!(matches!(error, ReceiptsError::Invalid(_)), "{error}");
    assert_eq!(error.fault().field, "logsBloom");
}

#[test]
fn a_bloom_that_is_not_of_its_logs_is_told() {
    let mut raw = bytes(TYPED_ETH68);
    let at = raw.windows(3).position(|w| w == [0xb9, 1, 0]).unwrap();
    raw[at + 3] ^= 0x80;
    let said = fault(Form::Eth68, &raw);
    assert!(
        said.starts_with("receipts[0].logsBloom: expected 0x"),
        "{said}"
    );
}

#[test]
fn no_flipped_bit_of_real_receipts_passes_for_the_headers() {
    let header = header(TYPED_HEADER);
    for (form, raw) in [
        (Form::Eth68, bytes(TYPED_ETH68)),
        (Form::Eth69, bytes(TYPED_ETH69)),
    ] {
        for at in 0..raw.len() * 8 {
            let mut flipped = raw.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(check(&header, form, &flipped).is_err(), "{form:?} bit {at}");
        }
        for end in 0..raw.len() {
            assert!(check(&header, form, &raw[..end]).is_err(), "{form:?} {end}");
        }
    }
}

/// RLP of a list with this payload.
fn list(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    list_prefix(payload.len()).encode(&mut out);
    out.extend_from_slice(payload);
    out
}

#[test]
fn every_fault_is_told_by_its_field() {
    let log = |address: usize, topics: usize, more: &[u8]| {
        let mut log = vec![0x80 + address as u8];
        log.resize(1 + address, 7);
        log.extend(list(&[&[0xa0][..], &[1; 32]].concat().repeat(topics)));
        log.push(0x80);
        log.extend_from_slice(more);
        list(&list(&log))
    };
    let of = |fields: &[&[u8]]| list(&list(&fields.concat()));
    let no_logs = &[0xc0][..];
    let cases: &[(Vec<u8>, &str)] = &[
        (vec![], "receipts: "),
        (vec![0x80], "receipts: "),
        (vec![0xc0, 0], "receipts: 1 bytes after"),
        (vec![0xf8, 0], "receipts: "),
        (list(&[0x80]), "receipts[0]: "),
        (list(&[0xc0]), "receipts[0].type: "),
        (
            of(&[&[0x81, 0x80], &[1, 1], no_logs]),
            "receipts[0].type: expected 0 to 127, found 128",
        ),
        (
            of(&[&[2, 2, 1], no_logs]),
            "receipts[0].status: expected 0, 1 or a state root of 32 bytes, found 1 bytes",
        ),
        (
            of(&[&[2, 0xc0, 1], no_logs]),
            "receipts[0].status: not a string",
        ),
        (
            of(&[&[2, 1, 0], no_logs]),
            "receipts[0].cumulativeGasUsed: ",
        ),
        (of(&[&[2, 1, 1, 0x80]]), "receipts[0].logs: not a list"),
        (of(&[&[2, 1, 1]]), "receipts[0].logs: "),
        (
            of(&[&[2, 1, 1], no_logs, &[5]]),
            "receipts[0]: 1 bytes after its last field",
        ),
        (
            of(&[&[2, 1, 1], &log(19, 0, &[])]),
            "receipts[0].logs[0].address: ",
        ),
        (
            of(&[&[2, 1, 1], &log(20, 5, &[])]),
            "receipts[0].logs[0].topics: expected at most 4, found 5",
        ),
        (
            of(&[&[2, 1, 1], &log(20, 4, &[1])]),
            "receipts[0].logs[0]: 1 bytes after its last field",
        ),
        (
            list(&[list(&[2, 1, 9, 0xc0]), list(&[2, 1, 8, 0xc0])].concat()),
            "receipts[1].cumulativeGasUsed: expected at least 9, as much as the one before, found 8",
        ),
    ];
    for (raw, expected) in cases {
        let said = fault(Form::Eth69, raw);
        assert!(said.starts_with(expected), "{expected:?}: {said}");
    }
    let good = of(&[&[2, 1, 1], &log(20, 4, &[])]);
    assert_eq!(Receipts::decode(Form::Eth69, &good).unwrap().len(), 1);
    for (raw, expected) in [
        (
            list(&[0x80]),
            "receipts[0].type: expected one byte, found nothing",
        ),
        (
            list(&[0x82, 0, 0xc0]),
            "receipts[0].type: expected 1 to 127, found 0",
        ),
        (
            list(&[0x82, 0x80, 0xc0]),
            "receipts[0].type: expected 1 to 127, found 128",
        ),
        (
            list(&[0x83, 2, 0xc0, 0]),
            "receipts[0]: 1 bytes after its last field",
        ),
        (list(&[0xc2, 1, 1]), "receipts[0].logsBloom: "),
    ] {
        let said = fault(Form::Eth68, &raw);
        assert!(said.starts_with(expected), "{expected:?}: {said}");
    }
}

#[test]
fn more_receipts_than_any_block_has_are_refused() {
    let one = list(&[0x80, 1, 1, 0xc0]);
    let most = list(&one.repeat(RECEIPTS_LIMIT));
    assert_eq!(
        Receipts::decode(Form::Eth69, &most).unwrap().len(),
        RECEIPTS_LIMIT
    );
    let more = list(&one.repeat(RECEIPTS_LIMIT + 1));
    let said = fault(Form::Eth69, &more);
    assert!(said.contains("at most 131072 receipts"), "{said}");
}
