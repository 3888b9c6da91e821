//! A simulated peer: what it has, how fast it is, and how it answers.

use std::sync::Arc;

use alloy_eip2124::{ForkHash, ForkId};
use alloy_primitives::{B256, U256};
use bytes::Bytes;
use cairn_net::enode::NodeId;
use cairn_net::eth::message::{Message, Request, Start};
use cairn_net::eth::status::Status;
use cairn_net::reactor::PeerId;
use cairn_net::session::PeerInfo;

use super::chain::{Chain, SimBlock, list, receipts_of};
use super::liars::Lie;
use crate::chain::receipts::{Form, convert};
use crate::chain::rlp;

/// How a peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// As it should.
    Honest,
    /// As it should, within its means: an old chain, few items an answer, a slow line, bodies it has not got.
    Poor,
    /// Comes and goes.
    Flighty,
    /// Not as it should.
    Liar(Lie),
}

/// One connection's other end.
#[derive(Clone, Debug)]
pub(super) struct SimPeer {
    pub(super) id: PeerId,
    pub(super) nature: Nature,
    pub(super) chain: Chain,
    pub(super) eth: u8,
    pub(super) client: &'static str,
    pub(super) latency_ms: u64,
    pub(super) bytes_per_ms: u64,
    /// Items in one answer at the most.
    pub(super) most: usize,
    /// The first body it has.
    pub(super) earliest: u64,
    /// The first block whose receipts it has.
    pub(super) receipts_from: u64,
    /// Its chain begins with this block.
    pub(super) headers_from: u64,
    /// Bytes of receipts after which it ends an answer.
    pub(super) receipt_bytes: usize,
    /// When it is done with what it was asked so far: it answers one after the other.
    pub(super) busy_until_ms: u64,
    pub(super) answered: u64,
    pub(super) connected: bool,
}

impl SimPeer {
    pub(super) fn head(&self) -> &Arc<SimBlock> {
        self.chain.last().unwrap()
    }

    /// What its Status says, to a node whose own told it of this head.
    pub(super) fn info(&self, told_head: u64) -> Arc<PeerInfo> {
        let head = self.head();
        let inflated = matches!(self.nature, Nature::Liar(lie) if lie.boasts());
        let hash = if inflated {
            B256::repeat_byte(0xbb)
        } else {
            head.header.hash
        };
        let boast = if inflated { 1_000_000 } else { 0 };
        let mut id = [0; 64];
        id[..8].copy_from_slice(&self.id.0.to_be_bytes());
        Arc::new(PeerInfo {
            id: NodeId(id),
            client: self.client.into(),
            eth: self.eth,
            status: Status {
                version: self.eth,
                network_id: 4242,
                genesis: self.chain[0].header.hash,
                fork_id: ForkId {
                    hash: ForkHash([0; 4]),
                    next: 0,
                },
                td: (self.eth == 68).then(|| head.td + U256::from(boast)),
                head: hash,
                earliest: (self.eth > 68).then_some(self.earliest),
                latest: (self.eth > 68).then(|| head.number() + boast),
            },
            inbound: false,
            told_head,
        })
    }

    fn at(&self, number: u64) -> Option<&Arc<SimBlock>> {
        self.chain.get(usize::try_from(number).ok()?)
    }

    fn find(&self, hash: &B256) -> Option<&Arc<SimBlock>> {
        self.chain.iter().find(|block| block.header.hash == *hash)
    }

    /// The honest answer to a request.
    pub(super) fn answer(&self, id: u64, request: &Request) -> Message {
        match request {
            Request::Headers {
                start,
                amount,
                skip,
                reverse,
            } => {
                assert_eq!(*skip, 0);
                let first = match start {
                    Start::Number(number) => self.at(*number),
                    Start::Hash(hash) => self.find(hash),
                };
                let mut headers = Vec::new();
                let mut next = first.map(|block| block.number());
                let has = |number: &u64| *number >= self.headers_from;
                while let Some(block) = next.filter(has).and_then(|number| self.at(number)) {
                    if headers.len() as u64 == *amount || headers.len() == self.most {
                        break;
                    }
                    headers.push(block.header.raw.clone());
                    let number = block.number();
                    next = if *reverse {
                        number.checked_sub(1)
                    } else {
                        Some(number + 1)
                    };
                }
                Message::Headers { id, headers }
            }
            Request::Bodies { hashes } => {
                let bodies = hashes
                    .iter()
                    .filter_map(|hash| self.find(hash))
                    .filter(|block| block.number() >= self.earliest)
                    .take(self.most)
                    .map(|block| block.body.clone())
                    .collect();
                Message::Bodies { id, bodies }
            }
            Request::Receipts {
                hashes,
                first_index,
            } => self.receipts(id, hashes, *first_index),
            Request::BlockAccessLists { .. } => panic!("never asked for"),
        }
    }

    /// Receipts as the clients of each version answer: geth 1.13 (eth/68) leaves out what it lacks, later ones end there, and from
    /// eth/70 on a block may be cut.
    fn receipts(&self, id: u64, hashes: &[B256], first_index: u64) -> Message {
        let (mut blocks, mut bytes): (Vec<Bytes>, usize) = (Vec::new(), 0);
        let mut last_is_cut = false;
        for (place, hash) in hashes.iter().enumerate() {
            let has = |block: &&Arc<SimBlock>| block.number() >= self.receipts_from;
            let Some(block) = self.find(hash).filter(has) else {
                match self.eth {
                    68 => continue,
                    _ => break,
                }
            };
            if bytes >= self.receipt_bytes {
                break;
            }
            let all = receipts_of(&block.body);
            if self.eth == 68 {
                let with_blooms = convert(Form::Eth69, Form::Eth68, &all).unwrap();
                bytes += with_blooms.len();
                blocks.push(with_blooms.into());
                continue;
            }
            let skip = if place == 0 { first_index } else { 0 };
            let mut rest = rlp::list(&mut &all[..]).unwrap();
            let mut part = Vec::new();
            for index in 0u64.. {
                if rest.is_empty() {
                    break;
                }
                let receipt = rlp::item(&mut rest).unwrap().raw;
                if index < skip {
                    continue;
                }
                let is_first = blocks.is_empty() && part.is_empty();
                let is_full = bytes + part.len() + receipt.len() > self.receipt_bytes;
                if self.eth >= 70 && !is_first && is_full {
                    last_is_cut = true;
                    break;
                }
                part.extend_from_slice(receipt);
            }
            if last_is_cut && part.is_empty() {
                last_is_cut = false; // none of it fits: the answer ends before
                break;
            }
            bytes += part.len();
            let mut block = Vec::new();
            list(&part, &mut block);
            blocks.push(block.into());
            if last_is_cut {
                break;
            }
        }
        Message::Receipts {
            id,
            blocks,
            last_is_cut,
        }
    }

    /// Another head than it has, if it claims one after each answer.
    pub(super) fn boast(&self) -> Option<Message> {
        if self.nature != Nature::Liar(Lie::BoastAgain) {
            return None;
        }
        let latest = self.head().number() + 1_000_000 + self.answered;
        let latest_hash = B256::left_padding_from(&latest.to_be_bytes());
        Some(match self.eth {
            68 => Message::NewBlockHashes(vec![(latest_hash, latest)]),
            _ => Message::BlockRange {
                earliest: self.earliest,
                latest,
                latest_hash,
            },
        })
    }

    /// How long it keeps an answer.
    pub(super) fn delay_ms(&self) -> u64 {
        match self.nature {
            Nature::Liar(lie) => lie.delay_ms(),
            _ => 0,
        }
    }

    /// When the answer arrives, if the peer is asked now.
    pub(super) fn arrival_ms(&mut self, now_ms: u64, message: &Message) -> u64 {
        let bytes: usize = match message {
            Message::Headers { headers, .. } => headers.iter().map(Bytes::len).sum(),
            Message::Bodies { bodies, .. } => bodies.iter().map(Bytes::len).sum(),
            Message::Receipts { blocks, .. } => blocks.iter().map(Bytes::len).sum(),
            _ => 0,
        };
        let begin = self.busy_until_ms.max(now_ms + self.latency_ms);
        self.busy_until_ms = begin + bytes as u64 / self.bytes_per_ms.max(1);
        self.busy_until_ms + self.latency_ms + self.delay_ms()
    }
}
