//! The layouts as geth writes them, and the tables of EIP-2124.
#![allow(clippy::unwrap_used)]
use alloy_eip2124::{ForkFilterKey, Head};
use alloy_primitives::b256;

use super::super::What;
use super::super::vectors::vector;
use super::*;

const MAINNET: B256 = b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3");

fn fork_id(hash: u32, next: u64) -> ForkId {
    ForkId {
        hash: ForkHash(hash.to_be_bytes()),
        next,
    }
}

fn filter(genesis: B256, forks: &[u64], number: u64) -> ForkFilter {
    let head = Head {
        number,
        ..Head::default()
    };
    ForkFilter::new(
        head,
        genesis,
        0,
        forks.iter().copied().map(ForkFilterKey::Block),
    )
}

/// Mainnet as EIP-2124 knew it: up to Petersburg.
fn mainnet(number: u64) -> ForkFilter {
    filter(
        MAINNET,
        &[
            1_150_000, 1_920_000, 2_463_000, 2_675_000, 4_370_000, 7_280_000,
        ],
        number,
    )
}

fn local(number: u64) -> LocalChain {
    LocalChain {
        network_id: 1,
        genesis: MAINNET,
        fork_filter: mainnet(number),
        head_number: number,
        head: B256::repeat_byte(7),
        td: U256::from(17),
        earliest: 3,
    }
}

fn read(version: u8, name: &str) -> Status {
    Status::decode(version, &vector(name)).unwrap()
}

#[test]
fn both_layouts_read_and_write_as_geth_does() {
    let feedbeef = b256!("00000000000000000000000000000000000000000000000000000000feedbeef");
    let status_68 = Status {
        version: 68,
        network_id: 1,
        genesis: MAINNET,
        fork_id: fork_id(0x668d_b0af, 0),
        td: Some("58750003716598352816469".parse().unwrap()),
        head: feedbeef,
        earliest: None,
        latest: None,
    };
    assert_eq!(read(68, "STATUS_68"), status_68);
    let status_69 = Status {
        version: 69,
        td: None,
        earliest: Some(15_537_394),
        latest: Some(23_000_000),
        ..status_68.clone()
    };
    assert_eq!(read(69, "STATUS_69"), status_69);
    assert_eq!(
        read(70, "STATUS_70"),
        Status {
            version: 70,
            ..status_69.clone()
        }
    );
    assert_eq!(read(68, "STATUS_68_NEXT").fork_id, fork_id(1, u64::MAX));
    for (version, name) in [
        (68, "STATUS_68"),
        (68, "STATUS_68_NEXT"),
        (69, "STATUS_69"),
        (69, "STATUS_69_NEXT"),
        (70, "STATUS_70"),
        (71, "STATUS_71"),
    ] {
        let mut out = Vec::new();
        read(version, name).encode(&mut out);
        assert_eq!(out, vector(name), "{name}");
    }
}

#[test]
fn a_status_says_what_its_version_asks_for() {
    let chain = local(7_987_396);
    let status = Status::of(&chain, 68);
    assert_eq!(
        (status.td, status.earliest, status.latest),
        (Some(U256::from(17)), None, None)
    );
    let status = Status::of(&chain, 69);
    assert_eq!(
        (status.td, status.earliest, status.latest),
        (None, Some(3), Some(7_987_396))
    );
    assert_eq!(status.fork_id, fork_id(0x668d_b0af, 0));
    assert_eq!(status.check(&chain), Ok(()));
}

#[test]
fn a_status_of_another_version_or_shape_is_a_breach() {
    let wrong = |version, name: &str| Status::decode(version, &vector(name)).unwrap_err();
    assert_eq!(
        (wrong(69, "STATUS_70").field, wrong(69, "STATUS_70").what),
        ("version", What::Value { found: 70 })
    );
    assert_eq!(wrong(68, "STATUS_69").what, What::Value { found: 69 });
    for (version, name) in [(68, "STATUS_68"), (69, "STATUS_69")] {
        let good = vector(name);
        for len in 0..good.len() {
            assert!(
                Status::decode(version, &good[..len]).is_err(),
                "{name} cut to {len}"
            );
        }
        let longer = [&good[..], &[0x80]].concat();
        assert_eq!(
            Status::decode(version, &longer).unwrap_err().what,
            What::Trailing
        );
    }
}

#[test]
fn a_peer_of_another_chain_is_told_apart() {
    let chain = local(7_987_396);
    let good = Status::of(&chain, 69);
    let other = |change: &dyn Fn(&mut Status)| {
        let mut status = good.clone();
        change(&mut status);
        status.check(&chain).unwrap_err()
    };
    assert_eq!(
        other(&|s| s.network_id = 5),
        StatusError::NetworkId { ours: 1, theirs: 5 }
    );
    assert!(matches!(
        other(&|s| s.genesis = B256::ZERO),
        StatusError::Genesis { .. }
    ));
    let forked = other(&|s| s.fork_id = fork_id(0xdead_beef, 9));
    assert!(
        forked
            .to_string()
            .ends_with("ours 668db0af/0, its deadbeef/9"),
        "{forked}"
    );
    let range = other(&|s| s.earliest = Some(7_987_397));
    assert_eq!(
        range,
        StatusError::BlockRange {
            earliest: 7_987_397,
            latest: 7_987_396
        }
    );
    assert_eq!(other(&|s| s.head = B256::ZERO), StatusError::NoLatestHash);
}

/// EIP-2124, "Test Cases", the first suite.
#[test]
fn fork_ids_are_those_of_eip_2124() {
    type Case = (u64, u32, u64);
    let chains: [(B256, &[u64], &[Case]); 4] = [
        (
            MAINNET,
            &[
                1_150_000, 1_920_000, 2_463_000, 2_675_000, 4_370_000, 7_280_000,
            ],
            &[
                (0, 0xfc64_ec04, 1_150_000),
                (1_149_999, 0xfc64_ec04, 1_150_000),
                (1_150_000, 0x97c2_c34c, 1_920_000),
                (1_919_999, 0x97c2_c34c, 1_920_000),
                (1_920_000, 0x91d1_f948, 2_463_000),
                (2_462_999, 0x91d1_f948, 2_463_000),
                (2_463_000, 0x7a64_da13, 2_675_000),
                (2_674_999, 0x7a64_da13, 2_675_000),
                (2_675_000, 0x3edd_5b10, 4_370_000),
                (4_369_999, 0x3edd_5b10, 4_370_000),
                (4_370_000, 0xa00b_c324, 7_280_000),
                (7_279_999, 0xa00b_c324, 7_280_000),
                (7_280_000, 0x668d_b0af, 0),
                (7_987_396, 0x668d_b0af, 0),
            ],
        ),
        (
            b256!("41941023680923e0fe4d74a34bdac8141f2540e3ae90623718e47d66d1ca4a2d"), // Ropsten
            &[10, 1_700_000, 4_230_000, 4_939_394, 6_485_846],
            &[
                (0, 0x30c7_ddbc, 10),
                (9, 0x30c7_ddbc, 10),
                (10, 0x6376_0190, 1_700_000),
                (1_699_999, 0x6376_0190, 1_700_000),
                (1_700_000, 0x3ea1_59c7, 4_230_000),
                (4_229_999, 0x3ea1_59c7, 4_230_000),
                (4_230_000, 0x97b5_44f3, 4_939_394),
                (4_939_393, 0x97b5_44f3, 4_939_394),
                (4_939_394, 0xd6e2_149b, 6_485_846),
                (6_485_845, 0xd6e2_149b, 6_485_846),
                (6_485_846, 0x4bc6_6396, 0),
                (7_500_000, 0x4bc6_6396, 0),
            ],
        ),
        (
            b256!("6341fd3daf94b748c72ced5a5b26028f2474f5f00d824504e4fa37a75767e177"), // Rinkeby
            &[1, 2, 3, 1_035_301, 3_660_663, 4_321_234, 5_435_345],
            &[
                (0, 0x3b8e_0691, 1),
                (1, 0x6094_9295, 2),
                (2, 0x8bde_40dd, 3),
                (3, 0xcb3a_64bb, 1_035_301),
                (1_035_300, 0xcb3a_64bb, 1_035_301),
                (1_035_301, 0x8d74_8b57, 3_660_663),
                (3_660_662, 0x8d74_8b57, 3_660_663),
                (3_660_663, 0xe49c_ab14, 4_321_234),
                (4_321_233, 0xe49c_ab14, 4_321_234),
                (4_321_234, 0xafec_6b27, 5_435_345),
                (5_435_344, 0xafec_6b27, 5_435_345),
                (5_435_345, 0xcbdb_8838, 0),
                (6_000_000, 0xcbdb_8838, 0),
            ],
        ),
        (
            b256!("bf7e331f7f7c1dd2e05159666b3bf8bc7a8a3a9eb1d518969eab529dd9b88c1a"), // Goerli
            &[1_561_651],
            &[
                (0, 0xa3f5_ab08, 1_561_651),
                (1_561_650, 0xa3f5_ab08, 1_561_651),
                (1_561_651, 0xc25e_fa5c, 0),
                (2_000_000, 0xc25e_fa5c, 0),
            ],
        ),
    ];
    for (genesis, forks, cases) in chains {
        for (head, hash, next) in cases {
            assert_eq!(
                filter(genesis, forks, *head).current(),
                fork_id(*hash, *next),
                "{genesis} at {head}"
            );
        }
    }
}

/// EIP-2124, "Test Cases", the second suite; through Status, as a peer would meet them.
#[test]
fn peers_are_taken_and_refused_as_in_eip_2124() {
    const OK: u8 = 0;
    const STALE: u8 = 1; // ErrRemoteStale
    const WE: u8 = 2; // ErrLocalIncompatibleOrStale
    for (head, hash, next, verdict) in [
        (7_987_396, 0x668d_b0af, 0, OK),
        (7_987_396, 0x668d_b0af, u64::MAX, OK),
        (7_279_999, 0xa00b_c324, 0, OK),
        (7_279_999, 0xa00b_c324, 7_280_000, OK),
        (7_279_999, 0xa00b_c324, u64::MAX, OK),
        (7_987_396, 0xa00b_c324, 7_280_000, OK),
        (7_987_396, 0x3edd_5b10, 4_370_000, OK),
        (7_279_999, 0x668d_b0af, 0, OK),
        (4_369_999, 0xa00b_c324, 0, OK),
        (7_987_396, 0xa00b_c324, 0, STALE),
        (7_987_396, 0x5cdd_c0e1, 0, WE),
        (7_279_999, 0x5cdd_c0e1, 0, WE),
        (7_987_396, 0xafec_6b27, 0, WE),
        (88_888_888, 0x668d_b0af, 88_888_888, WE),
        (7_279_999, 0xa00b_c324, 7_279_999, WE),
    ] {
        let chain = local(head);
        let remote = Status {
            fork_id: fork_id(hash, next),
            ..Status::of(&chain, 68)
        };
        let found = match remote.check(&chain) {
            Ok(()) => OK,
            Err(StatusError::Fork(ValidationError::RemoteStale { .. })) => STALE,
            Err(StatusError::Fork(ValidationError::LocalIncompatibleOrStale { .. })) => WE,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(found, verdict, "local at {head}, remote {hash:08x}/{next}");
    }
}

/// EIP-2124, "Test Cases", the third suite.
#[test]
fn a_fork_id_is_encoded_as_in_eip_2124() {
    for (hash, next, rlp) in [
        (0, 0, "c6840000000080"),
        (0xdead_beef, 0xbadd_cafe, "ca84deadbeef84baddcafe"),
        (u32::MAX, u64::MAX, "ce84ffffffff88ffffffffffffffff"),
    ] {
        let rlp = alloy_primitives::hex::decode(rlp).unwrap();
        assert_eq!(alloy_rlp::encode(fork_id(hash, next)), rlp);
        let mut cursor = Cursor::new("", &rlp);
        assert_eq!(decode_fork_id(&mut cursor).unwrap(), fork_id(hash, next));
    }
}
