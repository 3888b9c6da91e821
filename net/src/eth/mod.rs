//! The eth capability, versions 68 and 69: Status, the messages, and their RLP read and written in place.
//!
//! Sources: devp2p `caps/eth.md`, EIP-7642 (eth/69), EIP-2124 (fork id).

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
pub const VERSIONS: [u8; 2] = [69, 68];

/// How many message codes a version takes in the shared code space of a session (RLPx, "Message ID-based multiplexing").
///
/// `None` for a version that is not spoken.
pub fn message_count(version: u8) -> Option<u8> {
    match version {
        68 => Some(17), // up to Receipts, 0x10
        69 => Some(18), // BlockRangeUpdate, 0x11
        _ => None,
    }
}
