//! A message in a frame: its id, then its RLP, which snappy has compressed in everything after Hello.
//!
//! Sources: devp2p `rlpx.md`, "Message Encoding"; EIP-706; snappy's `format_description.txt`.

use std::fmt;

use bytes::Bytes;
use snap::raw::{Decoder, decompress_len};

use super::buffers::Buffer;
use super::workspace::Packer;
use crate::rlpx::frame;

/// Writes a message that is not compressed. Its frame, and that of each below, is still to be sealed.
pub(super) fn write_plain(id: u8, payload: &[u8], out: &mut Vec<u8>) {
    frame::lay_out(&[&[id_byte(id)], payload], out);
}

/// Writes a message, compressing it.
pub(super) fn write(id: u8, payload: &[u8], packer: &mut Packer, out: &mut Vec<u8>) {
    frame::lay_out(&[&[id_byte(id)], packer.message(payload)], out);
}

/// Writes a message that begins with `prefix` (at most 60 bytes) and goes on with streams of snappy elements that are `raw_bytes`
/// long when decompressed: copied once, to where the cipher goes over them.
///
/// Snappy elements refer back by distance, so streams made alone may stand after other bytes.
pub(super) fn write_ready(
    id: u8,
    prefix: &[u8],
    raw_bytes: usize,
    streams: &[&[u8]],
    out: &mut Vec<u8>,
) {
    let mut head = Vec::with_capacity(32);
    head.push(id_byte(id));
    varint(prefix.len() + raw_bytes, &mut head);
    assert!(
        (1..=60).contains(&prefix.len()),
        "a literal of one tag byte"
    );
    head.push((prefix.len() as u8 - 1) << 2);
    head.extend_from_slice(prefix);

    let streams_bytes: usize = streams.iter().map(|stream| stream.len()).sum();
    let mut frame = frame::begin(head.len() + streams_bytes, out);
    frame.push(&head);
    for stream in streams {
        frame.push(stream);
    }
    frame.finish();
}

/// Bytes of the frame's body that [`write_ready`] writes before the streams, at most.
pub(super) const READY_HEAD_BYTES: usize = 1 + 5 + 1 + 60;

/// The RLP of a message id below 0x80.
fn id_byte(id: u8) -> u8 {
    assert!(id < 0x80, "eth's ids end at 0x23");
    if id == 0 { 0x80 } else { id }
}

/// Snappy's length before the elements: seven bits a byte, the lowest first.
fn varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Splits the body of a frame into the message id and the rest. Ids above 127, which nothing that is spoken here has, come out
/// as 128. `None`: there is no id, or not in its canonical form.
pub(super) fn split(body: &[u8]) -> Option<(u8, &[u8])> {
    let (first, rest) = body.split_first()?;
    match first {
        0 => None,
        0x01..=0x7f => Some((*first, rest)),
        0x80 => Some((0, rest)),
        _ => Some((0x80, rest)),
    }
}

/// A message that cannot be decompressed: the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SnappyError {
    /// It claims to be longer than it may be.
    TooLong {
        claimed_bytes: usize,
        limit_bytes: usize,
    },
    /// Not snappy, or not of the length it claims.
    Corrupt,
}

impl fmt::Display for SnappyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnappyError::TooLong {
                claimed_bytes,
                limit_bytes,
            } => {
                write!(
                    f,
                    "{claimed_bytes} bytes decompressed, above the limit of {limit_bytes}"
                )
            }
            SnappyError::Corrupt => f.write_str("not valid snappy"),
        }
    }
}

/// Decompresses a message of at most `limit_bytes`. The claimed length is checked against the limit, and against what so many
/// compressed bytes can hold, before any memory is taken for it.
pub(super) fn decompress(
    payload: &[u8],
    limit_bytes: usize,
    take: impl FnOnce(usize) -> Buffer,
) -> Result<Bytes, SnappyError> {
    let claimed_bytes = decompress_len(payload).map_err(|_| SnappyError::Corrupt)?;
    if claimed_bytes > limit_bytes {
        return Err(SnappyError::TooLong {
            claimed_bytes,
            limit_bytes,
        });
    }
    // the densest element is a copy of 64 bytes in three
    if claimed_bytes > payload.len().div_ceil(3) * 64 {
        return Err(SnappyError::Corrupt);
    }
    let mut buffer = take(claimed_bytes);
    match Decoder::new().decompress(payload, buffer.text()) {
        Ok(written) if written == claimed_bytes => Ok(buffer.into_bytes()),
        _ => Err(SnappyError::Corrupt),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use snap::raw::Encoder;

    use super::*;

    fn decompress(payload: &[u8], limit_bytes: usize) -> Result<Bytes, SnappyError> {
        super::decompress(payload, limit_bytes, Buffer::alone)
    }

    #[test]
    fn a_length_that_is_claimed_is_checked_before_it_is_allocated() {
        let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
        let claimed_bytes = u32::MAX as usize;
        assert_eq!(
            decompress(&bomb, 10 << 20),
            Err(SnappyError::TooLong {
                claimed_bytes,
                limit_bytes: 10 << 20
            })
        );
        // within the limit, but more than six bytes can hold
        let mut claim = Vec::new();
        varint(10 << 20, &mut claim);
        claim.extend([0, 1]);
        assert_eq!(decompress(&claim, 10 << 20), Err(SnappyError::Corrupt));
    }

    #[test]
    fn the_densest_snappy_there_is_passes() {
        let text = vec![0; 1 << 20];
        let mut dense = Vec::new();
        varint(1 + 64 * 16_000, &mut dense);
        dense.extend([0, 0]); // a literal of one byte
        for _ in 0..16_000 {
            dense.extend([(63 << 2) | 2, 1, 0]); // 64 bytes from one back
        }
        let out = decompress(&dense, 10 << 20).unwrap();
        assert_eq!(out, text[..1 + 64 * 16_000]);
        let mut encoder = Encoder::new();
        let compressed = encoder.compress_vec(&text).unwrap();
        assert_eq!(decompress(&compressed, 1 << 20).unwrap(), text);
    }

    #[test]
    fn what_is_not_snappy_is_refused() {
        let good = Encoder::new()
            .compress_vec(b"some text, some text, some text")
            .unwrap();
        assert!(decompress(&good, 100).is_ok());
        for len in 0..good.len() {
            assert_eq!(
                decompress(&good[..len], 100),
                Err(SnappyError::Corrupt),
                "{len}"
            );
        }
        assert_eq!(decompress(&[0x80], 100), Err(SnappyError::Corrupt));
    }
}
