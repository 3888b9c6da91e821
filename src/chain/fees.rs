//! The prices that a header must carry: base fee (EIP-1559), excess blob gas and the price of blobs (EIPs 4844, 7691, 7918).

use alloy_consensus::Header;
use alloy_primitives::{U256, U512};

use super::spec::BlobParams;

/// EIP-1559: base fee of the first block that has one.
pub(crate) const INITIAL_BASE_FEE: u64 = 1_000_000_000;
/// EIP-1559: the gas limit is this many times the target.
pub(crate) const ELASTICITY: u64 = 2;
/// EIP-1559: the base fee moves by at most this fraction a block.
const BASE_FEE_CHANGE_DENOMINATOR: u64 = 8;
/// EIP-4844: gas of one blob.
pub(crate) const GAS_PER_BLOB: u64 = 1 << 17;
/// EIP-7918: execution gas that a blob should cost at least.
const BLOB_BASE_COST: u64 = 1 << 13;

/// The base fee of the block after `parent`, which has one (EIP-1559).
pub(crate) fn next_base_fee(parent: &Header, parent_base_fee: u64) -> u64 {
    let target = parent.gas_limit / ELASTICITY;
    if target == 0 || parent.gas_used == target {
        // No header that was checked has a limit so low; a genesis may.
        return parent_base_fee;
    }
    let delta = |gas: u64| {
        // 64 bits times 64 bits fit into 128; what is divided off leaves at most 64 bits and a carry.
        u128::from(parent_base_fee) * u128::from(gas)
            / u128::from(target)
            / u128::from(BASE_FEE_CHANGE_DENOMINATOR)
    };
    if parent.gas_used > target {
        let rise = delta(parent.gas_used - target).max(1);
        u64::try_from(u128::from(parent_base_fee).saturating_add(rise)).unwrap_or(u64::MAX)
    } else {
        let fall = delta(target - parent.gas_used);
        u64::try_from(u128::from(parent_base_fee).saturating_sub(fall)).unwrap_or(u64::MAX)
    }
}

/// The excess blob gas of the block after `parent`, judged by the parameters of that block. `osaka`: EIP-7918 is in force there.
pub(crate) fn next_excess_blob_gas(parent: &Header, params: BlobParams, osaka: bool) -> u64 {
    // A parent before Cancun counts as having used none.
    let parent_excess = parent.excess_blob_gas.unwrap_or(0);
    let parent_used = parent.blob_gas_used.unwrap_or(0);
    let target = params.target.saturating_mul(GAS_PER_BLOB);
    let sum = parent_excess.saturating_add(parent_used);
    if sum < target {
        return 0;
    }
    if osaka {
        let floor = U256::from(parent.base_fee_per_gas.unwrap_or(0)) * U256::from(BLOB_BASE_COST);
        let price = blob_base_fee(parent_excess, params).saturating_mul(U256::from(GAS_PER_BLOB));
        if floor > price {
            let room = params.max.saturating_sub(params.target);
            let scaled = u128::from(parent_used) * u128::from(room) / u128::from(params.max.max(1));
            return parent_excess.saturating_add(u64::try_from(scaled).unwrap_or(u64::MAX));
        }
    }
    sum - target
}

/// Wei for one unit of blob gas: EIP-4844's `fake_exponential(1, excess, fraction)`. Saturates at 2^256-1, far beyond any money.
pub(crate) fn blob_base_fee(excess: u64, params: BlobParams) -> U256 {
    let numerator = U512::from(excess);
    let denominator = U512::from(params.update_fraction.max(1));
    let ceiling = U512::from(U256::MAX);
    let mut output = U512::ZERO;
    let mut accumulated = denominator;
    let mut i = 1u64;
    while !accumulated.is_zero() {
        output += accumulated;
        if output / denominator >= ceiling {
            return U256::MAX;
        }
        // Below 2^320 times 2^64 and divided by at least 1: no overflow of 512 bits.
        accumulated = accumulated * numerator / (denominator * U512::from(i));
        i += 1;
    }
    (output / denominator).to::<U256>()
}
