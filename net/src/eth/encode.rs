//! Messages written: everything this node sends.

use alloy_primitives::B256;
use alloy_rlp::{Encodable, Header};

use super::message::{Outgoing, Request, Start, code};

impl Outgoing<'_> {
    /// Appends the RLP of the message to `out`; returns its code, counted from the capability's first.
    ///
    /// Of a [`ReadyAnswer`](Outgoing::ReadyAnswer) only what stands before its items is written
    /// ([`write_answer_prefix`]): its items are compressed already, and follow as they are.
    pub fn encode(&self, _eth_version: u8, out: &mut Vec<u8>) -> u8 {
        match *self {
            Outgoing::Request { id, request } => encode_request(id, request, out),
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
                write_answer_prefix(id, 0, out);
                code
            }
            Outgoing::Answer { kind, id, items } => {
                write_answer_prefix(id, items.iter().map(|item| item.len()).sum(), out);
                items.iter().for_each(|item| out.extend_from_slice(item));
                kind.code()
            }
            Outgoing::ReadyAnswer {
                kind, id, raw_len, ..
            } => {
                write_answer_prefix(id, raw_len, out);
                kind.code()
            }
        }
    }
}

/// Appends what stands before the items of an answer `[id, [item, ...]]` whose items are `items_len_bytes` long in all.
pub fn write_answer_prefix(id: u64, items_len_bytes: usize, out: &mut Vec<u8>) {
    let items = Header {
        list: true,
        payload_length: items_len_bytes,
    };
    Header {
        list: true,
        payload_length: id.length() + items.length_with_payload(),
    }
    .encode(out);
    id.encode(out);
    items.encode(out);
}

fn announced_header((hash, number): &(B256, u64)) -> Header {
    Header {
        list: true,
        payload_length: hash.length() + number.length(),
    }
}

fn encode_request(id: u64, request: &Request, out: &mut Vec<u8>) -> u8 {
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
            encode_hashes(id, hashes, out);
            code::GET_BLOCK_BODIES
        }
        Request::Receipts { hashes } => {
            encode_hashes(id, hashes, out);
            code::GET_RECEIPTS
        }
    }
}

fn encode_hashes(id: u64, hashes: &[B256], out: &mut Vec<u8>) {
    write_answer_prefix(id, hashes.iter().map(Encodable::length).sum(), out);
    hashes.iter().for_each(|hash| hash.encode(out));
}
