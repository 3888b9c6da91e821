//! One block as it is read from the store, to be shown or written.

use alloy_primitives::{B256, U256};
use cairn_store::{BodyStream, Snapshot};
use serde_json::{Map, Value, json};

use crate::{failure::Failure, view};

/// The raw header of a block that should be there.
pub(crate) fn header(snapshot: &Snapshot, number: u64) -> Result<Vec<u8>, Failure> {
    match snapshot.header(number)? {
        Some(header) => Ok(header.to_vec()),
        None => Err(Failure::No(format!(
            "block {number}: the store has no header of it"
        ))),
    }
}

/// The raw body of a block that should be there.
pub(crate) fn body(snapshot: &Snapshot, number: u64) -> Result<Vec<u8>, Failure> {
    snapshot.body(number)?.ok_or_else(|| {
        Failure::No(format!(
            "block {number}: the store has no body of it (bodies begin at {})",
            snapshot.first_body()
        ))
    })
}

/// The raw receipts of a block that should be there.
pub(crate) fn receipts(snapshot: &Snapshot, number: u64) -> Result<Vec<u8>, Failure> {
    snapshot.receipts(number)?.ok_or_else(|| {
        Failure::No(format!(
            "block {number}: the store has no receipts of it (`cairn-store gaps` says of which it has)"
        ))
    })
}

/// Bytes that the store keeps of a body or of receipts: none of those that its format has a length for instead of bytes.
pub(crate) fn stored_bytes(kept: &BodyStream<'_>) -> u64 {
    const CONSTANTS: [&[u8]; 3] = [&[0xc0], &[0xc2, 0xc0, 0xc0], &[0xc3, 0xc0, 0xc0, 0xc0]];
    let mut constants = CONSTANTS.iter();
    match constants.find(|constant| constant.len() == kept.raw_len) {
        // As a stream a constant is one literal.
        Some(constant) if kept.stream.ends_with(constant) => 0,
        _ => kept.stream.len() as u64,
    }
}

/// A whole block as `geth export` writes it.
pub(crate) fn rlp(header: &[u8], body: &[u8]) -> Result<Vec<u8>, Failure> {
    cairn::chain::body::join_block(header, body).map_err(|error| Failure::No(error.to_string()))
}

/// A whole block, decoded.
pub(crate) fn value(
    number: u64,
    hash: Option<B256>,
    td: Option<U256>,
    header: &[u8],
    body: &[u8],
) -> Value {
    let mut block = Map::new();
    block.insert("number".to_owned(), json!(number));
    if let Some(hash) = hash {
        block.insert("hash".to_owned(), view::text(hash));
    }
    if let Some(td) = td {
        block.insert("td".to_owned(), json!(format!("{td:#x}")));
    }
    block.insert("header".to_owned(), view::header(header));
    match view::body(body) {
        Value::Object(parts) if parts.contains_key("transactions") => block.extend(parts),
        other => {
            block.insert("body".to_owned(), other);
        }
    }
    Value::Object(block)
}
