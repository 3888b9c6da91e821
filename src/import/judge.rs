//! Judges blocks one after the other: what each hangs on, by which rules, and what is known after it.

use std::sync::Arc;

use alloy_primitives::U256;
use bytes::Bytes;
use cairn_store::{Head, NewBlock, Snapshot};

use super::source::FileBlock;
use super::{ImportError, RawReceipts};
use crate::chain::receipts::{Form, Receipts};
use crate::chain::{HeaderError, OmmerWindow, Rules, SealedHeader, Tip, body};
use crate::snapshots::Kept;
use crate::stored::tip_at;

/// The rules of a chain at its last judged block.
pub(super) struct Judge {
    rules: Rules,
    last: Last,
    ommers: OmmerWindow,
    seals_checked: bool,
    transactions: u64,
}

/// What the next block hangs on.
enum Last {
    /// A block whose header is known.
    Block(Tip),
    /// A block that is known by name alone: the store begins above it, and has nothing yet.
    Below(Head),
}

/// A block that was judged and found right.
pub(super) struct Checked {
    pub(super) header: Arc<SealedHeader>,
    body: Bytes,
    /// In eth/69's form.
    pub(super) receipts: Option<Vec<u8>>,
    td: U256,
}

impl Checked {
    pub(super) fn bytes(&self) -> usize {
        self.header.raw.len() + self.body.len() + self.receipts.as_ref().map_or(0, Vec::len)
    }

    /// The block as the store takes it.
    pub(super) fn new_block(&self) -> NewBlock<'_> {
        NewBlock {
            number: self.header.header.number,
            hash: self.header.hash,
            td: self.td,
            header: &self.header.raw,
            body: &self.body,
            receipts: self.receipts.as_deref(),
        }
    }
}

impl Judge {
    /// Goes on from canonical block `number`.
    ///
    /// # Errors
    /// `Start` or `Store` if the stored chain cannot be read.
    pub(super) fn at(rules: Rules, snapshot: &Snapshot, number: u64) -> Result<Judge, ImportError> {
        let head = snapshot.head();
        let is_empty = head.number > 0 && head.number < snapshot.first_header();
        let last = match is_empty {
            true => Last::Below(head),
            false => {
                let tip = tip_at(&rules, snapshot, number, &Kept::default());
                Last::Block(tip.map_err(ImportError::Start)?)
            }
        };
        let mut ommers = OmmerWindow::new();
        for number in number.saturating_sub(OmmerWindow::BLOCKS - 1)..=number {
            let header = snapshot.header(number).map_err(ImportError::Store)?;
            let body = snapshot.body(number).map_err(ImportError::Store)?;
            if let (Some(header), Some(body)) = (header, body) {
                let header = SealedHeader::decode(Bytes::copy_from_slice(&header));
                let header = header.map_err(|error| ImportError::Header {
                    offset_bytes: 0,
                    error,
                })?;
                ommers.push(&header, &body);
            }
        }
        Ok(Judge {
            seals_checked: rules.seal_is_checked(),
            rules,
            last,
            ommers,
            transactions: 0,
        })
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether the seal of each block that was judged was checked.
    pub(super) fn seals_checked(&self) -> bool {
        self.seals_checked
    }

    /// Transactions in the blocks that were judged.
    pub(super) fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Number, hash and total difficulty of the last block.
    pub(super) fn last(&self) -> Head {
        match &self.last {
            Last::Below(head) => *head,
            Last::Block(tip) => head_of(tip),
        }
    }

    /// All that is known at the last block, if more than its name is.
    pub(super) fn tip(&self) -> Option<&Tip> {
        match &self.last {
            Last::Below(_) => None,
            Last::Block(tip) => Some(tip),
        }
    }

    /// Judges the next block of a file, also by the total difficulty that the file gives it.
    ///
    /// # Errors
    /// As [`Judge::check`], and `TotalDifficulty`.
    pub(super) fn check_block(
        &mut self,
        block: FileBlock,
        now_s: u64,
    ) -> Result<Checked, ImportError> {
        let last = self.last();
        let header = &block.header.header;
        // If it does not hang on the last one, that is what is wrong with it.
        if header.parent_hash == last.hash {
            block.check_td(last.td.saturating_add(header.difficulty))?;
        }
        let receipts = block.receipts.as_deref().map(|raw| (Form::Eth68, raw));
        self.check(
            block.header,
            block.body,
            receipts,
            block.offset_bytes,
            now_s,
        )
    }

    /// Judges a block that must hang on the last one, and its receipts if they are known.
    ///
    /// # Errors
    /// `Header`, `Body` or `Receipts` says which rule it breaks.
    pub(super) fn check(
        &mut self,
        header: SealedHeader,
        body: Bytes,
        receipts: Option<RawReceipts<'_>>,
        offset_bytes: u64,
        now_s: u64,
    ) -> Result<Checked, ImportError> {
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
        self.transactions += body::transactions(&body).count() as u64;
        let checked = Checked {
            header,
            body,
            receipts,
            td: tip.td,
        };
        self.last = Last::Block(tip);
        Ok(checked)
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

    /// Counts transactions of blocks that were judged another way: below.
    pub(super) fn count_transactions(&mut self, count: u64) {
        self.transactions += count;
    }
}

/// A block's name.
pub(super) fn head_of(tip: &Tip) -> Head {
    Head {
        number: tip.header.header.number,
        hash: tip.header.hash,
        td: tip.td,
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
