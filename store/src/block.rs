//! What goes into a store and what its head is: plain data.

use alloy_primitives::{B256, U256};

/// The block a store is made with.
pub struct Genesis<'a> {
    /// The chain id's low 64 bits.
    pub chain_id: u64,
    /// Hash of block 0: what identifies the chain.
    pub hash: B256,
    /// Difficulty of block 0, so its total difficulty.
    pub difficulty: U256,
    /// RLP of its header.
    pub header: &'a [u8],
    /// RLP of its body.
    pub body: &'a [u8],
}

/// A block to be stored.
pub struct NewBlock<'a> {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Total difficulty up to and with this block.
    pub td: U256,
    /// RLP of its header.
    pub header: &'a [u8],
    /// RLP of its body: `[transactions, ommers]` or `[transactions, ommers, withdrawals]`.
    pub body: &'a [u8],
    /// RLP of its receipts in eth/69's form (no bloom), if they are known.
    pub receipts: Option<&'a [u8]>,
}

/// The body of a block that is stored without.
pub struct NewBody<'a> {
    /// The block's number.
    pub number: u64,
    /// The block's hash.
    pub hash: B256,
    /// RLP of its body.
    pub body: &'a [u8],
}

/// Receipts of a block that is stored without.
pub struct NewReceipts<'a> {
    /// The block's number.
    pub number: u64,
    /// The block's hash.
    pub hash: B256,
    /// RLP of its receipts in eth/69's form (no bloom).
    pub receipts: &'a [u8],
}

/// The head of the canonical chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Total difficulty up to and with it.
    pub td: U256,
}
