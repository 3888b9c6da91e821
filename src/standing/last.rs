//! Who sealed the last blocks, as they become the head.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alloy_primitives::Address;
use bytes::Bytes;
use cairn_store::Snapshot as Stored;

use crate::chain::SealedHeader;
use crate::chain::clique::{Snapshot, find_signers};

/// Blocks that each signer's last one is looked for in: fifty rounds of twenty signers. To find their signers out at the start takes
/// some 50 ms; in memory they are 40 KiB.
pub const LOOK_BACK: usize = 1024;

/// A block, and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its number.
    pub number: u64,
    /// Its timestamp, in Unix seconds.
    pub timestamp_s: u64,
}

/// The signers of the last [`LOOK_BACK`] blocks.
#[derive(Debug, Default)]
pub struct LastBlocks {
    /// In rising order, without gaps.
    blocks: VecDeque<(Address, Made)>,
    /// Since which block each is a signer, as far as was seen: who has just been voted in has missed no turn before.
    joined: BTreeMap<Address, u64>,
}

impl LastBlocks {
    /// Reads them back from the store.
    pub fn read(stored: &Stored) -> LastBlocks {
        let mut last = LastBlocks::default();
        last.read_again(stored);
        last
    }

    /// Reads them anew, after another branch took the place of many blocks. What cannot be read is as if it were older: the thread that
    /// needs it to go on says what is wrong with the store.
    pub fn read_again(&mut self, stored: &Stored) {
        self.blocks.clear();
        let head = stored.head().number;
        let numbers = head.saturating_sub(LOOK_BACK as u64 - 1).max(1)..=head;
        let read = |number: u64| {
            let raw = stored.header(number).ok().flatten()?;
            let header = SealedHeader::decode(Bytes::copy_from_slice(&raw)).ok()?;
            Some(Arc::new(header))
        };
        let headers: Vec<_> = numbers.filter_map(read).collect();
        find_signers(&headers);
        headers.iter().for_each(|header| self.push(header));
    }

    /// A block has become the head. Those that it takes the place of are forgotten.
    pub fn push(&mut self, header: &SealedHeader) {
        // A block by proof of stake has no signer.
        let Ok(signer) = header.signer() else { return };
        let made = Made {
            number: header.number(),
            timestamp_s: header.header.timestamp,
        };
        self.put(signer, made);
    }

    /// Block `number` and those after it are replaced.
    pub fn forget_from(&mut self, number: u64) {
        while self.head().is_some_and(|head| head >= number) {
            self.blocks.pop_back();
        }
    }

    pub(super) fn put(&mut self, signer: Address, made: Made) {
        self.forget_from(made.number);
        if self.head().is_some_and(|head| head + 1 != made.number) {
            self.blocks.clear();
        }
        if self.blocks.len() == LOOK_BACK {
            self.blocks.pop_front();
        }
        self.blocks.push_back((signer, made));
    }

    /// These are the signers after the head.
    pub fn set_signers(&mut self, snapshot: &Snapshot) {
        let at = match self.joined.is_empty() {
            true => 0, // nobody knows since when
            false => snapshot.number,
        };
        self.joined.retain(|signer, _| snapshot.is_signer(signer));
        for signer in snapshot.signers() {
            self.joined.entry(*signer).or_insert(at);
        }
    }

    /// The first block that was looked at; 0 if none was.
    pub fn first(&self) -> u64 {
        self.blocks.front().map_or(0, |(_, made)| made.number)
    }

    /// The last block of `signer`, if it is among them.
    pub fn of(&self, signer: &Address) -> Option<Made> {
        let mut from_last = self.blocks.iter().rev();
        let (_, made) = from_last.find(|(sealed_by, _)| sealed_by == signer)?;
        Some(*made)
    }

    /// Seconds that block `number` came after its parent; 0 if they are not the last two.
    pub fn took_s(&self, number: u64) -> u64 {
        let mut from_last = self.blocks.iter().rev().map(|(_, made)| made);
        match (from_last.next(), from_last.next()) {
            (Some(made), Some(parent)) if made.number == number => {
                made.timestamp_s.saturating_sub(parent.timestamp_s)
            }
            _ => 0,
        }
    }

    /// The block after which a turn of `signer` counts as missed: its last one, or the one that it became a signer with.
    pub(super) fn counted_from(&self, signer: &Address) -> u64 {
        let joined = self.joined.get(signer).copied().unwrap_or(0);
        let before = || self.first().saturating_sub(1);
        self.of(signer)
            .map_or_else(before, |made| made.number)
            .max(joined)
    }

    fn head(&self) -> Option<u64> {
        self.blocks.back().map(|(_, made)| made.number)
    }
}
