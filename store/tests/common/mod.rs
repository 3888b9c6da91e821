//! Chains for the tests: real header RLP with real hashes, bodies that compress about as real ones do.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;

use alloy_primitives::{B256, U256, keccak256};
use alloy_rlp::{Encodable, Header};
use cairn_store::check::{self, Report};
use cairn_store::{Error, Genesis, Head, NewBlock, Reader, Snapshot, Writer};

#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) hash: B256,
    pub(crate) td: U256,
    pub(crate) header: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) receipts: Option<Vec<u8>>,
}

impl Block {
    pub(crate) fn new_block(&self) -> NewBlock<'_> {
        NewBlock {
            number: self.number,
            hash: self.hash,
            td: self.td,
            header: &self.header,
            body: &self.body,
            receipts: self.receipts.as_deref(),
        }
    }

    pub(crate) fn genesis(&self) -> Genesis<'_> {
        Genesis {
            chain_id: 1337,
            hash: self.hash,
            difficulty: self.td,
            header: &self.header,
            body: &self.body,
        }
    }

    pub(crate) fn head(&self) -> Head {
        Head {
            number: self.number,
            hash: self.hash,
            td: self.td,
        }
    }
}

/// A small generator of numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A body of about `size` bytes whose one transaction is half noise; an empty body for 0.
pub(crate) fn body(size: usize, random: &mut Random) -> Vec<u8> {
    if size == 0 {
        return if random.below(2) == 0 {
            vec![0xc2, 0xc0, 0xc0]
        } else {
            vec![0xc3, 0xc0, 0xc0, 0xc0]
        };
    }
    let mut call = Vec::with_capacity(size + 64);
    while call.len() < size {
        call.extend_from_slice(&[0; 16]);
        call.extend_from_slice(&random.next().to_be_bytes());
        call.extend_from_slice(&random.next().to_be_bytes());
    }
    call.truncate(size);
    let mut transactions = Vec::new();
    call.as_slice().encode(&mut transactions);
    let mut lists = Vec::new();
    Header {
        list: true,
        payload_length: transactions.len(),
    }
    .encode(&mut lists);
    lists.extend_from_slice(&transactions);
    lists.push(0xc0);
    let mut body = Vec::new();
    Header {
        list: true,
        payload_length: lists.len(),
    }
    .encode(&mut body);
    body.extend_from_slice(&lists);
    body
}

pub(crate) fn block(parent: Option<&Block>, extra: u64, size: usize) -> Block {
    let number = parent.map_or(0, |parent| parent.number + 1);
    let difficulty = if parent.is_some() { 2_u64 } else { 0x20_0000 };
    let mut fields = Vec::new();
    parent
        .map_or(B256::ZERO, |parent| parent.hash)
        .encode(&mut fields);
    B256::repeat_byte(1).encode(&mut fields);
    [7_u8; 20].encode(&mut fields);
    for i in 2..5 {
        B256::repeat_byte(i).encode(&mut fields);
    }
    [0_u8; 256].as_slice().encode(&mut fields);
    difficulty.encode(&mut fields);
    number.encode(&mut fields);
    30_000_000_u64.encode(&mut fields);
    21_000_u64.encode(&mut fields);
    (1_700_000_000 + number).encode(&mut fields);
    extra.to_be_bytes().as_slice().encode(&mut fields);
    B256::repeat_byte(9).encode(&mut fields);
    [0_u8; 8].encode(&mut fields);
    let mut header = Vec::new();
    Header {
        list: true,
        payload_length: fields.len(),
    }
    .encode(&mut header);
    header.extend_from_slice(&fields);
    let mut random = Random(number ^ extra << 32);
    Block {
        number,
        hash: keccak256(&header),
        td: parent.map_or(U256::ZERO, |parent| parent.td) + U256::from(difficulty),
        header,
        body: body(size, &mut random),
        receipts: None,
    }
}

/// Block 0 and `count` blocks on it, with bodies of about `size` bytes.
pub(crate) fn chain(count: u64, size: usize) -> Vec<Block> {
    let mut blocks = vec![block(None, 0, 0)];
    extend(&mut blocks, count, 0, size);
    blocks
}

pub(crate) fn extend(blocks: &mut Vec<Block>, count: u64, extra: u64, size: usize) {
    for _ in 0..count {
        blocks.push(block(blocks.last(), extra, size));
    }
}

pub(crate) fn create(dir: &Path, blocks: &[Block]) -> Writer {
    Writer::create(dir, &blocks[0].genesis()).unwrap()
}

/// Commits blocks, the last of which becomes the head.
pub(crate) fn commit(writer: &mut Writer, blocks: &[Block]) -> Result<Head, Error> {
    let new: Vec<NewBlock<'_>> = blocks.iter().map(Block::new_block).collect();
    writer.commit(&new, blocks.last().unwrap().hash)
}

/// Checks everything a snapshot can say of one canonical block.
pub(crate) fn assert_block(snapshot: &Snapshot, block: &Block) {
    let n = block.number;
    assert_eq!(
        &*snapshot.header(n).unwrap().unwrap(),
        &block.header[..],
        "header {n}"
    );
    assert_eq!(snapshot.body(n).unwrap().unwrap(), block.body, "body {n}");
    assert_eq!(snapshot.hash(n).unwrap(), Some(block.hash), "hash {n}");
    assert_eq!(snapshot.number(&block.hash).unwrap(), Some(n), "number {n}");
    assert_eq!(
        snapshot.receipts(n).unwrap(),
        block.receipts,
        "receipts {n}"
    );
}

/// Checks a whole chain, and that nothing is above it.
pub(crate) fn assert_chain(snapshot: &Snapshot, blocks: &[Block]) {
    assert_eq!(snapshot.head(), blocks.last().unwrap().head());
    for block in blocks {
        assert_block(snapshot, block);
    }
    for block in blocks
        .iter()
        .step_by(1 + blocks.len() / 20)
        .chain(blocks.last())
    {
        assert_eq!(
            snapshot.td(block.number).unwrap(),
            Some(block.td),
            "td {}",
            block.number
        );
    }
    let above = blocks.last().unwrap().number + 1;
    assert!(snapshot.header(above).unwrap().is_none());
    assert!(snapshot.body(above).unwrap().is_none());
    assert_eq!(snapshot.hash(above).unwrap(), None);
    assert_eq!(snapshot.td(above).unwrap(), None);
    let mut joined = Vec::new();
    let count = snapshot
        .headers(0, usize::MAX, &mut |bytes| joined.extend_from_slice(bytes))
        .unwrap();
    assert_eq!(count, blocks.len());
    assert_eq!(
        joined,
        blocks
            .iter()
            .flat_map(|block| block.header.clone())
            .collect::<Vec<u8>>()
    );
}

/// Opens the store anew, for reading, and checks a whole chain.
pub(crate) fn assert_stored(dir: &Path, blocks: &[Block]) {
    assert_chain(&Reader::open(dir).unwrap().snapshot(), blocks);
    let report = verify(dir);
    assert!(report.is_sound(), "{report:#?}");
    assert_eq!(report.head, Some(blocks.last().unwrap().head()));
}

pub(crate) fn verify(dir: &Path) -> Report {
    let (mut last, mut whole) = (0, 0);
    let report = check::verify(dir, &mut |done, of| {
        assert!(done >= last && done <= of, "{done} of {of}");
        (last, whole) = (done, of);
    });
    let report = report.unwrap();
    assert_eq!(last, whole);
    report
}
