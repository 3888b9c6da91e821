//! What transactions show without being executed: their form, their type and their signature.

use alloy_consensus::Header;
use alloy_primitives::{U256, hex};
use alloy_rlp::Encodable;

use super::{block, london, vectors};
use crate::chain::{
    Forks, Rules, SealedHeader, Spec, body, rlp,
    tx::{ChainIdV, Judge},
};

/// A field of a transaction as RLP.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes.encode(&mut out);
    out
}

pub(super) fn number(number: u64) -> Vec<u8> {
    alloy_rlp::encode(number)
}

pub(super) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let payload = items.concat();
    let mut out = Vec::new();
    rlp::list_prefix(&mut out, payload.len());
    out.extend_from_slice(&payload);
    out
}

const TO: [u8; 20] = [7; 20];

/// A valid transaction of each type on chain 7: fields that a test changes by name.
#[derive(Clone)]
pub(super) struct Tx {
    kind: u8,
    fields: Vec<(&'static str, Vec<u8>)>,
}

impl Tx {
    pub(super) fn new(kind: u8) -> Self {
        let access = list(&[list(&[string(&[1; 20]), list(&[string(&[2; 32])])])]);
        let authorisation = list(&[
            number(7),
            string(&TO),
            number(0),
            number(1),
            number(5),
            number(6),
        ]);
        let mut fields = Vec::new();
        if kind != 0 {
            fields.push(("chainId", number(7)));
        }
        fields.push(("nonce", number(0)));
        if kind < 2 {
            fields.push(("gasPrice", number(1_000_000_000)));
        } else {
            fields.push(("maxPriorityFeePerGas", number(1)));
            fields.push(("maxFeePerGas", number(1_000_000_000)));
        }
        fields.push(("gas", number(60_000)));
        fields.push(("to", string(&TO)));
        fields.push(("value", number(1)));
        fields.push(("input", string(&[0, 1])));
        if kind != 0 {
            fields.push(("accessList", access));
        }
        if kind == 3 {
            fields.push(("maxFeePerBlobGas", number(1)));
            fields.push(("blobVersionedHashes", list(&[string(&[1; 32])])));
        }
        if kind == 4 {
            fields.push(("authorizationList", list(&[authorisation])));
        }
        fields.push(("v", number(if kind == 0 { 49 } else { 1 })));
        fields.push(("r", number(1)));
        fields.push(("s", number(1)));
        Self { kind, fields }
    }

    pub(super) fn with(mut self, name: &str, value: Vec<u8>) -> Self {
        let field = self.fields.iter_mut().find(|(field, _)| *field == name);
        field.unwrap().1 = value;
        self
    }

    pub(super) fn raw(&self) -> Vec<u8> {
        let fields: Vec<_> = self.fields.iter().map(|(_, value)| value.clone()).collect();
        match self.kind {
            0 => list(&fields),
            kind => [&[kind][..], &list(&fields)].concat(),
        }
    }
}

pub(super) fn forks() -> Forks {
    Forks {
        shanghai_time: Some(0),
        cancun_time: Some(0),
        prague_time: Some(0),
        osaka_time: Some(100),
        amsterdam_time: Some(200),
        ..london()
    }
}

pub(super) fn header(time_s: u64) -> Header {
    Header {
        number: 1,
        timestamp: time_s,
        gas_limit: 30_000_000,
        base_fee_per_gas: Some(1_000_000_000),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        ..Header::default()
    }
}

/// The field of the transaction that is refused under `forks` at `time_s`.
pub(super) fn judge_at(forks: Forks, time_s: u64, raw: &[u8]) -> String {
    let spec = Spec::new(U256::from(7), forks);
    let mut header = header(time_s);
    if spec.forks.london.is_none() {
        header.base_fee_per_gas = None;
    }
    match Judge::new(&spec, &ChainIdV::new(spec.chain_id), &header).all(&[raw]) {
        // The totals are not what these tests are about.
        Err(fault) if !fault.field.starts_with("transactions[0].") => "nothing".to_owned(),
        Err(fault) => fault.field["transactions[0].".len()..].to_owned(),
        Ok(()) => "nothing".to_owned(),
    }
}

pub(super) fn judge(raw: &[u8]) -> String {
    judge_at(forks(), 0, raw)
}

#[test]
fn geths_transactions_of_every_type_pass() {
    for text in [vectors::CANCUN, vectors::PRAGUE] {
        let block = block(text);
        let (raw, _) = body::split_block(&block).unwrap();
        let header = SealedHeader::decode(raw.to_vec().into()).unwrap();
        let forks = Forks {
            shanghai_time: Some(0),
            cancun_time: Some(0),
            prague_time: Some(450),
            ..london()
        };
        let spec = Spec::new(U256::from(3_503_995_874_084_926_u64), forks);
        let rules = Rules::new(&super::of(spec, Header::default()));
        let body = body::body_of_block(&block).unwrap();
        assert_eq!(rules.check_body(&header, &body), Ok(()));
    }
}

#[test]
fn a_valid_transaction_of_each_type_passes() {
    for kind in 0..=4 {
        assert_eq!(judge(&Tx::new(kind).raw()), "nothing", "{kind}");
    }
}

#[test]
fn each_broken_rule_is_named() {
    let half = hex!("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1");
    let order = hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    let hash_of_version_2 = list(&[string(&[2; 32])]);
    let ten_blobs = list(&vec![string(&[1; 32]); 10]);
    let cases: Vec<(&[u8], &str, Vec<u8>)> = vec![
        (&[1, 2, 3, 4], "chainId", number(8)),
        (&[1, 2, 3, 4], "chainId", list(&[])),
        (&[0, 1, 2, 3, 4], "nonce", number(u64::MAX)),
        (&[0, 1, 2, 3, 4], "nonce", vec![0x82, 0, 1]),
        (&[0, 1], "gasPrice", number(999_999_999)),
        (&[2, 3, 4], "maxFeePerGas", number(999_999_999)),
        (&[2, 3, 4], "maxPriorityFeePerGas", number(1_000_000_001)),
        (&[0, 1, 2, 3, 4], "gas", number(21_000)),
        (&[0, 1, 2, 3, 4], "gas", number(30_000_001)),
        (&[0, 1, 2, 3, 4], "to", string(&[7; 19])),
        (&[3, 4], "to", string(&[])),
        (&[0, 1, 2, 3, 4], "value", string(&[1; 33])),
        (&[0, 1, 2, 3, 4], "input", list(&[])),
        (&[1, 2, 3, 4], "accessList", string(&[])),
        (
            &[1, 2, 3, 4],
            "accessList",
            list(&[list(&[string(&[1; 19]), list(&[])])]),
        ),
        (
            &[1, 2, 3, 4],
            "accessList",
            list(&[list(&[string(&[1; 20])])]),
        ),
        (
            &[1, 2, 3, 4],
            "accessList",
            list(&[list(&[string(&[1; 20]), list(&[string(&[1; 31])])])]),
        ),
        (&[3], "blobVersionedHashes", list(&[])),
        (&[3], "blobVersionedHashes", hash_of_version_2),
        (&[3], "blobVersionedHashes", list(&[string(&[1; 31])])),
        (&[3], "blobVersionedHashes", ten_blobs),
        (&[3], "maxFeePerBlobGas", number(0)),
        (&[4], "authorizationList", list(&[])),
        (&[4], "authorizationList", list(&[list(&[number(1)])])),
        (&[0], "v", number(26)),
        (&[0], "v", number(48)),
        (&[0], "v", number(51)),
        (&[1, 2, 3, 4], "v", number(2)),
        (&[1, 2, 3, 4], "v", number(27)),
        (&[0, 1, 2, 3, 4], "r", number(0)),
        (&[0, 1, 2, 3, 4], "r", string(&order)),
        (&[0, 1, 2, 3, 4], "s", number(0)),
        (&[0, 1, 2, 3, 4], "s", string(&half)),
    ];
    for (kinds, field, value) in cases {
        for kind in kinds {
            let tx = Tx::new(*kind).with(field, value.clone());
            assert_eq!(
                judge(&tx.raw()),
                field,
                "type {kind}: {}",
                hex::encode(&value)
            );
        }
    }
}

#[test]
fn what_is_on_the_edge_of_a_rule_passes() {
    let half = hex!("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0");
    let below_order = hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140");
    let cases: Vec<(u8, &str, Vec<u8>)> = vec![
        (0, "nonce", number(u64::MAX - 1)),
        (0, "v", number(27)),
        (0, "v", number(28)),
        (0, "v", number(50)),
        (2, "maxPriorityFeePerGas", number(1_000_000_000)),
        (2, "v", number(0)),
        (2, "r", string(&below_order)),
        (2, "s", string(&half)),
        (3, "blobVersionedHashes", list(&vec![string(&[1; 32]); 9])),
        (0, "gas", number(30_000_000)),
    ];
    for (kind, field, value) in cases {
        assert_eq!(
            judge(&Tx::new(kind).with(field, value).raw()),
            "nothing",
            "{field}"
        );
    }
}

#[test]
fn a_type_comes_with_its_fork() {
    let frontier = Forks::default();
    let berlin = Forks {
        berlin: Some(0),
        ..Forks::default()
    };
    let before_prague = Forks {
        prague_time: None,
        osaka_time: None,
        amsterdam_time: None,
        ..forks()
    };
    let before_cancun = Forks {
        cancun_time: None,
        ..before_prague.clone()
    };
    for (kind, forks) in [
        (1, frontier),
        (2, berlin),
        (3, before_cancun),
        (4, before_prague),
    ] {
        assert_eq!(judge_at(forks, 0, &Tx::new(kind).raw()), "type", "{kind}");
    }
}

#[test]
fn an_unknown_type_is_refused_but_where_the_chain_has_its_own() {
    let mut unknown = Tx::new(2).raw();
    unknown[0] = 0x7e;
    assert_eq!(judge(&unknown), "type");
    for raw in [&[0x00, 0xc0][..], &[0x05], &[0x80, 0xc0], &[]] {
        assert_eq!(judge(raw), "type", "{raw:x?}");
    }
    let mut spec = Spec::new(U256::from(7), forks());
    spec.foreign_transactions = true;
    let (header, v) = (header(0), ChainIdV::new(spec.chain_id));
    let foreign = Judge::new(&spec, &v, &header);
    assert_eq!(foreign.all(&[&unknown]), Ok(()));
    let known = Tx::new(2).with("r", number(0)).raw();
    assert!(
        foreign.all(&[&unknown, &known]).is_err(),
        "known types are judged beside it"
    );
}

#[test]
fn nothing_may_follow_the_fields_and_none_be_missing() {
    for kind in 0..=4 {
        let mut more = Tx::new(kind);
        more.fields.push(("more", number(1)));
        assert_eq!(judge(&more.raw()), "list", "{kind}");
        let mut less = Tx::new(kind);
        less.fields.pop();
        assert_eq!(judge(&less.raw()), "s", "{kind}");
        let mut after = Tx::new(kind).raw();
        after.push(0);
        assert_eq!(judge(&after), "list", "{kind}");
    }
}

#[test]
fn before_homestead_s_may_be_high_and_before_eip_155_no_chain_id_is_signed() {
    let high = hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140");
    let tx = Tx::new(0).with("v", number(27));
    let high = tx.with("s", string(&high)).raw();
    assert_eq!(judge_at(Forks::default(), 0, &high), "nothing");
    let homestead = Forks {
        homestead: Some(0),
        ..Forks::default()
    };
    assert_eq!(judge_at(homestead.clone(), 0, &high), "s");
    assert_eq!(judge_at(homestead, 0, &Tx::new(0).raw()), "v");
}

#[test]
fn a_chain_id_of_256_bits_is_signed_in_a_v_of_257() {
    let spec = Spec::new(U256::MAX, london());
    let (header, v) = (header(0), ChainIdV::new(spec.chain_id));
    let judge = |v_value: &[u8]| {
        let raw = Tx::new(0).with("v", string(v_value)).raw();
        let judged = Judge::new(&spec, &v, &header).all(&[&raw]);
        judged.err().map(|fault| fault.field)
    };
    // 2 * (2^256 - 1) + 35 = 2^257 + 33.
    let mut right = [0; 33];
    (right[0], right[32]) = (2, 33);
    assert_ne!(judge(&right).as_deref(), Some("transactions[0].v"));
    right[32] = 35;
    assert_eq!(judge(&right).as_deref(), Some("transactions[0].v"));
    assert_eq!(judge(&[9; 100]).as_deref(), Some("transactions[0].v"));
}

#[test]
fn no_cut_or_flipped_transaction_panics() {
    for kind in 0..=4 {
        let raw = Tx::new(kind).raw();
        for end in 0..raw.len() {
            assert_ne!(judge(&raw[..end]), "nothing");
        }
        for place in 0..raw.len() {
            for bit in 0..8 {
                let mut bad = raw.clone();
                bad[place] ^= 1 << bit;
                judge(&bad);
            }
        }
    }
}
