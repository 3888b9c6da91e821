//! Manifest commits: what goes cold and what is replaced, the new tip log, and the MANIFEST that says so. Every change
//! but a single frame is one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::B256;

use crate::append::Appender;
use crate::error::Error;
use crate::file::{Disk, OutFile};
use crate::format::{ERA_BLOCKS, Kind, RecordHead, SEGMENT_KINDS};
use crate::frame::FrameBuilder;
use crate::manifest::{self, COPIES, Manifest, RunName, Span};
use crate::merge::Merge;
use crate::pack::Packer;
use crate::plan::{Link, Plan};
use crate::runs::{Run, run_path};
use crate::scale::MERGE_ENTRIES;
use crate::session;
use crate::snappy::{Buffer, Compressor};
use crate::snapshot::Snapshot;
use crate::tip::{Place, TipBlock, TipFile, TipIndex};
use crate::tiplog::{TipLog, TipWriter};

/// What a writer works with: buffers that are kept between commits, and the merge of runs that is under way.
pub(crate) struct Work {
    pub(crate) compressor: Compressor,
    pub(crate) frame: FrameBuilder,
    pub(crate) buffer: Buffer,
    pub(crate) packer: Packer,
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
            packer: Packer::new(),
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
    /// Segments that were written and are not synced yet: all are written before the first is waited for.
    unsynced: BTreeMap<PathBuf, OutFile>,
    /// Folders where names were made.
    folders: BTreeSet<&'static str>,
    /// Runs that were written, also those that a merge has taken up since.
    runs: Vec<RunName>,
    /// Segments that were made, some of which may not be named in the end.
    pub(crate) unnamed: Vec<PathBuf>,
    /// Replaced files that are to be kept under another name and have only one.
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
            unsynced: BTreeMap::new(),
            folders: BTreeSet::new(),
            runs: Vec::new(),
            unnamed: Vec::new(),
            damaged: Vec::new(),
        })
    }

    pub(crate) fn made(&mut self, kind: Kind) {
        self.folders.insert(kind.name());
    }

    /// Writes what is left of a segment, to be synced with the others.
    pub(crate) fn close(&mut self, out: Appender) -> Result<(), Error> {
        let (file, buffer) = out.close()?;
        self.work.buffer = buffer;
        self.unsynced.insert(file.path().to_path_buf(), file);
        Ok(())
    }

    /// Keeps a file that is replaced, with the ending `.damaged`: it has that name too before the MANIFEST names it no more.
    /// (Where files cannot have two names it gets it after, and a crash between the two takes the file.)
    pub(crate) fn keep_damaged(&mut self, path: PathBuf) -> Result<(), Error> {
        if !self.disk.link(&path, &with_ending(&path, ".damaged"))? {
            self.damaged.push(path);
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
        let path = run_path(self.old.dir(), &name);
        run.write(self.disk, &path, self.next.store_id, self.next.tip)?;
        self.name_run(name);
        Ok(())
    }

    /// Names a run that was written.
    pub(crate) fn name_run(&mut self, name: RunName) {
        self.made(Kind::Run);
        self.next.runs.push(name);
        self.runs.push(name);
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

    /// Keeps late receipts, or bodies, of settled blocks, in rising order: behind the others, or in a replacement of their
    /// era.
    pub(crate) fn add_late(&mut self, kind: Kind, late: &[(u64, &[u8])]) -> Result<(), Error> {
        let (Some(&(lowest, _)), Some(&(highest, _))) = (late.first(), late.last()) else {
            return Ok(());
        };
        let had = self.next.span(kind);
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
        self.next.spans[kind.column()] = span;
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
                Appender::open(self, kind, next, None)?
            } else {
                Appender::make(self, kind, next, None)?
            };
            for number in next..end {
                if let Some((_, raw)) = late.next_if(|late| late.0 == number) {
                    out.compress(raw, &mut self.work.compressor)?;
                } else if had.contains(number) {
                    out.copy(self.old, number)?;
                } else {
                    out.absent()?;
                }
            }
            self.close(out)?;
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

    /// Writes the new tip log, to be synced: what stays of the old one, forks too, and the new blocks that are not cold.
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
        let given: HashSet<B256> = plan.fresh.iter().map(|fresh| fresh.block.hash).collect();
        for (i, block) in old.blocks().iter().enumerate() {
            let parent = old.parent_hash(block);
            if given.contains(&block.hash) {
                continue; // a branch may hold blocks that the tip of before had
            }
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

    /// Writes the new tip log, makes it and the segments durable, then writes the MANIFEST, and removes what is named no more. Returns the view after it.
    pub(crate) fn publish(mut self, plan: &Plan<'_>) -> Result<(Snapshot, TipLog), Error> {
        self.merge()?;
        let dir = self.old.dir();
        let (log, tip) = self.write_tip(plan)?;
        let mut files: Vec<&OutFile> = self.unsynced.values().collect();
        files.push(log.file());
        let mut folders: Vec<PathBuf> =
            self.folders.iter().map(|folder| dir.join(folder)).collect();
        folders.push(dir.to_path_buf());
        self.disk.sync_all(&files, &folders)?;
        session::check_ours(dir, self.old.manifest.sequence)?;
        manifest::write(self.disk, dir, &self.next.encode(), 0)?;

        // The change is made. What it replaced is only in the way: if it cannot be removed now, the next session does.
        for path in self.gone() {
            let done = if self.damaged.contains(&path) {
                self.disk.rename(&path, &with_ending(&path, ".damaged"))
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

/// A path with an ending more.
pub(crate) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
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
