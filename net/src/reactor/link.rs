//! What passes between the reactor and the rest of the node: events, answers and commands.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alloy_primitives::{B256, U256};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::roll::ConnectedPeer;
use super::shared::Shared;
use crate::enode::{Enode, NodeId};
use crate::eth::message::{AnswerKind, Message, Outgoing, Request};
use crate::eth::status::LocalChain;
use crate::fault::Cause;
use crate::scores::Ban;
use crate::session::{Close, PeerInfo};

/// One connection. Never used again: a node that comes back is another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PeerId(pub u64);

impl PeerId {
    /// Which of `threads` reactors has it.
    pub(super) fn thread(self, threads: usize) -> usize {
        (self.0 % threads as u64) as usize
    }
}

/// What happens to peers.
#[derive(Clone, Debug)]
pub enum NetEvent {
    /// A peer that has gone through Status.
    Connected {
        /// The connection.
        peer: PeerId,
        /// The other end's address.
        addr: SocketAddr,
        /// Who it is.
        info: Arc<PeerInfo>,
    },
    /// A message of a connected peer; never [`Message::Request`] nor [`Message::Ignored`], which need no one else.
    Message {
        /// The connection.
        peer: PeerId,
        /// The message.
        message: Message,
    },
    /// A connected peer's end. Connections that never came to `Connected` end without one.
    Gone {
        /// The connection.
        peer: PeerId,
        /// How it ended.
        close: Close,
    },
}

/// What the node tells the reactor.
#[derive(Clone, Debug)]
// SetChain is the large one, and comes once a block: the queue's places are few enough for its size.
#[allow(clippy::large_enum_variant)]
pub enum Command {
    /// Sends a message. Nothing happens if the peer is gone, which a [`NetEvent::Gone`] tells; announcements are left
    /// out for a peer whose output is full.
    Send {
        /// To whom.
        peer: PeerId,
        /// What.
        message: OwnedOutgoing,
    },
    /// Ends a connection; its `Gone` follows.
    Disconnect {
        /// Whose.
        peer: PeerId,
        /// Why: the peer is told, and blamed if it is its fault.
        cause: Cause,
    },
    /// What this node says of itself from now on.
    SetChain(LocalChain),
    /// Dials a node, and dials it again whenever it is lost.
    AddStatic(Enode),
    /// Lets this node in whatever the caps say, and never bans it.
    Trust(Enode),
    /// Takes that back.
    Distrust(NodeId),
    /// Dials this node no more, and ends its connection; its `Gone` follows.
    Remove(NodeId),
    /// Says goodbye to everybody and ends [`Reactor::run`](super::Reactor::run).
    Shutdown,
}

/// A message to send, on its way to the reactor.
#[derive(Clone, Debug)]
pub enum OwnedOutgoing {
    /// Asks the peer.
    Request {
        /// An id that no other request in flight to this peer has.
        id: u64,
        /// What is asked.
        request: Request,
    },
    /// Announces blocks by hash and number.
    NewBlockHashes(Vec<(B256, u64)>),
    /// Announces a whole block.
    NewBlock {
        /// RLP of the header.
        header: Bytes,
        /// RLP list `[transactions, ommers(, withdrawals)]`.
        body: Bytes,
        /// Total difficulty up to and with this block.
        td: U256,
    },
    /// Tells which blocks this node has (eth/69).
    BlockRange {
        /// The first block with a body.
        earliest: u64,
        /// The last block.
        latest: u64,
        /// Its hash.
        latest_hash: B256,
    },
}

impl OwnedOutgoing {
    /// As a session takes it.
    pub fn as_outgoing(&self) -> Outgoing<'_> {
        match self {
            OwnedOutgoing::Request { id, request } => Outgoing::Request { id: *id, request },
            OwnedOutgoing::NewBlockHashes(blocks) => Outgoing::NewBlockHashes(blocks),
            OwnedOutgoing::NewBlock { header, body, td } => Outgoing::NewBlock {
                header,
                body,
                td: *td,
            },
            OwnedOutgoing::BlockRange {
                earliest,
                latest,
                latest_hash,
            } => Outgoing::BlockRange {
                earliest: *earliest,
                latest: *latest,
                latest_hash: *latest_hash,
            },
        }
    }

    /// Whether the peer may go without it.
    pub(super) fn is_announcement(&self) -> bool {
        !matches!(self, OwnedOutgoing::Request { .. })
    }
}

/// What the node does for the reactor, on the reactor's thread. Neither may wait.
pub trait Service {
    /// Answers a request through `reply`. A request left without an answer is answered with the empty list.
    fn answer(&mut self, peer: &PeerInfo, id: u64, request: &Request, reply: &mut Reply<'_>);

    /// Takes an event, or gives it back if there is no room: then the peer is not read until [`Handle::wake`], and its
    /// event is offered again.
    // The event goes back by value because it is to be offered again as it was; it is not an error to be carried far.
    #[allow(clippy::result_large_err)]
    fn offer(&mut self, event: NetEvent) -> Result<(), NetEvent>;

    /// True once the service can go on no longer, such as with damaged blocks: the reactor then stops as if it were told to.
    fn has_failed(&self) -> bool {
        false
    }
}

/// The one answer to a request.
pub struct Reply<'a> {
    id: u64,
    kind: AnswerKind,
    sent: bool,
    send: &'a mut dyn FnMut(Outgoing<'_>),
}

impl<'a> Reply<'a> {
    /// A reply to `request` that goes to `send`: what the reactor passes to [`Service::answer`], and what a test of a
    /// service can make without a network.
    pub fn new(id: u64, request: &Request, send: &'a mut dyn FnMut(Outgoing<'_>)) -> Reply<'a> {
        Reply {
            id,
            kind: request.answer_kind(),
            sent: false,
            send,
        }
    }

    /// Headers: RLP, each slice one or several end to end.
    pub fn headers(&mut self, items: &[&[u8]]) {
        self.answer(AnswerKind::Headers, items);
    }

    /// Bodies: RLP, each slice one or several end to end.
    pub fn bodies(&mut self, items: &[&[u8]]) {
        self.answer(AnswerKind::Bodies, items);
    }

    /// Bodies that are compressed already: snappy elements without the length before them, `raw_len` bytes in all
    /// when decompressed.
    pub fn ready_bodies(&mut self, raw_len: usize, streams: &[&[u8]]) {
        self.ready(AnswerKind::Bodies, raw_len, streams);
    }

    /// Receipts: for each block the RLP list, in the encoding of the peer's version.
    pub fn receipts(&mut self, items: &[&[u8]]) {
        self.answer(AnswerKind::Receipts, items);
    }

    /// The same where the last list ends before the block's receipts do: only to a peer of eth/70 and later.
    pub fn cut_receipts(&mut self, items: &[&[u8]]) {
        self.answer(AnswerKind::CutReceipts, items);
    }

    /// Receipts that are compressed already, as [`Reply::ready_bodies`].
    pub fn ready_receipts(&mut self, raw_len: usize, streams: &[&[u8]]) {
        self.ready(AnswerKind::Receipts, raw_len, streams);
    }

    /// Block access lists: for each block the RLP list, or the empty string if it is not there.
    pub fn block_access_lists(&mut self, items: &[&[u8]]) {
        self.answer(AnswerKind::BlockAccessLists, items);
    }

    /// Nothing found.
    pub fn empty(&mut self) {
        self.answer(self.kind, &[]);
    }

    /// Whether the answer has been given.
    pub fn is_sent(&self) -> bool {
        self.sent
    }

    fn ready(&mut self, kind: AnswerKind, raw_len: usize, streams: &[&[u8]]) {
        self.once(kind);
        (self.send)(Outgoing::ReadyAnswer {
            kind,
            id: self.id,
            raw_len,
            streams,
        });
    }

    fn answer(&mut self, kind: AnswerKind, items: &[&[u8]]) {
        self.once(kind);
        (self.send)(Outgoing::Answer {
            kind,
            id: self.id,
            items,
        });
    }

    fn once(&mut self, kind: AnswerKind) {
        assert_eq!(
            kind.code(),
            self.kind.code(),
            "the answer is of the request's kind"
        );
        assert!(!self.sent, "a request is answered once");
        self.sent = true;
    }
}

/// Tells the reactors what to do, from any thread.
#[derive(Clone)]
pub struct Handle {
    links: Arc<[Link]>,
    shared: Arc<Shared>,
}

/// The way to one reactor.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) commands: Sender<Command>,
    pub(super) signal: Arc<Signal>,
}

impl Link {
    pub(super) fn send(&self, command: Command) -> Result<(), SendError> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                TrySendError::Full(command) => SendError::Full(Box::new(command)),
                TrySendError::Disconnected(command) => SendError::Stopped(Box::new(command)),
            })?;
        self.signal.wake();
        Ok(())
    }
}

/// Which of `threads` reactors dials this node.
pub(super) fn dialling_thread(id: &NodeId, threads: usize) -> usize {
    usize::from(id.0[63]) % threads
}

/// A command that did not reach the reactor.
#[derive(Debug)]
pub enum SendError {
    /// Too many wait already ([`COMMAND_QUEUE`](crate::limits::COMMAND_QUEUE)): try again later.
    Full(Box<Command>),
    /// The reactor has ended.
    Stopped(Box<Command>),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full(_) => write!(f, "too many commands wait for the network thread"),
            SendError::Stopped(_) => write!(f, "the network thread has ended"),
        }
    }
}

impl std::error::Error for SendError {}

impl Handle {
    pub(super) fn new(links: Vec<Link>, shared: Arc<Shared>) -> Handle {
        let links = links.into();
        Handle { links, shared }
    }

    /// Hands a command to the reactor that it concerns, or to all; never waits.
    ///
    /// # Errors
    /// The command is given back if it did not get everywhere. To send it again does no harm where it has been.
    pub fn send(&self, command: Command) -> Result<(), SendError> {
        let threads = self.links.len();
        let one = match &command {
            Command::Send { peer, .. } | Command::Disconnect { peer, .. } => peer.thread(threads),
            Command::AddStatic(node) => dialling_thread(&node.id, threads),
            Command::Trust(_) | Command::Distrust(_) => 0, // into the book that all share
            Command::SetChain(_) | Command::Remove(_) | Command::Shutdown => {
                let (last, others) = self.links.split_last().expect("a node has a reactor");
                // The last one's word counts: where one has stopped, all are about to.
                for link in others {
                    match link.send(command.clone()) {
                        Ok(()) | Err(SendError::Stopped(_)) => {}
                        full @ Err(SendError::Full(_)) => return full,
                    }
                }
                return last.send(command);
            }
        };
        self.links[one].send(command)
    }

    /// Says that [`Service::offer`] has room again: the peers that were refused go on.
    pub fn wake(&self) {
        for link in self.links.iter() {
            link.signal.resume.store(true, Ordering::Release);
            link.signal.wake();
        }
    }

    /// The peers that have gone through Status, in the order in which they came.
    pub fn connected(&self) -> Vec<ConnectedPeer> {
        let all = self.shared.roll.all();
        let book = self.shared.book();
        let peer = |(peer, present): (PeerId, super::roll::Present)| ConnectedPeer {
            peer,
            addr: present.addr,
            connected_for: present.since.elapsed(),
            is_trusted: book.admission.is_trusted(&present.info.id),
            is_static: book.admission.is_static(&present.info.id),
            info: present.info,
        };
        all.into_iter().map(peer).collect()
    }

    /// Whether this node is dialled, or one more may be ([`MAX_STATICS`](crate::limits::MAX_STATICS)).
    pub fn has_room_for_static(&self, id: &NodeId) -> bool {
        self.shared.book().admission.has_room_for_static(id)
    }

    /// Whether this node is trusted, or one more may be ([`MAX_TRUSTED`](crate::limits::MAX_TRUSTED)).
    pub fn has_room_for_trusted(&self, id: &NodeId) -> bool {
        self.shared.book().admission.has_room_for_trusted(id)
    }

    /// How many these are.
    pub fn peer_count(&self) -> usize {
        self.shared.roll.len()
    }

    /// The bans that are not forgotten, over or not: what [`ReactorConfig::bans`](super::ReactorConfig::bans) wants after a restart.
    pub fn bans(&self) -> Vec<Ban> {
        self.shared.book().scores.bans(super::unix_s())
    }

    /// Changes with every new ban.
    pub fn bans_version(&self) -> u64 {
        self.shared.bans_version()
    }
}

/// Wakes the reactor from its poll, once for any number of reasons.
pub(super) struct Signal {
    waker: mio::Waker,
    /// The waker has been used since the reactor last looked.
    raised: AtomicBool,
    /// The link to the service has room again.
    resume: AtomicBool,
}

impl Signal {
    pub(super) fn new(waker: mio::Waker) -> Signal {
        Signal {
            waker,
            raised: AtomicBool::new(false),
            resume: AtomicBool::new(false),
        }
    }

    pub(super) fn wake(&self) {
        if !self.raised.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            // Only a broken kernel object fails here; the next poll's timeout finds what waits.
            self.raised.store(false, Ordering::Release);
            log::error!("Cannot wake the network thread: {error}");
        }
    }

    /// The reactor looks: what is sent from now on wakes it again. Called before the commands are drained.
    pub(super) fn lower(&self) {
        // A swap, not a store: it makes what was sent before a wake that was left out visible here.
        self.raised.swap(false, Ordering::AcqRel);
    }

    /// Whether `wake` was called since the last time.
    pub(super) fn take_resume(&self) -> bool {
        self.resume.swap(false, Ordering::AcqRel)
    }
}

/// The next command, if there is one; when every handle is gone, nobody could ever stop the reactor: it stops itself.
pub(super) fn next_command(commands: &Receiver<Command>) -> Option<Command> {
    match commands.try_recv() {
        Ok(command) => Some(command),
        Err(crossbeam_channel::TryRecvError::Empty) => None,
        Err(crossbeam_channel::TryRecvError::Disconnected) => Some(Command::Shutdown),
    }
}
