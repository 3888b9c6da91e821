//! Snappy element streams: what bodies are kept as, and what composes a wire message from them.
//!
//! A snappy block is a varint of the uncompressed length, then elements: literals and copies. Copies look back by a
//! distance, so streams that were compressed apart can be laid end to end behind one varint and are one valid block.

use std::fmt;

/// Literals are cut at this length, as snappy's own encoders do: three bytes of head for each.
const LITERAL_BYTES: usize = 65_536;
/// The longest varint in front of a snappy block, in bytes.
const VARINT_BYTES: usize = 5;

/// Appends `n` as a varint: the length in front of a snappy block.
pub fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends `bytes` as snappy literal elements, cut at 65,536 bytes each. No bytes need no element.
pub fn literal(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.chunks(LITERAL_BYTES) {
        let (head, length) = literal_head(chunk.len());
        out.extend_from_slice(&head[..length]);
        out.extend_from_slice(chunk);
    }
}

/// How many bytes [`literal`] appends for `length` bytes.
pub fn literal_len(length: usize) -> usize {
    let whole = length / LITERAL_BYTES;
    let rest = length % LITERAL_BYTES;
    let head = if rest == 0 { 0 } else { literal_head(rest).1 };
    length + 3 * whole + head
}

/// The tag of a literal of 1..=65,536 bytes, and how many of the three bytes it takes.
fn literal_head(length: usize) -> ([u8; 3], usize) {
    let n = length - 1;
    match n {
        0..60 => ([(n as u8) << 2, 0, 0], 1),
        60..256 => ([60 << 2, n as u8, 0], 2),
        _ => ([61 << 2, n as u8, (n >> 8) as u8], 3),
    }
}

/// Why a stream could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snappy stream: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Decompresses an element stream of `raw_len` uncompressed bytes. The caller bounds `raw_len`.
pub fn decompress(raw_len: usize, stream: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut block = Vec::with_capacity(VARINT_BYTES + stream.len());
    varint(&mut block, raw_len as u64);
    block.extend_from_slice(stream);
    snap::raw::Decoder::new()
        .decompress_vec(&block)
        .map_err(|e| Malformed(e.to_string()))
}

/// Makes element streams, with buffers that are used again.
pub(crate) struct Compressor {
    encoder: snap::raw::Encoder,
}

impl Compressor {
    pub(crate) fn new() -> Compressor {
        Compressor {
            encoder: snap::raw::Encoder::new(),
        }
    }

    /// Appends the smaller of the compressed stream of `raw` and its literal.
    ///
    /// The encoder puts the varint in front of what it writes. It lands on the last bytes already in `out`, which are
    /// put back: the stream stands where it belongs and nothing is moved.
    pub(crate) fn append(&mut self, raw: &[u8], out: &mut Buffer) {
        let front = varint_len(raw.len());
        let room = snap::raw::max_compress_len(raw.len());
        let at = out.used - front;
        out.reserve(room);
        let mut kept = [0; VARINT_BYTES];
        kept[..front].copy_from_slice(&out.bytes[at..out.used]);
        let written = self
            .encoder
            .compress(raw, &mut out.bytes[at..at + room])
            .expect("a record is far below snappy's limit and the room is what it asks for");
        out.bytes[at..out.used].copy_from_slice(&kept[..front]);
        if written - front <= literal_len(raw.len()) {
            out.used = at + written;
        } else {
            for chunk in raw.chunks(LITERAL_BYTES) {
                let (head, length) = literal_head(chunk.len());
                out.push(&head[..length]);
                out.push(chunk);
            }
        }
    }
}

const fn varint_len(n: usize) -> usize {
    match n {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}

/// Bytes waiting to be written. Its memory is kept and stays zeroed only once, so that filling it again costs nothing.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    used: usize,
}

/// Room in front of a [`Buffer`]'s first byte for the varint of the first stream.
const FRONT_BYTES: usize = 8;

impl Buffer {
    pub(crate) fn new() -> Buffer {
        Buffer {
            bytes: vec![0; FRONT_BYTES],
            used: FRONT_BYTES,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.used - FRONT_BYTES
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[FRONT_BYTES..self.used]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[FRONT_BYTES..self.used]
    }

    /// Forgets the bytes, and the memory too if there is more of it than `keep_bytes`.
    pub(crate) fn clear(&mut self, keep_bytes: usize) {
        self.used = FRONT_BYTES;
        if self.bytes.len() > keep_bytes {
            *self = Buffer::new();
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// Appends `n` zeros.
    pub(crate) fn push_zeros(&mut self, n: usize) {
        self.reserve(n);
        self.bytes[self.used..self.used + n].fill(0);
        self.used += n;
    }

    fn reserve(&mut self, room: usize) {
        let need = self.used + room;
        if self.bytes.len() < need {
            let grown = need.max(self.bytes.len() + self.bytes.len() / 4).max(4096);
            self.bytes.resize(grown, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn literals_of_every_head_length_are_decoded_by_snap() {
        for length in [1, 60, 61, 256, 257, 65_535, 65_536, 65_537, 200_000] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 31 % 251) as u8).collect();
            let mut block = Vec::new();
            varint(&mut block, length as u64);
            let front = block.len();
            literal(&mut block, &bytes);
            assert_eq!(block.len() - front, literal_len(length), "{length}");
            assert_eq!(
                snap::raw::Decoder::new().decompress_vec(&block).unwrap(),
                bytes,
                "{length}"
            );
        }
    }

    #[test]
    fn streams_follow_each_other_in_a_buffer_unharmed() {
        let mut compressor = Compressor::new();
        let mut out = Buffer::new();
        let mut ends = vec![0];
        let raws: Vec<Vec<u8>> = [1_usize, 100, 127, 128, 20_000, 70_000, 2_200_000]
            .iter()
            .map(|&length| (0..length).map(|i| ((i / 7) * 131 % 241) as u8).collect())
            .collect();
        for raw in &raws {
            compressor.append(raw, &mut out);
            ends.push(out.len());
        }
        for (i, raw) in raws.iter().enumerate() {
            let stream = &out.as_slice()[ends[i]..ends[i + 1]];
            assert!(stream.len() <= literal_len(raw.len()));
            assert_eq!(&decompress(raw.len(), stream).unwrap(), raw);
        }
    }

    #[test]
    fn what_does_not_compress_is_a_literal() {
        let mut state = 1_u64;
        let raw: Vec<u8> = (0..3000)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let mut out = Buffer::new();
        Compressor::new().append(&raw, &mut out);
        assert_eq!(out.len(), literal_len(raw.len()));
    }

    #[test]
    fn a_stream_that_lies_about_its_length_is_refused() {
        let mut stream = Vec::new();
        literal(&mut stream, b"hello");
        assert!(decompress(4, &stream).is_err());
        assert!(decompress(6, &stream).is_err());
        assert!(decompress(5, &stream[..3]).is_err());
        assert_eq!(decompress(5, &stream).unwrap(), b"hello");
    }
}
