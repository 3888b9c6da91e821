//! An era1 file to be imported: checked before, and joined below what is stored if it belongs there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_store::{Head, NewBlock, Snapshot};

use super::ImportError;
use super::importer::Importer;
use super::judge::check_receipts;
use super::source::EraBlocks;
use crate::chain::receipts::Form;
use crate::chain::{Genesis, Rules, SealedHeader, Tip, body};
use crate::era1::{self, EraName, EraReader, Summary};
use crate::progress::Progress;

/// A whole era1 file: every entry, checksum and place in it was checked, its headers are in a row, its accumulator and
/// what its name says are right.
pub struct EraFile {
    path: PathBuf,
    summary: Summary,
    below: Option<Head>,
}

impl EraFile {
    /// Reads all of the file.
    pub(super) fn check(
        path: &Path,
        bytes: u64,
        quiet: bool,
        stop: &AtomicBool,
    ) -> Result<EraFile, ImportError> {
        let mut reader = open(path)?;
        if reader.name().is_none() {
            log::warn!(
                "The file's name is no era1 file's, so it says nothing that could be checked file={}",
                path.display()
            );
        }
        let mut progress = Progress::new("Checking", "bytes", bytes, quiet);
        let mut below = None;
        let mut is_first = true;
        while let Some(block) = reader.next_block().map_err(ImportError::Era1)? {
            if stop.load(Ordering::Relaxed) {
                return Err(ImportError::Interrupted);
            }
            if std::mem::take(&mut is_first) {
                let header = &block.header.header;
                below = header.number.checked_sub(1).map(|number| Head {
                    number,
                    hash: header.parent_hash,
                    td: block.td - header.difficulty,
                });
            }
            progress.set(reader.offset_bytes());
        }
        let summary = reader.summary().expect("it was read to its end").clone();
        Ok(EraFile {
            path: path.into(),
            summary,
            below,
        })
    }

    /// What the file holds.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    pub(super) fn below(&self) -> Option<Head> {
        self.below
    }

    pub(super) fn check_network(&self, genesis: &Genesis) -> Result<(), ImportError> {
        let expected = era1::network(genesis);
        match EraName::of(&self.path) {
            Some(name) if !name.is_of(&expected) => Err(ImportError::Network {
                expected,
                found: name.network,
            }),
            _ => Ok(()),
        }
    }
}

fn open(path: &Path) -> Result<EraReader<File>, ImportError> {
    EraReader::open(path)
        .map_err(|e| ImportError::Open(format!("cannot open {}: {e}", path.display())))
}

/// How a file joins what is stored.
pub(super) enum Joins {
    /// Its blocks are stored, or go above stored ones.
    Above,
    /// It ends right below the first block whose body is kept.
    Below,
}

impl EraFile {
    /// How the file joins what is stored in `snapshot`.
    ///
    /// # Errors
    /// `Below` if it does not.
    pub(super) fn joins(&self, snapshot: &Snapshot) -> Result<Joins, ImportError> {
        let first_kept = snapshot.first_body();
        let (first, end) = (self.summary.first, self.summary.first + self.summary.blocks);
        match (first < first_kept, end == first_kept) {
            (false, _) => Ok(Joins::Above),
            (true, true) => Ok(Joins::Below),
            (true, false) => Err(ImportError::Below {
                number: end - 1,
                first: first_kept,
            }),
        }
    }

    /// The file's blocks, to be imported.
    pub(super) fn blocks<'a>(
        &self,
        quiet: bool,
        stop: &'a AtomicBool,
    ) -> Result<EraBlocks<'a>, ImportError> {
        Ok(EraBlocks {
            reader: open(&self.path)?,
            progress: Progress::new("Importing", "bytes", self.summary.bytes, quiet),
            stop,
        })
    }
}

/// Joins the file's blocks below the first one whose body is kept. Their headers are vouched for by the hash that it names.
pub(super) fn join_below(
    file: &EraFile,
    mut blocks: EraBlocks<'_>,
    importer: &mut Importer,
) -> Result<(), ImportError> {
    let first = file.summary.first;
    let rules = importer.rules().clone();
    // Those that are kept were judged when they came.
    let headers_join = first < importer.snapshot().first_header();
    let mut join = importer
        .writer()
        .join_below(first)
        .map_err(ImportError::Store)?;
    let mut before: Option<Tip> = None;
    let (mut count, mut transactions) = (0, 0);
    while let Some(block) = blocks.next()? {
        if headers_join {
            let header = Arc::new(block.header.clone());
            let tip = match &before {
                Some(before) => rules.extend_below(before, header),
                None => Ok(Tip {
                    header,
                    td: block.td,
                    clique: None,
                }),
            };
            before = Some(tip.map_err(|error| ImportError::Header {
                offset_bytes: block.offset_bytes,
                error,
            })?);
        }
        let (offset_bytes, raw) = (block.offset_bytes, &block.receipts);
        let receipts = check_bodies(&rules, &block.header, &block.body, raw, offset_bytes)?;
        join.push(&NewBlock {
            number: block.header.number(),
            hash: block.header.hash,
            td: block.td,
            header: &block.header.raw,
            body: &block.body,
            receipts: Some(&receipts),
        })
        .map_err(ImportError::Store)?;
        count += 1;
        transactions += body::transactions(&block.body).count() as u64;
    }
    let head = join.finish().map_err(ImportError::Store)?;
    log::info!(
        "Joined older history first={first} blocks={count} head={}",
        head.number
    );
    importer.joined(count, transactions);
    Ok(())
}

/// Checks body and receipts (in eth/68's form) of a block whose header is vouched for, and gives the receipts as they are stored.
pub(super) fn check_bodies(
    rules: &Rules,
    header: &SealedHeader,
    body: &[u8],
    receipts: &[u8],
    offset_bytes: u64,
) -> Result<Vec<u8>, ImportError> {
    rules
        .check_body(header, body)
        .map_err(|error| ImportError::Body {
            offset_bytes,
            error,
        })?;
    check_receipts(rules, header, (Form::Eth68, receipts), offset_bytes)
}
