//! Compressing the records of a batch in parts, on several cores at once, for one thread to write in order.
//!
//! Most of what a batch costs is compression. The threads live no longer than one [`Packer::pack`] and touch no file: the
//! changes to the disk are made by the caller's thread, in the order of the blocks, as if there were no others.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};

use crate::error::Error;
use crate::format::{Kind, is_constant, record_crc};
use crate::scale::{PACK_LANES, PART_BYTES};
use crate::snappy::{Buffer, Compressor};

/// Parts that a lane is ahead of the writing: one that it works on and one that waits, packed or not. With the part that is given
/// to it before its oldest is taken back, three are with it at most.
const LANE_PARTS: usize = 2;
/// Memory of a part's buffer that is kept, in bytes: a part and one large body.
const KEEP_BYTES: usize = 1 << 20;

/// A record to be packed: its block's number, and its bytes if it has any.
pub(crate) type Raw<'a> = (u64, Option<&'a [u8]>);

/// How a record is kept.
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) raw: u32,
    pub(crate) crc: u32,
    pub(crate) stored: usize,
}

/// Records in a row as they are kept, end to end.
pub(crate) struct Part {
    compressor: Compressor,
    bytes: Buffer,
    records: Vec<Kept>,
}

impl Part {
    fn new() -> Part {
        Part {
            compressor: Compressor::new(),
            bytes: Buffer::new(),
            records: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    pub(crate) fn records(&self) -> &[Kept] {
        &self.records
    }

    fn fill(&mut self, kind: Kind, records: &[Raw<'_>]) {
        self.bytes.clear(KEEP_BYTES);
        self.records.clear();
        for &(number, raw) in records {
            let start = self.bytes.len();
            let raw = raw.unwrap_or_default();
            if !raw.is_empty() && !is_constant(raw) {
                self.compressor.append(raw, &mut self.bytes);
            }
            let stored = &self.bytes.as_slice()[start..];
            let length = raw.len() as u32;
            self.records.push(Kept {
                raw: length,
                crc: record_crc(number, kind, length, stored),
                stored: stored.len(),
            });
        }
    }
}

/// A thread that packs parts.
struct Lane<'a> {
    raw: SyncSender<(&'a [Raw<'a>], Part)>,
    packed: Receiver<Part>,
}

impl<'a> Lane<'a> {
    /// Starts one; `None` if the system has no thread to give.
    fn start<'s>(scope: &'s Scope<'s, '_>, kind: Kind) -> Option<Lane<'a>>
    where
        'a: 's,
    {
        let (raw, parts) = sync_channel::<(&'a [Raw<'a>], Part)>(LANE_PARTS);
        let (done, packed) = sync_channel(LANE_PARTS);
        let work = move || {
            for (records, mut part) in parts {
                part.fill(kind, records);
                if done.send(part).is_err() {
                    return; // what it is for has failed
                }
            }
        };
        let thread = thread::Builder::new().name("cairn-pack".to_owned());
        thread.spawn_scoped(scope, work).ok()?;
        Some(Lane { raw, packed })
    }
}

/// Packs records, with memory that is used again.
pub(crate) struct Packer {
    /// Threads at once; found out at the first batch.
    lanes: Option<usize>,
    spare: Vec<Part>,
}

impl Packer {
    pub(crate) fn new() -> Packer {
        Packer {
            lanes: None,
            spare: Vec::new(),
        }
    }

    /// Gives the memory back: a chain that is followed block by block needs none of it.
    pub(crate) fn rest(&mut self) {
        self.spare = Vec::new();
    }

    /// Calls `each` with the records of a kind, packed in parts, in order.
    pub(crate) fn pack(
        &mut self,
        kind: Kind,
        records: &[Raw<'_>],
        each: &mut dyn FnMut(&Part) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let parts = cut(records);
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let most = *self.lanes.get_or_insert_with(cores);
        let most = most.min(PACK_LANES).min(parts.len());
        let spare = &mut self.spare;
        thread::scope(|scope| {
            let wanted = if most > 1 { most } else { 0 };
            let lanes: Vec<_> = (0..wanted)
                .map_while(|_| Lane::start(scope, kind))
                .collect();
            if lanes.is_empty() {
                let mut part = spare.pop().unwrap_or_else(Part::new);
                for records in parts {
                    part.fill(kind, records);
                    each(&part)?;
                }
                spare.push(part);
                return Ok(());
            }
            let ahead = lanes.len() * LANE_PARTS;
            let lane = |i: usize| &lanes[i % lanes.len()];
            for i in 0..parts.len() + ahead {
                if let Some(records) = parts.get(i) {
                    let part = spare.pop().unwrap_or_else(Part::new);
                    let sent = lane(i).raw.send((records, part));
                    sent.expect("a lane takes parts until it is dropped");
                }
                if let Some(i) = i.checked_sub(ahead).filter(|&i| i < parts.len()) {
                    let part = lane(i).packed.recv();
                    let part = part.expect("a lane gives every part back");
                    each(&part)?;
                    spare.push(part);
                }
            }
            Ok(())
        })
    }
}

/// Cuts records into parts of some [`PART_BYTES`] uncompressed bytes.
fn cut<'a>(mut records: &'a [Raw<'a>]) -> Vec<&'a [Raw<'a>]> {
    let mut parts = Vec::new();
    while !records.is_empty() {
        let mut bytes = 0;
        let full = records.iter().position(|(_, raw)| {
            bytes += raw.map_or(0, <[u8]>::len);
            bytes >= PART_BYTES
        });
        let (part, rest) = records.split_at(full.map_or(records.len(), |at| at + 1));
        parts.push(part);
        records = rest;
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::snappy::decompress;

    fn packed(lanes: usize, records: &[Raw<'_>]) -> (Vec<u8>, Vec<(u32, u32, usize)>) {
        let mut packer = Packer::new();
        packer.lanes = Some(lanes);
        let (mut bytes, mut kept) = (Vec::new(), Vec::new());
        let mut each = |part: &Part| {
            bytes.extend_from_slice(part.bytes());
            let records = part.records().iter();
            kept.extend(records.map(|kept| (kept.raw, kept.crc, kept.stored)));
            Ok(())
        };
        packer.pack(Kind::Bodies, records, &mut each).unwrap();
        (bytes, kept)
    }

    #[test]
    fn lanes_give_what_one_thread_gives_in_order() {
        let bodies: Vec<Vec<u8>> = (0..400_usize)
            .map(|n| match n % 5 {
                0 => vec![0xc2, 0xc0, 0xc0],
                _ => (0..n * 37 % 60_000).map(|i| (i / 5 * n) as u8).collect(),
            })
            .collect();
        let records: Vec<Raw<'_>> = (7..)
            .zip(&bodies)
            .map(|(number, body)| (number, (number % 9 != 0).then_some(&body[..])))
            .collect();
        let (bytes, kept) = packed(1, &records);
        for lanes in [2, 3, 4] {
            assert!(packed(lanes, &records) == (bytes.clone(), kept.clone()));
        }
        let mut at = 0;
        for (&(number, raw), (length, crc, stored)) in records.iter().zip(kept) {
            let stored = &bytes[at..at + stored];
            at += stored.len();
            let raw = raw.unwrap_or_default();
            assert_eq!(length as usize, raw.len());
            assert_eq!(crc, record_crc(number, Kind::Bodies, length, stored));
            assert!(is_constant(raw) || decompress(raw.len(), stored).unwrap() == raw);
        }
        assert_eq!(at, bytes.len());
    }

    #[test]
    fn an_error_ends_the_lanes() {
        let body = vec![7; 3 * PART_BYTES];
        let records: Vec<Raw<'_>> = (0..40).map(|number| (number, Some(&body[..]))).collect();
        let mut packer = Packer::new();
        packer.lanes = Some(4);
        let mut seen = 0;
        let result = packer.pack(Kind::Bodies, &records, &mut |_| {
            seen += 1;
            if seen < 3 {
                Ok(())
            } else {
                Err(Error::Poisoned)
            }
        });
        assert!(matches!(result, Err(Error::Poisoned)));
        assert_eq!(seen, 3);
    }
}
