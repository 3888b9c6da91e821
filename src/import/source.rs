//! The blocks of a file, one after the other, whichever form it has: read with progress, until somebody stops it.

use std::fs::File;
use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};

use alloy_primitives::U256;
use bytes::Bytes;

use super::ImportError;
use crate::blockfile::BlockFile;
use crate::chain::SealedHeader;
use crate::chain::body::{body_of_block, split_block};
use crate::era1::{EraBlock, EraReader};
use crate::progress::Progress;

/// A file that is read on from block to block.
pub(super) enum Source<'a> {
    /// Blocks in RLP, back to back.
    Rlp(RlpBlocks<'a>),
    /// An era1 file.
    Era(Box<EraBlocks<'a>>),
}

/// A block as a file has it. Nothing in it is judged.
pub(super) struct FileBlock {
    /// Where it begins in the file.
    pub(super) offset_bytes: u64,
    pub(super) header: SealedHeader,
    pub(super) body: Bytes,
    /// In eth/68's form.
    pub(super) receipts: Option<Bytes>,
    /// Total difficulty up to and with it, as the file says.
    pub(super) td: Option<U256>,
}

impl FileBlock {
    /// The total difficulty that the file gives is that of the chain.
    ///
    /// # Errors
    /// `TotalDifficulty`.
    pub(super) fn check_td(&self, expected: U256) -> Result<(), ImportError> {
        match self.td.filter(|td| *td != expected) {
            None => Ok(()),
            Some(found) => Err(ImportError::TotalDifficulty {
                offset_bytes: self.offset_bytes,
                number: self.header.number(),
                expected,
                found,
            }),
        }
    }
}

impl Source<'_> {
    /// The next block, `None` at the end of the file.
    ///
    /// # Errors
    /// `File`, `Header` or `Body` with the place, `Era1`, `Interrupted`.
    pub(super) fn next(&mut self) -> Result<Option<FileBlock>, ImportError> {
        match self {
            Source::Rlp(blocks) => blocks.next(),
            Source::Era(blocks) => Ok(blocks.next()?.map(|block| FileBlock {
                offset_bytes: block.offset_bytes,
                header: block.header,
                body: block.body,
                receipts: Some(block.receipts),
                td: Some(block.td),
            })),
        }
    }

    /// How far the file is read.
    pub(super) fn offset_bytes(&self) -> u64 {
        match self {
            Source::Rlp(blocks) => blocks.file.offset_bytes(),
            Source::Era(blocks) => blocks.reader.offset_bytes(),
        }
    }
}

/// A file of blocks in RLP, of which the first bytes were read to see what it is.
pub(super) struct RlpBlocks<'a> {
    pub(super) file: BlockFile<std::io::Chain<Cursor<Vec<u8>>, File>>,
    pub(super) progress: Progress,
    pub(super) stop: &'a AtomicBool,
}

impl RlpBlocks<'_> {
    fn next(&mut self) -> Result<Option<FileBlock>, ImportError> {
        interrupted(self.stop)?;
        self.progress.set(self.file.offset_bytes());
        let Some(block) = self.file.next_block().map_err(ImportError::File)? else {
            return Ok(None);
        };
        let offset_bytes = block.offset_bytes;
        let body_error = |error| ImportError::Body {
            offset_bytes,
            error,
        };
        let (raw_header, _) = split_block(&block.raw).map_err(body_error)?;
        let header = SealedHeader::decode(block.raw.slice_ref(raw_header)).map_err(|error| {
            ImportError::Header {
                offset_bytes,
                error,
            }
        })?;
        Ok(Some(FileBlock {
            offset_bytes,
            header,
            body: Bytes::from(body_of_block(&block.raw).map_err(body_error)?),
            receipts: None,
            td: None,
        }))
    }
}

/// An era1 file that was checked.
pub(super) struct EraBlocks<'a> {
    pub(super) reader: EraReader<File>,
    pub(super) progress: Progress,
    pub(super) stop: &'a AtomicBool,
}

impl EraBlocks<'_> {
    /// The next block, `None` at the end of the file.
    ///
    /// # Errors
    /// `Era1`, `Interrupted`.
    pub(super) fn next(&mut self) -> Result<Option<EraBlock>, ImportError> {
        interrupted(self.stop)?;
        self.progress.set(self.reader.offset_bytes());
        self.reader.next_block().map_err(ImportError::Era1)
    }
}

fn interrupted(stop: &AtomicBool) -> Result<(), ImportError> {
    match stop.load(Ordering::Relaxed) {
        true => Err(ImportError::Interrupted),
        false => Ok(()),
    }
}
