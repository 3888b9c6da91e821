//! One body: how long its transactions are, what gas they share, and the roots its header must carry.

use alloy_consensus::proofs::calculate_withdrawals_root;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256};
use alloy_rlp::{Encodable, Header as RlpHeader};
use alloy_trie::root::ordered_trie_root_encoded;

use super::{
    calldata::Mix,
    dice::Dice,
    transactions::{ENVELOPE_BYTES, Maker, Room, Transaction},
};
use crate::chain::receipts::{Form, Receipts};

/// Withdrawals of a block, as on mainnet.
const WITHDRAWALS: u64 = 16;

/// Most blobs of a Prague block (EIP-7691).
const BLOBS_LIMIT: u64 = 9;

/// Blobs at which their price stands still (EIP-7691).
pub(super) const BLOBS_TARGET: u64 = 6;

/// Base fee, in wei, above which blocks use less than the target, and below which they use more.
const HIGH_BASE_FEE: u64 = 20_000_000_000;
const LOW_BASE_FEE: u64 = 2_000_000_000;

/// What a body is to be.
pub(super) struct Plan {
    pub(super) transactions: u32,
    pub(super) bytes: usize,
    pub(super) gas_limit: u64,
    pub(super) base_fee: u64,
    pub(super) blob_fee: u128,
    /// True if blobs have been dear: then fewer than the target are taken.
    pub(super) blobs_are_dear: bool,
}

/// A body and what its header says of it.
pub(super) struct Body {
    /// `[transactions, ommers]` or `[transactions, ommers, withdrawals]`.
    pub(super) rlp: Vec<u8>,
    pub(super) transactions_root: B256,
    /// Of receipts as they would be if each transaction succeeded, used the gas that was made up for it and logged nothing.
    pub(super) receipts_root: B256,
    /// RLP of those receipts, in eth/69's form.
    pub(super) receipts: Vec<u8>,
    pub(super) withdrawals_root: Option<B256>,
    pub(super) gas_used: u64,
    pub(super) blobs: u64,
}

/// Where withdrawals go, and how many there were.
pub(super) struct Withdrawals {
    pools: Vec<Address>,
    next: u64,
}

impl Withdrawals {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            pools: (0..24).map(|_| dice.address()).collect(),
            next: 0,
        }
    }

    fn take(&mut self, dice: &mut Dice, mix: &mut Mix) -> Vec<Withdrawal> {
        // They go to a few pools' addresses, from validators that stand in a row.
        mix.add(36 * WITHDRAWALS as usize, 20 * WITHDRAWALS as usize);
        (0..WITHDRAWALS)
            .map(|_| {
                let index = self.next;
                self.next += 1;
                Withdrawal {
                    index,
                    validator_index: index % 1_048_576,
                    address: self.pools[dice.skewed_index(self.pools.len())],
                    amount: dice.between(16_000_000, 19_000_000),
                }
            })
            .collect()
    }
}

/// Makes a body by `plan`. Its length comes close to `plan.bytes` if the transactions can be that short.
pub(super) fn make(
    plan: &Plan,
    maker: &mut Maker,
    withdrawals: Option<&mut Withdrawals>,
    dice: &mut Dice,
) -> Body {
    let mut mix = Mix::default();
    let withdrawals = withdrawals.map(|withdrawals| withdrawals.take(dice, &mut mix));
    let mut tail = vec![alloy_rlp::EMPTY_LIST_CODE]; // no ommers
    if let Some(withdrawals) = &withdrawals {
        withdrawals.encode(&mut tail);
    }

    let gas_aim = gas_aim(plan, dice);
    let blobs_limit = if plan.blobs_are_dear {
        BLOBS_TARGET - 2
    } else {
        BLOBS_LIMIT
    };
    let mut gas_used = 0;
    let mut blobs = 0;
    let mut payload = Vec::with_capacity(plan.bytes + plan.bytes / 16 + 256);
    let mut made: Vec<Transaction> = Vec::new();
    for left in (1..=u64::from(plan.transactions)).rev() {
        let bytes_left = plan.bytes.saturating_sub(payload.len() + tail.len() + 8);
        let room = Room {
            base_fee: plan.base_fee,
            blob_fee: plan.blob_fee,
            data_bytes: data_bytes(bytes_left, left, dice),
            gas_aim: gas_aim.saturating_sub(gas_used) / left,
            gas_left: plan.gas_limit - gas_used,
            blobs_left: blobs_limit - blobs,
        };
        let transaction = maker.make(&room, dice, &mut mix);
        assert!(
            transaction.gas_used <= room.gas_left,
            "Params::check admits only what fits into the gas limit"
        );
        gas_used += transaction.gas_used;
        blobs += transaction.blobs;
        if transaction.kind == 0 {
            payload.extend_from_slice(&transaction.raw);
        } else {
            transaction.raw.as_slice().encode(&mut payload);
        }
        made.push(transaction);
    }

    let receipts = receipts(&made);
    let raw: Vec<&[u8]> = made.iter().map(|made| made.raw.as_slice()).collect();
    Body {
        transactions_root: ordered_trie_root_encoded(&raw),
        receipts_root: root_of(&receipts),
        receipts,
        withdrawals_root: withdrawals.as_deref().map(calculate_withdrawals_root),
        rlp: list(&[&list(&[&payload]), &tail]),
        gas_used,
        blobs,
    }
}

/// `parts`, laid end to end, as the payload of one RLP list.
pub(super) fn list(parts: &[&[u8]]) -> Vec<u8> {
    let header = RlpHeader {
        list: true,
        payload_length: parts.iter().map(|part| part.len()).sum(),
    };
    let mut out = Vec::with_capacity(header.length_with_payload());
    header.encode(&mut out);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// What the block should use: around the target, steered so that the base fee stays within bounds.
fn gas_aim(plan: &Plan, dice: &mut Dice) -> u64 {
    let (low, high) = if plan.base_fee > HIGH_BASE_FEE {
        (20, 40)
    } else if plan.base_fee < LOW_BASE_FEE {
        (60, 85)
    } else {
        (20, 80)
    };
    plan.gas_limit / 100 * dice.between(low, high)
}

/// Call data of the next of `left` transactions that share `bytes_left`.
fn data_bytes(bytes_left: usize, left: u64, dice: &mut Dice) -> usize {
    let left = usize::try_from(left).expect("a count of transactions");
    let share = bytes_left / left;
    let bytes = if left == 1 {
        bytes_left
    } else if share < 16 * ENVELOPE_BYTES && dice.chance(15) {
        0 // a plain transfer
    } else {
        share * usize::try_from(dice.between(40, 175)).expect("percent") / 100
    };
    // What is too short for a selector and a word is a plain transfer too.
    let data = bytes.saturating_sub(ENVELOPE_BYTES);
    if data < 36 { 0 } else { data }
}

/// The receipts of transactions that succeeded and logged nothing, in eth/69's form.
fn receipts(transactions: &[Transaction]) -> Vec<u8> {
    let mut cumulative = 0;
    let mut receipts = Vec::with_capacity(transactions.len() * 16);
    for transaction in transactions {
        cumulative += transaction.gas_used;
        let mut fields = Vec::with_capacity(16);
        transaction.kind.encode(&mut fields);
        fields.push(1); // success
        cumulative.encode(&mut fields);
        fields.push(alloy_rlp::EMPTY_LIST_CODE);
        receipts.extend_from_slice(&list(&[&fields]));
    }
    list(&[&receipts])
}

fn root_of(receipts: &[u8]) -> B256 {
    Receipts::decode(Form::Eth69, receipts)
        .expect("they were just made")
        .root()
}

#[cfg(test)]
mod tests {
    use alloy_consensus::{Eip658Value, Receipt, ReceiptEnvelope, proofs::calculate_receipt_root};

    use super::*;

    #[test]
    fn the_receipts_root_is_alloys_of_receipts_that_log_nothing() {
        let gas: Vec<u64> = (0..200).map(|at| 21_000 + 1_000 * at).collect();
        let transactions: Vec<Transaction> = gas
            .iter()
            .zip([0, 1, 2, 3, 4].into_iter().cycle())
            .map(|(&gas_used, kind)| Transaction {
                raw: Vec::new(),
                kind,
                gas_used,
                blobs: 0,
            })
            .collect();
        let mut cumulative_gas_used = 0;
        let receipts: Vec<ReceiptEnvelope> = transactions
            .iter()
            .map(|transaction| {
                cumulative_gas_used += transaction.gas_used;
                let receipt = Receipt {
                    status: Eip658Value::success(),
                    cumulative_gas_used,
                    logs: Vec::new(),
                }
                .with_bloom();
                match transaction.kind {
                    0 => ReceiptEnvelope::Legacy(receipt),
                    1 => ReceiptEnvelope::Eip2930(receipt),
                    2 => ReceiptEnvelope::Eip1559(receipt),
                    3 => ReceiptEnvelope::Eip4844(receipt),
                    _ => ReceiptEnvelope::Eip7702(receipt),
                }
            })
            .collect();
        assert_eq!(
            root_of(&super::receipts(&transactions)),
            calculate_receipt_root(&receipts)
        );
        assert_eq!(
            root_of(&super::receipts(&[])),
            calculate_receipt_root::<ReceiptEnvelope>(&[])
        );
    }
}
