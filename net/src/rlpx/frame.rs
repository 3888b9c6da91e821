//! RLPx frames: laid out, then encrypted and authenticated where they lie; verified and decrypted where they lie.
//!
//! `header (16) || header MAC (16) || body, zero-padded to 16 || body MAC (16)`. A frame carries one message.
//! Source: devp2p `rlpx.md`, "Framing".

use std::fmt;

use aes::Aes256Enc;
use ctr::Ctr64BE;
use ctr::cipher::{KeyIvInit, StreamCipher};

use super::mac::{MAC_BYTES, MacState, equal};
use crate::keccak::{Keccak256, update_each};

/// AES-256-CTR. The initialization vector is zero, so a 64-bit counter gives the stream of the 128-bit one for the first
/// 2^64 blocks; no connection sends that much.
type Cipher = Ctr64BE<Aes256Enc>;

/// Bytes of a header with its MAC.
pub const HEADER_BYTES: usize = 16 + MAC_BYTES;

/// Most bytes a frame's body can have: its size is sent in 24 bits.
pub const BODY_LIMIT_BYTES: usize = (1 << 24) - 1;

/// How many bytes of a connection are encrypted and then hashed: they stay in the nearest caches between the two, beside those of the
/// other connections.
const PIECE_BYTES: usize = 16 << 10;

/// How many connections' frames [`seal_each`] seals at a time. One that has no more makes room for the next.
pub const SIDE_BY_SIDE: usize = 4;

const ZEROS: [u8; 16] = [0; 16];

/// A frame that is not the peer's next one: changed on the way, or not made by it. After this the stream is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The MAC of the header does not fit.
    HeaderMac,
    /// The MAC of the body does not fit.
    BodyMac,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameError::HeaderMac => "frame: wrong header MAC",
            FrameError::BodyMac => "frame: wrong body MAC",
        })
    }
}

impl std::error::Error for FrameError {}

/// Bytes on the wire that follow the header of a frame with a body of `body_bytes`: padding and MAC included.
pub fn rest_bytes(body_bytes: usize) -> usize {
    body_bytes.next_multiple_of(16) + MAC_BYTES
}

/// Reads the frames of one direction.
pub struct FrameReader {
    cipher: Cipher,
    mac: MacState,
}

impl FrameReader {
    /// A reader at the first frame after the handshake.
    pub fn new(aes_secret: &[u8; 32], mac: MacState) -> FrameReader {
        FrameReader {
            cipher: Cipher::new(aes_secret.into(), &ZEROS.into()),
            mac,
        }
    }

    /// Verifies a header and returns how many bytes the body has, without its padding: at most [`BODY_LIMIT_BYTES`].
    pub fn header(&mut self, bytes: &mut [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
        let (header, mac) = halves(bytes);
        if !equal(&self.mac.header(header), mac) {
            return Err(FrameError::HeaderMac);
        }
        self.cipher.apply_keystream(header);
        Ok(size(header))
    }

    /// Verifies and decrypts the rest of a frame, which is [`rest_bytes`] long, and returns its body.
    pub fn body<'a>(
        &mut self,
        bytes: &'a mut [u8],
        body_bytes: usize,
    ) -> Result<&'a mut [u8], FrameError> {
        assert_eq!(
            bytes.len(),
            rest_bytes(body_bytes),
            "the caller cuts frames by their header"
        );
        let (padded, mac) = bytes
            .split_last_chunk_mut::<MAC_BYTES>()
            .expect("rest_bytes counts the MAC");
        self.mac.absorbing().update(&*padded);
        if !equal(&self.mac.body(), mac) {
            return Err(FrameError::BodyMac);
        }
        self.cipher.apply_keystream(padded);
        Ok(&mut padded[..body_bytes])
    }
}

/// What a header says, in the clear. What follows the size ([capability-id, context-id]) is always zero and ignored by everybody.
fn size(header: &[u8; 16]) -> usize {
    usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2])
}

fn halves(bytes: &mut [u8; HEADER_BYTES]) -> (&mut [u8; 16], &mut [u8; MAC_BYTES]) {
    let (header, mac) = bytes.split_at_mut(16);
    (
        header.try_into().expect("split at its length"),
        mac.try_into().expect("split at its length"),
    )
}

/// Lays out a frame with a body of exactly `body_bytes`, which is then given to [`FrameBody::push`] in pieces. It can be sent once a
/// [`FrameWriter`] has sealed it.
///
/// # Panics
///
/// If the body is above [`BODY_LIMIT_BYTES`].
pub fn begin(body_bytes: usize, out: &mut Vec<u8>) -> FrameBody<'_> {
    assert!(body_bytes <= BODY_LIMIT_BYTES, "a frame's size has 24 bits");
    let size = (body_bytes as u32).to_be_bytes();
    let mut header = [0; HEADER_BYTES];
    header[..3].copy_from_slice(&size[1..]);
    header[3..6].copy_from_slice(&[0xc2, 0x80, 0x80]); // [capability-id, context-id], always [0, 0]
    out.reserve(HEADER_BYTES + rest_bytes(body_bytes));
    out.extend_from_slice(&header);
    FrameBody {
        out,
        body_bytes,
        missing_bytes: body_bytes,
    }
}

/// Lays out a whole frame.
pub fn lay_out(body: &[&[u8]], out: &mut Vec<u8>) {
    let mut frame = begin(body.iter().map(|piece| piece.len()).sum(), out);
    for piece in body {
        frame.push(piece);
    }
    frame.finish();
}

/// A frame that has its header and awaits its body.
#[must_use = "a frame that is not finished breaks the stream"]
#[derive(Debug)]
pub struct FrameBody<'a> {
    out: &'a mut Vec<u8>,
    body_bytes: usize,
    missing_bytes: usize,
}

impl FrameBody<'_> {
    /// Appends the next piece of the body.
    pub fn push(&mut self, piece: &[u8]) {
        self.missing_bytes = self
            .missing_bytes
            .checked_sub(piece.len())
            .expect("the pieces of a frame add up to its size");
        self.out.extend_from_slice(piece);
    }

    /// Pads the frame and leaves room for its MAC.
    pub fn finish(self) {
        assert_eq!(
            self.missing_bytes, 0,
            "the pieces of a frame add up to its size"
        );
        let end = self.out.len() + rest_bytes(self.body_bytes) - self.body_bytes;
        self.out.resize(end, 0);
    }
}

/// Seals the frames of one direction.
pub struct FrameWriter {
    cipher: Cipher,
    mac: MacState,
}

impl FrameWriter {
    /// A writer at the first frame after the handshake.
    pub fn new(aes_secret: &[u8; 32], mac: MacState) -> FrameWriter {
        FrameWriter {
            cipher: Cipher::new(aes_secret.into(), &ZEROS.into()),
            mac,
        }
    }

    /// Encrypts and authenticates frames that were laid out, where they lie.
    pub fn seal(&mut self, frames: &mut [u8]) {
        seal_each([(self, frames)]);
    }

    /// Writes a whole frame.
    pub fn write(&mut self, body: &[&[u8]], out: &mut Vec<u8>) {
        let start = out.len();
        lay_out(body, out);
        self.seal(&mut out[start..]);
    }
}

/// Seals the frames of several connections, those of each in order: their MACs are computed side by side, which is faster than one
/// after the other where the machine can.
pub fn seal_each<'a>(all: impl IntoIterator<Item = (&'a mut FrameWriter, &'a mut [u8])>) {
    let mut waiting = all
        .into_iter()
        .filter(|(_, frames)| !frames.is_empty())
        .map(|(writer, frames)| Sealing::start(writer, frames));
    let mut under_way: Vec<Sealing<'_>> = Vec::with_capacity(SIDE_BY_SIDE);
    loop {
        under_way.retain(|sealing| !sealing.is_done());
        under_way.extend(waiting.by_ref().take(SIDE_BY_SIDE - under_way.len()));
        if under_way.is_empty() {
            return;
        }
        let mut streams = Vec::with_capacity(SIDE_BY_SIDE);
        streams.extend(under_way.iter_mut().map(Sealing::encrypt));
        update_each(&mut streams);
        under_way.iter_mut().for_each(Sealing::close);
    }
}

/// The frames of one connection while they are sealed.
struct Sealing<'a> {
    writer: &'a mut FrameWriter,
    /// What is not encrypted yet of the frame under way, padding included, and where its MAC goes.
    frame: Option<(&'a mut [u8], &'a mut [u8; MAC_BYTES])>,
    /// The frames after it.
    rest: &'a mut [u8],
}

impl<'a> Sealing<'a> {
    fn start(writer: &'a mut FrameWriter, frames: &'a mut [u8]) -> Sealing<'a> {
        Sealing {
            writer,
            frame: None,
            rest: frames,
        }
    }

    fn is_done(&self) -> bool {
        self.frame.is_none() && self.rest.is_empty()
    }

    /// Encrypts the next piece, and the header if it is a frame's first, and gives what the body's MAC is to take.
    fn encrypt(&mut self) -> (&mut Keccak256, &[u8]) {
        let (body, mac) = match self.frame.take() {
            Some(frame) => frame,
            None => self.open(),
        };
        let (piece, body) = body.split_at_mut(body.len().min(PIECE_BYTES));
        self.writer.cipher.apply_keystream(piece);
        self.frame = Some((body, mac));
        (self.writer.mac.absorbing(), piece)
    }

    /// Seals the next frame's header, and gives its body and the place of its MAC.
    fn open(&mut self) -> (&'a mut [u8], &'a mut [u8; MAC_BYTES]) {
        const WHOLE: &str = "frames are laid out whole";
        let frames = std::mem::take(&mut self.rest);
        let (header, frames) = frames.split_first_chunk_mut().expect(WHOLE);
        let (header, mac) = halves(header);
        let body_bytes = size(header);
        self.writer.cipher.apply_keystream(header);
        *mac = self.writer.mac.header(header);
        let (frame, frames) = frames.split_at_mut(rest_bytes(body_bytes));
        self.rest = frames;
        frame.split_last_chunk_mut().expect(WHOLE)
    }

    /// Closes the frame with its MAC if all of it is encrypted.
    fn close(&mut self) {
        if let Some((_, mac)) = self.frame.take_if(|(body, _)| body.is_empty()) {
            *mac = self.writer.mac.body();
        }
    }
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameReader(..)")
    }
}

impl fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameWriter(..)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::vectors::GETH_FAKE_MAC_FRAME;
    use super::*;
    use crate::keccak::keccak256;

    fn pair() -> (FrameWriter, FrameReader) {
        let mac = || MacState::new(&[2; 32], Keccak256::new());
        (
            FrameWriter::new(&[1; 32], mac()),
            FrameReader::new(&[1; 32], mac()),
        )
    }

    fn read(reader: &mut FrameReader, wire: &mut [u8]) -> Result<Vec<u8>, FrameError> {
        let (header, rest) = wire.split_first_chunk_mut::<HEADER_BYTES>().unwrap();
        let body_bytes = reader.header(header)?;
        assert_eq!(rest.len(), rest_bytes(body_bytes));
        reader.body(rest, body_bytes).map(|body| body.to_vec())
    }

    /// The MACs of that vector are made up; its cipher text and its layout are not.
    #[test]
    fn header_and_body_are_encrypted_as_go_ethereum_does() {
        let secret = keccak256([]).0;
        let mut writer = FrameWriter::new(&secret, MacState::new(&secret, Keccak256::new()));
        let mut wire = Vec::new();
        writer.write(&[&[8, 0xc4, 1, 2, 3, 4]], &mut wire);
        assert_eq!(wire.len(), GETH_FAKE_MAC_FRAME.len());
        assert_eq!(wire[..16], GETH_FAKE_MAC_FRAME[..16]);
        assert_eq!(wire[32..48], GETH_FAKE_MAC_FRAME[32..48]);
    }

    #[test]
    fn bodies_of_every_length_survive_however_they_are_cut() {
        let (mut writer, mut reader) = pair();
        let text: Vec<u8> = (0..40_000u32).map(|at| (at * 7) as u8).collect();
        for len in [0, 1, 15, 16, 17, 31, 32, 8191, 8192, 8193, 40_000] {
            for pieces in [1, 2, 3, 7] {
                let mut wire = Vec::new();
                let mut frame = begin(len, &mut wire);
                for piece in text[..len].chunks(len / pieces + 1) {
                    frame.push(piece);
                }
                frame.finish();
                writer.seal(&mut wire);
                assert_eq!(wire.len(), HEADER_BYTES + rest_bytes(len));
                assert_eq!(read(&mut reader, &mut wire).unwrap(), text[..len]);
            }
        }
    }

    #[test]
    fn frames_sealed_side_by_side_are_those_sealed_alone() {
        let text: Vec<u8> = (0..200_000u32).map(|at| (at * 7) as u8).collect();
        let secret = |n: usize| [n as u8; 32];
        let writer = |n| FrameWriter::new(&secret(n), MacState::new(&secret(n), Keccak256::new()));
        // What each connection sends, one row at a time: nothing, short and long frames, more of them or fewer.
        let rows: [&[&[usize]]; 4] = [
            &[&[200_000], &[200_000], &[200_000], &[200_000]],
            &[&[0, 1, 16_384], &[], &[100_000, 5, 99_999], &[17]],
            &[
                &[5],
                &[150_000],
                &[],
                &[],
                &[40_000, 40_000],
                &[],
                &[33_333; 4],
            ],
            &[&[1000; 30], &[31_000], &[7], &[8], &[9]],
        ];
        let (mut alone, mut beside): (Vec<_>, Vec<_>) =
            (0..7).map(|n| (writer(n), writer(n))).unzip();
        for row in rows {
            let mut expected = Vec::new();
            let mut laid_out = Vec::new();
            for (lengths, writer) in row.iter().zip(&mut alone) {
                let (mut wire, mut plain) = (Vec::new(), Vec::new());
                for length in *lengths {
                    writer.write(&[&text[..*length]], &mut wire);
                    lay_out(&[&text[..*length]], &mut plain);
                }
                expected.push(wire);
                laid_out.push(plain);
            }
            let frames = laid_out.iter_mut().map(Vec::as_mut_slice);
            seal_each(beside.iter_mut().zip(frames));
            assert!(laid_out == expected, "{row:?}");
        }
    }

    #[test]
    fn any_changed_bit_and_any_repeated_frame_is_refused() {
        let mut wire = Vec::new();
        pair().0.write(&[b"a body of two blocks"], &mut wire);
        for bit in 0..wire.len() * 8 {
            let mut changed = wire.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 < HEADER_BYTES {
                true => FrameError::HeaderMac,
                false => FrameError::BodyMac,
            };
            assert_eq!(
                read(&mut pair().1, &mut changed),
                Err(expected),
                "bit {bit}"
            );
        }
        let mut reader = pair().1;
        assert!(read(&mut reader, &mut wire.clone()).is_ok());
        assert_eq!(read(&mut reader, &mut wire), Err(FrameError::HeaderMac));
    }
}
