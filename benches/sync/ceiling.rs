//! The ceilings: what a receiver and a checker of the same blocks cannot do without, each on one thread.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;

use aes::Aes256Enc;
use alloy_primitives::keccak256;
use alloy_trie::root::ordered_trie_root_encoded;
use cairn::chain::{SealedHeader, body, clique};
use cairn_net::keccak::Keccak256;
use ctr::Ctr64BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use snap::raw::{Decoder, Encoder};

use crate::chains;
use crate::machine::thread_cpu;

/// What a body answer weighs.
const ANSWER_BYTES: usize = 3 << 19;
/// Bytes that go from the MAC to the cipher while they are in the nearest cache.
const CHUNK_BYTES: usize = 8 << 10;
/// Blocks that are looked at: more bytes than the caches have.
const BLOCKS: u64 = 1_024;

/// Headers in a message of them.
const HEADERS: usize = 512;

/// Blocks as they come over the wire, and as they are checked.
pub(crate) struct Sample {
    /// Enciphered messages: of bodies, or of headers where bodies are empty and not asked for.
    messages: Vec<Vec<u8>>,
    blocks: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of the headers and bodies.
    pub(crate) bytes: usize,
}

/// CPU seconds for all blocks of a sample.
pub(crate) struct Floor {
    /// MAC, AES, decompression.
    pub(crate) receive: f64,
    /// The roots of the body and the hash of the header.
    pub(crate) roots: f64,
    /// Compression, and the copy into a file.
    pub(crate) store: f64,
    /// The recovery of the signer, where there is a seal.
    pub(crate) seal: f64,
}

impl Floor {
    /// All that a checker must do.
    pub(crate) fn check(&self) -> f64 {
        self.roots + self.store + self.seal
    }
}

fn cipher() -> Ctr64BE<Aes256Enc> {
    Ctr64BE::new(&[1; 32].into(), &[0; 16].into())
}

impl Sample {
    /// Of the first blocks of a data folder, which bodies are asked for.
    pub(crate) fn of(dir: &Path) -> Sample {
        let chain = chains::reader(dir).snapshot();
        let (mut messages, mut streams, mut raw) = (vec![], vec![], 0);
        let last = chain.head().number.min(BLOCKS);
        for number in 1..=last {
            let body = chain.body_stream(number).unwrap().unwrap();
            streams.extend_from_slice(&body.stream);
            raw += body.raw_len;
            if raw >= ANSWER_BYTES || number == last {
                let mut message = length(raw);
                message.append(&mut streams);
                messages.push(message);
                raw = 0;
            }
        }
        Sample::new(dir, messages)
    }

    /// Of the first blocks of a data folder, of which the headers are all that is asked for.
    pub(crate) fn of_headers(dir: &Path) -> Sample {
        let mut sample = Sample::new(dir, vec![]);
        let runs = sample.blocks.chunks(HEADERS).map(|run| {
            let headers: Vec<&[u8]> = run.iter().map(|(header, _)| &header[..]).collect();
            Encoder::new().compress_vec(&headers.concat()).unwrap()
        });
        sample.messages = enciphered(runs.collect());
        sample
    }

    fn new(dir: &Path, messages: Vec<Vec<u8>>) -> Sample {
        let chain = chains::reader(dir).snapshot();
        let blocks = (1..=chain.head().number.min(BLOCKS)).map(|number| {
            let header = chain.header(number).unwrap().unwrap().to_vec();
            (header, chain.body(number).unwrap().unwrap())
        });
        let blocks: Vec<(Vec<u8>, Vec<u8>)> = blocks.collect();
        let bytes = blocks
            .iter()
            .map(|(header, body)| header.len() + body.len());
        Sample {
            bytes: bytes.sum(),
            messages: enciphered(messages),
            blocks,
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// What of its bytes goes over the wire.
    pub(crate) fn compresses_to(&self) -> f64 {
        let wire: usize = self.messages.iter().map(Vec::len).sum();
        wire as f64 / self.bytes as f64
    }

    pub(crate) fn floor(&self, dir: &Path) -> Floor {
        Floor {
            receive: self.receive(),
            roots: self.roots(),
            store: self.store(dir),
            seal: self.seal(),
        }
    }

    fn receive(&self) -> f64 {
        let mut wire = self.messages.clone();
        let (mut cipher, mut mac) = (cipher(), Keccak256::new());
        let mut decoder = Decoder::new();
        let mut body = vec![0; 2 * ANSWER_BYTES];
        timed(|| {
            for message in &mut wire {
                for chunk in message.chunks_mut(CHUNK_BYTES) {
                    mac.update(&*chunk);
                    cipher.apply_keystream(chunk);
                }
                black_box(decoder.decompress(message, &mut body).unwrap());
            }
        })
    }

    fn roots(&self) -> f64 {
        timed(|| {
            for (header, body) in &self.blocks {
                black_box(keccak256(header));
                black_box(body::roots(body).unwrap());
            }
        })
    }

    /// CPU seconds for the roots of the transactions alone, by our code and by alloy-trie's.
    pub(crate) fn ordered(&self) -> [f64; 2] {
        let ours = timed(|| {
            for (_, body) in &self.blocks {
                black_box(body::roots(body).unwrap());
            }
        });
        let alloys = timed(|| {
            for (_, body) in &self.blocks {
                let leaves: Vec<&[u8]> = body::transactions(body).collect();
                black_box(ordered_trie_root_encoded(&leaves));
            }
        });
        [ours, alloys]
    }

    fn store(&self, dir: &Path) -> f64 {
        let mut file = tempfile::tempfile_in(dir).unwrap();
        timed(|| self.append(&mut file))
    }

    fn append(&self, file: &mut File) {
        let mut encoder = Encoder::new();
        let mut out = Vec::new();
        for (header, body) in &self.blocks {
            let start = out.len();
            out.resize(start + snap::raw::max_compress_len(body.len()), 0);
            let bytes = encoder.compress(body, &mut out[start..]).unwrap();
            out.truncate(start + bytes);
            out.extend_from_slice(header);
            if out.len() >= ANSWER_BYTES {
                file.write_all(&out).unwrap();
                out.clear();
            }
        }
        file.write_all(&out).unwrap();
    }

    fn seal(&self) -> f64 {
        let headers = self.blocks.iter();
        let headers: Vec<SealedHeader> = headers
            .map(|(header, _)| SealedHeader::decode(header.clone().into()).unwrap())
            .collect();
        timed(|| {
            for header in &headers {
                let _ = black_box(clique::signer(&header.header)); // of a chain without seals it fails at once
            }
        })
    }
}

/// CPU seconds that this takes.
fn timed(work: impl FnOnce()) -> f64 {
    let before = thread_cpu();
    work();
    (thread_cpu() - before).as_secs_f64()
}

fn enciphered(mut messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut cipher = cipher();
    for message in &mut messages {
        cipher.apply_keystream(message);
    }
    messages
}

/// Snappy's length before the elements: seven bits a byte, the lowest first.
fn length(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}
