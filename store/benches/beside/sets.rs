//! What is stored: bodies that are in memory once, under rising headers that link.

use std::path::Path;

use alloy_rlp::Header;
use cairn_store::NewBlock;

use crate::common::{self, Block, Random};

/// Uncompressed bytes of a generated body, half of which is noise.
const BODY_BYTES: usize = 60_000;
const BODIES: usize = 256;

/// Bodies to be repeated. What they are is said in a sentence.
pub(crate) struct Set {
    pub(crate) bodies: Vec<Vec<u8>>,
    pub(crate) what: String,
}

impl Set {
    /// The set of this name, if it is there.
    pub(crate) fn of(name: &str) -> Option<Set> {
        match name {
            "generated" => {
                let mut random = Random(1);
                let bodies = (0..BODIES).map(|_| common::body(BODY_BYTES, &mut random));
                Some(Set {
                    bodies: bodies.collect(),
                    what: format!(
                        "Generated blocks: {BODIES} bodies of {BODY_BYTES} bytes, half of it noise, again and again."
                    ),
                })
            }
            _ => {
                let root = std::env::var_os("CAIRN_DATA")?;
                let bodies = mainnet(&Path::new(&root).join("mainnet"));
                let bytes: usize = bodies.iter().map(Vec::len).sum();
                let what = format!(
                    "Real blocks: {} bodies of mainnet (2015 to 2026, {} bytes on average), again and again, under \
                     generated headers that link.",
                    bodies.len(),
                    bytes / bodies.len().max(1)
                );
                (!bodies.is_empty()).then_some(Set { bodies, what })
            }
        }
    }

    pub(crate) fn body(&self, number: u64) -> &[u8] {
        &self.bodies[number as usize % self.bodies.len()]
    }

    /// The block of this header with the body of its number.
    pub(crate) fn block<'a>(&'a self, header: &'a Block) -> NewBlock<'a> {
        NewBlock {
            body: self.body(header.number),
            ..header.new_block()
        }
    }

    pub(crate) fn raw(&self, header: &Block) -> usize {
        header.header.len() + self.body(header.number).len()
    }
}

/// The bodies of every block in the folder's files `*blocks.rlp`.
fn mainnet(dir: &Path) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    names.retain(|path: &std::path::PathBuf| path.to_str().unwrap().ends_with("blocks.rlp"));
    names.sort();
    let mut bodies = Vec::new();
    for path in names {
        let bytes = std::fs::read(&path).unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let mut block = Header::decode_bytes(&mut rest, true).unwrap();
            Header::decode_bytes(&mut block, true).unwrap(); // the header
            let mut body = Vec::new();
            let payload_length = block.len();
            Header {
                list: true,
                payload_length,
            }
            .encode(&mut body);
            body.extend_from_slice(block);
            bodies.push(body);
        }
    }
    bodies
}

/// The list that these bytes are the items of begins so.
pub(crate) fn list_prefix(payload: usize) -> Vec<u8> {
    let mut out = Vec::new();
    Header {
        list: true,
        payload_length: payload,
    }
    .encode(&mut out);
    out
}

/// A body's snappy elements, without the length in front.
pub(crate) fn stream(body: &[u8]) -> Vec<u8> {
    let whole = snap::raw::Encoder::new().compress_vec(body).unwrap();
    let varint = 1 + whole.iter().position(|byte| byte & 0x80 == 0).unwrap();
    whole[varint..].to_vec()
}
