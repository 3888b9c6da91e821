//! Settling: what goes cold, what is cut for a branch that replaces it, and the runs of the eras that become finished.

use alloy_primitives::B256;

use crate::append::Appender;
use crate::change::Edit;
use crate::error::Error;
use crate::format::{ERA_BLOCKS, Kind, SEGMENT_KINDS};
use crate::pack::Raw;
use crate::plan::{Link, Plan};
use crate::scale::{
    ABSENT_BLOCKS, BATCH_BYTES, BATCH_KEEP_BLOCKS, BATCH_KEEP_BYTES, BATCH_KEEP_MAX_BYTES,
    KEEP_BLOCKS, KEEP_BYTES, TIP_BLOCKS, TIP_BYTES,
};
use crate::snapshot::Snapshot;
use crate::tip::TipBlock;
use crate::tiplog::TipLog;

impl Edit<'_> {
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
            let cut = self.next.cut_span(kind, base);
            self.next.cut_segments(kind, era);
            let from = cut.first.max(era * ERA_BLOCKS);
            if from < cut.end {
                let td = self.old.segment(kind, era, 0)?.page.td;
                let mut out = Appender::make(self, kind, from, td)?;
                for number in from..cut.end {
                    out.copy(self.old, number)?;
                }
                self.close(out)?;
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
            for number in next..to.min(base) {
                debug_assert_eq!(number, out.next());
                out.absent()?;
            }
            let links = &cold[(next.max(base) - base) as usize..(to.max(base) - base) as usize];
            self.append(kind, plan, links, &mut out)?;
            self.close(out)?;
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

    /// Appends the records of a kind of blocks in a row to their segment: those of the tip as they are, the new ones packed.
    fn append(
        &mut self,
        kind: Kind,
        plan: &Plan<'_>,
        links: &[Link],
        out: &mut Appender,
    ) -> Result<(), Error> {
        let old = self.old;
        let mut fresh: Vec<Raw<'_>> = Vec::new();
        for (&link, number) in links.iter().zip(out.next()..) {
            match link {
                Link::Tip(i) => {
                    let block = old.tip.block(i);
                    let late = plan.late.get(&i).filter(|_| kind == Kind::Receipts);
                    match (block.place(kind), old.in_tip(block, kind)?, late) {
                        (Some(place), Some(stored), _) => {
                            out.stored(place.raw, place.crc, &stored)?;
                        }
                        (_, _, Some(receipts)) => {
                            out.compress(receipts, &mut self.work.compressor)?;
                        }
                        _ => out.absent()?,
                    }
                }
                Link::Fresh(i) => {
                    let block = plan.fresh[i as usize].block;
                    match kind {
                        Kind::Headers => out.raw(block.header)?,
                        Kind::Bodies => fresh.push((number, Some(block.body))),
                        _ => fresh.push((number, block.receipts)),
                    }
                }
                Link::Base(_) => unreachable!("what is below the base is cold already"),
            }
        }
        // No block of the tip hangs on a new one: these are the last.
        let packer = &mut self.work.packer;
        packer.pack(kind, &fresh, &mut |part| out.packed(part))
    }
}
