//! Writing the tip log: a new one with what stays of the old, and frames behind it with zeros kept ahead of them.

use std::collections::HashSet;
use std::path::Path;

use alloy_primitives::B256;

use crate::error::Error;
use crate::file::{self, Disk, OutFile};
use crate::format::{Kind, PAGE_BYTES, Page};
use crate::frame::{self, FrameBuilder};
use crate::manifest::{Manifest, tip_path};
use crate::scale::{AHEAD_BYTES, FRAME_BYTES, KEEP_BLOCKS, KEEP_BYTES, SMALL_FRAME_BYTES};
use crate::tip::TipIndex;

/// The tip log that frames are appended to.
pub(crate) struct TipLog {
    file: OutFile,
    salt: u64,
    /// Up to here bytes are written, zeros or not.
    written: u64,
}

impl TipLog {
    /// Makes the log that a manifest names. Nothing is durable yet.
    fn create(disk: &Disk, dir: &Path, manifest: &Manifest) -> Result<TipLog, Error> {
        let path = tip_path(dir, manifest.tip);
        let mut salt = [0; 8];
        file::fill_random(&mut salt).map_err(|e| Error::io(&path, "get a random salt", e))?;
        let salt = u64::from_le_bytes(salt);
        let file = disk.create(&path)?;
        let page = Page {
            kind: Kind::Tip,
            store_id: manifest.store_id,
            sequence: manifest.tip,
            era: 0,
            salt,
            entries: 0,
            level: 0,
            rest_crc: 0,
            td: Some(alloy_primitives::U256::ZERO),
        };
        file.write_at(0, &page.encode())?;
        Ok(TipLog::of(file, salt, PAGE_BYTES))
    }

    /// The log in a file of which so many bytes are written.
    pub(crate) fn of(file: OutFile, salt: u64, written: u64) -> TipLog {
        TipLog {
            file,
            salt,
            written,
        }
    }

    /// Writes a frame behind the index's end, names the head and enters it into the index. Nothing is durable yet.
    pub(crate) fn append(
        &mut self,
        frame: &mut FrameBuilder,
        index: &mut TipIndex,
        head_number: u64,
        head: B256,
    ) -> Result<(), Error> {
        let at = index.end;
        let bytes = frame.finish(index, self.salt, head_number, head);
        self.file.write_at(at, bytes)?;
        let end = at + bytes.len() as u64;
        if end > self.written {
            self.written = end;
            if (bytes.len() as u64) < SMALL_FRAME_BYTES {
                self.file.write_at(end, &vec![0; AHEAD_BYTES as usize])?;
                self.written += AHEAD_BYTES;
            }
        }
        let fault = |what| Error::damaged(self.file.path(), at, what);
        frame.enter(index, head_number, head).map_err(fault)
    }

    /// The file, to be synced with others.
    pub(crate) fn file(&self) -> &OutFile {
        &self.file
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.refuse_deleted()?;
        self.file.sync()
    }

    /// Writes a closing frame behind the frames of the index. They must be durable already, or not count before this is
    /// too: it proves that they were, so that one that does not verify is damaged and not torn. It needs no sync of its
    /// own: lost, it proves nothing.
    pub(crate) fn close(&mut self, index: &TipIndex) -> Result<(), Error> {
        if let Some(page) = frame::closing(index, self.salt) {
            self.file.write_at(index.end, &page)?;
            self.written = self.written.max(index.end + PAGE_BYTES);
        }
        Ok(())
    }
}

/// Writes the frames of a new tip log.
pub(crate) struct TipWriter<'a> {
    log: TipLog,
    index: TipIndex,
    /// The frame that is being put together.
    pub(crate) frame: &'a mut FrameBuilder,
    taken: HashSet<B256>,
    /// The highest canonical block put in so far, or the last cold one.
    head: (u64, B256),
    /// What is left of the room for side blocks.
    side_blocks: usize,
    side_bytes: u64,
}

impl<'a> TipWriter<'a> {
    pub(crate) fn create(
        disk: &Disk,
        dir: &Path,
        manifest: &Manifest,
        frame: &'a mut FrameBuilder,
    ) -> Result<TipWriter<'a>, Error> {
        let log = TipLog::create(disk, dir, manifest)?;
        let index = TipIndex::new(manifest);
        let head = (index.base().saturating_sub(1), index.anchor().0);
        frame.clear();
        let (side_blocks, side_bytes) = (KEEP_BLOCKS, KEEP_BYTES);
        Ok(TipWriter {
            log,
            index,
            frame,
            taken: HashSet::new(),
            head,
            side_blocks,
            side_bytes,
        })
    }

    /// Whether a block goes in: a canonical one does, a side block if it hangs on one that did and there is room for it.
    pub(crate) fn takes(&mut self, number: u64, parent: B256, bytes: u64, canonical: bool) -> bool {
        if canonical {
            return true;
        }
        let hangs = match number.cmp(&self.index.base()) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => parent == self.index.anchor().0,
            std::cmp::Ordering::Greater => self.taken.contains(&parent),
        };
        if !hangs || self.side_blocks == 0 || self.side_bytes < bytes {
            return false;
        }
        self.side_blocks -= 1;
        self.side_bytes -= bytes;
        true
    }

    /// Writes the frame if the next block would make it too long.
    pub(crate) fn make_room(&mut self, bytes: u64) -> Result<(), Error> {
        if self.frame.records() > 0 && self.frame.len() + bytes > FRAME_BYTES {
            let (number, hash) = self.head;
            self.log.append(self.frame, &mut self.index, number, hash)?;
            self.frame.clear();
        }
        Ok(())
    }

    /// Notes that a block's records are in the frame.
    pub(crate) fn took(&mut self, number: u64, hash: B256, canonical: bool) {
        self.taken.insert(hash);
        if canonical {
            self.head = (number, hash);
        }
    }

    /// Writes the last frame, which names the head. To make the log and its name durable is the caller's.
    pub(crate) fn finish(
        mut self,
        head_number: u64,
        head: B256,
    ) -> Result<(TipLog, TipIndex), Error> {
        self.log
            .append(self.frame, &mut self.index, head_number, head)?;
        self.frame.clear();
        self.log.close(&self.index)?; // nothing counts before the MANIFEST names the log
        self.log.file.begin_writeback(0..self.index.end);
        Ok((self.log, self.index))
    }
}
