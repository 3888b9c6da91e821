//! The chain that is served: blocks with bodies of about 60 kB that compress to 0.6, and above them blocks with empty ones.

use std::path::Path;

use alloy_primitives::{B256, U256, keccak256};
use alloy_rlp::{Encodable, Header};
use cairn_store::{Genesis, NewBlock, Writer};

/// Blocks with a body, from the first: more bytes than a processor's caches have.
pub(crate) const FULL: u64 = 2_048;
/// Blocks in all: three eras.
pub(crate) const BLOCKS: u64 = 3 * 8_192;
/// Uncompressed bytes of a body.
const BODY_BYTES: usize = 60_000;
/// Blocks of a commit.
const BATCH: usize = 256;

/// What a peer knows of the chain: hashes by number.
pub(crate) struct Chain {
    pub(crate) hashes: Vec<B256>,
}

/// Makes the store in `dir`.
pub(crate) fn make(dir: &Path) -> Chain {
    let mut random = Random(1);
    let empty = vec![0xc2, 0xc0, 0xc0];
    let (header, hash) = header(B256::ZERO, 0, &mut random);
    let difficulty = U256::from(2);
    let mut writer = Writer::create(
        &store(dir),
        &Genesis {
            chain_id: 1337,
            hash,
            difficulty,
            header: &header,
            body: &empty,
        },
    )
    .unwrap();
    let mut hashes = vec![hash];
    let mut batch = Vec::new();
    for number in 1..=BLOCKS {
        let (header, hash) = self::header(hashes[number as usize - 1], number, &mut random);
        let body = match number {
            1..=FULL => body(&mut random),
            _ => empty.clone(),
        };
        hashes.push(hash);
        batch.push((number, hash, header, body));
        if batch.len() == BATCH || number == BLOCKS {
            let new: Vec<NewBlock<'_>> = batch
                .iter()
                .map(|(number, hash, header, body)| NewBlock {
                    number: *number,
                    hash: *hash,
                    td: difficulty * U256::from(number + 1),
                    header,
                    body,
                    receipts: None,
                })
                .collect();
            writer.commit(&new, hash).unwrap();
            batch.clear();
        }
    }
    Chain { hashes }
}

/// Where it is.
pub(crate) fn store(dir: &Path) -> std::path::PathBuf {
    dir.join("blocks")
}

/// A header as long as mainnet's of today are, with roots and a bloom that do not compress.
fn header(parent: B256, number: u64, random: &mut Random) -> (Vec<u8>, B256) {
    let mut fields = Vec::new();
    parent.encode(&mut fields);
    B256::repeat_byte(1).encode(&mut fields);
    [7; 20].encode(&mut fields);
    for _ in 0..3 {
        random.noise::<32>().encode(&mut fields);
    }
    random.noise::<256>().as_slice().encode(&mut fields);
    2_u64.encode(&mut fields);
    number.encode(&mut fields);
    30_000_000_u64.encode(&mut fields);
    (random.next() % 30_000_000).encode(&mut fields);
    (1_700_000_000 + number).encode(&mut fields);
    [random.noise::<32>(), [0; 32], random.noise()].as_flattened()[..97 - 1].encode(&mut fields);
    B256::ZERO.encode(&mut fields);
    [0; 8].encode(&mut fields);
    let header = list(&fields);
    let hash = keccak256(&header);
    (header, hash)
}

/// A body with one transaction whose input is noise and zeros by turns.
fn body(random: &mut Random) -> Vec<u8> {
    let mut input = Vec::with_capacity(BODY_BYTES + 64);
    while input.len() < BODY_BYTES {
        input.extend_from_slice(&[0; 16]);
        input.extend_from_slice(&random.noise::<16>());
    }
    let mut transactions = Vec::new();
    input.as_slice().encode(&mut transactions);
    let mut lists = list(&transactions);
    lists.push(0xc0);
    list(&lists)
}

fn list(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Header {
        list: true,
        payload_length: payload.len(),
    }
    .encode(&mut out);
    out.extend_from_slice(payload);
    out
}

/// A small generator of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn noise<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for part in out.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]);
        }
        out
    }
}
