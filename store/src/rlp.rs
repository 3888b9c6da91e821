//! The three fields of a raw header that a store needs: parent hash, difficulty and number.

use alloy_primitives::{B256, U256};
use alloy_rlp::Header;

/// Bytes from a header's start that hold its parent hash: list prefix of up to 9 bytes, string prefix, 32 bytes.
pub(crate) const PARENT_PREFIX_BYTES: usize = 9 + 33;

/// The parent hash: the first field. Needs only the header's first [`PARENT_PREFIX_BYTES`] bytes.
pub(crate) fn parent(header: &[u8]) -> Option<B256> {
    let first = *header.first()?;
    let prefix = match first {
        0xc0..=0xf7 => 1,
        0xf8..=0xff => 2 + usize::from(first - 0xf8),
        _ => return None,
    };
    if *header.get(prefix)? != 0xa0 {
        return None;
    }
    header.get(prefix + 1..prefix + 33).map(B256::from_slice)
}

/// What a raw header says of itself.
pub(crate) struct Fields {
    pub(crate) parent: B256,
    pub(crate) difficulty: U256,
    pub(crate) number: u64,
}

/// Reads the fields of a whole header. `None` if it is not the RLP of a header.
pub(crate) fn fields(header: &[u8]) -> Option<Fields> {
    let parent = parent(header)?;
    let mut rest = header;
    let list = Header::decode(&mut rest).ok()?;
    if !list.list || list.payload_length != rest.len() {
        return None;
    }
    for _ in 0..7 {
        item(&mut rest)?;
    }
    let difficulty = item(&mut rest)?;
    let number = item(&mut rest)?;
    if difficulty.len() > 32 || number.len() > 8 {
        return None;
    }
    Some(Fields {
        parent,
        difficulty: U256::from_be_slice(difficulty),
        number: number.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)),
    })
}

/// The payload of the next string.
fn item<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let head = Header::decode(rest).ok()?;
    if head.list {
        return None;
    }
    let (payload, after) = rest.split_at_checked(head.payload_length)?;
    *rest = after;
    Some(payload)
}
