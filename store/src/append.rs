//! Appending to an era's segment: data behind the committed end, then the table entries, then one sync.

use std::path::Path;

use alloy_primitives::U256;

use crate::change::Edit;
use crate::error::Error;
use crate::file::{Disk, OutFile};
use crate::format::{
    DATA_START, ENTRY_BYTES, ERA_BLOCKS, Entry, Kind, PAGE_BYTES, Page, is_constant, record_crc,
    slot_of,
};
use crate::manifest::{Manifest, era_path};
use crate::pack::Part;
use crate::scale::{WRITE_BYTES, WRITEBACK_BYTES};
use crate::segment;
use crate::snappy::{Buffer, Compressor};
use crate::snapshot::Snapshot;

/// Memory of the buffer that is kept between commits, in bytes: a full write and one large body.
const KEEP_BYTES: usize = 4 << 20;

/// One segment being appended to. Dropped without [`Appender::finish`], what it wrote lies past the committed end.
pub(crate) struct Appender {
    file: OutFile,
    kind: Kind,
    buffer: Buffer,
    /// Where the data ends, with what is buffered, from the start of the data.
    end: u64,
    /// Up to here, from the start of the data, the kernel was told to begin writing to the disk.
    begun: u64,
    first: u64,
    entries: Vec<u8>,
}

impl Appender {
    /// Opens the segment that block `first` goes to, or makes it. `td` is the total difficulty before the block, if it is
    /// known and headers are meant.
    pub(crate) fn open(
        edit: &mut Edit<'_>,
        kind: Kind,
        first: u64,
        td: Option<U256>,
    ) -> Result<Appender, Error> {
        let era = first / ERA_BLOCKS;
        let Some(sequence) = edit.next.segment(kind, era) else {
            return Appender::make(edit, kind, first, td);
        };
        // The place behind the last record is taken from a record whose checksum was checked: a damaged entry must not
        // send new bytes over committed ones. (A segment that was cut in this change is a copy up to here.)
        let end = match slot_of(first) {
            0 => 0,
            slot => {
                let mapped = edit.old.segment(kind, era, slot)?;
                segment::record(&mapped, first - 1)?.end as u64 - DATA_START
            }
        };
        let file = edit
            .disk
            .open(&era_path(edit.old.dir(), kind, era, sequence))?;
        let mut buffer = std::mem::replace(&mut edit.work.buffer, Buffer::new());
        buffer.clear(KEEP_BYTES);
        Ok(Appender {
            file,
            kind,
            buffer,
            end,
            begun: end,
            first,
            entries: Vec::new(),
        })
    }

    /// Makes the segment whose first record is block `first`'s and names it: a new one or one that replaces another.
    pub(crate) fn make(
        edit: &mut Edit<'_>,
        kind: Kind,
        first: u64,
        td: Option<U256>,
    ) -> Result<Appender, Error> {
        edit.made(kind);
        let mut buffer = std::mem::replace(&mut edit.work.buffer, Buffer::new());
        buffer.clear(KEEP_BYTES);
        let path = edit
            .next
            .add_segment(edit.old.dir(), kind, first / ERA_BLOCKS);
        Appender::create(edit.disk, &path, &edit.next, kind, first, td, buffer)
    }

    /// As [`Appender::make`], outside an edit: at a path, for a MANIFEST that names it.
    pub(crate) fn create(
        disk: &Disk,
        path: &Path,
        next: &Manifest,
        kind: Kind,
        first: u64,
        td: Option<U256>,
        buffer: Buffer,
    ) -> Result<Appender, Error> {
        let era = first / ERA_BLOCKS;
        let sequence = next.tip; // a change's files all carry its sequence
        let file = disk.create(path)?;
        let page = Page {
            kind,
            store_id: next.store_id,
            sequence,
            era: u32::try_from(era).expect("2^32 eras are more blocks than fit a disk"),
            salt: 0,
            entries: ERA_BLOCKS,
            level: 0,
            rest_crc: 0,
            td: if kind == Kind::Headers {
                td
            } else {
                Some(U256::ZERO)
            },
        };
        let mut start = page.encode();
        start.resize(DATA_START as usize, 0);
        file.write_at(0, &start)?;
        Ok(Appender {
            file,
            kind,
            buffer,
            end: 0,
            begun: 0,
            first,
            entries: Vec::new(),
        })
    }

    /// The number of the block that is appended next.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64 / ENTRY_BYTES
    }

    /// Appends a record as it is kept elsewhere.
    pub(crate) fn stored(&mut self, raw: u32, crc: u32, stored: &[u8]) -> Result<(), Error> {
        self.buffer.push(stored);
        self.entry(raw, crc, stored.len())
    }

    /// Appends the next block's record as it is kept in a settled segment of this kind, checked and unchanged.
    pub(crate) fn copy(&mut self, old: &Snapshot, number: u64) -> Result<(), Error> {
        debug_assert_eq!(number, self.next());
        let mapped = old.segment(self.kind, number / ERA_BLOCKS, slot_of(number) + 1)?;
        let found = segment::record(&mapped, number)?;
        let stored = &mapped.map[found.start..found.end];
        let crc = record_crc(number, self.kind, found.raw, stored);
        self.stored(found.raw, crc, stored)
    }

    /// Appends a record whose kept bytes are its raw bytes.
    pub(crate) fn raw(&mut self, raw: &[u8]) -> Result<(), Error> {
        let crc = record_crc(self.next(), self.kind, raw.len() as u32, raw);
        self.stored(raw.len() as u32, crc, raw)
    }

    /// Appends a body or receipts, compressed here.
    pub(crate) fn compress(
        &mut self,
        raw: &[u8],
        compressor: &mut Compressor,
    ) -> Result<(), Error> {
        let start = self.buffer.len();
        if !is_constant(raw) {
            compressor.append(raw, &mut self.buffer);
        }
        let stored = &self.buffer.as_slice()[start..];
        let crc = record_crc(self.next(), self.kind, raw.len() as u32, stored);
        let length = stored.len();
        self.entry(raw.len() as u32, crc, length)
    }

    /// Appends records that were packed elsewhere.
    pub(crate) fn packed(&mut self, part: &Part) -> Result<(), Error> {
        if self.buffer.len() > 0 {
            self.flush()?;
        }
        if !part.bytes().is_empty() {
            self.file.write_at(DATA_START + self.end, part.bytes())?;
        }
        for kept in part.records() {
            self.push_entry(kept.raw, kept.crc, kept.stored);
        }
        self.begin_writeback();
        Ok(())
    }

    /// Says that the next block has no record of this kind.
    pub(crate) fn absent(&mut self) -> Result<(), Error> {
        let crc = record_crc(self.next(), self.kind, 0, &[]);
        self.entry(0, crc, 0)
    }

    fn push_entry(&mut self, raw: u32, crc: u32, length: usize) {
        self.end += length as u64;
        let end = self.end;
        self.entries
            .extend_from_slice(&Entry { end, raw, crc }.encode());
    }

    fn entry(&mut self, raw: u32, crc: u32, length: usize) -> Result<(), Error> {
        self.push_entry(raw, crc, length);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let at = DATA_START + self.end - self.buffer.len() as u64;
        self.file.write_at(at, self.buffer.as_slice())?;
        self.buffer.clear(KEEP_BYTES);
        self.begin_writeback();
        Ok(())
    }

    /// Of whole MiB of the file: the last page will change once more.
    fn begin_writeback(&mut self) {
        let whole = |at: u64| (DATA_START + at) / WRITEBACK_BYTES * WRITEBACK_BYTES;
        let (from, to) = (whole(self.begun), whole(self.end));
        if from < to {
            self.file.begin_writeback(from..to);
            self.begun = self.end;
        }
    }

    /// Writes what is left, makes all of it durable, and gives the buffer back.
    pub(crate) fn finish(self) -> Result<Buffer, Error> {
        let (file, buffer) = self.close()?;
        file.sync()?;
        Ok(buffer)
    }

    /// Writes what is left. The file is to be synced before a MANIFEST says that this is there.
    pub(crate) fn close(mut self) -> Result<(OutFile, Buffer), Error> {
        if self.buffer.len() > 0 {
            self.flush()?;
        }
        self.file.write_at(
            PAGE_BYTES + slot_of(self.first) * ENTRY_BYTES,
            &self.entries,
        )?;
        self.file.begin_writeback(0..DATA_START + self.end);
        Ok((self.file, self.buffer))
    }
}
