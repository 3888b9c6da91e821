//! Memory that sessions take turns with: one needs it while it is at work, and none while it waits.

use std::ops::Range;

use snap::raw::{Encoder, max_compress_len};

use super::buffers::Buffers;
use crate::limits::{SEALED_TOGETHER, WORKSPACE_BYTES};

/// Buffers for messages on their way out and in, and the compressor's tables. The owner of many sessions lends one to each for its turn
/// ([`Session::lend`](super::Session::lend)), so that a great answer needs no memory that is new, and an idle session has none.
#[derive(Default)]
pub struct Workspace {
    /// A message before it is compressed.
    pub(super) text: Vec<u8>,
    pub(super) packer: Packer,
    /// What the session that works writes its output into, and what those that wait to be sealed beside it will.
    pub(super) outputs: Vec<Vec<u8>>,
    /// What long messages that come in are decompressed into.
    pub(super) buffers: Buffers,
    /// What the last frame that came in parts was put together in, empty.
    pub(super) input: Vec<u8>,
}

impl Workspace {
    /// Gives back what is longer than an answer needs.
    pub(super) fn trim(&mut self) {
        for buffer in [&mut self.text, &mut self.packer.packed, &mut self.input] {
            if buffer.capacity() > WORKSPACE_BYTES {
                *buffer = Vec::new();
            }
        }
        self.outputs
            .retain(|buffer| buffer.capacity() <= WORKSPACE_BYTES);
        self.outputs.truncate(SEALED_TOGETHER);
    }

    /// Nobody works: gives back what only many sessions at once need, and what only much that comes in does.
    pub(crate) fn rest(&mut self) {
        self.outputs.truncate(1);
        self.input = Vec::new();
    }

    /// Gives back the memory for long messages if none has come in a while.
    pub(crate) fn rest_buffers(&mut self, now_ms: u64) {
        self.buffers.rest(now_ms);
    }

    /// When that is due.
    pub(crate) fn rests_at_ms(&self) -> Option<u64> {
        self.buffers.rests_at_ms()
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Workspace(..)")
    }
}

/// Compresses into memory that is used again.
pub(super) struct Packer {
    encoder: Encoder,
    /// As long as the longest that was asked for; what was compressed last is at the front.
    packed: Vec<u8>,
}

impl Default for Packer {
    fn default() -> Packer {
        Packer {
            encoder: Encoder::new(),
            packed: Vec::new(),
        }
    }
}

impl Packer {
    /// A whole snappy message.
    pub(super) fn message(&mut self, text: &[u8]) -> &[u8] {
        let bytes = self.append(text, 0);
        &self.packed[..bytes]
    }

    /// The elements of each text alone, without the length before them.
    pub(super) fn streams(&mut self, texts: &[&[u8]]) -> Vec<&[u8]> {
        self.reserve(texts.iter().map(|text| max_compress_len(text.len())).sum());
        let mut end = 0;
        let places: Vec<Range<usize>> = texts
            .iter()
            .map(|text| {
                let start = end;
                end += self.append(text, start);
                start + length_bytes(text.len())..end
            })
            .collect();
        places.into_iter().map(|at| &self.packed[at]).collect()
    }

    /// Compresses to `start`; gives the number of bytes.
    fn append(&mut self, text: &[u8], start: usize) -> usize {
        self.reserve(start + max_compress_len(text.len()));
        self.encoder
            .compress(text, &mut self.packed[start..])
            .expect("snappy compresses anything below 4 GiB, and messages are held to 10 MiB")
    }

    fn reserve(&mut self, bytes: usize) {
        if self.packed.len() < bytes {
            self.packed.resize(bytes, 0);
        }
    }
}

/// Bytes of snappy's length before the elements: seven bits each.
fn length_bytes(length: usize) -> usize {
    (length.max(1).ilog2() as usize) / 7 + 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn streams_that_are_compressed_alone_are_what_a_message_has_behind_its_length() {
        let mut packer = Packer::default();
        let text: Vec<u8> = (0..300_000u32).map(|at| (at / 5 * 31) as u8).collect();
        for length in [0, 1, 127, 128, 16_383, 16_384, 65_536, 300_000] {
            let message = packer.message(&text[..length]).to_vec();
            let texts = [&text[1..], &text[..length], &text[2..]];
            let streams = packer.streams(&texts);
            assert_eq!(streams[1], &message[length_bytes(length)..], "{length}");
            let mut back = message[..length_bytes(length)].to_vec();
            back.extend_from_slice(streams[1]);
            let back = snap::raw::Decoder::new().decompress_vec(&back).unwrap();
            assert_eq!(back, text[..length], "{length}");
        }
    }

    #[test]
    fn what_a_great_message_took_is_given_back() {
        let mut workspace = Workspace::default();
        workspace.text.resize(WORKSPACE_BYTES, 0);
        workspace.packer.message(&vec![0; WORKSPACE_BYTES]);
        workspace.outputs = vec![
            Vec::with_capacity(2 * WORKSPACE_BYTES),
            Vec::with_capacity(9),
        ];
        workspace.trim();
        assert!(workspace.text.capacity() >= WORKSPACE_BYTES);
        assert_eq!(workspace.packer.packed.capacity(), 0);
        assert_eq!(workspace.outputs.len(), 1);
        assert!(workspace.outputs[0].capacity() < WORKSPACE_BYTES);
    }
}
