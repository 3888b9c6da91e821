//! Tests of the rules, and what they share: keys, small chains, real blocks.
#![allow(clippy::unwrap_used)]

mod body;
mod clique;
mod fees;
mod genesis;
mod header;
mod ommers;
mod restart;
mod rules;
mod size;
mod spec;
mod tx;
mod tx_gas;
mod vectors;

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_primitives::{Address, B64, B256, Bytes, U256, hex, keccak256};
use secp256k1::SecretKey;

use super::{
    CliqueConfig, Forks, Genesis, Rules, SealedHeader, Spec, Tip, clique as clique_rules,
    fees as fee_rules, pow, spec::Fork,
};

/// The bytes of a block of [`vectors`].
fn block(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

/// The key of somebody with that name.
fn key(name: char) -> SecretKey {
    let secret = keccak256(name.to_string());
    SecretKey::from_slice(secret.as_slice()).unwrap()
}

fn address(name: char) -> Address {
    clique_rules::address_of(&key(name))
}

fn addresses(names: &str) -> Vec<Address> {
    let mut addresses: Vec<_> = names.chars().map(address).collect();
    addresses.sort_unstable();
    addresses
}

/// `extraData` of a clique header, unsealed.
fn extra(signers: &[Address]) -> Bytes {
    [&[0; 32], &signers.concat()[..], &[0; 65]].concat().into()
}

/// Every fork up to Gray Glacier from the start.
fn london() -> Forks {
    Forks {
        homestead: Some(0),
        eip150: Some(0),
        eip155: Some(0),
        eip158: Some(0),
        byzantium: Some(0),
        constantinople: Some(0),
        petersburg: Some(0),
        istanbul: Some(0),
        berlin: Some(0),
        london: Some(0),
        ..Forks::default()
    }
}

fn of(spec: Spec, header: Header) -> Genesis {
    Genesis {
        spec,
        header: SealedHeader::from_header(header),
        body: bytes::Bytes::from_static(&hex!("c2c0c0")),
        warnings: Vec::new(),
    }
}

/// A London clique chain with these signers, a period of 5 seconds and that epoch.
fn clique_genesis(signers: &str, epoch: u64) -> Genesis {
    let mut spec = Spec::new(U256::from(7), london());
    spec.clique = Some(CliqueConfig { period_s: 5, epoch });
    let header = Header {
        difficulty: U256::ONE,
        gas_limit: 30_000_000,
        timestamp: 1_000,
        extra_data: extra(&addresses(signers)),
        base_fee_per_gas: Some(1_000_000_000),
        ..Header::default()
    };
    of(spec, header)
}

/// The valid next header of a clique chain, unsealed, as `signer` would make it.
fn clique_child(rules: &Rules, parent: &Tip, signer: char) -> Header {
    let (config, snapshot) = (rules.spec.clique.unwrap(), parent.clique.as_ref().unwrap());
    let above = &parent.header.header;
    let number = above.number + 1;
    let listed = match number.is_multiple_of(config.epoch) {
        true => snapshot.signers(),
        false => &[],
    };
    Header {
        parent_hash: parent.header.hash,
        number,
        difficulty: match snapshot.in_turn(number, &address(signer)) {
            true => U256::from(2),
            false => U256::ONE,
        },
        gas_limit: above.gas_limit,
        timestamp: above.timestamp + config.period_s,
        extra_data: extra(listed),
        base_fee_per_gas: Some(fee_rules::next_base_fee(
            above,
            above.base_fee_per_gas.unwrap(),
        )),
        ..Header::default()
    }
}

/// The same, sealed.
fn sealed(mut header: Header, signer: char) -> Arc<SealedHeader> {
    clique_rules::seal(&mut header, &key(signer));
    Arc::new(SealedHeader::from_header(header))
}

/// A proof-of-work chain with these forks.
fn work_genesis(forks: Forks) -> Genesis {
    let base_fee = forks.london.filter(|block| *block == 0);
    let header = Header {
        difficulty: U256::from(10_000_000),
        gas_limit: 30_000_000,
        timestamp: 1_000,
        base_fee_per_gas: base_fee.map(|_| 1_000_000_000),
        ..Header::default()
    };
    of(Spec::new(U256::ONE, forks), header)
}

/// The valid next header of a proof-of-work chain.
fn work_child(rules: &Rules, parent: &Tip) -> Header {
    let above = &parent.header.header;
    let (number, timestamp) = (above.number + 1, above.timestamp + 13);
    let fork = rules.spec.fork(number, timestamp);
    let base_fee = match above.base_fee_per_gas {
        Some(base_fee) => fee_rules::next_base_fee(above, base_fee),
        None => 1_000_000_000,
    };
    Header {
        parent_hash: parent.header.hash,
        number,
        timestamp,
        difficulty: pow::difficulty(fork, &rules.spec.forks, above, number, timestamp),
        gas_limit: above.gas_limit,
        base_fee_per_gas: (fork >= Fork::London).then_some(base_fee),
        ..Header::default()
    }
}

/// A proof-of-stake chain that is in Prague from its start and goes to Osaka at 2,000 seconds, to the first BPO fork at 3,000.
fn stake_genesis() -> Genesis {
    let forks = Forks {
        shanghai_time: Some(0),
        cancun_time: Some(0),
        prague_time: Some(0),
        osaka_time: Some(2_000),
        bpo_times: [Some(3_000), None, None, None, None],
        ..london()
    };
    let mut spec = Spec::new(U256::from(7), forks);
    spec.terminal_total_difficulty = Some(U256::ZERO);
    let header = Header {
        gas_limit: 30_000_000,
        timestamp: 1_000,
        base_fee_per_gas: Some(1_000_000_000),
        withdrawals_root: Some(alloy_trie::EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(B256::ZERO),
        ..Header::default()
    };
    of(spec, header)
}

/// The valid next header of such a chain, `seconds` later.
fn stake_child(rules: &Rules, parent: &Tip, seconds: u64) -> Header {
    let above = &parent.header.header;
    let timestamp = above.timestamp + seconds;
    let params = rules.spec.blob_params(timestamp).unwrap();
    let osaka = rules.spec.fork(above.number + 1, timestamp) >= Fork::Osaka;
    Header {
        parent_hash: parent.header.hash,
        number: above.number + 1,
        timestamp,
        gas_limit: above.gas_limit,
        base_fee_per_gas: Some(fee_rules::next_base_fee(
            above,
            above.base_fee_per_gas.unwrap(),
        )),
        excess_blob_gas: Some(fee_rules::next_excess_blob_gas(above, params, osaka)),
        nonce: B64::ZERO,
        ..above.clone()
    }
}

/// A field, and what makes a valid header wrong in it.
type Break = (&'static str, fn(&mut Header));

/// The field that is refused.
fn refused<T>(judged: Result<T, super::HeaderError>) -> String {
    match judged {
        Ok(_) => "nothing".to_owned(),
        Err(error) => error.fault().unwrap().field.clone(),
    }
}
