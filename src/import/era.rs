//! Importing an era1 file: at the head, again, or below what is stored.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alloy_primitives::U256;
use cairn_store::{Head, NewBlock};

use super::importer::{Importer, check_receipts};
use super::{ImportError, unix_s};
use crate::chain::receipts::Form;
use crate::chain::{Genesis, Rules, Tip, body};
use crate::era1::{self, EraBlock, EraName, EraReader, Summary};
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

/// Imports the file, whichever way it joins what is stored.
pub(super) fn import(
    file: &EraFile,
    importer: &mut Importer,
    known: &mut u64,
    quiet: bool,
    stop: &AtomicBool,
) -> Result<(), ImportError> {
    let mut blocks = Blocks {
        reader: open(&file.path)?,
        progress: Progress::new("Importing", "bytes", file.summary.bytes, quiet),
        stop,
    };
    let first_kept = importer.snapshot().first_body();
    let first = file.summary.first;
    let end = first + file.summary.blocks;
    match (first < first_kept, end == first_kept) {
        (false, _) => at_head(&mut blocks, importer, known),
        (true, true) => below(first, &mut blocks, importer),
        (true, false) => Err(ImportError::Below {
            number: end - 1,
            first: first_kept,
        }),
    }
}

/// The blocks of a file, read with progress until somebody stops it.
struct Blocks<'a> {
    reader: EraReader<File>,
    progress: Progress,
    stop: &'a AtomicBool,
}

impl Blocks<'_> {
    fn next(&mut self) -> Result<Option<EraBlock>, ImportError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(ImportError::Interrupted);
        }
        self.progress.set(self.reader.offset_bytes());
        self.reader.next_block().map_err(ImportError::Era1)
    }

    /// The total difficulty of the block read last is that of the chain.
    fn check_td(&self, expected: U256, block: &EraBlock) -> Result<(), ImportError> {
        match expected == block.td {
            true => Ok(()),
            false => Err(ImportError::Era1(self.reader.other_td(expected, block.td))),
        }
    }
}

/// Adds the blocks above the head, and what is missing of the others: their receipts.
fn at_head(
    blocks: &mut Blocks<'_>,
    importer: &mut Importer,
    known: &mut u64,
) -> Result<(), ImportError> {
    let snapshot = importer.snapshot();
    let head = snapshot.head().number;
    let mut is_first = true;
    while let Some(block) = blocks.next()? {
        let header = &block.header;
        let (number, hash) = (header.number(), header.hash);
        let is_first = std::mem::take(&mut is_first);
        if number > head {
            let last = importer.last();
            if importer.is_fresh() && number > last.number + 1 {
                return Err(ImportError::Gap { number, head });
            }
            // If it does not hang on the last one, that is what is wrong with it.
            if header.header.parent_hash == last.hash {
                blocks.check_td(last.td.saturating_add(header.header.difficulty), &block)?;
            }
            let receipts = Some((Form::Eth68, &block.receipts[..]));
            importer.add(
                block.header,
                block.body,
                receipts,
                block.offset_bytes,
                unix_s(),
            )?;
            continue;
        }
        match snapshot.hash(number).map_err(ImportError::Store)? {
            Some(stored) if stored == hash => {}
            Some(stored) => {
                return Err(ImportError::Fork {
                    number,
                    stored,
                    found: hash,
                });
            }
            None => {
                let first = snapshot.first_body();
                return Err(ImportError::Below { number, first });
            }
        }
        if is_first && let Some(td) = snapshot.td(number).map_err(ImportError::Store)? {
            blocks.check_td(td, &block)?;
        }
        let receipts = check_bodies(importer.rules(), &block)?;
        let kept = snapshot.receipts_stream(number);
        if kept.map_err(ImportError::Store)?.is_none() {
            importer.add_late((number, hash), receipts)?;
        }
        *known += 1;
    }
    Ok(())
}

/// Joins the file's blocks below the first one whose body is kept. Their headers are vouched for by the hash that it names.
fn below(first: u64, blocks: &mut Blocks<'_>, importer: &mut Importer) -> Result<(), ImportError> {
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
                Some(before) => rules.extend(before, header, None),
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
        let receipts = check_bodies(&rules, &block)?;
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

/// Checks body and receipts of a block whose header is vouched for, and gives the receipts as they are stored.
fn check_bodies(rules: &Rules, block: &EraBlock) -> Result<Vec<u8>, ImportError> {
    let offset_bytes = block.offset_bytes;
    rules
        .check_body(&block.header, &block.body)
        .map_err(|error| ImportError::Body {
            offset_bytes,
            error,
        })?;
    let raw = (Form::Eth68, &block.receipts[..]);
    check_receipts(rules, &block.header, raw, offset_bytes)
}
