//! A branch of a file that leaves the stored chain below its head: all of it is checked, then it is made canonical if it
//! outweighs the stored chain, and let go if not.

use std::fmt;
use std::time::Instant;

use cairn_store::{Head, NewBlock, Replace, Writer};
use serde::Serialize;

use super::importer::{BATCH_LIMIT_BLOCKS, BATCH_LIMIT_BYTES, told};
use super::judge::{Checked, Judge, head_of};
use super::source::{FileBlock, Source};
use super::{ImportError, unix_s};
use crate::chain::{Rules, Tip};
use crate::logging::{reorg, short};
use crate::sync::is_better;

/// What became of a branch.
#[derive(Clone, Debug, Serialize)]
pub struct BranchReport {
    /// Whether it is the canonical chain now. If not nothing was changed, and it is not kept.
    pub canonical: bool,
    /// Why.
    pub why: String,
    /// Number of the last block that it and the stored chain have both.
    pub fork_number: u64,
    /// That block's hash.
    pub fork_hash: String,
    /// The branch.
    pub branch: SideReport,
    /// The chain that was stored.
    pub stored: SideReport,
}

/// One of two chains that part.
#[derive(Clone, Debug, Serialize)]
pub struct SideReport {
    /// Its blocks above the last common one.
    pub blocks: u64,
    /// Number of its head.
    pub head_number: u64,
    /// Hash of its head.
    pub head_hash: String,
    /// Its total difficulty, in hex.
    pub td: String,
}

impl fmt::Display for BranchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BranchReport {
            fork_number,
            branch,
            stored,
            why,
            ..
        } = self;
        let (what, end) = match self.canonical {
            true => ("Reorg   ", "took the place of"),
            false => ("Not kept", "were checked and do not take the place of"),
        };
        writeln!(
            f,
            "{what} {} blocks above block {fork_number} {end} {}: {why}",
            branch.blocks, stored.blocks
        )
    }
}

/// A branch in the making. Dropped before [`Branch::finish`], nothing has changed.
pub(super) struct Branch<'a> {
    judge: Judge,
    fork: Head,
    /// The stored chain's head.
    old: Tip,
    room: Room<'a>,
    waiting: Vec<Checked>,
    waiting_bytes: usize,
    blocks: u64,
    bytes: usize,
    receipts: u64,
    start: Instant,
}

/// Where a branch is while it is not known to be heavier.
enum Room<'a> {
    /// In memory.
    Memory(&'a mut Writer),
    /// All but what waits is in files that the store does not name yet.
    Files(Box<Replace<'a>>),
    /// On its way from one to the other; what stays if that fails.
    Lost,
}

/// What an import of a branch did.
pub(super) struct Outcome {
    pub(super) report: BranchReport,
    pub(super) transactions: u64,
    pub(super) receipts: u64,
    pub(super) seals_checked: bool,
}

impl<'a> Branch<'a> {
    /// Begins where `judge` stands. `old` is the stored chain's head.
    pub(super) fn new(writer: &'a mut Writer, judge: Judge, old: Tip) -> Branch<'a> {
        let fork = judge.last();
        log::info!(
            "Checking a branch fork={} hash={} head={}",
            fork.number,
            short(&fork.hash),
            old.header.number()
        );
        Branch {
            judge,
            fork,
            old,
            room: Room::Memory(writer),
            waiting: Vec::new(),
            waiting_bytes: 0,
            blocks: 0,
            bytes: 0,
            receipts: 0,
            start: Instant::now(),
        }
    }

    /// Takes `first` and all that follows it in the file.
    ///
    /// # Errors
    /// `Branch` says what is wrong with it, `Store` that the store failed.
    pub(super) fn import(
        mut self,
        first: FileBlock,
        blocks: &mut Source<'_>,
    ) -> Result<Outcome, ImportError> {
        let fork = self.fork.number;
        let take = || {
            self.add(first)?;
            while let Some(block) = blocks.next()? {
                self.add(block)?;
            }
            Ok(())
        };
        take().map_err(|error| match error {
            ImportError::Store(error) => ImportError::Store(error),
            error => ImportError::Branch {
                fork,
                error: Box::new(error),
            },
        })?;
        self.finish()
    }

    fn add(&mut self, block: FileBlock) -> Result<(), ImportError> {
        let checked = self.judge.check_block(block, unix_s())?;
        self.blocks += 1;
        self.bytes += checked.bytes();
        self.receipts += u64::from(checked.receipts.is_some());
        self.waiting_bytes += checked.bytes();
        self.waiting.push(checked);
        if self.waiting_bytes >= BATCH_LIMIT_BYTES || self.waiting.len() >= BATCH_LIMIT_BLOCKS {
            self.write().map_err(ImportError::Store)?;
        }
        Ok(())
    }

    /// Writes what waits to files that count for nothing yet.
    fn write(&mut self) -> Result<(), cairn_store::Error> {
        let mut replace = match std::mem::replace(&mut self.room, Room::Lost) {
            Room::Memory(writer) => Box::new(writer.replace_above(self.fork.number)?),
            Room::Files(replace) => replace,
            Room::Lost => return Err(cairn_store::Error::Poisoned),
        };
        let blocks: Vec<NewBlock<'_>> = self.waiting.iter().map(Checked::new_block).collect();
        replace.append(&blocks)?;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.room = Room::Files(replace);
        Ok(())
    }

    /// Weighs the branch, whose last block is its head.
    fn finish(mut self) -> Result<Outcome, ImportError> {
        let new = self.judge.tip().cloned();
        let new = new.expect("a branch hangs on a block whose header is known");
        let (canonical, why) = weigh(self.judge.rules(), &self.old, &new);
        let (fork, old, head) = (self.fork, head_of(&self.old), head_of(&new));
        if canonical {
            self.publish(&head).map_err(ImportError::Store)?;
            reorg(
                (fork.number, fork.hash),
                (old.number, old.hash),
                (head.number, head.hash),
            );
            told(&head, self.blocks, self.bytes, self.start);
        } else {
            log::info!(
                "Branch is not kept fork={} hash={} why=\"{why}\"",
                fork.number,
                short(&fork.hash)
            );
        }
        let side = |side: &Head| SideReport {
            blocks: side.number - fork.number,
            head_number: side.number,
            head_hash: side.hash.to_string(),
            td: format!("{:#x}", side.td),
        };
        Ok(Outcome {
            report: BranchReport {
                canonical,
                why,
                fork_number: fork.number,
                fork_hash: fork.hash.to_string(),
                branch: side(&head),
                stored: side(&old),
            },
            transactions: self.judge.transactions(),
            receipts: self.receipts,
            seals_checked: self.judge.seals_checked(),
        })
    }

    /// Makes the branch the canonical chain: one durable change.
    fn publish(&mut self, head: &Head) -> Result<(), cairn_store::Error> {
        if let Room::Files(_) = self.room {
            self.write()?;
        }
        match std::mem::replace(&mut self.room, Room::Lost) {
            Room::Memory(writer) => {
                let blocks: Vec<NewBlock<'_>> =
                    self.waiting.iter().map(Checked::new_block).collect();
                writer.commit(&blocks, head.hash)?;
            }
            Room::Files(replace) => {
                replace.finish(head.hash)?;
            }
            Room::Lost => return Err(cairn_store::Error::Poisoned),
        }
        Ok(())
    }
}

/// Whether a chain that ends in `new` takes the place of the stored one that ends in `old`, and why.
///
/// Total difficulty decides, and on clique chains EIP-3436 where it is equal; of others the stored one stays. A chain past the
/// merge (EIP-3675) is preferred to one before it. Of two past it difficulty says nothing and the consensus layer is not here
/// to ask: there the import is its user's word, and the file is taken.
fn weigh(rules: &Rules, old: &Tip, new: &Tip) -> (bool, String) {
    match (rules.is_staked(new), rules.is_staked(old)) {
        (true, true) => (
            true,
            "both chains are past the merge, where difficulty says nothing: the file is taken at its user's word".into(),
        ),
        (true, false) => (true, "it is past the merge, the stored chain is before it".into()),
        (false, true) => (false, "it is before the merge, the stored chain is past it".into()),
        (false, false) => {
            let better = is_better(new, old);
            let why = match (new.td == old.td, new.clique.is_some(), better) {
                (false, ..) => format!(
                    "its total difficulty is {}, that of the stored chain {}",
                    new.td, old.td
                ),
                (true, true, true) => format!("both total difficulties are {}, and EIP-3436 prefers it", new.td),
                (true, true, false) => {
                    format!("both total difficulties are {}, and EIP-3436 prefers the stored chain", new.td)
                }
                (true, false, _) => format!("both total difficulties are {}, and of equals the first stays", new.td),
            };
            (better, why)
        }
    }
}
