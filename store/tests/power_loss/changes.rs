//! The changes that a history makes: one of a random kind, on the store and on the model.

use std::path::Path;
use std::rc::Rc;

use crate::history::{History, tell};
use crate::machine::STORE;
use crate::model::{Block, Has, Model};
use crate::scale::ERA_BLOCKS;
use crate::{Error, NewBlock, NewReceipts, Reader, Writer};

/// Blocks a history's chain has at most.
const MAX_BLOCKS: u64 = 160;

impl History<'_> {
    /// One change of a random kind.
    pub(crate) fn change(&mut self, writer: &mut Writer) -> Result<(), String> {
        self.counts.changes += 1;
        let model = match &self.possible[..] {
            [Some(model)] => model.clone(),
            _ => self.shown(writer)?,
        };
        let kind = self.random.below(28);
        let result = match kind {
            0..9 => self.append(writer, model, 3),
            9..12 => self.append(writer, model, 40),
            12..14 => self.reorganise(writer, model, 4),
            14..17 => self.reorganise(writer, model, MAX_BLOCKS),
            17 => self.rewind(writer, model),
            18..20 => self.receipts(writer, model),
            20 | 21 => self.expire(writer, model),
            22 => {
                tell!("  rebuild the index");
                self.possible.push(Some(model));
                crate::repair::rebuild(writer).map(drop)
            }
            23 | 24 => self.join(writer, model),
            _ => self.replace(writer, model),
        };
        result.map_err(|e| e.to_string())?;
        if std::mem::take(&mut self.gave_up) {
            return Ok(()); // nothing was changed, and nothing made sure of
        }
        self.acknowledge();
        let head = writer.head();
        let model = self.possible[0].as_ref().expect("there is a store");
        if head != model.head().head() {
            return Err(format!(
                "a commit shows head {}, not {}",
                head.number,
                model.head().number
            ));
        }
        Ok(())
    }

    fn append(&mut self, writer: &mut Writer, model: Model, most: u64) -> Result<(), Error> {
        let count = 1 + self.random.below(most);
        let fork = model.head().number;
        self.branch(writer, model, fork, count)
    }

    fn reorganise(&mut self, writer: &mut Writer, model: Model, deepest: u64) -> Result<(), Error> {
        let head = model.head().number;
        let depth = 1 + self.random.below(deepest.min(head + 1));
        let fork = head.saturating_sub(depth).max(model.first_header);
        let most = if self.random.one_in(2) { 4 } else { depth + 4 };
        let count = 1 + self.random.below(most);
        self.branch(writer, model, fork, count)
    }

    fn rewind(&mut self, writer: &mut Writer, model: Model) -> Result<(), Error> {
        let head = model.head().number;
        let fork = head
            .saturating_sub(self.random.below(20))
            .max(model.first_header);
        self.branch(writer, model, fork, 0)
    }

    /// Gives blocks on block `fork` and makes the last the head; sometimes side blocks too.
    fn branch(
        &mut self,
        writer: &mut Writer,
        mut model: Model,
        fork: u64,
        count: u64,
    ) -> Result<(), Error> {
        let count = count.min(MAX_BLOCKS.saturating_sub(fork));
        let fork = fork.min(model.head().number);
        let old = model.clone();
        let base = writer.reader().snapshot().tip.base();
        tell!(
            "  branch of {count} on {fork}, head {}, tip from {base}",
            model.head().number
        );
        model.chain.truncate(fork as usize + 1);
        model.has.truncate(fork as usize + 1);
        let mut blocks = Vec::new();
        let mut others = Vec::new();
        // Few variants, so that a branch may be the one of before.
        let variant = self.random.below(3);
        for _ in 0..count {
            if self.random.one_in(12) {
                others.push(Block::new(Some(model.head()), 3));
            }
            let other = self.random.one_in(8);
            let block = Block::new(Some(model.head()), if other { 4 } else { variant });
            let has = match (block.with_receipts, self.late.contains(&block.hash)) {
                (true, _) => Has::Yes,
                (false, true) => Has::Maybe,
                (false, false) => Has::No,
            };
            self.known.insert(block.hash, block.clone());
            model.chain.push(block.clone());
            model.has.push(has);
            blocks.push(block);
        }
        // The branch may begin as the chain it replaces did.
        let same = |(a, b): &(&Rc<Block>, &Rc<Block>)| a.hash == b.hash;
        let common = old.chain.iter().zip(&model.chain).take_while(same).count();
        model.has[..common].copy_from_slice(&old.has[..common]);
        if (common as u64) < base {
            self.counts.replacements += 1;
            model.first_body = model.first_body.min(common as u64);
        }
        let head = model.head().hash;
        // What is known may be given again.
        let again = self
            .random
            .below(4)
            .min(fork - model.first_header.min(fork)) as usize;
        let from = fork as usize + 1 - again.min(fork as usize);
        let again = model.chain[from.max(1)..=fork as usize].to_vec();
        self.possible.push(Some(model));
        let new: Vec<NewBlock<'_>> = again
            .iter()
            .chain(&blocks)
            .chain(&others)
            .map(|block| block.as_new())
            .collect();
        let mut new = new;
        new.sort_by_key(|block| block.number);
        writer.commit(&new, head)?;
        Ok(())
    }

    /// Gives a branch in parts, or gives it up after some. Others look at the store meanwhile.
    fn replace(&mut self, writer: &mut Writer, mut model: Model) -> Result<(), Error> {
        let head = model.head().number;
        let deepest = if self.random.one_in(2) {
            12
        } else {
            MAX_BLOCKS
        };
        let depth = self.random.below(deepest);
        let fork = head.saturating_sub(depth).max(model.first_header).min(head);
        let count = self
            .random
            .below(depth + 8)
            .min(MAX_BLOCKS.saturating_sub(fork));
        let base = writer.reader().snapshot().tip.base();
        tell!("  replace what is above {fork} by {count} blocks, head {head}, tip from {base}");
        model.chain.truncate(fork as usize + 1);
        model.has.truncate(fork as usize + 1);
        model.first_body = model.first_body.min(base.min(fork + 1));
        let variant = self.random.below(3);
        let mut replace = writer.replace_above(fork)?;
        while model.head().number < fork + count {
            if self.random.one_in(12) {
                drop(replace);
                self.gave_up = true;
                tell!("  given up after block {}", model.head().number);
                return match writer.poisoned {
                    true => Err(Error::Poisoned),
                    false => Ok(()),
                };
            }
            let mut part = Vec::new();
            let blocks = 1 + self
                .random
                .below(20)
                .min(fork + count - model.head().number - 1);
            for _ in 0..blocks {
                let block = Block::new(Some(model.head()), variant);
                let has = match (block.with_receipts, self.late.contains(&block.hash)) {
                    (true, _) => Has::Yes,
                    (false, true) => Has::Maybe,
                    (false, false) => Has::No,
                };
                self.known.insert(block.hash, block.clone());
                model.chain.push(block.clone());
                model.has.push(has);
                part.push(block);
            }
            let new: Vec<NewBlock<'_>> = part.iter().map(|block| block.as_new()).collect();
            replace.append(&new)?;
            if self.random.one_in(4) && self.possible.iter().all(Option::is_some) {
                let seen = Reader::open(Path::new(STORE))?;
                let sees = self.compare(&seen.snapshot());
                assert!(sees.is_ok(), "while a branch is given: {sees:?}");
            }
        }
        self.counts.branches += 1;
        let head = model.head().hash;
        self.possible.push(Some(model));
        replace.finish(head)?;
        Ok(())
    }

    fn receipts(&mut self, writer: &mut Writer, mut model: Model) -> Result<(), Error> {
        let (first, head) = (model.first_body, model.head().number);
        let mut late = Vec::new();
        let (chance, from) = (1 + self.random.below(6), self.random.below(head + 1));
        for n in first.max(from)..=head {
            let n = n as usize;
            if model.has[n] != Has::Yes && n > 0 && self.random.one_in(chance) {
                model.has[n] = Has::Yes;
                late.push(model.chain[n].clone());
            }
        }
        tell!("  {} late receipts", late.len());
        self.counts.receipts += u64::from(!late.is_empty());
        self.late.extend(late.iter().map(|block| block.hash));
        self.possible.push(Some(model));
        let late: Vec<NewReceipts<'_>> = late
            .iter()
            .map(|block| NewReceipts {
                number: block.number,
                hash: block.hash,
                receipts: &block.receipts,
            })
            .collect();
        writer.add_receipts(&late)
    }

    fn expire(&mut self, writer: &mut Writer, mut model: Model) -> Result<(), Error> {
        let before = self.random.below(model.head().number + 2);
        let cold = writer.reader().snapshot().tip.base();
        let first = before.min(cold) / ERA_BLOCKS * ERA_BLOCKS;
        tell!("  expire below {before}: {first}");
        if first > model.first_body {
            self.counts.expiries += 1;
            model.first_body = first;
        }
        for has in model.has.iter_mut().take(first as usize) {
            *has = Has::No;
        }
        let first = model.first_body;
        self.possible.push(Some(model));
        let says = writer.expire(before)?;
        assert_eq!(says, first, "the first body kept after expiry");
        Ok(())
    }

    fn join(&mut self, writer: &mut Writer, mut model: Model) -> Result<(), Error> {
        let end = model.first_body;
        if end == 0 {
            return self.append(writer, model, 2);
        }
        let eras = end.div_ceil(ERA_BLOCKS);
        let mut first = (eras - 1 - self.random.below(eras)) * ERA_BLOCKS;
        if model.first_header < end {
            first = first.max(model.first_header);
        }
        tell!("  join {first}..{end}, headers from {}", model.first_header);
        self.counts.joins += 1;
        let blocks = model.chain[first as usize..end as usize].to_vec();
        let keeps = match model.has.get(end as usize) {
            Some(Has::Yes) => Has::Yes,
            _ => Has::Maybe,
        };
        for block in &blocks {
            if block.with_receipts {
                model.has[block.number as usize] = keeps;
            }
        }
        model.first_body = first;
        model.first_header = model.first_header.min(first);
        let give_up = self.random.one_in(6);
        if !give_up {
            self.possible.push(Some(model));
        }
        let mut join = writer.join_below(first)?;
        for block in &blocks {
            if give_up && self.random.one_in(4) {
                break;
            }
            join.push(&block.as_new())?;
        }
        if give_up {
            drop(join);
            self.gave_up = true;
            return if writer.poisoned {
                Err(Error::Poisoned)
            } else {
                Ok(())
            };
        }
        join.finish()?;
        Ok(())
    }
}
