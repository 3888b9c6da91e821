//! One random history: sessions of changes, faults and power losses, checked all along against the model.

use std::cell::Cell;
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use alloy_primitives::B256;

use crate::file::{self, Fault, InFile, Random, STORE, Wrong};
use crate::model::{Block, Has, Model};
use crate::scale::ERA_BLOCKS;
use crate::tiplog::TipLog;
use crate::{Error, NewBlock, NewReceipts, Reader, Snapshot, Writer};

/// Blocks a history's chain has at most.
const MAX_BLOCKS: u64 = 160;

thread_local! {
    static LOUD: Cell<bool> = const { Cell::new(false) };
}

/// Tells what is done, for one history run again.
pub(crate) fn set_loud() {
    LOUD.set(true);
}

macro_rules! tell {
    ($($what:tt)*) => {
        if LOUD.get() {
            println!($($what)*);
        }
    };
}

/// What a run of histories did.
#[derive(Default, Debug)]
pub(crate) struct Counts {
    pub(crate) sessions: u64,
    pub(crate) changes: u64,
    pub(crate) power_losses: u64,
    pub(crate) failed_syncs: u64,
    pub(crate) failed_writes: u64,
    pub(crate) replacements: u64,
    pub(crate) receipts: u64,
    pub(crate) expiries: u64,
    pub(crate) joins: u64,
    pub(crate) slow_readers: u64,
    pub(crate) verified: u64,
    pub(crate) lost_attempts: u64,
    pub(crate) kept_attempts: u64,
}

/// What may be on the disk: the last acknowledged state, then what was attempted since. `None`: no store.
type Possible = Vec<Option<Model>>;

struct History<'c> {
    random: Random,
    wrong: Option<Wrong>,
    possible: Possible,
    /// Blocks whose receipts were given late, in any of the histories' turns.
    late: HashSet<B256>,
    genesis: Rc<Block>,
    /// The last session ended with a failure, and the power did not go.
    failed: bool,
    /// The last change was given up half-way.
    gave_up: bool,
    /// Views held for long, and what they must show.
    held: Vec<(Arc<Snapshot>, Model)>,
    counts: &'c mut Counts,
}

pub(crate) fn run(seed: u64, wrong: Option<Wrong>, counts: &mut Counts) -> Result<(), String> {
    let mut random = Random(seed ^ 0x5eed);
    file::start(random.next(), wrong);
    let genesis = Block::new(None, 0);
    let mut history = History {
        random,
        wrong,
        possible: vec![None],
        late: HashSet::new(),
        genesis,
        failed: false,
        gave_up: false,
        held: Vec::new(),
        counts,
    };
    let sessions = 2 + history.random.below(6);
    for _ in 0..sessions {
        history.session()?;
    }
    // In the end all is well, and the store goes on.
    file::set_fault(Fault::None);
    let mut writer = history.open().map_err(|e| format!("in the end: {e}"))?;
    for _ in 0..3 {
        history
            .change(&mut writer)
            .map_err(|e| format!("in the end: {e}"))?;
    }
    drop(writer);
    history.look(true)
}

impl History<'_> {
    /// Opens the store (or makes it), makes changes until something goes wrong or it is enough, and looks at what is left.
    fn session(&mut self) -> Result<(), String> {
        self.counts.sessions += 1;
        let after_failure = std::mem::take(&mut self.failed) && self.random.one_in(2);
        let fault = match self.random.below(8) {
            // What a failed sync left in the cache only is met by the first changes behind it.
            _ if after_failure => Fault::Power(self.random.below(6)),
            0..3 => Fault::Power(self.early(70)),
            3 => Fault::Power(self.early(500)),
            4 => Fault::Sync(self.early(60)),
            5 => Fault::ManifestSync(self.early(12)),
            6 => Fault::Write(self.early(150)),
            _ => Fault::None,
        };
        tell!("session: {fault:?}");
        file::set_fault(fault);
        let mut writer = match self.open() {
            Ok(writer) => Some(writer),
            Err(e) if file::fault_hit() => {
                tell!("  open: {e}");
                None
            }
            Err(e) => return Err(format!("open: {e}")),
        };
        let mut reader = None;
        let changes = 1 + self.random.below(14);
        for _ in 0..changes {
            let Some(open) = &mut writer else { break };
            match self.change(open) {
                Ok(()) => {}
                Err(e) if file::fault_hit() => {
                    tell!("  failed: {e}");
                    let poisoned = open.commit(&[], B256::ZERO).err();
                    if !matches!(poisoned, Some(Error::Poisoned)) {
                        return Err(format!("after a fault: {poisoned:?}"));
                    }
                    writer = None;
                }
                Err(e) => return Err(e),
            }
            if file::is_dead() {
                break;
            }
            self.watch(writer.as_ref(), &mut reader)?;
        }
        drop(writer);
        if file::fault_hit() {
            match fault {
                Fault::Sync(_) | Fault::ManifestSync(_) => self.counts.failed_syncs += 1,
                Fault::Write(_) => self.counts.failed_writes += 1,
                _ => {}
            }
        }
        if !file::is_dead() && self.random.one_in(2) {
            self.failed = file::fault_hit();
            return self.look(false);
        }
        tell!("the power goes");
        self.counts.power_losses += 1;
        self.held.clear();
        file::lose_power();
        self.look(true)
    }

    /// Small numbers are as likely as large ones: first changes of a session are where much can go wrong.
    fn early(&mut self, most: u64) -> u64 {
        let most = 1 + self.random.below(most);
        self.random.below(most)
    }

    fn open(&mut self) -> Result<Writer, Error> {
        let path = Path::new(STORE);
        match Writer::open(path) {
            Err(Error::NoStore { .. } | Error::Damaged { .. })
                if self.possible.iter().any(Option::is_none) =>
            {
                self.create()
            }
            Ok(mut writer) => {
                self.misuse(&mut writer)?;
                Ok(writer)
            }
            Err(e) => Err(e),
        }
    }

    /// The wrong orders that are made by hand.
    fn misuse(&self, writer: &mut Writer) -> Result<(), Error> {
        match self.wrong {
            Some(Wrong::FoundRewrittenBackwards) => {
                if let Some(found) = &mut writer.found {
                    found.copy = 1 - found.copy;
                }
            }
            Some(Wrong::TipResumed) => {
                let snapshot = writer.reader().snapshot();
                let path = snapshot.tip_file.file.path();
                let length = InFile::open(path)?.len()?;
                let file = writer.disk.open(path)?;
                let end = snapshot.tip.end.max(length);
                writer.log = Some(TipLog::of(file, snapshot.tip_file.salt, end));
            }
            _ => {}
        }
        Ok(())
    }

    fn create(&mut self) -> Result<Writer, Error> {
        let path = Path::new(STORE);
        let mut model = Model {
            chain: vec![self.genesis.clone()],
            has: vec![Has::No],
            first_header: 0,
            first_body: 0,
        };
        let above = self.random.one_in(8);
        if above {
            let eras = 1 + self.random.below(2);
            while !(model.chain.len() as u64).is_multiple_of(ERA_BLOCKS)
                || (model.chain.len() as u64) < eras * ERA_BLOCKS
            {
                let block = Block::new(Some(model.head()), 0);
                model.chain.push(block);
                model.has.push(Has::No);
            }
            model.first_header = model.chain.len() as u64;
            model.first_body = model.first_header;
        }
        tell!("  create with {} blocks below", model.first_header);
        let below = model.head().head();
        self.possible.push(Some(model));
        let writer = if above {
            Writer::create_at(path, &self.genesis.as_genesis(), below)?
        } else {
            Writer::create(path, &self.genesis.as_genesis())?
        };
        self.acknowledge();
        Ok(writer)
    }

    /// What was attempted last is committed.
    fn acknowledge(&mut self) {
        let last = self.possible.pop();
        self.possible.clear();
        self.possible.extend(last);
    }

    /// The state a writer shows.
    fn shown(&self, writer: &Writer) -> Result<Model, String> {
        let head = writer.head();
        let shown = self.possible.iter().rev().flatten();
        let mut shown = shown.filter(|model| model.head().hash == head.hash);
        let snapshot = writer.reader().snapshot();
        let mut why = format!("head {} is none that was given", head.number);
        shown
            .find(|model| {
                let result = model.compare(&snapshot, &mut Random(1));
                if let Err(e) = &result {
                    why.clone_from(e);
                }
                result.is_ok()
            })
            .cloned()
            .ok_or(why)
    }

    /// One change of a random kind.
    fn change(&mut self, writer: &mut Writer) -> Result<(), String> {
        self.counts.changes += 1;
        let model = match &self.possible[..] {
            [Some(model)] => model.clone(),
            _ => self.shown(writer)?,
        };
        let kind = self.random.below(25);
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
            _ => self.join(writer, model),
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

    /// Readers that hold a view for long, and one in another process.
    fn watch(
        &mut self,
        writer: Option<&Writer>,
        reader: &mut Option<Reader>,
    ) -> Result<(), String> {
        if let Some(writer) = writer
            && self.random.one_in(6)
            && let [Some(model)] = &self.possible[..]
        {
            self.held.push((writer.reader().snapshot(), model.clone()));
        }
        if self.random.one_in(4) && !self.held.is_empty() {
            self.counts.slow_readers += 1;
            let i = self.random.below(self.held.len() as u64) as usize;
            let (snapshot, model) = self.held.swap_remove(i);
            if let Err(e) = model.compare(&snapshot, &mut self.random)
                && !e.contains("take a newer snapshot")
            {
                return Err(format!("a slow reader: {e}"));
            }
        }
        if self.possible.iter().all(Option::is_some) && self.random.one_in(4) {
            let open = match reader.take() {
                Some(open) => open,
                None => Reader::open(Path::new(STORE)).map_err(|e| format!("a reader: {e}"))?,
            };
            open.refresh().map_err(|e| format!("a reader: {e}"))?;
            self.compare(&open.snapshot())
                .map_err(|e| format!("a reader: {e}"))?;
            *reader = Some(open);
        }
        Ok(())
    }

    /// Which of the possible states a view shows.
    fn compare(&mut self, snapshot: &Snapshot) -> Result<usize, String> {
        let mut why = Vec::new();
        for (i, model) in self.possible.iter().enumerate().rev() {
            let Some(model) = model else { continue };
            match model.compare(snapshot, &mut self.random) {
                Ok(()) => return Ok(i),
                Err(e) => why.push(format!("state {i}: {e}")),
            }
        }
        Err(format!(
            "none of {} states: {}",
            self.possible.len(),
            why.join("; ")
        ))
    }

    /// Opens what is there and checks it. After a power loss it is all there is.
    fn look(&mut self, is_settled: bool) -> Result<(), String> {
        let at = match Reader::open(Path::new(STORE)) {
            Ok(reader) => {
                let at = self.compare(&reader.snapshot())?;
                if self.random.one_in(4) {
                    self.counts.verified += 1;
                    self.possible[at]
                        .as_ref()
                        .expect("it was compared")
                        .verify()?;
                }
                at
            }
            Err(Error::NoStore { .. } | Error::Damaged { .. })
                if self.possible.iter().any(Option::is_none) =>
            {
                self.possible
                    .iter()
                    .position(Option::is_none)
                    .expect("it is there")
            }
            Err(e) => {
                return Err(format!(
                    "after {} changes of the disk: {e}",
                    file::changes()
                ));
            }
        };
        tell!("found: state {at} of {}", self.possible.len());
        if self.possible.len() > 1 {
            if at == 0 {
                self.counts.lost_attempts += 1;
            } else {
                self.counts.kept_attempts += 1;
            }
        }
        if is_settled {
            self.possible = vec![self.possible.swap_remove(at)];
        }
        Ok(())
    }
}
