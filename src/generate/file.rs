//! Chain files: blocks back to back as `geth export` writes them, or as era1 with receipts; and what their bodies compress to.

use std::io::{self, Write};

use super::{GeneratedBlock, body::list};
use crate::chain::Genesis;
use crate::chain::receipts::{Form, NO_RECEIPTS, convert};
use crate::era1::EraWriter;

/// What was written, and what snappy leaves of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Blocks.
    pub blocks: u64,
    /// Bytes of the blocks as `[header, transactions, ommers(, withdrawals)]`.
    pub block_bytes: u64,
    /// Bytes of the headers' RLP.
    pub header_bytes: u64,
    /// Bytes of the bodies' RLP.
    pub body_bytes: u64,
    /// Bytes of the bodies when snappy has compressed each by itself.
    pub body_snappy_bytes: u64,
}

impl Sizes {
    /// Counts a block.
    ///
    /// # Panics
    /// If the body is longer than the 4 GiB that snappy can name: none that is generated is.
    pub fn add(&mut self, block: &GeneratedBlock) {
        let snappy = snap::raw::Encoder::new()
            .compress_vec(&block.body)
            .expect("a body is shorter than 4 GiB");
        self.blocks += 1;
        self.header_bytes += block.header.raw.len() as u64;
        self.body_bytes += block.body.len() as u64;
        self.body_snappy_bytes += snappy.len() as u64;
    }

    /// Compressed bytes by raw bytes of the bodies: 0.55 to 0.65 where bodies are as large as real ones. 1 if there are none.
    pub fn ratio(&self) -> f64 {
        if self.body_bytes == 0 {
            1.0
        } else {
            self.body_snappy_bytes as f64 / self.body_bytes as f64
        }
    }
}

/// The block as chain files hold it: RLP `[header, transactions, ommers(, withdrawals)]`.
pub fn encode_block(block: &GeneratedBlock) -> Vec<u8> {
    list(&[&block.header.raw, list_payload(&block.body)])
}

/// Writes `blocks` back to back, calling `each` after every one with what there is so far.
///
/// # Errors
/// What `out` says. It is flushed at the end.
pub fn write_blocks(
    out: &mut dyn Write,
    blocks: impl Iterator<Item = GeneratedBlock>,
    each: &mut dyn FnMut(&Sizes),
) -> io::Result<Sizes> {
    let mut sizes = Sizes::default();
    for block in blocks {
        let bytes = encode_block(&block);
        out.write_all(&bytes)?;
        sizes.add(&block);
        sizes.block_bytes += bytes.len() as u64;
        each(&sizes);
    }
    out.flush()?;
    Ok(sizes)
}

/// Writes the genesis block and `blocks` as one era1 file, with their receipts, calling `each` as [`write_blocks`] does. The sizes are
/// those of `blocks`.
///
/// # Errors
/// What `out` says. It is flushed at the end.
///
/// # Panics
/// If `blocks` are [`ERA_BLOCKS`](crate::era1::ERA_BLOCKS) or more: with the genesis block they do not fit in an era.
pub fn write_era1(
    out: &mut dyn Write,
    genesis: &Genesis,
    blocks: impl Iterator<Item = GeneratedBlock>,
    each: &mut dyn FnMut(&Sizes),
) -> io::Result<Sizes> {
    let mut writer = EraWriter::new(out)?;
    let header = &genesis.header;
    let td = header.header.difficulty;
    let id = (0, header.hash);
    writer.block(id, &header.raw, &genesis.body, NO_RECEIPTS, td)?;
    let mut sizes = Sizes::default();
    for block in blocks {
        let header = &block.header;
        let receipts = convert(Form::Eth69, Form::Eth68, &block.receipts)
            .expect("generated receipts are well formed");
        let id = (header.number(), header.hash);
        writer.block(id, &header.raw, &block.body, &receipts, block.td)?;
        sizes.add(&block);
        sizes.block_bytes += encode_block(&block).len() as u64;
        each(&sizes);
    }
    writer.finish()?;
    Ok(sizes)
}

/// What is within the RLP list that a generated body is.
fn list_payload(body: &[u8]) -> &[u8] {
    let mut rest = body;
    alloy_rlp::Header::decode(&mut rest).expect("a generated body is a list");
    rest
}
