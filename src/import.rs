//! `cairn import`: checks the blocks of a file by the chain's rules and stores them, in order, until the first bad one.

mod branch;
mod era;
mod error;
mod importer;
mod judge;
mod source;

use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use cairn_store::{Head, Snapshot, Writer};
use serde::Serialize;

pub use branch::{BranchReport, SideReport};
pub use era::EraFile;
pub use error::ImportError;
pub use importer::{Importer, RawReceipts};

use self::branch::Outcome;
use self::era::Joins;
use self::importer::Place;
use self::source::{FileBlock, RlpBlocks, Source};
use crate::blockfile::BlockFile;
use crate::chain::Genesis;
use crate::clock::unix_s;
use crate::era1;
use crate::logging::{elapsed, size};
use crate::progress::Progress;

/// What an import did.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// Blocks that were stored.
    pub blocks: u64,
    /// Blocks of the file that were stored already.
    pub known: u64,
    /// Of those, blocks whose missing bodies were put back.
    pub bodies_restored: u64,
    /// Transactions in the stored blocks.
    pub transactions: u64,
    /// Blocks whose receipts were stored.
    pub receipts: u64,
    /// The accumulator root of an era1 file.
    pub accumulator: Option<String>,
    /// Bytes read from the file.
    pub bytes: u64,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
    /// The head's number now.
    pub head_number: u64,
    /// The head's hash now.
    pub head_hash: String,
    /// What became of the file's chain, if it leaves the stored one below its head.
    pub branch: Option<BranchReport>,
    /// What was not checked, and why.
    pub not_checked: Vec<String>,
}

/// A file to import, of which is known what it is.
pub enum Found {
    /// Blocks in RLP, back to back.
    Blocks(BlocksFile),
    /// A whole era1 file.
    Era(EraFile),
}

/// A file of blocks in RLP.
pub struct BlocksFile {
    /// What was read to find that out, and the rest.
    input: std::io::Chain<Cursor<Vec<u8>>, File>,
    bytes: u64,
}

impl Found {
    /// Finds out by its content what `file` is. An era1 file is read to its end and checked but for the chain's rules, so that of one that is
    /// not whole nothing is stored.
    ///
    /// # Errors
    /// `Open`, or `Era1` with the place of the fault.
    pub fn open(file: &Path, quiet: bool, stop: &AtomicBool) -> Result<Found, ImportError> {
        let open =
            |e: std::io::Error| ImportError::Open(format!("cannot open {}: {e}", file.display()));
        let mut input = File::open(file).map_err(open)?;
        let meta = input.metadata().map_err(open)?;
        if meta.is_dir() {
            return Err(ImportError::Open(format!(
                "{} is a folder, not a file of blocks",
                file.display()
            )));
        }
        let mut head = Vec::new();
        (&mut input)
            .take(ERA1_TYPE.len() as u64)
            .read_to_end(&mut head)
            .map_err(open)?;
        if head != ERA1_TYPE {
            return Ok(Found::Blocks(BlocksFile {
                input: Cursor::new(head).chain(input),
                bytes: meta.len(),
            }));
        }
        if !meta.is_file() {
            return Err(ImportError::Open(format!(
                "{} is no regular file, and an era1 file is read twice: to check it and to import it",
                file.display()
            )));
        }
        EraFile::check(file, meta.len(), quiet, stop).map(Found::Era)
    }

    /// Of an era1 file that begins above genesis: the block below its first one.
    pub fn below(&self) -> Option<Head> {
        match self {
            Found::Blocks(_) => None,
            Found::Era(file) => file.below(),
        }
    }

    /// What the file's name says must not contradict the chain of the data folder.
    ///
    /// # Errors
    /// `Network`.
    pub fn check_network(&self, genesis: &Genesis) -> Result<(), ImportError> {
        match self {
            Found::Blocks(_) => Ok(()),
            Found::Era(file) => file.check_network(genesis),
        }
    }
}

/// The first bytes of an era1 file. RLP lists begin with others.
const ERA1_TYPE: &[u8] = &[era1::MAGIC[0], era1::MAGIC[1]];

/// Imports `file` into the store of `writer`: blocks in RLP or an era1 file, whichever it is. `stop` ends it after the
/// block in hand.
///
/// # Errors
/// `ImportError`; every block before the bad one is stored then, and none after it.
pub fn import(
    genesis: &Genesis,
    writer: Writer,
    file: &Path,
    quiet: bool,
    stop: &AtomicBool,
) -> Result<Imported, ImportError> {
    import_found(
        genesis,
        writer,
        Found::open(file, quiet, stop)?,
        quiet,
        stop,
    )
}

/// As [`import`], of a file that was looked at.
///
/// # Errors
/// As `import`.
pub fn import_found(
    genesis: &Genesis,
    writer: Writer,
    found: Found,
    quiet: bool,
    stop: &AtomicBool,
) -> Result<Imported, ImportError> {
    let start = Instant::now();
    found.check_network(genesis)?;
    let mut importer = Importer::new(genesis, writer)?;
    let mut known = 0;
    let (accumulator, bytes, read) = match found {
        Found::Blocks(file) => {
            let mut blocks = Source::Rlp(RlpBlocks {
                file: BlockFile::new(file.input),
                progress: Progress::new("Importing", "bytes", file.bytes, quiet),
                stop,
            });
            let read = add_all(&mut blocks, &mut importer, &mut known);
            (None, blocks.offset_bytes(), read)
        }
        Found::Era(file) => {
            let blocks = file.blocks(quiet, stop)?;
            let read = match file.joins(&importer.snapshot())? {
                Joins::Above => {
                    let mut blocks = Source::Era(Box::new(blocks));
                    add_all(&mut blocks, &mut importer, &mut known)
                }
                Joins::Below => era::join_below(&file, blocks, &mut importer).map(|()| None),
            };
            let summary = file.summary();
            (Some(summary.root.to_string()), summary.bytes, read)
        }
    };
    let outcome = match read {
        Ok(outcome) => outcome,
        Err(error) => {
            // A store that failed takes nothing more, and its first error is the one to tell.
            if !matches!(error, ImportError::Store(_)) {
                importer.store_before(&error)?;
            }
            return Err(error);
        }
    };
    let head = importer.store()?;
    let seals_checked = match &outcome {
        Some(outcome) => outcome.seals_checked,
        None => importer.seals_checked(),
    };
    let first_header = importer.snapshot().first_header();
    let mut not_checked = match &accumulator {
        None => not_checked(seals_checked),
        Some(_) => not_checked_with_receipts(seals_checked),
    };
    if first_header > 0 {
        not_checked.push(format!(
            "what is below block {first_header}: it is not stored, and the file is trusted for it"
        ));
    }
    let taken = outcome.as_ref().filter(|outcome| outcome.report.canonical);
    Ok(Imported {
        blocks: importer.stored() + taken.map_or(0, |taken| taken.report.branch.blocks),
        known,
        bodies_restored: importer.restored(),
        transactions: importer.transactions() + taken.map_or(0, |taken| taken.transactions),
        receipts: importer.receipts() + taken.map_or(0, |taken| taken.receipts),
        accumulator,
        bytes,
        elapsed_ms: start.elapsed().as_millis() as u64,
        head_number: head.number,
        head_hash: head.hash.to_string(),
        branch: outcome.map(|outcome| outcome.report),
        not_checked,
    })
}

/// Adds the blocks above the head, or a branch, and what is missing of the others: their receipts.
fn add_all(
    blocks: &mut Source<'_>,
    importer: &mut Importer,
    known: &mut u64,
) -> Result<Option<Outcome>, ImportError> {
    let snapshot = importer.snapshot();
    while let Some(block) = blocks.next()? {
        match importer.place(&snapshot, &block.header)? {
            Place::Next => importer.add_block(block)?,
            Place::Branch(fork) => return importer.branch(fork)?.import(block, blocks).map(Some),
            Place::Known => {
                // What was put back so far may have replaced files that an older view names.
                let snapshot = importer.snapshot();
                restore_body(&snapshot, importer, &block)?;
                if let Some(raw) = &block.receipts {
                    add_receipts(&snapshot, importer, &block, raw, *known == 0)?;
                }
                *known += 1;
            }
        }
    }
    Ok(None)
}

/// Puts a block's body back if a repair of the store left it out. What was pruned stays so.
fn restore_body(
    snapshot: &Snapshot,
    importer: &mut Importer,
    block: &FileBlock,
) -> Result<(), ImportError> {
    let (number, hash) = (block.header.number(), block.header.hash);
    let is_kept = snapshot.has_body(number).map_err(ImportError::Store)?;
    if is_kept || number < snapshot.first_body() {
        return Ok(());
    }
    let offset_bytes = block.offset_bytes;
    let checked = importer.rules().check_body(&block.header, &block.body);
    checked.map_err(|error| ImportError::Body {
        offset_bytes,
        error,
    })?;
    importer.add_body((number, hash), block.body.clone())
}

/// Keeps the receipts that a file has of a stored block, if there are none yet.
fn add_receipts(
    snapshot: &Snapshot,
    importer: &mut Importer,
    block: &FileBlock,
    receipts: &[u8],
    is_first: bool,
) -> Result<(), ImportError> {
    let (number, hash) = (block.header.number(), block.header.hash);
    // Summing up to a settled block takes its whole file: once is enough, for an era1 file's own sums were checked.
    if is_first && let Some(td) = snapshot.td(number).map_err(ImportError::Store)? {
        block.check_td(td)?;
    }
    let (body, offset_bytes) = (&block.body, block.offset_bytes);
    let receipts = era::check_bodies(
        importer.rules(),
        &block.header,
        body,
        receipts,
        offset_bytes,
    )?;
    let kept = snapshot.receipts_stream(number);
    match kept.map_err(ImportError::Store)? {
        Some(_) => Ok(()),
        None => importer.add_late((number, hash), receipts),
    }
}

/// What an import takes on trust, in the words of its report.
fn not_checked(seals_checked: bool) -> Vec<String> {
    let mut list = not_checked_with_receipts(seals_checked);
    let place = usize::from(!seals_checked);
    list[place] = "state roots, receipts roots, logs blooms, gas used and requests: transactions are not executed".into();
    list
}

/// The same where receipts are there, and vouch for what the headers say of them.
fn not_checked_with_receipts(seals_checked: bool) -> Vec<String> {
    let mut list = Vec::new();
    if !seals_checked {
        list.push("seals: proof of work and proof of stake are not verified; the file is trusted for them".into());
    }
    list.push("state roots and requests, and whether the receipts are true: transactions are not executed".into());
    list.push("the signatures of transactions".into());
    list
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Imported {} blocks ({} were there already), {} transactions, receipts of {} blocks, {} in {}",
            self.blocks,
            self.known,
            self.transactions,
            self.receipts,
            size(self.bytes),
            elapsed(Duration::from_millis(self.elapsed_ms))
        )?;
        if self.bodies_restored > 0 {
            writeln!(
                f,
                "Put back the missing bodies of {} blocks",
                self.bodies_restored
            )?;
        }
        if let Some(root) = &self.accumulator {
            writeln!(f, "Era root {root}")?;
        }
        if let Some(branch) = &self.branch {
            branch.fmt(f)?;
        }
        writeln!(f, "Head     {} {}", self.head_number, self.head_hash)?;
        for what in &self.not_checked {
            writeln!(f, "Not checked: {what}")?;
        }
        Ok(())
    }
}
