//! One connection with a peer, without its socket: bytes and `now` in; bytes, events and the next deadline out.
//!
//! ```text
//! handshake -- auth, ack --> Hello -- Hello both ways --> Status -- Status both ways --> ready: messages both ways
//!    5 s                      5 s                          5 s                            Ping after 15 s of silence, the end after 30
//! ```
//!
//! Any step may end in [`Close`] instead. What a peer does wrong is told to it as go-ethereum does: `ProtocolBreach` for RLPx, p2p and
//! message ids, `Subprotocol` for everything of eth (malformed messages, another chain), `UselessPeer` for no version in common,
//! `Timeout` for silence. A failed handshake ends without a word, since there is nobody to say it to.

mod buffers;
mod codec;
mod linked;
mod output;
#[cfg(test)]
mod tests;
mod timers;
mod workspace;

use std::collections::VecDeque;
use std::sync::Arc;

use secp256k1::SecretKey;

use self::linked::{Context, Linked};
use self::output::Output;
use self::timers::{Due, Timers};
pub use self::workspace::Workspace;
use crate::enode::NodeId;
pub use crate::eth::message::{AnswerKind, Message, Outgoing};
pub use crate::eth::status::{LocalChain, Status};
use crate::fault::Cause;
use crate::limits::{
    ANNOUNCE_LIMIT_BYTES, OUTPUT_LIMIT_BYTES, READ_BUFFER_BYTES, RLPX_TIMEOUT_MS,
    SILENCE_TIMEOUT_MS,
};
use crate::p2p::DisconnectReason;
use crate::rlpx;
use crate::rlpx::entropy::Entropy;
use crate::rlpx::frame;
use crate::rlpx::handshake::{self, AwaitingAck, AwaitingAuth, Step};

/// What all sessions of a node share.
#[derive(Clone, Debug)]
pub struct Config {
    secret_key: SecretKey,
    /// The public key of that, made once: it costs as much as a signature.
    id: NodeId,
    /// What Hello calls us: `cairn/v0.1.0/linux-x86_64/rust1.95`.
    pub client: String,
    /// The TCP port we listen on, for Hello.
    pub port: u16,
    /// Versions of eth announced.
    pub eth_versions: Vec<u8>,
}

impl Config {
    /// The node with this static key; for the rest see the fields of the same names.
    pub fn new(secret_key: SecretKey, client: String, port: u16, eth_versions: Vec<u8>) -> Config {
        Config {
            secret_key,
            id: rlpx::node_id(&secret_key),
            client,
            port,
            eth_versions,
        }
    }

    /// The node's id.
    pub fn id(&self) -> NodeId {
        self.id
    }
}

/// Which side opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We did, to reach this node.
    Initiator(NodeId),
    /// They did.
    Recipient,
}

/// What a session tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    /// The first frame was authentic: the peer has proven that it holds this id's key. (The handshake alone proves nothing, since
    /// an auth can be replayed.)
    Authenticated {
        /// The peer's id.
        id: NodeId,
    },
    /// Status was exchanged and fits: messages may go both ways.
    Ready(Arc<PeerInfo>),
    /// A message of eth.
    Message(Message),
    /// The last event. What [`Session::output`] still holds should be sent before the socket is closed.
    Closed(Close),
}

/// What is known of a peer once it is ready.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerInfo {
    /// Its id.
    pub id: NodeId,
    /// Its name for itself.
    pub client: String,
    /// The version of eth that is spoken.
    pub eth: u8,
    /// Its Status.
    pub status: Status,
    /// It dialled us.
    pub inbound: bool,
    /// Number of the head that our Status told it of.
    pub told_head: u64,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Close {
    /// We ended it.
    Local {
        /// Why: with it comes the reason given to the peer, where it could be given.
        cause: Cause,
        /// What happened, for the log.
        why: String,
    },
    /// The peer ended it with a Disconnect.
    Remote {
        /// The reason it gave.
        reason: DisconnectReason,
    },
    /// The socket failed or ended (from the reactor, never from a session).
    Io(String),
}

/// A message that was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// Status has not been exchanged yet.
    Handshaking,
    /// The session has ended.
    Closed,
    /// The message is greater than a peer would take.
    TooLarge,
    /// The version of eth that the peer speaks has no such message: who sends looks at [`PeerInfo::eth`].
    NotOfVersion,
}

/// One connection with a peer.
///
/// Inputs are [`handle_input`](Session::handle_input), [`handle_timeout`](Session::handle_timeout), [`send`](Session::send) and
/// [`disconnect`](Session::disconnect). After each, the owner drains [`poll_event`](Session::poll_event), writes
/// [`output`](Session::output) to the socket, and looks at [`deadline_ms`](Session::deadline_ms).
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    role: Role,
    state: State,
    /// What has come of the part that is awaited: a packet of the handshake, the header of a frame, or its rest. Never more
    /// than that part, and grown by what really came, not by what it claims.
    input: Vec<u8>,
    /// How long that part is.
    needed_bytes: usize,
    output: Output,
    events: VecDeque<SessionEvent>,
    timers: Timers,
    paused: bool,
    /// What was lent to it for its turn.
    workspace: Option<Box<Workspace>>,
}

#[derive(Debug)]
enum State {
    Handshaking(Box<Handshaking>),
    Linked(Box<Linked>),
    Closed,
}

#[derive(Debug)]
struct Handshaking {
    our_id: NodeId,
    entropy: Entropy,
    awaiting: Awaiting,
}

#[derive(Debug)]
enum Awaiting {
    Auth(AwaitingAuth),
    Ack(AwaitingAck),
}

impl Session {
    /// A session on a connection that has just come up. The initiator's auth is in the output at once.
    ///
    /// `seed` must come from the operating system's entropy and be used for nothing else: the ephemeral keys are made from it.
    pub fn new(config: Arc<Config>, role: Role, seed: [u8; 32], now_ms: u64) -> Session {
        let mut session = Session {
            role,
            state: State::Closed,
            input: Vec::new(),
            needed_bytes: handshake::PREFIX_BYTES,
            output: Output::default(),
            events: VecDeque::new(),
            timers: Timers::awaiting("handshake", now_ms + RLPX_TIMEOUT_MS),
            paused: false,
            workspace: None,
            config,
        };
        let secret = session.config.secret_key;
        let our_id = session.config.id;
        let mut entropy = Entropy::new(seed);
        let awaiting = match role {
            Role::Recipient => Awaiting::Auth(AwaitingAuth::new(secret)),
            Role::Initiator(remote) if remote == our_id => {
                session.close(self_connect());
                return session;
            }
            Role::Initiator(remote) => {
                let started = session
                    .output
                    .packet(|out| AwaitingAck::start(secret, remote, &mut entropy, out));
                match started {
                    Ok(awaiting) => Awaiting::Ack(awaiting),
                    Err(error) => {
                        session.close(Close::Local {
                            cause: Cause::Requested,
                            why: error.to_string(),
                        });
                        return session;
                    }
                }
            }
        };
        session.state = State::Handshaking(Box::new(Handshaking {
            our_id,
            entropy,
            awaiting,
        }));
        session
    }

    /// Takes bytes from the peer, cut anywhere. They are decrypted in place.
    ///
    /// `chain` is what our Status says, and what the peer's is checked against, if they are due.
    pub fn handle_input(&mut self, now_ms: u64, bytes: &mut [u8], chain: &LocalChain) {
        self.handle_some(now_ms, bytes, chain, usize::MAX);
    }

    /// The same as far as no more than `most_events` wait to be polled: gives how many bytes were taken. Those after them are as they
    /// came, and are to be given again. A session that has closed takes all.
    pub fn handle_some(
        &mut self,
        now_ms: u64,
        bytes: &mut [u8],
        chain: &LocalChain,
        most_events: usize,
    ) -> usize {
        let whole_bytes = bytes.len();
        let mut bytes = bytes;
        while !bytes.is_empty() && !self.is_closed() {
            if self.events.len() >= most_events {
                return whole_bytes - bytes.len();
            }
            let missing = self.needed_bytes - self.input.len();
            let (part, rest) = bytes.split_at_mut(missing.min(bytes.len()));
            bytes = rest;
            if self.input.is_empty() && part.len() == missing {
                self.take(now_ms, part, chain);
                continue;
            }
            self.make_room(part.len());
            self.input.extend_from_slice(part);
            if part.len() == missing {
                let mut whole = std::mem::take(&mut self.input);
                self.take(now_ms, &mut whole, chain);
                self.spare(whole);
            }
        }
        whole_bytes
    }

    /// Acts on the time: Ping, or the end of patience. To be called at [`Session::deadline_ms`]; earlier does no harm.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if self.paused || self.output_is_full() {
            self.timers.not_reading();
        }
        match (self.timers.due(now_ms), &mut self.state) {
            (None, _) => {}
            (Some(Due::Ping), State::Linked(linked)) => linked.ping(self.output.end()),
            (Some(Due::Ping), _) => {}
            (Some(Due::Awaited(what)), _) => self.close(timeout(format!("no {what} in time"))),
            (Some(Due::Silence), _) => {
                self.close(timeout(format!("silent for {SILENCE_TIMEOUT_MS} ms")));
            }
        }
    }

    /// Encodes and compresses a message, and lays its frame into the output, to be sealed when it is looked at.
    pub fn send(&mut self, message: Outgoing<'_>) -> Result<(), NotReady> {
        match &mut self.state {
            State::Handshaking(_) => Err(NotReady::Handshaking),
            State::Linked(linked) => match &mut self.workspace {
                Some(workspace) => linked.send(message, workspace, self.output.end()),
                None => linked.send(message, &mut Workspace::default(), self.output.end()),
            },
            State::Closed => Err(NotReady::Closed),
        }
    }

    /// Lends memory to work with, until [`reclaim`](Session::reclaim). Without it the session takes new memory for each message; what
    /// it does is the same.
    pub fn lend(&mut self, mut workspace: Box<Workspace>) {
        self.output.borrow(&mut workspace.outputs);
        self.workspace = Some(workspace);
    }

    /// Takes back what was lent, and leaves the session no more memory than what it holds needs.
    pub fn reclaim(&mut self) -> Option<Box<Workspace>> {
        let mut workspace = self.workspace.take()?;
        self.output.give_back(&mut workspace.outputs);
        workspace.trim();
        Some(workspace)
    }

    /// Ends the session; the peer is told why if it can be.
    pub fn disconnect(&mut self, cause: Cause) {
        if !self.is_closed() {
            let why = format!("we ended it: {}", cause.reason());
            self.close(Close::Local { cause, why });
        }
    }

    /// Bytes for the peer. Frames that are only laid out are sealed for it; [`seal_each`] does so for several sessions at once.
    pub fn output(&mut self) -> &[u8] {
        if self.unsealed_bytes() > 0 {
            seal_each([&mut *self]);
        }
        self.output.pending()
    }

    /// How much waits to go out.
    pub fn waiting_bytes(&self) -> usize {
        self.output.waiting_bytes()
    }

    /// How much of it is not encrypted and authenticated yet.
    pub fn unsealed_bytes(&self) -> usize {
        self.output.unsealed().len()
    }

    /// Throws away what waits to go out: the socket takes nothing any more.
    pub fn discard_output(&mut self) {
        if self.output_is_full() {
            self.timers.not_reading();
        }
        self.output.clear();
        if self.workspace.is_none() {
            self.output.shrink();
        }
    }

    /// The socket has taken the first `n` bytes of the output.
    pub fn consume_output(&mut self, n: usize) {
        if self.output_is_full() {
            self.timers.not_reading();
        }
        self.output.consume(n);
        if self.workspace.is_none() {
            self.output.shrink();
        }
    }

    /// So much waits to go out that the peer should not be read any more: what it asks for waits unread.
    pub fn output_is_full(&self) -> bool {
        self.output.waiting_bytes() >= OUTPUT_LIMIT_BYTES
    }

    /// The peer reads too slowly to be told what is new.
    pub fn is_behind(&self) -> bool {
        self.output.waiting_bytes() >= ANNOUNCE_LIMIT_BYTES
    }

    /// The owner stops reading this peer for a reason of its own, or goes on. While it does not read, the peer's silence is not
    /// held against it. (That the output is full, the session knows itself.)
    pub fn set_paused(&mut self, paused: bool) {
        if paused || self.paused {
            self.timers.not_reading();
        }
        self.paused = paused;
    }

    /// The next event, in the order they happened. At most those of one input wait here, and of
    /// [`handle_some`](Session::handle_some) as many as it was told.
    ///
    /// Our Status is said when the owner asks for what comes after [`SessionEvent::Authenticated`]: a peer that it refuses at
    /// that event hears no more than Hello.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        let unseen = matches!(
            self.events.front(),
            Some(SessionEvent::Authenticated { .. })
        );
        if let (State::Linked(linked), false) = (&mut self.state, unseen) {
            linked.say_status(self.output.end());
        }
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > KEPT_EVENTS {
            self.events = VecDeque::new();
        }
        event
    }

    /// When [`Session::handle_timeout`] has to be called, if nothing else happens.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.timers.deadline_ms()
    }

    /// Nothing can happen any more; output that is left should still be sent.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// A long part goes on in the memory that the last one left, once a quarter of that has come: who sends no more of it does not hold
    /// much more than it sent.
    fn make_room(&mut self, more_bytes: usize) {
        let (bytes, room_bytes) = (self.input.len(), self.input.capacity());
        if bytes < READ_BUFFER_BYTES || bytes + more_bytes <= room_bytes {
            return;
        }
        if let Some(workspace) = &mut self.workspace
            && workspace.input.capacity() > room_bytes
            && workspace.input.capacity() / 4 <= bytes
        {
            let mut input = std::mem::take(&mut workspace.input);
            input.extend_from_slice(&self.input);
            self.input = input;
        }
    }

    /// Leaves the memory of a long part for the next.
    fn spare(&mut self, mut whole: Vec<u8>) {
        if let Some(workspace) = &mut self.workspace
            && whole.capacity() > workspace.input.capacity()
        {
            whole.clear();
            workspace.input = whole;
        }
    }

    /// Takes a whole part of what the peer sends.
    fn take(&mut self, now_ms: u64, part: &mut [u8], chain: &LocalChain) {
        let mut cx = Context {
            config: &self.config,
            inbound: self.role == Role::Recipient,
            chain,
            now_ms,
            out: &mut self.output,
            events: &mut self.events,
            timers: &mut self.timers,
            buffers: self.workspace.as_ref().map(|workspace| &workspace.buffers),
        };
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Handshaking(handshaking) => match handshaking.take(part, &mut cx) {
                Ok(Progress::More {
                    state,
                    needed_bytes,
                }) => {
                    self.state = State::Handshaking(state);
                    self.needed_bytes = needed_bytes;
                    self.input = part.to_vec(); // a packet is read whole
                }
                Ok(Progress::Linked(linked)) => {
                    self.needed_bytes = linked.needed_bytes();
                    self.state = State::Linked(linked);
                }
                Err((linked, close)) => {
                    if let Some(linked) = linked {
                        self.state = State::Linked(linked);
                    }
                    self.close(close);
                }
            },
            State::Linked(mut linked) => {
                let taken = linked.take(part, &mut cx);
                self.needed_bytes = linked.needed_bytes();
                self.state = State::Linked(linked);
                if let Err(close) = taken {
                    self.close(close);
                }
            }
            State::Closed => {}
        }
    }

    fn close(&mut self, close: Close) {
        if let (State::Linked(linked), Close::Local { cause, .. }) = (&mut self.state, &close) {
            linked.disconnect(cause.reason(), self.output.end());
        }
        if self.unsealed_bytes() > 0 {
            seal_each([&mut *self]);
        }
        self.state = State::Closed;
        self.input = Vec::new();
        self.timers = Timers::stopped();
        self.events.push_back(SessionEvent::Closed(close));
    }
}

/// Encrypts and authenticates what these sessions have laid out, side by side: where the machine can, that is faster than one after the
/// other. What each sends is the same.
pub fn seal_each<'a>(sessions: impl IntoIterator<Item = &'a mut Session>) {
    frame::seal_each(sessions.into_iter().filter_map(|session| {
        let State::Linked(linked) = &mut session.state else {
            return None; // a session seals all that it has when it closes
        };
        Some((linked.writer(), session.output.take_unsealed()))
    }));
}

/// Where a packet of the handshake led.
enum Progress {
    More {
        state: Box<Handshaking>,
        needed_bytes: usize,
    },
    Linked(Box<Linked>),
}

impl Handshaking {
    /// Takes the packet as far as it is there. An error comes with the link, if there is one to say goodbye on.
    fn take(
        mut self: Box<Self>,
        part: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Result<Progress, (Option<Box<Linked>>, Close)> {
        let failed = |error: handshake::HandshakeError| {
            let why = error.to_string();
            (
                None,
                Close::Local {
                    cause: Cause::BadHandshake,
                    why,
                },
            )
        };
        let link = match self.awaiting {
            Awaiting::Auth(state) => {
                let entropy = &mut self.entropy;
                match cx
                    .out
                    .packet(|out| state.read(part, entropy, out))
                    .map_err(failed)?
                {
                    Step::More {
                        state,
                        needed_bytes,
                    } => {
                        self.awaiting = Awaiting::Auth(state);
                        return Ok(Progress::More {
                            state: self,
                            needed_bytes,
                        });
                    }
                    Step::Done(link) => link,
                }
            }
            Awaiting::Ack(state) => match state.read(part).map_err(failed)? {
                Step::More {
                    state,
                    needed_bytes,
                } => {
                    self.awaiting = Awaiting::Ack(state);
                    return Ok(Progress::More {
                        state: self,
                        needed_bytes,
                    });
                }
                Step::Done(link) => link,
            },
        };
        let itself = link.remote == self.our_id;
        let linked = Box::new(Linked::start(*link, self.our_id, cx));
        if itself {
            Err((Some(linked), self_connect()))
        } else {
            Ok(Progress::Linked(linked))
        }
    }
}

/// An empty queue of events up to this many is kept.
const KEPT_EVENTS: usize = 8;

fn self_connect() -> Close {
    Close::Local {
        cause: Cause::SelfConnect,
        why: "it is this node itself".to_owned(),
    }
}

fn timeout(why: String) -> Close {
    Close::Local {
        cause: Cause::Silence,
        why,
    }
}
