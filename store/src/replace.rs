//! Replacing the chain above a block by a branch of any length, given part by part: into `.new` files, named when it is
//! whole.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use alloy_primitives::{B256, U256};

use crate::append::Appender;
use crate::change::{Edit, next_manifest, with_ending};
use crate::error::Error;
use crate::format::{ERA_BLOCKS, Kind, SEGMENT_KINDS, slot_of};
use crate::manifest::{Manifest, RunName};
use crate::plan::{self, Plan};
use crate::runs::{Run, run_path};
use crate::scale::{
    ABSENT_BLOCKS, BATCH_KEEP_BLOCKS, BATCH_KEEP_BYTES, BATCH_KEEP_MAX_BYTES, KEEP_BLOCKS,
};
use crate::snappy::Buffer;
use crate::snapshot::Snapshot;
use crate::tip::TipBlock;
use crate::writer::Writer;
use crate::{Head, NewBlock};

/// A branch on its way into the store: give it the blocks above the fork in rising order with [`Replace::append`], in
/// parts of any size, then [`Replace::finish`]. Until then readers see the chain of before, and the writer does nothing
/// else. Dropped, or cut short by a crash, nothing has changed.
///
/// It needs memory for its last blocks (at most 1,024 of 1 MiB, or 16 of 8 MiB), which go to the tip, and for what is
/// gathered for a write: some 16 MiB, however long the branch is. On the disk it needs room beside the chain of before.
pub struct Replace<'a> {
    writer: &'a mut Writer,
    old: Arc<Snapshot>,
    next: Manifest,
    /// Where the settled chain was cut, and the settled blocks of before below it are copied to.
    cut: u64,
    /// The block that settles next.
    number: u64,
    /// Number, hash and total difficulty of the last block given, or of the fork.
    last: Head,
    /// The last blocks given: they stay in the tip.
    held: VecDeque<Held>,
    held_bytes: u64,
    out: [Option<Appender>; 3],
    /// The names that the files are to get: until then each ends in `.new`.
    files: Vec<PathBuf>,
    /// Hashes of the blocks from the cut on, of the era at hand.
    hashes: Vec<(u64, B256)>,
    runs: Vec<RunName>,
    finished: bool,
}

/// A block that is kept until it is known whether it settles.
struct Held {
    number: u64,
    hash: B256,
    td: U256,
    header: Vec<u8>,
    body: Vec<u8>,
    receipts: Option<Vec<u8>>,
}

impl Held {
    fn of(block: &NewBlock<'_>) -> Held {
        Held {
            number: block.number,
            hash: block.hash,
            td: block.td,
            header: block.header.to_vec(),
            body: block.body.to_vec(),
            receipts: block.receipts.map(<[u8]>::to_vec),
        }
    }

    fn as_new(&self) -> NewBlock<'_> {
        NewBlock {
            number: self.number,
            hash: self.hash,
            td: self.td,
            header: &self.header,
            body: &self.body,
            receipts: self.receipts.as_deref(),
        }
    }

    fn bytes(&self) -> u64 {
        (self.header.len() + self.body.len() + self.receipts.as_ref().map_or(0, Vec::len)) as u64
    }
}

impl<'a> Replace<'a> {
    pub(crate) fn begin(writer: &'a mut Writer, fork: u64) -> Result<Replace<'a>, Error> {
        let old = writer.idle()?;
        let head = old.head();
        let (hash, td) = if fork > head.number {
            return Err(Error::BadBlock {
                number: fork,
                what: format!(
                    "nothing can be put on it: the head is block {}",
                    head.number
                ),
            });
        } else if let Some(block) = old.tip.at(fork) {
            (block.hash, block.td)
        } else if fork + 1 != old.tip.base() && fork < old.first_header() {
            return Err(Error::BadBlock {
                number: fork,
                what: format!(
                    "nothing can be put on it: headers are kept from block {} on",
                    old.first_header()
                ),
            });
        } else {
            (old.expect_hash(fork)?, old.expect_td(fork)?)
        };
        writer.poisoned = true;
        writer.begin()?;
        let next = next_manifest(&old)?;
        let cut = old.tip.base().min(fork + 1);
        let mut replace = Replace {
            writer,
            next,
            cut,
            number: cut,
            last: Head {
                number: fork,
                hash,
                td,
            },
            held: VecDeque::new(),
            held_bytes: 0,
            out: [None, None, None],
            files: Vec::new(),
            hashes: Vec::new(),
            runs: Vec::new(),
            finished: false,
            old,
        };
        replace.copy_below()?;
        replace.writer.poisoned = false;
        Ok(replace)
    }

    /// Gives the next blocks. If one does not fit (its number, parent, total difficulty or sizes) all of them are refused
    /// and nothing is written: others may be given, or the branch let go.
    pub fn append(&mut self, blocks: &[NewBlock<'_>]) -> Result<(), Error> {
        if self.writer.poisoned {
            return Err(Error::Poisoned);
        }
        let mut last = self.last;
        for block in blocks {
            last = plan::follows(block, &last)?;
        }
        self.writer.poisoned = true;
        for block in blocks {
            let mut held = Held::of(block);
            if held.receipts.is_none() {
                // The branch may hold blocks that the tip of before had, and their receipts came late.
                held.receipts = self.old.receipts_in_tip(&held.hash)?;
            }
            self.held_bytes += held.bytes();
            self.held.push_back(held);
            while self.held_too_much()
                && let Some(held) = self.held.pop_front()
            {
                self.held_bytes -= held.bytes();
                self.settle(&held.as_new())?;
            }
        }
        self.last = last;
        self.writer.poisoned = false;
        Ok(())
    }

    /// Makes the branch the canonical chain: one durable change. `head` is the last block given; another is refused, and
    /// nothing has changed.
    pub fn finish(mut self, head: B256) -> Result<Head, Error> {
        if self.writer.poisoned {
            return Err(Error::Poisoned);
        }
        if head != self.last.hash {
            return Err(Error::UnknownHead { hash: head });
        }
        self.writer.poisoned = true;
        for kind in SEGMENT_KINDS {
            self.close(kind)?;
        }
        for kind in [Kind::Headers, Kind::Bodies] {
            self.next.spans[kind.column()].end = self.number;
        }
        let held: Vec<NewBlock<'_>> = self.held.iter().map(Held::as_new).collect();
        let plan = Plan::of_branch(&held, self.number, (self.last.number, head))?;
        let (files, runs) = (
            std::mem::take(&mut self.files),
            std::mem::take(&mut self.runs),
        );
        let next = self.next.clone();
        self.finished = true;
        self.writer.poisoned = false;
        let snapshot = self.writer.change(|writer, old| {
            let mut edit = Edit::new(&writer.disk, old, &mut writer.work)?;
            edit.next = next;
            for path in files {
                edit.disk.rename(&with_ending(&path, ".new"), &path)?;
            }
            for kind in SEGMENT_KINDS.into_iter().chain([Kind::Run]) {
                edit.made(kind);
            }
            for run in runs {
                edit.name_run(run);
            }
            let (next, log) = edit.publish(&plan)?;
            writer.log = Some(log);
            Ok(next)
        })?;
        Ok(snapshot.head())
    }

    fn held_too_much(&self) -> bool {
        let blocks = self.held.len();
        let most_bytes = if blocks <= BATCH_KEEP_BLOCKS {
            BATCH_KEEP_MAX_BYTES
        } else {
            BATCH_KEEP_BYTES
        };
        blocks > KEEP_BLOCKS || self.held_bytes > most_bytes
    }

    /// Cuts the settled chain and copies what the era of the cut keeps; then settles the tip's blocks up to the fork.
    fn copy_below(&mut self) -> Result<(), Error> {
        let (old, cut) = (self.old.clone(), self.cut);
        for kind in SEGMENT_KINDS {
            let kept = self.next.cut_span(kind, cut);
            let era = kept.end / ERA_BLOCKS; // receipts may end eras before the others
            self.next.cut_segments(kind, era);
            let from = kept.first.max(era * ERA_BLOCKS);
            if from < kept.end {
                let td = old.segment(kind, era, 0)?.page.td;
                let out = self.appender(kind, from, td)?;
                for number in from..kept.end {
                    out.copy(&old, number)?;
                }
            }
        }
        let era = cut / ERA_BLOCKS;
        self.next.runs.retain(|run| u64::from(run.era) < era);
        if let Some(anchor) = cut.checked_sub(1) {
            self.next.cold_hash = old.expect_hash(anchor)?;
            self.next.cold_td = old.expect_td(anchor)?;
        }
        for number in cut..=self.last.number {
            let block = old
                .tip
                .at(number)
                .expect("the canonical tip goes up to the fork");
            self.settle_from_tip(block)?;
        }
        Ok(())
    }

    /// Settles a block of the tip of before, its records unchanged.
    fn settle_from_tip(&mut self, block: &TipBlock) -> Result<(), Error> {
        let old = self.old.clone();
        for kind in SEGMENT_KINDS {
            let (Some(place), Some(stored)) = (block.place(kind), old.in_tip(block, kind)?) else {
                continue;
            };
            if let Some(out) = self.place(kind, block.number)? {
                out.stored(place.raw, place.crc, &stored)?;
            }
        }
        self.settled(block.number, block.hash, block.td)
    }

    fn settle(&mut self, block: &NewBlock<'_>) -> Result<(), Error> {
        if let Some(out) = self.place(Kind::Headers, block.number)? {
            out.raw(block.header)?;
        }
        for (kind, raw) in [
            (Kind::Bodies, Some(block.body)),
            (Kind::Receipts, block.receipts),
        ] {
            let Some(raw) = raw else { continue };
            if self.place(kind, block.number)?.is_some() {
                let out = self.out[kind.column()].as_mut();
                let out = out.expect("a place was made the line before");
                out.compress(raw, &mut self.writer.work.compressor)?;
            }
        }
        self.settled(block.number, block.hash, block.td)
    }

    /// Notes that a block is in the segments.
    fn settled(&mut self, number: u64, hash: B256, td: U256) -> Result<(), Error> {
        self.hashes.push((number, hash));
        (self.next.cold_hash, self.next.cold_td) = (hash, td);
        self.number = number + 1;
        for kind in SEGMENT_KINDS {
            let out = self.out[kind.column()].as_ref();
            if out.is_some_and(|out| slot_of(out.next()) == 0) {
                self.close(kind)?;
            }
        }
        match slot_of(self.number) {
            0 => self.write_run(number / ERA_BLOCKS),
            _ => Ok(()),
        }
    }

    /// Where a block's record of a kind goes; `None`: receipts too far above those that are kept.
    fn place(&mut self, kind: Kind, number: u64) -> Result<Option<&mut Appender>, Error> {
        if kind == Kind::Receipts {
            let span = &mut self.next.spans[kind.column()];
            if span.first == span.end {
                (span.first, span.end) = (number, number);
            } else if number - span.end > ABSENT_BLOCKS {
                return Ok(None);
            }
            for absent in span.end..number {
                self.appender(kind, absent, None)?.absent()?;
                if slot_of(absent + 1) == 0 {
                    self.close(kind)?;
                }
            }
            self.next.spans[kind.column()].end = number + 1;
        }
        let td = self.next.cold_td;
        self.appender(kind, number, Some(td)).map(Some)
    }

    /// The `.new` segment that block `number` goes to, made if it is its first.
    fn appender(
        &mut self,
        kind: Kind,
        number: u64,
        td: Option<U256>,
    ) -> Result<&mut Appender, Error> {
        let out = &mut self.out[kind.column()];
        if out.is_none() {
            let era = number / ERA_BLOCKS;
            let path = self.next.add_segment(self.old.dir(), kind, era);
            let (disk, at, next) = (&self.writer.disk, with_ending(&path, ".new"), &self.next);
            let made = Appender::create(disk, &at, next, kind, number, td, Buffer::new());
            self.files.push(path);
            *out = Some(made?);
        }
        Ok(out.as_mut().expect("it was made above"))
    }

    fn close(&mut self, kind: Kind) -> Result<(), Error> {
        match self.out[kind.column()].take() {
            Some(out) => out.finish().map(drop),
            None => Ok(()),
        }
    }

    /// Writes the run of an era that is finished.
    fn write_run(&mut self, era: u64) -> Result<(), Error> {
        let first = (era * ERA_BLOCKS).max(self.next.headers().first);
        let mut blocks: Vec<(u64, B256)> = Vec::with_capacity(ERA_BLOCKS as usize);
        self.old.each_cold_hash(first, self.cut, |number, hash| {
            blocks.push((number, hash));
        })?;
        blocks.append(&mut self.hashes);
        let era = u32::try_from(era).expect("2^32 eras are more blocks than fit a disk");
        let name = RunName {
            era,
            level: 0,
            sequence: self.next.tip,
        };
        let path = run_path(self.old.dir(), &name);
        self.files.push(path.clone());
        Run::of_blocks(era, 0, &blocks).write(
            &self.writer.disk,
            &with_ending(&path, ".new"),
            self.next.store_id,
            self.next.tip,
        )?;
        self.runs.push(name);
        Ok(())
    }
}

impl Drop for Replace<'_> {
    fn drop(&mut self) {
        if self.finished || self.writer.poisoned {
            return;
        }
        self.out = [None, None, None];
        for path in &self.files {
            // What stays is in the way of the next branch's names.
            if let Err(e) = self.writer.disk.remove(&with_ending(path, ".new")) {
                log::warn!("{e}");
                self.writer.poisoned = true;
            }
        }
    }
}
