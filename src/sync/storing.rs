//! What the machine decides, carried out against the store, and the stored chain as the machine looks at it: the same code for the
//! thread and for the simulation.

use std::cell::RefCell;
use std::sync::Arc;

use alloy_primitives::{B256, U256};
use bytes::Bytes;
use cairn_store::{Error, NewBlock, NewReceipts, Reader, Replace, Snapshot, Writer};

use super::boundary::{Block, ChainView};
use super::receipts::Found;
use crate::chain::Tip;

/// Stores blocks, and gives the bytes of their headers and bodies.
pub(super) fn commit(writer: &mut Writer, blocks: &[Block], tip: &Tip) -> Result<usize, Error> {
    let (new, bytes) = new_blocks(blocks);
    writer.commit(&new, tip.header.hash)?;
    Ok(bytes)
}

/// Stores the next blocks of a branch, and gives the bytes of their headers and bodies.
pub(super) fn append(branch: &mut Replace<'_>, blocks: &[Block]) -> Result<usize, Error> {
    let (new, bytes) = new_blocks(blocks);
    branch.append(&new)?;
    Ok(bytes)
}

fn new_blocks(blocks: &[Block]) -> (Vec<NewBlock<'_>>, usize) {
    let new = blocks.iter().map(|block| NewBlock {
        number: block.header.header.number,
        hash: block.header.hash,
        td: block.td,
        header: &block.header.raw,
        body: &block.body,
        receipts: block.receipts.as_deref(),
    });
    let bytes = |block: &Block| block.header.raw.len() + block.body.len();
    (new.collect(), blocks.iter().map(bytes).sum())
}

/// What came of receipts that were to be kept.
pub(super) enum Kept {
    /// All their blocks have been replaced.
    None,
    /// These are stored.
    Stored {
        /// The first block.
        first: u64,
        /// The last one.
        last: u64,
        /// How many have receipts by it.
        blocks: usize,
        /// Bytes of receipts.
        bytes: usize,
    },
    /// Nothing was written: they lie too far from those that are kept.
    Refused {
        /// The first block.
        first: u64,
        /// The last one.
        last: u64,
        /// What the store says.
        error: Error,
    },
}

/// Keeps receipts of stored blocks, those of blocks left out that are not canonical any more.
pub(super) fn keep(writer: &mut Writer, found: &[Found]) -> Result<Kept, Error> {
    let snapshot = writer.reader().snapshot();
    let mut new = Vec::with_capacity(found.len());
    for Found {
        number,
        hash,
        receipts,
    } in found
    {
        if snapshot.hash(*number)? == Some(*hash) {
            new.push(NewReceipts {
                number: *number,
                hash: *hash,
                receipts,
            });
        }
    }
    let (Some(first), Some(last)) = (new.first(), new.last()) else {
        return Ok(Kept::None);
    };
    let (first, last) = (first.number, last.number);
    match writer.add_receipts(&new) {
        Ok(()) => Ok(Kept::Stored {
            first,
            last,
            blocks: new.len(),
            bytes: new.iter().map(|new| new.receipts.len()).sum(),
        }),
        Err(error @ Error::BadBlock { .. }) => Ok(Kept::Refused { first, last, error }),
        Err(error) => Err(error),
    }
}

/// The stored canonical chain, as the machine looks at it. A read that fails is kept: the node ends with it.
pub(super) struct View {
    snapshot: Arc<Snapshot>,
    failed: RefCell<Option<Error>>,
}

impl View {
    /// What is stored now.
    pub(super) fn of(reader: &Reader) -> View {
        View {
            snapshot: reader.snapshot(),
            failed: RefCell::new(None),
        }
    }

    /// The first read that failed, if one did.
    pub(super) fn failed(self) -> Option<Error> {
        self.failed.into_inner()
    }

    fn keep<T>(&self, read: Result<Option<T>, Error>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            None
        })
    }
}

impl ChainView for View {
    fn header(&self, number: u64) -> Option<Bytes> {
        self.keep(self.snapshot.header(number))
            .map(|record| Bytes::copy_from_slice(&record))
    }

    fn hash(&self, number: u64) -> Option<B256> {
        self.keep(self.snapshot.hash(number))
    }

    fn number(&self, hash: &B256) -> Option<u64> {
        self.keep(self.snapshot.number(hash))
    }

    fn td(&self, number: u64) -> Option<U256> {
        self.keep(self.snapshot.td(number))
    }

    fn lowest_fork(&self) -> u64 {
        self.snapshot.first_header()
    }

    fn has_receipts(&self, number: u64) -> bool {
        let has = self.snapshot.has_receipts(number).map(Some);
        self.keep(has).unwrap_or(false)
    }
}
