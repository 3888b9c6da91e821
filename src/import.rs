//! `cairn import`: checks the blocks of a file by the chain's rules and stores them, in order, until the first bad one.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cairn_store::{Head, NewBlock, Writer};
use serde::Serialize;

use crate::blockfile::{BlockFile, BlockFileError};
use crate::chain::body::{body_of_block, split_block};
use crate::chain::{BodyError, Genesis, HeaderError, OmmerWindow, Rules, SealedHeader, Tip};
use crate::logging::{elapsed, short, size};
use crate::node::{NodeError, stored_tip};
use crate::progress::Progress;

/// Blocks are stored when so many bytes wait: large enough for the store to write them once (its batch), small beside
/// any machine's memory.
const BATCH_LIMIT_BYTES: usize = 16 << 20;
/// And when so many blocks wait, however small.
const BATCH_LIMIT_BLOCKS: usize = 4096;

/// Why an import stopped. What was stored before stays.
#[derive(Debug)]
pub enum ImportError {
    /// The store or the folder cannot be used.
    Start(NodeError),
    /// The file cannot be opened.
    Open(String),
    /// The file is no whole file of blocks.
    File(BlockFileError),
    /// A header in it breaks a rule.
    Header {
        /// Where its block begins in the file.
        offset_bytes: u64,
        /// Which rule.
        error: HeaderError,
    },
    /// A body in it breaks a rule.
    Body {
        /// Where its block begins in the file.
        offset_bytes: u64,
        /// Which rule.
        error: BodyError,
    },
    /// Its first block is too far above the stored head.
    Gap {
        /// The number of the file's first block that is not stored.
        number: u64,
        /// The stored head.
        head: u64,
    },
    /// Its chain leaves the stored one below the head.
    Fork {
        /// The first block that differs.
        number: u64,
        /// The hash that is stored.
        stored: alloy_primitives::B256,
        /// The hash in the file.
        found: alloy_primitives::B256,
    },
    /// The store failed.
    Store(cairn_store::Error),
    /// Ctrl-C.
    Interrupted,
}

/// What an import did.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// Blocks that were stored.
    pub blocks: u64,
    /// Blocks of the file that were stored already.
    pub known: u64,
    /// Transactions in the stored blocks.
    pub transactions: u64,
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

/// Adds checked blocks to a store, in batches.
pub struct Importer {
    writer: Writer,
    rules: Rules,
    tip: Tip,
    ommers: OmmerWindow,
    waiting: Vec<(Arc<SealedHeader>, Bytes, alloy_primitives::U256)>,
    waiting_bytes: usize,
    transactions: u64,
    stored: u64,
}

impl Importer {
    /// Goes on from the head that `writer` has.
    ///
    /// # Errors
    /// `Start` if the stored chain cannot be read.
    pub fn new(genesis: &Genesis, writer: Writer) -> Result<Importer, ImportError> {
        let rules = Rules::new(genesis);
        let tip = stored_tip(&rules, &writer).map_err(ImportError::Start)?;
        let mut ommers = OmmerWindow::new();
        let snapshot = writer.reader().snapshot();
        let head = tip.header.header.number;
        for number in head.saturating_sub(OmmerWindow::BLOCKS - 1)..=head {
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
            tip,
            ommers,
            waiting: Vec::new(),
            waiting_bytes: 0,
            transactions: 0,
            stored: 0,
        })
    }

    /// Checks a block that must hang on the last one added. It is stored with its batch.
    ///
    /// # Errors
    /// `Header` or `Body` says which rule it breaks; `Store` if its batch cannot be stored.
    pub fn add(
        &mut self,
        header: SealedHeader,
        body: Bytes,
        offset_bytes: u64,
        now_s: u64,
    ) -> Result<(), ImportError> {
        let body_error = |error| ImportError::Body {
            offset_bytes,
            error,
        };
        let header = Arc::new(header);
        let tip = self
            .rules
            .extend(&self.tip, header.clone(), Some(now_s))
            .map_err(|error| ImportError::Header {
                offset_bytes,
                error,
            })?;
        self.rules.check_body(&header, &body).map_err(body_error)?;
        self.ommers
            .check(&self.rules, &header, &body)
            .map_err(body_error)?;
        self.ommers.push(&header, &body);
        self.transactions += crate::chain::body::transactions(&body).count() as u64;
        self.waiting_bytes += header.raw.len() + body.len();
        self.waiting.push((header, body, tip.td));
        self.tip = tip;
        if self.waiting_bytes >= BATCH_LIMIT_BYTES || self.waiting.len() >= BATCH_LIMIT_BLOCKS {
            self.store_waiting()?;
        }
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
        let unconfirmed = usize::from(!self.rules.seal_is_checked());
        self.store_first(self.waiting.len().saturating_sub(unconfirmed))
    }

    /// Stores what is good when the next block was refused with `error`: if it does not link, and no seal is checked, the
    /// one before it is as likely the bad one.
    fn store_before(&mut self, error: &ImportError) -> Result<Head, ImportError> {
        let is_link = matches!(error, ImportError::Header { error, .. }
            if error.fault().is_some_and(|fault| fault.field == "parentHash"));
        match is_link {
            true => self.store_waiting(),
            false => self.store(),
        }
    }

    fn store_first(&mut self, count: usize) -> Result<Head, ImportError> {
        let Some((head, _, _)) = count.checked_sub(1).and_then(|last| self.waiting.get(last))
        else {
            return Ok(self.writer.head());
        };
        let start = Instant::now();
        let bytes: usize = self.waiting[..count]
            .iter()
            .map(|(header, body, _)| header.raw.len() + body.len())
            .sum();
        let blocks: Vec<NewBlock<'_>> = self.waiting[..count]
            .iter()
            .map(|(header, body, td)| NewBlock {
                number: header.header.number,
                hash: header.hash,
                td: *td,
                header: &header.raw,
                body,
                receipts: None,
            })
            .collect();
        let stored = self
            .writer
            .commit(&blocks, head.hash)
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
        self.waiting.drain(..count);
        self.waiting_bytes -= bytes;
        Ok(stored)
    }
}

/// Imports `file` into the store of `writer`. `stop` ends it after the block in hand.
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
    let start = Instant::now();
    let open =
        |e: std::io::Error| ImportError::Open(format!("cannot open {}: {e}", file.display()));
    let input = File::open(file).map_err(open)?;
    let meta = input.metadata().map_err(open)?;
    if meta.is_dir() {
        return Err(ImportError::Open(format!(
            "{} is a folder, not a file of blocks",
            file.display()
        )));
    }
    let mut progress = Progress::new("Importing", "bytes", meta.len(), quiet);
    let mut importer = Importer::new(genesis, writer)?;
    let mut blocks = BlockFile::new(input);
    let mut known = 0;
    let read = read_all(&mut blocks, &mut importer, &mut known, &mut progress, stop);
    drop(progress);
    if let Err(error) = read {
        importer.store_before(&error)?;
        return Err(error);
    }
    let head = importer.store()?;
    Ok(Imported {
        blocks: importer.stored,
        known,
        transactions: importer.transactions,
        bytes: blocks.offset_bytes(),
        elapsed_ms: start.elapsed().as_millis() as u64,
        head_number: head.number,
        head_hash: head.hash.to_string(),
        not_checked: not_checked(&importer.rules),
    })
}

fn read_all(
    blocks: &mut BlockFile<File>,
    importer: &mut Importer,
    known: &mut u64,
    progress: &mut Progress,
    stop: &AtomicBool,
) -> Result<(), ImportError> {
    let snapshot = importer.writer.reader().snapshot();
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
        let next = importer.tip.header.header.number + 1;
        if number <= head && importer.stored == 0 && importer.waiting.is_empty() {
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
                None => {}
            }
        } else if number > next && importer.stored == 0 && importer.waiting.is_empty() {
            return Err(ImportError::Gap { number, head });
        }
        let body = Bytes::from(
            body_of_block(&block.raw).map_err(|error| ImportError::Body {
                offset_bytes,
                error,
            })?,
        );
        importer.add(header, body, offset_bytes, unix_s())?;
        progress.set(blocks.offset_bytes());
    }
    Ok(())
}

/// What an import takes on trust, in the words of its report.
pub fn not_checked(rules: &Rules) -> Vec<String> {
    let mut list = Vec::new();
    if !rules.seal_is_checked() {
        list.push("seals: proof of work and proof of stake are not verified; the file is trusted for them".into());
    }
    list.push("state roots, receipts roots, logs blooms, gas used and requests: transactions are not executed".into());
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
            "Imported {} blocks ({} were there already), {} transactions, {} in {}",
            self.blocks,
            self.known,
            self.transactions,
            size(self.bytes),
            elapsed(Duration::from_millis(self.elapsed_ms))
        )?;
        writeln!(f, "Head     {} {}", self.head_number, self.head_hash)?;
        for what in &self.not_checked {
            writeln!(f, "Not checked: {what}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Start(error) => error.fmt(f),
            ImportError::Open(why) => f.write_str(why),
            ImportError::File(error) => error.fmt(f),
            ImportError::Header {
                offset_bytes,
                error,
            } => write!(f, "{error} (the block at byte {offset_bytes} of the file)"),
            ImportError::Body {
                offset_bytes,
                error,
            } => write!(f, "{error} (the block at byte {offset_bytes} of the file)"),
            ImportError::Gap { number, head } => write!(
                f,
                "the file begins with block {number}, but the stored head is block {head}: import the blocks between first"
            ),
            ImportError::Fork {
                number,
                stored,
                found,
            } => write!(
                f,
                "the file's chain is another one from block {number} on: hash: expected {stored} (stored), found {found}; \
                 import it into a data folder of its own"
            ),
            ImportError::Store(error) => error.fmt(f),
            ImportError::Interrupted => {
                f.write_str("interrupted; run the same command again to go on")
            }
        }
    }
}

impl std::error::Error for ImportError {}
