//! The headers of a generated chain: what the rules fix, what may be chosen, and the seal.

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_eips::{
    eip1559::{BaseFeeParams, calc_next_block_base_fee},
    eip7685::EMPTY_REQUESTS_HASH,
    eip7840::BlobParams,
};
use alloy_primitives::{Address, B64, B256, Bytes, U256};
use secp256k1::SecretKey;

use super::{
    Fork, Params,
    body::{BLOBS_TARGET, Body},
    dice::Dice,
    transactions::blob_gas,
};
use crate::chain::{Genesis, SealedHeader, clique};

/// Clique's extraData begins with 32 bytes that are free for anything...
const VANITY: &[u8; 32] = b"cairn generated test chain\0\0\0\0\0\0";

/// ...and ends with the seal: r, s, v.
const SEAL_BYTES: usize = 65;

/// In turn, which the only signer always is.
const IN_TURN: u64 = 2;

/// Most that the gas limit of a proof-of-stake chain leaves genesis' by, in percent.
const GAS_LIMIT_RISE_PERCENT: u64 = 5;

/// Accounts that proof-of-stake blocks pay, and what they say of themselves.
const BUILDERS: [&[u8]; 4] = [b"cairn generated", b"Titan", b"beaverbuild.org", b""];

/// The fields of the next header that its body depends on.
pub(super) struct Frame {
    number: u64,
    timestamp: u64,
    pub(super) gas_limit: u64,
    pub(super) base_fee: u64,
    excess_blob_gas: u64,
    pub(super) blob_fee: u128,
    pub(super) blobs_are_dear: bool,
}

/// Gives each header of a chain from its parent and its body.
pub(super) struct Headers {
    fork: Fork,
    key: SecretKey,
    signer: Address,
    epoch: u64,
    genesis_gas_limit: u64,
    period_s: u64,
    /// What is added to `genesis time + period * number`.
    shift_s: u64,
    builders: Vec<Address>,
    dice: Dice,
    parent: Header,
    parent_hash: B256,
    td: U256,
}

impl Headers {
    /// `params` passed their check.
    pub(super) fn new(params: &Params, genesis: &Genesis) -> Self {
        let key = SecretKey::from_slice(&params.signer_key).expect("the key was checked");
        let parent = genesis.header.header.clone();
        let period_s = params.period_s(genesis);
        let unshifted_end = parent
            .timestamp
            .saturating_add(period_s.saturating_mul(params.blocks));
        let mut dice = Dice::new(params.seed, b"headers.");
        Self {
            fork: params.fork,
            signer: clique::address_of(&key),
            key,
            epoch: genesis
                .spec
                .clique
                .as_ref()
                .map_or(u64::MAX, |clique| clique.epoch),
            genesis_gas_limit: parent.gas_limit,
            period_s,
            shift_s: params
                .end_time_s
                .map_or(0, |end| end.saturating_sub(unshifted_end)),
            builders: BUILDERS.iter().map(|_| dice.address()).collect(),
            dice,
            parent_hash: genesis.header.hash,
            td: parent.difficulty,
            parent,
        }
    }

    /// What the next header will say, as far as its body does not decide it.
    pub(super) fn frame(&mut self) -> Frame {
        let parent = &self.parent;
        let number = parent.number + 1;
        let timestamp = if parent.number == 0 {
            parent.timestamp + self.period_s + self.shift_s
        } else {
            parent.timestamp + self.period_s
        };
        let base_fee = calc_next_block_base_fee(
            parent.gas_used,
            parent.gas_limit,
            parent
                .base_fee_per_gas
                .expect("the genesis was checked to have a base fee"),
            BaseFeeParams::ethereum(),
        );
        let gas_limit = match self.fork {
            Fork::London => parent.gas_limit,
            Fork::Prague => self.next_gas_limit(),
        };
        let parent = &self.parent;
        let blobs = BlobParams::prague();
        let excess_blob_gas = (parent.excess_blob_gas.unwrap_or(0)
            + parent.blob_gas_used.unwrap_or(0))
        .saturating_sub(blob_gas(BLOBS_TARGET));
        Frame {
            number,
            timestamp,
            gas_limit,
            base_fee,
            excess_blob_gas,
            blob_fee: blobs.calc_blob_fee(excess_blob_gas),
            blobs_are_dear: excess_blob_gas > blob_gas(10 * BLOBS_TARGET),
        }
    }

    /// The header of `body`, and the total difficulty up to and with it.
    pub(super) fn seal(&mut self, frame: Frame, body: &Body) -> (SealedHeader, U256) {
        let mut header = Header {
            parent_hash: self.parent_hash,
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            state_root: self.parent.state_root,
            transactions_root: body.transactions_root,
            receipts_root: body.receipts_root,
            number: frame.number,
            gas_limit: frame.gas_limit,
            gas_used: body.gas_used,
            timestamp: frame.timestamp,
            base_fee_per_gas: Some(frame.base_fee),
            ..Header::default()
        };
        match self.fork {
            Fork::London => self.clique(&mut header),
            Fork::Prague => self.proof_of_stake(&mut header, &frame, body),
        }
        self.td += header.difficulty;
        let sealed = SealedHeader::from_header(header);
        self.parent = sealed.header.clone();
        self.parent_hash = sealed.hash;
        (sealed, self.td)
    }

    fn clique(&self, header: &mut Header) {
        header.difficulty = U256::from(IN_TURN);
        let mut extra = VANITY.to_vec();
        if header.number.is_multiple_of(self.epoch) {
            extra.extend_from_slice(self.signer.as_slice());
        }
        extra.resize(extra.len() + SEAL_BYTES, 0);
        header.extra_data = extra.into();
        clique::seal(header, &self.key);
    }

    fn proof_of_stake(&mut self, header: &mut Header, frame: &Frame, body: &Body) {
        let builder = self.dice.index(self.builders.len());
        header.beneficiary = self.builders[builder];
        header.extra_data = Bytes::from_static(BUILDERS[builder]);
        header.mix_hash = self.dice.hash();
        header.nonce = B64::ZERO;
        header.withdrawals_root = body.withdrawals_root;
        header.blob_gas_used = Some(blob_gas(body.blobs));
        header.excess_blob_gas = Some(frame.excess_blob_gas);
        header.parent_beacon_block_root = Some(self.dice.hash());
        header.requests_hash = Some(EMPTY_REQUESTS_HASH);
    }

    /// A legal step from the parent's gas limit, within a few percent above genesis'.
    fn next_gas_limit(&mut self) -> u64 {
        let limit = self.parent.gas_limit;
        let step = self.dice.below((limit / 1024).max(1));
        let highest =
            self.genesis_gas_limit + self.genesis_gas_limit / 100 * GAS_LIMIT_RISE_PERCENT;
        if self.dice.chance(50) {
            (limit + step).min(highest)
        } else {
            (limit - step).max(self.genesis_gas_limit)
        }
    }
}
