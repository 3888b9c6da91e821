//! Who seals next on a clique chain, and who is missing: from the snapshot after the head and from who sealed the last blocks. No clock.

mod last;
mod missed;
#[cfg(test)]
mod tests;

use alloy_primitives::Address;

pub use last::{LOOK_BACK, LastBlocks, Made};
pub use missed::{Missed, MissedBySigner, count};

use crate::chain::clique::Snapshot;

/// A signer is missing when it has let so many turns pass without any block of its own: a late block or a quick restart costs one or two.
pub const MISSING_TURNS: u64 = 3;

/// How the signers of a clique chain stand after its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The head.
    pub head: Made,
    /// No block has come for so long that whoever may seal, and can, would have.
    pub stands_still: bool,
    /// So many signers are needed for the chain to go on: the majority.
    pub needed: u64,
    /// The first block that the signers' last ones were looked for in.
    pub first: u64,
    /// The signers in ascending order: the order of turns.
    pub signers: Vec<SignerStanding>,
}

/// How one of them stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerStanding {
    /// The signer.
    pub address: Address,
    /// Its last block, if that is no longer ago than [`LOOK_BACK`] blocks.
    pub last: Option<Made>,
    /// Turns that passed since, without a block of its own.
    pub turns_missed: u64,
    /// The next block is its turn.
    pub in_turn: bool,
    /// It may seal the next block; if not, it sealed one of the last ones, and others must go before it.
    pub may_seal: bool,
    /// It has let [`MISSING_TURNS`] turns pass, or the chain stands still and it may seal.
    pub is_missing: bool,
}

impl Standing {
    /// As it is after the head `snapshot`, made at `timestamp_s`.
    pub fn new(
        snapshot: &Snapshot,
        timestamp_s: u64,
        last: &LastBlocks,
        stands_still: bool,
    ) -> Standing {
        let number = snapshot.number;
        let next = number.saturating_add(1);
        let all = snapshot.signers();
        let standing = |(place, address): (usize, &Address)| {
            let turns = |to: u64| turns_up_to(to, place as u64, all.len() as u64);
            let turns_missed = turns(number).saturating_sub(turns(last.counted_from(address)));
            let may_seal = !snapshot.signed_recently(next, address);
            SignerStanding {
                address: *address,
                last: last.of(address),
                turns_missed,
                in_turn: snapshot.in_turn(next, address),
                may_seal,
                is_missing: turns_missed >= MISSING_TURNS || (stands_still && may_seal),
            }
        };
        Standing {
            head: Made {
                number,
                timestamp_s,
            },
            stands_still,
            needed: snapshot.limit(),
            first: last.first(),
            signers: all.iter().enumerate().map(standing).collect(),
        }
    }

    /// Whose turn the next block is.
    pub fn in_turn(&self) -> Option<&SignerStanding> {
        self.signers.iter().find(|signer| signer.in_turn)
    }

    /// Those that are missing.
    pub fn missing(&self) -> impl Iterator<Item = &SignerStanding> {
        self.signers.iter().filter(|signer| signer.is_missing)
    }

    /// This signer, if it is one.
    pub fn of(&self, address: &Address) -> Option<&SignerStanding> {
        self.signers
            .iter()
            .find(|signer| signer.address == *address)
    }

    /// So many are missing that the chain cannot go on.
    pub fn cannot_go_on(&self) -> bool {
        let here = self.signers.len().saturating_sub(self.missing().count());
        (here as u64) < self.needed
    }
}

/// Turns of the signer at `place` among `signers` in the blocks up to and with `number`.
fn turns_up_to(number: u64, place: u64, signers: u64) -> u64 {
    number
        .checked_sub(place)
        .map_or(0, |over| over / signers + 1)
}
