//! RLP read in place: strict, canonical, no copy.

use alloy_primitives::{B256, U256};
use alloy_rlp::{Decodable, EMPTY_STRING_CODE, Header};

/// One RLP item and the bytes that it was read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    /// A list, not a string.
    pub(crate) list: bool,
    /// The item with its prefix.
    pub(crate) raw: &'a [u8],
    /// The item without its prefix.
    pub(crate) payload: &'a [u8],
}

/// Takes the next item off `input`. Lengths are checked against what is there.
pub(crate) fn item<'a>(input: &mut &'a [u8]) -> Result<Item<'a>, alloy_rlp::Error> {
    let whole = *input;
    let Header {
        list,
        payload_length,
    } = Header::decode(input)?;
    let start = whole.len() - input.len();
    let raw = &whole[..start + payload_length];
    *input = &whole[start + payload_length..];
    Ok(Item {
        list,
        raw,
        payload: &raw[start..],
    })
}

/// The payload of the list that is the next item.
pub(crate) fn list<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], alloy_rlp::Error> {
    Header::decode_bytes(input, true)
}

/// The payload of the string that is the next item.
pub(crate) fn string<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], alloy_rlp::Error> {
    Header::decode_bytes(input, false)
}

/// The next item as a number of at most 64 bits.
pub(crate) fn number(input: &mut &[u8]) -> Result<u64, alloy_rlp::Error> {
    u64::decode(input)
}

/// The next item as a number of at most 256 bits.
pub(crate) fn wide(input: &mut &[u8]) -> Result<U256, alloy_rlp::Error> {
    // Most are short.
    match input.first() {
        Some(&byte) if byte <= EMPTY_STRING_CODE + 8 => u64::decode(input).map(U256::from),
        _ => U256::decode(input),
    }
}

/// The next item as exactly `N` bytes.
pub(crate) fn array<'a, const N: usize>(
    input: &mut &'a [u8],
) -> Result<&'a [u8; N], alloy_rlp::Error> {
    string(input)?
        .try_into()
        .map_err(|_| alloy_rlp::Error::UnexpectedLength)
}

/// The next item as a hash.
pub(crate) fn hash(input: &mut &[u8]) -> Result<B256, alloy_rlp::Error> {
    array(input).map(B256::from)
}

/// Appends the prefix of a list whose payload has `length` bytes.
pub(crate) fn list_prefix(out: &mut Vec<u8>, length: usize) {
    Header {
        list: true,
        payload_length: length,
    }
    .encode(out);
}
