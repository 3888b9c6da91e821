//! The messages of eth, as they come in and as they go out.
//!
//! Incoming lists of headers, bodies and receipts are slices of the decompressed payload: nothing is decoded only to
//! be encoded again. Codes are counted from the capability's first.

use alloy_primitives::{B256, U256};
use bytes::Bytes;

pub use super::decode::decode;

/// Codes of the messages (eth.md, "Protocol Messages").
pub mod code {
    #![allow(missing_docs)] // the names are the specification's
    pub const STATUS: u8 = 0x00;
    pub const NEW_BLOCK_HASHES: u8 = 0x01;
    pub const TRANSACTIONS: u8 = 0x02;
    pub const GET_BLOCK_HEADERS: u8 = 0x03;
    pub const BLOCK_HEADERS: u8 = 0x04;
    pub const GET_BLOCK_BODIES: u8 = 0x05;
    pub const BLOCK_BODIES: u8 = 0x06;
    pub const NEW_BLOCK: u8 = 0x07;
    pub const NEW_POOLED_TRANSACTION_HASHES: u8 = 0x08;
    pub const GET_POOLED_TRANSACTIONS: u8 = 0x09;
    pub const POOLED_TRANSACTIONS: u8 = 0x0a;
    pub const GET_RECEIPTS: u8 = 0x0f;
    pub const RECEIPTS: u8 = 0x10;
    pub const BLOCK_RANGE_UPDATE: u8 = 0x11;
    pub const GET_BLOCK_ACCESS_LISTS: u8 = 0x12;
    pub const BLOCK_ACCESS_LISTS: u8 = 0x13;
}

/// Where a GetBlockHeaders begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the canonical block of this number.
    Number(u64),
    /// At the block of this hash.
    Hash(B256),
}

/// What a peer asks of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// GetBlockHeaders. Any values may come in: an answer is bounded by who answers, not here.
    Headers {
        /// The first block.
        start: Start,
        /// At most so many headers.
        amount: u64,
        /// Blocks left out between two of the answer.
        skip: u64,
        /// Falling numbers instead of rising ones.
        reverse: bool,
    },
    /// GetBlockBodies, by block hash: at most [`MAX_ITEMS`](crate::limits::MAX_ITEMS), what a peer asks beyond is left out.
    Bodies {
        /// Hashes of the blocks.
        hashes: Vec<B256>,
    },
    /// GetReceipts, by block hash, bounded as bodies are.
    Receipts {
        /// Hashes of the blocks.
        hashes: Vec<B256>,
        /// Receipts of the first block that are left out, because they were answered before: 0 below eth/70.
        first_index: u64,
    },
    /// GetBlockAccessLists (eth/71), by block hash, bounded as bodies are.
    BlockAccessLists {
        /// Hashes of the blocks.
        hashes: Vec<B256>,
    },
}

impl Request {
    /// The kind of the message that answers it.
    pub fn answer_kind(&self) -> AnswerKind {
        match self {
            Request::Headers { .. } => AnswerKind::Headers,
            Request::Bodies { .. } => AnswerKind::Bodies,
            Request::Receipts { .. } => AnswerKind::Receipts,
            Request::BlockAccessLists { .. } => AnswerKind::BlockAccessLists,
        }
    }
}

/// A message that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Hashes and numbers of new blocks.
    NewBlockHashes(Vec<(B256, u64)>),
    /// A new block.
    NewBlock {
        /// RLP of the header.
        header: Bytes,
        /// RLP list `[transactions, ommers]` or `[transactions, ommers, withdrawals]`.
        body: Bytes,
        /// Total difficulty up to and with this block.
        td: U256,
    },
    /// The peer asks.
    Request {
        /// The peer's request id, to be mirrored.
        id: u64,
        /// What it asks.
        request: Request,
    },
    /// BlockHeaders.
    Headers {
        /// The id of the request it answers.
        id: u64,
        /// RLP of each header: a list, what is in it unchecked.
        headers: Vec<Bytes>,
    },
    /// BlockBodies.
    Bodies {
        /// The id of the request it answers.
        id: u64,
        /// RLP of each body: a list, what is in it unchecked.
        bodies: Vec<Bytes>,
    },
    /// Receipts, in the encoding of the session's version.
    Receipts {
        /// The id of the request it answers.
        id: u64,
        /// For each block the RLP list of its receipts, what is in it unchecked.
        blocks: Vec<Bytes>,
        /// The last of these lists ends before the block's receipts do (eth/70's `lastBlockIncomplete`): then there is one.
        last_is_cut: bool,
    },
    /// BlockAccessLists (eth/71).
    BlockAccessLists {
        /// The id of the request it answers.
        id: u64,
        /// For each block its RLP list, what is in it unchecked; `None` if the peer does not have it.
        lists: Vec<Option<Bytes>>,
    },
    /// PooledTransactions, which this node never asks for: its transactions are not kept.
    PooledTransactions {
        /// The id of the request it claims to answer.
        id: u64,
    },
    /// BlockRangeUpdate (eth/69): checked that `earliest <= latest` and that the hash is not zero.
    BlockRange {
        /// The first block with a body.
        earliest: u64,
        /// The last block.
        latest: u64,
        /// Its hash.
        latest_hash: B256,
    },
    /// A message of the version that this node has no use for, well-formed as far as it was looked at.
    Ignored {
        /// Its code.
        code: u8,
        /// The request id if it is a request: then [`Message::empty_answer`] is owed to the peer.
        id: Option<u64>,
    },
}

impl Message {
    /// The answer that is owed to a request this node has no use for: the empty list.
    pub fn empty_answer(&self) -> Option<Outgoing<'static>> {
        match *self {
            // Each answer's code is the one after its request's.
            Message::Ignored { code, id: Some(id) } => {
                Some(Outgoing::EmptyAnswer { code: code + 1, id })
            }
            _ => None,
        }
    }
}

/// Which request an answer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// BlockHeaders.
    Headers,
    /// BlockBodies.
    Bodies,
    /// Receipts, of each block up to its last one.
    Receipts,
    /// Receipts, where those of the last block go on (from eth/70 on).
    CutReceipts,
    /// BlockAccessLists.
    BlockAccessLists,
}

impl AnswerKind {
    /// The code of the answer's message.
    pub fn code(self) -> u8 {
        match self {
            AnswerKind::Headers => code::BLOCK_HEADERS,
            AnswerKind::Bodies => code::BLOCK_BODIES,
            AnswerKind::Receipts | AnswerKind::CutReceipts => code::RECEIPTS,
            AnswerKind::BlockAccessLists => code::BLOCK_ACCESS_LISTS,
        }
    }
}

/// A message to send. What it holds is ours, and trusted to be well-formed.
#[derive(Clone, Copy, Debug)]
pub enum Outgoing<'a> {
    /// Asks the peer.
    Request {
        /// An id that no other request of ours in flight on this session has.
        id: u64,
        /// What is asked.
        request: &'a Request,
    },
    /// Announces blocks by hash and number.
    NewBlockHashes(&'a [(B256, u64)]),
    /// Announces a whole block.
    NewBlock {
        /// RLP of the header.
        header: &'a [u8],
        /// RLP list `[transactions, ommers(, withdrawals)]`.
        body: &'a [u8],
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
    /// An answer with nothing in it.
    EmptyAnswer {
        /// The code of the answer.
        code: u8,
        /// The request's id.
        id: u64,
    },
    /// An answer `[id, [item, item, ...]]` (receipts from eth/70 on `[id, incomplete, [...]]`) from raw items, compressed as a whole.
    Answer {
        /// Which answer.
        kind: AnswerKind,
        /// The request's id.
        id: u64,
        /// RLP of the items; one slice may hold several, end to end.
        items: &'a [&'a [u8]],
    },
    /// The same from items that are compressed already.
    ReadyAnswer {
        /// Which answer.
        kind: AnswerKind,
        /// The request's id.
        id: u64,
        /// Length of all the items together, decompressed, in bytes.
        raw_len: usize,
        /// Snappy elements (without the length before them) of the items, end to end.
        streams: &'a [&'a [u8]],
    },
}
