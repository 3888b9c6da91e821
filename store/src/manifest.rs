//! The MANIFEST: which files make the store, how far each is committed, and which of its two copies counts.

use std::path::{Path, PathBuf};

use alloy_primitives::{B256, U256};

use crate::error::Error;
use crate::file::{self, Disk, InFile};
use crate::format::{
    ERA_BLOCKS, Kind, SEGMENT_KINDS, array, hash_at, td_at, u16_at, u32_at, u64_at,
};

/// The format version this program writes, and the newest it can read and write.
pub(crate) const VERSION: u16 = 1;
/// The names of the copies, in the order they are written.
pub(crate) const COPIES: [&str; 2] = ["MANIFEST.0", "MANIFEST.1"];

const MAGIC: [u8; 8] = *b"CAIRNMAN";
const FIXED_BYTES: usize = 216;
const ROW_BYTES: usize = 12;
/// A MANIFEST of a million eras, eight billion blocks, is 24 MiB. What claims more is damaged.
const MAX_BYTES: usize = 32 << 20;
/// How often both copies are read again when neither is whole: a writer may be at work, but on one at a time.
const ATTEMPTS: usize = 50;

/// The blocks `first..end`, without holes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) end: u64,
}

impl Span {
    pub(crate) fn contains(&self, number: u64) -> bool {
        (self.first..self.end).contains(&number)
    }

    /// How many slots of an era's table are committed.
    pub(crate) fn slots(&self, era: u64) -> u64 {
        self.end
            .saturating_sub(era.saturating_mul(ERA_BLOCKS))
            .min(ERA_BLOCKS)
    }
}

/// The name of a run of the hash index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RunName {
    pub(crate) era: u32,
    pub(crate) level: u32,
    pub(crate) sequence: u32,
}

/// What one MANIFEST says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Manifest {
    pub(crate) read_version: u16,
    pub(crate) write_version: u16,
    pub(crate) sequence: u64,
    pub(crate) store_id: [u8; 16],
    pub(crate) chain_id: u64,
    pub(crate) genesis: B256,
    /// Hash of the last cold block: of number `headers.end - 1`. Before there is one, the genesis block's parent.
    pub(crate) cold_hash: B256,
    /// Total difficulty with the last cold block.
    pub(crate) cold_td: U256,
    /// The cold blocks of each kind of segment.
    pub(crate) spans: [Span; 3],
    /// Sequence in the tip log's name.
    pub(crate) tip: u32,
    pub(crate) first_era: u32,
    /// From `first_era` on: the sequences in the names of each kind's segment; 0: none.
    pub(crate) eras: Vec<[u32; 3]>,
    pub(crate) runs: Vec<RunName>,
}

/// Why bytes are no MANIFEST.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// Torn or damaged; the other copy counts.
    Torn(String),
    /// Whole, of a newer format.
    Newer(u16),
}

impl Manifest {
    pub(crate) fn headers(&self) -> Span {
        self.spans[Kind::Headers.column()]
    }

    pub(crate) fn span(&self, kind: Kind) -> Span {
        self.spans[kind.column()]
    }

    /// The sequence in the name of an era's segment, if there is one.
    pub(crate) fn segment(&self, kind: Kind, era: u64) -> Option<u32> {
        let row = usize::try_from(era.checked_sub(u64::from(self.first_era))?).ok()?;
        self.eras
            .get(row)
            .map(|columns| columns[kind.column()])
            .filter(|&sequence| sequence != 0)
    }

    /// Names a new segment of an era, and returns where it is. A change's files all carry its sequence.
    pub(crate) fn add_segment(&mut self, dir: &Path, kind: Kind, era: u64) -> PathBuf {
        self.set_segment(kind, era, self.tip);
        era_path(dir, kind, era, self.tip)
    }

    /// Names an era's segment.
    pub(crate) fn set_segment(&mut self, kind: Kind, era: u64, sequence: u32) {
        let era = u32::try_from(era).expect("2^32 eras are more blocks than fit a disk");
        if self.eras.is_empty() {
            self.first_era = era;
        }
        if era < self.first_era {
            let rows = (self.first_era - era) as usize;
            self.eras.splice(0..0, std::iter::repeat_n([0; 3], rows));
            self.first_era = era;
        }
        let row = (era - self.first_era) as usize;
        if self.eras.len() <= row {
            self.eras.resize(row + 1, [0; 3]);
        }
        self.eras[row][kind.column()] = sequence;
    }

    /// Cuts a kind's blocks so that none at or above `number` is left, and returns those that are.
    pub(crate) fn cut_span(&mut self, kind: Kind, number: u64) -> Span {
        let span = &mut self.spans[kind.column()];
        span.first = span.first.min(number);
        span.end = span.end.min(number);
        *span
    }

    /// Names no segments of a kind any more from an era on.
    pub(crate) fn cut_segments(&mut self, kind: Kind, era: u64) {
        let keep = era.saturating_sub(u64::from(self.first_era));
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        for row in self.eras.iter_mut().skip(keep) {
            row[kind.column()] = 0;
        }
        while self.eras.last() == Some(&[0; 3]) {
            self.eras.pop();
        }
    }

    /// Names the same segments of a kind as another MANIFEST of the store.
    pub(crate) fn restore_segments(&mut self, kind: Kind, old: &Manifest) {
        for (row, era) in self.eras.iter_mut().zip(u64::from(self.first_era)..) {
            row[kind.column()] = old.segment(kind, era).unwrap_or(0);
        }
    }

    /// Names no segments of a kind any more below an era.
    pub(crate) fn drop_segments_below(&mut self, kind: Kind, era: u64) {
        for (row, at) in self.eras.iter_mut().zip(u64::from(self.first_era)..) {
            if at < era {
                row[kind.column()] = 0;
            }
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(FIXED_BYTES + ROW_BYTES * (self.eras.len() + self.runs.len()));
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 8]); // checksum and length
        out.extend_from_slice(&self.read_version.to_le_bytes());
        out.extend_from_slice(&self.write_version.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.store_id);
        out.extend_from_slice(&self.chain_id.to_le_bytes());
        out.extend_from_slice(self.genesis.as_slice());
        out.extend_from_slice(self.cold_hash.as_slice());
        out.extend_from_slice(&self.cold_td.to_le_bytes::<32>());
        for span in &self.spans {
            out.extend_from_slice(&span.first.to_le_bytes());
            out.extend_from_slice(&span.end.to_le_bytes());
        }
        for n in [
            self.tip,
            self.first_era,
            count(self.eras.len()),
            count(self.runs.len()),
        ] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        debug_assert_eq!(out.len(), FIXED_BYTES);
        for n in self.eras.iter().flatten() {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for run in &self.runs {
            for n in [run.era, run.level, run.sequence] {
                out.extend_from_slice(&n.to_le_bytes());
            }
        }
        let length = count(out.len());
        out[12..16].copy_from_slice(&length.to_le_bytes());
        let crc = crc32fast::hash(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, Invalid> {
        let torn = |what: String| Err(Invalid::Torn(what));
        if bytes.len() < FIXED_BYTES {
            return torn(format!("{} bytes are too few for a MANIFEST", bytes.len()));
        }
        if bytes[..8] != MAGIC {
            return torn("it does not begin with CAIRNMAN".to_owned());
        }
        let length = u32_at(bytes, 12) as usize;
        if !(FIXED_BYTES..=bytes.len()).contains(&length) {
            return torn(format!(
                "length {length} in a file of {} bytes",
                bytes.len()
            ));
        }
        let bytes = &bytes[..length];
        let (found, expected) = (u32_at(bytes, 8), crc32fast::hash(&bytes[12..]));
        if found != expected {
            return torn(format!(
                "checksum: expected {expected:08x}, found {found:08x}"
            ));
        }
        let read_version = u16_at(bytes, 16);
        if read_version > VERSION {
            return Err(Invalid::Newer(read_version));
        }
        let (eras, runs) = (u32_at(bytes, 208) as usize, u32_at(bytes, 212) as usize);
        if eras
            .checked_add(runs)
            .and_then(|rows| rows.checked_mul(ROW_BYTES))
            != Some(length - FIXED_BYTES)
        {
            return torn(format!("{eras} eras and {runs} runs in {length} bytes"));
        }
        // Files are named by sequences, eight digits each: none is ever written with more.
        let sequence = u64_at(bytes, 24);
        if u32::try_from(sequence).is_err() {
            return torn(format!("sequence {sequence} is out of names"));
        }
        let row = |i: usize| {
            let at = FIXED_BYTES + ROW_BYTES * i;
            [
                u32_at(bytes, at),
                u32_at(bytes, at + 4),
                u32_at(bytes, at + 8),
            ]
        };
        let span = |at: usize| Span {
            first: u64_at(bytes, at),
            end: u64_at(bytes, at + 8),
        };
        let spans = [span(152), span(168), span(184)];
        let first_era = u32_at(bytes, 204);
        // What walks a span goes by its numbers: they must be no more than the rows there are for them.
        let rows = u64::from(first_era)..u64::from(first_era) + eras as u64;
        if let Some(Span { first, end }) = spans.into_iter().find(|span| {
            span.first < span.end
                && (span.first / ERA_BLOCKS < rows.start || (span.end - 1) / ERA_BLOCKS >= rows.end)
        }) {
            let (start, end_era) = (rows.start, rows.end);
            return torn(format!(
                "blocks {first}..{end}, but only eras {start}..{end_era}"
            ));
        }
        Ok(Manifest {
            read_version,
            write_version: u16_at(bytes, 18),
            sequence,
            store_id: array(bytes, 32),
            chain_id: u64_at(bytes, 48),
            genesis: hash_at(bytes, 56),
            cold_hash: hash_at(bytes, 88),
            cold_td: td_at(bytes, 120),
            spans,
            tip: u32_at(bytes, 200),
            first_era,
            eras: (0..eras).map(row).collect(),
            runs: (eras..eras + runs)
                .map(row)
                .map(|[era, level, sequence]| RunName {
                    era,
                    level,
                    sequence,
                })
                .collect(),
        })
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a MANIFEST is far below 4 GiB")
}

/// The MANIFEST that counts, its exact bytes, and which copy it was found in.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    pub(crate) bytes: Vec<u8>,
    pub(crate) copy: usize,
    /// What is wrong with the other copy, if something is: it is torn, or older. Normal after a crash.
    pub(crate) other: Option<String>,
}

/// Reads both copies: the valid one with the higher sequence counts.
pub(crate) fn find(dir: &Path) -> Result<Found, Error> {
    for attempt in 0..ATTEMPTS {
        if let Some(found) = find_once(dir, attempt + 1 == ATTEMPTS)? {
            return Ok(found);
        }
        file::pause();
    }
    unreachable!("the last attempt returns a MANIFEST or an error")
}

fn find_once(dir: &Path, last: bool) -> Result<Option<Found>, Error> {
    let mut best: Option<Found> = None;
    let mut faults = Vec::new();
    let mut newer = None;
    for (copy, name) in COPIES.into_iter().enumerate() {
        let path = dir.join(name);
        let bytes = match read_copy(&path) {
            Err(e) if e.is_not_found() => continue,
            other => other?,
        };
        match Manifest::decode(&bytes) {
            Ok(manifest) => {
                let mut bytes = bytes;
                bytes.truncate(u32_at(&bytes, 12) as usize);
                let found = Found {
                    manifest,
                    bytes,
                    copy,
                    other: None,
                };
                best = Some(match best.take() {
                    None => found,
                    Some(first) => choose(first, found),
                });
            }
            Err(Invalid::Newer(found)) => newer = Some((path, found)),
            Err(Invalid::Torn(what)) => faults.push((path, with_sequence(&bytes, what))),
        }
    }
    if let Some((path, found)) = newer {
        return Err(Error::Newer {
            path,
            found,
            supported: VERSION,
            readable: false,
        });
    }
    match (best, faults.into_iter().next()) {
        (Some(mut best), fault) => {
            if let Some((path, what)) = fault {
                best.other = Some(format!("{}: {what}", path.display()));
            } else if best.other.is_none() && !file::exists(&dir.join(COPIES[1 - best.copy])) {
                best.other = Some(format!("{} is missing", COPIES[1 - best.copy]));
            }
            Ok(Some(best))
        }
        (None, None) => Err(Error::NoStore {
            dir: dir.to_path_buf(),
        }),
        (None, Some((path, what))) if last => Err(Error::damaged(&path, 0, what)),
        (None, Some(_)) => Ok(None),
    }
}

/// What is wrong with a copy, and which sequence it seems to have: if that is the later one, what it said may have been
/// committed.
fn with_sequence(bytes: &[u8], what: String) -> String {
    if bytes.len() < FIXED_BYTES || bytes[..8] != MAGIC {
        return what;
    }
    format!("{what}; it says that its sequence is {}", u64_at(bytes, 24))
}

fn choose(first: Found, second: Found) -> Found {
    if first.bytes == second.bytes {
        return first;
    }
    let older = |keep: Found, drop: &Found| Found {
        other: Some(format!(
            "{} has sequence {}, {} has {}",
            COPIES[drop.copy], drop.manifest.sequence, COPIES[keep.copy], keep.manifest.sequence
        )),
        ..keep
    };
    if second.manifest.sequence > first.manifest.sequence {
        older(second, &first)
    } else {
        older(first, &second)
    }
}

fn read_copy(path: &Path) -> Result<Vec<u8>, Error> {
    let file = InFile::open(path)?;
    let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if length > MAX_BYTES {
        return Err(Error::damaged(
            path,
            0,
            format!("{length} bytes are too many for a MANIFEST"),
        ));
    }
    let mut bytes = vec![0; length];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The head of each copy, with its checksum and sequence: enough to see whether one was written since.
pub(crate) type Peek = [Option<[u8; 32]>; 2];

pub(crate) fn peek(dir: &Path) -> Peek {
    COPIES.map(|name| {
        let mut head = [0; 32];
        let file = InFile::open(&dir.join(name)).ok()?;
        (file.read_at(0, &mut head).ok()? == head.len()).then_some(head)
    })
}

/// Writes both copies over what is there, one after the other, each durable before the next is touched.
pub(crate) fn write(disk: &Disk, dir: &Path, bytes: &[u8], first_copy: usize) -> Result<(), Error> {
    for copy in [first_copy, 1 - first_copy] {
        let path = dir.join(COPIES[copy]);
        let file = match disk.open(&path) {
            Err(e) if e.is_not_found() => {
                // The other copy's name may be as new: if making the store was cut short it was never synced.
                disk.sync_dir(dir)?;
                let file = disk.create(&path)?;
                file.write_at(0, bytes)?;
                file.sync()?;
                disk.sync_dir(dir)?;
                continue;
            }
            other => other?,
        };
        file.write_at(0, bytes)?;
        file.sync()?;
    }
    Ok(())
}

/// Where an era's file of a kind is.
pub(crate) fn era_path(dir: &Path, kind: Kind, era: u64, sequence: u32) -> PathBuf {
    dir.join(kind.name())
        .join(format!("{era:06}.{sequence:08x}"))
}

/// Where a tip log is.
pub(crate) fn tip_path(dir: &Path, sequence: u32) -> PathBuf {
    dir.join(format!("tip.{sequence:08x}"))
}

/// The files a MANIFEST names, besides its own copies: folder (empty for the store's own) and name.
pub(crate) fn is_named(manifest: &Manifest, folder: &str, name: &str) -> bool {
    let Some((stem, sequence)) = parse_name(name) else {
        return false;
    };
    if folder.is_empty() {
        return stem == "tip" && sequence == manifest.tip;
    }
    let Ok(era) = stem.parse::<u64>() else {
        return false;
    };
    if folder == Kind::Run.name() {
        return manifest
            .runs
            .iter()
            .any(|run| u64::from(run.era) == era && run.sequence == sequence);
    }
    SEGMENT_KINDS
        .into_iter()
        .find(|kind| kind.name() == folder)
        .is_some_and(|kind| manifest.segment(kind, era) == Some(sequence))
}

/// The stem and sequence of a file name of ours: `tip.0000002a`, `000012.0000002a`.
pub(crate) fn parse_name(name: &str) -> Option<(&str, u32)> {
    let (stem, sequence) = name.split_once('.')?;
    if sequence.len() != 8
        || !(stem == "tip" || (stem.len() >= 6 && stem.bytes().all(|b| b.is_ascii_digit())))
    {
        return None;
    }
    Some((stem, u32::from_str_radix(sequence, 16).ok()?))
}
