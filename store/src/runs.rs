//! The hash index: a sorted run for each finished era, four of them merged into one of the next level, and a table in
//! memory for the era that is not finished.
//!
//! An index only proposes numbers. A proposal counts if the block of that number has the hash, so a stale or damaged
//! entry can lose a block until the index is rebuilt but never give a wrong one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::B256;

use crate::error::Error;
use crate::file::Disk;
use crate::format::{ERA_BLOCKS, Kind, PAGE_BYTES, Page, u32_at, u64_at};
use crate::manifest::{self, RunName};
use crate::mapped::{FileId, Mapped};
use crate::scale::{ERA_BITS, TOP_LEVEL};
use crate::snapshot::Snapshot;

/// Runs of a level that are merged into one of the next.
pub(crate) const FANOUT: u32 = 4;

/// Where a run's table of starts begins.
pub(crate) const STARTS: usize = PAGE_BYTES as usize;

/// The hashes of the era that is not finished, made from its headers at the first question and grown at later ones.
#[derive(Default)]
pub(crate) struct Unfinished {
    /// Era and sequence of the segment it was made from.
    of: Option<(u64, u32)>,
    /// Blocks below this are in the table.
    end: u64,
    numbers: HashMap<B256, u64>,
}

/// The number of the settled block with this hash.
pub(crate) fn find(snapshot: &Snapshot, hash: &B256) -> Result<Option<u64>, Error> {
    if let Some(number) = find_unfinished(snapshot, hash)? {
        return Ok(Some(number));
    }
    let mut runs: Vec<RunName> = snapshot.manifest.runs.clone();
    runs.sort_by_key(|run| std::cmp::Reverse((run.level, run.era)));
    for run in runs {
        if let Some(number) = find_in(snapshot, run, hash)? {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn find_unfinished(snapshot: &Snapshot, hash: &B256) -> Result<Option<u64>, Error> {
    let cold = snapshot.manifest.headers();
    let era = cold.end / ERA_BLOCKS;
    let first = (era * ERA_BLOCKS).max(cold.first);
    let Some(sequence) = snapshot
        .manifest
        .segment(Kind::Headers, era)
        .filter(|_| first < cold.end)
    else {
        return Ok(None);
    };
    let of = Some((era, sequence));
    // A later snapshot may have grown the table past what this one knows.
    let answer = |table: &Unfinished| {
        table
            .numbers
            .get(hash)
            .copied()
            .filter(|&number| number < cold.end)
    };
    let table = snapshot.shared.unfinished.read();
    if table.of == of && table.end >= cold.end {
        return Ok(answer(&table));
    }
    drop(table);
    let mut table = snapshot.shared.unfinished.write();
    if table.of != of {
        *table = Unfinished {
            of,
            end: first,
            numbers: HashMap::new(),
        };
    }
    let Unfinished { end, numbers, .. } = &mut *table;
    if *end < cold.end {
        snapshot.each_cold_hash(*end, cold.end, |number, hash| {
            numbers.insert(hash, number);
        })?;
        *end = cold.end;
    }
    Ok(answer(&table))
}

fn find_in(snapshot: &Snapshot, run: RunName, hash: &B256) -> Result<Option<u64>, Error> {
    let mapped = open(snapshot, run)?;
    let first = u64::from(run.era) * ERA_BLOCKS;
    for relative in candidates(&mapped, run.level, hash)? {
        let number = first + relative;
        if snapshot.manifest.headers().contains(number) && snapshot.hash(number)? == Some(*hash) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

pub(crate) fn open(snapshot: &Snapshot, run: RunName) -> Result<Arc<Mapped>, Error> {
    let id = FileId {
        kind: Kind::Run,
        era: u64::from(run.era),
        sequence: run.sequence,
    };
    let mapped = snapshot.mapped(id, 0, 0)?;
    let path = mapped.map.path();
    if mapped.page.level != run.level || run.level > TOP_LEVEL {
        return Err(Error::damaged(
            path,
            56,
            format!(
                "level {} in a run of level {}",
                mapped.page.level, run.level
            ),
        ));
    }
    let length = mapped
        .page
        .entries
        .checked_mul(8)
        .and_then(|n| n.checked_add(entries_at(mapped.page.entries) as u64));
    if length != Some(mapped.map.len() as u64) {
        return Err(Error::damaged(
            path,
            48,
            format!(
                "{} entries in {} bytes",
                mapped.page.entries,
                mapped.map.len()
            ),
        ));
    }
    Ok(mapped)
}

/// Numbers, from the run's first, of the blocks that may have the hash.
pub(crate) fn candidates(run: &Mapped, level: u32, hash: &B256) -> Result<Vec<u64>, Error> {
    let map = &run.map[..];
    let entries = run.page.entries;
    let prefix = prefix(hash);
    let shift = shift(level);
    let top = bits(entries);
    let bucket = if top == 0 {
        0
    } else {
        (prefix >> (64 - top)) as usize
    };
    let at = STARTS + 4 * bucket;
    run.map.populate(at, at + 8)?;
    let start = u64::from(u32_at(map, STARTS + 4 * bucket));
    let end = u64::from(u32_at(map, STARTS + 4 * (bucket + 1)));
    if start > end || end > entries {
        let at = (STARTS + 4 * bucket) as u64;
        return Err(Error::damaged(
            run.map.path(),
            at,
            format!("a start of {start} and an end of {end} in {entries}"),
        ));
    }
    let base = entries_at(entries);
    run.map
        .populate(base + 8 * start as usize, base + 8 * end as usize)?;
    let entry = |i: u64| u64_at(map, base + 8 * i as usize);
    let (mut low, mut high) = (start, end);
    while low < high {
        let middle = low + (high - low) / 2;
        if entry(middle) >> shift < prefix >> shift {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mask = (1 << shift) - 1;
    Ok((low..end)
        .map(entry)
        .take_while(|entry| entry >> shift == prefix >> shift)
        .map(|entry| entry & mask)
        .collect())
}

fn prefix(hash: &B256) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(first)
}

/// Where a run is.
pub(crate) fn run_path(dir: &Path, run: &RunName) -> PathBuf {
    manifest::era_path(dir, Kind::Run, u64::from(run.era), run.sequence)
}

/// Eras that a run of a level is of.
pub(crate) fn eras(level: u32) -> u32 {
    FANOUT.pow(level)
}

/// Bits of an entry that hold the number.
pub(crate) fn shift(level: u32) -> u32 {
    ERA_BITS + 2 * level
}

/// How many top bits the table of starts goes by.
pub(crate) fn bits(entries: u64) -> u32 {
    (entries / 256).max(1).ilog2()
}

/// Where the entries begin, behind the table of starts padded to eight bytes.
pub(crate) fn entries_at(entries: u64) -> usize {
    STARTS + (4 * ((1_usize << bits(entries)) + 1)).next_multiple_of(8)
}

/// The run of a newly finished era, to be written.
pub(crate) struct Run {
    pub(crate) era: u32,
    pub(crate) level: u32,
    /// Sorted.
    pub(crate) entries: Vec<u64>,
}

impl Run {
    /// The run of a level, from the numbers and hashes of all its blocks.
    pub(crate) fn of_blocks(era: u32, level: u32, blocks: &[(u64, B256)]) -> Run {
        let mask = (1 << shift(level)) - 1;
        let first = u64::from(era) * ERA_BLOCKS;
        let mut entries: Vec<u64> = blocks
            .iter()
            .map(|(number, hash)| prefix(hash) & !mask | (number - first))
            .collect();
        entries.sort_unstable();
        Run {
            era,
            level,
            entries,
        }
    }

    /// Writes the run's file and makes it durable; its name is the caller's.
    pub(crate) fn write(
        &self,
        disk: &Disk,
        path: &Path,
        store_id: [u8; 16],
        sequence: u32,
    ) -> Result<(), Error> {
        let file = disk.create(path)?;
        file.write_at(0, &self.encode(store_id, sequence))?;
        file.sync()
    }

    /// The bytes of the run's file.
    pub(crate) fn encode(&self, store_id: [u8; 16], sequence: u32) -> Vec<u8> {
        let count = self.entries.len() as u64;
        let top = bits(count);
        let base = entries_at(count);
        let mut out = vec![0; base];
        let mut at = 0;
        for bucket in 0..=1_u64 << top {
            while at < self.entries.len() && top > 0 && self.entries[at] >> (64 - top) < bucket {
                at += 1;
            }
            if bucket == 1 << top {
                at = self.entries.len();
            }
            let start = STARTS + 4 * bucket as usize;
            out[start..start + 4].copy_from_slice(&(at as u32).to_le_bytes());
        }
        for entry in &self.entries {
            out.extend_from_slice(&entry.to_le_bytes());
        }
        let page = Page {
            kind: Kind::Run,
            store_id,
            sequence,
            era: self.era,
            salt: 0,
            entries: count,
            level: self.level,
            rest_crc: crc32fast::hash(&out[STARTS..]),
            td: Some(alloy_primitives::U256::ZERO),
        };
        out[..STARTS].copy_from_slice(&page.encode());
        out
    }
}

/// Checks a whole run: its checksum, and that its entries are sorted.
pub(crate) fn check(mapped: &Mapped) -> Result<(), Error> {
    mapped.map.populate(STARTS, mapped.map.len())?;
    let rest = &mapped.map[STARTS..];
    let (expected, found) = (mapped.page.rest_crc, crc32fast::hash(rest));
    if expected != found {
        let what = format!("checksum of the run: expected {expected:08x}, found {found:08x}");
        return Err(Error::damaged(mapped.map.path(), PAGE_BYTES, what));
    }
    let base = entries_at(mapped.page.entries);
    let mut last = 0;
    for (entry, i) in mapped.map[base..]
        .chunks_exact(8)
        .map(|bytes| u64_at(bytes, 0))
        .zip(0..)
    {
        if entry < last {
            let at = (base + 8 * i) as u64;
            return Err(Error::damaged(
                mapped.map.path(),
                at,
                "the run is not sorted",
            ));
        }
        last = entry;
    }
    Ok(())
}
