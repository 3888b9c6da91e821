//! Headers of work and stake, and bodies under their headers: what is valid passes, and each broken rule is named.

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_primitives::{Address, B64, B256, U256, keccak256};

use super::{Break, london, of, stake_child, stake_genesis, work_child, work_genesis};
use crate::chain::{
    BodyError, CliqueConfig, Forks, Genesis, HeaderError, Rules, SealedHeader, Tip, body,
    fees::GAS_PER_BLOB, rlp,
};

fn extend(rules: &Rules, parent: &Tip, header: Header) -> Result<Tip, HeaderError> {
    rules.extend(parent, Arc::new(SealedHeader::from_header(header)), None)
}

fn refused(rules: &Rules, parent: &Tip, header: Header) -> String {
    super::refused(extend(rules, parent, header))
}

fn each_is_named(rules: &Rules, parent: &Tip, valid: &Header, cases: &[Break]) {
    assert_eq!(refused(rules, parent, valid.clone()), "nothing");
    for (field, break_it) in cases {
        let mut header = valid.clone();
        break_it(&mut header);
        assert_eq!(refused(rules, parent, header), *field);
    }
}

#[test]
fn each_broken_rule_of_work_is_named() {
    let rules = Rules::new(&work_genesis(london()));
    let parent = extend(
        &rules,
        &rules.genesis_tip(),
        work_child(&rules, &rules.genesis_tip()),
    )
    .unwrap();
    let valid = work_child(&rules, &parent);
    each_is_named(
        &rules,
        &parent,
        &valid,
        &[
            ("parentHash", |header| header.parent_hash = B256::ZERO),
            ("number", |header| header.number += 1),
            ("timestamp", |header| header.timestamp -= 13),
            ("gasLimit", |header| {
                header.gas_limit += header.gas_limit / 1024;
            }),
            ("gasLimit", |header| {
                header.gas_limit -= header.gas_limit / 1024;
            }),
            ("nothing", |header| {
                header.gas_limit += header.gas_limit / 1024 - 1;
            }),
            ("nothing", |header| {
                header.gas_limit -= header.gas_limit / 1024 - 1;
            }),
            ("gasUsed", |header| header.gas_used = header.gas_limit + 1),
            ("nothing", |header| header.gas_used = header.gas_limit),
            ("extraData", |header| header.extra_data = vec![0; 33].into()),
            ("nothing", |header| header.extra_data = vec![0; 32].into()),
            ("baseFeePerGas", |header| header.base_fee_per_gas = Some(1)),
            ("baseFeePerGas", |header| header.base_fee_per_gas = None),
            ("difficulty", |header| header.difficulty += U256::ONE),
            ("difficulty", |header| header.difficulty = U256::ZERO),
            ("withdrawalsRoot", |header| {
                header.withdrawals_root = Some(B256::ZERO);
            }),
            ("nothing", |header| header.mix_hash = B256::repeat_byte(3)),
        ],
    );
}

#[test]
fn each_broken_rule_of_stake_is_named() {
    let rules = Rules::new(&stake_genesis());
    let parent = rules.genesis_tip();
    let valid = stake_child(&rules, &parent, 12);
    each_is_named(
        &rules,
        &parent,
        &valid,
        &[
            ("difficulty", |header| header.difficulty = U256::ONE),
            ("nonce", |header| header.nonce = B64::from([1; 8])),
            ("sha3Uncles", |header| header.ommers_hash = B256::ZERO),
            ("extraData", |header| header.extra_data = vec![0; 33].into()),
            ("timestamp", |header| header.timestamp = 1_000),
            ("nothing", |header| header.mix_hash = B256::repeat_byte(3)),
            ("requestsHash", |header| header.requests_hash = None),
            ("blobGasUsed", |header| header.blob_gas_used = Some(1)),
            ("nothing", |header| {
                header.blob_gas_used = Some(9 * GAS_PER_BLOB);
            }),
            ("blobGasUsed", |header| {
                header.blob_gas_used = Some(10 * GAS_PER_BLOB);
            }),
            ("excessBlobGas", |header| header.excess_blob_gas = Some(1)),
            ("blockAccessListHash", |header| {
                header.block_access_list_hash = Some(B256::ZERO);
            }),
        ],
    );
    // What would leave a gap in the fields cannot be written, so it is cut from the end.
    let mut cut = valid;
    cut.requests_hash = None;
    cut.parent_beacon_block_root = None;
    assert_eq!(
        refused(&rules, &parent, cut.clone()),
        "parentBeaconBlockRoot"
    );
    cut.excess_blob_gas = None;
    cut.blob_gas_used = None;
    assert_eq!(refused(&rules, &parent, cut.clone()), "blobGasUsed");
    cut.withdrawals_root = None;
    assert_eq!(refused(&rules, &parent, cut), "withdrawalsRoot");
}

#[test]
fn a_fork_judges_by_its_own_blob_parameters_from_its_first_block_on() {
    let rules = Rules::new(&stake_genesis());
    let mut parent = rules.genesis_tip();
    for (seconds, most) in [(12, 9), (1_500, 9), (1_000, 15)] {
        let mut header = stake_child(&rules, &parent, seconds);
        header.blob_gas_used = Some((most + 1) * GAS_PER_BLOB);
        assert_eq!(refused(&rules, &parent, header.clone()), "blobGasUsed");
        header.blob_gas_used = Some(most * GAS_PER_BLOB);
        parent = extend(&rules, &parent, header).unwrap();
    }
}

#[test]
fn the_limits_of_gas_are_5000_and_63_bits() {
    let genesis = |gas_limit| {
        let mut header = work_genesis(london()).header.header;
        header.gas_limit = gas_limit;
        of(work_genesis(london()).spec, header)
    };
    let judge = |before: u64, after: u64| {
        let rules = Rules::new(&genesis(before));
        let mut header = work_child(&rules, &rules.genesis_tip());
        header.gas_limit = after;
        refused(&rules, &rules.genesis_tip(), header)
    };
    assert_eq!(judge(5_000, 5_000), "nothing");
    assert_eq!(judge(5_000, 4_999), "gasLimit");
    let most = i64::MAX as u64;
    assert_eq!(judge(most, most), "nothing");
    assert_eq!(judge(most, most + 1), "gasLimit");
}

#[test]
fn londons_first_block_doubles_the_gas_limit_and_starts_the_base_fee() {
    let forks = Forks {
        london: Some(1),
        ..london()
    };
    let rules = Rules::new(&work_genesis(forks));
    let parent = rules.genesis_tip();
    let mut header = work_child(&rules, &parent);
    assert_eq!(refused(&rules, &parent, header.clone()), "gasLimit");
    header.gas_limit *= 2;
    assert_eq!(refused(&rules, &parent, header.clone()), "nothing");
    header.base_fee_per_gas = Some(999_999_999);
    assert_eq!(refused(&rules, &parent, header), "baseFeePerGas");
}

#[test]
fn after_the_dao_fork_extra_data_tells_the_sides_apart() {
    for supports in [true, false] {
        let forks = Forks {
            dao: Some(2),
            dao_support: supports,
            ..Forks::default()
        };
        let rules = Rules::new(&work_genesis(forks));
        let mut parent = rules.genesis_tip();
        for number in 1..=14 {
            let mut pro = work_child(&rules, &parent);
            let mut no = pro.clone();
            pro.extra_data = "dao-hard-fork".into();
            no.extra_data = "dao-hard-for".into();
            let in_window = (2..12).contains(&number);
            let named = |header: &Header| refused(&rules, &parent, header.clone());
            let (good, bad) = if supports { (pro, no) } else { (no, pro) };
            assert_eq!(named(&good), "nothing", "{number}");
            assert_eq!(
                named(&bad),
                if in_window { "extraData" } else { "nothing" },
                "{number}"
            );
            parent = extend(&rules, &parent, good).unwrap();
        }
    }
}

#[test]
fn blocks_of_stake_begin_after_the_terminal_total_difficulty() {
    let mut genesis = work_genesis(london());
    let mut merge = |ttd: u64| {
        genesis.spec.terminal_total_difficulty = Some(U256::from(ttd));
        let rules = Rules::new(&genesis);
        let parent = rules.genesis_tip();
        let work = work_child(&rules, &parent);
        let mut stake = work.clone();
        stake.difficulty = U256::ZERO;
        (
            refused(&rules, &parent, work),
            refused(&rules, &parent, stake),
        )
    };
    let (nothing, difficulty) = ("nothing".to_owned(), "difficulty".to_owned());
    assert_eq!(merge(10_000_000), (difficulty.clone(), nothing.clone()));
    assert_eq!(merge(10_000_001), (nothing, difficulty));
}

#[test]
fn clique_may_end_in_stake() {
    let mut genesis = super::clique_genesis("A", 10);
    genesis.spec.terminal_total_difficulty = Some(U256::from(3));
    let rules = Rules::new(&genesis);
    let first = super::clique_child(&rules, &rules.genesis_tip(), 'A');
    let parent = rules
        .extend(&rules.genesis_tip(), super::sealed(first, 'A'), None)
        .unwrap();
    let sealed = super::sealed(super::clique_child(&rules, &parent, 'A'), 'A');
    assert_eq!(
        super::refused(rules.extend(&parent, sealed, None)),
        "extraData"
    );
    let mut stake = super::clique_child(&rules, &parent, 'A');
    stake.extra_data = Default::default();
    stake.difficulty = U256::ZERO;
    let tip = extend(&rules, &parent, stake).unwrap();
    assert!(tip.clique.is_none());
    assert_eq!(tip.td, U256::from(3));
    let restored = rules.restore(2, tip.td, None, &mut |_| Some(tip.header.raw.clone()));
    assert!(restored.unwrap().clique.is_none());
}

#[test]
fn no_block_of_clique_or_work_is_valid_after_shanghai() {
    for mut genesis in [super::clique_genesis("A", 10), work_genesis(london())] {
        genesis.spec.forks.shanghai_time = Some(1_001);
        let rules = Rules::new(&genesis);
        let parent = rules.genesis_tip();
        let mut header = match genesis.spec.clique {
            Some(CliqueConfig { .. }) => super::clique_child(&rules, &parent, 'A'),
            None => work_child(&rules, &parent),
        };
        header.withdrawals_root = Some(B256::ZERO);
        let header = super::sealed(header, 'A');
        assert_eq!(
            super::refused(rules.extend(&parent, header, None)),
            "timestamp"
        );
    }
}

#[test]
fn clocks_may_differ_by_fifteen_seconds() {
    let rules = Rules::new(&work_genesis(london()));
    let parent = rules.genesis_tip();
    let header = Arc::new(SealedHeader::from_header(work_child(&rules, &parent)));
    let time_s = header.header.timestamp;
    let at = |now_s| rules.extend(&parent, Arc::clone(&header), Some(now_s));
    assert!(at(time_s - 15).is_ok());
    let due_s = time_s - 15;
    assert!(
        matches!(at(time_s - 16), Err(HeaderError::Future { due_s: found, .. }) if found == due_s)
    );
}

#[test]
fn an_error_names_block_field_expected_and_found() {
    let rules = Rules::new(&work_genesis(london()));
    let parent = rules.genesis_tip();
    let mut header = work_child(&rules, &parent);
    header.base_fee_per_gas = Some(875_000_001);
    let header = SealedHeader::from_header(header);
    let hash = header.hash;
    let error = rules.extend(&parent, Arc::new(header), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("block 1 ({hash}): baseFeePerGas: expected 875000000, found 875000001")
    );
}

/// A valid empty block and its body.
fn empty_block(genesis: &Genesis) -> (Rules, Header, Vec<u8>) {
    let rules = Rules::new(genesis);
    let header = stake_child(&rules, &rules.genesis_tip(), 12);
    (rules, header, vec![0xc3, 0xc0, 0xc0, 0xc0])
}

#[test]
fn a_body_of_another_block_is_not_called_invalid() {
    let (rules, header, body) = empty_block(&stake_genesis());
    let judge = |header: &Header, body: &[u8]| {
        rules.check_body(&SealedHeader::from_header(header.clone()), body)
    };
    assert_eq!(judge(&header, &body), Ok(()));
    let not_of_header = |result, field: &str| match result {
        Err(BodyError::NotOfHeader(fault)) => {
            assert_eq!(fault.field, field);
            assert_eq!(fault.block.unwrap().0, 1);
        }
        other => panic!("{other:?}"),
    };
    not_of_header(
        judge(&header, &[0xc4, 0xc1, 0x01, 0xc0, 0xc0]),
        "transactionsRoot",
    );
    not_of_header(
        judge(&header, &[0xc4, 0xc0, 0xc1, 0xc0, 0xc0]),
        "sha3Uncles",
    );
    not_of_header(judge(&header, &[0xc2, 0xc0, 0xc0]), "withdrawalsRoot");
    let withdrawal = [&[0xd8, 1, 1, 0x94][..], &[0; 20], &[1]].concat();
    let with = [&[0xdc, 0xc0, 0xc0, 0xd9][..], &withdrawal].concat();
    not_of_header(judge(&header, &with), "withdrawalsRoot");
    assert!(matches!(
        judge(&header, &[0xc0]),
        Err(BodyError::Malformed(_))
    ));
}

#[test]
fn an_empty_block_has_used_nothing_and_left_no_receipts() {
    let (rules, valid, body) = empty_block(&stake_genesis());
    let cases: [Break; 4] = [
        ("gasUsed", |header| header.gas_used = 21_000),
        ("receiptsRoot", |header| header.receipts_root = B256::ZERO),
        ("logsBloom", |header| {
            header.logs_bloom.accrue_raw_log(Address::ZERO, &[]);
        }),
        ("blobGasUsed", |header| {
            header.blob_gas_used = Some(GAS_PER_BLOB);
        }),
    ];
    for (field, break_it) in cases {
        let mut header = valid.clone();
        break_it(&mut header);
        match rules.check_body(&SealedHeader::from_header(header), &body) {
            Err(BodyError::Invalid(fault)) => assert_eq!(fault.field, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn three_ommers_are_one_too_many_even_where_the_header_has_them() {
    let rules = Rules::new(&work_genesis(london()));
    let mut header = work_child(&rules, &rules.genesis_tip());
    let ommers = [0xc3, 0xc0, 0xc0, 0xc0];
    header.ommers_hash = keccak256(ommers);
    let body = [&[0xc5, 0xc0][..], &ommers].concat();
    match rules.check_body(&SealedHeader::from_header(header), &body) {
        Err(BodyError::Invalid(fault)) => assert_eq!(fault.field, "uncles"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_clique_checks_who_may_make_a_block() {
    assert!(Rules::new(&super::clique_genesis("A", 10)).seal_is_checked());
    assert!(!Rules::new(&work_genesis(london())).seal_is_checked());
    assert!(!Rules::new(&stake_genesis()).seal_is_checked());
}

#[test]
fn seals_are_checked_up_to_the_terminal_total_difficulty() {
    let mut genesis = super::clique_genesis("A", 10);
    let after = |genesis: &Genesis, td: u64| {
        let rules = Rules::new(genesis);
        let mut tip = rules.genesis_tip();
        tip.td = U256::from(td);
        rules.seal_is_checked_after(&tip)
    };
    assert!(after(&genesis, u64::MAX));
    genesis.spec.terminal_total_difficulty = Some(U256::from(20));
    assert!(after(&genesis, 19) && !after(&genesis, 20) && !after(&genesis, 21));
    assert!(!after(&stake_genesis(), 0) && !after(&work_genesis(london()), 0));
}

#[test]
fn osaka_caps_the_bytes_of_a_block() {
    let rules = Rules::new(&stake_genesis());
    let judge = |seconds: u64, bytes: usize| {
        let mut header = stake_child(&rules, &rules.genesis_tip(), seconds);
        // One transaction, a string: what it says is judged after its length.
        let mut transaction = Vec::new();
        alloy_rlp::Encodable::encode(&vec![2; bytes][..], &mut transaction);
        let mut bytes = Vec::new();
        for length in [transaction.len() + 6, transaction.len()] {
            rlp::list_prefix(&mut bytes, length);
        }
        bytes.extend_from_slice(&transaction);
        bytes.extend_from_slice(&[0xc0, 0xc0]);
        header.transactions_root = body::roots(&bytes).unwrap().transactions;
        let header = SealedHeader::from_header(header);
        let block = body::join_block(&header.raw, &bytes).unwrap();
        let error = rules.check_body(&header, &bytes).unwrap_err();
        (block.len(), error.fault().field.clone())
    };
    // The prefixes have the same length at both sizes.
    let around = judge(2_000, 8_000_000).0 - 8_000_000;
    let most = 8_388_608 - around;
    assert_eq!(
        judge(2_000, most),
        (8_388_608, "transactions[0].list".to_owned())
    );
    assert_eq!(judge(2_000, most + 1), (8_388_609, "size".to_owned()));
    assert_eq!(
        judge(12, most + 1),
        (8_388_609, "transactions[0].list".to_owned())
    );
}
