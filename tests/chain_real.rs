//! The rules of a chain against chains that real clients made. Needs the data folder that CAIRN_DATA names.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod chain_data;

use std::{fs, sync::Arc};

use alloy_primitives::U256;
use cairn::chain::{Forks, Genesis, OmmerWindow, Rules, Spec, Tip, body};
use chain_data::{Block, blocks, data};

/// Judges every block after the genesis block, and gives the last tip.
fn judge(genesis: &Genesis, blocks: &[Block]) -> Tip {
    let rules = Rules::new(genesis);
    let mut tip = rules.genesis_tip();
    let mut window = OmmerWindow::new();
    window.push(&genesis.header, &genesis.body);
    for block in blocks {
        assert_eq!(
            body::join_block(&block.header.raw, &block.body).unwrap(),
            block.raw
        );
        if block.header.number() == 0 {
            assert_eq!(block.header.hash, genesis.header.hash);
            assert_eq!(block.header.raw, genesis.header.raw);
            continue;
        }
        tip = rules.extend(&tip, Arc::clone(&block.header), None).unwrap();
        rules.check_body(&block.header, &block.body).unwrap();
        window.check(&rules, &block.header, &block.body).unwrap();
        window.push(&block.header, &block.body);
    }
    tip
}

fn genesis(path: &str) -> Option<Genesis> {
    let text = fs::read(data(path)?).unwrap();
    Some(Genesis::from_json(&text).unwrap())
}

fn whole_chain(folder: &str, file: &str, head: u64, td: u128, warnings: usize) {
    let Some(genesis) = genesis(&format!("{folder}/genesis.json")) else {
        return;
    };
    assert_eq!(genesis.warnings.len(), warnings, "{:?}", genesis.warnings);
    let blocks = blocks(&data(&format!("{folder}/{file}")).unwrap());
    let tip = judge(&genesis, &blocks);
    assert_eq!(tip.header.number(), head);
    assert_eq!(tip.td, U256::from(td));
    assert!(tip.clique.is_none());
}

#[test]
fn a_proof_of_work_chain_in_london_is_valid() {
    // The total in the file's name leaves the genesis block out.
    const GENESIS_TD: u128 = 0x30000;
    whole_chain(
        "chains/pow-london-1024",
        "hive-engine-blocks_1024_td_135112316.rlp",
        1024,
        GENESIS_TD + 135_112_316,
        2,
    );
}

#[test]
fn the_chain_that_took_the_dao_fork_is_valid() {
    whole_chain("chains/dao-fork", "profork-chain.rlp", 2176, 506_013_869, 1);
}

#[test]
fn the_chain_that_did_not_take_the_dao_fork_is_valid() {
    whole_chain("chains/dao-fork", "nofork-chain.rlp", 2048, 459_700_111, 1);
}

#[test]
fn a_chain_through_every_fork_is_valid() {
    const TERMINAL_TD: u128 = 4_732_352;
    whole_chain("chains/execution-apis", "chain.rlp", 54, TERMINAL_TD, 0);
}

#[test]
fn geths_test_chain_with_a_chain_id_of_256_bits_is_valid() {
    const TERMINAL_TD: u128 = 9_454_784;
    whole_chain(
        "chains/geth-hivechain-500",
        "chain.rlp",
        500,
        TERMINAL_TD,
        0,
    );
}

#[test]
fn besus_clique_chain_is_valid_and_restores() {
    let Some(genesis) = genesis("clique/besu-clique_to_pos.genesis.json") else {
        return;
    };
    let blocks = blocks(&data("clique/besu-clique.blocks").unwrap());
    let tip = judge(&genesis, &blocks);
    assert_eq!((tip.header.number(), tip.td), (4, U256::from(9)));
    let rules = Rules::new(&genesis);
    assert!(rules.seal_is_checked());
    let restored = rules
        .restore(4, tip.td, None, &mut |number| {
            Some(blocks[usize::try_from(number).unwrap()].header.raw.clone())
        })
        .unwrap();
    assert_eq!(restored.clique, tip.clique);
}

#[test]
fn blocks_of_two_thousand_transactions_in_prague_are_valid() {
    let Some(path) = data("chains/prague-loadtest/l2-loadtest.rlp") else {
        return;
    };
    let forks = Forks {
        london: Some(0),
        prague_time: Some(0),
        ..Forks::default()
    };
    let mut spec = Spec::new(U256::from(1729), forks);
    spec.terminal_total_difficulty = Some(U256::ZERO);
    let blocks = blocks(&path);
    let rules = Rules::new(&Genesis {
        spec,
        ..Genesis::dev()
    });
    let mut tip = Tip {
        header: Arc::clone(&blocks[0].header),
        td: U256::ZERO,
        clique: None,
    };
    let mut transactions = 0;
    for block in &blocks {
        if block.header.hash != tip.header.hash {
            tip = rules.extend(&tip, Arc::clone(&block.header), None).unwrap();
        }
        rules.check_body(&block.header, &block.body).unwrap();
        transactions += body::transactions(&block.body).count();
    }
    assert_eq!((blocks.len(), transactions), (9, 17_938));
}
