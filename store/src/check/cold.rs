//! The settled part: every record of every segment, the header chain, and the hash index.

use alloy_primitives::{B256, U256, keccak256};

use super::Check;
use crate::error::Error;
use crate::file::InFile;
use crate::format::{
    DATA_START, ENTRY_BYTES, ERA_BLOCKS, Entry, Kind, MAX_RECORD_BYTES, PAGE_BYTES, Page,
    constant_stream, record_crc, slot_of,
};
use crate::manifest::{COPIES, Manifest, RunName, era_path};
use crate::rlp;
use crate::runs;
use crate::snappy;
use crate::snapshot::Snapshot;

/// How much of a segment's data is read at once, in bytes, if no record is longer.
const CHUNK_BYTES: usize = 1 << 20;

/// What the headers so far lead to.
struct Chain {
    /// Hash of the header before; unknown before the first and after a damaged one.
    hash: Option<B256>,
    td: Option<U256>,
}

impl Check<'_> {
    /// Checks the segments of one kind.
    pub(super) fn cold(&mut self, manifest: &Manifest, kind: Kind) -> Result<(), Error> {
        let span = manifest.span(kind);
        if span.first > span.end || span.end > manifest.headers().end {
            let at = 152 + 16 * kind.column() as u64;
            let what = format!(
                "{} {}..{}, headers end at {}",
                kind.name(),
                span.first,
                span.end,
                manifest.headers().end
            );
            self.problem(&self.dir.join(COPIES[0]), at, what);
            return Ok(());
        }
        let mut chain = Chain {
            hash: None,
            td: None,
        };
        let mut number = span.first;
        while number < span.end {
            let era = number / ERA_BLOCKS;
            let end = ((era + 1) * ERA_BLOCKS).min(span.end);
            let whole = match manifest.segment(kind, era) {
                Some(sequence) => {
                    let checked = self.segment(manifest, kind, sequence, number, end, &mut chain);
                    self.keep(checked)?.is_some()
                }
                None => {
                    let what = format!("no segment of {} for era {era}", kind.name());
                    self.problem(&self.dir.join(COPIES[0]), 216, what);
                    false
                }
            };
            if !whole {
                chain = Chain {
                    hash: None,
                    td: None,
                };
            }
            number = end;
        }
        if kind == Kind::Headers && span.first < span.end {
            let path = self.dir.join(COPIES[0]);
            if let Some(hash) = chain.hash.filter(|hash| *hash != manifest.cold_hash) {
                self.problem(
                    &path,
                    88,
                    format!(
                        "last cold hash: expected {hash}, found {}",
                        manifest.cold_hash
                    ),
                );
            }
            if let Some(td) = chain.td.filter(|td| *td != manifest.cold_td) {
                self.problem(
                    &path,
                    120,
                    format!(
                        "last cold difficulty: expected {td}, found {}",
                        manifest.cold_td
                    ),
                );
            }
        }
        Ok(())
    }

    /// Checks blocks `first..end` of one segment.
    fn segment(
        &mut self,
        manifest: &Manifest,
        kind: Kind,
        sequence: u32,
        first: u64,
        end: u64,
        chain: &mut Chain,
    ) -> Result<(), Error> {
        let era = first / ERA_BLOCKS;
        let path = era_path(self.dir, kind, era, sequence);
        let file = InFile::open(&path).inspect_err(|e| self.replaced |= e.is_not_found())?;
        self.report.files += 1;
        let mut start = vec![0; DATA_START as usize];
        let read = file.read_at(0, &mut start)?;
        let page = Page::decode(&start[..read]).map_err(|what| Error::damaged(&path, 0, what))?;
        let named = (page.kind, u64::from(page.era), page.sequence, page.store_id);
        if named != (kind, era, sequence, manifest.store_id) {
            return Err(Error::damaged(
                &path,
                12,
                "the first page is of another file",
            ));
        }
        if read < start.len() {
            return Err(Error::damaged(
                &path,
                read as u64,
                "the file ends inside its table",
            ));
        }
        self.advance(DATA_START);
        if kind == Kind::Headers {
            if let (Some(expected), Some(found)) = (chain.td, page.td)
                && expected != found
            {
                self.problem(
                    &path,
                    64,
                    format!("difficulty before the file: expected {expected}, found {found}"),
                );
            }
            chain.td = page.td;
        }
        self.unused_entries(&file, &start, first, end);
        let mut data = Data {
            file: &file,
            bytes: Vec::new(),
            start: 0,
        };
        let mut from = match slot_of(first) {
            0 => 0,
            slot => entry(&start, slot - 1).end,
        };
        for number in first..end {
            let entry = entry(&start, slot_of(number));
            let at = PAGE_BYTES + slot_of(number) * ENTRY_BYTES;
            let length = entry
                .end
                .checked_sub(from)
                .filter(|&length| length <= 2 * MAX_RECORD_BYTES as u64);
            // Where the file's first record starts is said by an entry that is none of it, and may be anything.
            let (Some(length), Some(place)) = (length, DATA_START.checked_add(from)) else {
                let what = format!(
                    "entry of block {number} ends at {} and starts at {from}",
                    entry.end
                );
                return Err(Error::damaged(&path, at, what));
            };
            from = entry.end;
            let Some(stored) = data.get(place, length as usize)? else {
                return Err(Error::damaged(
                    &path,
                    at,
                    format!("the file ends inside block {number}"),
                ));
            };
            let crc = record_crc(number, kind, entry.raw, stored);
            let fault = if crc == entry.crc {
                record_fault(number, kind, entry.raw, stored, chain)
            } else {
                Some(format!(
                    "checksum: expected {:08x}, found {crc:08x}",
                    entry.crc
                ))
            };
            if let Some(what) = fault {
                *chain = Chain {
                    hash: None,
                    td: None,
                };
                self.problem(&path, place, format!("block {number}: {what}"));
            } else if entry.raw > 0 {
                self.count(kind, length, u64::from(entry.raw));
            }
            self.advance(length);
        }
        let length = file.len()?;
        if length > DATA_START + from {
            let what = format!(
                "{} bytes of a change that was not finished",
                length - DATA_START - from
            );
            self.notice(&path, DATA_START + from, what);
        }
        Ok(())
    }

    /// Entries outside the committed blocks mean nothing and are zeros, but for what a crash leaves behind them.
    fn unused_entries(&mut self, file: &InFile, start: &[u8], first: u64, end: u64) {
        let from = (PAGE_BYTES + slot_of(first) * ENTRY_BYTES) as usize;
        let to = from + ((end - first) * ENTRY_BYTES) as usize;
        for (at, part) in [
            (PAGE_BYTES as usize, &start[PAGE_BYTES as usize..from]),
            (to, &start[to..]),
        ] {
            if let Some(i) = part.iter().position(|&byte| byte != 0) {
                self.notice(
                    file.path(),
                    (at + i) as u64,
                    "table entries of a change that was not finished".into(),
                );
            }
        }
    }

    /// Checks the hash index: each run's bytes, and that every block of a finished era is in one. (A run may also list
    /// blocks that were replaced since.)
    pub(super) fn runs(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        let manifest = &snapshot.manifest;
        let headers = manifest.headers();
        let mut all = Vec::new();
        for &name in &manifest.runs {
            let mapped = runs::open(snapshot, name);
            if let Err(Error::Superseded { .. }) = mapped {
                self.replaced = true;
                return Ok(());
            }
            let Some(mapped) = self.keep(mapped)? else {
                continue;
            };
            self.report.files += 1;
            if self.keep(runs::check(&mapped))?.is_some() {
                all.push((name, mapped));
            }
        }
        for era in headers.first.div_ceil(ERA_BLOCKS)..headers.end / ERA_BLOCKS {
            let covers = |name: &RunName| {
                let first = u64::from(name.era);
                (first..first + u64::from(runs::eras(name.level))).contains(&era)
            };
            let mut missing = 0;
            let first = era * ERA_BLOCKS;
            let read = snapshot.each_cold_hash(first, first + ERA_BLOCKS, |number, hash| {
                let listed = all
                    .iter()
                    .filter(|(name, _)| covers(name))
                    .any(|(name, run)| {
                        let relative = number - u64::from(name.era) * ERA_BLOCKS;
                        runs::candidates(run, name.level, &hash)
                            .is_ok_and(|numbers| numbers.contains(&relative))
                    });
                missing += u64::from(!listed);
            });
            match read {
                Err(Error::Damaged { .. }) => continue, // headers have been looked at, and said to be damaged
                other => other?,
            }
            if missing > 0 {
                let what = format!("{missing} blocks of era {era} are in no sound run");
                self.problem(&self.dir.join(Kind::Run.name()), 0, what);
            }
        }
        Ok(())
    }
}

fn entry(start: &[u8], slot: u64) -> Entry {
    let at = (PAGE_BYTES + slot * ENTRY_BYTES) as usize;
    Entry::decode(&start[at..at + ENTRY_BYTES as usize])
}

/// What is wrong with a record whose checksum is right.
fn record_fault(
    number: u64,
    kind: Kind,
    raw: u32,
    stored: &[u8],
    chain: &mut Chain,
) -> Option<String> {
    if kind == Kind::Headers {
        return length_fault(raw, stored).or_else(|| header_fault(number, stored, chain));
    }
    stream_fault(raw, stored)
}

/// A header is kept as it is, and of one whose lengths differ none is given.
pub(super) fn length_fault(raw: u32, header: &[u8]) -> Option<String> {
    let kept = header.len();
    (raw as usize != kept).then(|| format!("{kept} bytes are kept of a record of {raw}"))
}

fn header_fault(number: u64, header: &[u8], chain: &mut Chain) -> Option<String> {
    let Some(fields) = rlp::fields(header) else {
        return Some("not the RLP of a header".to_owned());
    };
    if fields.number != number {
        return Some(format!("its header says block {}", fields.number));
    }
    if let Some(expected) = chain
        .hash
        .replace(keccak256(header))
        .filter(|hash| *hash != fields.parent)
    {
        return Some(format!(
            "parent hash: expected {expected}, found {}",
            fields.parent
        ));
    }
    chain.td = chain.td.map(|td| td.saturating_add(fields.difficulty));
    None
}

/// What is wrong with a body or receipts as they are kept.
pub(super) fn stream_fault(raw: u32, stored: &[u8]) -> Option<String> {
    if stored.is_empty() {
        let known = raw == 0 || constant_stream(raw).is_some();
        return (!known).then(|| format!("no bytes are kept of {raw}"));
    }
    if raw as usize > MAX_RECORD_BYTES {
        return Some(format!("a record of {raw} bytes"));
    }
    snappy::decompress(raw as usize, stored)
        .err()
        .map(|e| e.to_string())
}

/// A segment's data, read forward in large pieces.
struct Data<'a> {
    file: &'a InFile,
    bytes: Vec<u8>,
    start: u64,
}

impl Data<'_> {
    /// The bytes at a place; `None` if the file ends before. Allocates no more than the file holds.
    fn get(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, Error> {
        let Some(end) = at.checked_add(length as u64) else {
            return Ok(None);
        };
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            let file_bytes = self.file.len()?;
            if end > file_bytes {
                return Ok(None);
            }
            let left = usize::try_from(file_bytes - at).unwrap_or(usize::MAX);
            self.bytes.resize(length.max(CHUNK_BYTES.min(left)), 0);
            let read = self.file.read_at(at, &mut self.bytes)?;
            self.bytes.truncate(read);
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(self.bytes.get(from..from + length))
    }
}
