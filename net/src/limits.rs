//! Every limit of the network, with its reason: the peer chooses the sizes.
//!
//! Bytes on the wire and RLP: geth and eth.md set what honest peers do; ours leave them room and no more.
//!
//! | what | limit | why, and past it |
//! | --- | --- | --- |
//! | **connections** | | |
//! | sessions, in and out together | `--maxpeers` (50), 550 at the most (`PEERS_LIMIT` of the node's `src/config.rs`) | as many as geth has: fifty that ask and do not read hold 65 MiB of answers; more than 550 want more descriptors than a system gives by default (1024). TooManyPeers, but static and trusted nodes stand above it |
//! | sessions with one node | 1 | AlreadyConnected; of two dialled at once ([`TIE_WINDOW_MS`], as long as a handshake may take) both sides keep the same one |
//! | inbound connections of one address, of IPv6 one /64 | [`MAX_INBOUND_PER_ADDRESS`] | nobody takes every place from one machine; closed without a word; loopback and trusted nodes' addresses are exempt |
//! | inbound handshakes under way | [`MAX_INBOUND_HANDSHAKES`] | silence must not lock others out: the oldest silent one makes room; trusted nodes' addresses are exempt |
//! | inbound handshakes a second | [`HANDSHAKES_PER_S`], a burst of [`HANDSHAKE_BURST`] | 3 % of a core for strangers; the next wait, [`MAX_HELD_STRANGERS`] at most, and past it are closed; loopback and trusted nodes' addresses wait for nobody |
//! | a trusted node that dials from another address than its enode has | the same as a stranger | who it is shows only when it has proven its id: from then on it stands above `--maxpeers` and is never banned |
//! | connections that the kernel keeps for us | [`LISTEN_BACKLOG`] | a burst while a turn runs; the next are told nothing and try again |
//! | connections accepted in a round | [`ACCEPTS_PER_TURN`] | sessions have their turn too |
//! | without descriptors or memory | none is accepted for [`ACCEPT_PAUSE_MS`] | to ask again at once would spin |
//! | accepted, waiting for another net thread | [`ACCEPTED_QUEUE`] | twice a round's; the one that accepts keeps the next |
//! | net threads | [`MAX_THREADS`] | a machine has few more cores |
//! | nodes that are dialled; that are trusted | [`MAX_STATICS`], [`MAX_TRUSTED`] | all are looked at in every round, and compared with each that comes; whoever wants more is told |
//! | outbound connections coming up | [`MAX_DIALS`] | each may take its 15 s; the rest wait |
//! | time between two dials of a node | [`REDIAL_MIN_MS`], doubled up to [`REDIAL_MAX_MS`]; not on our own network [`REDIAL_REMOTE_MS`]; anew after [`SESSION_LASTED_MS`] | who comes back is found soon, who does not costs little, and geth refuses whom it has seen within 30 s |
//! | connections that we have ended and hold open | [`MAX_LINGERING`], each for [`LINGER_MS`] and [`LINGER_BYTES`] read | so that the reason arrives; past it they are closed at once |
//! | lines of log about strangers a second | [`STRANGER_LINES_PER_S`] | a stranger must not fill the log; the rest at debug level |
//! | **messages** | | |
//! | an auth or ack | 2048 bytes | four times what any client sends; the end |
//! | a frame | before Status [`MAX_HELLO_BYTES`], then what a message of [`MAX_MESSAGE_BYTES`] may take, below [`MAX_FRAME_BYTES`] | what it announces is refused at its header; BrokenLink |
//! | a message after decompression | by its type, [`message_limit_bytes`]: [`MAX_HASH_REQUEST_BYTES`], [`MAX_SMALL_MESSAGE_BYTES`], [`MAX_BLOCK_HASHES_BYTES`], [`MAX_POOLED_HASHES_BYTES`], [`MAX_HELLO_BYTES`], else [`MAX_MESSAGE_BYTES`] | what an honest one may need; BadMessage, before anything is allocated |
//! | blocks in one NewBlockHashes | [`MAX_ANNOUNCED_BLOCKS`] | an honest list is short; BadMessage |
//! | items read of a request, items of an answer | [`MAX_ITEMS`] | geth serves as many; the rest of a request is left out, of an answer a BadMessage |
//! | bytes of an answer of ours | [`SOFT_ANSWER_BYTES`], and one item more | eth.md recommends it; it ends |
//! | **one session** | | |
//! | requests of a peer in flight | 0: each is answered before the next is read | nothing of theirs waits in our memory |
//! | requests of ours in flight | 32 a peer (`src/sync/limits.rs`) | the peer is not asked |
//! | bytes waiting to go out to a peer | [`OUTPUT_LIMIT_BYTES`], and one answer more | the kernel's buffer keeps the link busy; it is not read until they are gone |
//! | the same, before announcements are left out | [`ANNOUNCE_LIMIT_BYTES`] | two great blocks and an answer; it asks when it has caught up |
//! | bytes read at once | [`READ_BUFFER_BYTES`], one for all sessions of a net thread | a call to the kernel costs little beside them |
//! | messages of a peer that are read and not dealt with | [`MAX_WAITING_EVENTS`] | a hundred bytes can be 32 KiB in memory; the bytes that came with them wait undecrypted, [`READ_BUFFER_BYTES`] at most |
//! | work of a session before the next has its turn | [`TURN_BYTES`], [`TURN_MESSAGES`] | some milliseconds; it goes on in the next round |
//! | time: TCP, RLPx, Hello, Status | [`DIAL_TIMEOUT_MS`], [`RLPX_TIMEOUT_MS`], [`HELLO_TIMEOUT_MS`], [`STATUS_TIMEOUT_MS`] | geth's; Silence |
//! | time without a frame | [`SILENCE_TIMEOUT_MS`], a Ping after [`PING_INTERVAL_MS`] | geth's; Silence |
//! | time without reading what it asked for | [`WRITE_STALL_MS`] | as much as without a frame; Silence |
//! | **one net thread** | | |
//! | memory to make answers in, and to put one together in | 3 + [`SEALED_TOGETHER`] times [`WORKSPACE_BYTES`], 3 times when it rests | an answer and its last item; a longer one's is given back |
//! | answers sealed side by side | [`SEALED_TOGETHER`], each from [`SEAL_APART_BYTES`] on | as wide as the MACs are computed; a shorter one is not worth the wait |
//! | memory of messages that came in, idle | [`IDLE_BUFFERS_BYTES`] in multiples of [`BUFFER_STEP_BYTES`], of those from [`REUSED_LEAST_BYTES`] to [`REUSED_MOST_BYTES`]; none [`BUFFERS_REST_MS`] after the last | new memory costs more than decompressing into it; the oldest is given back |
//! | commands waiting for the reactor | [`COMMAND_QUEUE`] | an error to who sends, never a wait |
//! | events waiting for sync | 16 (`src/node.rs`) | the peer is not read until there is room, which is asked again after [`PAUSE_RETRY_MS`] at the latest |
//! | time to say goodbye when the node stops | [`SHUTDOWN_FLUSH_MS`] | Ctrl-C ends it in well under a second |
//! | **faults** | | |
//! | faults | [`BAN_SCORE`] with a half-life of [`SCORE_HALF_LIFE_S`] | one lie that is proved, or four messages that are none; a ban of [`BAN_FIRST_S`], doubled up to [`BAN_MOST_S`], a first one again after [`BAN_FORGOTTEN_S`] |
//! | accounts of faults | [`SCORED_MOST`] | 150 bytes each; the least goes |

use crate::eth::message::code;
use crate::rlpx::frame::SIDE_BY_SIDE;

// ---- messages

/// Items in an answer or a request: headers, bodies, receipts. geth serves at most 1024 of each; so does this node, and it asks no more.
pub const MAX_ITEMS: usize = 1024;

/// An answer is not extended once it is so long (uncompressed): eth.md recommends it for headers, bodies and receipts.
pub const SOFT_ANSWER_BYTES: usize = 2 << 20;

/// Blocks in one NewBlockHashes. A clique chain makes one a second: an honest list is short.
pub const MAX_ANNOUNCED_BLOCKS: usize = 4096;

/// The longest message after decompression: "typically 10 MiB" (eth.md); checked before anything is allocated.
pub const MAX_MESSAGE_BYTES: usize = 10 << 20;

/// A request by hashes: of nearly four thousand, four times what is ever answered. Honest ones ask for a few hundred.
pub const MAX_HASH_REQUEST_BYTES: usize = 128 << 10;

/// GetBlockHeaders and BlockRangeUpdate have four and three fields: a hash and numbers.
pub const MAX_SMALL_MESSAGE_BYTES: usize = 128;

/// NewBlockHashes: so many pairs of a hash and a number.
pub const MAX_BLOCK_HASHES_BYTES: usize = 16 + MAX_ANNOUNCED_BLOCKS * 44;

/// NewPooledTransactionHashes: eth.md recommends at most 4096 items, about 150 KiB.
pub const MAX_POOLED_HASHES_BYTES: usize = 1 << 20;

/// The longest message of a type after decompression. Answers, blocks and transactions may have what eth.md allows any: how far its
/// last item goes past the soft limit is for who sends.
pub fn message_limit_bytes(code: u8) -> usize {
    match code {
        code::STATUS => MAX_HELLO_BYTES,
        code::NEW_BLOCK_HASHES => MAX_BLOCK_HASHES_BYTES,
        code::GET_BLOCK_HEADERS | code::BLOCK_RANGE_UPDATE => MAX_SMALL_MESSAGE_BYTES,
        code::GET_BLOCK_BODIES
        | code::GET_RECEIPTS
        | code::GET_POOLED_TRANSACTIONS
        | code::GET_BLOCK_ACCESS_LISTS => MAX_HASH_REQUEST_BYTES,
        code::NEW_POOLED_TRANSACTION_HASHES => MAX_POOLED_HASHES_BYTES,
        _ => MAX_MESSAGE_BYTES,
    }
}

/// The longest frame: its length has three bytes (RLPx).
pub const MAX_FRAME_BYTES: usize = (1 << 24) - 1;

/// The longest Hello: geth's baseProtocolMaxMsgSize.
pub const MAX_HELLO_BYTES: usize = 2 << 10;

// ---- one session

/// Bytes that may wait to go out before the session's requests wait unread. The kernel's own buffer keeps the link busy while the
/// next answer is made; what waits here besides would only be memory that a slow reader costs.
pub const OUTPUT_LIMIT_BYTES: usize = 256 << 10;

/// Bytes that may wait to go out before announcements are left out: two blocks of the greatest kind and what a peer that is catching
/// up has asked for. Past it the peer reads too slowly to be told what is new.
pub const ANNOUNCE_LIMIT_BYTES: usize = 4 << 20;

/// Memory that a net thread keeps for messages on their way out, of each of three kinds (of the last, output, [`SEALED_TOGETHER`] times),
/// and for a frame on its way in:
/// an answer and what its last item goes past the soft limit. What a longer one took is given back.
pub const WORKSPACE_BYTES: usize = 3 << 20;

/// Messages that come in and are at least so long are decompressed into memory that is used again. Shorter ones have theirs from the heap,
/// which is not returned to the system each time (`src/memory.rs` of the node).
pub const REUSED_LEAST_BYTES: usize = 256 << 10;

/// The same at most: an answer and what its last item goes past the soft limit. Longer ones are rare.
pub const REUSED_MOST_BYTES: usize = WORKSPACE_BYTES;

/// That memory comes in multiples of this, so that an answer fits where a slightly shorter one was.
pub const BUFFER_STEP_BYTES: usize = 64 << 10;

/// Memory of such messages that is kept for the next ones: what catch-up frees with one commit (three eighths of its 32 MiB).
pub const IDLE_BUFFERS_BYTES: usize = 12 << 20;

/// When no such message has come for so long, all of it goes back to the system: there is nothing to catch up with.
pub const BUFFERS_REST_MS: u64 = 1_000;

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

/// Events of one session that wait to be dealt with, before more of what was read is decrypted; the bytes wait instead
/// ([`READ_BUFFER_BYTES`] at most). A frame of a hundred bytes can be an answer of 1,024 empty items, which are 32 KiB in memory.
pub const MAX_WAITING_EVENTS: usize = 16;

/// Messages of one session handled in one turn: small requests cost more by number than by length.
pub const TURN_MESSAGES: usize = 64;

/// Sessions whose answers wait to be sealed side by side: as many as that is done for at a time. Each has one turn's output, and all
/// are written before the next turn.
pub const SEALED_TOGETHER: usize = SIDE_BY_SIDE;

/// Output shorter than this is sealed at once and alone: it is not worth a wait for the others.
pub const SEAL_APART_BYTES: usize = 16 << 10;

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

/// Inbound handshakes begun in a second, on average and at once after a pause: each costs some 300 us of curve operations, so that
/// strangers get no more than 3 % of a core. Loopback is exempt, and so are the addresses of trusted nodes.
pub const HANDSHAKES_PER_S: u64 = 100;
/// See [`HANDSHAKES_PER_S`].
pub const HANDSHAKE_BURST: u64 = 200;

/// Strangers that are accepted and wait for that: the last of them begins within two seconds, while it has patience still (geth: five
/// seconds). Past it the next are closed. A descriptor each.
pub const MAX_HELD_STRANGERS: usize = 128;

/// Accepted connections that wait for a reactor they were handed to; past it the one that accepts keeps them.
pub const ACCEPTED_QUEUE: usize = 64;

/// Threads that sessions are spread over: a machine has few more cores.
pub const MAX_THREADS: usize = 64;

/// Connections that the kernel keeps for us to accept: a burst of them while a turn runs.
pub const LISTEN_BACKLOG: i32 = 1024;

/// Connections accepted before sessions get their turn.
pub const ACCEPTS_PER_TURN: usize = 32;

/// No connection is accepted for so long after the system refused one for want of descriptors or memory.
pub const ACCEPT_PAUSE_MS: u64 = 500;

/// Nodes that are dialled again and again: each has a schedule that is looked at in every round.
pub const MAX_STATICS: usize = 256;

/// Nodes that are trusted: each that comes in is compared with all of them.
pub const MAX_TRUSTED: usize = 256;

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

// ---- faults

/// Faults that weigh so much are a ban: one lie that is proved, or four messages that are none.
pub const BAN_SCORE: u32 = 100;

/// Half of an account is forgiven after so long: a fault every ten minutes never adds up to a ban.
pub const SCORE_HALF_LIFE_S: u64 = 600;

/// The first ban: ten redials of geth's, which is long enough to cost and short enough for a mistake.
pub const BAN_FIRST_S: u64 = 300;

/// The longest ban: addresses change hands in days.
pub const BAN_MOST_S: u64 = 24 * 3600;

/// So long after a ban without fault the next one is a first one again.
pub const BAN_FORGOTTEN_S: u64 = 24 * 3600;

/// Ids and addresses with an account, about 150 bytes each. A stranger makes new ones at no more than one handshake each.
pub const SCORED_MOST: usize = 4096;

#[cfg(test)]
mod tests {
    #[test]
    fn every_limit_stands_in_the_table() {
        let source = include_str!("limits.rs");
        let rows: Vec<&str> = source
            .lines()
            .filter(|line| line.starts_with("//! | "))
            .collect();
        let names: Vec<&str> = source
            .lines()
            .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
            .collect();
        assert!(names.len() > 50, "{names:?}");
        for name in names {
            let link = format!("[`{name}`]");
            assert!(rows.iter().any(|row| row.contains(&link)), "{name}");
        }
        for row in rows {
            assert_eq!(row.matches('|').count(), 4, "{row}");
        }
    }
}
