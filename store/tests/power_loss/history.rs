//! One random history: sessions of changes, faults and power losses, checked all along against the model.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use alloy_primitives::B256;

use crate::file::InFile;
use crate::machine::{self, Fault, STORE};
use crate::model::{Block, Has, Model};
use crate::random::Random;
use crate::scale::ERA_BLOCKS;
use crate::tiplog::TipLog;
use crate::wrong::Wrong;
use crate::{Error, Reader, Snapshot, Writer};

thread_local! {
    static LOUD: Cell<bool> = const { Cell::new(false) };
}

/// Tells what is done, for one history run again.
pub(crate) fn set_loud() {
    LOUD.set(true);
}

pub(crate) fn is_loud() -> bool {
    LOUD.get()
}

macro_rules! tell {
    ($($what:tt)*) => {
        if $crate::history::is_loud() {
            println!($($what)*);
        }
    };
}
pub(crate) use tell;

/// What a run of histories did.
#[derive(Default, Debug)]
pub(crate) struct Counts {
    pub(crate) sessions: u64,
    pub(crate) changes: u64,
    pub(crate) power_losses: u64,
    pub(crate) failed_syncs: u64,
    pub(crate) failed_writes: u64,
    pub(crate) replacements: u64,
    pub(crate) branches: u64,
    pub(crate) receipts: u64,
    pub(crate) expiries: u64,
    pub(crate) joins: u64,
    pub(crate) slow_readers: u64,
    pub(crate) verified: u64,
    pub(crate) lost_attempts: u64,
    pub(crate) kept_attempts: u64,
    pub(crate) damages: u64,
    pub(crate) repairs: u64,
    pub(crate) repairs_cut: u64,
    pub(crate) damages_left: u64,
    pub(crate) bodies_lost: u64,
}

/// What may be on the disk: the last acknowledged state, then what was attempted since. `None`: no store.
pub(crate) type Possible = Vec<Option<Model>>;

pub(crate) struct History<'c> {
    pub(crate) random: Random,
    pub(crate) wrong: Option<Wrong>,
    pub(crate) possible: Possible,
    /// Blocks whose receipts were given late, in any of the histories' turns.
    pub(crate) late: HashSet<B256>,
    pub(crate) genesis: Rc<Block>,
    /// The last session ended with a failure, and the power did not go.
    pub(crate) failed: bool,
    /// The last change was given up half-way.
    pub(crate) gave_up: bool,
    /// All blocks that were ever given.
    pub(crate) known: HashMap<B256, Rc<Block>>,
    /// A damage took something for good: nothing more can be said.
    pub(crate) ended: bool,
    /// Views held for long, and what they must show.
    pub(crate) held: Vec<(Arc<Snapshot>, Model)>,
    pub(crate) counts: &'c mut Counts,
}

pub(crate) fn run(seed: u64, wrong: Option<Wrong>, counts: &mut Counts) -> Result<(), String> {
    let mut random = Random(seed ^ 0x5eed);
    machine::start(random.next(), wrong);
    let genesis = Block::new(None, 0);
    let mut history = History {
        random,
        wrong,
        possible: vec![None],
        late: HashSet::new(),
        genesis,
        failed: false,
        gave_up: false,
        known: HashMap::new(),
        ended: false,
        held: Vec::new(),
        counts,
    };
    let sessions = 2 + history.random.below(6);
    for _ in 0..sessions {
        history.session()?;
        if history.ended {
            return Ok(());
        }
    }
    // In the end all is well, and the store goes on.
    machine::set_fault(Fault::None);
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
        machine::set_fault(fault);
        let mut writer = match self.open() {
            Ok(writer) => Some(writer),
            Err(e) if machine::fault_hit() => {
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
                Err(e) if machine::fault_hit() => {
                    tell!("  failed: {e}");
                    let poisoned = open.commit(&[], B256::ZERO).err();
                    if !matches!(poisoned, Some(Error::Poisoned)) {
                        return Err(format!("after a fault: {poisoned:?}"));
                    }
                    writer = None;
                }
                Err(e) => return Err(e),
            }
            if machine::is_dead() {
                break;
            }
            self.watch(writer.as_ref(), &mut reader)?;
        }
        drop(writer);
        if machine::fault_hit() {
            match fault {
                Fault::Sync(_) | Fault::ManifestSync(_) => self.counts.failed_syncs += 1,
                Fault::Write(_) => self.counts.failed_writes += 1,
                _ => {}
            }
        }
        if !machine::is_dead() && self.random.one_in(2) {
            self.failed = machine::fault_hit();
            return self.look(false);
        }
        tell!("the power goes");
        self.counts.power_losses += 1;
        self.held.clear();
        machine::lose_power();
        self.look(true)?;
        match self.random.below(5) {
            0 => self.damage(),
            _ => Ok(()),
        }
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
        for block in &model.chain {
            self.known.insert(block.hash, block.clone());
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
    pub(crate) fn acknowledge(&mut self) {
        let last = self.possible.pop();
        self.possible.clear();
        self.possible.extend(last);
    }

    /// The state a writer shows.
    pub(crate) fn shown(&self, writer: &Writer) -> Result<Model, String> {
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
    pub(crate) fn compare(&mut self, snapshot: &Snapshot) -> Result<usize, String> {
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
                    machine::changes()
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
