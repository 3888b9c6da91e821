//! The gas and the blobs of transactions, without executing them: each one's own, and what the header says of all.

use alloy_consensus::Header;
use alloy_primitives::U256;

use super::tx::{Tx, forks, header, judge, judge_at, list, number, string};
use crate::chain::{
    BlobParams, Forks, Spec,
    fees::GAS_PER_BLOB,
    tx::{ChainIdV, Judge},
};

#[test]
fn the_intrinsic_gas_is_that_of_the_fork() {
    let forks_with = |change: fn(&mut Forks)| {
        let mut forks = Forks::default();
        change(&mut forks);
        forks
    };
    let frontier = Forks::default();
    let homestead = forks_with(|forks| forks.homestead = Some(0));
    let istanbul = forks_with(|forks| forks.istanbul = Some(0));
    let shanghai = Forks {
        cancun_time: None,
        prague_time: None,
        osaka_time: None,
        amsterdam_time: None,
        ..forks()
    };
    // Call data: three zero bytes and two others.
    let data = string(&[0, 1, 0, 2, 0]);
    let create = || {
        Tx::new(0)
            .with("to", string(&[]))
            .with("input", data.clone())
    };
    let call = || Tx::new(0).with("input", data.clone());
    let cases = [
        (
            "a call in Frontier",
            call(),
            &frontier,
            21_000 + 3 * 4 + 2 * 68,
        ),
        (
            "a creation in Frontier",
            create(),
            &frontier,
            21_000 + 3 * 4 + 2 * 68,
        ),
        (
            "a creation in Homestead",
            create(),
            &homestead,
            53_000 + 3 * 4 + 2 * 68,
        ),
        (
            "a call in Istanbul",
            call(),
            &istanbul,
            21_000 + 3 * 4 + 2 * 16,
        ),
        (
            "a creation in Shanghai",
            create(),
            &shanghai,
            53_000 + 3 * 4 + 2 * 16 + 2,
        ),
        (
            "a call in Prague",
            call(),
            &forks(),
            21_000 + 10 * (3 + 2 * 4),
        ),
        (
            "an access list",
            Tx::new(1),
            &forks(),
            21_000 + 4 + 16 + 2_400 + 1_900,
        ),
        (
            "an authorisation",
            Tx::new(4),
            &forks(),
            21_000 + 4 + 16 + 2_400 + 1_900 + 25_000,
        ),
    ];
    for (name, tx, forks, gas) in cases {
        let tx = tx.with("v", number(if tx_is_legacy(name) { 27 } else { 1 }));
        let enough = tx.clone().with("gas", number(gas)).raw();
        assert_eq!(judge_at(forks.clone(), 0, &enough), "nothing", "{name}");
        let little = tx.with("gas", number(gas - 1)).raw();
        assert_eq!(judge_at(forks.clone(), 0, &little), "gas", "{name}");
    }
}

fn tx_is_legacy(name: &str) -> bool {
    !name.starts_with("an ")
}

#[test]
fn init_code_has_a_limit_from_shanghai_on() {
    let create = |bytes: usize| {
        let tx = Tx::new(0)
            .with("to", string(&[]))
            .with("gas", number(10_000_000));
        judge(&tx.with("input", string(&vec![1; bytes])).raw())
    };
    assert_eq!(create(49_152), "nothing");
    assert_eq!(create(49_153), "input");
}

#[test]
fn osaka_caps_the_gas_and_the_blobs_of_a_transaction() {
    let gas = |gas: u64| judge_at(forks(), 100, &Tx::new(0).with("gas", number(gas)).raw());
    assert_eq!(gas(1 << 24), "nothing");
    assert_eq!(gas((1 << 24) + 1), "gas");
    let blobs = |count: usize| {
        let hashes = list(&vec![string(&[1; 32]); count]);
        judge_at(
            forks(),
            100,
            &Tx::new(3).with("blobVersionedHashes", hashes).raw(),
        )
    };
    assert_eq!(blobs(6), "nothing");
    assert_eq!(blobs(7), "blobVersionedHashes");
}

#[test]
fn amsterdams_gas_is_not_judged() {
    let gas = |gas: u64| judge_at(forks(), 200, &Tx::new(0).with("gas", number(gas)).raw());
    assert_eq!(gas(1), "nothing");
    assert_eq!(gas(1 << 30), "nothing");
}

#[test]
fn the_header_says_what_all_transactions_can_have_used() {
    let spec = Spec::new(U256::from(7), forks());
    let v = ChainIdV::new(spec.chain_id);
    let transfer = Tx::new(0).with("input", string(&[])).raw();
    let used = |gas_used: u64, transactions: &[&[u8]]| {
        let header = Header {
            gas_used,
            ..header(0)
        };
        let judged = Judge::new(&spec, &v, &header).all(transactions);
        judged.err().map(|fault| fault.field)
    };
    assert_eq!(used(42_000, &[&transfer, &transfer]), None);
    assert_eq!(used(120_000, &[&transfer, &transfer]), None);
    assert_eq!(
        used(120_001, &[&transfer, &transfer]).as_deref(),
        Some("gasUsed")
    );
    assert_eq!(
        used(30_000, &[&transfer, &transfer]).as_deref(),
        Some("gasUsed")
    );
    let big = Tx::new(0).with("gas", number(30_000_000)).raw();
    assert_eq!(used(30_000_000, &[&big]), None);
    assert_eq!(
        used(30_000_000, &[&transfer, &big]).as_deref(),
        Some("transactions[1].gas"),
        "what the first one uses is not left for the second"
    );
}

#[test]
fn the_header_says_how_many_blobs_there_are() {
    let spec = Spec::new(U256::from(7), forks());
    let v = ChainIdV::new(spec.chain_id);
    let raw = Tx::new(3).raw();
    let used = |blobs: u64| {
        let header = Header {
            gas_used: 50_000,
            blob_gas_used: Some(blobs * GAS_PER_BLOB),
            ..header(0)
        };
        let judged = Judge::new(&spec, &v, &header).all(&[&raw, &raw]);
        judged.err().map(|fault| fault.field)
    };
    assert_eq!(used(2), None);
    assert_eq!(used(1).as_deref(), Some("blobGasUsed"));
    assert_eq!(used(3).as_deref(), Some("blobGasUsed"));
    assert_eq!(spec.blob_params(0), Some(BlobParams::PRAGUE));
}
