//! Joining older history below what is kept: whole eras, given block by block in rising order.

use std::path::PathBuf;
use std::sync::Arc;

use alloy_primitives::{B256, U256};

use crate::append::Appender;
use crate::change::{Edit, next_manifest};
use crate::error::Error;
use crate::format::{ERA_BLOCKS, Kind, slot_of};
use crate::manifest::Manifest;
use crate::plan::{self, Plan};
use crate::rlp;
use crate::snappy::Buffer;
use crate::snapshot::Snapshot;
use crate::writer::Writer;
use crate::{Head, NewBlock};

/// Older history on its way into the store: give it every block from the first on with [`Join::push`], then
/// [`Join::finish`]. Dropped before that, nothing has changed.
///
/// Where headers are kept already (a store that was pruned) the blocks are bodies, and receipts, of these. Where they are
/// not, headers join too.
pub struct Join<'a> {
    writer: &'a mut Writer,
    old: Arc<Snapshot>,
    next: Manifest,
    /// The block that is given next, the first one, and the first that is kept already.
    number: u64,
    first: u64,
    end: u64,
    /// Whether headers join too.
    headers: bool,
    /// Hash and total difficulty of the block given last.
    last: Option<(B256, U256)>,
    /// The first block that came with receipts.
    first_receipts: Option<u64>,
    out: [Option<Appender>; 3],
    files: Vec<PathBuf>,
    /// Hashes of the blocks given, if headers join: 32 bytes a block of the era at hand, and runs of those before.
    hashes: Vec<(u64, B256)>,
    runs: Vec<(u64, Vec<(u64, B256)>)>,
    finished: bool,
}

impl<'a> Join<'a> {
    pub(crate) fn begin(writer: &'a mut Writer, first: u64) -> Result<Join<'a>, Error> {
        let old = writer.idle()?;
        let (headers, bodies) = (old.manifest.headers(), old.manifest.span(Kind::Bodies));
        let end = bodies.first;
        let bad = |what: String| Error::BadBlock {
            number: first,
            what,
        };
        if slot_of(first) != 0 {
            return Err(bad(format!(
                "not the first block of an era of {ERA_BLOCKS}"
            )));
        }
        if first >= end {
            return Err(bad(format!("bodies are kept from block {end} on already")));
        }
        if first < headers.first && (headers.first != end || slot_of(end) != 0) {
            return Err(bad(format!(
                "headers are kept from block {} on and bodies from {end} on: join those first",
                headers.first
            )));
        }
        writer.poisoned = true;
        writer.begin()?;
        writer.poisoned = false;
        let next = next_manifest(&old)?;
        Ok(Join {
            headers: first < headers.first,
            writer,
            old,
            next,
            number: first,
            first,
            end,
            last: None,
            first_receipts: None,
            out: [None, None, None],
            files: Vec::new(),
            hashes: Vec::new(),
            runs: Vec::new(),
            finished: false,
        })
    }

    /// The first block that is kept already: the join ends before it.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Gives the next block. Receipts are kept from the first block that has some on, if they reach up to those that are
    /// kept.
    pub fn push(&mut self, block: &NewBlock<'_>) -> Result<(), Error> {
        let fields = plan::check(block)?;
        let bad = |what: String| Error::BadBlock {
            number: block.number,
            what,
        };
        if block.number != self.number || block.number >= self.end {
            return Err(bad(format!(
                "expected block {} of {}..{}",
                self.number, self.first, self.end
            )));
        }
        if self.headers {
            let before = match self.last {
                Some((hash, _)) if hash != fields.parent => {
                    let what = format!("parent hash: expected {hash}, found {}", fields.parent);
                    return Err(bad(what));
                }
                Some((_, td)) => Some(td),
                None => block.td.checked_sub(fields.difficulty),
            };
            let td = before.map(|td| td.saturating_add(fields.difficulty));
            if td != Some(block.td) {
                let what = format!("total difficulty: expected {td:?}, found {}", block.td);
                return Err(bad(what));
            }
        } else if self.old.hash(block.number)? != Some(block.hash) {
            return Err(bad(format!("{} is not the block that is kept", block.hash)));
        }
        self.writer.poisoned = true;
        let td = block.td.checked_sub(fields.difficulty);
        if self.headers {
            self.appender(Kind::Headers, td)?.raw(block.header)?;
            self.hashes.push((block.number, block.hash));
        }
        self.compress(Kind::Bodies, Some(block.body))?;
        if block.receipts.is_some() && self.first_receipts.is_none() {
            self.first_receipts = Some(block.number);
        }
        if self.first_receipts.is_some() {
            self.compress(Kind::Receipts, block.receipts)?;
        }
        self.last = Some((block.hash, block.td));
        self.number += 1;
        if slot_of(self.number) == 0 {
            self.close_era()?;
        }
        self.writer.poisoned = false;
        Ok(())
    }

    fn compress(&mut self, kind: Kind, bytes: Option<&[u8]>) -> Result<(), Error> {
        self.appender(kind, None)?;
        let out = self.out[kind.column()].as_mut();
        let out = out.expect("it was made the line before");
        match bytes {
            Some(bytes) => out.compress(bytes, &mut self.writer.work.compressor),
            None => out.absent(),
        }
    }

    /// The segment of the era at hand.
    fn appender(&mut self, kind: Kind, td: Option<U256>) -> Result<&mut Appender, Error> {
        let out = &mut self.out[kind.column()];
        if out.is_none() {
            let era = self.number / ERA_BLOCKS;
            let path = self.next.add_segment(self.old.dir(), kind, era);
            let (disk, next) = (&self.writer.disk, &self.next);
            let made = Appender::create(disk, &path, next, kind, self.number, td, Buffer::new());
            self.files.push(path);
            *out = Some(made?);
        }
        Ok(out.as_mut().expect("it was made above"))
    }

    fn close_era(&mut self) -> Result<(), Error> {
        for out in &mut self.out {
            if let Some(out) = out.take() {
                out.finish()?;
            }
        }
        if self.headers {
            let era = (self.number - 1) / ERA_BLOCKS;
            self.runs.push((era, std::mem::take(&mut self.hashes)));
        }
        Ok(())
    }

    /// Links what was given to what is kept: one durable change. Refused, with nothing changed, if the last block given is
    /// not the one below.
    pub fn finish(mut self) -> Result<Head, Error> {
        let bad = |what: String| Error::BadBlock {
            number: self.end - 1,
            what,
        };
        if self.number != self.end {
            return Err(bad(format!("the blocks given end before {}", self.number)));
        }
        if let (true, Some((hash, td))) = (self.headers, self.last) {
            let (expected_hash, expected_td) = self.expected()?;
            if hash != expected_hash || td != expected_td {
                return Err(bad(format!(
                    "the block below is {expected_hash} of total difficulty {expected_td}, given was {hash} of {td}"
                )));
            }
        }
        let old = self.old.clone();
        let plan = Plan::make(&old, &[], old.head().hash)?;
        self.writer.poisoned = true;
        self.copy_rest(&old)?;
        let span = old.manifest.span(Kind::Receipts);
        let joined = match self.first_receipts {
            Some(first) if span.first == span.end => Some((first, self.end)),
            Some(first) if span.first == self.end => Some((first, span.end)),
            _ => None,
        };
        let receipts = Kind::Receipts.column();
        let mut next = self.next.clone();
        match joined {
            Some((first, end)) => {
                next.spans[receipts].first = first;
                next.spans[receipts].end = end;
            }
            None => {
                // They reach nothing: their files are given up.
                next.restore_segments(Kind::Receipts, &old.manifest);
            }
        }
        if self.headers {
            next.spans[Kind::Headers.column()].first = self.first;
        }
        next.spans[Kind::Bodies.column()].first = self.first;
        let files = std::mem::take(&mut self.files);
        let runs = std::mem::take(&mut self.runs);
        self.finished = true;
        self.writer.poisoned = false;
        let snapshot = self.writer.change(|writer, old| {
            let mut edit = Edit::new(&writer.disk, old, &mut writer.work)?;
            edit.next = next;
            edit.unnamed = files;
            for kind in [Kind::Headers, Kind::Bodies, Kind::Receipts] {
                edit.made(kind);
            }
            for (era, blocks) in &runs {
                edit.write_run(*era, 0, blocks)?;
            }
            let (next, log) = edit.publish(&plan)?;
            writer.log = Some(log);
            Ok(next)
        })?;
        Ok(snapshot.head())
    }

    /// Hash and total difficulty of the block below the first header.
    fn expected(&self) -> Result<(B256, U256), Error> {
        let old = &self.old;
        if old.tip.base() == self.end {
            return Ok(old.tip.anchor());
        }
        let segment = old.segment(Kind::Headers, self.end / ERA_BLOCKS, 1)?;
        let parent = old
            .header(self.end)?
            .and_then(|header| rlp::parent(&header));
        match (parent, segment.page.td) {
            (Some(parent), Some(td)) => Ok((parent, td)),
            _ => Err(Error::damaged(
                segment.map.path(),
                64,
                "hash and difficulty of the block below are not known",
            )),
        }
    }

    /// If bodies begin inside an era, copies those of its blocks that are kept behind the ones given.
    fn copy_rest(&mut self, old: &Snapshot) -> Result<(), Error> {
        if slot_of(self.end) == 0 {
            return Ok(());
        }
        let era_end = (self.end / ERA_BLOCKS + 1) * ERA_BLOCKS;
        for kind in [Kind::Bodies, Kind::Receipts] {
            let span = old.manifest.span(kind);
            if let Some(mut out) = self.out[kind.column()].take() {
                let from = self.end;
                if span.first == from {
                    for number in from..era_end.min(span.end) {
                        out.copy(old, number)?;
                    }
                }
                out.finish()?;
            }
        }
        Ok(())
    }
}

impl Drop for Join<'_> {
    fn drop(&mut self) {
        if self.finished || self.writer.poisoned {
            return;
        }
        self.out = [None, None, None];
        for path in &self.files {
            // What stays is in the way of the next change's names.
            if let Err(e) = self.writer.disk.remove(path) {
                log::warn!("{e}");
                self.writer.poisoned = true;
            }
        }
    }
}
