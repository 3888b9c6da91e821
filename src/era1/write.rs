//! Writing an era1 file.

use std::io::{self, Write};

use alloy_primitives::{B256, U256};
use snap::write::FrameEncoder;

use super::accumulator::Accumulator;
use super::entry::ENTRY_HEADER_BYTES;
use super::source::STREAM_IDENTIFIER;
use super::{ERA_BLOCKS, Kind, Summary};

/// Writes an era1 file, a block at a time. Not a file before [`EraWriter::finish`].
pub struct EraWriter<W> {
    out: W,
    at: u64,
    first: Option<u64>,
    offsets: Vec<u64>,
    accumulator: Accumulator,
    /// One for all entries, for making one costs more than a small entry does.
    encoder: FrameEncoder<Vec<u8>>,
}

impl<W: Write> EraWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// What `out` says, as everywhere here.
    pub fn new(out: W) -> io::Result<EraWriter<W>> {
        let mut writer = EraWriter {
            out,
            at: 0,
            first: None,
            offsets: Vec::new(),
            accumulator: Accumulator::default(),
            encoder: FrameEncoder::new(Vec::new()),
        };
        // The encoder identifies its stream before its first chunk alone, and every entry is a stream of its own.
        writer.encoder.write_all(&[0])?;
        writer.encoder.flush()?;
        writer.entry(Kind::Version, &[])?;
        Ok(writer)
    }

    /// Adds the next block: its number and hash, the RLP of its header, body and receipts (in eth/68's form), the total difficulty up
    /// to and with it.
    ///
    /// # Errors
    /// What `out` says.
    ///
    /// # Panics
    /// If the blocks are not in a row, the first is no era's first, or they are more than an era's: the caller's mistake.
    pub fn block(
        &mut self,
        (number, hash): (u64, B256),
        header: &[u8],
        body: &[u8],
        receipts: &[u8],
        td: U256,
    ) -> io::Result<()> {
        let first = *self.first.get_or_insert(number);
        let index = self.offsets.len() as u64;
        assert!(first.is_multiple_of(ERA_BLOCKS) && index < ERA_BLOCKS);
        assert_eq!(number, first + index);
        self.offsets.push(self.at);
        self.compressed(Kind::Header, header)?;
        self.compressed(Kind::Body, body)?;
        self.compressed(Kind::Receipts, receipts)?;
        self.entry(Kind::TotalDifficulty, &td.to_le_bytes::<32>())?;
        self.accumulator.push(hash, td);
        Ok(())
    }

    /// Ends the file with the accumulator and the index, and gives what it was written to.
    ///
    /// # Errors
    /// What `out` says.
    ///
    /// # Panics
    /// If there was no block.
    pub fn finish(mut self) -> io::Result<(W, Summary)> {
        let first = self.first.expect("an era has blocks");
        let root = self.accumulator.root();
        self.entry(Kind::Accumulator, root.as_slice())?;
        let blocks = self.offsets.len() as u64;
        let mut index = first.to_le_bytes().to_vec();
        for at in &self.offsets {
            let place = at.wrapping_sub(self.at).cast_signed();
            index.extend_from_slice(&place.to_le_bytes());
        }
        index.extend_from_slice(&blocks.to_le_bytes());
        self.entry(Kind::BlockIndex, &index)?;
        self.out.flush()?;
        let summary = Summary {
            first,
            blocks,
            root,
            bytes: self.at,
        };
        Ok((self.out, summary))
    }

    fn compressed(&mut self, kind: Kind, raw: &[u8]) -> io::Result<()> {
        let mut packed = std::mem::take(self.encoder.get_mut());
        packed.clear();
        packed.extend_from_slice(&STREAM_IDENTIFIER);
        *self.encoder.get_mut() = packed;
        self.encoder.write_all(raw)?;
        self.encoder.flush()?;
        let packed = std::mem::take(self.encoder.get_mut());
        self.entry(kind, &packed)?;
        *self.encoder.get_mut() = packed;
        Ok(())
    }

    fn entry(&mut self, kind: Kind, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).map_err(|_| {
            let what = format!("{kind} of {} bytes: an entry ends at 4 GiB", data.len());
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        self.out.write_all(&kind.header(length))?;
        self.out.write_all(data)?;
        self.at += ENTRY_HEADER_BYTES + data.len() as u64;
        Ok(())
    }
}
