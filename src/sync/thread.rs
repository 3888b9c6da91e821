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
use cairn_store::Writer;
use crossbeam_channel::{Receiver, Sender, select};

use super::boundary::{Action, Block, SealedBlock};
use super::machine::Machine;
use super::receipts::Found;
use super::storing::{self, Kept, View};
use crate::bans::BanFile;
use crate::chain::{Genesis, Rules, Tip};
use crate::clock::unix_s;
use crate::logging::{elapsed, short};
use crate::status;

/// Commands that wait for room in the link to net. Requests in flight are bounded by the machine, so this only bounds
/// a net thread that does not run.
const COMMANDS_LIMIT: usize = 4096;
/// What was asked of peers is told this often at the most.
const REQUESTED_LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Announcements told in the log in a second: a busy network makes a few.
const ANNOUNCED_LINES_PER_S: u32 = 10;
/// How soon commands are tried again that found the link to net full.
const COMMANDS_RETRY: Duration = Duration::from_millis(5);
/// A sealer that has peers to dial leaves them this long after the start to show a better chain; then it seals alone.
const FIRST_PEER_WAIT: Duration = Duration::from_secs(5);
/// With nothing to wait for, the thread still looks around this often.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// What the sync thread is given.
pub struct SyncRole {
    /// The store's only writer.
    pub writer: Writer,
    /// The state machine, at the stored head.
    pub machine: Machine,
    /// The chain's rules.
    pub rules: Arc<Rules>,
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
    pub fn run(mut self) -> Result<(), SyncError> {
        let ended = self.run_on();
        self.bans.keep(&self.net, true);
        ended
    }

    fn run_on(&mut self) -> Result<(), SyncError> {
        let start = Instant::now();
        let mut waiting = VecDeque::new();
        let mut told = Told::default();
        let mut announcements = Announcements::default();
        let mut sealed_on = None;
        loop {
            self.act(&mut waiting, &mut told, start)?;
            self.show(start);
            self.tell_sealer(&mut sealed_on, start.elapsed());
            self.send_waiting(&mut waiting)?;
            self.bans.keep(&self.net, false);
            let now_ms = start.elapsed().as_millis() as u64;
            let wait = match self.machine.deadline_ms() {
                Some(at) => Duration::from_millis(at.saturating_sub(now_ms)).min(IDLE_WAIT),
                None => IDLE_WAIT,
            };
            let wait = if waiting.is_empty() {
                wait
            } else {
                wait.min(COMMANDS_RETRY)
            };
            let input = select! {
                recv(self.events) -> event => match event {
                    Ok(event) => Input::Event(event),
                    Err(_) => return Ok(()),
                },
                recv(self.sealed) -> block => match block {
                    Ok(block) => Input::Sealed(block),
                    Err(_) => {
                        self.sealed = crossbeam_channel::never();
                        continue;
                    }
                },
                recv(self.stop) -> _ => return Ok(()),
                default(wait) => Input::Timeout,
            };
            if self.stalled.swap(false, Ordering::SeqCst) {
                self.net.wake();
            }
            let now_ms = start.elapsed().as_millis() as u64;
            let view = View::of(&self.writer);
            match input {
                Input::Event(event) => {
                    announcements.tell(&event, now_ms);
                    self.machine.handle_event(now_ms, unix_s(), event, &view);
                }
                Input::Sealed(block) => self.machine.handle_sealed(now_ms, block, &view),
                Input::Timeout => self.machine.handle_timeout(now_ms, unix_s(), &view),
            }
            if let Some(error) = view.failed() {
                return Err(SyncError::Store(error));
            }
        }
    }

    fn show(&mut self, start: Instant) {
        let now_ms = start.elapsed().as_millis() as u64;
        let machine = &self.machine;
        let (status, is_caught_up) = (machine.status(), machine.is_caught_up());
        self.board
            .show(now_ms, machine.tip(), &status, is_caught_up);
    }

    fn act(
        &mut self,
        waiting: &mut VecDeque<Command>,
        told: &mut Told,
        start: Instant,
    ) -> Result<(), SyncError> {
        let mut announced = 0;
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Send { peer, message } => {
                    announced += told.asked.count(&message);
                    waiting.push_back(Command::Send { peer, message });
                }
                Action::Commit { blocks, tip, live } => {
                    let bytes = self.commit(&blocks, &tip, live)?;
                    let now_ms = start.elapsed().as_millis() as u64;
                    self.board.stored(now_ms, blocks.len() as u64, bytes as u64);
                    let earliest = self.writer.reader().snapshot().first_body();
                    let chain = local_chain(&self.genesis, self.network_id, &tip, earliest);
                    waiting.push_back(Command::SetChain(chain));
                }
                Action::Keep { receipts } => self.keep(&receipts, told)?,
                Action::Punish { peer, fault } => {
                    log::warn!("Dropping peer peer={} fault=\"{fault}\"", peer.0);
                    waiting.push_back(Command::Disconnect {
                        peer,
                        cause: fault.cause(),
                    });
                }
            }
        }
        told.asked.tell();
        if announced > 0 {
            let head = &self.machine.tip().header;
            log::info!(
                "Announced to peers number={} hash={} peers={announced}",
                head.header.number,
                short(&head.hash)
            );
        }
        Ok(())
    }

    /// Stores blocks, and gives their bytes.
    fn commit(&mut self, blocks: &[Block], tip: &Tip, live: bool) -> Result<usize, SyncError> {
        let start = Instant::now();
        let bytes = storing::commit(&mut self.writer, blocks, tip).map_err(SyncError::Store)?;
        let status = self.machine.status();
        log::info!(
            "Imported new chain segment number={} hash={} blocks={} bytes={bytes} elapsed={}{}",
            tip.header.header.number,
            short(&tip.header.hash),
            blocks.len(),
            elapsed(start.elapsed()),
            match status.target_number.filter(|_| !live) {
                Some(target) => format!(" target={target} peers={}", status.peers),
                None => String::new(),
            }
        );
        Ok(bytes)
    }

    /// Keeps receipts of stored blocks, those of blocks left out that are not canonical any more.
    fn keep(&mut self, found: &[Found], told: &mut Told) -> Result<(), SyncError> {
        let start = Instant::now();
        match storing::keep(&mut self.writer, found).map_err(SyncError::Store)? {
            Kept::None => {}
            Kept::Stored {
                first,
                last,
                blocks,
                bytes,
            } => log::info!(
                "Kept receipts first={first} last={last} blocks={blocks} bytes={bytes} elapsed={}",
                elapsed(start.elapsed())
            ),
            // They are fetched again after a restart. So may be those of many blocks to come, which it is enough to warn of once.
            Kept::Refused { first, last, error } => {
                let level = match std::mem::replace(&mut told.receipts_refused, true) {
                    false => log::Level::Warn,
                    true => log::Level::Debug,
                };
                log::log!(
                    level,
                    "Receipts are not kept first={first} last={last}: {error}"
                );
            }
        }
        Ok(())
    }

    /// Gives the sealer a head that it has not had, once there is nothing to catch up with: a signer that is behind would
    /// seal a fork on every block of the way.
    fn tell_sealer(&self, told: &mut Option<B256>, since_start: Duration) {
        let Some(heads) = &self.heads else { return };
        let tip = self.machine.tip();
        let alone = self.expects_peers && self.machine.status().peers == 0;
        if *told == Some(tip.header.hash)
            || !self.machine.is_caught_up()
            || (alone && since_start < FIRST_PEER_WAIT)
        {
            return;
        }
        *told = Some(tip.header.hash);
        // Only the newest head counts, and this thread alone puts any in: with the older one out there is room.
        while heads.older.try_recv().is_ok() {}
        let _ = heads.newest.try_send(tip.clone());
    }

    fn send_waiting(&mut self, waiting: &mut VecDeque<Command>) -> Result<(), SyncError> {
        while let Some(command) = waiting.pop_front() {
            match self.net.send(command) {
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
}

/// Announcements in the log, at most so many a second: any stranger can send them.
#[derive(Default)]
struct Announcements {
    second: u64,
    lines: u32,
}

impl Announcements {
    /// Tells of an announcement. Of connecting and leaving the net thread has told, with the peer's name.
    fn tell(&mut self, event: &NetEvent, now_ms: u64) {
        use cairn_net::eth::message::Message;
        let NetEvent::Message { peer, message } = event else {
            return;
        };
        let what = match message {
            Message::NewBlock { header, .. } => {
                format!("block hash={}", short(&alloy_primitives::keccak256(header)))
            }
            Message::NewBlockHashes(hashes) => match hashes.last() {
                Some((hash, number)) => format!(
                    "hashes count={} number={number} hash={}",
                    hashes.len(),
                    short(hash)
                ),
                None => return,
            },
            Message::BlockRange {
                latest,
                latest_hash,
                ..
            } => format!("range latest={latest} hash={}", short(latest_hash)),
            _ => return,
        };
        let second = now_ms / 1000;
        if self.second != second {
            (self.second, self.lines) = (second, 0);
        }
        self.lines += 1;
        if self.lines <= ANNOUNCED_LINES_PER_S {
            log::info!("Announced {what} peer={}", peer.0);
        }
    }
}

/// What the log was told, so that it is not told too often.
#[derive(Default)]
struct Told {
    asked: Asked,
    /// That there are receipts which cannot be kept.
    receipts_refused: bool,
}

/// What was asked of peers since the last line in the log.
#[derive(Default)]
struct Asked {
    headers: u64,
    bodies: u64,
    receipts: u64,
    last_line: Option<Instant>,
}

impl Asked {
    /// Counts what is asked; gives 1 for an announcement.
    fn count(&mut self, message: &OwnedOutgoing) -> u64 {
        use cairn_net::eth::message::Request;
        match message {
            OwnedOutgoing::Request {
                request: Request::Headers { amount, .. },
                ..
            } => self.headers += amount,
            OwnedOutgoing::Request {
                request: Request::Bodies { hashes },
                ..
            } => self.bodies += hashes.len() as u64,
            OwnedOutgoing::Request {
                request: Request::Receipts { hashes, .. },
                ..
            } => self.receipts += hashes.len() as u64,
            OwnedOutgoing::Request { .. } => {}
            OwnedOutgoing::NewBlockHashes(_)
            | OwnedOutgoing::NewBlock { .. }
            | OwnedOutgoing::BlockRange { .. } => {
                return 1;
            }
        }
        0
    }

    fn tell(&mut self) {
        let due = self
            .last_line
            .is_none_or(|at| at.elapsed() >= REQUESTED_LINE_INTERVAL);
        if due && self.headers + self.bodies + self.receipts > 0 {
            log::info!(
                "Requested headers={} bodies={} receipts={}",
                self.headers,
                self.bodies,
                self.receipts
            );
            *self = Asked {
                last_line: Some(Instant::now()),
                ..Asked::default()
            };
        }
    }
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
