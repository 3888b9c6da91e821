//! Reading an era's segment: from a number to checked bytes of the map.

use crate::error::Error;
use crate::format::{
    DATA_START, ENTRY_BYTES, ERA_BLOCKS, Entry, Kind, MAX_RECORD_BYTES, PAGE_BYTES, record_crc,
    slot_of,
};
use crate::mapped::Mapped;

/// Where a record's bytes are in its segment's map, and how long they are uncompressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// 0: the record is absent.
    pub(crate) raw: u32,
}

/// The record of block `number`, its checksum checked.
pub(crate) fn record(segment: &Mapped, number: u64) -> Result<Found, Error> {
    let mut found = None;
    records(segment, number, 1, |_, record, _| {
        found = Some(record);
        Ok(())
    })?;
    Ok(found.expect("one record was asked for"))
}

/// Calls `each` with `count` records in a row from block `first`, all in this era, each with its bytes and its checksum
/// checked.
pub(crate) fn records(
    segment: &Mapped,
    first: u64,
    count: u64,
    mut each: impl FnMut(u64, Found, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let slot = slot_of(first);
    debug_assert!(slot + count <= ERA_BLOCKS);
    let map = &segment.map;
    let mut start = if slot == 0 {
        0
    } else {
        entry(segment, slot - 1)?.end
    };
    for number in first..first + count {
        let entry = entry(segment, slot_of(number))?;
        let found = locate(segment, number, start, entry)?;
        map.populate(found.start, found.end)?;
        let bytes = &map[found.start..found.end];
        let crc = record_crc(number, segment.page.kind, entry.raw, bytes);
        if crc != entry.crc {
            return Err(Error::damaged(
                map.path(),
                found.start as u64,
                format!(
                    "checksum of block {number}: expected {:08x}, found {crc:08x}",
                    entry.crc
                ),
            ));
        }
        each(number, found, bytes)?;
        start = entry.end;
    }
    Ok(())
}

/// Checks that an entry's bytes are inside the file and its lengths can be.
fn locate(segment: &Mapped, number: u64, start: u64, entry: Entry) -> Result<Found, Error> {
    let map = &segment.map;
    let fault = |what: String| {
        Error::damaged(
            map.path(),
            PAGE_BYTES + slot_of(number) * ENTRY_BYTES,
            format!("entry of block {number}: {what}"),
        )
    };
    let place = |at: u64| {
        let at = usize::try_from(DATA_START.checked_add(at)?).ok()?;
        (at <= map.len()).then_some(at)
    };
    let (Some(from), Some(to)) = (place(start), place(entry.end)) else {
        return Err(fault(format!(
            "it ends at {} in a file of {} bytes",
            entry.end,
            map.len()
        )));
    };
    if from > to {
        return Err(fault(format!(
            "it ends at {}, before it starts at {start}",
            entry.end
        )));
    }
    let is_header = segment.page.kind == Kind::Headers;
    if entry.raw as usize > MAX_RECORD_BYTES || (is_header && entry.raw as usize != to - from) {
        return Err(fault(format!(
            "{} bytes are kept of a record of {}",
            to - from,
            entry.raw
        )));
    }
    if is_header && entry.raw == 0 {
        return Err(fault("a header of no bytes".into()));
    }
    Ok(Found {
        start: from,
        end: to,
        raw: entry.raw,
    })
}

pub(crate) fn entry(segment: &Mapped, slot: u64) -> Result<Entry, Error> {
    let at = (PAGE_BYTES + slot * ENTRY_BYTES) as usize;
    match segment.map.get(at..at + ENTRY_BYTES as usize) {
        Some(bytes) => {
            segment.map.populate(at, at + ENTRY_BYTES as usize)?;
            Ok(Entry::decode(bytes))
        }
        None => Err(Error::damaged(
            segment.map.path(),
            at as u64,
            "the file ends inside its table",
        )),
    }
}
