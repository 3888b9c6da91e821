//! What is wrong with an era1 file, and where.

use std::{fmt, io};

use super::Kind;

/// What is wrong with an era1 file: which file, which entry, which byte.
#[derive(Debug)]
pub struct Era1Error {
    /// The file.
    pub file: String,
    /// Where the entry begins in the file, or should begin.
    pub offset_bytes: u64,
    /// The entry that is there, or should be.
    pub entry: Kind,
    /// The block that the entry is of, where that is known.
    pub block: Option<u64>,
    /// What is wrong with it.
    pub problem: Box<Problem>,
}

/// What is wrong with an entry.
#[derive(Debug)]
pub enum Problem {
    /// The file cannot be read.
    Io(io::Error),
    /// The file ends inside the entry, or before it.
    Truncated {
        /// Bytes that the entry should have, with the eight before its data.
        expected_bytes: u64,
        /// How many of them are there.
        found_bytes: u64,
    },
    /// It is not what it has to be.
    Mismatch {
        /// What of it: `length`, `parentHash`, `root`.
        field: String,
        /// What it has to be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// It cannot be read.
    Malformed(String),
}

impl fmt::Display for Era1Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: byte {}, {}",
            self.file, self.offset_bytes, self.entry
        )?;
        if let Some(block) = self.block {
            write!(f, " of block {block}")?;
        }
        match &*self.problem {
            Problem::Io(source) => write!(f, ": cannot read: {source}"),
            Problem::Truncated {
                expected_bytes,
                found_bytes: 0,
            } => write!(
                f,
                ": expected {expected_bytes} bytes, found the end of the file; it is truncated"
            ),
            Problem::Truncated {
                expected_bytes,
                found_bytes,
            } => write!(
                f,
                ": expected {expected_bytes} bytes, found {found_bytes}; the file is truncated"
            ),
            Problem::Mismatch {
                field,
                expected,
                found,
            } => write!(f, ": {field}: expected {expected}, found {found}"),
            Problem::Malformed(what) => write!(f, ": {what}"),
        }
    }
}

impl std::error::Error for Era1Error {}
