//! Who may seal after a block, who has sealed recently, and which votes are open.

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_primitives::{Address, B256};

use super::{NONCE_AUTHORISE, error::CliqueError, extra, seal};
use crate::chain::header::SealedHeader;

/// A vote that is not decided yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vote {
    /// Who votes.
    pub signer: Address,
    /// The block that carries the vote.
    pub block: u64,
    /// Whom the vote is about.
    pub target: Address,
    /// To let in, or to put out.
    pub authorise: bool,
}

/// The state of the voting after a block. Every snapshot follows from an earlier one and the headers between.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The block after which this holds.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    signers: Arc<[Address]>,
    recents: Vec<(u64, Address)>,
    votes: Vec<Vote>,
}

impl Snapshot {
    /// What the genesis block says: its signers, in whatever order it lists them.
    ///
    /// # Errors
    /// [`CliqueError::ExtraTooShort`] or [`CliqueError::SignerBytes`]: it lists none.
    pub fn genesis(header: &SealedHeader) -> Result<Self, CliqueError> {
        Self::from_checkpoint(header, Vec::new())
    }

    /// What a checkpoint says, with who sealed the blocks up to it (number and signer): all of the last N/2+1 blocks, for a
    /// checkpoint does not say who signed recently, and without them a signer could be taken that must wait.
    ///
    /// # Errors
    /// [`CliqueError::ExtraTooShort`] or [`CliqueError::SignerBytes`]: it lists no signers.
    pub fn from_checkpoint(
        header: &SealedHeader,
        recents: Vec<(u64, Address)>,
    ) -> Result<Self, CliqueError> {
        let mut signers = extra::signers(&header.header)?;
        signers.sort_unstable();
        signers.dedup();
        let mut snapshot = Self {
            number: header.header.number,
            hash: header.hash,
            signers: signers.into(),
            recents,
            votes: Vec::new(),
        };
        let (number, limit) = (snapshot.number, snapshot.limit());
        snapshot
            .recents
            .retain(|(seen, _)| *seen <= number && seen + limit > number);
        Ok(snapshot)
    }

    /// A snapshot that was taken apart. `None` if no chain can have it: `signers` must be in ascending order, `recents` those of the last
    /// blocks without a gap, `votes` in the order of their blocks, each by a signer, one on each address, and of a kind that means something.
    pub(crate) fn from_parts(
        number: u64,
        hash: B256,
        signers: Vec<Address>,
        recents: Vec<(u64, Address)>,
        votes: Vec<Vote>,
    ) -> Option<Self> {
        let snapshot = Self {
            number,
            hash,
            signers: signers.into(),
            recents,
            votes,
        };
        snapshot.is_possible().then_some(snapshot)
    }

    fn is_possible(&self) -> bool {
        let Self {
            number,
            signers,
            recents,
            votes,
            ..
        } = self;
        let last_recent = recents.last().map_or(0, |(last, _)| *last); // block 0 was sealed by nobody
        let means_something = |vote: &Vote| {
            self.is_signer(&vote.signer) && self.is_signer(&vote.target) != vote.authorise
        };
        let mut pairs: Vec<_> = votes
            .iter()
            .map(|vote| (vote.signer, vote.target))
            .collect();
        pairs.sort_unstable();
        !signers.is_empty()
            && signers.is_sorted_by(|a, b| a < b)
            && recents.len() as u64 <= self.limit().min(*number)
            && recents.is_sorted_by(|a, b| a.0.checked_add(1) == Some(b.0))
            && last_recent == *number
            && votes.is_sorted_by(|a, b| a.block < b.block)
            && votes.first().is_none_or(|vote| vote.block > 0)
            && votes.last().is_none_or(|vote| vote.block <= *number)
            && votes.iter().all(means_something)
            && pairs.is_sorted_by(|a, b| a < b)
    }

    /// The signers in ascending order: the order of turns.
    pub fn signers(&self) -> &[Address] {
        &self.signers
    }

    /// Who sealed the last blocks, by number.
    pub fn recents(&self) -> &[(u64, Address)] {
        &self.recents
    }

    /// The open votes, oldest first.
    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }

    /// Of so many blocks in a row a signer may seal one.
    pub fn limit(&self) -> u64 {
        self.signers.len() as u64 / 2 + 1
    }

    /// True if `address` may seal at all.
    pub fn is_signer(&self, address: &Address) -> bool {
        self.signers.binary_search(address).is_ok()
    }

    /// True if block `number` is the turn of `signer`.
    pub fn in_turn(&self, number: u64, signer: &Address) -> bool {
        self.signers
            .binary_search(signer)
            .is_ok_and(|place| number % self.signers.len() as u64 == place as u64)
    }

    /// True if `signer` has sealed a block so recently that it may not seal block `number`.
    pub fn signed_recently(&self, number: u64, signer: &Address) -> bool {
        self.recent(number, signer).is_some()
    }

    fn recent(&self, number: u64, signer: &Address) -> Option<u64> {
        self.recents
            .iter()
            .find(|(seen, recent)| recent == signer && seen.saturating_add(self.limit()) > number)
            .map(|(seen, _)| *seen)
    }

    /// The snapshot after `header`, which follows this one's block. Only seal, signer and vote are judged.
    ///
    /// # Errors
    /// The rule that the header breaks.
    pub fn apply(&self, header: &SealedHeader, epoch: u64) -> Result<Self, CliqueError> {
        let signer = header.signer()?;
        self.apply_signed(header, epoch, signer)
    }

    /// [`Snapshot::apply`] of a header whose signer is known.
    pub(super) fn apply_signed(
        &self,
        header: &SealedHeader,
        epoch: u64,
        signer: Address,
    ) -> Result<Self, CliqueError> {
        let number = header.header.number;
        if number != self.number.saturating_add(1) {
            return Err(CliqueError::NotNext {
                expected: self.number.saturating_add(1),
                found: number,
            });
        }
        if !self.is_signer(&signer) {
            return Err(CliqueError::Unauthorised { signer });
        }
        if let Some(at) = self.recent(number, &signer) {
            return Err(CliqueError::SignedRecently {
                signer,
                at,
                again: at.saturating_add(self.limit()),
            });
        }
        let mut next = self.clone();
        next.advance(&header.header, epoch, Some(signer));
        next.hash = header.hash;
        Ok(next)
    }

    /// Goes on over a header that was judged before. Cheap: the signer is only found out where it matters, which is where a vote is cast.
    /// What is left out is made up for by [`Snapshot::fill_recents`].
    ///
    /// # Errors
    /// [`CliqueError::Seal`]: the header cannot have been judged before.
    pub(super) fn replay(&mut self, sealed: &SealedHeader, epoch: u64) -> Result<(), CliqueError> {
        let header = &sealed.header;
        let votes = !header.beneficiary.is_zero()
            || header.nonce == NONCE_AUTHORISE
            || self.votes.iter().any(|vote| vote.target.is_zero());
        let signer = votes.then(|| seal::signer(header)).transpose()?;
        self.advance(header, epoch, signer);
        self.hash = sealed.hash;
        Ok(())
    }

    /// Finds out who sealed the recent blocks that [`Snapshot::replay`] left out, all above block `known`. `signer` is asked for each by
    /// number.
    pub(super) fn fill_recents<E>(
        &mut self,
        known: u64,
        mut signer: impl FnMut(u64) -> Result<Address, E>,
    ) -> Result<(), E> {
        for (number, recent) in &mut self.recents {
            if *number > known {
                *recent = signer(*number)?;
            }
        }
        Ok(())
    }

    /// The steps of EIP-225 in the order in which the running clients take them, all but the two checks of the signer.
    fn advance(&mut self, header: &Header, epoch: u64, signer: Option<Address>) {
        let number = header.number;
        self.number = number;
        if number.is_multiple_of(epoch.max(1)) {
            self.votes.clear();
        }
        self.forget_recent(number);
        self.recents.push((number, signer.unwrap_or_default()));
        let Some(signer) = signer else { return };

        let target = header.beneficiary;
        let authorise = header.nonce == NONCE_AUTHORISE;
        self.votes
            .retain(|vote| vote.signer != signer || vote.target != target);
        // A vote to let in who is in, or to put out who is out, means nothing. So all votes on one address are of one kind.
        if self.is_signer(&target) != authorise {
            self.votes.push(Vote {
                signer,
                block: number,
                target,
                authorise,
            });
        }
        let of_target = || self.votes.iter().filter(|vote| vote.target == target);
        let Some(kind) = of_target().next().map(|vote| vote.authorise) else {
            return;
        };
        if of_target().count() <= self.signers.len() / 2 {
            return;
        }
        let mut signers = self.signers.to_vec();
        if kind {
            signers.push(target);
            signers.sort_unstable();
            self.signers = signers.into();
        } else {
            signers.retain(|signer| *signer != target);
            self.signers = signers.into();
            self.forget_recent(number);
            self.votes.retain(|vote| vote.signer != target);
        }
        self.votes.retain(|vote| vote.target != target);
    }

    fn forget_recent(&mut self, number: u64) {
        if let Some(old) = number.checked_sub(self.limit()) {
            self.recents.retain(|(seen, _)| *seen != old);
        }
    }
}
