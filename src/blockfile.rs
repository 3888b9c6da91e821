//! Files of blocks in RLP, back to back, `[header, transactions, ommers(, withdrawals)]`, as `geth export` writes them.

use std::fmt;
use std::io::{self, BufReader, Read};

use bytes::Bytes;

/// A larger block is refused before it is read: mainnet ends a block at 8 MiB (EIP-7934), and a message that carries one
/// to a peer ends at 10 MiB. Some room is left for chains that are imported and never served.
pub const BLOCK_LIMIT_BYTES: u64 = 48 << 20;
const READ_BUFFER_BYTES: usize = 1 << 20;

/// Reads blocks from a file, one at a time.
pub struct BlockFile<R> {
    input: BufReader<R>,
    offset_bytes: u64,
}

/// One block as it stands in the file.
pub struct FileBlock {
    /// Where it begins in the file.
    pub offset_bytes: u64,
    /// Its RLP.
    pub raw: Bytes,
}

/// What is wrong with the file, and where.
#[derive(Debug)]
pub enum BlockFileError {
    /// It cannot be read.
    Io {
        /// Where in the file.
        offset_bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes there begin no RLP list.
    NotAList {
        /// Where in the file.
        offset_bytes: u64,
        /// The byte found.
        found: u8,
    },
    /// The length written there is not in its shortest form.
    NotCanonical {
        /// Where in the file.
        offset_bytes: u64,
    },
    /// The length written there is beyond any block's.
    TooLarge {
        /// Where in the file.
        offset_bytes: u64,
        /// The length of the block that is claimed.
        claimed_bytes: u64,
    },
    /// The file ends inside a block.
    Truncated {
        /// Where the block begins.
        offset_bytes: u64,
        /// The length the block should have; 0 if even that is cut off.
        expected_bytes: u64,
        /// How many of its bytes are there.
        found_bytes: u64,
    },
}

impl<R: Read> BlockFile<R> {
    /// Reads from the beginning of `input`.
    pub fn new(input: R) -> BlockFile<R> {
        BlockFile {
            input: BufReader::with_capacity(READ_BUFFER_BYTES, input),
            offset_bytes: 0,
        }
    }

    /// How far the file is read.
    pub fn offset_bytes(&self) -> u64 {
        self.offset_bytes
    }

    /// The next block, `None` at the end of the file.
    ///
    /// # Errors
    /// `BlockFileError`; after one the file is not read on.
    pub fn next_block(&mut self) -> Result<Option<FileBlock>, BlockFileError> {
        let offset_bytes = self.offset_bytes;
        let mut head = Vec::with_capacity(9);
        self.read_into(&mut head, 1)?;
        let Some(&first) = head.first() else {
            return Ok(None);
        };
        let payload = match first {
            0xc0..=0xf7 => u64::from(first - 0xc0),
            0xf8..=0xff => {
                let digits = usize::from(first - 0xf7);
                if self.read_into(&mut head, digits)? < digits {
                    return Err(truncated(offset_bytes, 0, head.len()));
                }
                let length = head[1..]
                    .iter()
                    .fold(0, |n: u64, byte| (n << 8) | u64::from(*byte));
                if head[1] == 0 || length < 56 {
                    return Err(BlockFileError::NotCanonical { offset_bytes });
                }
                length
            }
            found => {
                return Err(BlockFileError::NotAList {
                    offset_bytes,
                    found,
                });
            }
        };
        let expected_bytes = payload.saturating_add(head.len() as u64);
        if expected_bytes > BLOCK_LIMIT_BYTES {
            return Err(BlockFileError::TooLarge {
                offset_bytes,
                claimed_bytes: expected_bytes,
            });
        }
        // `read_into` grows the buffer as bytes arrive, not to what the file claims.
        let mut raw = head;
        let wanted = payload as usize;
        if self.read_into(&mut raw, wanted)? < wanted {
            return Err(truncated(offset_bytes, expected_bytes, raw.len()));
        }
        self.offset_bytes += raw.len() as u64;
        Ok(Some(FileBlock {
            offset_bytes,
            raw: raw.into(),
        }))
    }

    /// Reads up to `count` bytes more; fewer only at the end of the file.
    fn read_into(&mut self, out: &mut Vec<u8>, count: usize) -> Result<usize, BlockFileError> {
        (&mut self.input)
            .take(count as u64)
            .read_to_end(out)
            .map_err(|source| BlockFileError::Io {
                offset_bytes: self.offset_bytes,
                source,
            })
    }
}

fn truncated(offset_bytes: u64, expected_bytes: u64, found: usize) -> BlockFileError {
    BlockFileError::Truncated {
        offset_bytes,
        expected_bytes,
        found_bytes: found as u64,
    }
}

impl fmt::Display for BlockFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockFileError::Io {
                offset_bytes,
                source,
            } => write!(f, "cannot read at byte {offset_bytes}: {source}"),
            BlockFileError::NotAList {
                offset_bytes,
                found,
            } => {
                write!(
                    f,
                    "byte {offset_bytes}: expected a block (an RLP list, 0xc0 to 0xff), found 0x{found:02x}"
                )
            }
            BlockFileError::NotCanonical { offset_bytes } => {
                write!(
                    f,
                    "byte {offset_bytes}: the length of the RLP list is not in its shortest form"
                )
            }
            BlockFileError::TooLarge {
                offset_bytes,
                claimed_bytes,
            } => write!(
                f,
                "byte {offset_bytes}: a block of {claimed_bytes} bytes is claimed, at most {BLOCK_LIMIT_BYTES} are read"
            ),
            BlockFileError::Truncated {
                offset_bytes,
                expected_bytes: 0,
                found_bytes,
            } => write!(
                f,
                "byte {offset_bytes}: the file ends {found_bytes} bytes into a block, inside its length; it is truncated"
            ),
            BlockFileError::Truncated {
                offset_bytes,
                expected_bytes,
                found_bytes,
            } => write!(
                f,
                "byte {offset_bytes}: the file ends inside a block, expected {expected_bytes} bytes, found {found_bytes}; it is truncated"
            ),
        }
    }
}

impl std::error::Error for BlockFileError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn blocks_come_out_one_by_one_with_their_offsets() {
        let file = [&[0xc2, 0x80, 0x80][..], &[0xf8, 56], &[0; 56], &[0xc0]].concat();
        let mut blocks = BlockFile::new(&file[..]);
        for (offset, length) in [(0, 3), (3, 58), (61, 1)] {
            let block = blocks.next_block().unwrap().unwrap();
            assert_eq!((block.offset_bytes, block.raw.len()), (offset, length));
        }
        assert!(blocks.next_block().unwrap().is_none());
    }

    #[test]
    fn a_truncated_file_is_told_by_the_place_of_its_last_block() {
        for cut in 1..58 {
            let file = [&[0xf8, 56][..], &[0; 56]].concat();
            let error = BlockFile::new(&file[..cut])
                .next_block()
                .err()
                .unwrap()
                .to_string();
            assert!(
                error.contains("byte 0") && error.contains("truncated"),
                "{cut}: {error}"
            );
        }
    }

    #[test]
    fn a_length_that_is_only_claimed_is_neither_allocated_nor_believed() {
        let claim = [0xfb, 0x02, 0xff, 0, 0, 1, 2, 3];
        let error = BlockFile::new(&claim[..]).next_block().err().unwrap();
        assert!(
            matches!(error, BlockFileError::Truncated { found_bytes: 8, .. }),
            "{error}"
        );
        let huge = [0xff; 9];
        let error = BlockFile::new(&huge[..]).next_block().err().unwrap();
        assert!(matches!(error, BlockFileError::TooLarge { .. }), "{error}");
        let long_form_of_short = [0xf8, 1, 0];
        let error = BlockFile::new(&long_form_of_short[..])
            .next_block()
            .err()
            .unwrap();
        assert!(
            matches!(error, BlockFileError::NotCanonical { .. }),
            "{error}"
        );
        let error = BlockFile::new(&b"hello"[..]).next_block().err().unwrap();
        assert!(
            matches!(error, BlockFileError::NotAList { found: b'h', .. }),
            "{error}"
        );
    }
}
