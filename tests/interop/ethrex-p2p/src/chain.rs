//! A chain as an era1 file holds it, and the bytes that answer a request for it.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use ethrex_common::H256;
use ethrex_common::utils::keccak;
use ethrex_rlp::decode::decode_rlp_item;
use snap::read::FrameDecoder;

// e2store: type (2 bytes), length (4), zero (2), data; little-endian.
const ENTRY_HEADER_BYTES: usize = 8;
const HEADER: u16 = 3;
const BODY: u16 = 4;
const RECEIPTS: u16 = 5;

/// A block, each part as RLP.
#[derive(Default)]
pub struct Block {
    /// Of its header.
    pub hash: H256,
    /// The header.
    pub header: Vec<u8>,
    /// `[transactions, ommers]`.
    pub body: Vec<u8>,
    /// The receipts as eth/68 sends them, with blooms.
    pub receipts: Vec<u8>,
}

/// A chain from block 0 on.
pub struct Chain {
    /// The blocks, each at the place of its number.
    pub blocks: Vec<Block>,
}

impl Chain {
    /// Reads an era1 file that begins at block 0.
    pub fn read(path: &Path) -> Chain {
        let bytes = fs::read(path).expect("the file was made");
        let mut rest = &bytes[..];
        let mut blocks: Vec<Block> = Vec::new();
        while let Some((head, data)) = rest.split_at_checked(ENTRY_HEADER_BYTES) {
            let kind = u16::from_le_bytes([head[0], head[1]]);
            let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]);
            let (data, after) = data.split_at(length as usize);
            rest = after;
            match kind {
                HEADER => {
                    let header = unframed(data);
                    let hash = keccak(&header);
                    blocks.push(Block {
                        hash,
                        header,
                        ..Block::default()
                    });
                }
                BODY => last(&mut blocks).body = unframed(data),
                RECEIPTS => last(&mut blocks).receipts = unframed(data),
                _ => {}
            }
        }
        Chain { blocks }
    }

    /// The number of the newest block.
    pub fn head(&self) -> u64 {
        self.blocks.len() as u64 - 1
    }

    /// The block of this hash.
    pub fn find(&self, hash: H256) -> Option<&Block> {
        self.blocks.iter().find(|block| block.hash == hash)
    }
}

fn last(blocks: &mut [Block]) -> &mut Block {
    blocks.last_mut().expect("a header comes first")
}

fn unframed(data: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    FrameDecoder::new(data)
        .read_to_end(&mut raw)
        .expect("framed snappy");
    raw
}

/// The items of an RLP list, each with its prefix.
pub fn items(list: &[u8]) -> Vec<&[u8]> {
    let (is_list, mut payload, rest) = decode_rlp_item(list).expect("RLP");
    assert!(is_list && rest.is_empty(), "one list");
    let mut items = Vec::new();
    while !payload.is_empty() {
        let (_, _, after) = decode_rlp_item(payload).expect("RLP");
        let (item, _) = payload.split_at(payload.len() - after.len());
        items.push(item);
        payload = after;
    }
    items
}

/// An RLP list of items that are RLP already.
pub fn list<I: AsRef<[u8]>>(items: &[I]) -> Vec<u8> {
    let length: usize = items.iter().map(|item| item.as_ref().len()).sum();
    let mut out = Vec::with_capacity(length + 9);
    ethrex_rlp::encode::encode_length(length, &mut out);
    for item in items {
        out.extend_from_slice(item.as_ref());
    }
    out
}

/// The receipts of a block in the form of eth/69: `[type, status, gas, logs]` each, without the bloom.
pub fn without_blooms(receipts: &[u8]) -> Vec<u8> {
    let each = items(receipts).into_iter().map(|receipt| {
        let (is_list, payload, _) = decode_rlp_item(receipt).expect("RLP");
        let (kind, fields) = match is_list {
            true => (0x80, receipt), // zero, as RLP writes it
            false => (payload[0], &payload[1..]),
        };
        let fields = items(fields);
        list(&[&[kind][..], fields[0], fields[1], fields[3]])
    });
    list(&each.collect::<Vec<_>>())
}
