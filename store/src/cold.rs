//! Settled blocks under a snapshot: the segments that hold them, and what must be there.

use std::sync::Arc;

use alloy_primitives::{B256, U256};

use crate::error::Error;
use crate::format::{ERA_BLOCKS, Kind, slot_of};
use crate::manifest;
use crate::mapped::{FileId, Mapped};
use crate::rlp;
use crate::segment;
use crate::snapshot::Snapshot;

impl Snapshot {
    /// A settled record, its checksum checked.
    pub(crate) fn cold(
        &self,
        kind: Kind,
        number: u64,
    ) -> Result<Option<(Arc<Mapped>, segment::Found)>, Error> {
        if !self.manifest.span(kind).contains(number) {
            return Ok(None);
        }
        let segment = self.segment(kind, number / ERA_BLOCKS, slot_of(number) + 1)?;
        let found = segment::record(&segment, number)?;
        Ok((found.raw > 0).then_some((segment, found)))
    }

    /// An era's segment, of which `need` slots are looked at.
    pub(crate) fn segment(&self, kind: Kind, era: u64, need: u64) -> Result<Arc<Mapped>, Error> {
        let Some(sequence) = self.manifest.segment(kind, era) else {
            let path = self.dir().join(manifest::COPIES[0]);
            return Err(Error::damaged(
                &path,
                216,
                format!("no segment of {} for era {era}", kind.name()),
            ));
        };
        let committed = self.manifest.span(kind).slots(era);
        self.mapped(
            FileId {
                kind,
                era,
                sequence,
            },
            need,
            committed,
        )
    }

    pub(crate) fn mapped(
        &self,
        id: FileId,
        need: u64,
        committed: u64,
    ) -> Result<Arc<Mapped>, Error> {
        match self.shared.maps.get(id, need, committed) {
            Err(e) if e.is_not_found() => {
                let dir = self.dir();
                let path = manifest::era_path(dir, id.kind, id.era, id.sequence);
                Err(
                    if manifest::find(dir)?.manifest.sequence == self.manifest.sequence {
                        Error::damaged(&path, 0, "the MANIFEST names this file and it is missing")
                    } else {
                        Error::Superseded { path }
                    },
                )
            }
            other => other,
        }
    }

    /// The hash of a settled block that must be there.
    pub(crate) fn expect_hash(&self, number: u64) -> Result<B256, Error> {
        let hash = match number.checked_add(1) {
            Some(end) if end == self.tip.base() => Some(self.tip.anchor().0),
            _ => self.hash(number)?,
        };
        hash.ok_or_else(|| self.missing(number))
    }

    /// The total difficulty of a settled block that must be there.
    pub(crate) fn expect_td(&self, number: u64) -> Result<U256, Error> {
        let td = match number.checked_add(1) {
            Some(end) if end == self.tip.base() => Some(self.tip.anchor().1),
            _ => self.td(number)?,
        };
        td.ok_or_else(|| self.missing(number))
    }

    fn missing(&self, number: u64) -> Error {
        let path = self.dir().join(manifest::COPIES[0]);
        Error::damaged(&path, 152, format!("block {number} is not kept"))
    }

    /// Calls `each` with the settled headers `first..end`, checksums checked.
    pub(crate) fn each_cold_header(
        &self,
        first: u64,
        end: u64,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut next = first;
        while next < end {
            let count = (ERA_BLOCKS - slot_of(next)).min(end - next);
            let segment = self.segment(Kind::Headers, next / ERA_BLOCKS, slot_of(next) + count)?;
            segment::records(&segment, next, count, |number, _, header| {
                each(number, header)
            })?;
            next += count;
        }
        Ok(())
    }

    /// Calls `each` with the hashes of the settled blocks `first..end`.
    pub(crate) fn each_cold_hash(
        &self,
        first: u64,
        end: u64,
        mut each: impl FnMut(u64, B256),
    ) -> Result<(), Error> {
        let cold_end = self.manifest.headers().end;
        if first >= end {
            return Ok(());
        }
        self.each_cold_header(first + 1, (end + 1).min(cold_end), |number, header| {
            let parent = rlp::parent(header).ok_or_else(|| {
                let path = self.dir().join(Kind::Headers.name());
                Error::damaged(
                    &path,
                    0,
                    format!("block {number} is not the RLP of a header"),
                )
            })?;
            each(number - 1, parent);
            Ok(())
        })?;
        if end == cold_end {
            each(end - 1, self.manifest.cold_hash);
        }
        Ok(())
    }
}

pub(crate) fn not_a_header(segment: &Mapped, at: usize, number: u64) -> Error {
    Error::damaged(
        segment.map.path(),
        at as u64,
        format!("block {number} is not the RLP of a header"),
    )
}
