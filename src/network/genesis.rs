//! The genesis file of a new network, as geth 1.13.15 and cairn read it.

use alloy_primitives::{Address, hex};
use serde_json::{Number, json};

use crate::chain::clique::extra;

/// Gas of a block: what geth starts networks with, and enough for it to have transactions in them.
const GAS_LIMIT: u64 = 30_000_000;

/// 10^30, a total difficulty that no clique chain gets to: clients of today follow a chain only where its merge is past or still to come.
const TERMINAL_TOTAL_DIFFICULTY: &str = "1000000000000000000000000000000";

/// genesis.json: clique with these signers, all forks up to London from the first block on, and none after it, for Shanghai ends clique. Nobody
/// has money in it.
pub(super) fn json(
    chain_id: u64,
    (period_s, epoch): (u64, u64),
    timestamp_s: u64,
    signers: &[Address],
) -> String {
    let mut signers = signers.to_vec();
    signers.sort_unstable();
    let terminal: Number = TERMINAL_TOTAL_DIFFICULTY.parse().expect("a number");
    let json = json!({
        "config": {
            "chainId": chain_id,
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
            "terminalTotalDifficulty": terminal,
            "clique": { "period": period_s, "epoch": epoch },
        },
        "nonce": "0x0",
        "timestamp": format!("{timestamp_s:#x}"),
        "extraData": hex::encode_prefixed(extra("", &signers)),
        "gasLimit": format!("{GAS_LIMIT:#x}"),
        "difficulty": "0x1",
        "mixHash": format!("{:#x}", alloy_primitives::B256::ZERO),
        "coinbase": format!("{:#x}", Address::ZERO),
        "alloc": {},
    });
    format!("{json:#}\n")
}
