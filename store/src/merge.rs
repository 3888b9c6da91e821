//! Merging runs of the hash index as a stream: so many entries at each commit, no thread, and a few hundred kilobytes of
//! memory. The new run is a `.new` file until a MANIFEST names it.

use std::path::{Path, PathBuf};

use crate::change::with_ending;
use crate::error::Error;
use crate::file::{Disk, InFile, OutFile};
use crate::format::{ERA_BLOCKS, Kind, PAGE_BYTES, Page, u64_at};
use crate::manifest::{Manifest, RunName};
use crate::runs::{FANOUT, STARTS, bits, entries_at, eras, run_path, shift};
use crate::scale::TOP_LEVEL;

/// How much of a run is read at once, in bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// How much is gathered before it is written, in bytes.
const WRITE_BYTES: usize = 256 << 10;

/// Four runs in a row that fill the next level (and smaller ones inside, which replaced eras got) on their way to one.
pub(crate) struct Merge {
    era: u32,
    level: u32,
    /// What is being merged: replaced when it is done.
    names: Vec<RunName>,
    sources: Vec<Source>,
    total: u64,
    done: u64,
    file: OutFile,
    path: PathBuf,
    starts: Vec<u32>,
    buffer: Vec<u8>,
    /// Entries that were written.
    written: u64,
    crc: crc32fast::Hasher,
    group: Vec<u64>,
}

impl Merge {
    /// Begins the merge that is due in a MANIFEST, if one is.
    pub(crate) fn begin(
        disk: &Disk,
        dir: &Path,
        manifest: &Manifest,
    ) -> Result<Option<Merge>, Error> {
        let Some((era, level, names)) = due(&manifest.runs) else {
            return Ok(None);
        };
        let mut sources = Vec::with_capacity(names.len());
        for name in &names {
            sources.push(Source::open(dir, manifest, *name, era, level)?);
        }
        let total = sources.iter().map(|source| source.left).sum();
        let name = RunName {
            era,
            level,
            sequence: manifest.tip,
        };
        let path = with_ending(&run_path(dir, &name), ".new");
        let file = disk.create(&path)?;
        Ok(Some(Merge {
            era,
            level,
            names,
            sources,
            total,
            done: 0,
            file,
            path,
            starts: Vec::new(),
            buffer: Vec::new(),
            written: 0,
            crc: crc32fast::Hasher::new(),
            group: Vec::new(),
        }))
    }

    /// The first era of the run to be.
    pub(crate) fn era(&self) -> u32 {
        self.era
    }

    /// Whether all that is merged still counts.
    pub(crate) fn is_of(&self, manifest: &Manifest) -> bool {
        self.names.iter().all(|name| manifest.runs.contains(name))
    }

    /// Whether nothing is left to merge.
    pub(crate) fn is_done(&self) -> bool {
        self.done == self.total
    }

    /// Merges up to so many entries, and a few more that share their hashes' first bits; takes them from `budget`.
    pub(crate) fn advance(&mut self, budget: &mut u64) -> Result<(), Error> {
        let shift = shift(self.level);
        let top = bits(self.total);
        while *budget > 0 {
            let mut lowest = None;
            for source in &mut self.sources {
                if let Some(entry) = source.peek()? {
                    let key = entry >> shift;
                    lowest = Some(lowest.map_or(key, |lowest: u64| lowest.min(key)));
                }
            }
            let Some(lowest) = lowest else { break };
            // Entries were sorted by more bits of the hash than the next level keeps.
            let mut group = std::mem::take(&mut self.group);
            group.clear();
            for source in &mut self.sources {
                while let Some(entry) = source.peek()?
                    && entry >> shift == lowest
                {
                    group.push(entry);
                    source.take();
                }
            }
            group.sort_unstable();
            for &entry in &group {
                while top > 0 && self.starts.len() as u64 <= entry >> (64 - top) {
                    self.starts.push(self.done as u32);
                }
                self.buffer.extend_from_slice(&entry.to_le_bytes());
                self.done += 1;
            }
            *budget = budget.saturating_sub(group.len() as u64);
            self.group = group;
            if self.buffer.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let at = entries_at(self.total) as u64 + 8 * self.written;
        self.file.write_at(at, &self.buffer)?;
        self.crc.update(&self.buffer);
        self.written += self.buffer.len() as u64 / 8;
        self.buffer.clear();
        Ok(())
    }

    /// Sees that what was merged is what had been written.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.sources.iter().try_for_each(Source::finish)
    }

    /// Finishes the file, gives it its name and enters it into the MANIFEST that is being made. Its folder's sync is the
    /// caller's.
    pub(crate) fn publish(
        mut self,
        disk: &Disk,
        dir: &Path,
        next: &mut Manifest,
    ) -> Result<(), Error> {
        debug_assert!(self.is_done());
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        let starts = (1_usize << bits(self.total)) + 1;
        self.starts.resize(starts, self.total as u32);
        let mut table: Vec<u8> = self.starts.iter().flat_map(|n| n.to_le_bytes()).collect();
        table.resize(entries_at(self.total) - STARTS, 0);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&table);
        crc.combine(&self.crc);
        let page = Page {
            kind: Kind::Run,
            store_id: next.store_id,
            sequence: next.tip,
            era: self.era,
            salt: 0,
            entries: self.total,
            level: self.level,
            rest_crc: crc.finalize(),
            td: Some(alloy_primitives::U256::ZERO),
        };
        let mut start = page.encode();
        start.extend_from_slice(&table);
        self.file.write_at(0, &start)?;
        self.file.sync()?;
        let name = RunName {
            era: self.era,
            level: self.level,
            sequence: next.tip,
        };
        disk.rename(&self.path, &run_path(dir, &name))?;
        next.runs.retain(|run| !self.names.contains(run));
        next.runs.push(name);
        Ok(())
    }

    /// Gives up: the file is removed.
    pub(crate) fn abandon(self, disk: &Disk) -> Result<(), Error> {
        disk.remove(&self.path)
    }
}

/// The lowest level's four runs in a row that one of the next level can replace, with all that lies inside them.
fn due(runs: &[RunName]) -> Option<(u32, u32, Vec<RunName>)> {
    for level in 0..TOP_LEVEL {
        let span = eras(level);
        let mut found: Vec<u32> = runs
            .iter()
            .filter(|run| run.level == level)
            .map(|run| run.era)
            .collect();
        found.sort_unstable();
        let first = found.windows(FANOUT as usize).find(|four| {
            four[0].is_multiple_of(span * FANOUT)
                && four
                    .iter()
                    .zip(0..)
                    .all(|(era, i)| *era == four[0] + i * span)
        });
        if let Some(four) = first {
            let inside = four[0]..four[0] + span * FANOUT;
            let names = runs
                .iter()
                .copied()
                .filter(|run| run.level <= level && inside.contains(&run.era));
            return Some((inside.start, level + 1, names.collect()));
        }
    }
    None
}

/// A run that is read from its start to its end.
struct Source {
    file: InFile,
    /// Entries that were not taken yet.
    left: u64,
    at: u64,
    chunk: Vec<u8>,
    from: usize,
    crc: crc32fast::Hasher,
    expected: u32,
    /// What turns an entry into one of the next level.
    low: u64,
    wide: u64,
    offset: u64,
}

impl Source {
    fn open(
        dir: &Path,
        manifest: &Manifest,
        name: RunName,
        era: u32,
        level: u32,
    ) -> Result<Source, Error> {
        let path = run_path(dir, &name);
        let file = match InFile::open(&path) {
            Err(e) if e.is_not_found() => {
                let what = "the MANIFEST names this file and it is missing";
                return Err(Error::damaged(&path, 0, what));
            }
            other => other?,
        };
        let mut page = vec![0; PAGE_BYTES as usize];
        let read = file.read_at(0, &mut page)?;
        let page = Page::decode(&page[..read]).map_err(|what| Error::damaged(&path, 0, what))?;
        let is = (
            page.kind,
            page.era,
            page.level,
            page.sequence,
            page.store_id,
        );
        if is
            != (
                Kind::Run,
                name.era,
                name.level,
                name.sequence,
                manifest.store_id,
            )
        {
            return Err(Error::damaged(
                &path,
                12,
                "the first page is of another file",
            ));
        }
        let length = page
            .entries
            .checked_mul(8)
            .filter(|_| page.entries <= u64::from(u32::MAX))
            .map(|n| n + entries_at(page.entries) as u64);
        if length != Some(file.len()?) {
            let what = format!("{} entries in {} bytes", page.entries, file.len()?);
            return Err(Error::damaged(&path, 48, what));
        }
        let mut starts = vec![0; entries_at(page.entries) - STARTS];
        file.read_at(STARTS as u64, &mut starts)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&starts);
        Ok(Source {
            file,
            left: page.entries,
            at: entries_at(page.entries) as u64,
            chunk: Vec::new(),
            from: 0,
            crc,
            expected: page.rest_crc,
            low: (1 << shift(name.level)) - 1,
            wide: (1 << shift(level)) - 1,
            offset: u64::from(name.era - era) * ERA_BLOCKS,
        })
    }

    /// The next entry, as one of the next level.
    fn peek(&mut self) -> Result<Option<u64>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.from == self.chunk.len() {
            let bytes = CHUNK_BYTES.min(usize::try_from(8 * self.left).unwrap_or(CHUNK_BYTES));
            self.chunk.resize(bytes, 0);
            if self.file.read_at(self.at, &mut self.chunk)? < bytes {
                return Err(Error::damaged(
                    self.file.path(),
                    self.at,
                    "the run ends early",
                ));
            }
            self.crc.update(&self.chunk);
            self.at += bytes as u64;
            self.from = 0;
        }
        let entry = u64_at(&self.chunk, self.from);
        Ok(Some(
            entry & !self.wide | ((entry & self.low) + self.offset),
        ))
    }

    fn take(&mut self) {
        self.from += 8;
        self.left -= 1;
    }

    /// Sees that what was merged was what had been written.
    fn finish(&self) -> Result<(), Error> {
        let (expected, found) = (self.expected, self.crc.clone().finalize());
        if expected == found {
            return Ok(());
        }
        let what = format!("checksum of the run: expected {expected:08x}, found {found:08x}");
        Err(Error::damaged(self.file.path(), PAGE_BYTES, what))
    }
}
