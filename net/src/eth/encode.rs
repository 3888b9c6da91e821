//! Messages written: everything this node sends.

use alloy_primitives::B256;
use alloy_rlp::{Encodable, Header};

use super::message::{AnswerKind, Outgoing, Request, Start, code};

impl Outgoing<'_> {
    /// Appends the RLP of the message to `out`; returns its code, counted from the capability's first.
    ///
    /// Of a [`ReadyAnswer`](Outgoing::ReadyAnswer) only what stands before its items is written: they are compressed already, and
    /// follow as they are.
    pub fn encode(&self, eth_version: u8, out: &mut Vec<u8>) -> u8 {
        match *self {
            Outgoing::Request { id, request } => encode_request(eth_version, id, request, out),
            Outgoing::NewBlockHashes(blocks) => {
                let payload_length = blocks
                    .iter()
                    .map(|block| announced_header(block).length_with_payload())
                    .sum();
                Header {
                    list: true,
                    payload_length,
                }
                .encode(out);
                for block in blocks {
                    announced_header(block).encode(out);
                    block.0.encode(out);
                    block.1.encode(out);
                }
                code::NEW_BLOCK_HASHES
            }
            Outgoing::NewBlock { header, body, td } => {
                let mut lists = body;
                let lists =
                    Header::decode_bytes(&mut lists, true).expect("a body of ours is an RLP list");
                let block = Header {
                    list: true,
                    payload_length: header.len() + lists.len(),
                };
                let payload_length = block.length_with_payload() + td.length();
                Header {
                    list: true,
                    payload_length,
                }
                .encode(out);
                block.encode(out);
                out.extend_from_slice(header);
                out.extend_from_slice(lists);
                td.encode(out);
                code::NEW_BLOCK
            }
            Outgoing::BlockRange {
                earliest,
                latest,
                latest_hash,
            } => {
                let payload_length = earliest.length() + latest.length() + latest_hash.length();
                Header {
                    list: true,
                    payload_length,
                }
                .encode(out);
                earliest.encode(out);
                latest.encode(out);
                latest_hash.encode(out);
                code::BLOCK_RANGE_UPDATE
            }
            Outgoing::EmptyAnswer { code, id } => {
                let says_whole = code == code::RECEIPTS && eth_version >= 70;
                prefix(id, says_whole.then_some(0), 0, out);
                code
            }
            Outgoing::Answer { kind, id, items } => {
                let items_bytes = items.iter().map(|item| item.len()).sum();
                prefix(id, incomplete(kind, eth_version), items_bytes, out);
                items.iter().for_each(|item| out.extend_from_slice(item));
                kind.code()
            }
            Outgoing::ReadyAnswer {
                kind, id, raw_len, ..
            } => {
                prefix(id, incomplete(kind, eth_version), raw_len, out);
                kind.code()
            }
        }
    }
}

/// The `lastBlockIncomplete` of an answer, if it has one.
fn incomplete(kind: AnswerKind, eth_version: u8) -> Option<u64> {
    match kind {
        AnswerKind::Receipts if eth_version >= 70 => Some(0),
        AnswerKind::CutReceipts => {
            assert!(eth_version >= 70, "before eth/70 nobody cuts receipts");
            Some(1)
        }
        _ => None,
    }
}

/// Appends what stands before the items of a request or an answer, `[id, [item, ...]]` or with a number in the middle, whose items
/// are `items_bytes` long in all.
fn prefix(id: u64, number: Option<u64>, items_bytes: usize, out: &mut Vec<u8>) {
    let items = Header {
        list: true,
        payload_length: items_bytes,
    };
    let number_bytes = number.map_or(0, |number| number.length());
    Header {
        list: true,
        payload_length: id.length() + number_bytes + items.length_with_payload(),
    }
    .encode(out);
    id.encode(out);
    if let Some(number) = number {
        number.encode(out);
    }
    items.encode(out);
}

fn announced_header((hash, number): &(B256, u64)) -> Header {
    Header {
        list: true,
        payload_length: hash.length() + number.length(),
    }
}

fn encode_request(eth_version: u8, id: u64, request: &Request, out: &mut Vec<u8>) -> u8 {
    match request {
        Request::Headers {
            start,
            amount,
            skip,
            reverse,
        } => {
            let start: &dyn Encodable = match start {
                Start::Number(number) => number,
                Start::Hash(hash) => hash,
            };
            let payload_length =
                start.length() + amount.length() + skip.length() + reverse.length();
            let query = Header {
                list: true,
                payload_length,
            };
            Header {
                list: true,
                payload_length: id.length() + query.length_with_payload(),
            }
            .encode(out);
            id.encode(out);
            query.encode(out);
            start.encode(out);
            amount.encode(out);
            skip.encode(out);
            reverse.encode(out);
            code::GET_BLOCK_HEADERS
        }
        Request::Bodies { hashes } => {
            encode_hashes(id, None, hashes, out);
            code::GET_BLOCK_BODIES
        }
        Request::Receipts {
            hashes,
            first_index,
        } => {
            let from_70_on = (eth_version >= 70).then_some(*first_index);
            assert!(
                from_70_on.is_some() || *first_index == 0,
                "before eth/70 receipts are asked for from the first one on"
            );
            encode_hashes(id, from_70_on, hashes, out);
            code::GET_RECEIPTS
        }
        Request::BlockAccessLists { hashes } => {
            encode_hashes(id, None, hashes, out);
            code::GET_BLOCK_ACCESS_LISTS
        }
    }
}

fn encode_hashes(id: u64, number: Option<u64>, hashes: &[B256], out: &mut Vec<u8>) {
    let hashes_bytes = hashes.iter().map(Encodable::length).sum();
    prefix(id, number, hashes_bytes, out);
    hashes.iter().for_each(|hash| hash.encode(out));
}
