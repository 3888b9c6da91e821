//! Answers to GetReceipts: with blooms, as they are kept, and from eth/70 on in parts.

use alloy_primitives::B256;
use alloy_trie::EMPTY_ROOT_HASH;
use bytes::Bytes;
use cairn_net::limits::{MAX_ITEMS, SOFT_ANSWER_BYTES};
use cairn_net::reactor::Reply;
use cairn_store::Snapshot;

use super::{ANSWER_LIMIT_BYTES, PREFIX_LIMIT_BYTES, READY_BODY_FLOOR_BYTES, number_of};
use crate::chain::SealedHeader;
use crate::chain::receipts::{Form, NO_RECEIPTS, convert};
use crate::chain::rlp;

/// [`NO_RECEIPTS`] as a snappy literal: the length less one in the upper bits of the tag.
const NO_RECEIPTS_STREAM: &[u8] = &[0, NO_RECEIPTS[0]];

/// Answers with the receipts of `hashes`, in the form of the peer's version, until the soft limit. The first block whose
/// receipts are not there ends the answer (eth.md, "Receipts"). Gives the number of blocks; of none the answer may be left to
/// the reactor.
pub(super) fn answer(
    chain: &Snapshot,
    eth: u8,
    hashes: &[B256],
    first_index: u64,
    reply: &mut Reply<'_>,
) -> Result<usize, cairn_store::Error> {
    match eth {
        68 => with_blooms(chain, hashes, reply),
        69 => as_kept(chain, hashes, ANSWER_LIMIT_BYTES, reply),
        _ => in_parts(chain, hashes, first_index, reply),
    }
}

/// Of eth/69's form, as they are kept: up to the one that passes the soft limit, and no more than `limit_bytes` in all.
fn as_kept(
    chain: &Snapshot,
    hashes: &[B256],
    limit_bytes: usize,
    reply: &mut Reply<'_>,
) -> Result<usize, cairn_store::Error> {
    let mut numbers = Vec::new();
    let mut kept = Vec::new();
    let mut raw_len = 0;
    let mut next = None;
    for hash in hashes.iter().take(MAX_ITEMS) {
        let Some(number) = number_of(chain, hash, &mut next)? else {
            break;
        };
        let stream = chain.receipts_stream(number)?;
        let bytes = match &stream {
            Some(stream) => stream.raw_len,
            None if has_none(chain, number)? => NO_RECEIPTS.len(),
            None => break,
        };
        if raw_len + bytes > limit_bytes {
            break;
        }
        raw_len += bytes;
        numbers.push(number);
        kept.push(stream);
        if raw_len >= SOFT_ANSWER_BYTES {
            break;
        }
    }
    if raw_len >= READY_BODY_FLOOR_BYTES * numbers.len() {
        let streams: Vec<&[u8]> = kept
            .iter()
            .map(|kept| {
                kept.as_ref()
                    .map_or(NO_RECEIPTS_STREAM, |kept| &*kept.stream)
            })
            .collect();
        reply.ready_receipts(raw_len, &streams);
        return Ok(numbers.len());
    }
    let mut raw = Vec::with_capacity(raw_len);
    for number in &numbers {
        match chain.receipts(*number)? {
            Some(receipts) => raw.extend_from_slice(&receipts),
            None => raw.extend_from_slice(NO_RECEIPTS),
        }
    }
    reply.receipts(&[&raw]);
    Ok(numbers.len())
}

/// In eth/68's form, made of what is kept by computing the blooms.
fn with_blooms(
    chain: &Snapshot,
    hashes: &[B256],
    reply: &mut Reply<'_>,
) -> Result<usize, cairn_store::Error> {
    let mut raw = Vec::new();
    let mut count = 0;
    let mut next = None;
    for hash in hashes.iter().take(MAX_ITEMS) {
        let Some(number) = number_of(chain, hash, &mut next)? else {
            break;
        };
        let Some(kept) = stored(chain, number)? else {
            break;
        };
        let receipts = match convert(Form::Eth69, Form::Eth68, &kept) {
            Ok(receipts) => receipts,
            Err(error) => {
                tell_unreadable(number, &error);
                break;
            }
        };
        if raw.len() + receipts.len() > ANSWER_LIMIT_BYTES {
            break;
        }
        raw.extend_from_slice(&receipts);
        count += 1;
        if raw.len() >= SOFT_ANSWER_BYTES {
            break;
        }
    }
    reply.receipts(&[&raw]);
    Ok(count)
}

/// As they are kept, but never past the soft limit (EIP-7975): the first block begins at `first_index`, and is cut if it alone
/// is too long; of the others only whole ones follow.
fn in_parts(
    chain: &Snapshot,
    hashes: &[B256],
    first_index: u64,
    reply: &mut Reply<'_>,
) -> Result<usize, cairn_store::Error> {
    let mut next = None;
    let Some(number) = (match hashes.first() {
        Some(first) => number_of(chain, first, &mut next)?,
        None => None,
    }) else {
        return Ok(0);
    };
    let is_short = chain
        .receipts_stream(number)?
        .is_none_or(|kept| kept.raw_len <= SOFT_ANSWER_BYTES);
    if first_index == 0 && is_short {
        return as_kept(chain, hashes, SOFT_ANSWER_BYTES, reply);
    }
    let Some(kept) = stored(chain, number)? else {
        return Ok(0);
    };
    let mut raw = match part(&kept, first_index) {
        Ok(Part::Rest(raw)) => raw,
        Ok(Part::Cut(raw)) => {
            reply.cut_receipts(&[&raw]);
            return Ok(1);
        }
        Ok(Part::TooLong) => return Ok(0),
        Err(error) => {
            tell_unreadable(number, &error);
            return Ok(0);
        }
    };
    let mut count = 1;
    for hash in hashes.iter().take(MAX_ITEMS).skip(1) {
        let Some(number) = number_of(chain, hash, &mut next)? else {
            break;
        };
        let Some(kept) = stored(chain, number)? else {
            break;
        };
        if raw.len() + kept.len() > SOFT_ANSWER_BYTES {
            break;
        }
        raw.extend_from_slice(&kept);
        count += 1;
    }
    reply.receipts(&[&raw]);
    Ok(count)
}

/// What an answer holds of one block's receipts.
enum Part {
    /// All that is left of them.
    Rest(Vec<u8>),
    /// Less than that.
    Cut(Vec<u8>),
    /// Nothing: the next receipt alone does not fit into a message.
    TooLong,
}

/// Of a block's list of receipts those from the `first_index`-th on, up to the soft limit, or the one if it is longer.
fn part(receipts: &[u8], first_index: u64) -> Result<Part, alloy_rlp::Error> {
    let mut all = receipts;
    let mut rest = rlp::list(&mut all)?;
    for _ in 0..first_index {
        if rest.is_empty() {
            break;
        }
        rlp::item(&mut rest)?;
    }
    let from = rest;
    let mut bytes = 0;
    while !rest.is_empty() {
        let receipt = rlp::item(&mut rest)?.raw.len();
        let limit_bytes = match bytes {
            0 => ANSWER_LIMIT_BYTES,
            _ => SOFT_ANSWER_BYTES,
        };
        if bytes + receipt > limit_bytes {
            if bytes == 0 {
                return Ok(Part::TooLong);
            }
            return Ok(Part::Cut(list(&from[..bytes])));
        }
        bytes += receipt;
    }
    Ok(Part::Rest(list(from)))
}

fn list(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + PREFIX_LIMIT_BYTES);
    rlp::list_prefix(&mut out, payload.len());
    out.extend_from_slice(payload);
    out
}

/// A block's receipts, also where they need not be stored; `None` if they are not there.
fn stored(chain: &Snapshot, number: u64) -> Result<Option<Vec<u8>>, cairn_store::Error> {
    match chain.receipts(number)? {
        None if has_none(chain, number)? => Ok(Some(NO_RECEIPTS.into())),
        receipts => Ok(receipts),
    }
}

/// Whether the header of a block says that it has no receipts, so that they need not be stored.
fn has_none(chain: &Snapshot, number: u64) -> Result<bool, cairn_store::Error> {
    let Some(raw) = chain.header(number)? else {
        return Ok(false);
    };
    let header = SealedHeader::decode(Bytes::copy_from_slice(&raw));
    Ok(header.is_ok_and(|header| header.header.receipts_root == EMPTY_ROOT_HASH))
}

/// Their checksum is right, so this is what the store was given.
fn tell_unreadable(number: u64, error: &impl std::fmt::Display) {
    log::error!("Stored receipts are none number={number}: {error}");
}
