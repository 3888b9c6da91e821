//! Manifest commits: what goes cold and what is replaced, the new tip log, and the MANIFEST that says so. Every change
//! but a single frame is one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::B256;

use crate::append::Appender;
use crate::error::Error;
use crate::file::{Disk, names};
use crate::format::{ERA_BLOCKS, Kind, RecordHead, SEGMENT_KINDS};
use crate::frame::FrameBuilder;
use crate::manifest::{self, COPIES, Found, Manifest, RunName, Span, VERSION};
use crate::merge::Merge;
use crate::plan::{Link, Plan};
use crate::runs::{Run, run_path};
use crate::scale::{
    ABSENT_BLOCKS, BATCH_BYTES, BATCH_KEEP_BLOCKS, BATCH_KEEP_BYTES, BATCH_KEEP_MAX_BYTES,
    KEEP_BLOCKS, KEEP_BYTES, MERGE_ENTRIES, TIP_BLOCKS, TIP_BYTES,
};
use crate::snappy::{Buffer, Compressor};
use crate::snapshot::Snapshot;
use crate::tip::{Place, TipBlock, TipFile, TipIndex};
use crate::tiplog::{TipLog, TipWriter};

/// What a writer works with: buffers that are kept between commits, and the merge of runs that is under way.
pub(crate) struct Work {
    pub(crate) compressor: Compressor,
    pub(crate) frame: FrameBuilder,
    pub(crate) buffer: Buffer,
    merge: Option<Merge>,
    /// A damaged run was met: the index is as good as before, and rebuilding it is asked for, not done.
    no_merges: bool,
}

impl Work {
    pub(crate) fn new() -> Work {
        Work {
            compressor: Compressor::new(),
            frame: FrameBuilder::new(),
            buffer: Buffer::new(),
            merge: None,
            no_merges: false,
        }
    }

    /// A commit's share of the merge that is under way.
    pub(crate) fn merge_on(&mut self, disk: &Disk) -> Result<(), Error> {
        if let Some(mut merge) = self.merge.take_if(|merge| !merge.is_done()) {
            match merge.advance(&mut MERGE_ENTRIES.clone()) {
                Ok(()) => self.merge = Some(merge),
                Err(e) => self.stop(disk, Some(merge), e)?,
            }
        }
        Ok(())
    }

    /// A damaged run stops merging, nothing else.
    fn stop(&mut self, disk: &Disk, merge: Option<Merge>, error: Error) -> Result<(), Error> {
        if !matches!(error, Error::Damaged { .. }) {
            return Err(error);
        }
        log::warn!("{error}; rebuild the index: until then its runs are not merged");
        self.no_merges = true;
        merge.map_or(Ok(()), |merge| merge.abandon(disk))
    }
}

/// One manifest commit in the making.
pub(crate) struct Edit<'a> {
    pub(crate) disk: &'a Disk,
    pub(crate) old: &'a Snapshot,
    pub(crate) next: Manifest,
    pub(crate) work: &'a mut Work,
    /// Folders where names were made.
    folders: BTreeSet<&'static str>,
    /// Runs that were written, also those that a merge has taken up since.
    runs: Vec<RunName>,
    /// Segments that were made, some of which may not be named in the end.
    pub(crate) unnamed: Vec<PathBuf>,
    /// Replaced files that are kept under another name.
    damaged: Vec<PathBuf>,
}

impl<'a> Edit<'a> {
    pub(crate) fn new(
        disk: &'a Disk,
        old: &'a Snapshot,
        work: &'a mut Work,
    ) -> Result<Edit<'a>, Error> {
        Ok(Edit {
            disk,
            old,
            next: next_manifest(old)?,
            work,
            folders: BTreeSet::new(),
            runs: Vec::new(),
            unnamed: Vec::new(),
            damaged: Vec::new(),
        })
    }

    pub(crate) fn made(&mut self, kind: Kind) {
        self.folders.insert(kind.name());
    }

    /// Keeps a file that is replaced, with the ending `.damaged`.
    pub(crate) fn keep_damaged(&mut self, path: PathBuf) {
        self.damaged.push(path);
    }

    /// Makes a plan's chain the canonical one: replaces what is settled above its base, and settles some of it.
    pub(crate) fn commit(mut self, plan: &Plan<'_>) -> Result<(Snapshot, TipLog), Error> {
        let (base, chain) = plan.chain(&self.old.tip);
        self.truncate(base)?;
        let cold = &chain[..chain.len() - self.keep(plan, &chain)];
        let mut hashes = Vec::new();
        if let Some(&last) = cold.last() {
            for kind in SEGMENT_KINDS {
                self.settle(kind, plan, base, cold)?;
            }
            let end = base + cold.len() as u64;
            for kind in [Kind::Headers, Kind::Bodies] {
                self.next.spans[kind.column()].end = end;
            }
            let (_, hash, td) = plan.name(self.old, last)?;
            (self.next.cold_hash, self.next.cold_td) = (hash, td);
            for &link in cold {
                hashes.push(plan.name(self.old, link)?.1);
            }
        }
        self.finish_eras(base, &hashes)?;
        self.publish(plan)
    }

    /// Cuts the settled chain so that `base` is the next block: the eras above go, the one it is in is copied up to it.
    fn truncate(&mut self, base: u64) -> Result<(), Error> {
        let headers = self.next.headers();
        if base >= headers.end {
            return Ok(());
        }
        let era = base / ERA_BLOCKS;
        for kind in SEGMENT_KINDS {
            let span = self.next.span(kind);
            let cut = Span {
                first: span.first.min(base),
                end: span.end.min(base),
            };
            self.next.spans[kind.column()] = cut;
            self.next.cut_segments(kind, era);
            let from = cut.first.max(era * ERA_BLOCKS);
            if from < cut.end {
                let td = self.old.segment(kind, era, 0)?.page.td;
                let mut out = Appender::make(self, kind, from, td)?;
                for number in from..cut.end {
                    out.copy(self.old, number)?;
                }
                self.work.buffer = out.finish()?;
            }
        }
        self.next.runs.retain(|run| u64::from(run.era) < era);
        let anchor = base - 1; // the genesis block is never replaced
        self.next.cold_hash = self.old.expect_hash(anchor)?;
        self.next.cold_td = self.old.expect_td(anchor)?;
        Ok(())
    }

    /// How many blocks of the chain stay in the tip.
    fn keep(&self, plan: &Plan<'_>, chain: &[Link]) -> usize {
        let tip = &self.old.tip;
        let size = |link: &Link| match *link {
            Link::Tip(i) => tip.block(i).stored(),
            Link::Fresh(i) => plan.fresh[i as usize].raw(),
            Link::Base(_) => 0,
        };
        let is_batch = plan.raw >= BATCH_BYTES;
        let all: u64 = tip.blocks().iter().map(TipBlock::stored).sum::<u64>() + plan.raw;
        if !is_batch && tip.blocks().len() + plan.fresh.len() <= TIP_BLOCKS && all <= TIP_BYTES {
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

    /// Appends one kind of record of the chain's cold part, whose first block is `base`, to its segments.
    fn settle(
        &mut self,
        kind: Kind,
        plan: &Plan<'_>,
        base: u64,
        cold: &[Link],
    ) -> Result<(), Error> {
        let old = self.old;
        let (mut next, mut end) = (base, base + cold.len() as u64);
        if kind == Kind::Receipts {
            // Receipts far above those kept are left out, to be fetched again.
            let has = |link: &Link| match *link {
                Link::Tip(i) => {
                    old.tip.block(i).place(kind).is_some() || plan.late.contains_key(&i)
                }
                Link::Fresh(i) => plan.fresh[i as usize].block.receipts.is_some(),
                Link::Base(_) => false,
            };
            let (Some(first), Some(last)) = (cold.iter().position(has), cold.iter().rposition(has))
            else {
                return Ok(());
            };
            let span = &mut self.next.spans[kind.column()];
            if span.first == span.end {
                next = base + first as u64;
                span.first = next;
            } else if base + first as u64 - span.end > ABSENT_BLOCKS {
                return Ok(());
            } else {
                next = span.end;
            }
            end = base + last as u64 + 1;
            span.end = end;
        }
        while next < end {
            let td = match next.checked_sub(base) {
                Some(n) if n > 0 => Some(plan.name(old, cold[n as usize - 1])?.2),
                _ => Some(self.next.cold_td),
            };
            let mut out = Appender::open(self, kind, next, td)?;
            let to = end.min((next / ERA_BLOCKS + 1) * ERA_BLOCKS);
            for number in next..to {
                match number.checked_sub(base) {
                    Some(n) => append(old, plan, kind, cold[n as usize], &mut out, self.work)?,
                    None => out.absent()?,
                }
            }
            self.work.buffer = out.finish()?;
            next = to;
        }
        Ok(())
    }

    /// Writes the runs of the eras that become finished. `hashes` are of the blocks from `base` on.
    fn finish_eras(&mut self, base: u64, hashes: &[B256]) -> Result<(), Error> {
        let headers = self.next.headers();
        for era in base / ERA_BLOCKS..headers.end / ERA_BLOCKS {
            let first = (era * ERA_BLOCKS).max(headers.first);
            let mut blocks: Vec<(u64, B256)> = Vec::with_capacity(ERA_BLOCKS as usize);
            self.old.each_cold_hash(first, base, |number, hash| {
                blocks.push((number, hash));
            })?;
            for number in first.max(base)..(era + 1) * ERA_BLOCKS {
                blocks.push((number, hashes[(number - base) as usize]));
            }
            self.write_run(era, 0, &blocks)?;
        }
        Ok(())
    }

    /// Writes the run of a level from an era on and names it.
    pub(crate) fn write_run(
        &mut self,
        era: u64,
        level: u32,
        blocks: &[(u64, B256)],
    ) -> Result<(), Error> {
        let era = u32::try_from(era).expect("2^32 eras are more blocks than fit a disk");
        let run = Run::of_blocks(era, level, blocks);
        let name = RunName {
            era,
            level,
            sequence: self.next.tip,
        };
        let file = self.disk.create(&run_path(self.old.dir(), &name))?;
        file.write_at(0, &run.encode(self.next.store_id, self.next.tip))?;
        file.sync()?;
        self.made(Kind::Run);
        self.next.runs.push(name);
        self.runs.push(name);
        Ok(())
    }

    /// A commit's share of merging runs, and the end of merges that are done.
    fn merge(&mut self) -> Result<(), Error> {
        let dir = self.old.dir();
        if let Some(merge) = self.work.merge.take_if(|merge| !merge.is_of(&self.next)) {
            merge.abandon(self.disk)?;
        }
        let mut budget = MERGE_ENTRIES;
        while !self.work.no_merges {
            let mut merge = match self.work.merge.take() {
                Some(merge) => merge,
                None => match Merge::begin(self.disk, dir, &self.next) {
                    Ok(Some(merge)) => merge,
                    Ok(None) => break,
                    Err(e) => return self.work.stop(self.disk, None, e),
                },
            };
            if let Err(e) = merge.advance(&mut budget) {
                return self.work.stop(self.disk, Some(merge), e);
            }
            // A run that this change wrote may have the name the merged one would get: it waits for the next.
            if !merge.is_done() || self.runs.iter().any(|run| run.era == merge.era()) {
                self.work.merge = Some(merge);
                break;
            }
            if let Err(e) = merge.check() {
                return self.work.stop(self.disk, Some(merge), e);
            }
            merge.publish(self.disk, dir, &mut self.next)?;
            self.folders.insert(Kind::Run.name());
        }
        Ok(())
    }

    /// Keeps late receipts of settled blocks, in rising order: behind the others, or in a replacement of their era.
    pub(crate) fn add_receipts(&mut self, late: &[(u64, &[u8])]) -> Result<(), Error> {
        let (Some(&(lowest, _)), Some(&(highest, _))) = (late.first(), late.last()) else {
            return Ok(());
        };
        let had = self.next.span(Kind::Receipts);
        let span = match had.first == had.end {
            true => Span {
                first: lowest,
                end: highest + 1,
            },
            false => Span {
                first: had.first.min(lowest),
                end: had.end.max(highest + 1),
            },
        };
        self.next.spans[Kind::Receipts.column()] = span;
        let mut next = span.first;
        let mut late = late.iter().peekable();
        while next < span.end {
            let era = next / ERA_BLOCKS;
            let end = span.end.min((era + 1) * ERA_BLOCKS);
            let first_late = late.peek().map_or(u64::MAX, |late| late.0);
            let had_here = had.first.max(next)..had.end.min(end);
            if first_late >= end && had_here == (next..end) {
                next = end;
                continue;
            }
            let behind =
                !had_here.is_empty() && had_here.start == next && first_late >= had_here.end;
            let mut out = if behind {
                next = had_here.end;
                Appender::open(self, Kind::Receipts, next, None)?
            } else {
                Appender::make(self, Kind::Receipts, next, None)?
            };
            for number in next..end {
                if let Some((_, receipts)) = late.next_if(|late| late.0 == number) {
                    out.compress(receipts, &mut self.work.compressor)?;
                } else if had.contains(number) {
                    out.copy(self.old, number)?;
                } else {
                    out.absent()?;
                }
            }
            self.work.buffer = out.finish()?;
            next = end;
        }
        Ok(())
    }

    /// Forgets the bodies and receipts of the eras below `era`.
    pub(crate) fn expire(&mut self, era: u64) {
        let first = era * ERA_BLOCKS;
        for kind in [Kind::Bodies, Kind::Receipts] {
            let span = &mut self.next.spans[kind.column()];
            if span.first == span.end && kind == Kind::Receipts {
                continue; // there are none: where they begin is not said yet
            }
            span.first = span.first.max(first.min(span.end));
            self.next.drop_segments_below(kind, era);
        }
    }

    /// Writes the new tip log: what stays of the old one, forks too, and the new blocks that are not cold.
    fn write_tip(&mut self, plan: &Plan<'_>) -> Result<(TipLog, TipIndex), Error> {
        let old = &self.old.tip;
        let base = self.next.headers().end;
        let mut in_tip = vec![false; old.blocks().len()];
        let mut in_fresh = vec![false; plan.fresh.len()];
        for link in plan.chain(old).1 {
            match link {
                Link::Tip(i) => in_tip[i as usize] = old.block(i).number >= base,
                Link::Fresh(i) => {
                    in_fresh[i as usize] = plan.fresh[i as usize].block.number >= base;
                }
                Link::Base(_) => {}
            }
        }
        let dir = self.old.dir();
        let Work {
            frame, compressor, ..
        } = &mut *self.work;
        let mut tip = TipWriter::create(self.disk, dir, &self.next, frame)?;
        for (i, block) in old.blocks().iter().enumerate() {
            let parent = old.parent_hash(block);
            if tip.takes(block.number, parent, block.stored(), in_tip[i]) {
                let late = plan.late.get(&(i as u32)).copied();
                tip.make_room(block.stored() + late.map_or(0, |bytes| bytes.len() as u64))?;
                copy(self.old, block, parent, tip.frame)?;
                if let Some(receipts) = late {
                    let (number, hash) = (block.number, block.hash);
                    tip.frame
                        .compress(number, Kind::Receipts, hash, receipts, compressor);
                }
                tip.took(block.number, block.hash, in_tip[i]);
            }
        }
        for (i, fresh) in plan.fresh.iter().enumerate() {
            let block = fresh.block;
            if tip.takes(block.number, fresh.parent_hash, fresh.raw(), in_fresh[i]) {
                tip.make_room(fresh.raw())?;
                fresh.put(tip.frame, compressor);
                tip.took(block.number, block.hash, in_fresh[i]);
            }
        }
        tip.finish(plan.head_number, plan.head_hash)
    }

    /// Writes the new tip log and then the MANIFEST, and removes what is named no more. Returns the view after it.
    pub(crate) fn publish(mut self, plan: &Plan<'_>) -> Result<(Snapshot, TipLog), Error> {
        self.merge()?;
        let dir = self.old.dir();
        let (log, tip) = self.write_tip(plan)?;
        for folder in &self.folders {
            self.disk.sync_dir(&dir.join(folder))?;
        }
        self.disk.sync_dir(dir)?;
        check_ours(dir, self.old.manifest.sequence)?;
        manifest::write(self.disk, dir, &self.next.encode(), 0)?;

        // The change is made. What it replaced is only in the way: if it cannot be removed now, the next session does.
        for path in self.gone() {
            let done = if self.damaged.contains(&path) {
                let mut aside = path.clone().into_os_string();
                aside.push(".damaged");
                self.disk.rename(&path, Path::new(&aside))
            } else {
                self.disk.remove(&path)
            };
            if let Err(e) = done {
                log::warn!("a replaced file stays for now: {e}");
            }
        }
        let next = Arc::new(self.next);
        let tip_file = Arc::new(TipFile::open(dir, &next)?);
        let snapshot = Snapshot::new(next, Arc::new(tip), tip_file, self.old.shared.clone())?;
        Ok((snapshot, log))
    }

    /// The files that the old MANIFEST or this change named and the new one does not.
    fn gone(&self) -> Vec<PathBuf> {
        let (dir, old, next) = (self.old.dir(), &self.old.manifest, &self.next);
        let mut gone = vec![manifest::tip_path(dir, old.tip)];
        for (row, era) in old.eras.iter().zip(u64::from(old.first_era)..) {
            for kind in SEGMENT_KINDS {
                let sequence = row[kind.column()];
                if sequence != 0 && next.segment(kind, era) != Some(sequence) {
                    gone.push(manifest::era_path(dir, kind, era, sequence));
                }
            }
        }
        let is_named = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            let folder = path.parent().and_then(|above| above.file_name()?.to_str());
            matches!((folder, name), (Some(folder), Some(name)) if manifest::is_named(next, folder, name))
        };
        gone.extend(self.unnamed.iter().filter(|path| !is_named(path)).cloned());
        let runs = old.runs.iter().chain(&self.runs);
        gone.extend(
            runs.filter(|run| !next.runs.contains(run))
                .map(|run| run_path(dir, run)),
        );
        gone
    }
}

/// The MANIFEST that follows a snapshot's, nothing changed but its name.
pub(crate) fn next_manifest(old: &Snapshot) -> Result<Manifest, Error> {
    let mut next = (*old.manifest).clone();
    next.sequence += 1;
    next.tip = u32::try_from(next.sequence).map_err(|_| {
        Error::damaged(
            &old.dir().join(COPIES[0]),
            24,
            format!("sequence {} is out of names", next.sequence),
        )
    })?;
    Ok(next)
}

/// Appends a block's record of one kind to its segment.
fn append(
    old: &Snapshot,
    plan: &Plan<'_>,
    kind: Kind,
    link: Link,
    out: &mut Appender,
    work: &mut Work,
) -> Result<(), Error> {
    let compressor = &mut work.compressor;
    match link {
        Link::Tip(i) => {
            let block = old.tip.block(i);
            let late = plan.late.get(&i).filter(|_| kind == Kind::Receipts);
            match (block.place(kind), old.in_tip(block, kind)?, late) {
                (Some(place), Some(stored), _) => out.stored(place.raw, place.crc, &stored),
                (_, _, Some(receipts)) => out.compress(receipts, compressor),
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
        Link::Base(_) => unreachable!("what is below the base is cold already"),
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

/// Refuses a store that a newer program must write.
pub(crate) fn refuse_newer(dir: &Path, found: &Found) -> Result<(), Error> {
    let asked = found.manifest.write_version;
    if asked <= VERSION {
        return Ok(());
    }
    Err(Error::Newer {
        path: dir.join(COPIES[found.copy]),
        found: asked,
        supported: VERSION,
        readable: true,
    })
}

/// Files of the store's kinds that no MANIFEST names: those of changes that were never committed, and those that are newer
/// than the MANIFEST.
pub(crate) fn unnamed(
    dir: &Path,
    manifest: &Manifest,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let (mut leftovers, mut ahead) = (Vec::new(), Vec::new());
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
            if stem.is_none() && manifest::is_named(manifest, folder, &name) {
                continue;
            }
            if stem.is_none() && u64::from(of) > manifest.sequence + 1 {
                ahead.push(path);
            } else {
                leftovers.push(path);
            }
        }
    }
    Ok((leftovers, ahead))
}

/// What a session does before its first change: writes the MANIFEST it found to both copies again, for what was found may
/// be only in the cache, and removes the files of changes that were never committed.
pub(crate) fn begin(disk: &Disk, dir: &Path, found: &Found) -> Result<(), Error> {
    let sequence = found.manifest.sequence;
    let (leftovers, ahead) = unnamed(dir, &found.manifest)?;
    if let Some(path) = ahead.into_iter().next() {
        return Err(Error::Ahead { path, sequence });
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
