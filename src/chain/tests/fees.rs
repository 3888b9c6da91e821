//! Base fee, blob fee and difficulty against the values that clients and mainnet have.

use alloy_consensus::Header;
use alloy_primitives::{B256, U256};

use crate::chain::{
    BlobParams, Forks, Genesis,
    fees::{GAS_PER_BLOB, blob_base_fee, next_base_fee, next_excess_blob_gas},
    pow,
};

#[test]
fn the_base_fee_follows_the_gas_used() {
    // EIP-1559 by hand: an eighth times the part of the target that was used too much or too little.
    let cases = [
        (1_000_000_000, 20_000_000, 10_000_000, 1_000_000_000),
        (1_000_000_000, 20_000_000, 9_000_000, 987_500_000),
        (1_000_000_000, 20_000_000, 11_000_000, 1_012_500_000),
        (1_000_000_000, 20_000_000, 20_000_000, 1_125_000_000),
        (1_000_000_000, 20_000_000, 0, 875_000_000),
        // It rises by 1 at least, and does not fall below what an eighth takes off.
        (7, 20_000_000, 10_000_001, 8),
        (7, 20_000_000, 0, 7),
        (0, 20_000_000, 20_000_000, 1),
        (u64::MAX, 20_000_000, 20_000_000, u64::MAX),
        // A genesis may have no gas at all.
        (5, 1, 0, 5),
    ];
    for (base_fee, gas_limit, gas_used, expected) in cases {
        let parent = Header {
            gas_limit,
            gas_used,
            ..Header::default()
        };
        assert_eq!(
            next_base_fee(&parent, base_fee),
            expected,
            "{base_fee} {gas_used}"
        );
    }
}

#[test]
fn the_price_of_blobs_follows_the_excess() {
    // go-ethereum, consensus/misc/eip4844 tests.
    let cases = [
        (0, 1),
        (2_314_057, 1),
        (2_314_058, 2),
        (10 * 1024 * 1024, 23),
    ];
    for (excess, price) in cases {
        assert_eq!(blob_base_fee(excess, BlobParams::CANCUN), U256::from(price));
    }
    assert_eq!(blob_base_fee(u64::MAX, BlobParams::CANCUN), U256::MAX);
}

fn parent(excess_blobs: u64, used_blobs: u64, base_fee: u64) -> Header {
    Header {
        excess_blob_gas: Some(excess_blobs * GAS_PER_BLOB),
        blob_gas_used: Some(used_blobs * GAS_PER_BLOB),
        base_fee_per_gas: Some(base_fee),
        ..Header::default()
    }
}

#[test]
fn the_excess_is_what_was_used_above_the_target() {
    let excess = |parent| next_excess_blob_gas(&parent, BlobParams::CANCUN, false) / GAS_PER_BLOB;
    assert_eq!(excess(parent(0, 0, 7)), 0);
    assert_eq!(excess(parent(0, 3, 7)), 0);
    assert_eq!(excess(parent(0, 6, 7)), 3);
    assert_eq!(excess(parent(10, 0, 7)), 7);
    assert_eq!(excess(Header::default()), 0);
}

#[test]
fn from_osaka_on_the_excess_falls_no_further_where_blobs_are_cheaper_than_execution() {
    let excess = |parent| next_excess_blob_gas(&parent, BlobParams::PRAGUE, true);
    // A blob at 1 wei costs 2^17 wei; 2^13 gas at 16 wei as much: at 17 the floor holds, at 16 it does not.
    assert_eq!(
        excess(parent(10, 6, 17)),
        10 * GAS_PER_BLOB + 6 * GAS_PER_BLOB * 3 / 9
    );
    assert_eq!(excess(parent(10, 6, 16)), 10 * GAS_PER_BLOB);
    assert_eq!(excess(parent(10, 0, 17)), 10 * GAS_PER_BLOB);
    // Below the target there is no excess, whatever the price.
    assert_eq!(excess(parent(2, 3, 17)), 0);
}

/// Number, times of parent and block, difficulties of parent and block: mainnet's blocks.
const MAINNET: [(u64, u64, u64, u64, u64); 7] = [
    (1, 0, 1_438_269_988, 17_179_869_184, 17_171_480_576),
    (
        2,
        1_438_269_988,
        1_438_270_017,
        17_171_480_576,
        17_163_096_064,
    ),
    (
        1_150_000,
        1_457_981_342,
        1_457_981_393,
        20_513_164_863_791,
        20_473_100_089_179,
    ),
    (
        4_370_000,
        1_508_131_303,
        1_508_131_331,
        2_997_274_096_101_735,
        2_994_347_070_619_309,
    ),
    (
        7_280_000,
        1_551_383_501,
        1_551_383_524,
        2_958_546_502_099_724,
        2_957_101_900_364_072,
    ),
    (
        12_244_000,
        1_618_481_214,
        1_618_481_223,
        6_696_238_260_295_912,
        6_696_239_334_037_736,
    ),
    (
        12_965_000,
        1_628_166_812,
        1_628_166_822,
        7_742_493_487_903_256,
        7_742_494_561_645_080,
    ),
];

#[test]
fn the_difficulty_is_mainnets_at_each_fork_that_changes_it() {
    let spec = Genesis::mainnet().spec;
    for (number, before_s, time_s, before, expected) in MAINNET {
        let parent = Header {
            number: number - 1,
            timestamp: before_s,
            difficulty: U256::from(before),
            ..Header::default()
        };
        let fork = spec.fork(number, time_s);
        let found = pow::difficulty(fork, &spec.forks, &parent, number, time_s);
        assert_eq!(found, U256::from(expected), "{number}");
    }
}

#[test]
fn a_parent_with_ommers_raises_the_difficulty_from_byzantium_on() {
    let forks = Forks {
        byzantium: Some(0),
        ..Forks::default()
    };
    let fork = Genesis::mainnet().spec.fork(5_000_000, 0);
    let mut parent = Header {
        difficulty: U256::from(2048 * 1000),
        ..Header::default()
    };
    let after = |parent: &Header, elapsed| pow::difficulty(fork, &forks, parent, 1, elapsed);
    assert_eq!(after(&parent, 8), U256::from(2049 * 1000));
    assert_eq!(after(&parent, 9), U256::from(2048 * 1000));
    assert_eq!(after(&parent, 900_000), U256::from((2048 - 99) * 1000));
    parent.ommers_hash = B256::ZERO;
    assert_eq!(after(&parent, 8), U256::from(2050 * 1000));
}

#[test]
fn the_bomb_never_overflows() {
    let forks = Forks::default();
    let parent = Header {
        difficulty: U256::MAX,
        ..Header::default()
    };
    for number in [25_900_000, 100_000_000, u64::MAX] {
        let fork = Genesis::mainnet().spec.fork(0, 0);
        assert_eq!(pow::difficulty(fork, &forks, &parent, number, 1), U256::MAX);
    }
}
