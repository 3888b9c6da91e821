//! Reading an era1 file from its beginning to its end, and checking everything in it that no chain rule is needed for.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use alloy_primitives::{B256, U256, hex};
use bytes::Bytes;
use snap::read::FrameDecoder;

use super::accumulator::Accumulator;
use super::entry::ENTRY_HEADER_BYTES;
use super::source::{STREAM_IDENTIFIER, Source};
use super::{
    ERA_BLOCKS, Era1Error, EraName, HEADER_LIMIT_BYTES, Kind, Problem, RECORD_LIMIT_BYTES, Summary,
};
use crate::chain::{HeaderError, SealedHeader};

/// One block as it stands in a file.
#[derive(Clone, Debug)]
pub struct EraBlock {
    /// Where its first entry begins in the file.
    pub offset_bytes: u64,
    /// Its header.
    pub header: SealedHeader,
    /// RLP of its body. It is whole, but whether it is the header's is not checked here.
    pub body: Bytes,
    /// RLP of its receipts in eth/68's form. Not checked either.
    pub receipts: Bytes,
    /// The total difficulty up to and with it.
    pub td: U256,
}

/// Reads an era1 file, a block at a time.
///
/// Checked on the way: the order and the lengths of the entries, the checksums of the compressed ones, that headers are headers in
/// a row that name their parents, that total difficulties are sums; and at the end the accumulator, the index, what the
/// file's name says, and that nothing follows.
pub struct EraReader<R: Read> {
    decoder: FrameDecoder<Source<R>>,
    file: String,
    name: Option<EraName>,
    /// The entry in hand.
    entry: Entry,
    begun: bool,
    /// The last entry of a type that era1 does not have.
    other: Option<Entry>,
    accumulator: Accumulator,
    offsets: Vec<u64>,
    last: Option<Last>,
    summary: Option<Summary>,
}

/// An entry whose first eight bytes were read.
#[derive(Clone, Copy)]
struct Entry {
    at: u64,
    kind: Kind,
    length: u64,
    block: Option<u64>,
}

/// The block before the one in hand.
#[derive(Clone, Copy)]
struct Last {
    number: u64,
    hash: B256,
    td: U256,
}

type Result<T> = std::result::Result<T, Era1Error>;

impl EraReader<File> {
    /// Opens a file, which must hold what its name says if the name is an era1 file's.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<EraReader<File>> {
        let label = path.display().to_string();
        Ok(EraReader::new(File::open(path)?, label, EraName::of(path)))
    }
}

impl<R: Read> EraReader<R> {
    /// Reads `input` from where it stands. `file` is what errors call it; what `name` says is checked.
    pub fn new(input: R, file: impl Into<String>, name: Option<EraName>) -> EraReader<R> {
        EraReader {
            decoder: FrameDecoder::new(Source::new(input)),
            file: file.into(),
            name,
            entry: Entry {
                at: 0,
                kind: Kind::Version,
                length: 0,
                block: None,
            },
            begun: false,
            other: None,
            accumulator: Accumulator::default(),
            offsets: Vec::new(),
            last: None,
            summary: None,
        }
    }

    /// How far the file is read.
    pub fn offset_bytes(&self) -> u64 {
        self.decoder.get_ref().at
    }

    /// The next block. `None` after the last one: then all of the file has been checked, and [`EraReader::summary`] says what
    /// it held.
    ///
    /// # Errors
    /// [`Era1Error`]; after one the file is not read on.
    pub fn next_block(&mut self) -> Result<Option<EraBlock>> {
        if self.summary.is_some() {
            return Ok(None);
        }
        if !self.begun {
            self.expect(Kind::Version, None)?;
            self.exactly(0)?;
            self.begun = true;
        }
        loop {
            let block = self.last.map(|last| last.number + 1);
            let (kind, expected) = match (block, self.other) {
                (None, _) => (Kind::Header, "CompressedHeader"),
                (Some(_), None) => (Kind::Accumulator, "CompressedHeader or Accumulator"),
                (Some(_), Some(_)) => (Kind::Accumulator, "Accumulator"),
            };
            self.enter(kind, None)?;
            match self.entry.kind {
                Kind::Header if self.other.is_none() => {
                    self.entry.block = block;
                    return self.block().map(Some);
                }
                Kind::Accumulator if block.is_some() => {
                    self.finish()?;
                    return Ok(None);
                }
                // The format leaves room for entries of other types here.
                Kind::Other(_) if block.is_some() => {
                    let skipped = self.source().skip();
                    skipped.map_err(|e| self.fault(Problem::Io(e)))?;
                    self.whole()?;
                    self.other = Some(self.entry);
                }
                found => {
                    // If one was passed over before, its type is what is wrong.
                    let found = match self.other {
                        Some(other) => {
                            self.entry = other;
                            other.kind
                        }
                        None => found,
                    };
                    self.entry.kind = kind;
                    return Err(self.mismatch("type", expected, found));
                }
            }
        }
    }

    /// What the file holds, after its last block was read.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// What the file's name says, if it says anything.
    pub fn name(&self) -> Option<&EraName> {
        self.name.as_ref()
    }

    fn block(&mut self) -> Result<EraBlock> {
        let offset_bytes = self.entry.at;
        if self.offsets.len() as u64 == ERA_BLOCKS {
            let most = format!("at most {ERA_BLOCKS} blocks");
            return Err(self.mismatch("count", most, "more"));
        }
        let raw = self.list(HEADER_LIMIT_BYTES)?;
        let header = SealedHeader::decode(raw).map_err(|error| {
            let what = match &error {
                HeaderError::Invalid(fault) => fault.to_string(),
                other => other.to_string(),
            };
            self.fault(Problem::Malformed(what))
        })?;
        self.check_header(&header)?;
        let number = header.header.number;
        self.expect(Kind::Body, Some(number))?;
        let body = self.list(RECORD_LIMIT_BYTES)?;
        self.expect(Kind::Receipts, Some(number))?;
        let receipts = self.list(RECORD_LIMIT_BYTES)?;
        self.expect(Kind::TotalDifficulty, Some(number))?;
        let td = U256::from_le_bytes(self.array::<32>()?);
        let difficulty = header.header.difficulty;
        let expected = match self.last {
            Some(last) => last.td.checked_add(difficulty),
            None if number == 0 => Some(difficulty),
            // What came before the file is not known here.
            None => Some(td).filter(|td| *td >= difficulty),
        };
        if expected != Some(td) {
            let expected = match (expected, self.last) {
                (Some(sum), _) => sum.to_string(),
                (None, Some(_)) => "a sum below 2^256".to_owned(),
                (None, None) => format!("at least {difficulty}, the block's own"),
            };
            return Err(self.mismatch("total difficulty", expected, td));
        }
        self.accumulator.push(header.hash, td);
        self.offsets.push(offset_bytes);
        self.last = Some(Last {
            number,
            hash: header.hash,
            td,
        });
        Ok(EraBlock {
            offset_bytes,
            header,
            body,
            receipts,
            td,
        })
    }

    /// The header follows the one before, or begins the era that the file's name says.
    fn check_header(&self, header: &SealedHeader) -> Result<()> {
        let number = header.header.number;
        match (self.last, &self.name) {
            (Some(last), _) => {
                if number != last.number + 1 {
                    return Err(self.mismatch("number", last.number + 1, number));
                }
                let parent = header.header.parent_hash;
                if parent != last.hash {
                    return Err(self.mismatch("parentHash", last.hash, parent));
                }
            }
            (None, Some(name)) if name.era.checked_mul(ERA_BLOCKS) != Some(number) => {
                let expected = format!("the first of era {}, as the file's name says", name.era);
                return Err(self.mismatch("number", expected, number));
            }
            (None, _) if !number.is_multiple_of(ERA_BLOCKS) => {
                let expected = format!("the first of an era, a multiple of {ERA_BLOCKS}");
                return Err(self.mismatch("number", expected, number));
            }
            (None, _) => {}
        }
        Ok(())
    }

    /// What follows the last block: the accumulator in hand, the index, the end.
    fn finish(&mut self) -> Result<()> {
        let root = self.accumulator.root();
        let found = B256::from(self.array::<32>()?);
        if found != root {
            let expected = format!("{root}, that of the file's blocks");
            return Err(self.mismatch("root", expected, found));
        }
        if let Some(name) = &self.name
            && name.root != root[..4]
        {
            let expected = format!("0x{}…, as the file's name says", hex::encode(name.root));
            return Err(self.mismatch("root", expected, root));
        }
        self.expect(Kind::BlockIndex, None)?;
        let blocks = self.offsets.len() as u64;
        let index_at = self.entry.at;
        self.exactly(16 + 8 * blocks)?;
        let last = self
            .last
            .expect("a file ends after its first block at the earliest");
        let first = last.number + 1 - blocks;
        let found = u64::from_le_bytes(self.take()?);
        if found != first {
            return Err(self.mismatch("first number", first, found));
        }
        for (number, at) in (first..).zip(std::mem::take(&mut self.offsets)) {
            let expected = at.wrapping_sub(index_at).cast_signed();
            let found = i64::from_le_bytes(self.take()?);
            if found != expected {
                return Err(self.mismatch(format!("place of block {number}"), expected, found));
            }
        }
        let found = u64::from_le_bytes(self.take()?);
        if found != blocks {
            return Err(self.mismatch("count", blocks, found));
        }
        let bytes = self.offset_bytes();
        let after = self.source().fill(&mut [0]);
        if after.map_err(|e| self.fault(Problem::Io(e)))? != 0 {
            let expected = format!("the end of the file at byte {bytes}");
            return Err(self.mismatch("what follows", expected, "more"));
        }
        self.summary = Some(Summary {
            first,
            blocks,
            root,
            bytes,
        });
        Ok(())
    }

    /// Reads the first bytes of the next entry, which has to be of that type.
    fn expect(&mut self, kind: Kind, block: Option<u64>) -> Result<()> {
        self.enter(kind, block)?;
        let found = std::mem::replace(&mut self.entry.kind, kind);
        match found == kind {
            true => Ok(()),
            false => Err(self.mismatch("type", kind, found)),
        }
    }

    /// Reads the first bytes of the next entry, whatever it is. `expected` is what it is called if it is not there.
    fn enter(&mut self, expected: Kind, block: Option<u64>) -> Result<()> {
        let at = self.offset_bytes();
        self.entry = Entry {
            at,
            kind: expected,
            length: 0,
            block,
        };
        let mut head = [0; ENTRY_HEADER_BYTES as usize];
        let filled = self.source().fill(&mut head);
        let filled = filled.map_err(|e| self.fault(Problem::Io(e)))?;
        if filled < head.len() {
            return Err(self.fault(Problem::Truncated {
                expected_bytes: ENTRY_HEADER_BYTES,
                found_bytes: filled as u64,
            }));
        }
        let [a, b, c, d, e, f, zeros @ ..] = head;
        if zeros != [0, 0] {
            return Err(self.mismatch("bytes 6 and 7", "0000", hex::encode(zeros)));
        }
        self.entry.kind = Kind::of(u16::from_le_bytes([a, b]));
        self.entry.length = u64::from(u32::from_le_bytes([c, d, e, f]));
        self.source().left = self.entry.length;
        Ok(())
    }

    /// Decompresses the entry in hand, which has to be one RLP list and nothing else: snappy lets a reader pass over chunks of
    /// types it does not know, so its checksums alone do not say that nothing is missing.
    fn list(&mut self, limit_bytes: u64) -> Result<Bytes> {
        let raw = self.unpack(limit_bytes)?;
        let mut rest = &raw[..];
        match alloy_rlp::Header::decode_bytes(&mut rest, true) {
            Ok(_) if rest.is_empty() => Ok(raw),
            Ok(_) => {
                let what = format!("{} bytes after its list", rest.len());
                Err(self.fault(Problem::Malformed(what)))
            }
            Err(error) => {
                let what = format!("{} bytes that are no RLP list: {error}", raw.len());
                Err(self.fault(Problem::Malformed(what)))
            }
        }
    }

    /// Decompresses the entry in hand. Nothing of the size it claims is allocated.
    fn unpack(&mut self, limit_bytes: u64) -> Result<Bytes> {
        let mut identifier = STREAM_IDENTIFIER;
        identifier.fill(0);
        let length = identifier.len().min(self.entry.length as usize);
        self.fill(&mut identifier[..length])?;
        if identifier != STREAM_IDENTIFIER {
            let expected = hex::encode(STREAM_IDENTIFIER);
            let found = hex::encode(&identifier[..length]);
            return Err(self.mismatch("snappy stream identifier", expected, found));
        }
        let mut out = Vec::new();
        let read = (&mut self.decoder)
            .take(limit_bytes + 1)
            .read_to_end(&mut out);
        if let Err(error) = read {
            let at = self.offset_bytes();
            let left = self.source().left;
            let is_end = error.kind() == io::ErrorKind::UnexpectedEof;
            return Err(match error.get_ref() {
                Some(inner) if inner.is::<snap::Error>() => {
                    self.fault(Problem::Malformed(format!("{error} (before byte {at})")))
                }
                _ if is_end && left > 0 => self.truncated(),
                _ if is_end => {
                    let what = format!("snappy: a chunk ends after the entry, at byte {at}");
                    self.fault(Problem::Malformed(what))
                }
                _ => self.fault(Problem::Io(error)),
            });
        }
        if out.len() as u64 > limit_bytes {
            let most = format!("at most {limit_bytes} bytes");
            return Err(self.mismatch("length uncompressed", most, "more"));
        }
        self.whole()?;
        Ok(out.into())
    }

    /// The data of the entry in hand, which has to be so many bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.exactly(N as u64)?;
        self.take()
    }

    /// The next bytes of the entry in hand.
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        let filled = self.source().fill(out);
        let filled = filled.map_err(|e| self.fault(Problem::Io(e)))?;
        self.source().left -= filled as u64;
        match filled == out.len() {
            true => Ok(()),
            false => Err(self.truncated()),
        }
    }

    fn exactly(&self, length: u64) -> Result<()> {
        match self.entry.length == length {
            true => Ok(()),
            false => Err(self.mismatch("length", length, self.entry.length)),
        }
    }

    /// The entry in hand was read to its end.
    fn whole(&mut self) -> Result<()> {
        match self.source().left {
            0 => Ok(()),
            _ => Err(self.truncated()),
        }
    }

    fn source(&mut self) -> &mut Source<R> {
        self.decoder.get_mut()
    }

    fn truncated(&self) -> Era1Error {
        let expected_bytes = ENTRY_HEADER_BYTES + self.entry.length;
        self.fault(Problem::Truncated {
            expected_bytes,
            found_bytes: expected_bytes - self.decoder.get_ref().left,
        })
    }

    fn mismatch(
        &self,
        field: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Era1Error {
        self.fault(Problem::Mismatch {
            field: field.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        })
    }

    fn fault(&self, problem: Problem) -> Era1Error {
        Era1Error {
            file: self.file.clone(),
            offset_bytes: self.entry.at,
            entry: self.entry.kind,
            block: self.entry.block,
            problem: Box::new(problem),
        }
    }
}
