//! The first minutes of a node that begins at a checkpoint: its peers are asked for the blocks, and the store is made of them.
//!
//! The threads are those of `node.rs`, fewer of them: one for net, and main in the place of sync and store, at the end of the events.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use cairn_net::eth::message::Request;
use cairn_net::reactor::{
    Command, Handle, NetEvent, OwnedOutgoing, PeerId, Reactor, Reply, SendError, Service,
};
use cairn_net::session::PeerInfo;
use cairn_store::{Head, Snapshot, Writer};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use signal_hook::iterator::Signals;

use super::Checkpoint;
use super::fetch::{Fetch, HEADERS_MOST, Next, Wrong};
use crate::bans::BanFile;
use crate::chain::{HeaderError, Rules};
use crate::config::Config;
use crate::names::NamesRole;
use crate::node;
use crate::snapshots::Kept;
use crate::stored::restore;
use crate::sync::{Block, Fault, local_chain, new_blocks};

/// How soon a signal is heard.
const SIGNAL_EVERY: Duration = Duration::from_millis(100);
/// How often the log says what is awaited.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// How the beginning ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    /// The store had what the node goes on from.
    Before,
    /// It has it now, and peers were left a moment ago.
    Now,
    /// A signal came first. What is stored is gone on from by the next start with the same checkpoint.
    Stopped,
}

/// Makes the store begin at `checkpoint`, unless it has a chain of its own: then it only sees to it that the two do not contradict each other.
///
/// # Errors
/// Text for the operator: the checkpoint or what is stored is not as it should be, or the network cannot be set up.
pub fn begin(
    config: &Config,
    checkpoint: Checkpoint,
    signals: &mut Signals,
) -> Result<Begun, String> {
    let rules = Arc::new(Rules::new(&config.genesis));
    let told = |error: cairn_store::Error| error.to_string();
    let mut writer = Writer::open(&config.datadir.blocks()).map_err(told)?;
    let stored = writer.reader().snapshot();
    if !is_wanted(&rules, &stored, checkpoint)? {
        return Ok(Begun::Before);
    }
    if stored.is_blank() && stored.first_header() > 0 {
        // It was about to begin, perhaps at another checkpoint.
        writer.unmake().map_err(told)?;
        writer = config.datadir.create(&config.genesis).map_err(told)?;
    }
    let from = writer.head();
    let tip = rules.genesis_tip();
    let chain = local_chain(&config.genesis, config.network_id, &tip, 0);
    let (mut ban_file, bans) = BanFile::open(config.datadir.bans());
    let (reactors, net) = Reactor::bind_threads(node::reactor_config(config, chain, bans), 1)
        .map_err(|error| error.to_string())?;
    log::info!(
        "Beginning at a trusted checkpoint number={} hash={}: asking peers for it",
        checkpoint.number,
        checkpoint.hash
    );
    let (events_in, events) = bounded(node::EVENTS_BOUND);
    let stalled = Arc::new(AtomicBool::new(false));
    let (stop_names, stop) = bounded::<()>(0);
    let mut asking = Asking {
        config,
        fetch: Fetch::new(rules, checkpoint, from),
        store: Some(writer),
        net: &net,
        events,
        stalled: &stalled,
        started: Instant::now(),
    };
    std::thread::scope(|scope| {
        let goodbye = Goodbye(&net);
        let mut threads = Vec::with_capacity(reactors.len());
        for reactor in reactors {
            let mut listener = Listener {
                events: events_in.clone(),
                stalled: stalled.clone(),
            };
            let run = move || reactor.run(&mut listener);
            threads.push(named("net").spawn_scoped(scope, run).map_err(not_started)?);
        }
        drop(events_in);
        if !config.named.is_empty() {
            let names = NamesRole::new(config.named.clone(), net.clone());
            // Not joined: it may wait for the system's resolver, and holds nothing.
            let spawned = named("names").spawn(move || names.run(&stop));
            spawned.map_err(not_started)?;
        }
        let ended = asking.run(signals);
        drop((asking, stop_names));
        ban_file.keep(&net, true);
        drop(goodbye);
        for thread in threads {
            let ran = thread.join();
            ran.map_err(|_| "the net thread panicked, which is a fault of cairn")?
                .map_err(|error| format!("sockets: {error}"))?;
        }
        ended
    })
}

fn named(role: &str) -> Builder {
    Builder::new().name(role.into())
}

fn not_started(error: io::Error) -> String {
    format!("cannot start a thread: {error}")
}

/// Stops net however this ends: a thread that goes on would be waited for without end.
struct Goodbye<'a>(&'a Handle);

impl Drop for Goodbye<'_> {
    fn drop(&mut self) {
        node::stop_net(self.0);
    }
}

/// Whether the store has no chain yet that goes on by itself.
fn is_wanted(rules: &Rules, stored: &Snapshot, checkpoint: Checkpoint) -> Result<bool, String> {
    if stored.is_blank() {
        return Ok(true);
    }
    let told = |error: cairn_store::Error| error.to_string();
    let (head, Checkpoint { number, hash, .. }) = (stored.head(), checkpoint);
    if let Some(other) = stored.hash(number).map_err(told)?
        && other != hash
    {
        return Err(format!(
            "--checkpoint {checkpoint}: block {number} in this data folder is {other}: it follows another chain than the one that you \
             trust; check the checkpoint, or begin in a new --datadir"
        ));
    }
    if head.number >= number {
        return Ok(false);
    }
    match restore(rules, stored, head.number, &Kept::default()).map_err(told)? {
        // A beginning that was cut short where another checkpoint had come already: its blocks lead up to this one.
        Ok(_) if stored.first_header() > 0 && number - head.number < HEADERS_MOST => Ok(true),
        Ok(_) => {
            log::warn!(
                "The checkpoint is not needed: the data folder has blocks up to {} and goes on from there",
                head.number
            );
            Ok(false)
        }
        // The signers are not known yet: a beginning was cut short.
        Err(HeaderError::Missing { .. }) => Ok(true),
        Err(error) => Err(error.to_string()),
    }
}

/// The end of the events: peers have nothing to ask of us yet.
struct Listener {
    events: Sender<NetEvent>,
    stalled: Arc<AtomicBool>,
}

impl Service for Listener {
    fn answer(&mut self, _: &PeerInfo, _: u64, _: &Request, reply: &mut Reply<'_>) {
        reply.empty();
    }

    fn offer(&mut self, event: NetEvent) -> Result<(), NetEvent> {
        match self.events.try_send(event) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(event)) => {
                self.stalled.store(true, Ordering::SeqCst);
                Err(event)
            }
            // It is all here: there is nobody to tell.
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }
}

/// The fetching, with its net, its clock and its store.
struct Asking<'a> {
    config: &'a Config,
    fetch: Fetch,
    /// Always there but for a moment, in which one gives way to another.
    store: Option<Writer>,
    net: &'a Handle,
    events: Receiver<NetEvent>,
    stalled: &'a AtomicBool,
    started: Instant,
}

impl Asking<'_> {
    fn run(&mut self, signals: &mut Signals) -> Result<Begun, String> {
        let mut told = Instant::now();
        let mut told_unknown = false;
        loop {
            if let Some(signal) = signals.pending().next() {
                log::info!("Stopping signal={signal}");
                return Ok(Begun::Stopped);
            }
            let now_ms = self.now_ms();
            let wait = match self.fetch.next(now_ms) {
                Next::Done => {
                    log::info!(
                        "Begun at the trusted checkpoint (what is older can be imported as era1)"
                    );
                    return Ok(Begun::Now);
                }
                Next::Drop { peer, fault } => {
                    self.punish(peer, &fault)?;
                    continue;
                }
                Next::Ask { peer, id, request } => {
                    let message = OwnedOutgoing::Request { id, request };
                    self.send(Command::Send { peer, message })?;
                    continue;
                }
                Next::Begin(below) => {
                    self.begin_above(below).map_err(|error| error.to_string())?;
                    continue;
                }
                Next::Keep(blocks) => {
                    self.keep(&blocks).map_err(|error| error.to_string())?;
                    continue;
                }
                Next::Wait { until_ms } => {
                    let until = until_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
                    until.unwrap_or(SIGNAL_EVERY).min(SIGNAL_EVERY)
                }
            };
            let is_unknown = self.fetch.is_unknown();
            if told.elapsed() >= TELL_EVERY || (is_unknown && !told_unknown) {
                told = Instant::now();
                told_unknown |= is_unknown;
                self.tell_hindrance();
                log::info!(
                    "Asking for the checkpoint and the blocks before it {} peers={}",
                    self.fetch.reached(),
                    self.fetch.peers()
                );
            }
            let event = self.events.recv_timeout(wait);
            if self.stalled.swap(false, Ordering::SeqCst) {
                self.net.wake();
            }
            match event {
                Ok(event) => self.event(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the net thread ended unasked".to_owned());
                }
            }
        }
    }

    /// Says what to do where waiting alone may not help.
    fn tell_hindrance(&self) {
        let Checkpoint { number, hash, .. } = self.fetch.checkpoint();
        if self.fetch.peers() == 0 {
            log::warn!(
                "No peer is there to ask for the checkpoint: check --bootnodes, and whether those nodes can be reached"
            );
        } else if self.fetch.is_unknown() {
            log::warn!(
                "No peer has block {number} with hash {hash} (peers={}): check NUMBER and HASH of --checkpoint (`cairn clique checkpoint` on a \
                 node that you trust prints them), or connect to a node that has it (--bootnodes)",
                self.fetch.peers()
            );
        }
    }

    fn event(&mut self, event: NetEvent) -> Result<(), String> {
        let (peer, message) = match event {
            NetEvent::Connected { peer, .. } => {
                self.fetch.connected(peer);
                return Ok(());
            }
            NetEvent::Gone { peer, .. } => {
                self.fetch.gone(peer);
                return Ok(());
            }
            NetEvent::Message { peer, message } => (peer, message),
        };
        match self.fetch.message(peer, message, self.now_ms()) {
            Ok(()) => Ok(()),
            Err(Wrong::Peer(fault)) => self.punish(peer, &fault),
            Err(Wrong::Checkpoint(why)) => Err(format!(
                "the trusted checkpoint is of no use: {why} (check --checkpoint, or take another; a data folder that has begun needs none)"
            )),
        }
    }

    fn punish(&mut self, peer: PeerId, fault: &Fault) -> Result<(), String> {
        log::warn!("Dropping peer peer={} fault=\"{fault}\"", peer.0);
        self.fetch.gone(peer);
        let cause = fault.cause();
        self.send(Command::Disconnect { peer, cause })
    }

    fn send(&self, command: Command) -> Result<(), String> {
        // One request is in flight at a time, so the link has room; if net has ended, its end tells why.
        match self.net.send(command) {
            Ok(()) | Err(SendError::Stopped(_)) => Ok(()),
            Err(SendError::Full(_)) => {
                Err("the net thread takes no more commands; this is a fault of cairn".to_owned())
            }
        }
    }

    fn begin_above(&mut self, below: Head) -> Result<(), cairn_store::Error> {
        log::info!(
            "The checkpoint is here: the store begins with block {}",
            below.number + 1
        );
        if let Some(blank) = self.store.take() {
            blank.unmake()?;
        }
        self.store = Some(
            self.config
                .datadir
                .create_above(&self.config.genesis, below)?,
        );
        Ok(())
    }

    fn keep(&mut self, blocks: &[Block]) -> Result<(), cairn_store::Error> {
        let (Some(store), Some(last)) = (&mut self.store, blocks.last()) else {
            return Ok(());
        };
        store.commit(&new_blocks(blocks), last.header.hash)?;
        log::debug!(
            "Stored a part of the beginning up to={}",
            last.header.header.number
        );
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("half a billion years")
    }
}
