//! What a store must hold: small blocks, the canonical chain of them, and how a snapshot is compared with that.

use std::path::Path;
use std::rc::Rc;

use alloy_primitives::{B256, U256, keccak256};
use alloy_rlp::{Encodable, Header};

use crate::machine::STORE;
use crate::random::Random;
use crate::{Error, Genesis, Head, NewBlock, Snapshot, check};

pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) hash: B256,
    pub(crate) td: U256,
    pub(crate) header: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) receipts: Vec<u8>,
    /// Whether it is given with its receipts.
    pub(crate) with_receipts: bool,
}

fn list(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 4);
    Header {
        list: true,
        payload_length: payload.len(),
    }
    .encode(&mut out);
    out.extend_from_slice(payload);
    out
}

impl Block {
    /// A child; the same `variant` of the same parent is the same block.
    pub(crate) fn new(parent: Option<&Block>, variant: u64) -> Rc<Block> {
        let number = parent.map_or(0, |parent| parent.number + 1);
        let difficulty = 1 + variant % 3;
        let mut fields = Vec::with_capacity(80);
        parent
            .map_or(B256::ZERO, |parent| parent.hash)
            .encode(&mut fields);
        fields.extend_from_slice(&[0x80; 6]);
        difficulty.encode(&mut fields);
        number.encode(&mut fields);
        variant.encode(&mut fields);
        let header = list(&fields);
        let hash = keccak256(&header);
        let mut random = Random(u64::from_be_bytes(hash[..8].try_into().unwrap()));
        let body = match random.below(4) {
            0 => vec![0xc2, 0xc0, 0xc0],
            1 => vec![0xc3, 0xc0, 0xc0, 0xc0],
            2 => noise(&mut random, 40),
            _ => noise(&mut random, 500),
        };
        let receipts = match random.below(3) {
            0 => vec![0xc0],
            _ => noise(&mut random, 90),
        };
        Rc::new(Block {
            number,
            hash,
            td: parent.map_or(U256::ZERO, |parent| parent.td) + U256::from(difficulty),
            header,
            body,
            receipts,
            with_receipts: random.below(3) > 0,
        })
    }

    pub(crate) fn as_new(&self) -> NewBlock<'_> {
        NewBlock {
            number: self.number,
            hash: self.hash,
            td: self.td,
            header: &self.header,
            body: &self.body,
            receipts: self.with_receipts.then_some(&self.receipts[..]),
        }
    }

    pub(crate) fn as_genesis(&self) -> Genesis<'_> {
        Genesis {
            chain_id: 7,
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

fn noise(random: &mut Random, most: u64) -> Vec<u8> {
    let length = 1 + random.below(most) as usize;
    let mut text = Vec::with_capacity(length + 8);
    while text.len() < length {
        text.extend_from_slice(&random.next().to_le_bytes());
        text.extend_from_slice(&[0; 5]);
    }
    list(&text)
}

/// Whether a block's receipts are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Has {
    No,
    Yes,
    /// They were given late, and since then a block may have been taken up again without.
    Maybe,
}

/// What a store holds.
#[derive(Clone)]
pub(crate) struct Model {
    /// The canonical chain from genesis on, also what the store does not keep of it.
    pub(crate) chain: Vec<Rc<Block>>,
    pub(crate) has: Vec<Has>,
    pub(crate) first_header: u64,
    pub(crate) first_body: u64,
}

impl Model {
    pub(crate) fn head(&self) -> &Rc<Block> {
        self.chain.last().expect("there is a genesis block")
    }

    /// Says what differs between a snapshot and what must be there.
    pub(crate) fn compare(&self, snapshot: &Snapshot, random: &mut Random) -> Result<(), String> {
        let head = self.head().head();
        if snapshot.head() != head {
            return Err(format!(
                "head {} {}, and must be {} {}",
                snapshot.head().number,
                snapshot.head().hash,
                head.number,
                head.hash
            ));
        }
        let says = (snapshot.first_header(), snapshot.first_body());
        let expected = (self.first_header, self.first_body);
        if says != expected {
            return Err(format!("begins at {says:?}, and must at {expected:?}"));
        }
        self.compare_blocks(snapshot, random)
            .map_err(|(n, e)| format!("block {n}: {e}"))?;
        let fault = |e: Error| e.to_string();
        let kept = &self.chain[self.first_header as usize..];
        let mut headers = Vec::new();
        let count = snapshot
            .headers(self.first_header, usize::MAX, &mut |bytes| {
                headers.extend_from_slice(bytes);
            })
            .map_err(fault)?;
        if count != kept.len()
            || headers
                != kept
                    .iter()
                    .flat_map(|b| b.header.clone())
                    .collect::<Vec<_>>()
        {
            return Err(format!(
                "{count} headers in a row, and must be {}",
                kept.len()
            ));
        }
        let above = head.number + 1;
        if snapshot.header(above).map_err(fault)?.is_some()
            || snapshot.hash(above).map_err(fault)?.is_some()
        {
            return Err("a block above the head".to_owned());
        }
        Ok(())
    }

    fn compare_blocks(
        &self,
        snapshot: &Snapshot,
        random: &mut Random,
    ) -> Result<(), (u64, String)> {
        let ask_td = random.below(self.chain.len() as u64);
        for (block, has) in self.chain.iter().zip(&self.has) {
            let n = block.number;
            let fault = |e: Error| (n, e.to_string());
            let differs = |what: &str| Err((n, format!("{what} is not what was given")));
            let kept = n >= self.first_header;
            if kept
                != snapshot
                    .header(n)
                    .map_err(fault)?
                    .is_some_and(|header| header[..] == block.header)
            {
                return differs("header");
            }
            if kept && snapshot.hash(n).map_err(fault)? != Some(block.hash) {
                return differs("hash");
            }
            if snapshot.number(&block.hash).map_err(fault)? != kept.then_some(n) {
                return differs("number by hash");
            }
            if n == ask_td && kept && snapshot.td(n).map_err(fault)? != Some(block.td) {
                return differs("total difficulty");
            }
            let body = snapshot.body(n).map_err(fault)?;
            if body.as_ref() != Some(&block.body).filter(|_| n >= self.first_body) {
                return differs("body");
            }
            match (has, snapshot.receipts(n).map_err(fault)?) {
                (Has::Yes | Has::Maybe, Some(receipts)) if receipts == block.receipts => {}
                (Has::No | Has::Maybe, None) => {}
                (has, receipts) => {
                    return Err((n, format!("receipts {has:?}, found {}", receipts.is_some())));
                }
            }
        }
        Ok(())
    }

    /// What `verify` says of the store on the disk.
    pub(crate) fn verify(&self) -> Result<(), String> {
        let report = check::verify(Path::new(STORE), &mut |_, _| {}).map_err(|e| e.to_string())?;
        if !report.is_sound() {
            return Err(format!("verify: {:?}", report.problems));
        }
        let headers = self.chain.len() as u64 - self.first_header + report.side_blocks;
        if report.headers != headers {
            return Err(format!(
                "verify read {} headers of {headers}",
                report.headers
            ));
        }
        Ok(())
    }
}
