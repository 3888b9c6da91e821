//! How many turns each signer has missed since the node started, and why, where that is known.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use serde::Serialize;

use super::LastBlocks;
use crate::chain::SealedHeader;
use crate::chain::clique::{DIFFICULTY_IN_TURN, Snapshot};
use crate::sealer::Own;

/// Turns of a signer that another one took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// It had sealed one of the blocks before, and the rules kept it from sealing this one.
    pub signed_recently: u64,
    /// This node's signer: the parent was not here, or was being caught up with.
    pub no_timely_parent: u64,
    /// This node's signer: there was no signature.
    pub no_signature: u64,
    /// This node's signer: it sealed later than another did, or was about to.
    pub sealed_late: u64,
    /// Another node's signer, which alone knows why.
    pub unknown: u64,
}

impl Missed {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.signed_recently
            + self.no_timely_parent
            + self.no_signature
            + self.sealed_late
            + self.unknown
    }
}

/// By signer.
pub type MissedBySigner = BTreeMap<Address, Missed>;

/// Counts the turn that was missed when `header` was sealed out of turn. `last` are the blocks before it; `signers` are taken from the
/// snapshot of about that time: a block or two around a vote may be counted for the wrong one.
pub fn count(
    missed: &mut MissedBySigner,
    header: &SealedHeader,
    signers: &Snapshot,
    last: &LastBlocks,
    own: Option<&Own>,
) {
    let (number, all) = (header.number(), signers.signers());
    if header.header.difficulty == U256::from(DIFFICULTY_IN_TURN) || all.is_empty() {
        return;
    }
    let in_turn = all[(number % all.len() as u64) as usize];
    let missed = missed.entry(in_turn).or_default();
    let is_recent = |seen: u64| seen < number && seen + signers.limit() > number;
    let own = own.filter(|own| own.signer == in_turn);
    let counter = match own {
        _ if last.of(&in_turn).is_some_and(|made| is_recent(made.number)) => {
            &mut missed.signed_recently
        }
        None => &mut missed.unknown,
        Some(own) if own.unsigned == Some(number) => &mut missed.no_signature,
        Some(own) if own.parent.is_none_or(|parent| parent + 1 < number) => {
            &mut missed.no_timely_parent
        }
        Some(_) => &mut missed.sealed_late,
    };
    *counter += 1;
}
