//! Why an import stops.

use std::fmt;

use alloy_primitives::{B256, U256};

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
    /// The total difficulty that the file gives a block is not what the chain before it makes of it.
    TotalDifficulty {
        /// Where the block begins in the file.
        offset_bytes: u64,
        /// The block.
        number: u64,
        /// What it has to be.
        expected: U256,
        /// What the file says.
        found: U256,
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
    /// Its chain is not the stored one, and what it hangs on is not stored either.
    Fork {
        /// The first block that differs.
        number: u64,
        /// The hash that is stored.
        stored: B256,
        /// The hash in the file.
        found: B256,
    },
    /// A block of a branch is not right, or the import of a branch was interrupted: none of it is kept.
    Branch {
        /// The last block that the branch and the stored chain have both.
        fork: u64,
        /// Why.
        error: Box<ImportError>,
    },
    /// The store failed.
    Store(cairn_store::Error),
    /// Ctrl-C.
    Interrupted,
}

impl ImportError {
    /// Whether it is about the file and does not name it: whoever tells it puts the name in front.
    pub fn wants_file_name(&self) -> bool {
        match self {
            ImportError::Start(_)
            | ImportError::Open(_)
            | ImportError::Era1(_)
            | ImportError::Store(_) => false,
            ImportError::Branch { error, .. } => error.wants_file_name(),
            _ => true,
        }
    }
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
            ImportError::TotalDifficulty {
                offset_bytes,
                number,
                expected,
                found,
            } => write!(
                f,
                "block {number}: total difficulty: expected {expected}, found {found} (the block at byte {offset_bytes} of the file)"
            ),
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
                "the file's chain is another one from below block {number} on: hash: expected {stored} (stored), found {found}; \
                 a branch is imported from a file that has all its blocks above one that is stored"
            ),
            ImportError::Branch { fork, error } => write!(
                f,
                "{error}; the stored chain stands as it was: of a branch, this one from block {} on, all or nothing is kept",
                fork + 1
            ),
            ImportError::Store(error) => error.fmt(f),
            ImportError::Interrupted => {
                f.write_str("interrupted; run the same command again to go on")
            }
        }
    }
}

impl std::error::Error for ImportError {}
