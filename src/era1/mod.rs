//! era1 files: 8192 blocks with receipts and total difficulty, as clients archive and exchange the history before the merge.
//!
//! ```text
//! era1        = Version | block* | other* | Accumulator | BlockIndex
//! block       = CompressedHeader | CompressedBody | CompressedReceipts | TotalDifficulty
//! entry       = type (2 bytes) | length (4) | zero (2) | data              all integers little-endian (e2store)
//! Compressed* = framed snappy of RLP: header, body, receipts in eth/68's form
//! Accumulator = SSZ hash tree root of List[(block hash, total difficulty), 8192]
//! BlockIndex  = first number (8) | for each block its place, from the index entry's start (8, signed) | count (8)
//! name        = network - era, five digits - first four bytes of the accumulator .era1
//! ```
//!
//! Sources: eth-clients' e2store-format-specs (`era1.md`), nimbus-eth2's `e2store.md`, snappy's `framing_format.txt`.

mod accumulator;
mod entry;
mod error;
mod name;
mod read;
mod source;
#[cfg(test)]
mod tests;
mod write;

pub use entry::Kind;
pub use error::{Era1Error, Problem};
pub use name::{EraName, network};
pub use read::{EraBlock, EraReader};
pub use write::EraWriter;

use alloy_primitives::B256;

/// Blocks of an era; only the last one before the merge has fewer.
pub const ERA_BLOCKS: u64 = 8192;

/// A longer header is refused: the longest real ones are clique checkpoints, 20 bytes for each signer.
pub const HEADER_LIMIT_BYTES: u64 = 1 << 20;
/// A longer body or list of receipts is refused, as in files of blocks.
pub const RECORD_LIMIT_BYTES: u64 = crate::blockfile::BLOCK_LIMIT_BYTES;

/// The first bytes of every era1 file: the Version entry, which is empty.
pub const MAGIC: [u8; 8] = [0x65, 0x32, 0, 0, 0, 0, 0, 0];

/// What a whole file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of its first block: a multiple of [`ERA_BLOCKS`].
    pub first: u64,
    /// How many blocks it holds: 1 to [`ERA_BLOCKS`].
    pub blocks: u64,
    /// Its accumulator root.
    pub root: B256,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Summary {
    /// The name that a file with this content has to have.
    pub fn name(&self, network: &str) -> EraName {
        EraName {
            network: network.into(),
            era: self.first / ERA_BLOCKS,
            root: self.root[..4].try_into().expect("four bytes"),
        }
    }
}
