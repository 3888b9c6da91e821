//! Why receipts are refused, and whose fault it is.

use std::fmt;

use alloy_primitives::B256;

use crate::chain::Fault;

/// Why the receipts of a block are refused. The three kinds have different culprits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReceiptsError {
    /// The bytes are no receipts: whoever sent them is at fault.
    Malformed(Box<Fault>),
    /// Receipts, but not those that the header commits to: whoever sent them is at fault, and somebody else may have the right ones.
    NotOfHeader(Box<Fault>),
    /// The receipts that the header commits to, and its other fields contradict them: the block is invalid, whoever sends it.
    Invalid(Box<Fault>),
}

impl ReceiptsError {
    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        match self {
            Self::Malformed(fault) | Self::NotOfHeader(fault) | Self::Invalid(fault) => fault,
        }
    }
}

impl ReceiptsError {
    /// The same error, of this block.
    pub(crate) fn of(self, number: u64, hash: B256) -> Self {
        let of = |fault: Box<Fault>| Box::new(fault.of(number, hash));
        match self {
            Self::Malformed(fault) => Self::Malformed(of(fault)),
            Self::NotOfHeader(fault) => Self::NotOfHeader(of(fault)),
            Self::Invalid(fault) => Self::Invalid(of(fault)),
        }
    }
}

impl fmt::Display for ReceiptsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault().fmt(f)
    }
}

impl std::error::Error for ReceiptsError {}
