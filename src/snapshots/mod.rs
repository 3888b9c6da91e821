//! Snapshots of who may seal, kept so that nobody reads a whole epoch of headers to have one again: which of them are.

mod codec;
mod file;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

pub use codec::{decode, encode};
pub use file::SnapshotFile;

use crate::chain::clique::Snapshot;

/// One is kept after so many blocks, geth's interval: what is gone on from lies no further back, which is some 3 ms of reading.
pub const SNAPSHOT_EVERY: u64 = 1024;
/// So many are kept, the newest: a chain that goes back by three intervals or three epochs still has one to go on from.
pub const KEPT_MOST: usize = 4;

/// The newest snapshots of one chain, some blocks apart.
#[derive(Clone, Debug, Default)]
pub struct Kept(Vec<Arc<Snapshot>>); // in rising order

impl Kept {
    /// The newest to go on from to block `number`: none older than the last checkpoint, which says as much itself.
    pub fn before(&self, number: u64, epoch: u64) -> Option<&Snapshot> {
        let newest = self.0.iter().rfind(|kept| kept.number <= number)?;
        (newest.number >= checkpoint(number, epoch)).then_some(newest)
    }

    /// The head has moved: what was above block `ancestor` has given way to what ends with `head`'s block. True if that one is kept from
    /// now on, which it is at a checkpoint and where a start would else read too much.
    pub fn moved(&mut self, ancestor: u64, head: Option<&Arc<Snapshot>>, epoch: u64) -> bool {
        self.0.retain(|kept| kept.number <= ancestor);
        let Some(head) = head.filter(|head| self.is_due(head, epoch)) else {
            return false;
        };
        if self.0.len() == KEPT_MOST {
            self.0.remove(0);
        }
        self.0.push(head.clone());
        true
    }

    fn is_due(&self, head: &Snapshot, epoch: u64) -> bool {
        let newest = self.0.last().map_or(0, |kept| kept.number);
        let checkpoint = checkpoint(head.number, epoch);
        let known = newest.max(checkpoint);
        // After the last signer has put itself out there is nothing to go on to.
        let is_needed = head.number > newest && !head.signers().is_empty();
        is_needed && (head.number == checkpoint || head.number - known >= SNAPSHOT_EVERY)
    }
}

/// The last checkpoint at block `number` or below.
fn checkpoint(number: u64, epoch: u64) -> u64 {
    number - number % epoch.max(1)
}
