//! Bodies as raw RLP: their parts, their roots, and blocks taken apart and put together.

use alloy_consensus::constants::EMPTY_OMMER_ROOT_HASH;
use alloy_primitives::{B256, keccak256};

use super::SealedHeader;
use super::{
    error::{BodyError, Fault},
    rlp::{self, Item},
    root::ordered_root,
};

/// `[[], []]`: no transactions, no ommers.
pub const EMPTY_BODY: &[u8] = &[0xc2, 0xc0, 0xc0];
/// `[[], [], []]`: no withdrawals either (EIP-4895).
pub const EMPTY_BODY_WITH_WITHDRAWALS: &[u8] = &[0xc3, 0xc0, 0xc0, 0xc0];

/// Most transactions, and most withdrawals, that are read of one body: of real ones, with their signatures, a message of 10 MiB has no
/// room for more. So a list of tiny things cannot claim many times its own size of memory.
pub const ITEMS_LIMIT: usize = 1 << 17;

/// The three lists of a body, as slices of it. Each is known to be a list, and nothing follows the last.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Payload of the list of transactions.
    pub transactions: &'a [u8],
    /// The list of ommers with its prefix: what `sha3Uncles` is the hash of.
    pub ommers: &'a [u8],
    /// Payload of the list of withdrawals (EIP-4895), if the body has one.
    pub withdrawals: Option<&'a [u8]>,
}

/// What a header commits to of its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roots {
    /// `transactionsRoot`.
    pub transactions: B256,
    /// `sha3Uncles`.
    pub ommers: B256,
    /// `withdrawalsRoot`, if the body has withdrawals.
    pub withdrawals: Option<B256>,
}

impl Roots {
    /// Whether they are what this header commits to.
    pub fn are_of(&self, header: &SealedHeader) -> bool {
        let header = &header.header;
        self.transactions == header.transactions_root
            && self.ommers == header.ommers_hash
            && self.withdrawals == header.withdrawals_root
    }
}

fn too_many(list: &str) -> BodyError {
    malformed(list, format_args!("more than {ITEMS_LIMIT} of them"))
}

fn malformed(field: impl Into<String>, what: impl std::fmt::Display) -> BodyError {
    BodyError::Malformed(Box::new(Fault::malformed(field, what)))
}

/// The lists of a body `[transactions, ommers]` or `[transactions, ommers, withdrawals]`.
///
/// # Errors
/// [`BodyError::Malformed`]: not such a list, or something follows it. What is inside the lists is not looked at.
pub fn parts(body: &[u8]) -> Result<Parts<'_>, BodyError> {
    let mut rest = body;
    let payload = rlp::list(&mut rest).map_err(|error| malformed("body", error))?;
    if !rest.is_empty() {
        return Err(malformed(
            "body",
            format_args!("{} bytes after it", rest.len()),
        ));
    }
    parts_of_payload(payload)
}

fn parts_of_payload(mut payload: &[u8]) -> Result<Parts<'_>, BodyError> {
    let transactions = rlp::list(&mut payload).map_err(|error| malformed("transactions", error))?;
    let ommers = rlp::item(&mut payload)
        .and_then(|item| match item.list {
            true => Ok(item.raw),
            false => Err(alloy_rlp::Error::UnexpectedString),
        })
        .map_err(|error| malformed("uncles", error))?;
    let withdrawals = if payload.is_empty() {
        None
    } else {
        Some(rlp::list(&mut payload).map_err(|error| malformed("withdrawals", error))?)
    };
    if !payload.is_empty() {
        return Err(malformed(
            "body",
            format_args!("{} bytes after the withdrawals", payload.len()),
        ));
    }
    Ok(Parts {
        transactions,
        ommers,
        withdrawals,
    })
}

/// Computes what a header must commit to, over the raw items.
///
/// # Errors
/// [`BodyError::Malformed`]: not a body, or an item of its lists is no RLP of the right kind.
pub fn roots(body: &[u8]) -> Result<Roots, BodyError> {
    let parts = parts(body)?;
    roots_of(&parts, &leaves(parts.transactions)?)
}

/// The roots of a body whose transactions were split already.
pub(crate) fn roots_of(parts: &Parts<'_>, leaves: &[&[u8]]) -> Result<Roots, BodyError> {
    let ommers = match parts.ommers {
        [alloy_rlp::EMPTY_LIST_CODE] => EMPTY_OMMER_ROOT_HASH,
        raw => keccak256(raw),
    };
    let withdrawals = match parts.withdrawals {
        Some(payload) => Some(ordered_root(&withdrawals(payload)?)),
        None => None,
    };
    Ok(Roots {
        transactions: ordered_root(leaves),
        ommers,
        withdrawals,
    })
}

/// The transactions of a list's payload as the trie holds them: a legacy one is its RLP list, a typed one (EIP-2718) is its type
/// byte and payload, without the prefix of the string that carries it in a body.
///
/// Of more than [`ITEMS_LIMIT`] none is read: a list of tiny things would take many times its own size of memory.
pub(crate) fn leaves(transactions: &[u8]) -> Result<Vec<&[u8]>, BodyError> {
    // Guess by a usual size: what is claimed is not believed, and growing is cheap.
    let mut leaves = Vec::with_capacity(transactions.len() / 256);
    let mut rest = transactions;
    while !rest.is_empty() {
        let item = rlp::item(&mut rest)
            .map_err(|error| malformed(format!("transactions[{}]", leaves.len()), error))?;
        if leaves.len() == ITEMS_LIMIT {
            return Err(too_many("transactions"));
        }
        leaves.push(leaf(&item));
    }
    Ok(leaves)
}

fn leaf<'a>(item: &Item<'a>) -> &'a [u8] {
    if item.list { item.raw } else { item.payload }
}

/// The withdrawals of a list's payload, each `[index, validatorIndex, address, amount]` (EIP-4895).
fn withdrawals(payload: &[u8]) -> Result<Vec<&[u8]>, BodyError> {
    let mut leaves = Vec::with_capacity(16);
    let mut rest = payload;
    while !rest.is_empty() {
        let check = |rest: &mut &[u8]| {
            let mut fields = rlp::list(rest)?;
            rlp::number(&mut fields)?;
            rlp::number(&mut fields)?;
            rlp::array::<20>(&mut fields)?;
            rlp::number(&mut fields)?;
            match fields.is_empty() {
                true => Ok(()),
                false => Err(alloy_rlp::Error::Custom("more than four fields")),
            }
        };
        let before = rest;
        check(&mut rest)
            .map_err(|error| malformed(format!("withdrawals[{}]", leaves.len()), error))?;
        if leaves.len() == ITEMS_LIMIT {
            return Err(too_many("withdrawals"));
        }
        leaves.push(&before[..before.len() - rest.len()]);
    }
    Ok(leaves)
}

/// The transactions of `body` as raw slices: a legacy one is its RLP list, a typed one is its type byte and payload.
/// Ends at the first byte that is no RLP; [`roots`] says where that is.
pub fn transactions(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    items(parts(body).map_or(&[][..], |parts| parts.transactions)).map(|item| leaf(&item))
}

/// The ommers of `body` as raw headers. Ends at the first byte that is no RLP.
pub fn ommers(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    items(parts(body).map_or(&[][..], |parts| payload_of(parts.ommers))).map(|item| item.raw)
}

/// Payload of a list that is known to be one.
pub(crate) fn payload_of(mut list: &[u8]) -> &[u8] {
    rlp::list(&mut list).unwrap_or_default()
}

fn items(mut rest: &[u8]) -> impl Iterator<Item = Item<'_>> {
    std::iter::from_fn(move || rlp::item(&mut rest).ok())
}

/// Takes the first block off `input`, which holds blocks end to end as `geth export` writes them. `None` at the end of `input`.
///
/// # Errors
/// [`BodyError::Malformed`]: no RLP list, or the input ends within it.
pub fn next_block<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BodyError> {
    if input.is_empty() {
        return Ok(None);
    }
    let item = rlp::item(input).map_err(|error| malformed("block", error))?;
    if !item.list {
        return Err(malformed("block", alloy_rlp::Error::UnexpectedString));
    }
    Ok(Some(item.raw))
}

/// Takes a block `[header, transactions, ommers(, withdrawals)]` apart: the header with its prefix, and what follows it, which
/// is the body without its list prefix.
///
/// # Errors
/// [`BodyError::Malformed`]: not such a list, or something follows it. What is inside the parts is not looked at.
pub fn split_block(block: &[u8]) -> Result<(&[u8], &[u8]), BodyError> {
    let mut rest = block;
    let mut payload = rlp::list(&mut rest).map_err(|error| malformed("block", error))?;
    if !rest.is_empty() {
        return Err(malformed(
            "block",
            format_args!("{} bytes after it", rest.len()),
        ));
    }
    let header = rlp::item(&mut payload).map_err(|error| malformed("header", error))?;
    if !header.list {
        return Err(malformed("header", alloy_rlp::Error::UnexpectedString));
    }
    parts_of_payload(payload)?;
    Ok((header.raw, payload))
}

/// The body of `block` with its own list prefix, as eth's BlockBodies carries it.
///
/// # Errors
/// As [`split_block`].
pub fn body_of_block(block: &[u8]) -> Result<Vec<u8>, BodyError> {
    let (_, payload) = split_block(block)?;
    let mut body = Vec::with_capacity(payload.len() + 9);
    rlp::list_prefix(&mut body, payload.len());
    body.extend_from_slice(payload);
    Ok(body)
}

/// Bytes of the block that [`join_block`] would make of a body and a header of that length.
pub(crate) fn block_length(header_bytes: usize, body: &[u8]) -> usize {
    let payload_length = header_bytes + payload_of(body).len();
    alloy_rlp::Header {
        list: true,
        payload_length,
    }
    .length_with_payload()
}

/// The block of a header and a body, as `geth export` writes it: the inverse of [`split_block`].
///
/// # Errors
/// [`BodyError::Malformed`]: `body` is none.
pub fn join_block(header: &[u8], body: &[u8]) -> Result<Vec<u8>, BodyError> {
    let mut rest = body;
    let payload = rlp::list(&mut rest).map_err(|error| malformed("body", error))?;
    let mut block = Vec::with_capacity(header.len() + payload.len() + 9);
    rlp::list_prefix(&mut block, header.len() + payload.len());
    block.extend_from_slice(header);
    block.extend_from_slice(payload);
    Ok(block)
}
