//! The eth capability, versions 68 to 71: Status, the messages, and their RLP read and written in place.
//!
//! | version | what it changed |
//! | --- | --- |
//! | 68 | announced transactions with types and sizes (EIP-5793) |
//! | 69 | Status with a range of blocks and without total difficulty, BlockRangeUpdate, receipts without bloom (EIP-7642) |
//! | 70 | receipts of one block over several answers (EIP-7975) |
//! | 71 | block access lists (EIP-8159) |
//!
//! Sources: devp2p `caps/eth.md`, the EIPs above, EIP-2124 (fork id). go-ethereum 1.17.5 encodes eth/72 cells otherwise than its
//! own main branch: 72 is not spoken until clients agree.

mod cursor;
mod decode;
mod encode;
pub mod message;
pub mod status;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use cursor::{DecodeError, What};

/// The versions spoken, the preferred first.
pub const VERSIONS: [u8; 4] = [71, 70, 69, 68];

/// How many message codes a version takes in the shared code space of a session (RLPx, "Message ID-based multiplexing").
///
/// `None` for a version that is not spoken.
pub fn message_count(version: u8) -> Option<u8> {
    match version {
        68 => Some(17),      // up to Receipts, 0x10
        69 | 70 => Some(18), // BlockRangeUpdate, 0x11
        71 => Some(20),      // BlockAccessLists, 0x13
        _ => None,
    }
}
