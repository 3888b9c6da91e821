//! The genesis blocks that generated chains build on, as geth's genesis.json.

use alloy_primitives::{Address, U256, hex};
use serde_json::{Map, Value, json};

use super::{Fork, Params, ParamsError, transactions::Maker};
use crate::chain::{BlobParams, Fork as Rule, Genesis};

/// Chain id of the generated proof-of-stake chains.
const PRAGUE_CHAIN_ID: u64 = 1338;

/// Gas limit of their genesis: mainnet's of 2026.
const PRAGUE_GAS_LIMIT: u64 = 60_000_000;

/// Time of their genesis: when mainnet went to Prague.
const PRAGUE_TIME_S: u64 = 1_746_612_311;

/// Where the addresses of signers begin in a clique genesis' extraData, and the bytes of the (empty) seal after them.
const VANITY_BYTES: usize = 32;
const SEAL_BYTES: usize = 65;

/// The genesis of a generated chain, and the genesis.json that gives it.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The genesis block and the rules.
    pub genesis: Genesis,
    /// geth's format; [`Genesis::from_json`] reads `genesis` back from it.
    pub genesis_json: String,
}

/// The genesis for `params` where none is given. Their key was checked.
pub(super) fn default_for(params: &Params) -> Generated {
    let genesis_json = match params.fork {
        Fork::London => match params.signer_address() {
            Ok(address) => development(address),
            Err(_) => Genesis::dev_json().to_owned(),
        },
        Fork::Prague => prague(params.seed),
    };
    Generated {
        genesis: Genesis::from_json(genesis_json.as_bytes())
            .expect("what is written here is what is read there"),
        genesis_json,
    }
}

/// Says why `genesis` cannot carry `blocks` blocks of `fork`, the last at `end_s`, that are sealed by `signer`.
pub(super) fn check(
    genesis: &Genesis,
    fork: Fork,
    signer: Address,
    blocks: u64,
    end_s: u64,
) -> Result<(), ParamsError> {
    let refuse = |what| Err(ParamsError::Genesis { what });
    let Genesis { spec, header, .. } = genesis;
    let header = &header.header;
    if u64::try_from(spec.chain_id).is_err() {
        return refuse("its chain id is above 64 bits, more than transactions can carry");
    }
    let (first, last) = (
        spec.fork(0, header.timestamp),
        spec.fork(blocks.max(1), end_s),
    );
    match fork {
        Fork::London => {
            if spec.clique.is_none() {
                return refuse("config.clique is missing");
            }
            if (first, last) != (Rule::London, Rule::London) {
                return refuse("London must be its latest fork from genesis to the last block");
            }
            if spec.terminal_total_difficulty.is_some() {
                return refuse("config.terminalTotalDifficulty ends clique");
            }
            let extra = &header.extra_data;
            let signers = extra
                .len()
                .checked_sub(SEAL_BYTES)
                .and_then(|end| extra.get(VANITY_BYTES..end));
            if signers != Some(signer.as_slice()) {
                return Err(ParamsError::NotTheSigner { address: signer });
            }
        }
        Fork::Prague => {
            if spec.clique.is_some() || spec.terminal_total_difficulty != Some(U256::ZERO) {
                return refuse(
                    "it must be proof of stake from genesis on: no config.clique, and a terminalTotalDifficulty of 0",
                );
            }
            if (first, last) != (Rule::Prague, Rule::Prague) {
                return refuse("Prague must be its latest fork from genesis to the last block");
            }
            let usual = |time_s| spec.blob_params(time_s) == Some(BlobParams::PRAGUE);
            if !usual(header.timestamp) || !usual(end_s) {
                return refuse("its blobSchedule is not Prague's");
            }
        }
    }
    Ok(())
}

/// The development genesis with `signer` for its one signer.
fn development(signer: Address) -> String {
    let dev = Genesis::dev_json();
    let mut genesis: Map<String, Value> =
        serde_json::from_str(dev).expect("the built-in genesis is JSON");
    let mut extra = vec![0; VANITY_BYTES];
    extra.extend_from_slice(signer.as_slice());
    extra.resize(extra.len() + SEAL_BYTES, 0);
    let extra = Value::from(hex::encode_prefixed(extra));
    if genesis.get("extraData") == Some(&extra) {
        return dev.to_owned();
    }
    genesis.insert("extraData".to_owned(), extra);
    pretty(&Value::Object(genesis))
}

/// A proof-of-stake genesis with every fork up to Prague from its start.
fn prague(seed: u64) -> String {
    let rich = format!("{:#x}", U256::from(10).pow(U256::from(24)));
    let alloc: Map<String, Value> = Maker::new(seed, PRAGUE_CHAIN_ID, Fork::Prague)
        .senders()
        .map(|address| (hex::encode(address), json!({ "balance": rich })))
        .collect();
    pretty(&json!({
        "config": {
            "chainId": PRAGUE_CHAIN_ID,
            "homesteadBlock": 0,
            "eip150Block": 0,
            "eip155Block": 0,
            "eip158Block": 0,
            "byzantiumBlock": 0,
            "constantinopleBlock": 0,
            "petersburgBlock": 0,
            "istanbulBlock": 0,
            "berlinBlock": 0,
            "londonBlock": 0,
            "mergeNetsplitBlock": 0,
            "terminalTotalDifficulty": 0,
            "terminalTotalDifficultyPassed": true,
            "shanghaiTime": 0,
            "cancunTime": 0,
            "pragueTime": 0,
            "depositContractAddress": "0x00000000219ab540356cbb839cbe05303d7705fa",
            "blobSchedule": {
                "cancun": { "target": 3, "max": 6, "baseFeeUpdateFraction": 3_338_477 },
                "prague": { "target": 6, "max": 9, "baseFeeUpdateFraction": 5_007_716 }
            }
        },
        "nonce": "0x0",
        "timestamp": format!("{PRAGUE_TIME_S:#x}"),
        "extraData": "0x",
        "gasLimit": format!("{PRAGUE_GAS_LIMIT:#x}"),
        "difficulty": "0x0",
        "mixHash": format!("0x{}", "0".repeat(64)),
        "coinbase": format!("0x{}", "0".repeat(40)),
        "alloc": alloc,
        "number": "0x0",
        "gasUsed": "0x0",
        "parentHash": format!("0x{}", "0".repeat(64)),
        "baseFeePerGas": "0x3b9aca00",
        "excessBlobGas": "0x0",
        "blobGasUsed": "0x0"
    }))
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("keys are strings");
    text.push('\n');
    text
}
