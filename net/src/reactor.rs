//! The one place with sockets, the clock and entropy: a mio poll that drives the sessions of many peers on one thread; several of them
//! may share the work.
//!
//! Each turn of the loop: what the poll said is noted, commands are carried out, connections are accepted, every
//! session that can go on has a bounded turn (answer, write, read), timers fire, static nodes that are due are dialled.
//! Nothing here waits but the poll.

mod admission;
mod connection;
mod crowd;
mod dialer;
mod link;
mod listener;
mod roll;
mod shared;
mod slots;
mod turn;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;
use mio::{Events, Poll, Token};

use self::admission::Admission;
use self::connection::{Entry, Name, State};
use self::crowd::{Crowd, Rate};
use self::dialer::Dialer;
pub use self::link::{Command, Handle, NetEvent, OwnedOutgoing, PeerId, Reply, SendError, Service};
use self::link::{Link, Signal, dialling_thread, next_command};
use self::listener::{Accepted, Listener, Neighbour};
pub use self::roll::ConnectedPeer;
use self::shared::{Book, Shared};
use self::slots::Slots;
use crate::enode::{Enode, NodeId};
use crate::eth::status::LocalChain;
use crate::fault::Cause;
use crate::limits::{
    ACCEPTED_QUEUE, COMMAND_QUEUE, MAX_INBOUND_HANDSHAKES, MAX_THREADS, PAUSE_RETRY_MS,
    READ_BUFFER_BYTES, SEALED_TOGETHER, SHUTDOWN_FLUSH_MS,
};
use crate::scores::{Ban, Scores};
use crate::session::{self, Workspace};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);

/// What a reactor is made with.
#[derive(Clone, Debug)]
pub struct ReactorConfig {
    /// What all its sessions share. If `port` is 0, the port that was bound is put in.
    pub session: session::Config,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Peers at most; the static ones stand above it.
    pub max_peers: usize,
    /// Nodes to dial, and to dial again.
    pub statics: Vec<Enode>,
    /// Nodes that stand above every cap and are never banned.
    pub trusted: Vec<Enode>,
    /// Bans of an earlier run.
    pub bans: Vec<Ban>,
    /// What this node says of itself at first.
    pub chain: LocalChain,
}

/// Why a reactor could not be made.
#[derive(Debug)]
pub enum BindError {
    /// Another socket listens there.
    InUse(SocketAddr),
    /// Not allowed: a port below 1024, mostly.
    Denied(SocketAddr),
    /// The address is not one of this machine.
    NotOurs(SocketAddr),
    /// Listening failed otherwise.
    Listen(SocketAddr, io::Error),
    /// The system gave no poll, waker or entropy.
    System(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::InUse(addr) => write!(
                f,
                "cannot listen on {addr}: address in use: is another node running? choose another --p2p-port"
            ),
            BindError::Denied(addr) => {
                write!(
                    f,
                    "cannot listen on {addr}: permission denied: choose a --p2p-port above 1023"
                )
            }
            BindError::NotOurs(addr) => write!(
                f,
                "cannot listen on {addr}: this machine has no such address"
            ),
            BindError::Listen(addr, error) => write!(f, "cannot listen on {addr}: {error}"),
            BindError::System(error) => write!(f, "cannot set up the network: {error}"),
        }
    }
}

impl std::error::Error for BindError {}

/// The network of a node, or one thread's part of it: sessions and static nodes, and of the first one the listener.
pub struct Reactor {
    /// Which of the reactors it is.
    thread: usize,
    poll: Poll,
    listener: Option<Listener>,
    listener_rate: Rate,
    /// Strangers that were accepted and whose handshakes may not begin yet, in the order in which they came.
    held: VecDeque<Accepted>,
    local_addr: SocketAddr,
    signal: Arc<Signal>,
    commands: Receiver<Command>,
    session: Arc<session::Config>,
    chain: LocalChain,
    shared: Arc<Shared>,
    /// All reactors, this one with them; none if there is but one.
    neighbours: Vec<Neighbour>,
    /// What the accepting reactor hands over.
    accepted: Receiver<Accepted>,
    crowd: Crowd,
    dialer: Dialer,
    slots: Slots,
    /// Connections whose event the service gave back, in the order in which they are offered again.
    paused: VecDeque<PeerId>,
    /// Ends of peers that the service could not take yet. One at most for each `Connected` that it took.
    gone: VecDeque<NetEvent>,
    retry_at_ms: Option<u64>,
    /// Connections with an answer that is to be sealed beside those of others: none between two rounds of turns.
    unsealed: Vec<PeerId>,
    /// Strangers' lines in the log: how many more this second, and which second.
    stranger_lines: (u32, u64),
    buffer: Box<[u8]>,
    /// What the session whose turn it is makes its messages in.
    workspace: Option<Box<Workspace>>,
    /// What `now_ms` counts from.
    started: Instant,
}

impl Reactor {
    /// Binds the listener. Sessions begin with [`run`](Reactor::run).
    ///
    /// # Errors
    /// [`BindError`] says what is in the way.
    pub fn bind(config: ReactorConfig) -> Result<(Reactor, Handle), BindError> {
        let (mut reactors, handle) = Reactor::bind_threads(config, 1)?;
        Ok((reactors.pop().expect("one was asked for"), handle))
    }

    /// The same for `threads` reactors, 1 to [`MAX_THREADS`], each to be run on a thread of its own. The first one accepts, and hands
    /// each connection to the one with the fewest; each dials its share of the static nodes. Caps and bans are common to them.
    ///
    /// # Errors
    /// [`BindError`] says what is in the way.
    pub fn bind_threads(
        config: ReactorConfig,
        threads: usize,
    ) -> Result<(Vec<Reactor>, Handle), BindError> {
        assert!((1..=MAX_THREADS).contains(&threads), "some threads");
        let ReactorConfig {
            mut session,
            listen,
            max_peers,
            statics,
            trusted,
            bans,
            chain,
        } = config;
        let poll = Poll::new().map_err(BindError::System)?;
        let (listener, local_addr) = Listener::bind(listen, poll.registry(), LISTENER)?;
        if session.port == 0 {
            session.port = local_addr.port();
        }
        let mut admission = Admission::new(session.id(), max_peers);
        trusted.into_iter().for_each(|node| admission.trust(node));
        let scores = Scores::new(&bans);
        let shared = Arc::new(Shared::new(Book { admission, scores }, threads));
        let session = Arc::new(session);

        let mut polls = vec![poll];
        for _ in 1..threads {
            polls.push(Poll::new().map_err(BindError::System)?);
        }
        let mut listener = Some(listener);
        let (mut reactors, mut neighbours) = (Vec::new(), Vec::new());
        for (thread, poll) in polls.into_iter().enumerate() {
            let waker = mio::Waker::new(poll.registry(), WAKER).map_err(BindError::System)?;
            let seed = entropy().map_err(BindError::System)?;
            let (commands_in, commands) = crossbeam_channel::bounded(COMMAND_QUEUE);
            let (accepted_in, accepted) = crossbeam_channel::bounded(ACCEPTED_QUEUE);
            let signal = Arc::new(Signal::new(waker));
            neighbours.push(Neighbour {
                link: Link {
                    commands: commands_in,
                    signal: Arc::clone(&signal),
                },
                accepted: accepted_in,
            });
            reactors.push(Reactor {
                thread,
                poll,
                listener: listener.take(),
                listener_rate: Rate::new(),
                held: VecDeque::new(),
                local_addr,
                signal,
                commands,
                session: Arc::clone(&session),
                chain: chain.clone(),
                shared: Arc::clone(&shared),
                neighbours: Vec::new(),
                accepted,
                crowd: Crowd::new(MAX_INBOUND_HANDSHAKES.div_ceil(threads)),
                dialer: Dialer::new(u64::from_le_bytes(
                    seed[..8].try_into().expect("8 of 32 bytes"),
                )),
                slots: Slots::new(thread, threads),
                paused: VecDeque::new(),
                gone: VecDeque::new(),
                retry_at_ms: None,
                unsealed: Vec::with_capacity(SEALED_TOGETHER),
                stranger_lines: (0, 0),
                buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
                workspace: Some(Box::default()),
                started: Instant::now(),
            });
        }
        for enode in statics {
            reactors[dialling_thread(&enode.id, threads)].add_static(enode);
        }
        let links = neighbours.iter().map(|to| to.link.clone()).collect();
        // A reactor alone must not hold a way to itself: it ends when the last handle is dropped.
        for reactor in reactors.iter_mut().filter(|_| threads > 1) {
            reactor.neighbours = neighbours.clone();
        }
        Ok((reactors, Handle::new(links, shared)))
    }

    /// Where it listens: with the port that was taken, if any was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Drives everything until [`Command::Shutdown`], until the service has failed or the last [`Handle`] is dropped; then all peers are told
    /// Quitting, for [`SHUTDOWN_FLUSH_MS`] at most. An error is the poll's own: nothing of a peer ends it.
    pub fn run(mut self, service: &mut dyn Service) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            self.wait(&mut events)?;
            let now_ms = self.now_ms();
            if let Some(workspace) = &mut self.workspace {
                workspace.rest_buffers(now_ms);
                if events.is_empty() && self.slots.queued() == 0 {
                    workspace.rest();
                }
            }
            self.note(&events);
            self.signal.lower();
            for _ in 0..COMMAND_QUEUE {
                match next_command(&self.commands) {
                    Some(Command::Shutdown) => return self.shut_down(&mut events),
                    Some(command) => self.carry_out(command, service),
                    None => break,
                }
            }
            self.resume(service);
            self.adopt_all();
            self.accept();
            // Each that is queued now has one turn; what they queue waits for the next round.
            for _ in 0..self.slots.queued() {
                if let Some(peer) = self.slots.next_turn() {
                    self.turn(peer, service);
                }
            }
            self.fire_timers(service);
            self.seal();
            self.dial();
            self.shared.set_load(self.thread, self.slots.len());
            if service.has_failed() {
                return self.shut_down(&mut events);
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("half a billion years")
    }

    /// Polls until something happens or the next thing is due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now_ms = self.now_ms();
        let timeout = if self.slots.queued() > 0
            || self.listener.as_ref().is_some_and(|l| l.is_ready(now_ms))
            || !self.commands.is_empty()
            || !self.accepted.is_empty()
        {
            Some(Duration::ZERO)
        } else {
            let due_ms = [
                self.slots.next_timer_ms(),
                self.dialer.next_due_ms(),
                self.listener.as_ref().and_then(Listener::resumes_at_ms),
                self.held_begins_ms(now_ms),
                self.retry_at_ms,
                self.workspace.as_ref().and_then(|w| w.rests_at_ms()),
            ];
            let next_ms = due_ms.into_iter().flatten().min();
            next_ms.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms)))
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        }
    }

    fn note(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => {}
                LISTENER => self.listener.iter_mut().for_each(Listener::note),
                token => {
                    if let Some(entry) = self.slots.by_token(token) {
                        match &mut entry.state {
                            State::Dial(_) => {}
                            State::Open(connection) => connection.socket.note(event),
                            State::Linger(linger) => linger.socket.note(event),
                        }
                        let peer = entry.peer;
                        self.slots.queue(peer);
                    }
                }
            }
        }
    }

    fn carry_out(&mut self, command: Command, service: &mut dyn Service) {
        match command {
            Command::SetChain(chain) => self.chain = chain,
            Command::AddStatic(enode) => self.add_static(enode),
            Command::Trust(enode) => self.shared.book().admission.trust(enode),
            Command::Distrust(id) => self.shared.book().admission.distrust(&id),
            Command::Remove(id) => self.remove(&id, service),
            Command::Disconnect { peer, cause } => self.disconnect(peer, cause, service),
            Command::Send { peer, message } => self.send(peer, &message),
            Command::Shutdown => unreachable!("ends the loop"),
        }
    }

    fn add_static(&mut self, enode: Enode) {
        let now_ms = self.now_ms();
        if !self.shared.book().admission.add_static(enode.id) {
            let why = "it is this node itself, or too many are dialled already";
            log::warn!("Not dialling {}: {why}", enode.tcp_addr());
            return;
        }
        self.dialer.add(enode, now_ms);
    }

    /// The node is dialled no more, and its connection, if this reactor has it, is ended, however far it has come.
    fn remove(&mut self, id: &NodeId, service: &mut dyn Service) {
        // The one that dials it speaks for all: an order to dial it again comes to that one too, and so after this.
        if self.thread == dialling_thread(id, self.neighbours.len().max(1)) {
            self.dialer.remove(id);
            self.shared.book().admission.remove_static(id);
        }
        for peer in self.slots.peers() {
            match self.slots.get(peer).map(|entry| &entry.state) {
                Some(State::Dial(dial)) if dial.id == *id => self.give_up_dial(peer),
                Some(State::Open(connection)) if connection.id == Some(*id) => {
                    self.disconnect(peer, Cause::Requested, service);
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, peer: PeerId, message: &OwnedOutgoing) {
        let Some(entry) = self.slots.get_mut(peer) else {
            return;
        };
        let State::Open(connection) = &mut entry.state else {
            return;
        };
        if message.is_announcement() && connection.session.is_behind() {
            log::debug!(
                "Announcement left out, the peer reads slowly {}",
                Name(connection.id, connection.addr)
            );
            return;
        }
        if let Err(error) = connection.session.send(message.as_outgoing()) {
            log::debug!(
                "Message not sent {}: {error:?}",
                Name(connection.id, connection.addr)
            );
        }
        self.slots.queue(peer);
    }

    /// Offers what the service gave back, if it has said that there is room, or if it is time to try anyway.
    fn resume(&mut self, service: &mut dyn Service) {
        let now_ms = self.now_ms();
        let is_time = self.retry_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        if !self.signal.take_resume() && !is_time {
            return;
        }
        while let Some(event) = self.gone.pop_front() {
            if let Err(event) = service.offer(event) {
                self.gone.push_front(event);
                break;
            }
        }
        while self.gone.is_empty() {
            let Some(peer) = self.paused.pop_front() else {
                break;
            };
            let Some(Entry {
                state: State::Open(connection),
                ..
            }) = self.slots.get_mut(peer)
            else {
                continue;
            };
            let Some(event) = connection.held.take() else {
                continue;
            };
            let is_connected = matches!(event, NetEvent::Connected { .. });
            if let Err(event) = service.offer(event) {
                connection.held = Some(event);
                self.paused.push_front(peer);
                break;
            }
            connection.is_announced |= is_connected;
            self.slots.queue(peer);
        }
        let waits = !self.gone.is_empty() || !self.paused.is_empty();
        self.retry_at_ms = waits.then_some(now_ms + PAUSE_RETRY_MS);
    }

    fn shut_down(mut self, events: &mut Events) -> io::Result<()> {
        let until_ms = self.now_ms() + SHUTDOWN_FLUSH_MS;
        if let Some(mut listener) = self.listener.take() {
            listener.close(self.poll.registry());
        }
        self.held.clear();
        for peer in self.slots.peers() {
            let Some(mut entry) = self.slots.take(peer) else {
                continue;
            };
            match entry.state {
                State::Dial(_) => {
                    self.slots.release(peer);
                    continue;
                }
                State::Open(mut connection) => {
                    connection.session.disconnect(Cause::Quitting);
                    entry.state = State::Linger(Box::new(connection.linger(until_ms)));
                }
                State::Linger(ref mut linger) => linger.until_ms = until_ms,
            }
            self.slots.put_back(entry);
            self.slots.queue(peer);
        }
        loop {
            while self.slots.queued() > 0 {
                if let Some(peer) = self.slots.next_turn() {
                    self.linger_turn(peer);
                }
            }
            let left_ms = until_ms.saturating_sub(self.now_ms());
            if left_ms == 0 || self.slots.peers().is_empty() {
                return Ok(());
            }
            match self.poll.poll(events, Some(Duration::from_millis(left_ms))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                other => other?,
            }
            self.note(events);
        }
    }
}

/// The time of day, by which bans are counted: they outlive the process.
fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// 32 bytes from the system.
fn entropy() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(seed)
}
