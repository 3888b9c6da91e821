//! What the sync machine is given and what it gives: the stored chain, its limits, sealed blocks; and what is to be done.

use std::sync::Arc;

use alloy_primitives::{B256, U256};
use bytes::Bytes;
use cairn_net::reactor::{OwnedOutgoing, PeerId};

use super::fault::Fault;
use super::limits::{Limits, MEMORY_LIMIT_BYTES};
use super::receipts::Found;
use crate::chain::{SealedHeader, Tip};
use crate::snapshots::Kept;

/// The canonical chain as it is stored.
pub trait ChainView {
    /// The raw header of block `number`.
    fn header(&self, number: u64) -> Option<Bytes>;
    /// The hash of block `number`.
    fn hash(&self, number: u64) -> Option<B256>;
    /// The total difficulty up to and with block `number`.
    fn td(&self, number: u64) -> Option<U256>;
    /// Whether the receipts of block `number` are stored.
    fn has_receipts(&self, number: u64) -> bool {
        let _ = number;
        false
    }
    /// The lowest block that another branch may hang on: what is below is settled.
    fn lowest_fork(&self) -> u64 {
        0
    }
}

/// What the machine is told when it is made.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// The head to follow on a chain whose seals cannot be checked.
    pub sync_target: Option<B256>,
    /// Headers, bodies and receipts that are held and expected stay under this.
    pub memory_limit_bytes: usize,
    /// The first block whose body we serve, as peers are told of it.
    pub earliest: u64,
    /// No branch that leaves our chain below this block is followed: a checkpoint that is trusted, or the lowest block after which it is
    /// known who may seal.
    pub settled: u64,
    /// Receipts are asked for, of the blocks from `earliest` on.
    pub receipts: bool,
    /// Snapshots of the stored chain's signers.
    pub kept: Kept,
    /// The other limits.
    pub limits: Limits,
}

impl MachineConfig {
    /// What a branch may hold before it is better than our chain: a quarter of the memory.
    pub(super) fn branch_bytes(&self) -> usize {
        self.memory_limit_bytes / 4
    }

    /// Receipts held and expected: a quarter of the memory.
    pub(super) fn receipt_bytes(&self) -> usize {
        self.memory_limit_bytes / 4
    }

    /// Headers falling from a trusted hash that are kept for the way up: a quarter of the memory.
    pub(super) fn target_bytes(&self) -> usize {
        self.memory_limit_bytes / 4
    }

    /// A run of complete blocks of this size is stored.
    pub(super) fn commit_bytes(&self) -> usize {
        self.limits
            .commit_bytes
            .min(self.memory_limit_bytes / 8 * 3)
    }
}

impl Default for MachineConfig {
    fn default() -> MachineConfig {
        MachineConfig {
            sync_target: None,
            memory_limit_bytes: MEMORY_LIMIT_BYTES,
            earliest: 0,
            settled: 0,
            receipts: false,
            kept: Kept::default(),
            limits: Limits::default(),
        }
    }
}

/// A block that our own sealer made.
#[derive(Clone, Debug)]
pub struct SealedBlock {
    /// Its header, sealed.
    pub header: Arc<SealedHeader>,
    /// Its body, as BlockBodies carries it.
    pub body: Bytes,
}

/// A block whose header, seal (where the chain has one) and body have been checked.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its header as it came.
    pub header: Arc<SealedHeader>,
    /// Its body as it came.
    pub body: Bytes,
    /// RLP of its receipts, where they are wanted and known without asking: the header says that there are none.
    pub receipts: Option<Bytes>,
    /// The total difficulty up to and with it.
    pub td: U256,
}

impl Block {
    /// What its header and its body weigh.
    pub fn bytes(&self) -> usize {
        self.header.raw.len() + self.body.len()
    }
}

/// What the machine wants done, in this order; but requests may go ahead of the rest. Of what is given to the store, blocks may still
/// be on their way into it at the next input, if the [`ChainView`] has them already; all else is carried out before that.
#[derive(Clone, Debug)]
pub enum Action {
    /// A request or an announcement.
    Send {
        /// To whom.
        peer: PeerId,
        /// What.
        message: OwnedOutgoing,
    },
    /// Store these blocks, all or none, and make the last one the head. They rise by one and hang on a stored block, which
    /// is the present head unless they are a better branch.
    Commit {
        /// Not empty.
        blocks: Vec<Block>,
        /// The new head.
        tip: Tip,
        /// Announced or sealed just now, not caught up with.
        live: bool,
    },
    /// Do this with the branch that goes into the store part by part. Between its beginning and its end nothing else is stored.
    Stage(Staging),
    /// Keep these receipts of stored blocks, in rising order; those of a block that is not canonical any more are to be left
    /// out.
    Keep {
        /// Not empty.
        receipts: Vec<Found>,
    },
    /// Disconnect this peer. Its later events are ignored.
    Punish {
        /// Whom.
        peer: PeerId,
        /// For what.
        fault: Fault,
    },
}

/// What is done with a branch that is too long to be held in memory.
#[derive(Clone, Debug)]
pub enum Staging {
    /// One begins that hangs on this block of ours.
    Begin {
        /// The last block that it and our chain have both.
        fork: u64,
    },
    /// Its next blocks, in rising order.
    Add {
        /// Not empty.
        blocks: Vec<Block>,
    },
    /// It takes the place of our blocks above the fork, all at once.
    Publish {
        /// The new head, the last block added.
        tip: Tip,
    },
    /// It is let go, and our chain stays.
    Leave,
}

/// How far sync is, to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus {
    /// The last block that is stored: the head, or that of a branch on its way in, which may be lower.
    pub reached: u64,
    /// The highest number that a peer claims (or the target's), if it is above our head.
    pub target_number: Option<u64>,
    /// Headers verified and not yet stored.
    pub headers: u64,
    /// How many headers have come of those that fall from a trusted hash, while they do.
    pub falling: Option<Falling>,
    /// The first block that any peer with a better chain has, if all of them begin above the next one of ours.
    pub begins_above: Option<u64>,
    /// Requests in flight.
    pub in_flight: usize,
    /// Connected peers.
    pub peers: usize,
}

/// Headers that fall from a trusted hash to a block of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Falling {
    /// Those that have come.
    pub fetched: u64,
    /// All down to our head's number; unknown once they have fallen below it, on another branch than ours.
    pub all: Option<u64>,
}

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Monotonic.
    pub(super) ms: u64,
    /// Unix time.
    pub(super) s: u64,
}
