//! Checked blocks into a store, in batches.

use std::sync::Arc;
use std::time::Instant;

use alloy_primitives::B256;
use bytes::Bytes;
use cairn_store::{Head, NewBlock, NewBody, NewReceipts, Snapshot, Writer};

use super::branch::Branch;
use super::judge::{Checked, Judge};
use super::source::FileBlock;
use super::{ImportError, unix_s};
use crate::chain::receipts::Form;
use crate::chain::{Genesis, Rules, SealedHeader};
use crate::logging::{elapsed, short};

/// Blocks are stored when so many bytes wait: large enough for the store to write them once (its batch), small beside
/// any machine's memory.
pub(super) const BATCH_LIMIT_BYTES: usize = 16 << 20;
/// And when so many blocks wait, however small.
pub(super) const BATCH_LIMIT_BLOCKS: usize = 4096;

/// Receipts as a file has them.
pub type RawReceipts<'a> = (Form, &'a [u8]);

/// Adds checked blocks to a store, in batches.
pub struct Importer {
    writer: Writer,
    judge: Judge,
    waiting: Vec<Checked>,
    waiting_bytes: usize,
    late: Vec<(u64, B256, Vec<u8>)>,
    /// Bodies of stored blocks that have none.
    bodies: Vec<(u64, B256, Bytes)>,
    /// Of the two together.
    late_bytes: usize,
    receipts: u64,
    stored: u64,
    restored: u64,
}

/// Where a block of a file belongs.
pub(super) enum Place {
    /// It is stored.
    Known,
    /// Above the last one that was added.
    Next,
    /// Above this stored block, where another one is canonical.
    Branch(u64),
}

impl Importer {
    /// Goes on from the head that `writer` has.
    ///
    /// # Errors
    /// `Start` if the stored chain cannot be read.
    pub fn new(genesis: &Genesis, writer: Writer) -> Result<Importer, ImportError> {
        let snapshot = writer.reader().snapshot();
        let judge = Judge::at(Rules::new(genesis), &snapshot, snapshot.head().number)?;
        Ok(Importer {
            writer,
            judge,
            waiting: Vec::new(),
            waiting_bytes: 0,
            late: Vec::new(),
            bodies: Vec::new(),
            late_bytes: 0,
            restored: 0,
            receipts: 0,
            stored: 0,
        })
    }

    pub(super) fn rules(&self) -> &Rules {
        self.judge.rules()
    }

    /// Whether the seal of each block that was added was checked.
    pub(super) fn seals_checked(&self) -> bool {
        self.judge.seals_checked()
    }

    /// Number, hash and total difficulty of the last block that was added, stored or waiting.
    pub fn last(&self) -> Head {
        self.judge.last()
    }

    /// Blocks that were stored.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// Transactions in the blocks that were added.
    pub(super) fn transactions(&self) -> u64 {
        self.judge.transactions()
    }

    /// Blocks whose receipts were stored.
    pub(super) fn receipts(&self) -> u64 {
        self.receipts
    }

    /// Stored blocks whose missing bodies were put back.
    pub(super) fn restored(&self) -> u64 {
        self.restored
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.writer.reader().snapshot()
    }

    pub(super) fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// Counts blocks with receipts that were stored another way: below.
    pub(super) fn joined(&mut self, blocks: u64, transactions: u64) {
        self.stored += blocks;
        self.receipts += blocks;
        self.judge.count_transactions(transactions);
    }

    /// Where a file's next block belongs. `snapshot` is the store as it was found.
    pub(super) fn place(
        &self,
        snapshot: &Snapshot,
        header: &SealedHeader,
    ) -> Result<Place, ImportError> {
        let number = header.number();
        let head = snapshot.head();
        let is_fresh = self.stored == 0 && self.waiting.is_empty();
        if !is_fresh {
            return Ok(Place::Next);
        }
        if number > head.number {
            return match number == head.number + 1 {
                true => Ok(Place::Next),
                false => Err(ImportError::Gap {
                    number,
                    head: head.number,
                }),
            };
        }
        let hash = |number| snapshot.hash(number).map_err(ImportError::Store);
        let Some(stored) = hash(number)? else {
            return Err(ImportError::Below {
                number,
                first: snapshot.first_body(),
            });
        };
        if stored == header.hash {
            return Ok(Place::Known);
        }
        if let Some(fork) = number.checked_sub(1)
            && hash(fork)? == Some(header.header.parent_hash)
        {
            return Ok(Place::Branch(fork));
        }
        Err(ImportError::Fork {
            number,
            stored,
            found: header.hash,
        })
    }

    /// A branch that leaves the stored chain at block `fork`, below its head.
    pub(super) fn branch(&mut self, fork: u64) -> Result<Branch<'_>, ImportError> {
        self.store_late()?;
        let snapshot = self.snapshot();
        let judge = Judge::at(self.rules().clone(), &snapshot, fork)?;
        let old = self.judge.tip().cloned();
        let old = old.expect("a store with a block below its head knows its head");
        Ok(Branch::new(&mut self.writer, judge, old))
    }

    /// Checks a block of a file that must hang on the last one added. It is stored with its batch.
    pub(super) fn add_block(&mut self, block: FileBlock) -> Result<(), ImportError> {
        let checked = self.judge.check_block(block, unix_s())?;
        self.keep(checked)
    }

    /// Checks a block that must hang on the last one added, and its receipts if they are known. It is stored with its
    /// batch.
    ///
    /// # Errors
    /// `Header`, `Body` or `Receipts` says which rule it breaks; `Store` if its batch cannot be stored.
    pub fn add(
        &mut self,
        header: SealedHeader,
        body: Bytes,
        receipts: Option<RawReceipts<'_>>,
        offset_bytes: u64,
        now_s: u64,
    ) -> Result<(), ImportError> {
        let checked = self
            .judge
            .check(header, body, receipts, offset_bytes, now_s)?;
        self.keep(checked)
    }

    fn keep(&mut self, block: Checked) -> Result<(), ImportError> {
        self.waiting_bytes += block.bytes();
        self.waiting.push(block);
        if self.waiting_bytes >= BATCH_LIMIT_BYTES || self.waiting.len() >= BATCH_LIMIT_BLOCKS {
            self.store_waiting()?;
        }
        Ok(())
    }

    /// Keeps checked receipts of a block that is stored without.
    pub(super) fn add_late(
        &mut self,
        id: (u64, B256),
        receipts: Vec<u8>,
    ) -> Result<(), ImportError> {
        self.late_bytes += receipts.len();
        self.late.push((id.0, id.1, receipts));
        self.store_late_at(BATCH_LIMIT_BYTES)
    }

    /// Puts back the checked body of a stored block that has none.
    pub(super) fn add_body(&mut self, id: (u64, B256), body: Bytes) -> Result<(), ImportError> {
        self.late_bytes += body.len();
        self.bodies.push((id.0, id.1, body));
        self.store_late_at(BATCH_LIMIT_BYTES)
    }

    fn store_late_at(&mut self, limit_bytes: usize) -> Result<(), ImportError> {
        match self.late_bytes >= limit_bytes {
            true => self.store_late(),
            false => Ok(()),
        }
    }

    fn store_late(&mut self) -> Result<(), ImportError> {
        self.late_bytes = 0;
        if !self.bodies.is_empty() {
            let bodies: Vec<NewBody<'_>> = self
                .bodies
                .iter()
                .map(|(number, hash, body)| NewBody {
                    number: *number,
                    hash: *hash,
                    body,
                })
                .collect();
            self.writer
                .add_bodies(&bodies)
                .map_err(ImportError::Store)?;
            self.restored += bodies.len() as u64;
            self.bodies.clear();
        }
        if self.late.is_empty() {
            return Ok(());
        }
        let late: Vec<NewReceipts<'_>> = self
            .late
            .iter()
            .map(|(number, hash, receipts)| NewReceipts {
                number: *number,
                hash: *hash,
                receipts,
            })
            .collect();
        self.writer
            .add_receipts(&late)
            .map_err(ImportError::Store)?;
        self.receipts += late.len() as u64;
        self.late.clear();
        Ok(())
    }

    /// Stores all that waits: the end of a sound file.
    ///
    /// # Errors
    /// `Store`.
    pub fn store(&mut self) -> Result<Head, ImportError> {
        self.store_first(self.waiting.len())
    }

    /// Stores what waits, though not a last block that only the next one will vouch for: where no seal is checked, most
    /// fields of a header are vouched for by the hash in its child alone.
    fn store_waiting(&mut self) -> Result<Head, ImportError> {
        let unconfirmed = usize::from(!self.seals_checked());
        self.store_first(self.waiting.len().saturating_sub(unconfirmed))
    }

    /// Stores what is good when the next block was refused with `error`: if it does not link, and no seal is checked, the
    /// one before it is as likely the bad one.
    pub(super) fn store_before(&mut self, error: &ImportError) -> Result<Head, ImportError> {
        let is_link = matches!(error, ImportError::Header { error, .. }
            if error.fault().is_some_and(|fault| fault.field == "parentHash"));
        match is_link {
            true => self.store_waiting(),
            false => self.store(),
        }
    }

    fn store_first(&mut self, count: usize) -> Result<Head, ImportError> {
        self.store_late()?;
        let Some(head) = count.checked_sub(1).and_then(|last| self.waiting.get(last)) else {
            return Ok(self.writer.head());
        };
        let start = Instant::now();
        let waiting = &self.waiting[..count];
        let bytes: usize = waiting.iter().map(Checked::bytes).sum();
        let blocks: Vec<NewBlock<'_>> = waiting.iter().map(Checked::new_block).collect();
        let stored = self
            .writer
            .commit(&blocks, head.header.hash)
            .map_err(ImportError::Store)?;
        told(&stored, blocks.len() as u64, bytes, start);
        self.stored += count as u64;
        let with_receipts = blocks.iter().filter(|block| block.receipts.is_some());
        self.receipts += with_receipts.count() as u64;
        self.waiting.drain(..count);
        self.waiting_bytes -= bytes;
        Ok(stored)
    }
}

/// The line of the log that says how far the chain goes now.
pub(super) fn told(head: &Head, blocks: u64, bytes: usize, start: Instant) {
    log::info!(
        "Imported new chain segment number={} hash={} blocks={blocks} bytes={bytes} elapsed={}",
        head.number,
        short(&head.hash),
        elapsed(start.elapsed())
    );
}
