//! What the machine decides, carried out against the store, and the stored chain as the machine looks at it: the same code for the
//! thread and for the simulation.

use std::cell::RefCell;
use std::sync::Arc;

use alloy_primitives::{B256, U256};
use bytes::Bytes;
use cairn_store::{Error, NewBlock, NewReceipts, Reader, Replace, Snapshot, Writer};

use super::boundary::{Block, ChainView};
use super::receipts::Found;
use super::tasks::Tasks;
use crate::chain::Tip;

/// Stores blocks.
pub(super) fn commit(writer: &mut Writer, blocks: &[Block], tip: &Tip) -> Result<(), Error> {
    writer
        .commit(&new_blocks(blocks), tip.header.hash)
        .map(|_| ())
}

/// Stores the next blocks of a branch.
pub(super) fn append(branch: &mut Replace<'_>, blocks: &[Block]) -> Result<(), Error> {
    branch.append(&new_blocks(blocks))
}

/// Blocks as the store takes them.
pub(crate) fn new_blocks(blocks: &[Block]) -> Vec<NewBlock<'_>> {
    let new = blocks.iter().map(|block| NewBlock {
        number: block.header.header.number,
        hash: block.header.hash,
        td: block.td,
        header: &block.header.raw,
        body: &block.body,
        receipts: block.receipts.as_deref(),
    });
    new.collect()
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

/// Our chain as the machine looks at it: what is stored, and what is on its way into the store. A read that fails is kept: the node ends
/// with it.
pub(super) struct View<'a> {
    snapshot: Arc<Snapshot>,
    tasks: &'a Tasks,
    failed: RefCell<Option<Error>>,
}

impl<'a> View<'a> {
    /// What is stored now, and what `tasks` will have stored.
    pub(super) fn of(reader: &Reader, tasks: &'a Tasks) -> View<'a> {
        View {
            snapshot: reader.snapshot(),
            tasks,
            failed: RefCell::new(None),
        }
    }

    /// The first read that failed, if one did.
    pub(super) fn failed(self) -> Option<Error> {
        self.failed.into_inner()
    }

    /// Where block `number` of our chain is. The snapshot may have what is on its way or not: it is not asked for that.
    fn place(&self, number: u64) -> Place<'_> {
        for run in self.tasks.runs() {
            let first = run[0].header.header.number;
            if let Some(above) = number.checked_sub(first) {
                // The newest run ends with the head; an older one counts up to where a newer one begins.
                let block = usize::try_from(above).ok().and_then(|above| run.get(above));
                return block.map_or(Place::Nowhere, Place::OnItsWay);
            }
        }
        Place::Stored
    }

    fn keep<T>(&self, read: Result<Option<T>, Error>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            None
        })
    }

    fn look<T>(
        &self,
        number: u64,
        on_its_way: impl FnOnce(&Block) -> T,
        stored: impl FnOnce(&Snapshot) -> Result<Option<T>, Error>,
    ) -> Option<T> {
        match self.place(number) {
            Place::Nowhere => None,
            Place::OnItsWay(block) => Some(on_its_way(block)),
            Place::Stored => self.keep(stored(&self.snapshot)),
        }
    }
}

enum Place<'a> {
    Stored,
    OnItsWay(&'a Block),
    Nowhere,
}

impl ChainView for View<'_> {
    fn header(&self, number: u64) -> Option<Bytes> {
        let stored = |snapshot: &Snapshot| {
            let record = snapshot.header(number)?;
            Ok(record.map(|record| Bytes::copy_from_slice(&record)))
        };
        self.look(number, |block| block.header.raw.clone(), stored)
    }

    fn hash(&self, number: u64) -> Option<B256> {
        let stored = |snapshot: &Snapshot| snapshot.hash(number);
        self.look(number, |block| block.header.hash, stored)
    }

    fn td(&self, number: u64) -> Option<U256> {
        let stored = |snapshot: &Snapshot| snapshot.td(number);
        self.look(number, |block| block.td, stored)
    }

    fn lowest_fork(&self) -> u64 {
        self.snapshot.first_header()
    }

    fn has_receipts(&self, number: u64) -> bool {
        let stored = |snapshot: &Snapshot| snapshot.has_receipts(number).map(Some);
        let has = |block: &Block| block.receipts.is_some();
        let has = self.look(number, has, stored).unwrap_or(false);
        has || self
            .hash(number)
            .is_some_and(|hash| self.tasks.keeps(number, &hash))
    }
}
