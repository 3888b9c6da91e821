//! The hash index: a sorted run for each finished era, four of them merged into one of the next level, and a table in
//! memory for the era that is not finished.
//!
//! An index only proposes numbers. A proposal counts if the block of that number has the hash, so a stale or damaged
//! entry can lose a block until the index is rebuilt but never give a wrong one.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::B256;

use crate::error::Error;
use crate::format::{ERA_BLOCKS, Kind, PAGE_BYTES, Page, u32_at, u64_at};
use crate::manifest::RunName;
use crate::mapped::{FileId, Mapped};
use crate::snapshot::Snapshot;

/// Low bits of an entry of level 0 that hold the number.
const ERA_BITS: u32 = 13;
/// Runs of a level that are merged into one of the next.
const FANOUT: u32 = 4;
/// Runs of this level are not merged: a merge is done in memory for now, and this one takes 4 MiB.
const TOP_LEVEL: u32 = 3;

/// Where a run's table of starts begins.
const STARTS: usize = PAGE_BYTES as usize;

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
fn candidates(run: &Mapped, level: u32, hash: &B256) -> Result<Vec<u64>, Error> {
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

/// Eras that a run of a level is of.
pub(crate) fn eras(level: u32) -> u32 {
    FANOUT.pow(level)
}

/// Bits of an entry that hold the number.
fn shift(level: u32) -> u32 {
    ERA_BITS + 2 * level
}

/// How many top bits the table of starts goes by.
fn bits(entries: u64) -> u32 {
    (entries / 256).max(1).ilog2()
}

/// Where the entries begin, behind the table of starts padded to eight bytes.
fn entries_at(entries: u64) -> usize {
    STARTS + (4 * ((1_usize << bits(entries)) + 1)).next_multiple_of(8)
}

/// A run that is to be written, or to be merged into one.
pub(crate) struct Run {
    pub(crate) era: u32,
    pub(crate) level: u32,
    /// Sorted.
    pub(crate) entries: Vec<u64>,
}

impl Run {
    /// The run of one era, from the numbers and hashes of its blocks.
    pub(crate) fn of_era(era: u32, blocks: &[(u64, B256)]) -> Run {
        Run::of_blocks(era, 0, blocks)
    }

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

    /// Reads a whole run and checks it.
    pub(crate) fn read(mapped: &Mapped, name: RunName) -> Result<Run, Error> {
        let rest = &mapped.map[STARTS..];
        let (expected, found) = (mapped.page.rest_crc, crc32fast::hash(rest));
        if expected != found {
            let what = format!("checksum of the run: expected {expected:08x}, found {found:08x}");
            return Err(Error::damaged(mapped.map.path(), PAGE_BYTES, what));
        }
        let base = entries_at(mapped.page.entries);
        let entries = mapped.map[base..]
            .chunks_exact(8)
            .map(|bytes| u64_at(bytes, 0))
            .collect();
        Ok(Run {
            era: name.era,
            level: name.level,
            entries,
        })
    }

    /// Four runs in a row become one of the next level: each number takes two more bits from the hash.
    fn merge(four: &[Run]) -> Run {
        let (era, level) = (four[0].era, four[0].level);
        let (low, wide) = ((1_u64 << shift(level)) - 1, (1_u64 << shift(level + 1)) - 1);
        let mut entries: Vec<u64> =
            Vec::with_capacity(four.iter().map(|run| run.entries.len()).sum());
        for run in four {
            let offset = u64::from(run.era - era) * ERA_BLOCKS;
            entries.extend(
                run.entries
                    .iter()
                    .map(|entry| entry & !wide | ((entry & low) + offset)),
            );
        }
        entries.sort_unstable();
        Run {
            era,
            level: level + 1,
            entries,
        }
    }
}

/// What a commit does to the index.
pub(crate) struct Merged {
    /// Runs to write.
    pub(crate) write: Vec<Run>,
    /// Named runs that the written ones replace.
    pub(crate) replaced: Vec<RunName>,
}

/// Adds the runs of newly finished eras to those named, and merges four that fill the next level.
pub(crate) fn add(snapshot: &Snapshot, fresh: Vec<Run>) -> Result<Merged, Error> {
    enum Source {
        Named(RunName),
        Fresh(Run),
    }
    let key = |source: &Source| match source {
        Source::Named(name) => (name.level, name.era),
        Source::Fresh(run) => (run.level, run.era),
    };
    let mut all: Vec<Source> = snapshot
        .manifest
        .runs
        .iter()
        .copied()
        .map(Source::Named)
        .collect();
    let mut replaced = Vec::new();
    for run in fresh {
        all.push(Source::Fresh(run));
        for level in 0..TOP_LEVEL {
            let span = eras(level);
            let mut found: Vec<u32> = all
                .iter()
                .map(key)
                .filter(|key| key.0 == level)
                .map(|key| key.1)
                .collect();
            found.sort_unstable();
            let aligned = |four: &&[u32]| {
                four[0].is_multiple_of(span * FANOUT)
                    && four
                        .iter()
                        .zip(0..)
                        .all(|(era, i)| *era == four[0] + i * span)
            };
            let Some(first) = found
                .windows(FANOUT as usize)
                .find(aligned)
                .map(|four| four[0])
            else {
                continue;
            };
            let inside = |source: &Source| {
                key(source).0 == level && (first..first + span * 4).contains(&key(source).1)
            };
            let (mut four, rest): (Vec<Source>, Vec<Source>) = all.into_iter().partition(inside);
            all = rest;
            four.sort_by_key(key);
            let mut runs = Vec::with_capacity(FANOUT as usize);
            for source in four {
                runs.push(match source {
                    Source::Fresh(run) => run,
                    Source::Named(name) => {
                        replaced.push(name);
                        Run::read(&*open(snapshot, name)?, name)?
                    }
                });
            }
            all.push(Source::Fresh(Run::merge(&runs)));
        }
    }
    let write = all
        .into_iter()
        .filter_map(|source| match source {
            Source::Fresh(run) => Some(run),
            Source::Named(_) => None,
        })
        .collect();
    Ok(Merged { write, replaced })
}
