//! Checked blocks into a store, in batches.

use std::sync::Arc;
use std::time::Instant;

use alloy_primitives::{B256, U256};
use bytes::Bytes;
use cairn_store::{Head, NewBlock, NewReceipts, Snapshot, Writer};

use super::ImportError;
use crate::chain::receipts::{Form, Receipts};
use crate::chain::{Genesis, HeaderError, OmmerWindow, Rules, SealedHeader, Tip};
use crate::logging::{elapsed, short};
use crate::node::stored_tip;

/// Blocks are stored when so many bytes wait: large enough for the store to write them once (its batch), small beside
/// any machine's memory.
const BATCH_LIMIT_BYTES: usize = 16 << 20;
/// And when so many blocks wait, however small.
const BATCH_LIMIT_BLOCKS: usize = 4096;

/// Receipts as a file has them.
pub type RawReceipts<'a> = (Form, &'a [u8]);

/// Adds checked blocks to a store, in batches.
pub struct Importer {
    writer: Writer,
    rules: Rules,
    last: Last,
    ommers: OmmerWindow,
    seals_checked: bool,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    late: Vec<(u64, B256, Vec<u8>)>,
    late_bytes: usize,
    transactions: u64,
    receipts: u64,
    stored: u64,
}

/// What the next block hangs on.
enum Last {
    /// A block whose header is known.
    Block(Tip),
    /// A block that is known by name alone: the store begins above it, and has nothing yet.
    Below(Head),
}

/// A checked block that is not stored yet.
struct Waiting {
    header: Arc<SealedHeader>,
    body: Bytes,
    /// In eth/69's form.
    receipts: Option<Vec<u8>>,
    td: U256,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.header.raw.len() + self.body.len() + self.receipts.as_ref().map_or(0, Vec::len)
    }
}

impl Importer {
    /// Goes on from the head that `writer` has.
    ///
    /// # Errors
    /// `Start` if the stored chain cannot be read.
    pub fn new(genesis: &Genesis, writer: Writer) -> Result<Importer, ImportError> {
        let rules = Rules::new(genesis);
        let snapshot = writer.reader().snapshot();
        let stored = snapshot.head();
        let is_empty = stored.number > 0 && stored.number < snapshot.first_header();
        let last = match is_empty {
            true => Last::Below(stored),
            false => Last::Block(stored_tip(&rules, &writer).map_err(ImportError::Start)?),
        };
        let seals_checked = rules.seal_is_checked();
        let mut ommers = OmmerWindow::new();
        for number in stored.number.saturating_sub(OmmerWindow::BLOCKS - 1)..=stored.number {
            let header = snapshot.header(number).map_err(ImportError::Store)?;
            let body = snapshot.body(number).map_err(ImportError::Store)?;
            if let (Some(header), Some(body)) = (header, body) {
                let header =
                    SealedHeader::decode(Bytes::copy_from_slice(&header)).map_err(|error| {
                        ImportError::Header {
                            offset_bytes: 0,
                            error,
                        }
                    })?;
                ommers.push(&header, &body);
            }
        }
        Ok(Importer {
            writer,
            rules,
            last,
            ommers,
            seals_checked,
            waiting: Vec::new(),
            waiting_bytes: 0,
            late: Vec::new(),
            late_bytes: 0,
            transactions: 0,
            receipts: 0,
            stored: 0,
        })
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether the seal of each block that was added was checked.
    pub(super) fn seals_checked(&self) -> bool {
        self.seals_checked
    }

    /// Number, hash and total difficulty of the last block that was added, stored or waiting.
    pub fn last(&self) -> Head {
        match &self.last {
            Last::Below(head) => *head,
            Last::Block(tip) => Head {
                number: tip.header.header.number,
                hash: tip.header.hash,
                td: tip.td,
            },
        }
    }

    /// Whether no block was added yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.stored == 0 && self.waiting.is_empty()
    }

    /// Blocks that were stored.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// Transactions in the blocks that were added.
    pub(super) fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Blocks whose receipts were stored.
    pub(super) fn receipts(&self) -> u64 {
        self.receipts
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
        self.transactions += transactions;
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
        let body_error = |error| ImportError::Body {
            offset_bytes,
            error,
        };
        let header = Arc::new(header);
        if let Last::Block(parent) = &self.last {
            // A clique chain may pass its terminal total difficulty, after which nobody seals.
            self.seals_checked &= self.rules.seal_is_checked_after(parent);
        }
        let tip = self
            .extend(header.clone(), now_s)
            .map_err(|error| ImportError::Header {
                offset_bytes,
                error,
            })?;
        self.rules.check_body(&header, &body).map_err(body_error)?;
        self.ommers
            .check(&self.rules, &header, &body)
            .map_err(body_error)?;
        let receipts = receipts
            .map(|raw| check_receipts(&self.rules, &header, raw, offset_bytes))
            .transpose()?;
        self.ommers.push(&header, &body);
        self.transactions += crate::chain::body::transactions(&body).count() as u64;
        let block = Waiting {
            header,
            body,
            receipts,
            td: tip.td,
        };
        self.waiting_bytes += block.bytes();
        self.waiting.push(block);
        self.last = Last::Block(tip);
        if self.waiting_bytes >= BATCH_LIMIT_BYTES || self.waiting.len() >= BATCH_LIMIT_BLOCKS {
            self.store_waiting()?;
        }
        Ok(())
    }

    fn extend(&self, header: Arc<SealedHeader>, now_s: u64) -> Result<Tip, HeaderError> {
        match &self.last {
            Last::Block(tip) => self.rules.extend(tip, header, Some(now_s)),
            Last::Below(head) => {
                let parent = (head.number, head.hash, head.td);
                self.rules.begin_above(parent, header)
            }
        }
    }

    /// Keeps checked receipts of a block that is stored without.
    pub(super) fn add_late(
        &mut self,
        id: (u64, B256),
        receipts: Vec<u8>,
    ) -> Result<(), ImportError> {
        self.late_bytes += receipts.len();
        self.late.push((id.0, id.1, receipts));
        match self.late_bytes >= BATCH_LIMIT_BYTES {
            true => self.store_late(),
            false => Ok(()),
        }
    }

    fn store_late(&mut self) -> Result<(), ImportError> {
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
        self.late_bytes = 0;
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
        let unconfirmed = usize::from(!self.seals_checked);
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
        if !self.late.is_empty() {
            self.store_late()?;
        }
        let Some(head) = count.checked_sub(1).and_then(|last| self.waiting.get(last)) else {
            return Ok(self.writer.head());
        };
        let start = Instant::now();
        let bytes: usize = self.waiting[..count].iter().map(Waiting::bytes).sum();
        let blocks: Vec<NewBlock<'_>> = self.waiting[..count]
            .iter()
            .map(|block| NewBlock {
                number: block.header.header.number,
                hash: block.header.hash,
                td: block.td,
                header: &block.header.raw,
                body: &block.body,
                receipts: block.receipts.as_deref(),
            })
            .collect();
        let stored = self
            .writer
            .commit(&blocks, head.header.hash)
            .map_err(ImportError::Store)?;
        log::info!(
            "Imported new chain segment number={} hash={} blocks={} bytes={} elapsed={}",
            stored.number,
            short(&stored.hash),
            blocks.len(),
            bytes,
            elapsed(start.elapsed())
        );
        self.stored += count as u64;
        let with_receipts = blocks.iter().filter(|block| block.receipts.is_some());
        self.receipts += with_receipts.count() as u64;
        self.waiting.drain(..count);
        self.waiting_bytes -= bytes;
        Ok(stored)
    }
}

/// Checks receipts under their header and gives them in the form that is stored.
pub(super) fn check_receipts(
    rules: &Rules,
    header: &SealedHeader,
    (form, raw): RawReceipts<'_>,
    offset_bytes: u64,
) -> Result<Vec<u8>, ImportError> {
    let checked = Receipts::decode(form, raw)
        .map_err(|error| error.of(header.header.number, header.hash))
        .and_then(|receipts| {
            rules.check_receipts(header, &receipts)?;
            Ok(receipts.encode(Form::Eth69))
        });
    checked.map_err(|error| ImportError::Receipts {
        offset_bytes,
        error,
    })
}
