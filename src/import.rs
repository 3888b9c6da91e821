//! `cairn import`: checks the blocks of a file by the chain's rules and stores them, in order, until the first bad one.

mod era;
mod error;
mod importer;

use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cairn_store::{Head, Writer};
use serde::Serialize;

pub use era::EraFile;
pub use error::ImportError;
pub use importer::{Importer, RawReceipts};

use crate::blockfile::BlockFile;
use crate::chain::body::{body_of_block, split_block};
use crate::chain::{Genesis, SealedHeader};
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
            let mut progress = Progress::new("Importing", "bytes", file.bytes, quiet);
            let mut blocks = BlockFile::new(file.input);
            let read = read_all(&mut blocks, &mut importer, &mut known, &mut progress, stop);
            (None, blocks.offset_bytes(), read)
        }
        Found::Era(file) => {
            let read = era::import(&file, &mut importer, &mut known, quiet, stop);
            let summary = file.summary();
            (Some(summary.root.to_string()), summary.bytes, read)
        }
    };
    if let Err(error) = read {
        // A store that failed takes nothing more, and its first error is the one to tell.
        if !matches!(error, ImportError::Store(_)) {
            importer.store_before(&error)?;
        }
        return Err(error);
    }
    let head = importer.store()?;
    let first_header = importer.snapshot().first_header();
    let mut not_checked = match &accumulator {
        None => not_checked(importer.seals_checked()),
        Some(_) => not_checked_with_receipts(importer.seals_checked()),
    };
    if first_header > 0 {
        not_checked.push(format!(
            "what is below block {first_header}: it is not stored, and the file is trusted for it"
        ));
    }
    Ok(Imported {
        blocks: importer.stored(),
        known,
        transactions: importer.transactions(),
        receipts: importer.receipts(),
        accumulator,
        bytes,
        elapsed_ms: start.elapsed().as_millis() as u64,
        head_number: head.number,
        head_hash: head.hash.to_string(),
        not_checked,
    })
}

fn read_all(
    blocks: &mut BlockFile<impl Read>,
    importer: &mut Importer,
    known: &mut u64,
    progress: &mut Progress,
    stop: &AtomicBool,
) -> Result<(), ImportError> {
    let snapshot = importer.snapshot();
    let head = snapshot.head().number;
    while let Some(block) = blocks.next_block().map_err(ImportError::File)? {
        if stop.load(Ordering::Relaxed) {
            return Err(ImportError::Interrupted);
        }
        let offset_bytes = block.offset_bytes;
        let (raw_header, _) = split_block(&block.raw).map_err(|error| ImportError::Body {
            offset_bytes,
            error,
        })?;
        let header = SealedHeader::decode(block.raw.slice_ref(raw_header)).map_err(|error| {
            ImportError::Header {
                offset_bytes,
                error,
            }
        })?;
        let number = header.header.number;
        let next = importer.last().number + 1;
        if number <= head && importer.is_fresh() {
            match snapshot.hash(number).map_err(ImportError::Store)? {
                Some(stored) if stored == header.hash => {
                    *known += 1;
                    progress.set(blocks.offset_bytes());
                    continue;
                }
                Some(stored) => {
                    return Err(ImportError::Fork {
                        number,
                        stored,
                        found: header.hash,
                    });
                }
                None => {
                    let first = snapshot.first_body();
                    return Err(ImportError::Below { number, first });
                }
            }
        } else if number > next && importer.is_fresh() {
            return Err(ImportError::Gap { number, head });
        }
        let body = Bytes::from(
            body_of_block(&block.raw).map_err(|error| ImportError::Body {
                offset_bytes,
                error,
            })?,
        );
        importer.add(header, body, None, offset_bytes, unix_s())?;
        progress.set(blocks.offset_bytes());
    }
    Ok(())
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

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
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
        if let Some(root) = &self.accumulator {
            writeln!(f, "Era root {root}")?;
        }
        writeln!(f, "Head     {} {}", self.head_number, self.head_hash)?;
        for what in &self.not_checked {
            writeln!(f, "Not checked: {what}")?;
        }
        Ok(())
    }
}
