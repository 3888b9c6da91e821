//! The sync role's thread: hands events and time to the machine, and carries out what it decides.
//!
//! What is to be stored it gives to the store's thread, and checks what comes meanwhile. Peers and our sealer are told of a block when
//! it is stored: announcements stand in line behind it. Requests do not.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_net::eth::status::LocalChain;
use cairn_net::reactor::{Command, Handle, NetEvent, OwnedOutgoing, SendError};
use cairn_store::Reader;
use crossbeam_channel::{Receiver, RecvError, select};

use super::boundary::{Action, Block, SealedBlock, Staging};
use super::heads::{self, Heads};
use super::machine::Machine;
use super::store::{Done, Job, Store};
use super::storing::View;
use super::tasks::{Task, Tasks};
use super::told::{Kind, Told};
use crate::bans::BanFile;
use crate::chain::{Genesis, Tip};
use crate::clock::unix_s;
use crate::logging::short;
use crate::memory;
use crate::status;

/// Commands that wait for room in the link to net. Requests in flight are bounded by the machine, so this only bounds
/// a net thread that does not run.
const COMMANDS_LIMIT: usize = 4096;
/// How soon commands are tried again that found the link to net full.
const COMMANDS_RETRY: Duration = Duration::from_millis(5);
/// With nothing to wait for, the thread still looks around this often.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// What the sync thread is given.
pub struct SyncRole {
    /// The state machine, at the stored head.
    pub machine: Machine,
    /// The chain's genesis, for the fork id.
    pub genesis: Arc<Genesis>,
    /// The network id told to peers.
    pub network_id: u64,
    /// Events of the net thread.
    pub events: Receiver<NetEvent>,
    /// Raised by the net thread when `events` was full.
    pub stalled: Arc<AtomicBool>,
    /// Commands to the net thread.
    pub net: Handle,
    /// The store's thread.
    pub store: Store,
    /// What is stored.
    pub reader: Reader,
    /// Blocks of our own sealer; never, if there is none.
    pub sealed: Receiver<SealedBlock>,
    /// New heads for the sealer, if there is one.
    pub heads: Option<Heads>,
    /// Are there nodes to dial, of which one may know a better chain than ours?
    pub expects_peers: bool,
    /// A sealer leaves them so long after the start to show a better chain; then it seals alone.
    pub first_peer_wait: Duration,
    /// Where the bans of peers are kept.
    pub bans: BanFile,
    /// Where the others see how far this one is.
    pub board: status::Writer,
    /// Closed when the node stops.
    pub stop: Receiver<()>,
}

/// Why the sync thread ended by itself.
#[derive(Debug)]
pub enum SyncError {
    /// The store cannot be read.
    Store(cairn_store::Error),
    /// The net thread does not take commands.
    NetStuck,
}

/// What peers are told of us at `tip`.
pub fn local_chain(genesis: &Genesis, network_id: u64, tip: &Tip, earliest: u64) -> LocalChain {
    let head = &tip.header;
    LocalChain {
        network_id,
        genesis: genesis.header.hash,
        fork_filter: genesis
            .spec
            .fork_filter(genesis, head.header.number, head.header.timestamp),
        head_number: head.header.number,
        head: head.hash,
        td: tip.td,
        earliest,
    }
}

impl SyncRole {
    /// Runs until `stop` is closed, or the net thread or the store's is gone.
    ///
    /// # Errors
    /// `SyncError`, which stops the node.
    pub fn run(self) -> Result<(), SyncError> {
        let mut turns = Turns {
            stored: self.machine.tip().clone(),
            role: self,
            start: Instant::now(),
            tasks: Tasks::default(),
            waiting: VecDeque::new(),
            told: Told::default(),
            sealer_told: heads::Told::default(),
            catches_up: false,
        };
        let ended = turns.run();
        turns.finish();
        turns.role.bans.keep(&turns.role.net, true);
        ended
    }
}

/// The thread at work.
struct Turns {
    role: SyncRole,
    start: Instant,
    /// The stored head.
    stored: Tip,
    /// What the machine wants done, but requests.
    tasks: Tasks,
    /// Commands to net, in order.
    waiting: VecDeque<Command>,
    told: Told,
    sealer_told: heads::Told,
    /// Is there something to catch up with?
    catches_up: bool,
}

impl Turns {
    fn run(&mut self) -> Result<(), SyncError> {
        loop {
            self.act();
            self.show();
            self.tell_sealer();
            self.send_waiting()?;
            self.role.bans.keep(&self.role.net, false);
            let input = match self.tasks.must_wait() {
                true => self.wait_for_store(),
                false => self.wait(),
            };
            if self.role.stalled.swap(false, Ordering::SeqCst) {
                self.role.net.wake();
            }
            let now_ms = self.now_ms();
            let view = View::of(&self.role.reader, &self.tasks);
            let machine = &mut self.role.machine;
            match input {
                Input::Event(event) => {
                    self.told.announced(&event, now_ms);
                    machine.handle_event(now_ms, unix_s(), event, &view);
                }
                Input::Sealed(block) => machine.handle_sealed(now_ms, block, &view),
                Input::Timeout => machine.handle_timeout(now_ms, unix_s(), &view),
                Input::Nothing => {}
                Input::Over => return Ok(()),
            }
            if let Some(error) = view.failed() {
                return Err(SyncError::Store(error));
            }
        }
    }

    /// Lets the store finish what it was given, which peers have sent and the log may have told of.
    fn finish(&mut self) {
        self.act();
        while !self.tasks.is_idle() {
            let Ok(done) = self.role.store.done.recv() else {
                return; // its thread has ended
            };
            self.done(&done);
            self.act();
        }
    }

    /// What the machine is told when the store has done something: there may be room for more, but not while it must wait.
    fn heard(&mut self, done: Result<Done, RecvError>) -> Input {
        let Ok(done) = done else {
            return Input::Over;
        };
        self.done(&done);
        match self.tasks.must_wait() {
            true => Input::Nothing,
            false => Input::Timeout,
        }
    }

    fn wait(&mut self) -> Input {
        let now_ms = self.now_ms();
        let wait = match self.role.machine.deadline_ms() {
            Some(at) => Duration::from_millis(at.saturating_sub(now_ms)).min(IDLE_WAIT),
            None => IDLE_WAIT,
        };
        let wait = match self.waiting.is_empty() {
            true => wait,
            false => wait.min(COMMANDS_RETRY),
        };
        select! {
            recv(self.role.events) -> event => event.map_or(Input::Over, Input::Event),
            recv(self.role.store.done) -> done => self.heard(done),
            recv(self.role.sealed) -> block => match block {
                Ok(block) => Input::Sealed(block),
                Err(_) => {
                    self.role.sealed = crossbeam_channel::never();
                    Input::Timeout
                }
            },
            recv(self.role.stop) -> _ => Input::Over,
            default(wait) => Input::Timeout,
        }
    }

    fn wait_for_store(&mut self) -> Input {
        let wait = match self.waiting.is_empty() {
            true => IDLE_WAIT,
            false => COMMANDS_RETRY,
        };
        select! {
            recv(self.role.store.done) -> done => self.heard(done),
            recv(self.role.stop) -> _ => Input::Over,
            default(wait) => Input::Nothing,
        }
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn show(&mut self) {
        let (now_ms, now_s) = (self.now_ms(), unix_s());
        let machine = &self.role.machine;
        let status = machine.status();
        let (is_caught_up, overdue_s) = (machine.is_caught_up(), machine.overdue_s(now_s));
        let figures = self
            .role
            .board
            .show(now_ms, &self.stored, &status, is_caught_up, overdue_s);
        let catches_up = self.told.show(now_ms, &figures, &status);
        if std::mem::replace(&mut self.catches_up, catches_up) && !catches_up {
            memory::give_back();
        }
    }

    /// Carries out what the machine decided, as far as the store has got. Requests go ahead: their answers come while the disk is at
    /// work.
    fn act(&mut self) {
        while let Some(action) = self.role.machine.poll_action() {
            match action {
                Action::Send {
                    peer,
                    message: message @ OwnedOutgoing::Request { .. },
                } => {
                    self.told.sent(&message);
                    self.waiting.push_back(Command::Send { peer, message });
                }
                action => self.tasks.push(action),
            }
        }
        let mut announced = 0;
        while let Some(task) = self.tasks.next() {
            match task {
                // Its thread takes one job at a time, so there is room; if it has ended, main knows why, and stops us.
                Task::Store(action) => drop(self.role.store.jobs.send(Job(action))),
                Task::Here(Action::Send { peer, message }) => {
                    announced += self.told.sent(&message);
                    self.waiting.push_back(Command::Send { peer, message });
                }
                Task::Here(Action::Punish { peer, fault }) => {
                    log::warn!("Dropping peer peer={} fault=\"{fault}\"", peer.0);
                    let cause = fault.cause();
                    self.waiting.push_back(Command::Disconnect { peer, cause });
                }
                Task::Here(_) => unreachable!("all else is the store's"),
            }
        }
        self.told.requested();
        if announced > 0 {
            let head = &self.stored.header;
            log::info!(
                "Announced to peers number={} hash={} peers={announced}",
                head.header.number,
                short(&head.hash)
            );
        }
    }

    /// The store has done what it was given.
    fn done(&mut self, done: &Done) {
        let now_ms = self.now_ms();
        match &*self.tasks.done() {
            Action::Commit { blocks, tip, live } => {
                let kind = if *live { Kind::Live } else { Kind::CaughtUp };
                self.role.board.extended(blocks, tip);
                self.count(now_ms, blocks, kind, done.took);
                self.set_chain(tip);
            }
            Action::Stage(Staging::Add { blocks }) => {
                self.count(now_ms, blocks, Kind::Staged, done.took);
            }
            Action::Stage(Staging::Publish { tip }) => {
                self.role.board.replaced(&self.role.reader.snapshot(), tip);
                self.set_chain(tip);
            }
            Action::Keep { .. } => self.role.machine.kept(),
            _ => {}
        }
        if let Some(kept) = &done.kept {
            self.told.kept(kept, done.took);
        }
    }

    /// Counts blocks that have been stored.
    fn count(&mut self, now_ms: u64, blocks: &[Block], kind: Kind, took: Duration) {
        self.role.machine.stored();
        let bytes: usize = blocks.iter().map(Block::bytes).sum();
        self.role
            .board
            .stored(now_ms, blocks.len() as u64, bytes as u64);
        if let Some(last) = blocks.last() {
            let counted = (blocks.len(), bytes);
            self.told.stored(now_ms, &last.header, counted, kind, took);
        }
    }

    /// Tells the net threads of the new head.
    fn set_chain(&mut self, tip: &Tip) {
        self.stored = tip.clone();
        let earliest = self.role.reader.snapshot().first_body();
        let chain = local_chain(&self.role.genesis, self.role.network_id, tip, earliest);
        self.waiting.push_back(Command::SetChain(chain));
    }

    /// Tells the sealer what it may seal on.
    fn tell_sealer(&mut self) {
        let Some(heads) = &self.role.heads else {
            return;
        };
        let machine = &self.role.machine;
        let alone = self.role.expects_peers && machine.status().peers == 0;
        let waits = alone && self.start.elapsed() < self.role.first_peer_wait;
        if let Some(head) = self.sealer_told.news(machine, &self.stored, waits) {
            heads.put(head);
        }
    }

    fn send_waiting(&mut self) -> Result<(), SyncError> {
        let waiting = &mut self.waiting;
        while let Some(command) = waiting.pop_front() {
            match self.role.net.send(command) {
                Ok(()) => {}
                Err(SendError::Full(command)) => {
                    waiting.push_front(*command);
                    break;
                }
                // The net thread has ended: main knows why, and stops us.
                Err(SendError::Stopped(_)) => waiting.clear(),
            }
        }
        if waiting.len() > COMMANDS_LIMIT {
            return Err(SyncError::NetStuck);
        }
        Ok(())
    }
}

enum Input {
    Event(NetEvent),
    Sealed(SealedBlock),
    Timeout,
    /// The machine is to be told nothing.
    Nothing,
    /// The node stops.
    Over,
}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncError::Store(error) => write!(f, "the block store: {error}"),
            SyncError::NetStuck => {
                f.write_str("the net thread takes no more commands; this is a fault of cairn")
            }
        }
    }
}

impl std::error::Error for SyncError {}
