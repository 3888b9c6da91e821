//! Stub: NET-B's.
#![allow(missing_docs)]
use crate::eth::DecodeError;
use alloy_primitives::{B256, U256};
use alloy_rlp::{Decodable, Encodable, Header};
use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Number(u64),
    Hash(B256),
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Headers {
        start: Start,
        amount: u64,
        skip: u64,
        reverse: bool,
    },
    Bodies {
        hashes: Vec<B256>,
    },
    Receipts {
        hashes: Vec<B256>,
    },
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    NewBlockHashes(Vec<(B256, u64)>),
    NewBlock {
        header: Bytes,
        body: Bytes,
        td: U256,
    },
    Request {
        id: u64,
        request: Request,
    },
    Headers {
        id: u64,
        headers: Vec<Bytes>,
    },
    Bodies {
        id: u64,
        bodies: Vec<Bytes>,
    },
    Receipts {
        id: u64,
        blocks: Vec<Bytes>,
    },
    BlockRange {
        earliest: u64,
        latest: u64,
        latest_hash: B256,
    },
    Ignored {
        code: u8,
    },
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    Headers,
    Bodies,
    Receipts,
}
#[derive(Clone, Debug)]
pub enum Outgoing<'a> {
    Request {
        id: u64,
        request: &'a Request,
    },
    NewBlockHashes(&'a [(B256, u64)]),
    NewBlock {
        header: &'a [u8],
        body: &'a [u8],
        td: U256,
    },
    BlockRange {
        earliest: u64,
        latest: u64,
        latest_hash: B256,
    },
    EmptyAnswer {
        code: u8,
        id: u64,
    },
    Answer {
        kind: AnswerKind,
        id: u64,
        items: &'a [&'a [u8]],
    },
    ReadyAnswer {
        kind: AnswerKind,
        id: u64,
        raw_len: usize,
        streams: &'a [&'a [u8]],
    },
}
