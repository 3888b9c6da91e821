//! What the sealer is told: the head that it may seal on, and that it may seal on none as long as a better one is known.

use alloy_primitives::B256;
use crossbeam_channel::{Receiver, Sender};

use super::machine::Machine;
use crate::chain::Tip;

/// The link to the sealer, with room for one message: a newer one replaces it. `None`: nothing is to be sealed until the next head.
pub struct Heads {
    /// Where the newest message goes.
    pub newest: Sender<Option<Tip>>,
    /// The sealer's own end, to take out what it has not looked at.
    pub older: Receiver<Option<Tip>>,
}

impl Heads {
    /// Puts in `head`.
    pub(super) fn put(&self, head: Option<Tip>) {
        // Only the newest counts, and the sync thread alone puts any in: with the older one out there is room.
        while self.older.try_recv().is_ok() {}
        let _ = self.newest.try_send(head);
    }
}

/// The head that the sealer was told of and may seal on.
#[derive(Debug, Default)]
pub(super) struct Told(Option<B256>);

impl Told {
    /// What the sealer is to be told now, if it is news. It is given a head that is stored, once there is nothing to catch up with: a signer that
    /// is behind would seal a fork on every block of the way. What it was given is taken back when something better is known. `waits`: a peer
    /// that may know it is still awaited.
    pub(super) fn news(
        &mut self,
        machine: &Machine,
        stored: &Tip,
        waits: bool,
    ) -> Option<Option<Tip>> {
        let is_head = machine.tip().header.hash == stored.header.hash;
        let may_seal = is_head && !waits && machine.is_caught_up();
        let head = may_seal.then_some(stored);
        let hash = head.map(|head| head.header.hash);
        (std::mem::replace(&mut self.0, hash) != hash).then(|| head.cloned())
    }
}
