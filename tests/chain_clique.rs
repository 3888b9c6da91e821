//! Clique headers that real clients sealed. Needs the data folder that CAIRN_DATA names.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod chain_data;

use std::{collections::BTreeMap, sync::Arc};

use alloy_consensus::Header;
use alloy_primitives::{Address, U256, address, b256, hex};
use bytes::Bytes;
use cairn::chain::{
    CliqueConfig, Forks, Genesis, Rules, SealedHeader, Spec, Tip,
    clique::{self, Snapshot},
};
use chain_data::{blocks, data};

/// Rinkeby's genesis block, as geth had it.
fn rinkeby() -> Genesis {
    let forks = Forks {
        homestead: Some(1),
        eip150: Some(2),
        eip155: Some(3),
        eip158: Some(3),
        byzantium: Some(1_035_301),
        ..Forks::default()
    };
    let mut spec = Spec::new(U256::from(4), forks);
    spec.clique = Some(CliqueConfig {
        period_s: 15,
        epoch: 30_000,
    });
    let mut extra = b"Respect my authoritah ~E.Cartman".to_vec();
    for signer in RINKEBY_SIGNERS {
        extra.extend_from_slice(signer.as_slice());
    }
    extra.extend_from_slice(&[0; 65]);
    let header = SealedHeader::from_header(Header {
        state_root: b256!("53580584816f617295ea26c0e17641e0120cab2f0a8ffb53a866fd53aa8e8c2d"),
        difficulty: U256::ONE,
        gas_limit: 4_700_000,
        timestamp: 0x58ee_40ba,
        extra_data: extra.into(),
        ..Header::default()
    });
    Genesis {
        spec,
        header,
        body: Bytes::from_static(&hex!("c2c0c0")),
        warnings: Vec::new(),
    }
}

const RINKEBY_SIGNERS: [Address; 3] = [
    address!("42eb768f2244c8811c63729a21a3569731535f06"),
    address!("7ffc57839b00206d1ad20c69a1981b489f772031"),
    address!("b279182d99e65703f0076e4812653aab85fca0f0"),
];

#[test]
fn rinkebys_first_blocks_are_valid_and_sealed_by_its_three_signers() {
    let Some(path) = data("clique/rinkeby-blocks-1-5.rlp") else {
        return;
    };
    let genesis = rinkeby();
    assert_eq!(
        genesis.header.hash,
        b256!("6341fd3daf94b748c72ced5a5b26028f2474f5f00d824504e4fa37a75767e177")
    );
    let rules = Rules::new(&genesis);
    let mut tip = rules.genesis_tip();
    let mut signers = BTreeMap::<Address, u32>::new();
    for block in blocks(&path) {
        tip = rules.extend(&tip, Arc::clone(&block.header), None).unwrap();
        rules.check_body(&block.header, &block.body).unwrap();
        *signers
            .entry(clique::signer(&block.header.header).unwrap())
            .or_default() += 1;
    }
    assert_eq!(tip.header.number(), 5);
    assert_eq!(signers.keys().copied().collect::<Vec<_>>(), RINKEBY_SIGNERS);
}

#[test]
fn scrolls_runs_of_blocks_are_sealed_and_valid() {
    let Some(path) = data("clique/scroll-clique-chainid-534352.rlp") else {
        return;
    };
    let forks = Forks {
        homestead: Some(0),
        berlin: Some(0),
        ..Forks::default()
    };
    let mut spec = Spec::new(U256::from(534_352), forks);
    spec.foreign_transactions = true;
    spec.clique = Some(CliqueConfig {
        period_s: 3,
        epoch: 30_000,
    });
    let rules = Rules::new(&Genesis { spec, ..rinkeby() });
    let signer = address!("d2acf5d16a983db0d909d9d761b8337fabd6cbd1");
    let (mut runs, mut linked) = (0, 0);
    let mut last: Option<Tip> = None;
    for block in blocks(&path) {
        let header = &block.header;
        rules.check_body(header, &block.body).unwrap();
        assert_eq!(clique::signer(&header.header), Ok(signer));
        let parent = last
            .take()
            .filter(|parent| parent.header.hash == header.header.parent_hash);
        last = Some(match parent {
            None => {
                runs += 1;
                first_of_run(header, signer)
            }
            Some(parent) => {
                linked += 1;
                rules.extend(&parent, Arc::clone(header), None).unwrap()
            }
        });
    }
    assert_eq!((runs, linked), (23, 719 - 23));
}

/// What is known after the first block of a run: that its signer is the only one, for no other ever sealed.
fn first_of_run(header: &Arc<SealedHeader>, signer: Address) -> Tip {
    let mut listing = (**header).clone();
    listing.header.extra_data = [&[0; 32], signer.as_slice(), &[0; 65]].concat().into();
    let snapshot = Snapshot::from_checkpoint(&listing, Vec::new()).unwrap();
    Tip {
        header: Arc::clone(header),
        td: U256::ZERO,
        clique: Some(Arc::new(snapshot)),
    }
}
