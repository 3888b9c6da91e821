//! Every limit of the network, in one table, each with its reason: the peer chooses the sizes.
//!
//! Bytes on the wire and RLP: geth and eth.md set what honest peers do; ours leave them room and no more.

// ---- messages

/// Items in an answer or a request: headers, bodies, receipts. geth serves at most 1024 of each; so does this node, and it asks no more.
pub const MAX_ITEMS: usize = 1024;

/// An answer is not extended once it is so long (uncompressed): eth.md recommends it for headers, bodies and receipts.
pub const SOFT_ANSWER_BYTES: usize = 2 << 20;

/// Blocks in one NewBlockHashes. A clique chain makes one a second: an honest list is short.
pub const MAX_ANNOUNCED_BLOCKS: usize = 4096;

/// The longest message after decompression: "typically 10 MiB" (eth.md); checked before anything is allocated.
pub const MAX_MESSAGE_BYTES: usize = 10 << 20;

/// The longest frame: its length has three bytes (RLPx).
pub const MAX_FRAME_BYTES: usize = (1 << 24) - 1;

/// The longest Hello: geth's baseProtocolMaxMsgSize.
pub const MAX_HELLO_BYTES: usize = 2 << 10;

// ---- one session

/// Bytes that may wait to go out before the session's requests wait unread. Two full answers, so that the cipher is
/// not idle while the socket empties, and a slow reader costs no more than this.
pub const OUTPUT_LIMIT_BYTES: usize = 4 << 20;

/// Time for auth and ack: geth gives the same.
pub const RLPX_TIMEOUT_MS: u64 = 5_000;

/// Time for the Hello after that.
pub const HELLO_TIMEOUT_MS: u64 = 5_000;

/// Time for the Status after that.
pub const STATUS_TIMEOUT_MS: u64 = 5_000;

/// A Ping goes out when the peer has been silent for so long.
pub const PING_INTERVAL_MS: u64 = 15_000;

/// A peer from which no frame came for so long is gone (geth's frameReadTimeout).
pub const SILENCE_TIMEOUT_MS: u64 = 30_000;

/// A peer whose socket has taken no byte for so long while some were waiting is gone. Its silence does not count
/// meanwhile: a session with full output is not read.
pub const WRITE_STALL_MS: u64 = 30_000;

/// After our Disconnect the socket is held so long, or until the peer closes it: closing at once would reset the
/// connection, and the peer would lose the reason.
pub const LINGER_MS: u64 = 1_000;

/// Bytes thrown away in that time: a peer in the middle of a large answer need not be heard out.
pub const LINGER_BYTES: usize = 16 << 20;

// ---- the reactor

/// The one buffer that all sockets are read into.
pub const READ_BUFFER_BYTES: usize = 64 << 10;

/// Work of one session (bytes read and bytes written to its output) before the next has its turn: some milliseconds
/// of cipher and MAC.
pub const TURN_BYTES: usize = 1 << 20;

/// Messages of one session handled in one turn: small requests cost more by number than by length.
pub const TURN_MESSAGES: usize = 64;

/// Commands waiting for the reactor; a full link is an error to who sends, never a wait.
pub const COMMAND_QUEUE: usize = 1024;

/// A peer whose event was refused is offered again after so long even if nobody called `wake`: a lost wake-up would
/// otherwise stop the peer for ever.
pub const PAUSE_RETRY_MS: u64 = 250;

/// Time to send Disconnect to everybody when the node stops; Ctrl-C must end it in well under a second.
pub const SHUTDOWN_FLUSH_MS: u64 = 200;

// ---- connections

/// Inbound connections on which the handshake is under way. An honest one takes three round trips; beyond this the
/// oldest makes room, so that silence cannot lock others out.
pub const MAX_INBOUND_HANDSHAKES: usize = 128;

/// Inbound connections from one address (of IPv6, one /64), handshakes included. Loopback is exempt: it is ourselves,
/// and tests and demos run many nodes there.
pub const MAX_INBOUND_PER_ADDRESS: usize = 8;

/// Connections that the kernel keeps for us to accept: a burst of them while a turn runs.
pub const LISTEN_BACKLOG: i32 = 1024;

/// Connections accepted before sessions get their turn.
pub const ACCEPTS_PER_TURN: usize = 32;

/// No connection is accepted for so long after the system refused one for want of descriptors or memory.
pub const ACCEPT_PAUSE_MS: u64 = 500;

/// Dials under way at once: the rest wait for their turn.
pub const MAX_DIALS: usize = 16;

/// Time for a TCP connection to come up: geth's defaultDialTimeout.
pub const DIAL_TIMEOUT_MS: u64 = 15_000;

/// The first wait before a static node is dialled again; it doubles with every failure.
pub const REDIAL_MIN_MS: u64 = 1_000;

/// The longest wait: a peer that comes back is found within half a minute.
pub const REDIAL_MAX_MS: u64 = 30_000;

/// The shortest time between two connections to a peer that is not on our own network: geth refuses an address that
/// it has seen within 30 s.
pub const REDIAL_REMOTE_MS: u64 = 31_000;

/// A session that lived so long was a success: the waits begin anew.
pub const SESSION_LASTED_MS: u64 = 30_000;

/// Log lines per second about strangers' failed handshakes; the rest are logged at debug level. The log is a resource
/// that a stranger must not be able to fill.
pub const STRANGER_LINES_PER_S: u32 = 10;

/// Two connections with one node, dialled by either side, that authenticate within this time are a collision, and both
/// sides end the same one; later, the one that stands stays.
pub const TIE_WINDOW_MS: u64 = 5_000;

/// Connections that linger after our Disconnect at once; beyond it they are closed without waiting.
pub const MAX_LINGERING: usize = 128;
