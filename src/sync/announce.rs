//! Tells the peers of our new blocks, each in the way it takes, and asks them for news when nobody tells us any.

use bytes::Bytes;
use cairn_net::eth::message::Start;
use cairn_net::reactor::{OwnedOutgoing, PeerId};
use cairn_net::session::PeerInfo;

use super::asking::headers_of;
use super::boundary::{Action, Block, Now};
use super::limits::{
    POLL_AFTER_MS, RANGE_EVERY_BLOCKS, RANGE_EVERY_MS, RANGE_MIN_MS, SHY_MS, SHY_PEERS,
    WHOLE_BLOCK_TO_ALL,
};
use super::machine::Machine;
use super::peers::{Peer, What};
use crate::chain::Tip;

/// Whether a peer takes NewBlock and NewBlockHashes on a clique chain: eth/68 does, and our own kind at any version. Others
/// disconnect for them since proof of stake (geth 1.16, reth).
fn takes_blocks(info: &PeerInfo) -> bool {
    info.eth <= 68 || info.client.starts_with("cairn")
}

impl Machine {
    fn takers(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        let sealed = self.target.is_none();
        self.peers
            .iter()
            .filter(move |(_, peer)| {
                sealed && takes_blocks(&peer.info) && !self.shy.contains(&peer.info.id.0)
            })
            .map(|(&id, peer)| (id, peer))
    }

    /// Announces a block that has just become our head: whole to all, or to the square root of many, and its hash to the
    /// others; to nobody who knows it.
    pub(super) fn announce(&mut self, now: Now, block: &Block) {
        let (hash, number) = (block.header.hash, block.header.header.number);
        let takers: Vec<PeerId> = self
            .takers()
            .filter(|(_, peer)| !peer.known.contains(&hash))
            .map(|(id, _)| id)
            .collect();
        let whole = if takers.len() <= WHOLE_BLOCK_TO_ALL {
            takers.len()
        } else {
            takers.len().isqrt()
        };
        // Not always the same ones: the turn goes round with the block's number.
        let turn = usize::try_from(number % (takers.len().max(1) as u64)).unwrap_or(0);
        for place in 0..takers.len() {
            let id = takers[(turn + place) % takers.len()];
            let message = if place < whole {
                OwnedOutgoing::NewBlock {
                    header: block.header.raw.clone(),
                    body: block.body.clone(),
                    td: block.td,
                }
            } else {
                OwnedOutgoing::NewBlockHashes(vec![(hash, number)])
            };
            self.send_announcement(now, id, message);
        }
        self.untold = false;
    }

    /// Announces our head to one peer, whole, whether it was told before or not.
    pub(super) fn announce_to(&mut self, now: Now, id: PeerId, head: &Tip, body: Bytes) {
        if self.takers().any(|(taker, _)| taker == id) {
            let message = OwnedOutgoing::NewBlock {
                header: head.header.raw.clone(),
                body,
                td: head.td,
            };
            self.send_announcement(now, id, message);
        }
    }

    fn send_announcement(&mut self, now: Now, id: PeerId, message: OwnedOutgoing) {
        let hash = self.tip.header.hash;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.known.insert(hash);
            peer.announced_ms = Some(now.ms);
            self.actions.push_back(Action::Send { peer: id, message });
        }
    }

    /// A peer left with a protocol fault of ours in mind: if it was right after an announcement it gets none again.
    pub(super) fn shies(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let after = peer
            .announced_ms
            .is_some_and(|at| now.ms.saturating_sub(at) <= SHY_MS);
        if after && self.shy.len() < SHY_PEERS {
            self.shy.insert(peer.info.id.0);
        }
    }

    /// Tells of the end of a catch-up, and of our range to those who are due.
    pub(super) fn tell(&mut self, now: Now) {
        let (hash, number) = (self.tip.header.hash, self.tip.header.header.number);
        if self.untold && self.target.is_none() && self.main_is_idle() {
            self.untold = false;
            let takers: Vec<PeerId> = self
                .takers()
                .filter(|(_, peer)| {
                    // Whoever claims as much has no use for it.
                    let behind = peer.head.number.is_none_or(|theirs| theirs < number);
                    (behind || peer.off_chain) && !peer.known.contains(&hash)
                })
                .map(|(id, _)| id)
                .collect();
            for id in takers {
                self.send_announcement(
                    now,
                    id,
                    OwnedOutgoing::NewBlockHashes(vec![(hash, number)]),
                );
            }
        }
        let earliest = self.config.earliest;
        for (&id, peer) in &mut self.peers {
            if range_due(peer, number).is_some_and(|due| due <= now.ms) {
                peer.range_told = (number, now.ms);
                let message = OwnedOutgoing::BlockRange {
                    earliest,
                    latest: number,
                    latest_hash: hash,
                };
                self.actions.push_back(Action::Send { peer: id, message });
            }
        }
    }

    /// When the next peer is due to be told of our range.
    pub(super) fn tell_deadline(&self) -> Option<u64> {
        let number = self.tip.header.header.number;
        self.peers
            .values()
            .filter_map(|peer| range_due(peer, number))
            .min()
    }

    /// Asks one peer after the other for the next block when the chain stands still: there are peers that announce nothing. Our head is
    /// asked for too, for the peer may have another block in its place.
    pub(super) fn poll(&mut self, now: Now) {
        if self.poll_deadline().is_none_or(|due| due > now.ms) {
            return;
        }
        self.news_ms = now.ms;
        let usable = |id: &&PeerId| {
            let settled = |peer: &Peer| now.ms >= peer.connected_ms.saturating_add(POLL_AFTER_MS);
            self.peers
                .get(id)
                .is_some_and(|peer| peer.is_usable() && settled(peer))
        };
        // One that had more than was asked for is asked again, then the others in turn.
        let after = |id: &&PeerId| self.last_polled.is_none_or(|last| **id > last);
        let more = self.poll_more.take();
        let next = more
            .as_ref()
            .filter(usable)
            .or_else(|| self.peers.keys().filter(usable).find(after));
        let Some(&id) = next.or_else(|| self.peers.keys().find(usable)) else {
            return;
        };
        self.last_polled = Some(id);
        let (number, count) = (
            self.tip.header.header.number,
            self.config.limits.header_batch,
        );
        let request = headers_of(Start::Number(number), count, false);
        self.ask(now, id, What::Poll { number, count }, request, 0);
    }

    /// When the chain has stood still for so long that a peer is asked for news.
    pub(super) fn poll_deadline(&self) -> Option<u64> {
        if self.target.is_some() || self.peers.is_empty() {
            return None;
        }
        let more = self.poll_more.is_some() && self.main_is_idle();
        Some(if more {
            self.news_ms
        } else {
            self.news_ms.saturating_add(self.poll_interval_ms())
        })
    }
}

/// When a peer is due to be told of our range (eth/69 and later), if there is anything new. Never the moment it connects.
fn range_due(peer: &Peer, number: u64) -> Option<u64> {
    let (told, at_ms) = peer.range_told;
    if peer.info.eth < 69 || number <= told {
        return None;
    }
    let wait_ms = if number - told >= RANGE_EVERY_BLOCKS {
        RANGE_MIN_MS
    } else {
        RANGE_EVERY_MS
    };
    Some(at_ms.saturating_add(wait_ms))
}
