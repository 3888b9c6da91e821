//! Announced blocks that wait: for their second, for their parent, for being fetched; and the valid ones of late.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::B256;
use bytes::Bytes;
use cairn_net::reactor::PeerId;

use super::boundary::Now;
use super::limits::{HELD_BLOCKS, HELD_PER_PEER, SIDE_BLOCKS, SIDE_BYTES};
use super::timing::due_ms;
use crate::chain::{SealedHeader, Tip};

/// A block of the near future.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) from: PeerId,
    /// The state after it: its children are judged by it, and held too.
    pub(super) tip: Tip,
    pub(super) body: Bytes,
}

/// A block that came before its parent, by whose hash it is kept. Nothing in it has been judged.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) from: PeerId,
    pub(super) header: Arc<SealedHeader>,
    pub(super) body: Bytes,
}

/// An announced hash that is being fetched.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) from: Vec<PeerId>,
    pub(super) header: Option<Arc<SealedHeader>>,
    /// How many peers owe it, and since when the last.
    pub(super) asked: u8,
    pub(super) asked_ms: u64,
}

/// What was announced and is not (or may not remain) in our chain.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Valid blocks of late, in our chain or beside it: their children are judged without asking anyone.
    pub(super) pool: BTreeMap<B256, (Tip, Bytes)>,
    pub(super) pool_bytes: usize,
    pub(super) held: BTreeMap<(u64, B256), Held>,
    pub(super) orphans: BTreeMap<B256, Orphan>,
    pub(super) fetches: BTreeMap<B256, Fetch>,
    pub(super) due_ms: Option<u64>,
    /// A block in the pool is better than our head, and waits for the store.
    pub(super) is_waiting: bool,
}

impl Live {
    /// Whether this block is on its way: held, or being fetched.
    pub(super) fn is_pending(&self, hash: &B256) -> bool {
        self.fetches.contains_key(hash) || self.is_held(hash)
    }

    /// Whether this block is valid and known, in our chain or beside it.
    pub(super) fn is_pooled(&self, hash: &B256) -> bool {
        self.pool.contains_key(hash)
    }

    pub(super) fn tip(&self, hash: &B256) -> Option<&Tip> {
        let pooled = self.pool.get(hash).map(|(tip, _)| tip);
        let held = || self.held.iter().find(|((_, held), _)| held == hash);
        pooled.or_else(|| held().map(|(_, held)| &held.tip))
    }

    pub(super) fn is_held(&self, hash: &B256) -> bool {
        self.held.keys().any(|(_, held)| held == hash)
    }

    /// When a held block may be due.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.due_ms
    }

    /// A request for this block came to nothing: the next announcer is asked, if there is one.
    pub(super) fn fetch_failed(&mut self, hash: &B256) {
        if let Some(fetch) = self.fetches.get_mut(hash) {
            fetch.asked = fetch.asked.saturating_sub(1);
        }
    }

    pub(super) fn keep(&mut self, tip: Tip, body: Bytes) {
        self.pool_bytes += body.len();
        if let Some((_, old)) = self.pool.insert(tip.header.hash, (tip, body)) {
            self.pool_bytes -= old.len();
        }
        while self.pool.len() > SIDE_BLOCKS || self.pool_bytes > SIDE_BYTES {
            let lowest = self
                .pool
                .iter()
                .min_by_key(|(_, (tip, _))| tip.header.header.number);
            let Some(hash) = lowest.map(|(&hash, _)| hash) else {
                break;
            };
            if let Some((_, body)) = self.pool.remove(&hash) {
                self.pool_bytes -= body.len();
            }
        }
    }

    /// A peer is gone, and with it what it sent unproved.
    pub(super) fn forget_orphans_of(&mut self, id: PeerId) {
        self.orphans.retain(|_, orphan| orphan.from != id);
    }

    /// Keeps a block that nothing is known of yet: a few of each peer.
    pub(super) fn keep_orphan(&mut self, orphan: Orphan) {
        let theirs = self
            .orphans
            .values()
            .filter(|other| other.from == orphan.from);
        let bytes: usize = self.orphans.values().map(|orphan| orphan.body.len()).sum();
        if theirs.count() < HELD_PER_PEER
            && self.orphans.len() < HELD_BLOCKS
            && bytes + orphan.body.len() <= SIDE_BYTES
        {
            let parent = orphan.header.header.parent_hash;
            self.orphans.entry(parent).or_insert(orphan);
        }
    }

    pub(super) fn hold(&mut self, now: Now, due_s: u64, held: Held) {
        let theirs = self
            .held
            .values()
            .filter(|other| other.from == held.from)
            .count();
        let bytes: usize = self.held.values().map(|held| held.body.len()).sum();
        if self.held.len() >= HELD_BLOCKS
            || theirs >= HELD_PER_PEER
            || bytes + held.body.len() > SIDE_BYTES
        {
            return;
        }
        self.held.insert((due_s, held.tip.header.hash), held);
        self.set_due(now);
    }

    pub(super) fn set_due(&mut self, now: Now) {
        let first = self.held.keys().next();
        self.due_ms = first.map(|(due_s, _)| due_ms(now, *due_s));
    }
}
