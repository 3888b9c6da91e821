//! One slot of the record of what was signed: how it is written, and what is read of it.

use alloy_consensus::Header;
use alloy_primitives::B256;
use alloy_rlp::{Decodable as _, Encodable as _};

use super::Refusal;
use crate::chain::clique::{SEAL_BYTES, seal_hash};

/// A checkpoint's header has 20 bytes for each signer: this is room for some 370.
pub(super) const SLOT_BYTES: usize = 8192;
/// crc32, n, forgotten, length.
pub(super) const HEAD_BYTES: usize = 4 + 8 + 8 + 4;

/// What is remembered of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// Number of the record.
    pub(super) n: u64,
    pub(super) number: u64,
    pub(super) parent: B256,
    pub(super) seal_hash: B256,
}

/// A record that is whole.
#[derive(PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) signed: Signed,
    /// What was forgotten when it was written.
    pub(super) forgotten: u64,
    pub(super) header: Header,
}

pub(super) enum Slot {
    Has(Box<Kept>),
    Empty,
    Damaged,
}

impl Slot {
    pub(super) fn read(bytes: &[u8]) -> Slot {
        if bytes == [0; SLOT_BYTES] {
            return Slot::Empty;
        }
        Slot::read_record(bytes).map_or(Slot::Damaged, |kept| Slot::Has(Box::new(kept)))
    }

    fn read_record(bytes: &[u8]) -> Option<Kept> {
        let (crc, rest) = bytes.split_first_chunk::<4>()?;
        let is_whole = |written: &[u8]| crc32fast::hash(written) == u32::from_le_bytes(*crc);
        read_rest(rest, is_whole)
    }
}

/// What follows the checksum.
fn read_rest(rest: &[u8], is_whole: impl FnOnce(&[u8]) -> bool) -> Option<Kept> {
    let (n, after) = rest.split_first_chunk::<8>()?;
    let (forgotten, after) = after.split_first_chunk::<8>()?;
    let (length, after) = after.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let mut rlp = after.get(..length)?;
    if !is_whole(&rest[..HEAD_BYTES - 4 + length]) {
        return None;
    }
    let header = Header::decode(&mut rlp).ok().filter(|_| rlp.is_empty())?;
    if header.extra_data.len() < SEAL_BYTES {
        return None;
    }
    Some(Kept {
        signed: Signed {
            n: u64::from_le_bytes(*n),
            number: header.number,
            parent: header.parent_hash,
            seal_hash: seal_hash(&header),
        },
        forgotten: u64::from_le_bytes(*forgotten),
        header,
    })
}

/// The header in what a slot has after its checksum, if it has one: what a fuzzer tries.
pub fn read_slot(rest: &[u8]) -> Option<Header> {
    Some(read_rest(rest, |_| true)?.header)
}

/// A record as it is written. What an older one leaves behind its end does not count.
pub(super) fn slot_of(n: u64, forgotten: u64, header: &Header) -> Result<Vec<u8>, Refusal> {
    let length = header.length();
    if length > SLOT_BYTES - HEAD_BYTES {
        return Err(Refusal::TooLong(length));
    }
    let mut slot = vec![0; 4];
    slot.extend_from_slice(&n.to_le_bytes());
    slot.extend_from_slice(&forgotten.to_le_bytes());
    slot.extend_from_slice(&(length as u32).to_le_bytes());
    header.encode(&mut slot);
    let crc = crc32fast::hash(&slot[4..]);
    slot[..4].copy_from_slice(&crc.to_le_bytes());
    Ok(slot)
}
