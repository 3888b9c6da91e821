//! The bytes of a file, entry by entry: where we are in it, and what snappy may read of it.

use std::io::{self, BufReader, Read};

const READ_BUFFER_BYTES: usize = 1 << 20;

/// The chunk that begins every framed snappy stream.
pub(super) const STREAM_IDENTIFIER: [u8; 10] = [0xff, 6, 0, 0, b's', b'N', b'a', b'P', b'p', b'Y'];

/// A file with the entry that is being read. To `Read` it ends where the entry does.
///
/// One snappy decoder reads all entries, for making one costs more than decoding a small one. It asks for the stream identifier
/// once only; so the first bytes it is given are that, and those of the entries are checked before it sees them.
pub(super) struct Source<R> {
    input: BufReader<R>,
    replay: &'static [u8],
    /// How far the file is read.
    pub(super) at: u64,
    /// Bytes of the entry that are not read yet.
    pub(super) left: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(input: R) -> Source<R> {
        Source {
            input: BufReader::with_capacity(READ_BUFFER_BYTES, input),
            replay: &STREAM_IDENTIFIER,
            at: 0,
            left: 0,
        }
    }

    /// Reads of the file, past the entry's end too, until `out` is full or the file ends. Gives how many bytes that were.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < out.len() {
            match self.input.read(&mut out[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }

    /// Passes over what is left of the entry.
    pub(super) fn skip(&mut self) -> io::Result<()> {
        let left = self.left;
        let passed = io::copy(&mut (&mut self.input).take(left), &mut io::sink())?;
        self.at += passed;
        self.left -= passed;
        Ok(())
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if !self.replay.is_empty() {
            return self.replay.read(out);
        }
        let most = usize::try_from(self.left).map_or(out.len(), |left| left.min(out.len()));
        let n = self.input.read(&mut out[..most])?;
        self.left -= n as u64;
        self.at += n as u64;
        Ok(n)
    }
}
