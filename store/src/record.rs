//! A record's bytes as a reader is handed them: where they are mapped, checked, and kept mapped while held.

use std::marker::PhantomData;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use crate::file::Map;
use crate::snapshot::Snapshot;

/// A record's bytes, their checksum checked. They stay readable as long as this is held, whatever is committed since.
#[derive(Clone)]
pub struct Record<'a> {
    bytes: Bytes,
    snapshot: PhantomData<&'a Snapshot>,
}

#[derive(Clone)]
enum Bytes {
    Mapped {
        map: Arc<Map>,
        start: usize,
        end: usize,
    },
    Constant(&'static [u8]),
}

impl Record<'_> {
    pub(crate) fn mapped(map: Arc<Map>, start: usize, end: usize) -> Self {
        Record {
            bytes: Bytes::Mapped { map, start, end },
            snapshot: PhantomData,
        }
    }

    pub(crate) fn constant(bytes: &'static [u8]) -> Self {
        Record {
            bytes: Bytes::Constant(bytes),
            snapshot: PhantomData,
        }
    }

    /// The file the bytes are in, and where.
    pub(crate) fn place(&self) -> Option<(&Path, u64)> {
        match &self.bytes {
            Bytes::Mapped { map, start, .. } => Some((map.path(), *start as u64)),
            Bytes::Constant(_) => None,
        }
    }
}

impl Deref for Record<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped { map, start, end } => &map[*start..*end],
            Bytes::Constant(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Record<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A body (or receipts) as it is kept: snappy elements without the length in front, ready for a wire message.
pub struct BodyStream<'a> {
    /// Uncompressed length, in bytes.
    pub raw_len: usize,
    /// The elements.
    pub stream: Record<'a>,
}
