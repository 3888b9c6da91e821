//! What a test chain is to be like, and what cannot be.

use std::fmt;

use alloy_primitives::Address;
use secp256k1::SecretKey;

use super::{
    dice::Dice,
    genesis::{self, Generated},
    transactions::TRANSFER_GAS,
};
use crate::chain::{DEV_SIGNER_KEY, Genesis, clique};

/// Longest body that may be asked for: an eth message may hold 10 MiB, and EIP-7934 ends a block at 8 MiB.
pub const BODY_BYTES_LIMIT: usize = 8 * 1024 * 1024;

/// Mean bytes of a transaction where no size of bodies is asked for.
const LONDON_TRANSACTION_BYTES: usize = 420;
const PRAGUE_TRANSACTION_BYTES: usize = 600;

/// Of Prague's blocks one in this many is large where no size of bodies is asked for, and this many times as large.
const LARGE_ONE_IN: u64 = 16;
const LARGE_TIMES: usize = 8;

/// Seconds between blocks of a proof-of-stake chain.
pub(super) const SLOT_S: u64 = 12;

/// The rules that a generated chain lives by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fork {
    /// Clique (EIP-225) with EIP-1559 from genesis on, transactions of types 0 to 2.
    London,
    /// Proof of stake from genesis on, unsealed: transactions of types 0 to 4, withdrawals.
    Prague,
}

/// What to generate. [`Params::default`] is a London chain of 2,000 blocks.
#[derive(Clone)]
pub struct Params {
    /// Blocks after the genesis block.
    pub blocks: u64,
    /// Transactions of each block.
    pub txs_per_block: u32,
    /// What everything random comes from.
    pub seed: u64,
    /// The rules to live by.
    pub fork: Fork,
    /// Unix time of the last block in seconds, so that a live chain can go on from it: the first block is then later than a period
    /// after genesis. `None`: the first block is one period after genesis.
    pub end_time_s: Option<u64>,
    /// Bytes of each body, at most [`BODY_BYTES_LIMIT`]; a body is longer if its transactions cannot be that short (about 114 bytes
    /// each). `None`: bodies of different lengths, about 420 bytes a transaction (Prague 600, and one block in 16 eight times that).
    pub body_bytes: Option<usize>,
    /// What seals a London chain. Its address must be the genesis' only signer.
    pub signer_key: [u8; 32],
    /// The genesis to build on. `None`: London builds on the development chain (with its signer replaced if `signer_key` is
    /// not the development key), Prague on a genesis of its own, in which the senders have funds.
    pub genesis: Option<Generated>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            blocks: 2_000,
            txs_per_block: 10,
            seed: 0,
            fork: Fork::London,
            end_time_s: None,
            body_bytes: None,
            signer_key: DEV_SIGNER_KEY,
            genesis: None,
        }
    }
}

/// Why there can be no such chain. All of it is the asker's to change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ParamsError {
    /// The key is zero or not below the order of the curve.
    SignerKey,
    /// The genesis does not name the key's address as its one signer.
    NotTheSigner {
        /// The address of the key.
        address: Address,
    },
    /// The genesis is not of the fork's kind.
    Genesis {
        /// What it lacks.
        what: &'static str,
    },
    /// Bodies of more than [`BODY_BYTES_LIMIT`] were asked for.
    BodyBytes {
        /// What was asked for.
        found: usize,
    },
    /// The blocks would use more gas than half of their limit, and the base fee would rise for ever.
    Gas {
        /// Gas that such blocks need.
        needed: u64,
        /// Half of the genesis' gas limit.
        target: u64,
    },
    /// The last block would be earlier than its place allows.
    EndTime {
        /// The earliest time that the last block can have, Unix seconds.
        earliest_s: u64,
    },
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SignerKey => write!(
                f,
                "the signer key is no secp256k1 key: take 32 bytes that are neither zero nor above the order of the curve"
            ),
            Self::NotTheSigner { address } => write!(
                f,
                "the genesis must name {address}, the signer key's address, as its only signer (the 20 bytes after the first 32 \
                 of extraData)"
            ),
            Self::Genesis { what } => write!(f, "the genesis does not fit the fork: {what}"),
            Self::BodyBytes { found } => write!(
                f,
                "bodies of {found} bytes are too long: ask for at most {BODY_BYTES_LIMIT}"
            ),
            Self::Gas { needed, target } => write!(
                f,
                "such blocks use about {needed} gas, more than the target of {target} (half of the gas limit), and their base \
                 fee would rise for ever: ask for fewer transactions or shorter bodies"
            ),
            Self::EndTime { earliest_s } => write!(
                f,
                "the last block cannot be earlier than {earliest_s} (Unix seconds): ask for a later end or fewer blocks"
            ),
        }
    }
}

impl std::error::Error for ParamsError {}

impl Params {
    /// Says why there can be no such chain.
    ///
    /// # Errors
    /// The first thing found that has to be asked for otherwise.
    pub fn check(&self) -> Result<(), ParamsError> {
        let address = self.signer_address()?;
        let genesis = self.genesis().genesis;
        let header = &genesis.header.header;
        let period_s = self.period_s(&genesis);
        let earliest_s = header
            .timestamp
            .saturating_add(self.blocks.saturating_mul(period_s));
        let end_s = self.end_time_s.unwrap_or(earliest_s);
        genesis::check(&genesis, self.fork, address, self.blocks, end_s)?;
        if end_s < earliest_s {
            return Err(ParamsError::EndTime { earliest_s });
        }
        if let Some(found) = self.body_bytes.filter(|bytes| *bytes > BODY_BYTES_LIMIT) {
            return Err(ParamsError::BodyBytes { found });
        }
        let (needed, target) = (self.gas(), header.gas_limit / 2);
        if needed > target {
            return Err(ParamsError::Gas { needed, target });
        }
        Ok(())
    }

    /// The genesis that the chain is built on.
    pub(super) fn genesis(&self) -> Generated {
        match &self.genesis {
            Some(generated) => generated.clone(),
            None => genesis::default_for(self),
        }
    }

    /// Seconds between blocks.
    pub(super) fn period_s(&self, genesis: &Genesis) -> u64 {
        match (self.fork, &genesis.spec.clique) {
            (Fork::London, Some(clique)) => clique.period_s.max(1),
            _ => SLOT_S,
        }
    }

    /// The address of the signer key.
    pub(super) fn signer_address(&self) -> Result<Address, ParamsError> {
        match SecretKey::from_slice(&self.signer_key) {
            Ok(key) => Ok(clique::address_of(&key)),
            Err(_) => Err(ParamsError::SignerKey),
        }
    }

    /// How long the next body should be.
    pub(super) fn next_body_bytes(&self, may_be_large: bool, dice: &mut Dice) -> usize {
        if let Some(bytes) = self.body_bytes {
            return bytes;
        }
        let percent = usize::try_from(dice.between(60, 140)).expect("percent");
        let bytes = self.mean_body_bytes() * percent / 100;
        let large = self.fork == Fork::Prague && dice.below(LARGE_ONE_IN) == 0;
        if large && may_be_large {
            (bytes * LARGE_TIMES).min(BODY_BYTES_LIMIT)
        } else {
            bytes
        }
    }

    fn mean_body_bytes(&self) -> usize {
        let transactions = usize::try_from(self.txs_per_block).unwrap_or(usize::MAX);
        let each = match self.fork {
            Fork::London => LONDON_TRANSACTION_BYTES,
            Fork::Prague => PRAGUE_TRANSACTION_BYTES,
        };
        self.body_bytes
            .unwrap_or_else(|| transactions.saturating_mul(each))
    }

    /// True if large blocks stay within `gas_limit`.
    pub(super) fn large_blocks_fit(&self, gas_limit: u64) -> bool {
        let longest = self.mean_body_bytes().saturating_mul(LARGE_TIMES * 14) / 10;
        self.gas_of(longest) <= gas_limit / 10 * 8
    }

    /// Gas that a block of the longest usual body needs, at most.
    fn gas(&self) -> u64 {
        let longest = match self.body_bytes {
            Some(bytes) => bytes,
            None => self.mean_body_bytes().saturating_mul(14) / 10,
        };
        self.gas_of(longest)
    }

    fn gas_of(&self, body_bytes: usize) -> u64 {
        // About a third of call data is zeros. What lists of access and authorisation add to a transaction is little on average.
        let byte = match self.fork {
            Fork::London => 13,
            Fork::Prague => 31,
        };
        u64::from(self.txs_per_block)
            .saturating_mul(TRANSFER_GAS + 6_000)
            .saturating_add((body_bytes as u64).saturating_mul(byte))
    }
}

/// The chain id as transactions carry it.
pub(super) fn chain_id(genesis: &Genesis) -> u64 {
    u64::try_from(genesis.spec.chain_id)
        .expect("checked: transactions cannot carry more than 64 bits")
}
