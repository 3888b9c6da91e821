//! The rules of mainnet and Sepolia against their own blocks. Needs the data folder that CAIRN_DATA names.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod chain_data;

use std::sync::Arc;

use cairn::chain::{BodyError, Genesis, OmmerWindow, Rules, Tip, body};
use chain_data::{blocks, data, era1};

/// Every block of an era1 file from the genesis block on is valid, and the total difficulties are those of the file.
fn from_genesis(genesis: &Genesis, file: &str) {
    let Some(path) = data(file) else { return };
    let rules = Rules::new(genesis);
    let mut tip = rules.genesis_tip();
    let mut window = OmmerWindow::new();
    let blocks = era1(&path);
    assert_eq!(blocks.len(), 8192);
    for (block, td) in &blocks {
        if block.header.number() == 0 {
            assert_eq!(block.header.raw, genesis.header.raw);
            assert_eq!(block.body, genesis.body);
        } else {
            tip = rules.extend(&tip, Arc::clone(&block.header), None).unwrap();
            rules.check_body(&block.header, &block.body).unwrap();
            window.check(&rules, &block.header, &block.body).unwrap();
        }
        window.push(&block.header, &block.body);
        assert_eq!(tip.td, *td);
    }
}

#[test]
fn mainnets_first_8192_blocks_are_valid() {
    from_genesis(&Genesis::mainnet(), "era1/mainnet-00000-5ec1ffb8.era1");
}

#[test]
fn sepolias_first_8192_blocks_are_valid() {
    from_genesis(&Genesis::sepolia(), "era1/sepolia-00000-643a00f7.era1");
}

#[test]
fn sepolias_later_blocks_are_valid_after_the_first_of_them() {
    let Some(path) = data("era1/sepolia-00021-b8814b14.era1") else {
        return;
    };
    let rules = Rules::new(&Genesis::sepolia());
    let blocks = era1(&path);
    let (first, td) = &blocks[0];
    let mut tip = Tip {
        header: Arc::clone(&first.header),
        td: *td,
        clique: None,
    };
    let (mut window, mut ommers) = (OmmerWindow::new(), 0);
    window.push(&first.header, &first.body);
    for (block, td) in &blocks[1..] {
        tip = rules.extend(&tip, Arc::clone(&block.header), None).unwrap();
        assert_eq!(tip.td, *td);
        rules.check_body(&block.header, &block.body).unwrap();
        window.check(&rules, &block.header, &block.body).unwrap();
        window.push(&block.header, &block.body);
        ommers += body::ommers(&block.body).count();
    }
    assert_eq!((tip.header.number(), ommers), (180_223, 1273));
}

/// Blocks, those whose parent is there too, transactions, and blocks whose withdrawals the file lacks.
#[derive(Default, PartialEq, Eq, Debug)]
struct Counts {
    blocks: usize,
    linked: usize,
    transactions: usize,
    without_withdrawals: usize,
}

/// Mainnet's first block whose total difficulty is the terminal one (EIP-3675).
const LAST_BLOCK_OF_WORK: u64 = 15_537_393;

/// Mainnet's blocks are sparse: each body is judged, and each header whose parent stands before it.
fn sparse(file: &str) -> Option<Counts> {
    let blocks = blocks(&data(file)?);
    let rules = Rules::new(&Genesis::mainnet());
    let terminal = rules.spec.terminal_total_difficulty.unwrap();
    let mut counts = Counts::default();
    let mut last: Option<Tip> = None;
    let mut window = OmmerWindow::new();
    for block in &blocks {
        let header = &block.header.header;
        counts.blocks += 1;
        counts.transactions += body::transactions(&block.body).count();
        match rules.check_body(&block.header, &block.body) {
            Ok(()) => {}
            Err(BodyError::NotOfHeader(fault)) if fault.field == "withdrawalsRoot" => {
                assert!(
                    fault.to_string().ends_with("found no withdrawals"),
                    "{fault}"
                );
                counts.without_withdrawals += 1;
            }
            Err(error) => panic!("{file}: {error}"),
        }
        if let Some(parent) = last
            .take()
            .filter(|parent| parent.header.hash == header.parent_hash)
        {
            rules
                .extend(&parent, Arc::clone(&block.header), None)
                .unwrap();
            window.check(&rules, &block.header, &block.body).unwrap();
            counts.linked += 1;
        }
        window.push(&block.header, &block.body);
        // The file does not say the total difficulty, only on which side of the terminal one it is.
        let td = if header.number >= LAST_BLOCK_OF_WORK {
            terminal
        } else {
            header.difficulty
        };
        last = Some(Tip {
            header: Arc::clone(&block.header),
            td,
            clique: None,
        });
    }
    println!("{file}: {counts:?}");
    Some(counts)
}

#[test]
fn mainnets_blocks_of_every_fork_are_valid() {
    let expected = [
        ("firehose-17686110-17686312", 24, 22, 4637, 24),
        ("fluffy-mainnet", 53, 47, 116, 0),
        ("mainnet-fork-blocks", 13, 4, 1686, 0),
        ("nimbus-proxy-blocks", 30, 10, 4140, 0),
        ("pevm-mainnet-blocks", 95, 8, 26443, 0),
    ];
    for (name, blocks, linked, transactions, without_withdrawals) in expected {
        let file = match name {
            "nimbus-proxy-blocks" | "pevm-mainnet-blocks" => format!("mainnet/{name}.rlp"),
            _ => format!("mainnet/{name}.blocks.rlp"),
        };
        let Some(counts) = sparse(&file) else { return };
        let expected = Counts {
            blocks,
            linked,
            transactions,
            without_withdrawals,
        };
        assert_eq!(counts, expected, "{file}");
    }
}
