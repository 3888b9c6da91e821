//! The sync role's thread: hands events and time to the machine, and carries out what it decides.
//!
//! It owns the store's only `Writer`. A commit is durable before the next event is looked at; a commit that fails ends
//! the node, because nothing that follows could be trusted.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use cairn_net::eth::status::LocalChain;
use cairn_net::reactor::{Command, Handle, NetEvent, OwnedOutgoing, SendError};
use cairn_store::{Reader, Replace, Writer};
use crossbeam_channel::{Receiver, Sender, select};

use super::boundary::{Action, Block, SealedBlock, Staging};
use super::machine::Machine;
use super::storing::{self, View};
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
/// A sealer that has peers to dial leaves them this long after the start to show a better chain; then it seals alone.
const FIRST_PEER_WAIT: Duration = Duration::from_secs(5);
/// With nothing to wait for, the thread still looks around this often.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// What the sync thread is given, beside the store's only writer.
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
    /// Blocks of our own sealer; never, if there is none.
    pub sealed: Receiver<SealedBlock>,
    /// New heads for the sealer, if there is one.
    pub heads: Option<Heads>,
    /// Are there nodes to dial, of which one may know a better chain than ours?
    pub expects_peers: bool,
    /// Where the bans of peers are kept.
    pub bans: BanFile,
    /// Where the others see how far this one is.
    pub board: status::Writer,
    /// Closed when the node stops.
    pub stop: Receiver<()>,
}

/// The link to the sealer, with room for one head: a newer one replaces it.
pub struct Heads {
    /// Where the newest head goes.
    pub newest: Sender<Tip>,
    /// The sealer's own end, to take out a head it has not looked at.
    pub older: Receiver<Tip>,
}

/// Why the sync thread ended by itself.
#[derive(Debug)]
pub enum SyncError {
    /// The store failed.
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
    /// Runs until `stop` is closed or the net thread is gone.
    ///
    /// # Errors
    /// `SyncError`, which stops the node.
    pub fn run(self, mut writer: Writer) -> Result<(), SyncError> {
        let mut turns = Turns {
            role: self,
            reader: writer.reader(),
            start: Instant::now(),
            actions: VecDeque::new(),
            waiting: VecDeque::new(),
            told: Told::default(),
            sealer_has: None,
            catches_up: false,
        };
        let ended = turns.run(&mut writer);
        turns.role.bans.keep(&turns.role.net, true);
        ended
    }
}

/// The thread at work.
struct Turns {
    role: SyncRole,
    reader: Reader,
    start: Instant,
    /// What the machine wants done, but requests.
    actions: VecDeque<Action>,
    /// Commands to net, in order.
    waiting: VecDeque<Command>,
    told: Told,
    /// The head that the sealer was told of.
    sealer_has: Option<B256>,
    /// Is there something to catch up with?
    catches_up: bool,
}

impl Turns {
    fn run(&mut self, writer: &mut Writer) -> Result<(), SyncError> {
        loop {
            // While a branch is on its way into it the store takes nothing else, which this says in types.
            let fork = match self.turn(Room::Whole(writer))? {
                Turned::Stopped => return Ok(()),
                Turned::Begun { fork } => fork,
                Turned::Ended => continue,
            };
            let branch = writer.replace_above(fork).map_err(SyncError::Store)?;
            if let Turned::Stopped = self.turn(Room::Branch(Box::new(branch)))? {
                return Ok(());
            }
        }
    }

    /// Runs as long as the store is what it is now.
    fn turn(&mut self, mut room: Room<'_>) -> Result<Turned, SyncError> {
        loop {
            room = match self.act(room)? {
                Acted::On(room) => room,
                Acted::Over(turned) => return Ok(turned),
            };
            self.show();
            self.tell_sealer();
            self.send_waiting()?;
            self.role.bans.keep(&self.role.net, false);
            let now_ms = self.now_ms();
            let wait = match self.role.machine.deadline_ms() {
                Some(at) => Duration::from_millis(at.saturating_sub(now_ms)).min(IDLE_WAIT),
                None => IDLE_WAIT,
            };
            let wait = if self.waiting.is_empty() {
                wait
            } else {
                wait.min(COMMANDS_RETRY)
            };
            let input = select! {
                recv(self.role.events) -> event => match event {
                    Ok(event) => Input::Event(event),
                    Err(_) => return Ok(Turned::Stopped),
                },
                recv(self.role.sealed) -> block => match block {
                    Ok(block) => Input::Sealed(block),
                    Err(_) => {
                        self.role.sealed = crossbeam_channel::never();
                        continue;
                    }
                },
                recv(self.role.stop) -> _ => return Ok(Turned::Stopped),
                default(wait) => Input::Timeout,
            };
            if self.role.stalled.swap(false, Ordering::SeqCst) {
                self.role.net.wake();
            }
            let now_ms = self.now_ms();
            let view = View::of(&self.reader);
            match input {
                Input::Event(event) => {
                    self.told.announced(&event, now_ms);
                    self.role
                        .machine
                        .handle_event(now_ms, unix_s(), event, &view);
                }
                Input::Sealed(block) => self.role.machine.handle_sealed(now_ms, block, &view),
                Input::Timeout => self.role.machine.handle_timeout(now_ms, unix_s(), &view),
            }
            if let Some(error) = view.failed() {
                return Err(SyncError::Store(error));
            }
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
            .show(now_ms, machine.tip(), &status, is_caught_up, overdue_s);
        let catches_up = self.told.show(now_ms, &figures, &status);
        if std::mem::replace(&mut self.catches_up, catches_up) && !catches_up {
            memory::give_back();
        }
    }

    /// Takes over what the machine decided. Requests go ahead of what is to be stored: the answers come while the disk is at work.
    fn ask_ahead(&mut self) -> Result<(), SyncError> {
        while let Some(action) = self.role.machine.poll_action() {
            match action {
                Action::Send {
                    peer,
                    message: message @ OwnedOutgoing::Request { .. },
                } => {
                    self.told.sent(&message);
                    self.waiting.push_back(Command::Send { peer, message });
                }
                action => self.actions.push_back(action),
            }
        }
        self.send_waiting()
    }

    /// Carries out what the machine decided.
    fn act<'a>(&mut self, mut room: Room<'a>) -> Result<Acted<'a>, SyncError> {
        let mut announced = 0;
        self.ask_ahead()?;
        while let Some(action) = self.actions.pop_front() {
            match action {
                Action::Send { peer, message } => {
                    announced += self.told.sent(&message);
                    self.waiting.push_back(Command::Send { peer, message });
                }
                Action::Commit { blocks, tip, live } => {
                    let start = Instant::now();
                    let bytes = storing::commit(room.whole(), &blocks, &tip);
                    let bytes = bytes.map_err(SyncError::Store)?;
                    let kind = if live { Kind::Live } else { Kind::CaughtUp };
                    self.stored(&blocks, bytes, kind, start);
                    self.set_chain(&tip);
                }
                Action::Stage(Staging::Begin { fork }) => {
                    room.whole();
                    return Ok(Acted::Over(Turned::Begun { fork }));
                }
                Action::Stage(Staging::Add { blocks }) => {
                    let start = Instant::now();
                    let bytes = storing::append(room.branch(), &blocks);
                    let bytes = bytes.map_err(SyncError::Store)?;
                    self.stored(&blocks, bytes, Kind::Staged, start);
                }
                Action::Stage(Staging::Publish { tip }) => {
                    let branch = room.into_branch();
                    branch.finish(tip.header.hash).map_err(SyncError::Store)?;
                    self.set_chain(&tip);
                    return Ok(Acted::Over(Turned::Ended));
                }
                Action::Stage(Staging::Leave) => {
                    drop(room.into_branch());
                    return Ok(Acted::Over(Turned::Ended));
                }
                Action::Keep { receipts } => {
                    let start = Instant::now();
                    let kept = storing::keep(room.whole(), &receipts).map_err(SyncError::Store)?;
                    self.told.kept(&kept, start.elapsed());
                }
                Action::Punish { peer, fault } => {
                    log::warn!("Dropping peer peer={} fault=\"{fault}\"", peer.0);
                    self.waiting.push_back(Command::Disconnect {
                        peer,
                        cause: fault.cause(),
                    });
                }
            }
        }
        self.told.requested();
        if announced > 0 {
            let head = &self.role.machine.tip().header;
            log::info!(
                "Announced to peers number={} hash={} peers={announced}",
                head.header.number,
                short(&head.hash)
            );
        }
        Ok(Acted::On(room))
    }

    /// Counts blocks that have been stored.
    fn stored(&mut self, blocks: &[Block], bytes: usize, kind: Kind, start: Instant) {
        let now_ms = self.now_ms();
        self.role
            .board
            .stored(now_ms, blocks.len() as u64, bytes as u64);
        if let Some(last) = blocks.last() {
            let took = start.elapsed();
            self.told
                .stored(now_ms, &last.header, (blocks.len(), bytes), kind, took);
        }
    }

    /// Tells the net threads of the new head.
    fn set_chain(&mut self, tip: &Tip) {
        let earliest = self.reader.snapshot().first_body();
        let chain = local_chain(&self.role.genesis, self.role.network_id, tip, earliest);
        self.waiting.push_back(Command::SetChain(chain));
    }

    /// Gives the sealer a head that it has not had, once there is nothing to catch up with: a signer that is behind would
    /// seal a fork on every block of the way.
    fn tell_sealer(&mut self) {
        let Some(heads) = &self.role.heads else {
            return;
        };
        let tip = self.role.machine.tip();
        let alone = self.role.expects_peers && self.role.machine.status().peers == 0;
        if self.sealer_has == Some(tip.header.hash)
            || !self.role.machine.is_caught_up()
            || (alone && self.start.elapsed() < FIRST_PEER_WAIT)
        {
            return;
        }
        self.sealer_has = Some(tip.header.hash);
        // Only the newest head counts, and this thread alone puts any in: with the older one out there is room.
        while heads.older.try_recv().is_ok() {}
        let _ = heads.newest.try_send(tip.clone());
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

/// The store as it may be written now.
enum Room<'a> {
    /// Blocks and receipts are stored as they come.
    Whole(&'a mut Writer),
    /// A branch is on its way in.
    Branch(Box<Replace<'a>>),
}

impl<'a> Room<'a> {
    fn whole(&mut self) -> &mut Writer {
        match self {
            Room::Whole(writer) => writer,
            Room::Branch(_) => panic!("while a branch is staged the machine stores nothing else"),
        }
    }

    fn branch(&mut self) -> &mut Replace<'a> {
        match self {
            Room::Whole(_) => panic!("the machine stages a branch after it has begun with it"),
            Room::Branch(branch) => branch,
        }
    }

    fn into_branch(self) -> Box<Replace<'a>> {
        match self {
            Room::Whole(_) => panic!("the machine ends a branch after it has begun with it"),
            Room::Branch(branch) => branch,
        }
    }
}

/// Why the store is not any more what it was.
enum Turned {
    /// The node stops.
    Stopped,
    /// A branch begins that hangs on this block.
    Begun { fork: u64 },
    /// The branch has ended.
    Ended,
}

/// What there is to be gone on with.
enum Acted<'a> {
    On(Room<'a>),
    Over(Turned),
}

enum Input {
    Event(NetEvent),
    Sealed(SealedBlock),
    Timeout,
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
