//! Entries of e2store files: what types era1 has, and the eight bytes before each.

use std::fmt;

/// Bytes before the data of an entry: type, length and zeros.
pub(super) const ENTRY_HEADER_BYTES: u64 = 8;

/// The type of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Begins a file.
    Version,
    /// A block's header.
    Header,
    /// A block's body.
    Body,
    /// A block's receipts.
    Receipts,
    /// A block's total difficulty.
    TotalDifficulty,
    /// The accumulator root.
    Accumulator,
    /// Where the blocks are.
    BlockIndex,
    /// A type that era1 does not have.
    Other(u16),
}

impl Kind {
    /// The type written by `code`.
    pub(super) fn of(code: u16) -> Kind {
        match code {
            0x3265 => Kind::Version,
            3 => Kind::Header,
            4 => Kind::Body,
            5 => Kind::Receipts,
            6 => Kind::TotalDifficulty,
            7 => Kind::Accumulator,
            0x3266 => Kind::BlockIndex,
            other => Kind::Other(other),
        }
    }

    fn code(self) -> u16 {
        match self {
            Kind::Version => 0x3265,
            Kind::Header => 3,
            Kind::Body => 4,
            Kind::Receipts => 5,
            Kind::TotalDifficulty => 6,
            Kind::Accumulator => 7,
            Kind::BlockIndex => 0x3266,
            Kind::Other(code) => code,
        }
    }

    /// What stands before `length` bytes of data.
    pub(super) fn header(self, length: u32) -> [u8; ENTRY_HEADER_BYTES as usize] {
        let (code, length) = (self.code().to_le_bytes(), length.to_le_bytes());
        [
            code[0], code[1], length[0], length[1], length[2], length[3], 0, 0,
        ]
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Version => f.write_str("Version"),
            Kind::Header => f.write_str("CompressedHeader"),
            Kind::Body => f.write_str("CompressedBody"),
            Kind::Receipts => f.write_str("CompressedReceipts"),
            Kind::TotalDifficulty => f.write_str("TotalDifficulty"),
            Kind::Accumulator => f.write_str("Accumulator"),
            Kind::BlockIndex => f.write_str("BlockIndex"),
            Kind::Other(code) => write!(f, "entry of type 0x{code:04x}"),
        }
    }
}
