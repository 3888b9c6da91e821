//! Keys that are derived from the seed, their nonces, and what they sign.

use alloy_primitives::{Address, B256, Signature, keccak256};
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey, SignOnly};

use super::dice::Dice;

/// An account that the generator holds the key of.
pub(super) struct Account {
    key: SecretKey,
    pub(super) address: Address,
    nonce: u64,
}

impl Account {
    /// The nonce of what this account signs next; each call gives the one after.
    pub(super) fn next_nonce(&mut self) -> u64 {
        let nonce = self.nonce;
        self.nonce += 1;
        nonce
    }
}

/// Accounts and the one signing context they share.
pub(super) struct Wallet {
    context: Secp256k1<SignOnly>,
    accounts: Vec<Account>,
}

impl Wallet {
    /// `count` accounts from `dice`. The first ones are the same for every count.
    pub(super) fn new(count: usize, dice: &mut Dice) -> Self {
        let context = Secp256k1::signing_only();
        let accounts = (0..count)
            .map(|_| {
                let key = secret_key(dice);
                let public = PublicKey::from_secret_key(&context, &key).serialize_uncompressed();
                Account {
                    key,
                    address: Address::from_slice(&keccak256(&public[1..])[12..]),
                    nonce: 0,
                }
            })
            .collect();
        Self { context, accounts }
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = Address> {
        self.accounts.iter().map(|account| account.address)
    }

    /// The place of an account chosen by `dice`; some send more than others.
    pub(super) fn choose(&self, dice: &mut Dice) -> usize {
        dice.skewed_index(self.accounts.len())
    }

    pub(super) fn account(&mut self, at: usize) -> &mut Account {
        &mut self.accounts[at]
    }

    /// Signs `hash` with the key of account `at`. Deterministic (RFC 6979), s in the lower half (EIP-2).
    pub(super) fn sign(&self, at: usize, hash: B256) -> Signature {
        let (parity, bytes) = self
            .context
            .sign_ecdsa_recoverable(&Message::from_digest(hash.0), &self.accounts[at].key)
            .serialize_compact();
        Signature::from_bytes_and_parity(&bytes, i32::from(parity) & 1 == 1)
    }
}

/// A key. One draw in 2^128 is none; then the next one is taken.
fn secret_key(dice: &mut Dice) -> SecretKey {
    loop {
        if let Ok(key) = SecretKey::from_slice(dice.hash().as_slice()) {
            return key;
        }
    }
}
