//! Beginning a clique chain at a checkpoint that the operator trusts, in place of its genesis block.
//!
//! A checkpoint's header lists the signers and ends all votes, but does not say who has sealed recently; so the N/2+1 blocks up to and with
//! it are fetched and become the first of the store. They are what the trusted hash leads to: each hash says what the block below it is.
//! What is above is judged by the rules, as everywhere.

mod fetch;
mod run;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use alloy_primitives::{B256, U256};

use crate::chain::{Genesis, Tip};

pub use run::{Begun, begin};

/// A block that is trusted: at this number the chain has this hash, and up to here it weighs so much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Its number, a multiple of the chain's epoch.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Total difficulty up to and with it. Peers are told of it up to eth/68, and nothing else says it.
    pub td: U256,
}

impl Checkpoint {
    /// Checks what needs no peer.
    ///
    /// # Errors
    /// What is wrong with it on the chain that begins with `genesis`.
    pub fn check(&self, genesis: &Genesis) -> Result<(), String> {
        let Some(clique) = &genesis.spec.clique else {
            return Err(
                "this is no clique chain, and only such a chain has checkpoints".to_owned(),
            );
        };
        let epoch = clique.epoch.max(1);
        if self.number == 0 || !self.number.is_multiple_of(epoch) {
            return Err(format!(
                "block {} is no checkpoint: this chain has one every {epoch} blocks, block 0 needs none",
                self.number
            ));
        }
        // Each block of a clique chain weighs 1 or 2 (EIP-225).
        let least = genesis.header.header.difficulty + U256::from(self.number);
        let most = least + U256::from(self.number);
        if !(least..=most).contains(&self.td) {
            return Err(format!(
                "the total difficulty of block {} is between {least} and {most}, and {} was given",
                self.number, self.td
            ));
        }
        Ok(())
    }
}

/// Of a chain with this head whose headers are kept from block `first_header` on: below the block that is given no branch is followed,
/// for it is trusted, or it is not known there who may seal.
pub fn settled(
    trusted: Option<Checkpoint>,
    genesis: &Genesis,
    head: &Tip,
    first_header: u64,
) -> u64 {
    let (Some(clique), Some(voting)) = (&genesis.spec.clique, &head.clique) else {
        return 0;
    };
    // Above the head it settles nothing yet: a branch that leads there may be the one.
    let trusted = trusted.map(|checkpoint| checkpoint.number);
    let trusted = trusted.filter(|number| *number <= head.header.number());
    let trusted = trusted.unwrap_or(0);
    if first_header == 0 {
        return trusted;
    }
    // By the signers of now. Were there more or fewer, the state at the lowest is asked for and lacks, or is not asked for.
    let known = first_header + voting.limit() - 1;
    trusted.max(known.next_multiple_of(clique.epoch.max(1)))
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.number, self.hash, self.td)
    }
}

impl FromStr for Checkpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Checkpoint, Self::Err> {
        let expected =
            "expected NUMBER:HASH:TOTALDIFFICULTY, as `cairn clique checkpoint` prints it";
        let parts: Vec<&str> = text.trim().split(':').collect();
        let [number, hash, td] = parts[..] else {
            return Err(expected);
        };
        if td.is_empty() {
            return Err(expected); // which would be read as 0
        }
        Ok(Checkpoint {
            number: number.parse().map_err(|_| expected)?,
            hash: hash.parse().map_err(|_| expected)?,
            td: td.parse().map_err(|_| expected)?,
        })
    }
}
