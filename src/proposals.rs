//! What this node's signer votes for: whom to let in among the chain's signers, and whom to put out.
//!
//! The ipc thread changes it, the sealer reads it before each block. It lives in memory, as geth's does: a node that starts again
//! proposes nothing. A vote that was sealed stands in the chain, whatever becomes of the proposal.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use alloy_primitives::Address;
use parking_lot::Mutex;

use crate::chain::clique::Snapshot;

/// Proposals at once. Each is one vote in one of this signer's blocks at the least, so more would stay undecided for hours; and all of them are
/// looked at for each block.
pub const MAX_PROPOSALS: usize = 256;

/// The proposals, shared. The lock is held for as long as a look at all of them takes, some microseconds.
#[derive(Clone, Debug, Default)]
pub struct Proposals(Arc<Mutex<BTreeMap<Address, bool>>>);

/// There are as many proposals as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Proposals {
    /// Votes from now on to let `address` in (`authorise`) or to put it out, instead of what was proposed for it before.
    ///
    /// # Errors
    /// [`TooMany`], when it would be one more than [`MAX_PROPOSALS`].
    pub fn propose(&self, address: Address, authorise: bool) -> Result<(), TooMany> {
        let mut all = self.0.lock();
        if all.len() >= MAX_PROPOSALS && !all.contains_key(&address) {
            return Err(TooMany);
        }
        all.insert(address, authorise);
        Ok(())
    }

    /// Casts no more votes on `address`. Those that were sealed stand.
    pub fn discard(&self, address: &Address) {
        self.0.lock().remove(address);
    }

    /// All of them, by address: `true` is to let in.
    pub fn all(&self) -> BTreeMap<Address, bool> {
        self.0.lock().clone()
    }

    /// The vote for the block after `snapshot`: one of those that mean anything there, which is to let in who is out or to put out who is in.
    /// `draw` is any random number, so that no proposal waits for another to be decided.
    pub fn pick(&self, snapshot: &Snapshot, draw: u64) -> Option<(Address, bool)> {
        let all = self.0.lock();
        let means_something =
            |(address, authorise): &(&Address, &bool)| snapshot.is_signer(address) != **authorise;
        let count = all.iter().filter(means_something).count() as u64;
        let place = draw.checked_rem(count)? as usize;
        let picked = all.iter().filter(means_something).nth(place);
        picked.map(|(address, authorise)| (*address, *authorise))
    }
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{MAX_PROPOSALS} votes are proposed already; discard some that are decided"
        )
    }
}

impl std::error::Error for TooMany {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Genesis, Rules};

    /// That of the development chain, and its one signer.
    fn snapshot() -> (Arc<Snapshot>, Address) {
        let tip = Rules::new(&Genesis::dev()).genesis_tip();
        let snapshot = tip.clique.expect("a clique chain");
        let signer = snapshot.signers()[0];
        (snapshot, signer)
    }

    #[test]
    fn only_votes_that_mean_something_now_are_picked_and_each_of_them_is() {
        let (snapshot, signer) = snapshot();
        let (out, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let proposals = Proposals::default();
        assert_eq!(proposals.pick(&snapshot, 7), None, "nothing is proposed");
        proposals.propose(signer, true).expect("room");
        proposals.propose(out, false).expect("room");
        assert_eq!(proposals.pick(&snapshot, 7), None, "nothing would change");
        proposals.propose(signer, false).expect("room");
        proposals.propose(other, true).expect("room");
        let picked: Vec<_> = (0..4)
            .map(|draw| proposals.pick(&snapshot, draw).expect("a vote"))
            .collect();
        assert_eq!(picked[..2], picked[2..]);
        assert!(picked.contains(&(signer, false)) && picked.contains(&(other, true)));
        proposals.discard(&signer);
        for draw in 0..4 {
            assert_eq!(proposals.pick(&snapshot, draw), Some((other, true)));
        }
    }

    #[test]
    fn there_is_room_for_so_many_and_for_another_word_on_those() {
        let proposals = Proposals::default();
        let address = |place: usize| Address::left_padding_from(&place.to_be_bytes());
        for place in 0..MAX_PROPOSALS {
            assert_eq!(proposals.propose(address(place), true), Ok(()));
        }
        assert_eq!(
            proposals.propose(address(MAX_PROPOSALS), true),
            Err(TooMany)
        );
        assert_eq!(proposals.propose(address(0), false), Ok(()));
        assert_eq!(proposals.all().len(), MAX_PROPOSALS);
        assert!(!proposals.all()[&address(0)]);
    }
}
