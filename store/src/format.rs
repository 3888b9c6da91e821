//! The layout of the store's files, byte by byte: pages, table entries, frames, records and their checksums.
//!
//! The crate's documentation draws the same. Every integer is little-endian; crc is zlib's CRC-32.

use alloy_primitives::{B256, U256};

/// Size of the page a segment, a tip log and a run begin with, and what frames are aligned to, in bytes.
pub(crate) const PAGE_BYTES: u64 = 4096;
pub(crate) use crate::scale::ERA_BLOCKS;
/// Size of one entry of a segment's table, in bytes.
pub(crate) const ENTRY_BYTES: u64 = 16;
/// Where a segment's data begins: behind its page and its whole table.
pub(crate) const DATA_START: u64 = PAGE_BYTES + ERA_BLOCKS * ENTRY_BYTES;
/// Size of a frame's head in the tip log, in bytes.
pub(crate) const FRAME_HEAD_BYTES: usize = 72;
/// Size of a record's head in a frame, without the total difficulty that headers add, in bytes.
pub(crate) const RECORD_HEAD_BYTES: usize = 56;
/// Size of the total difficulty that follows the head of a header's record, in bytes.
pub(crate) const TD_BYTES: usize = 32;
/// A frame is at most this long: it is read whole to be believed. More goes as a batch.
pub(crate) const MAX_FRAME_BYTES: u64 = 16 << 20;
/// A record's uncompressed bytes: four times eth's largest message, and far below where 32 bits end.
pub(crate) const MAX_RECORD_BYTES: usize = 64 << 20;

const MAGIC: [u8; 8] = *b"CAIRN\0\0\x01";

/// What a file, or a record of the tip log, holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Kind {
    Headers,
    Bodies,
    Receipts,
    Tip,
    Run,
}

/// The kinds that have segments, in the order of the MANIFEST's columns.
pub(crate) const SEGMENT_KINDS: [Kind; 3] = [Kind::Headers, Kind::Bodies, Kind::Receipts];

impl Kind {
    pub(crate) const fn code(self) -> u32 {
        match self {
            Kind::Headers => 0,
            Kind::Bodies => 1,
            Kind::Receipts => 2,
            Kind::Tip => 3,
            Kind::Run => 4,
        }
    }

    /// The kind's column in the MANIFEST. Only segments have one.
    pub(crate) const fn column(self) -> usize {
        self.code() as usize
    }

    pub(crate) fn of_record(code: u32) -> Option<Kind> {
        SEGMENT_KINDS.into_iter().find(|kind| kind.code() == code)
    }

    /// The folder, or for the tip log the stem, of the kind's files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Headers => "headers",
            Kind::Bodies => "bodies",
            Kind::Receipts => "receipts",
            Kind::Tip => "tip",
            Kind::Run => "hash",
        }
    }
}

/// The checksum of one record: of what it is and of its stored bytes. The same in the tip log and in a segment.
pub(crate) fn record_crc(number: u64, kind: Kind, raw: u32, stored: &[u8]) -> u32 {
    let mut what = [0; 16];
    what[..8].copy_from_slice(&number.to_le_bytes());
    what[8..12].copy_from_slice(&kind.code().to_le_bytes());
    what[12..].copy_from_slice(&raw.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&what);
    crc.update(stored);
    crc.finalize()
}

/// The few bodies and receipts that need no stored bytes, by their uncompressed length: an empty body, an empty body with
/// withdrawals, no receipts. Wire-ready: a snappy literal of one tag byte, then the bytes.
pub(crate) fn constant_stream(raw: u32) -> Option<&'static [u8]> {
    match raw {
        3 => Some(&[0x08, 0xc2, 0xc0, 0xc0]),
        4 => Some(&[0x0c, 0xc3, 0xc0, 0xc0, 0xc0]),
        1 => Some(&[0x00, 0xc0]),
        _ => None,
    }
}

/// True if `bytes` are one of the constants that need no stored bytes.
pub(crate) fn is_constant(bytes: &[u8]) -> bool {
    // The longest constant has four bytes, so the cast never matters.
    bytes.len() <= 4
        && constant_stream(bytes.len() as u32).is_some_and(|stream| &stream[1..] == bytes)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

pub(crate) fn hash_at(bytes: &[u8], at: usize) -> B256 {
    B256::from(array::<32>(bytes, at))
}

pub(crate) fn td_at(bytes: &[u8], at: usize) -> U256 {
    U256::from_le_bytes(array::<32>(bytes, at))
}

/// The `N` bytes at `at`. The caller has seen that they are there.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Where a number's entry stands in its segment's table.
pub(crate) const fn slot_of(number: u64) -> u64 {
    number % ERA_BLOCKS
}

/// The next multiple of the page size.
pub(crate) const fn align_page(offset: u64) -> u64 {
    offset.next_multiple_of(PAGE_BYTES)
}

/// The first page of a segment, a tip log or a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Page {
    pub(crate) kind: Kind,
    pub(crate) store_id: [u8; 16],
    /// Sequence of the manifest that first names the file.
    pub(crate) sequence: u32,
    /// First era.
    pub(crate) era: u32,
    /// Random for each tip log, so that frames of an older file do not pass for ours. Else 0.
    pub(crate) salt: u64,
    /// Entries of a run, or of a segment's table.
    pub(crate) entries: u64,
    /// A run's level.
    pub(crate) level: u32,
    /// Checksum of what follows the page of a run.
    pub(crate) rest_crc: u32,
    /// Total difficulty before the first block of a segment of headers; `None` if unknown.
    pub(crate) td: Option<U256>,
}

impl Page {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES as usize];
        page[..8].copy_from_slice(&MAGIC);
        page[12..16].copy_from_slice(&self.kind.code().to_le_bytes());
        page[16..32].copy_from_slice(&self.store_id);
        page[32..36].copy_from_slice(&self.sequence.to_le_bytes());
        page[36..40].copy_from_slice(&self.era.to_le_bytes());
        page[40..48].copy_from_slice(&self.salt.to_le_bytes());
        page[48..56].copy_from_slice(&self.entries.to_le_bytes());
        page[56..60].copy_from_slice(&self.level.to_le_bytes());
        page[60..64].copy_from_slice(&self.rest_crc.to_le_bytes());
        page[64..96].copy_from_slice(&self.td.unwrap_or(U256::MAX).to_le_bytes::<32>());
        let crc = crc32fast::hash(&page[12..]);
        page[8..12].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Reads a page and checks that it is whole. Whether it is the page that was looked for is the caller's question.
    pub(crate) fn decode(page: &[u8]) -> Result<Page, String> {
        if page.len() < PAGE_BYTES as usize {
            return Err(format!(
                "the first page ends after {} of 4096 bytes",
                page.len()
            ));
        }
        let page = &page[..PAGE_BYTES as usize];
        if page[..8] != MAGIC {
            return Err("the file does not begin with CAIRN".to_owned());
        }
        let (found, expected) = (u32_at(page, 8), crc32fast::hash(&page[12..]));
        if found != expected {
            return Err(format!(
                "checksum of the first page: expected {expected:08x}, found {found:08x}"
            ));
        }
        let code = u32_at(page, 12);
        let kind = Kind::of_record(code).or(match code {
            3 => Some(Kind::Tip),
            4 => Some(Kind::Run),
            _ => None,
        });
        let td = td_at(page, 64);
        Ok(Page {
            kind: kind.ok_or_else(|| format!("kind {code} is not known"))?,
            store_id: array(page, 16),
            sequence: u32_at(page, 32),
            era: u32_at(page, 36),
            salt: u64_at(page, 40),
            entries: u64_at(page, 48),
            level: u32_at(page, 56),
            rest_crc: u32_at(page, 60),
            td: (td != U256::MAX).then_some(td),
        })
    }
}

/// One entry of a segment's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Where the record ends, from the start of the data.
    pub(crate) end: u64,
    /// Uncompressed length; 0: absent.
    pub(crate) raw: u32,
    pub(crate) crc: u32,
}

impl Entry {
    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES as usize] {
        let mut out = [0; ENTRY_BYTES as usize];
        out[..8].copy_from_slice(&self.end.to_le_bytes());
        out[8..12].copy_from_slice(&self.raw.to_le_bytes());
        out[12..].copy_from_slice(&self.crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Entry {
        Entry {
            end: u64_at(bytes, 0),
            raw: u32_at(bytes, 8),
            crc: u32_at(bytes, 12),
        }
    }
}

/// The head of a frame of the tip log, without its checksum, which is of everything behind itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FrameHead {
    pub(crate) records: u32,
    /// Length of the frame with this head, in bytes.
    pub(crate) length: u64,
    pub(crate) salt: u64,
    /// Frames are counted from 0.
    pub(crate) frame: u64,
    pub(crate) head_number: u64,
    pub(crate) head: B256,
}

impl FrameHead {
    /// Writes the head over the first bytes of `frame`, whose length it takes, and the checksum in front.
    pub(crate) fn seal(&self, frame: &mut [u8]) {
        frame[4..8].copy_from_slice(&self.records.to_le_bytes());
        frame[8..16].copy_from_slice(&self.length.to_le_bytes());
        frame[16..24].copy_from_slice(&self.salt.to_le_bytes());
        frame[24..32].copy_from_slice(&self.frame.to_le_bytes());
        frame[32..40].copy_from_slice(&self.head_number.to_le_bytes());
        frame[40..72].copy_from_slice(self.head.as_slice());
        let crc = crc32fast::hash(&frame[4..]);
        frame[..4].copy_from_slice(&crc.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> FrameHead {
        FrameHead {
            records: u32_at(bytes, 4),
            length: u64_at(bytes, 8),
            salt: u64_at(bytes, 16),
            frame: u64_at(bytes, 24),
            head_number: u64_at(bytes, 32),
            head: hash_at(bytes, 40),
        }
    }
}

/// The head of a record in a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RecordHead {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) raw: u32,
    pub(crate) stored: u32,
    pub(crate) crc: u32,
    pub(crate) hash: B256,
}

impl RecordHead {
    pub(crate) fn encode(&self) -> [u8; RECORD_HEAD_BYTES] {
        let mut out = [0; RECORD_HEAD_BYTES];
        out[..8].copy_from_slice(&self.number.to_le_bytes());
        out[8..12].copy_from_slice(&self.kind.code().to_le_bytes());
        out[12..16].copy_from_slice(&self.raw.to_le_bytes());
        out[16..20].copy_from_slice(&self.stored.to_le_bytes());
        out[20..24].copy_from_slice(&self.crc.to_le_bytes());
        out[24..56].copy_from_slice(self.hash.as_slice());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<RecordHead> {
        Some(RecordHead {
            number: u64_at(bytes, 0),
            kind: Kind::of_record(u32_at(bytes, 8))?,
            raw: u32_at(bytes, 12),
            stored: u32_at(bytes, 16),
            crc: u32_at(bytes, 20),
            hash: hash_at(bytes, 24),
        })
    }
}
