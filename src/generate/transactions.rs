//! Signed transactions of each type, with plausible gas.
//!
//! What a transaction uses is its intrinsic gas (EIP-2028, 2930, 3860, 7702; from Prague on at least EIP-7623's floor) plus,
//! for calls, a share of what the block is to use: nothing is executed.

use alloy_consensus::{
    SignableTransaction, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy,
    transaction::RlpEcdsaEncodableTx,
};
use alloy_eips::{
    eip2930::{AccessList, AccessListItem},
    eip4844::DATA_GAS_PER_BLOB,
    eip7702::{Authorization, SignedAuthorization},
};
use alloy_primitives::{B256, Bytes, TxKind, U256};

use super::{
    Fork,
    calldata::{Calls, Mix},
    dice::Dice,
    wallet::Wallet,
};

/// Accounts that send. Enough that nonces differ, few enough that they rise.
pub(super) const SENDERS: usize = 32;

/// Accounts that only authorise others to act for them (EIP-7702): sending would use up the nonce they promised.
const AUTHORITIES: usize = 8;

/// Gas of the plainest transaction.
pub(super) const TRANSFER_GAS: u64 = 21_000;

/// Most gas that is made up for one call beyond its intrinsic gas.
const CALL_GAS_LIMIT: u64 = 10_000_000;

/// Longest init code that is made; EIP-3860 allows 49,152.
const INIT_CODE_LIMIT_BYTES: usize = 24_576;

/// Bytes of a plain transaction that are not call data, about.
pub(super) const ENVELOPE_BYTES: usize = 114;

/// What the block has left for its next transaction.
pub(super) struct Room {
    pub(super) base_fee: u64,
    pub(super) blob_fee: u128,
    /// Call data to make; 0 is a plain transfer.
    pub(super) data_bytes: usize,
    /// What the transaction should use.
    pub(super) gas_aim: u64,
    /// What it may use.
    pub(super) gas_left: u64,
    /// Blobs that the block can still take.
    pub(super) blobs_left: u64,
}

/// A signed transaction.
pub(super) struct Transaction {
    /// EIP-2718 form: as the root is made of.
    pub(super) raw: Vec<u8>,
    pub(super) kind: u8,
    pub(super) gas_used: u64,
    pub(super) blobs: u64,
}

/// Makes the transactions of one chain.
pub(super) struct Maker {
    chain_id: u64,
    fork: Fork,
    calls: Calls,
    senders: Wallet,
    authorities: Wallet,
}

/// The fields that all types share, before they are signed.
struct Plain {
    nonce: u64,
    gas_limit: u64,
    to: TxKind,
    value: U256,
    input: Bytes,
    access_list: AccessList,
    /// EIP-1559: at most this for a gas...
    max_fee: u128,
    /// ...of which at most this is for whoever seals.
    tip: u128,
}

impl Maker {
    pub(super) fn new(seed: u64, chain_id: u64, fork: Fork) -> Self {
        Self {
            chain_id,
            fork,
            calls: Calls::new(&mut Dice::new(seed, b"calls...")),
            senders: Wallet::new(SENDERS, &mut Dice::new(seed, b"senders.")),
            authorities: Wallet::new(AUTHORITIES, &mut Dice::new(seed, b"authorit")),
        }
    }

    /// The next transaction: it fits into `room` if a plain one with that much call data does.
    pub(super) fn make(&mut self, room: &Room, dice: &mut Dice, mix: &mut Mix) -> Transaction {
        let sender = self.senders.choose(dice);
        let kind = self.kind(room, dice);
        let creates = kind != 3
            && kind != 4
            && (200..INIT_CODE_LIMIT_BYTES).contains(&room.data_bytes)
            && dice.chance(1);
        let to = if creates {
            TxKind::Create
        } else if room.data_bytes == 0 && dice.chance(50) {
            mix.add(20, 21);
            TxKind::Call(dice.address())
        } else {
            TxKind::Call(self.calls.contract(dice, mix))
        };
        // Its signature is new, and so are most bytes of its nonce, fees and amounts.
        mix.add(ENVELOPE_BYTES - 20, ENVELOPE_BYTES - 24);
        let access_list = if kind == 1 || (kind == 2 && room.data_bytes > 0 && dice.chance(10)) {
            self.access_list(dice, mix)
        } else {
            AccessList::default()
        };
        let blobs: Vec<B256> = if kind == 3 {
            (0..dice.between(1, room.blobs_left.min(4)))
                .map(|_| {
                    let mut hash = dice.hash();
                    hash[0] = 1; // VERSIONED_HASH_VERSION_KZG
                    hash
                })
                .collect()
        } else {
            Vec::new()
        };
        mix.add(33 * blobs.len(), 33 * blobs.len());
        let authorizations = if kind == 4 {
            self.authorizations(dice, mix)
        } else {
            Vec::new()
        };
        let input = if room.data_bytes == 0 {
            Bytes::new()
        } else {
            self.calls.data(room.data_bytes, dice, mix).into()
        };

        let (intrinsic, floor) = self.gas(&input, creates, &access_list, authorizations.len());
        let executed = if input.is_empty() {
            0
        } else {
            let most = room.gas_aim.saturating_sub(intrinsic).min(CALL_GAS_LIMIT);
            dice.between(most / 4, most)
        };
        let gas_used = (intrinsic + executed).max(floor);
        let spare = if input.is_empty() {
            0
        } else {
            dice.below(gas_used / 3)
        };
        let tip = u128::from(dice.between(1, 3_000)) * 1_000_000;
        let plain = Plain {
            nonce: self.senders.account(sender).next_nonce(),
            gas_limit: (gas_used + spare).min(room.gas_left),
            to,
            value: if room.data_bytes == 0 || dice.chance(10) {
                U256::from(dice.between(1, 1_000_000)) * U256::from(1_000_000_000_000_u64)
            } else {
                U256::ZERO
            },
            input,
            access_list,
            max_fee: 2 * u128::from(room.base_fee) + tip,
            tip,
        };
        let blob_count = blobs.len() as u64;
        Transaction {
            raw: self.sign(sender, kind, plain, room.blob_fee, blobs, authorizations),
            kind,
            gas_used,
            blobs: blob_count,
        }
    }

    /// The addresses that transactions are sent from.
    pub(super) fn senders(&self) -> impl Iterator<Item = alloy_primitives::Address> {
        self.senders.addresses()
    }

    fn kind(&self, room: &Room, dice: &mut Dice) -> u8 {
        // What needs gas beyond its data is not made when the block is nearly full.
        if room.gas_left < 10 * TRANSFER_GAS + 100 * room.data_bytes as u64 {
            return 2;
        }
        let roll = dice.below(100);
        match self.fork {
            Fork::London => match roll {
                0..20 => 0,
                20..30 => 1,
                _ => 2,
            },
            Fork::Prague => match roll {
                0..15 => 0,
                15..20 => 1,
                20..26 if room.blobs_left > 0 => 3,
                26..32 => 4,
                _ => 2,
            },
        }
    }

    fn access_list(&self, dice: &mut Dice, mix: &mut Mix) -> AccessList {
        let items = (0..dice.between(1, 2))
            .map(|_| {
                let storage_keys: Vec<B256> = (0..dice.between(0, 2))
                    .map(|_| B256::from(U256::from(dice.below(32))))
                    .collect();
                mix.add(4 + 33 * storage_keys.len(), 4 + 5 * storage_keys.len());
                AccessListItem {
                    address: self.calls.contract(dice, mix),
                    storage_keys,
                }
            })
            .collect();
        AccessList(items)
    }

    fn authorizations(&mut self, dice: &mut Dice, mix: &mut Mix) -> Vec<SignedAuthorization> {
        (0..dice.between(1, 2))
            .map(|_| {
                let at = self.authorities.choose(dice);
                let authorization = Authorization {
                    chain_id: U256::from(self.chain_id),
                    address: self.calls.contract(dice, mix),
                    nonce: self.authorities.account(at).next_nonce(),
                };
                mix.add(74, 73);
                let signature = self.authorities.sign(at, authorization.signature_hash());
                authorization.into_signed(signature)
            })
            .collect()
    }

    /// Intrinsic gas, and the least that may be charged (0 before Prague).
    fn gas(
        &self,
        input: &[u8],
        creates: bool,
        access_list: &AccessList,
        authorizations: usize,
    ) -> (u64, u64) {
        let zeros = input.iter().filter(|&&byte| byte == 0).count() as u64;
        let others = input.len() as u64 - zeros;
        let mut gas = TRANSFER_GAS + 4 * zeros + 16 * others;
        if creates {
            gas += 32_000 + 2 * (input.len() as u64).div_ceil(32);
        }
        for item in &access_list.0 {
            gas += 2_400 + 1_900 * item.storage_keys.len() as u64;
        }
        gas += 25_000 * authorizations as u64;
        let floor = match self.fork {
            Fork::London => 0,
            Fork::Prague => TRANSFER_GAS + 10 * zeros + 40 * others,
        };
        (gas, floor)
    }

    fn sign(
        &self,
        sender: usize,
        kind: u8,
        plain: Plain,
        blob_fee: u128,
        blob_versioned_hashes: Vec<B256>,
        authorization_list: Vec<SignedAuthorization>,
    ) -> Vec<u8> {
        let chain_id = self.chain_id;
        let Plain {
            nonce,
            gas_limit,
            to,
            value,
            input,
            access_list,
            max_fee,
            tip,
        } = plain;
        // Types 3 and 4 cannot create.
        let callee = to.to().copied().unwrap_or_default();
        match kind {
            0 => self.encode(
                sender,
                TxLegacy {
                    chain_id: Some(chain_id),
                    nonce,
                    gas_price: max_fee,
                    gas_limit,
                    to,
                    value,
                    input,
                },
            ),
            1 => self.encode(
                sender,
                TxEip2930 {
                    chain_id,
                    nonce,
                    gas_price: max_fee,
                    gas_limit,
                    to,
                    value,
                    access_list,
                    input,
                },
            ),
            3 => self.encode(
                sender,
                TxEip4844 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas: max_fee,
                    max_priority_fee_per_gas: tip,
                    to: callee,
                    value,
                    access_list,
                    blob_versioned_hashes,
                    max_fee_per_blob_gas: 2 * blob_fee,
                    input,
                },
            ),
            4 => self.encode(
                sender,
                TxEip7702 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas: max_fee,
                    max_priority_fee_per_gas: tip,
                    to: callee,
                    value,
                    access_list,
                    authorization_list,
                    input,
                },
            ),
            _ => self.encode(
                sender,
                TxEip1559 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas: max_fee,
                    max_priority_fee_per_gas: tip,
                    to,
                    value,
                    access_list,
                    input,
                },
            ),
        }
    }

    fn encode<T>(&self, sender: usize, transaction: T) -> Vec<u8>
    where
        T: SignableTransaction<alloy_primitives::Signature> + RlpEcdsaEncodableTx,
    {
        let signature = self.senders.sign(sender, transaction.signature_hash());
        let mut raw = Vec::with_capacity(transaction.eip2718_encoded_length(&signature));
        transaction.eip2718_encode(&signature, &mut raw);
        raw
    }
}

/// Gas that the blobs of a block use.
pub(super) fn blob_gas(blobs: u64) -> u64 {
    blobs * DATA_GAS_PER_BLOB
}
