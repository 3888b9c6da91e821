//! Why an import stops.

use std::fmt;

use alloy_primitives::B256;

use crate::blockfile::BlockFileError;
use crate::chain::receipts::ReceiptsError;
use crate::chain::{BodyError, HeaderError};
use crate::era1::Era1Error;
use crate::node::NodeError;

/// Why an import stopped. What was stored before stays.
#[derive(Debug)]
pub enum ImportError {
    /// The store or the folder cannot be used.
    Start(NodeError),
    /// The file cannot be opened.
    Open(String),
    /// The file is no whole file of blocks.
    File(BlockFileError),
    /// A header in it breaks a rule.
    Header {
        /// Where its block begins in the file.
        offset_bytes: u64,
        /// Which rule.
        error: HeaderError,
    },
    /// A body in it breaks a rule.
    Body {
        /// Where its block begins in the file.
        offset_bytes: u64,
        /// Which rule.
        error: BodyError,
    },
    /// Receipts in it are not those of their block.
    Receipts {
        /// Where their block begins in the file.
        offset_bytes: u64,
        /// What is wrong with them.
        error: ReceiptsError,
    },
    /// It is no whole and true era1 file.
    Era1(Era1Error),
    /// Its name says that it is of another network.
    Network {
        /// The network of the data folder.
        expected: String,
        /// What the name says.
        found: String,
    },
    /// A block of it is below those that are stored, and does not join them.
    Below {
        /// Its number.
        number: u64,
        /// The first block that is stored whole.
        first: u64,
    },
    /// Its first block is too far above the stored head.
    Gap {
        /// The number of the file's first block that is not stored.
        number: u64,
        /// The stored head.
        head: u64,
    },
    /// Its chain leaves the stored one below the head.
    Fork {
        /// The first block that differs.
        number: u64,
        /// The hash that is stored.
        stored: B256,
        /// The hash in the file.
        found: B256,
    },
    /// The store failed.
    Store(cairn_store::Error),
    /// Ctrl-C.
    Interrupted,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Start(error) => error.fmt(f),
            ImportError::Open(why) => f.write_str(why),
            ImportError::File(error) => error.fmt(f),
            ImportError::Header {
                offset_bytes,
                error,
            } => write!(f, "{error} (the block at byte {offset_bytes} of the file)"),
            ImportError::Body {
                offset_bytes,
                error,
            } => write!(f, "{error} (the block at byte {offset_bytes} of the file)"),
            ImportError::Receipts {
                offset_bytes,
                error,
            } => write!(f, "{error} (the block at byte {offset_bytes} of the file)"),
            ImportError::Era1(error) => error.fmt(f),
            ImportError::Network { expected, found } => write!(
                f,
                "the file's name says {found}, but the data folder is of {expected}; name the chain with --mainnet or \
                 --sepolia and a data folder of its own"
            ),
            ImportError::Below { number, first } => write!(
                f,
                "block {number} of the file is below block {first}, where what is stored begins, and the file does not end \
                 right below it: import the era1 file that does first"
            ),
            ImportError::Gap { number, head } => write!(
                f,
                "the file begins with block {number}, but the stored head is block {head}: import the blocks between first"
            ),
            ImportError::Fork {
                number,
                stored,
                found,
            } => write!(
                f,
                "the file's chain is another one from block {number} on: hash: expected {stored} (stored), found {found}; \
                 import it into a data folder of its own"
            ),
            ImportError::Store(error) => error.fmt(f),
            ImportError::Interrupted => {
                f.write_str("interrupted; run the same command again to go on")
            }
        }
    }
}

impl std::error::Error for ImportError {}
