//! The sizes that a header may have, whatever its parent.

use alloy_primitives::{Bytes, U256};

use super::{clique_child, clique_genesis, london, stake_genesis, work_genesis};
use crate::chain::{Rules, SealedHeader};

/// Whether a header with that number and so many bytes of `extraData` is read.
fn reads(rules: &Rules, number: u64, extra_bytes: usize) -> bool {
    let mut header = rules.genesis_tip().header.header.clone();
    (header.number, header.extra_data) = (number, Bytes::from(vec![1; extra_bytes]));
    let raw = SealedHeader::from_header(header).raw;
    match rules.read_header(raw) {
        Ok(_) => true,
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 200, "{text}");
            false
        }
    }
}

#[test]
fn extra_data_has_the_size_that_the_number_allows() {
    let clique = Rules::new(&clique_genesis("AB", 10));
    for bytes in [0, 32, 96, 98, 117, 1 << 20] {
        assert!(!reads(&clique, 11, bytes), "{bytes}");
    }
    assert!(reads(&clique, 11, 97));
    let most = 97 + 20 * 1024;
    assert!(reads(&clique, 20, 137) && reads(&clique, 20, most));
    assert!(!reads(&clique, 20, most + 1));
    for rules in [&work_genesis(london()), &stake_genesis()].map(Rules::new) {
        assert!(reads(&rules, 20, 32));
        assert!(!reads(&rules, 20, 33) && !reads(&rules, 20, 97));
    }
}

#[test]
fn a_clique_chain_that_is_to_merge_may_have_blocks_of_both_kinds() {
    let mut genesis = clique_genesis("AB", 10);
    genesis.spec.terminal_total_difficulty = Some(U256::from(20));
    let rules = Rules::new(&genesis);
    for (number, bytes, is_read) in [
        (11, 97, true),
        (11, 32, true),
        (11, 33, false),
        (20, 0, true),
    ] {
        assert_eq!(reads(&rules, number, bytes), is_read, "{number}: {bytes}");
    }
}

#[test]
fn a_header_is_not_decoded_beyond_its_limit_and_the_genesis_is_always_read() {
    let mut genesis = clique_genesis("AB", 10);
    let rules = Rules::new(&genesis);
    assert!(!reads(&rules, 0, 33 << 10));
    let error = rules
        .read_header(vec![0; (32 << 10) + 1].into())
        .unwrap_err();
    assert!(error.to_string().contains("32768"), "{error}");
    let mut header = genesis.header.header.clone();
    header.extra_data = vec![1; 97 + 20 * 1025].into();
    genesis.header = SealedHeader::from_header(header);
    let raw = genesis.header.raw.clone();
    assert!(Rules::new(&genesis).read_header(raw).is_ok());
}

#[test]
fn what_is_said_of_false_signers_is_short() {
    let genesis = clique_genesis("AB", 10);
    let rules = Rules::new(&genesis);
    let parent = rules.genesis_tip();
    for extra_bytes in [98, 97 + 20, 97 + 40, 1 << 20] {
        let mut header = clique_child(&rules, &parent, 'A');
        header.extra_data = vec![1; extra_bytes].into();
        let header = std::sync::Arc::new(SealedHeader::from_header(header));
        let error = rules.extend(&parent, header, None).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("extraData") && text.len() < 250, "{text}");
    }
}
