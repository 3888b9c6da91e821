//! One connection with a peer, without its socket: bytes and `now` in; bytes, events and the next deadline out.

use std::sync::Arc;

use secp256k1::SecretKey;

use crate::enode::NodeId;
pub use crate::eth::message::{AnswerKind, Message, Outgoing};
pub use crate::eth::status::{LocalChain, Status};
use crate::p2p::DisconnectReason;

/// Past this many bytes waiting to go out a session says [`Session::output_is_full`].
pub const OUTPUT_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// What all sessions of a node share.
#[derive(Clone, Debug)]
pub struct Config {
    /// The static key; its public key is the node's id.
    pub secret_key: SecretKey,
    /// What Hello calls us: `cairn/v0.1.0/linux-x86_64/rust1.95`.
    pub client: String,
    /// The TCP port we listen on, for Hello.
    pub port: u16,
    /// Versions of eth announced.
    pub eth_versions: Vec<u8>,
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
    /// The handshake is done: the peer has proven that it holds this id's key.
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
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Close {
    /// We ended it.
    Local {
        /// The reason given to the peer, where it could be given.
        reason: DisconnectReason,
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
}

/// One connection with a peer.
#[derive(Debug)]
pub struct Session;

#[allow(missing_docs, unused_variables)]
impl Session {
    pub fn new(config: Arc<Config>, role: Role, seed: [u8; 32], now_ms: u64) -> Session {
        Session
    }
    pub fn handle_input(&mut self, now_ms: u64, bytes: &mut [u8], chain: &LocalChain) {}
    pub fn handle_timeout(&mut self, now_ms: u64) {}
    pub fn send(&mut self, now_ms: u64, message: Outgoing<'_>) -> Result<(), NotReady> {
        Err(NotReady::Closed)
    }
    pub fn disconnect(&mut self, reason: DisconnectReason) {}
    pub fn output(&self) -> &[u8] {
        &[]
    }
    pub fn consume_output(&mut self, n: usize) {}
    pub fn output_is_full(&self) -> bool {
        false
    }
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        None
    }
    pub fn deadline_ms(&self) -> Option<u64> {
        None
    }
    pub fn is_closed(&self) -> bool {
        true
    }
}
