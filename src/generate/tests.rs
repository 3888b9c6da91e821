//! What the generator promises of its chains.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use alloy_consensus::{
    Block, Transaction as _, TxEnvelope, Typed2718,
    proofs::{calculate_ommers_root, calculate_transaction_root, calculate_withdrawals_root},
};
use alloy_primitives::{Address, B256, Signature, b256, keccak256};
use alloy_rlp::Decodable;
use secp256k1::{
    Message, Secp256k1,
    ecdsa::{RecoverableSignature, RecoveryId},
};

use super::*;
use crate::chain::{Genesis, Rules, clique};

fn london(blocks: u64, txs_per_block: u32) -> Params {
    Params {
        blocks,
        txs_per_block,
        seed: 7,
        ..Params::default()
    }
}

fn prague(blocks: u64, txs_per_block: u32) -> Params {
    Params {
        fork: Fork::Prague,
        ..london(blocks, txs_per_block)
    }
}

fn decode(block: &GeneratedBlock) -> Block<TxEnvelope> {
    let bytes = encode_block(block);
    let mut rest = bytes.as_slice();
    let block = Block::decode(&mut rest).unwrap();
    assert!(rest.is_empty(), "a block is one RLP item");
    block
}

fn recover(hash: B256, signature: &Signature) -> Address {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    bytes[32..].copy_from_slice(&signature.s().to_be_bytes::<32>());
    let id = RecoveryId::try_from(i32::from(signature.v())).unwrap();
    let signature = RecoverableSignature::from_compact(&bytes, id).unwrap();
    let key = Secp256k1::new()
        .recover_ecdsa(&Message::from_digest(hash.0), &signature)
        .unwrap();
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}

fn signature_of(transaction: &TxEnvelope) -> (B256, Signature) {
    (transaction.signature_hash(), *transaction.signature())
}

/// keccak of all blocks as their file holds them.
fn digest(params: &Params) -> B256 {
    let mut bytes = Vec::new();
    let (_, blocks) = blocks(params);
    write_blocks(&mut bytes, blocks, &mut |_| ()).unwrap();
    keccak256(bytes)
}

fn sizes(params: &Params) -> Sizes {
    let (_, blocks) = blocks(params);
    write_blocks(&mut std::io::sink(), blocks, &mut |_| ()).unwrap()
}

fn accepted(params: &Params) {
    let (generated, blocks) = blocks(params);
    let rules = Rules::new(&generated.genesis);
    let mut tip = rules.genesis_tip();
    let mut count = 0;
    for block in blocks {
        rules.check_body(&block.header, &block.body).unwrap();
        tip = rules.extend(&tip, Arc::new(block.header), None).unwrap();
        assert_eq!(tip.td, block.td);
        count += 1;
    }
    assert_eq!(count, params.blocks);
    assert_eq!(rules.seal_is_checked(), params.fork == Fork::London);
}

#[test]
fn the_rules_accept_every_block() {
    for params in [london(40, 12), london(3, 0), prague(80, 20), prague(3, 0)] {
        accepted(&params);
        accepted(&Params {
            end_time_s: Some(2_000_000_000),
            ..params
        });
    }
    accepted(&Params {
        signer_key: [0x11; 32],
        ..london(3, 1)
    });
}

#[test]
fn checkpoints_name_the_signer() {
    let mut json: serde_json::Value = serde_json::from_str(Genesis::dev_json()).unwrap();
    json["config"]["clique"]["epoch"] = 4.into();
    json["config"]["clique"]["period"] = 3.into();
    let genesis_json = json.to_string();
    let params = Params {
        genesis: Some(Generated {
            genesis: Genesis::from_json(genesis_json.as_bytes()).unwrap(),
            genesis_json,
        }),
        ..london(9, 1)
    };
    accepted(&params);
    let signer = params.signer_address().unwrap();
    let (_, blocks) = blocks(&params);
    for block in blocks {
        let header = &block.header.header;
        let checkpoint = header.number.is_multiple_of(4);
        assert_eq!(header.extra_data.len(), if checkpoint { 117 } else { 97 });
        assert_eq!(clique::signer(header).unwrap(), signer);
    }
}

#[test]
fn every_transaction_decodes_and_recovers_to_a_sender_whose_nonces_rise_by_one() {
    for params in [london(12, 20), prague(12, 30)] {
        let (generated, blocks) = blocks(&params);
        let chain_id = params::chain_id(&generated.genesis);
        let known: BTreeSet<Address> = Maker::new(params.seed, chain_id, params.fork)
            .senders()
            .collect();
        let mut nonces: HashMap<Address, u64> = HashMap::new();
        let mut kinds = BTreeSet::new();
        for block in blocks {
            let block = decode(&block);
            assert_eq!(block.body.transactions.len(), params.txs_per_block as usize);
            for transaction in &block.body.transactions {
                let (hash, signature) = signature_of(transaction);
                assert!(signature.normalize_s().is_none(), "s is low (EIP-2)");
                let sender = recover(hash, &signature);
                assert!(known.contains(&sender), "{sender} is no sender");
                let nonce = nonces.entry(sender).or_default();
                assert_eq!(transaction.nonce(), *nonce);
                *nonce += 1;
                assert_eq!(transaction.chain_id(), Some(chain_id));
                kinds.insert(transaction.ty());
            }
        }
        let expected: &[u8] = match params.fork {
            Fork::London => &[0, 1, 2],
            Fork::Prague => &[0, 1, 2, 3, 4],
        };
        assert_eq!(kinds, expected.iter().copied().collect());
    }
}

#[test]
fn authorizations_recover_to_accounts_whose_nonces_rise_by_one() {
    let (_, blocks) = blocks(&prague(20, 30));
    let mut nonces: HashMap<Address, u64> = HashMap::new();
    for block in blocks {
        for transaction in &decode(&block).body.transactions {
            for signed in transaction.authorization_list().unwrap_or_default() {
                let authority = recover(signed.signature_hash(), &signed.signature().unwrap());
                let nonce = nonces.entry(authority).or_default();
                assert_eq!(signed.nonce, *nonce);
                *nonce += 1;
            }
        }
    }
    assert!(!nonces.is_empty(), "some accounts authorise");
    assert!(
        nonces.len() <= 8,
        "all are the authorities that the generator has keys of"
    );
}

#[test]
fn the_roots_are_those_that_alloy_computes() {
    for params in [london(3, 150), prague(3, 20), london(2, 0), prague(2, 0)] {
        let (_, blocks) = blocks(&params);
        for block in blocks {
            let decoded = decode(&block);
            let header = &block.header.header;
            assert_eq!(decoded.header, *header);
            assert_eq!(
                header.transactions_root,
                calculate_transaction_root(&decoded.body.transactions)
            );
            assert_eq!(
                header.ommers_hash,
                calculate_ommers_root(&decoded.body.ommers)
            );
            assert_eq!(
                header.withdrawals_root,
                decoded
                    .body
                    .withdrawals
                    .as_deref()
                    .map(|withdrawals| calculate_withdrawals_root(withdrawals))
            );
            assert_eq!(
                header.withdrawals_root.is_some(),
                params.fork == Fork::Prague
            );
        }
    }
}

#[test]
fn gas_is_plausible() {
    for params in [london(40, 30), prague(40, 40)] {
        let (_, blocks) = blocks(&params);
        for block in blocks {
            let header = &block.header.header;
            let transactions = decode(&block).body.transactions;
            assert!(header.gas_used <= header.gas_limit);
            let mut limits = 0;
            let mut blobs = 0;
            for transaction in &transactions {
                let fee = transaction.max_fee_per_gas();
                assert!(fee >= u128::from(header.base_fee_per_gas.unwrap()));
                assert!(transaction.gas_limit() >= 21_000 + 4 * transaction.input().len() as u64);
                limits += transaction.gas_limit();
                blobs += transaction.blob_count().unwrap_or(0);
            }
            assert!(
                header.gas_used <= limits,
                "no more is used than was paid for"
            );
            assert_eq!(
                header.blob_gas_used,
                (params.fork == Fork::Prague).then_some(blobs * 131_072)
            );
        }
    }
}

#[test]
fn the_base_fee_stays_within_bounds_for_ever() {
    for params in [london(400, 9), prague(400, 9)] {
        let (_, blocks) = blocks(&params);
        for block in blocks {
            let fee = block.header.header.base_fee_per_gas.unwrap();
            assert!((100_000_000..100_000_000_000).contains(&fee), "{fee}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    let params = london(3, 5);
    let other = Params {
        seed: 8,
        ..params.clone()
    };
    assert_eq!(digest(&params), digest(&params));
    assert_ne!(digest(&params), digest(&other));
    assert_ne!(
        digest(&prague(3, 5)),
        digest(&Params {
            seed: 8,
            ..prague(3, 5)
        })
    );
}

/// If this fails, the generator has changed, and every figure and file that was made from a seed is another now.
#[test]
fn the_bytes_of_a_seed_are_for_ever() {
    assert_eq!(
        digest(&london(5, 12)),
        b256!("6e10bd63d9e958b5663cb6207cdea8a7f646ee566f2ed1c86111fdd899afe6b0")
    );
    assert_eq!(
        digest(&prague(5, 12)),
        b256!("45d293e380ed537f4103261eab81a06d478b8d4ec9453129e495d9211625353c")
    );
}

#[test]
fn a_shorter_chain_is_the_beginning_of_a_longer_one() {
    for (short, long) in [(london(4, 6), london(9, 6)), (prague(4, 6), prague(9, 6))] {
        let short: Vec<B256> = blocks(&short).1.map(|block| block.header.hash).collect();
        let long: Vec<B256> = blocks(&long).1.map(|block| block.header.hash).collect();
        assert_eq!(short.len(), 4);
        assert_eq!(short[..], long[..4]);
    }
}

#[test]
fn bodies_compress_as_real_ones_do() {
    let with = |params: Params, bytes| Params {
        body_bytes: Some(bytes),
        ..params
    };
    for (name, params) in [
        ("london, 60 kB in 100", with(london(8, 100), 60_000)),
        ("london, 60 kB in 20", with(london(8, 20), 60_000)),
        ("london, 125 kB in 200", with(london(6, 200), 125_000)),
        ("london, 10", london(60, 10)),
        ("london, 50", london(20, 50)),
        ("london, 3", london(100, 3)),
        ("prague, 125 kB in 200", with(prague(6, 200), 125_000)),
        ("prague, 700 kB in 200", with(prague(2, 200), 700_000)),
        ("prague, 40", prague(40, 40)),
        ("prague, 150", prague(20, 150)),
    ] {
        let ratio = sizes(&params).ratio();
        println!("{name}: {ratio:.3}");
        assert!((0.55..0.65).contains(&ratio), "{name}: {ratio:.3}");
    }
}

#[test]
fn bodies_are_as_long_as_was_asked_for() {
    for params in [london(10, 100), prague(10, 100)] {
        let params = Params {
            body_bytes: Some(60_000),
            ..params
        };
        for block in blocks(&params).1 {
            let length = block.body.len();
            assert!((59_000..61_000).contains(&length), "{length}");
        }
    }
}

#[test]
fn some_prague_blocks_are_large() {
    let lengths: Vec<usize> = blocks(&prague(64, 20))
        .1
        .map(|block| block.body.len())
        .collect();
    let mean = lengths.iter().sum::<usize>() / lengths.len();
    let large = lengths.iter().filter(|&&length| length > 3 * mean).count();
    assert!((1..=8).contains(&large), "{large} of {lengths:?}");
}

#[test]
fn the_last_block_has_the_time_that_was_asked_for() {
    for params in [london(5, 1), prague(5, 1)] {
        let (generated, _) = blocks(&params);
        let end = generated.genesis.header.header.timestamp + 1_000_000;
        let params = Params {
            end_time_s: Some(end),
            ..params
        };
        let period = params.period_s(&generated.genesis);
        let times: Vec<u64> = blocks(&params)
            .1
            .map(|block| block.header.header.timestamp)
            .collect();
        let expected: Vec<u64> = (0..5).rev().map(|back| end - back * period).collect();
        assert_eq!(times, expected);
    }
}

#[test]
fn the_genesis_file_gives_the_genesis_of_the_chain() {
    let key = [0x11; 32];
    for params in [
        london(1, 1),
        prague(1, 1),
        Params {
            signer_key: key,
            ..london(1, 1)
        },
    ] {
        let (generated, mut blocks) = blocks(&params);
        let read = Genesis::from_json(generated.genesis_json.as_bytes()).unwrap();
        assert_eq!(read.header.hash, generated.genesis.header.hash);
        assert_eq!(
            blocks.next().unwrap().header.header.parent_hash,
            read.header.hash
        );
    }
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let refused = |params: Params, part: &str| {
        let error = params.check().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(
        Params {
            signer_key: [0; 32],
            ..london(1, 1)
        },
        "signer key",
    );
    refused(
        Params {
            body_bytes: Some(9_000_000),
            ..prague(1, 1)
        },
        "at most 8388608",
    );
    refused(london(1, 5_000), "fewer transactions");
    refused(
        Params {
            end_time_s: Some(0),
            ..london(1, 1)
        },
        "later end",
    );
    let (prague_genesis, _) = blocks(&prague(1, 1));
    refused(
        Params {
            genesis: Some(prague_genesis.clone()),
            ..london(1, 1)
        },
        "config.clique",
    );
    let mut later = prague_genesis.clone();
    later.genesis.spec.forks.osaka_time = Some(later.genesis.header.header.timestamp + 100);
    refused(
        Params {
            genesis: Some(later),
            ..prague(20, 1)
        },
        "latest fork",
    );
    let (london_genesis, _) = blocks(&london(1, 1));
    refused(
        Params {
            genesis: Some(london_genesis.clone()),
            ..prague(1, 1)
        },
        "proof of stake",
    );
    refused(
        Params {
            genesis: Some(london_genesis),
            signer_key: [0x11; 32],
            ..london(1, 1)
        },
        "only signer",
    );
}
