//! Forks, and the fork ids made of them.

use alloy_eip2124::{ForkHash, ForkId};
use alloy_primitives::{U256, hex};

use super::{clique_genesis, london, of};
use crate::chain::{BlobParams, Fork, Forks, Genesis, Spec};

fn fork_id(genesis: &Genesis, number: u64, time_s: u64) -> (String, u64) {
    let id = genesis.spec.fork_filter(genesis, number, time_s).current();
    (hex::encode(id.hash.0), id.next)
}

#[test]
fn mainnets_fork_ids_are_those_of_eip_2124_and_after() {
    let genesis = Genesis::mainnet();
    let table = [
        (0, 0, "fc64ec04", 1_150_000),
        (1_149_999, 0, "fc64ec04", 1_150_000),
        (1_150_000, 0, "97c2c34c", 1_920_000),
        (1_920_000, 0, "91d1f948", 2_463_000),
        (2_463_000, 0, "7a64da13", 2_675_000),
        (2_675_000, 0, "3edd5b10", 4_370_000),
        (4_370_000, 0, "a00bc324", 7_280_000),
        (7_280_000, 0, "668db0af", 9_069_000),
        (9_069_000, 0, "879d6e30", 9_200_000),
        (9_200_000, 0, "e029e991", 12_244_000),
        (12_244_000, 0, "0eb440f6", 12_965_000),
        (12_965_000, 0, "b715077d", 13_773_000),
        (13_773_000, 0, "20c327fc", 15_050_000),
        (15_050_000, 0, "f0afd0e3", 1_681_338_455),
        (20_000_000, 1_681_338_454, "f0afd0e3", 1_681_338_455),
        (20_000_000, 1_681_338_455, "dce96c2d", 1_710_338_135),
        (20_000_000, 1_710_338_135, "9f3d2254", 1_746_612_311),
        (20_000_000, 1_746_612_311, "c376cf8b", 1_764_798_551),
        (20_000_000, 1_764_798_551, "5167e2a6", 1_765_290_071),
        (20_000_000, 1_765_290_071, "cba2a1c0", 1_767_747_671),
        (20_000_000, 1_767_747_671, "07c9462e", 0),
    ];
    for (number, time_s, hash, next) in table {
        assert_eq!(fork_id(&genesis, number, time_s), (hash.to_owned(), next));
    }
}

#[test]
fn sepolias_fork_ids_skip_the_forks_of_its_genesis() {
    let genesis = Genesis::sepolia();
    let table = [
        (0, 1_633_267_481, "fe3366e7", 1_735_371),
        (1_735_371, 1_660_000_000, "b96cbd13", 1_677_557_088),
        (1_735_372, 1_677_557_088, "f7f9bc08", 1_706_655_072),
        (1_735_372, 1_706_655_072, "88cf81d9", 1_741_159_776),
        (1_735_372, 1_741_159_776, "ed88b5fd", 1_760_427_360),
        (1_735_372, 1_760_427_360, "e2ae4999", 1_761_017_184),
        (1_735_372, 1_761_017_184, "56078a1e", 1_761_607_008),
        (1_735_372, 1_761_607_008, "268956b6", 1_791_294_816),
        (1_735_372, 1_791_294_816, "6c1d9423", 0),
    ];
    for (number, time_s, hash, next) in table {
        assert_eq!(fork_id(&genesis, number, time_s), (hash.to_owned(), next));
    }
}

#[test]
fn a_chain_whose_forks_are_all_at_genesis_has_the_hash_of_its_genesis_alone() {
    let genesis = clique_genesis("A", 10);
    let expected = ForkId {
        hash: ForkHash::from(genesis.header.hash),
        next: 0,
    };
    assert_eq!(
        genesis.spec.fork_filter(&genesis, 100, 5_000).current(),
        expected
    );
}

#[test]
fn forks_at_one_place_count_once() {
    let one = Forks {
        homestead: Some(9),
        ..Forks::default()
    };
    let two = Forks {
        eip150: Some(9),
        ..one.clone()
    };
    let header = || Genesis::mainnet().header.header;
    let id = |forks| {
        let genesis = of(Spec::new(U256::ONE, forks), header());
        fork_id(&genesis, 9, 0)
    };
    assert_eq!(id(one), id(two));
}

#[test]
fn a_fork_comes_with_the_next_later_one_at_the_latest() {
    // Besu's genesis files name no Constantinople.
    let forks = Forks {
        istanbul: Some(7),
        ..Forks::default()
    };
    let spec = Spec::new(U256::ONE, forks);
    assert_eq!(spec.fork(6, 0), Fork::Frontier);
    assert_eq!(spec.fork(7, 0), Fork::Istanbul);
    assert!(Fork::Istanbul > Fork::Byzantium);
}

#[test]
fn mainnets_forks_come_where_they_came() {
    let spec = Genesis::mainnet().spec;
    let table = [
        (1_149_999, 0, Fork::Frontier),
        (1_150_000, 0, Fork::Homestead),
        (2_463_000, 0, Fork::Tangerine),
        (2_675_000, 0, Fork::Spurious),
        (4_370_000, 0, Fork::Byzantium),
        (7_280_000, 0, Fork::Constantinople),
        (9_069_000, 0, Fork::Istanbul),
        (12_244_000, 0, Fork::Berlin),
        (12_965_000, 0, Fork::London),
        (17_034_870, 1_681_338_455, Fork::Shanghai),
        (19_426_587, 1_710_338_135, Fork::Cancun),
        (22_431_084, 1_746_612_311, Fork::Prague),
        (24_000_000, 1_764_798_551, Fork::Osaka),
    ];
    for (number, time_s, fork) in table {
        assert_eq!(spec.fork(number, time_s), fork);
    }
}

#[test]
fn blob_parameters_change_at_their_times() {
    let spec = Genesis::mainnet().spec;
    assert_eq!(spec.blob_params(1_710_338_134), None);
    let table = [
        (1_710_338_135, BlobParams::CANCUN),
        (1_746_612_311, BlobParams::PRAGUE),
        (1_764_798_551, BlobParams::PRAGUE),
        (1_765_290_071, BlobParams::BPO1),
        (1_767_747_671, BlobParams::BPO2),
        (u64::MAX, BlobParams::BPO2),
    ];
    for (time_s, params) in table {
        assert_eq!(spec.blob_params(time_s), Some(params));
    }
}

#[test]
fn the_network_id_is_the_low_half_of_a_long_chain_id() {
    let spec = Spec::new((U256::from(3) << 64) + U256::from(5), london());
    assert_eq!(spec.network_id(), 5);
}
