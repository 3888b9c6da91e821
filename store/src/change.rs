//! Manifest commits: the first change of a session, settling, and batches. All are one thing: some of the canonical chain
//! goes cold, the rest goes to a new tip log, and a new MANIFEST says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::B256;

use crate::append::Appender;
use crate::error::Error;
use crate::file::{Disk, names};
use crate::format::{ERA_BLOCKS, Kind, RecordHead, SEGMENT_KINDS, slot_of};
use crate::frame::FrameBuilder;
use crate::manifest::{self, Found, Manifest, RunName};
use crate::plan::{Link, Plan};
use crate::runs::{self, Run};
use crate::snappy::{Buffer, Compressor};
use crate::snapshot::Snapshot;
use crate::tip::{Place, TipBlock, TipFile, TipIndex};
use crate::tiplog::{KEEP_BLOCKS, KEEP_BYTES, TipLog, TipWriter};

/// Blocks, forks included, that the tip holds at most before it settles.
pub(crate) const TIP_BLOCKS: usize = 2048;
/// Length of the tip log before it settles, in bytes. With one frame more it stays below 64 MiB.
pub(crate) const TIP_BYTES: u64 = 48 << 20;
/// New blocks of this many uncompressed bytes go behind the cold ones at once: a batch.
pub(crate) const BATCH_BYTES: u64 = 8 << 20;
/// After a batch fewer stay, for they are written twice: so many blocks whatever their size below the second limit, else
/// so many bytes.
const BATCH_KEEP_BLOCKS: usize = 64;
const BATCH_KEEP_BYTES: u64 = 2 << 20;
const BATCH_KEEP_MAX_BYTES: u64 = 8 << 20;
/// What a manifest commit works with.
pub(crate) struct Change<'a, 'b> {
    pub(crate) disk: &'a Disk,
    pub(crate) old: &'a Snapshot,
    pub(crate) plan: &'a Plan<'b>,
    pub(crate) compressor: &'a mut Compressor,
    pub(crate) frame: &'a mut FrameBuilder,
    pub(crate) buffer: &'a mut Buffer,
}

impl Change<'_, '_> {
    /// Makes the change, and returns the view after it and the new tip log.
    pub(crate) fn make(mut self) -> Result<(Snapshot, TipLog), Error> {
        let dir = self.old.dir();
        let mut next = (*self.old.manifest).clone();
        next.sequence += 1;
        next.tip = u32::try_from(next.sequence).map_err(|_| {
            Error::damaged(
                &dir.join(manifest::COPIES[0]),
                24,
                format!("sequence {} is out of names", next.sequence),
            )
        })?;
        let chain = self.plan.chain(&self.old.tip);
        let cold = &chain[..chain.len() - self.keep(&chain)];
        let mut folders = vec![dir.to_path_buf()]; // the tip log's
        if let Some(&last) = cold.last() {
            for kind in SEGMENT_KINDS {
                if self.settle(kind, cold, &mut next)? {
                    folders.push(dir.join(kind.name()));
                }
            }
            let end = self.old.tip.base() + cold.len() as u64;
            for kind in [Kind::Headers, Kind::Bodies] {
                next.spans[kind.column()].end = end;
            }
            let (_, hash, td) = self.plan.name(&self.old.tip, last);
            (next.cold_hash, next.cold_td) = (hash, td);
        }
        let replaced = self.finish_eras(cold, &mut next)?;
        if next.runs != self.old.manifest.runs {
            folders.push(dir.join(Kind::Run.name()));
        }
        let (log, tip) = self.write_tip(&chain, &next)?;
        for folder in &folders {
            self.disk.sync_dir(folder)?;
        }
        check_ours(dir, self.old.manifest.sequence)?;
        manifest::write(self.disk, dir, &next.encode(), 0)?;

        // The change is made. What it replaced is only in the way: if it cannot be removed now, the next session does.
        let old = &self.old.manifest;
        let mut gone = vec![manifest::tip_path(dir, old.tip)];
        gone.extend(replaced.iter().map(|run| run_path(dir, run)));
        for path in gone {
            if let Err(e) = self.disk.remove(&path) {
                log::warn!("a replaced file stays for now: {e}");
            }
        }
        let next = Arc::new(next);
        let tip_file = Arc::new(TipFile::open(dir, &next)?);
        let snapshot = Snapshot::new(next, Arc::new(tip), tip_file, self.old.shared.clone())?;
        Ok((snapshot, log))
    }

    /// How many blocks of the chain stay in the tip.
    fn keep(&self, chain: &[Link]) -> usize {
        let tip = &self.old.tip;
        let size = |link: &Link| match *link {
            Link::Tip(i) => tip.block(i).stored(),
            Link::Fresh(i) => self.plan.fresh[i as usize].raw(),
            Link::Anchor => 0,
        };
        let is_batch = self.plan.raw >= BATCH_BYTES;
        let all: u64 = tip.blocks().iter().map(TipBlock::stored).sum::<u64>() + self.plan.raw;
        if !is_batch && tip.blocks().len() + self.plan.fresh.len() <= TIP_BLOCKS && all <= TIP_BYTES
        {
            return chain.len();
        }
        let mut bytes = 0;
        let mut keep = 0;
        for link in chain.iter().rev().take(KEEP_BLOCKS) {
            bytes += size(link);
            let limit = match (is_batch, keep < BATCH_KEEP_BLOCKS) {
                (true, true) => BATCH_KEEP_MAX_BYTES,
                (true, false) => BATCH_KEEP_BYTES,
                (false, _) => KEEP_BYTES,
            };
            if bytes > limit {
                break;
            }
            keep += 1;
        }
        keep
    }

    /// Appends one kind of record of the chain's cold part to its segments. True if a file was made.
    fn settle(&mut self, kind: Kind, cold: &[Link], next: &mut Manifest) -> Result<bool, Error> {
        let (old, plan) = (self.old, self.plan);
        let base = old.tip.base();
        let has = |link: &Link| match *link {
            Link::Tip(i) => old.tip.block(i).place(kind).is_some(),
            Link::Fresh(i) => {
                kind != Kind::Receipts || plan.fresh[i as usize].block.receipts.is_some()
            }
            Link::Anchor => false,
        };
        let (mut from, mut to) = (0, cold.len());
        if kind == Kind::Receipts {
            // Receipts that do not join the end of those kept are left out, to be fetched again.
            let span = old.manifest.span(kind);
            let Some(last) = cold.iter().rposition(&has) else {
                return Ok(false);
            };
            to = last + 1;
            if span.first == span.end {
                from = cold.iter().position(&has).unwrap_or(0);
                next.spans[kind.column()].first = base + from as u64;
            } else if span.end != base {
                return Ok(false);
            }
            next.spans[kind.column()].end = base + to as u64;
        }
        let mut made = false;
        while from < to {
            let first = base + from as u64;
            let in_era = usize::try_from(ERA_BLOCKS - slot_of(first)).unwrap_or(usize::MAX);
            let part = &cold[from..to.min(from.saturating_add(in_era))];
            let td = match from {
                0 => old.tip.anchor().1,
                n => plan.name(&old.tip, cold[n - 1]).2,
            };
            let mut out = Appender::open(self.disk, old, next, kind, first, td, self.buffer)?;
            made |= out.made;
            for &link in part {
                append(old, plan, kind, link, &mut out, self.compressor)?;
            }
            out.finish()?;
            from += part.len();
        }
        Ok(made)
    }

    /// Writes the runs of the eras that the cold part finishes, and returns those that they replace.
    fn finish_eras(&mut self, cold: &[Link], next: &mut Manifest) -> Result<Vec<RunName>, Error> {
        let (before, after) = (self.old.manifest.headers(), next.headers());
        let mut fresh = Vec::new();
        for era in before.end / ERA_BLOCKS..after.end / ERA_BLOCKS {
            let first = (era * ERA_BLOCKS).max(after.first);
            let mut blocks: Vec<(u64, B256)> = Vec::with_capacity(ERA_BLOCKS as usize);
            self.old.each_cold_hash(first, before.end, |number, hash| {
                blocks.push((number, hash));
            })?;
            for number in first.max(before.end)..(era + 1) * ERA_BLOCKS {
                let link = cold[(number - before.end) as usize];
                blocks.push((number, self.plan.name(&self.old.tip, link).1));
            }
            let era = u32::try_from(era).expect("2^32 eras are more blocks than fit a disk");
            fresh.push(Run::of_era(era, &blocks));
        }
        if fresh.is_empty() {
            return Ok(Vec::new());
        }
        let merged = runs::add(self.old, fresh)?;
        next.runs.retain(|run| !merged.replaced.contains(run));
        for run in merged.write {
            let name = RunName {
                era: run.era,
                level: run.level,
                sequence: next.tip,
            };
            let file = self.disk.create(&run_path(self.old.dir(), &name))?;
            file.write_at(0, &run.encode(next.store_id, next.tip))?;
            file.sync()?;
            next.runs.push(name);
        }
        Ok(merged.replaced)
    }

    /// Writes the new tip log: what stays of the old one, forks too, and the new blocks that are not cold.
    fn write_tip(&mut self, chain: &[Link], next: &Manifest) -> Result<(TipLog, TipIndex), Error> {
        let old = &self.old.tip;
        let base = next.headers().end;
        let mut in_tip = vec![false; old.blocks().len()];
        let mut in_fresh = vec![false; self.plan.fresh.len()];
        for &link in chain {
            match link {
                Link::Tip(i) => in_tip[i as usize] = old.block(i).number >= base,
                Link::Fresh(i) => {
                    in_fresh[i as usize] = self.plan.fresh[i as usize].block.number >= base;
                }
                Link::Anchor => {}
            }
        }
        let mut tip = TipWriter::create(self.disk, self.old.dir(), next, self.frame)?;
        for (i, block) in old.blocks().iter().enumerate() {
            let parent = self.plan.name(old, Link::of_tip(block.parent)).1;
            if tip.takes(block.number, parent, block.stored(), in_tip[i]) {
                tip.make_room(block.stored())?;
                copy(self.old, block, parent, tip.frame)?;
                tip.took(block.number, block.hash, in_tip[i]);
            }
        }
        for (i, fresh) in self.plan.fresh.iter().enumerate() {
            let block = fresh.block;
            if tip.takes(block.number, fresh.parent_hash, fresh.raw(), in_fresh[i]) {
                tip.make_room(fresh.raw())?;
                fresh.put(tip.frame, self.compressor);
                tip.took(block.number, block.hash, in_fresh[i]);
            }
        }
        tip.finish(self.plan.head_number, self.plan.head_hash)
    }
}

/// Appends a block's record of one kind to its segment.
fn append(
    old: &Snapshot,
    plan: &Plan<'_>,
    kind: Kind,
    link: Link,
    out: &mut Appender<'_>,
    compressor: &mut Compressor,
) -> Result<(), Error> {
    match link {
        Link::Tip(i) => {
            let block = old.tip.block(i);
            match (block.place(kind), old.in_tip(block, kind)?) {
                (Some(place), Some(stored)) => out.stored(place.raw, place.crc, &stored),
                _ => out.absent(),
            }
        }
        Link::Fresh(i) => {
            let block = plan.fresh[i as usize].block;
            match (kind, block.receipts) {
                (Kind::Headers, _) => out.raw(block.header),
                (Kind::Bodies, _) => out.compress(block.body, compressor),
                (_, Some(receipts)) => out.compress(receipts, compressor),
                (_, None) => out.absent(),
            }
        }
        Link::Anchor => unreachable!("the anchor is cold already"),
    }
}

/// Copies a block's records from the old tip log, checked and unchanged.
fn copy(
    old: &Snapshot,
    block: &TipBlock,
    parent: B256,
    frame: &mut FrameBuilder,
) -> Result<(), Error> {
    for kind in SEGMENT_KINDS {
        let (Some(place), Some(stored)) = (block.place(kind), old.in_tip(block, kind)?) else {
            continue;
        };
        let Place {
            raw,
            crc,
            stored: length,
            ..
        } = place;
        let head = RecordHead {
            number: block.number,
            kind,
            raw,
            stored: length,
            crc,
            hash: block.hash,
        };
        frame.stored(
            head,
            (kind == Kind::Headers).then_some((parent, block.td)),
            &stored,
        );
    }
    Ok(())
}

fn run_path(dir: &Path, run: &RunName) -> PathBuf {
    manifest::era_path(dir, Kind::Run, u64::from(run.era), run.sequence)
}

/// Sees that nobody else has written a MANIFEST since ours.
pub(crate) fn check_ours(dir: &Path, ours: u64) -> Result<(), Error> {
    let found = manifest::find(dir)?.manifest.sequence;
    if found == ours {
        Ok(())
    } else {
        Err(Error::Changed {
            dir: dir.to_path_buf(),
            ours,
            found,
        })
    }
}

/// What a session does before its first change: writes the MANIFEST it found to both copies again, for what was found may
/// be only in the cache, and removes the files of changes that were never committed.
pub(crate) fn begin(disk: &Disk, dir: &Path, found: &Found) -> Result<(), Error> {
    let sequence = found.manifest.sequence;
    let mut leftovers = Vec::new();
    let folders = SEGMENT_KINDS
        .into_iter()
        .chain([Kind::Run])
        .map(Kind::name)
        .chain([""]);
    for folder in folders {
        for name in names(&dir.join(folder))? {
            let path = dir.join(folder).join(&name);
            let stem = name.strip_suffix(".new");
            let Some((_, of)) = manifest::parse_name(stem.unwrap_or(&name)) else {
                continue;
            };
            if stem.is_none() && manifest::is_named(&found.manifest, folder, &name) {
                continue;
            }
            if stem.is_none() && u64::from(of) > sequence + 1 {
                return Err(Error::Ahead { path, sequence });
            }
            leftovers.push(path);
        }
    }
    check_ours(dir, sequence)?;
    manifest::write(disk, dir, &found.bytes, found.copy)?;
    for path in leftovers {
        log::info!(
            "{}: removed, it belongs to a change that was never committed",
            path.display()
        );
        disk.remove(&path)?;
    }
    Ok(())
}
