//! Reading of the data folder that CAIRN_DATA names, for the tests that need it.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test program uses a part of it"
)]

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::U256;
use bytes::Bytes;
use cairn::chain::{SealedHeader, body};

/// The data folder, or `None` where the tests are to be skipped.
pub fn data(path: &str) -> Option<PathBuf> {
    match std::env::var_os("CAIRN_DATA") {
        Some(folder) => Some(PathBuf::from(folder).join(path)),
        None => {
            eprintln!("skipped: CAIRN_DATA is not set");
            None
        }
    }
}

pub struct Block {
    pub header: Arc<SealedHeader>,
    pub body: Vec<u8>,
    pub raw: Vec<u8>,
}

pub fn blocks(path: &Path) -> Vec<Block> {
    let file = fs::read(path).unwrap();
    let mut rest = &file[..];
    let mut blocks = Vec::new();
    while let Some(raw) = body::next_block(&mut rest).unwrap() {
        let (header, _) = body::split_block(raw).unwrap();
        blocks.push(Block {
            header: Arc::new(SealedHeader::decode(Bytes::copy_from_slice(header)).unwrap()),
            body: body::body_of_block(raw).unwrap(),
            raw: raw.to_vec(),
        });
    }
    blocks
}

/// The blocks of an era1 file (e2store records, header and body in framed snappy), each with its total difficulty.
pub fn era1(path: &Path) -> Vec<(Block, U256)> {
    let file = fs::read(path).unwrap();
    let mut rest = &file[..];
    let mut blocks = Vec::new();
    let (mut header, mut body) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let kind = u16::from_le_bytes([rest[0], rest[1]]);
        let length = u32::from_le_bytes(rest[2..6].try_into().unwrap()) as usize;
        let value = &rest[8..8 + length];
        rest = &rest[8 + length..];
        let unpacked = || {
            let mut bytes = Vec::new();
            snap::read::FrameDecoder::new(value)
                .read_to_end(&mut bytes)
                .unwrap();
            bytes
        };
        match kind {
            3 => header = unpacked(),
            4 => body = unpacked(),
            6 => {
                let block = Block {
                    raw: body::join_block(&header, &body).unwrap(),
                    header: Arc::new(SealedHeader::decode(Bytes::from(header.clone())).unwrap()),
                    body: body.clone(),
                };
                blocks.push((block, U256::try_from_le_slice(value).unwrap()));
            }
            _ => {}
        }
    }
    blocks
}
