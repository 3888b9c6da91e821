//! What a peer did wrong with what it sent.

use std::fmt;

use alloy_primitives::B256;
use cairn_net::fault::Cause;

/// A peer's fault: it is disconnected for it and its work goes to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A header that does not decode, does not link to the one before it in the same answer or breaks a rule of the chain.
    BadHeader {
        /// The number at which the header was expected, or its own.
        number: u64,
        /// The rule, with what was expected and what was found.
        why: String,
    },
    /// A body that belongs to none of the headers it was asked for, or not to the header it was announced with.
    BadBody {
        /// The number of the block.
        number: u64,
        /// The rule, with what was expected and what was found.
        why: String,
    },
    /// Receipts that are none, or not those of the block they were asked for.
    BadReceipts {
        /// The number of the block.
        number: u64,
        /// The rule, with what was expected and what was found.
        why: String,
    },
    /// An answer under an id that we did not give to this peer, or of another kind than the request.
    UnaskedAnswer {
        /// The id on the answer.
        id: u64,
    },
    /// More items than were asked for, or more than one message may announce.
    TooManyItems {
        /// The most that was allowed.
        allowed: usize,
        /// What came.
        found: usize,
    },
    /// Headers other than those asked for: another number, another hash or another order.
    WrongOrder {
        /// What was expected where, and what was there.
        why: String,
    },
    /// No answer to what was asked, more than once.
    Stalled {
        /// For how long the last of them was awaited.
        waited_ms: u64,
    },
    /// Claims a better chain again and again and never has it.
    NoProgress {
        /// The head it claims.
        head: B256,
    },
}

impl Fault {
    /// What it is to the network, where its reason and its weight are: `cairn_net::fault`.
    pub fn cause(&self) -> Cause {
        match self {
            Fault::BadHeader { .. } | Fault::BadBody { .. } | Fault::BadReceipts { .. } => {
                Cause::FalseData
            }
            Fault::UnaskedAnswer { .. } | Fault::TooManyItems { .. } | Fault::WrongOrder { .. } => {
                Cause::WrongAnswer
            }
            Fault::Stalled { .. } => Cause::NoAnswer,
            Fault::NoProgress { .. } => Cause::EmptyClaims,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::BadHeader { number, why } => write!(f, "sent a bad header at {number}: {why}"),
            Fault::BadBody { number, why } => write!(f, "sent a bad body at {number}: {why}"),
            Fault::BadReceipts { number, why } => {
                write!(f, "sent bad receipts at {number}: {why}")
            }
            Fault::UnaskedAnswer { id } => {
                write!(f, "sent an answer that was not asked for (id {id})")
            }
            Fault::TooManyItems { allowed, found } => {
                write!(f, "sent {found} items where {allowed} were allowed")
            }
            Fault::WrongOrder { why } => write!(f, "sent other headers than were asked for: {why}"),
            Fault::Stalled { waited_ms } => write!(f, "gave no answer for {waited_ms} ms, again"),
            Fault::NoProgress { head } => {
                write!(
                    f,
                    "claims a better chain (head {head}) that it does not have"
                )
            }
        }
    }
}
