//! Messages read in place.

use alloy_primitives::B256;
use alloy_rlp::Header;
use bytes::Bytes;

use super::cursor::{Cursor, DecodeError, What};
use super::message::{Message, Request, Start, code};
use crate::limits::{MAX_ANNOUNCED_BLOCKS, MAX_ITEMS};

/// Reads the message of `code` (counted from the capability's first) from its decompressed payload.
///
/// What is kept of a list is a slice of `payload`; its own insides are left to who checks them by hash. Status is not
/// read here: after the handshake it is a breach. Errors are the peer's fault.
pub fn decode(version: u8, code: u8, payload: Bytes) -> Result<Message, DecodeError> {
    let p = &payload;
    match code {
        code::NEW_BLOCK_HASHES => new_block_hashes(p),
        code::TRANSACTIONS => {
            let mut message = Cursor::new("Transactions", p);
            message.raw_list("transactions")?;
            message.end("transactions")?;
            Ok(Message::Ignored { code, id: None })
        }
        code::GET_BLOCK_HEADERS => get_block_headers(p),
        code::BLOCK_HEADERS => {
            let mut message = Cursor::new("BlockHeaders", p);
            let mut fields = whole(&mut message, "message")?;
            let id = fields.u64("request-id")?;
            let headers = items(fields, "header", p)?;
            Ok(Message::Headers { id, headers })
        }
        code::GET_BLOCK_BODIES => {
            let (id, _, hashes) = hash_request("GetBlockBodies", None, p)?;
            Ok(Message::Request {
                id,
                request: Request::Bodies { hashes },
            })
        }
        code::BLOCK_BODIES => {
            let mut message = Cursor::new("BlockBodies", p);
            let mut fields = whole(&mut message, "message")?;
            let id = fields.u64("request-id")?;
            let bodies = items(fields, "block-body", p)?;
            Ok(Message::Bodies { id, bodies })
        }
        code::NEW_BLOCK => new_block(p),
        code::NEW_POOLED_TRANSACTION_HASHES => new_pooled_transaction_hashes(p),
        code::GET_POOLED_TRANSACTIONS => {
            let (id, _, _) = hash_request("GetPooledTransactions", None, p)?;
            Ok(Message::Ignored { code, id: Some(id) })
        }
        code::POOLED_TRANSACTIONS => {
            let mut message = Cursor::new("PooledTransactions", p);
            let mut fields = whole(&mut message, "message")?;
            let id = fields.u64("request-id")?;
            fields.raw_list("transactions")?;
            fields.end("transactions")?;
            Ok(Message::PooledTransactions { id })
        }
        code::GET_RECEIPTS => {
            let index = (version >= 70).then_some("firstBlockReceiptIndex");
            let (id, index, hashes) = hash_request("GetReceipts", index, p)?;
            Ok(Message::Request {
                id,
                request: Request::Receipts {
                    hashes,
                    first_index: index.unwrap_or(0),
                },
            })
        }
        code::RECEIPTS => receipts(version, p),
        code::BLOCK_RANGE_UPDATE if version >= 69 => block_range_update(p),
        code::GET_BLOCK_ACCESS_LISTS if version >= 71 => {
            let (id, _, hashes) = hash_request("GetBlockAccessLists", None, p)?;
            Ok(Message::Request {
                id,
                request: Request::BlockAccessLists { hashes },
            })
        }
        code::BLOCK_ACCESS_LISTS if version >= 71 => block_access_lists(p),
        code::STATUS => Err(Cursor::new("Status", p).error("message", What::Code { code })),
        _ => Err(Cursor::new("message", p).error("code", What::Code { code })),
    }
}

/// The list that a whole message is.
fn whole<'a>(message: &mut Cursor<'a>, field: &'static str) -> Result<Cursor<'a>, DecodeError> {
    let fields = message.list(field)?;
    message.end(field)?;
    Ok(fields)
}

fn new_block_hashes(payload: &Bytes) -> Result<Message, DecodeError> {
    let mut message = Cursor::new("NewBlockHashes", payload);
    let mut items = whole(&mut message, "blocks")?;
    let mut blocks = Vec::new();
    while !items.is_empty() {
        if blocks.len() == MAX_ANNOUNCED_BLOCKS {
            return Err(items.error(
                "blocks",
                What::TooMany {
                    most: MAX_ANNOUNCED_BLOCKS,
                },
            ));
        }
        let mut item = items.list("block")?;
        let hash = item.b256("blockhash")?;
        let number = item.u64("number")?;
        item.end("number")?;
        blocks.push((hash, number));
    }
    Ok(Message::NewBlockHashes(blocks))
}

fn get_block_headers(payload: &Bytes) -> Result<Message, DecodeError> {
    let mut message = Cursor::new("GetBlockHeaders", payload);
    let mut fields = whole(&mut message, "message")?;
    let id = fields.u64("request-id")?;
    let mut query = fields.list("query")?;
    fields.end("query")?;
    // A hash is told from a number by its length: "startblock: {P, B_32}".
    let start = match { query }.string("startblock")?.len() {
        32 => Start::Hash(query.b256("startblock")?),
        _ => Start::Number(query.u64("startblock")?),
    };
    let amount = query.u64("limit")?;
    let skip = query.u64("skip")?;
    let reverse = flag(&mut query, "reverse")?;
    query.end("reverse")?;
    Ok(Message::Request {
        id,
        request: Request::Headers {
            start,
            amount,
            skip,
            reverse,
        },
    })
}

/// `[request-id, [hash, hash, ...]]`, or with a number of this name in the middle: the first [`MAX_ITEMS`] hashes.
fn hash_request(
    name: &'static str,
    number: Option<&'static str>,
    payload: &Bytes,
) -> Result<(u64, Option<u64>, Vec<B256>), DecodeError> {
    const HASH_ITEM_BYTES: usize = 33;
    let mut message = Cursor::new(name, payload);
    let mut fields = whole(&mut message, "message")?;
    let id = fields.u64("request-id")?;
    let number = number.map(|name| fields.u64(name)).transpose()?;
    let mut items = fields.list("hashes")?;
    fields.end("hashes")?;
    if items.len() % HASH_ITEM_BYTES != 0 {
        let expected = items.len().next_multiple_of(HASH_ITEM_BYTES);
        return Err(items.error(
            "hashes",
            What::Length {
                expected,
                found: items.len(),
            },
        ));
    }
    // No more is ever answered, so no more is read: the longest request (128 KiB) costs no more than one of 34 kB.
    let count = (items.len() / HASH_ITEM_BYTES).min(MAX_ITEMS);
    let mut hashes = Vec::with_capacity(count);
    for _ in 0..count {
        hashes.push(items.b256("hash")?);
    }
    Ok((id, number, hashes))
}

/// A number that is 0 or 1.
fn flag(fields: &mut Cursor<'_>, field: &'static str) -> Result<bool, DecodeError> {
    let before = *fields;
    match fields.u64(field)? {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(before.error(field, What::Value { found })),
    }
}

/// The last field of an answer, `[item, item, ...]` where each item is a list.
fn items(
    mut fields: Cursor<'_>,
    field: &'static str,
    payload: &Bytes,
) -> Result<Vec<Bytes>, DecodeError> {
    let mut list = fields.list("items")?;
    fields.end("items")?;
    let mut items = Vec::new();
    while !list.is_empty() {
        if items.len() == MAX_ITEMS {
            return Err(list.error(field, What::TooMany { most: MAX_ITEMS }));
        }
        items.push(payload.slice_ref(list.raw_list(field)?));
    }
    Ok(items)
}

/// eth/68, 69: `[request-id, [receipts, ...]]`; from 70 on `[request-id, lastBlockIncomplete, [receipts, ...]]`.
fn receipts(version: u8, payload: &Bytes) -> Result<Message, DecodeError> {
    let mut message = Cursor::new("Receipts", payload);
    let mut fields = whole(&mut message, "message")?;
    let id = fields.u64("request-id")?;
    let flag_at = fields;
    let last_is_cut = version >= 70 && flag(&mut fields, "lastBlockIncomplete")?;
    let blocks = items(fields, "block-receipts", payload)?;
    if last_is_cut && blocks.is_empty() {
        return Err(flag_at.error("lastBlockIncomplete", What::Value { found: 1 }));
    }
    Ok(Message::Receipts {
        id,
        blocks,
        last_is_cut,
    })
}

/// `[request-id, [list or empty string, ...]]`.
fn block_access_lists(payload: &Bytes) -> Result<Message, DecodeError> {
    let mut message = Cursor::new("BlockAccessLists", payload);
    let mut fields = whole(&mut message, "message")?;
    let id = fields.u64("request-id")?;
    let mut list = fields.list("items")?;
    fields.end("items")?;
    let mut lists = Vec::new();
    while !list.is_empty() {
        if lists.len() == MAX_ITEMS {
            return Err(list.error("block-access-list", What::TooMany { most: MAX_ITEMS }));
        }
        let is_absent = { list }
            .string("block-access-list")
            .is_ok_and(<[u8]>::is_empty);
        lists.push(if is_absent {
            list.string("block-access-list")?;
            None
        } else {
            Some(payload.slice_ref(list.raw_list("block-access-list")?))
        });
    }
    Ok(Message::BlockAccessLists { id, lists })
}

fn new_block(payload: &Bytes) -> Result<Message, DecodeError> {
    let mut message = Cursor::new("NewBlock", payload);
    let mut fields = whole(&mut message, "message")?;
    let mut block = fields.list("block")?;
    let td = fields.u256("td")?;
    fields.end("td")?;

    let header = payload.slice_ref(block.raw_list("header")?);
    let mut lists = [
        block.raw_list("transactions")?,
        block.raw_list("ommers")?,
        &[],
    ];
    if !block.is_empty() {
        lists[2] = block.raw_list("withdrawals")?;
    }
    block.end("withdrawals")?;
    let payload_length = lists.iter().map(|list| list.len()).sum();
    let prefix = Header {
        list: true,
        payload_length,
    };
    let mut body = Vec::with_capacity(prefix.length_with_payload());
    prefix.encode(&mut body);
    lists.iter().for_each(|list| body.extend_from_slice(list));
    Ok(Message::NewBlock {
        header,
        body: body.into(),
        td,
    })
}

/// eth/68 to 71: `[types, [size, ...], [hash, ...]]`, equally many of each.
fn new_pooled_transaction_hashes(payload: &Bytes) -> Result<Message, DecodeError> {
    let mut message = Cursor::new("NewPooledTransactionHashes", payload);
    let mut fields = whole(&mut message, "message")?;
    let count = fields.string("txtypes")?.len();
    let mut sizes = fields.list("txsizes")?;
    let mut hashes = fields.list("txhashes")?;
    fields.end("txhashes")?;
    for _ in 0..count {
        sizes.u64("txsize")?;
        hashes.b256("txhash")?;
    }
    sizes.end("txsizes")?;
    hashes.end("txhashes")?;
    Ok(Message::Ignored {
        code: code::NEW_POOLED_TRANSACTION_HASHES,
        id: None,
    })
}

fn block_range_update(payload: &Bytes) -> Result<Message, DecodeError> {
    let mut message = Cursor::new("BlockRangeUpdate", payload);
    let mut fields = whole(&mut message, "message")?;
    let earliest_at = fields;
    let earliest = fields.u64("earliest")?;
    let latest = fields.u64("latest")?;
    let hash_at = fields;
    let latest_hash = fields.b256("latestHash")?;
    fields.end("latestHash")?;
    if earliest > latest {
        return Err(earliest_at.error("earliest", What::Value { found: earliest }));
    }
    if latest_hash.is_zero() {
        return Err(hash_at.error("latestHash", What::Value { found: 0 }));
    }
    Ok(Message::BlockRange {
        earliest,
        latest,
        latest_hash,
    })
}
