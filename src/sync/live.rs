//! Announced blocks: taken at once when they hang on a block that is known here, held while they are of the near future,
//! fetched when only their hash was announced.

use std::sync::Arc;

use alloy_primitives::{B256, U256};
use bytes::Bytes;
use cairn_net::eth::message::Start;
use cairn_net::reactor::PeerId;

use super::announced::{Fetch, Held, Orphan};
use super::asking::{body_of, headers_of};
use super::bodies::made_body;
use super::boundary::{Action, Block, ChainView, Now};
use super::choice::{compare, is_better};
use super::fault::Fault;
use super::limits::{ANNOUNCED_HASHES, FETCH_BELOW, FETCHES, FUTURE_S};
use super::machine::{Machine, due_s};
use super::peers::What;
use crate::chain::{HeaderError, SealedHeader, Tip};

impl Machine {
    /// A whole block was announced.
    pub(super) fn new_block(
        &mut self,
        now: Now,
        id: PeerId,
        header: Bytes,
        body: Bytes,
        td: U256,
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        if self.target.is_some() {
            return Ok(()); // an announcement proves nothing there
        }
        let header = self
            .rules
            .read_header(header)
            .map_err(|error| Fault::BadHeader {
                number: 0,
                why: error.to_string(),
            })?;
        let number = header.header.number;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.known.insert(header.hash);
            let higher = match peer.head.td {
                Some(known) => td > known,
                None => peer.head.number.is_none_or(|known| number >= known),
            };
            if higher {
                peer.claim(number, header.hash, Some(td));
            }
        }
        self.take_block(now, Some(id), Arc::new(header), body, chain)
    }

    /// Hashes were announced: what may be our next block, or one beside our last ones, is fetched; what is further ahead
    /// is a claim that catch-up acts on.
    pub(super) fn new_block_hashes(
        &mut self,
        id: PeerId,
        hashes: &[(B256, u64)],
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        if hashes.len() > ANNOUNCED_HASHES {
            return Err(Fault::TooManyItems {
                allowed: ANNOUNCED_HASHES,
                found: hashes.len(),
            });
        }
        if self.target.is_some() {
            return Ok(());
        }
        let ours = self.tip.header.header.number;
        for &(hash, number) in hashes {
            let known = self.is_known(&hash, number, chain);
            let Some(peer) = self.peers.get_mut(&id) else {
                return Ok(());
            };
            peer.known.insert(hash);
            if peer.head.number.is_none_or(|head| number > head) {
                peer.claim(number, hash, None);
            }
            if known || number > ours + 1 || number + FETCH_BELOW <= ours {
                continue;
            }
            let room = self.live.fetches.len() < FETCHES;
            match self.live.fetches.get_mut(&hash) {
                Some(fetch) if fetch.from.len() < FETCHES && !fetch.from.contains(&id) => {
                    fetch.from.push(id);
                }
                None if room => {
                    let fetch = Fetch {
                        from: vec![id],
                        header: None,
                        asked: 0,
                        asked_ms: 0,
                    };
                    self.live.fetches.insert(hash, fetch);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Asks for announced blocks, each of its first announcer that is left; and of the next one too if that is late.
    pub(super) fn ask_fetches(&mut self, now: Now) {
        let urgent_ms = self.config.limits.urgent_ms;
        let is_wanted = |fetch: &Fetch| match fetch.asked {
            0 => true,
            1 => fetch.from.len() > 1 && now.ms.saturating_sub(fetch.asked_ms) >= urgent_ms,
            _ => false,
        };
        let fetches = self.live.fetches.iter();
        let hashes: Vec<B256> = fetches
            .filter(|(_, fetch)| is_wanted(fetch))
            .map(|(&hash, _)| hash)
            .collect();
        for hash in hashes {
            let Some(fetch) = self.live.fetches.get_mut(&hash) else {
                continue;
            };
            let peers = &self.peers;
            let may_give = |id: &&PeerId| {
                let peer = peers.get(*id).filter(|peer| peer.is_usable());
                peer.is_some_and(|peer| peer.count(|what| what.fetches(&hash)) == 0)
            };
            let Some(&id) = fetch.from.iter().find(may_give) else {
                if fetch.asked == 0 {
                    self.live.fetches.remove(&hash);
                }
                continue;
            };
            fetch.asked += 1;
            fetch.asked_ms = now.ms;
            match fetch.header.clone() {
                None => {
                    let request = headers_of(Start::Hash(hash), 1, false);
                    self.ask(now, id, What::FetchHeader { hash }, request, 0);
                }
                Some(header) => {
                    let request = body_of(&header);
                    let expected = self.body_size.average();
                    self.ask(now, id, What::FetchBody { header }, request, expected);
                }
            }
        }
    }

    /// The header of an announced block has come, or the peer does not have it.
    pub(super) fn fetched_header(
        &mut self,
        now: Now,
        id: PeerId,
        hash: B256,
        header: Option<Arc<SealedHeader>>,
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        let Some(fetch) = self.live.fetches.get_mut(&hash) else {
            return Ok(());
        };
        let Some(header) = header else {
            fetch.from.retain(|from| *from != id);
            fetch.asked = fetch.asked.saturating_sub(1);
            return self.empty_claim(id);
        };
        if fetch.header.is_some() {
            return Ok(()); // another was quicker
        }
        if let Some(body) = made_body(&header) {
            self.live.fetches.remove(&hash);
            return self.take_block(now, Some(id), header, body, chain);
        }
        fetch.header = Some(header);
        fetch.asked = 0;
        Ok(())
    }

    /// The body of an announced block has come, or the peer does not have it.
    pub(super) fn fetched_body(
        &mut self,
        now: Now,
        id: PeerId,
        header: Arc<SealedHeader>,
        body: Option<Bytes>,
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        let hash = header.hash;
        let Some(body) = body else {
            if let Some(fetch) = self.live.fetches.get_mut(&hash) {
                fetch.from.retain(|from| *from != id);
                fetch.asked = fetch.asked.saturating_sub(1);
            }
            return self.empty_claim(id);
        };
        // Checked before it counts as fetched: another announcer may have the right one.
        if let Err(error) = self.rules.check_body(&header, &body) {
            self.live.fetch_failed(&hash);
            let number = header.header.number;
            return Err(Fault::BadBody {
                number,
                why: error.to_string(),
            });
        }
        self.live.fetches.remove(&hash);
        self.take_block(now, Some(id), header, body, chain)
    }

    fn is_known(&self, hash: &B256, number: u64, chain: &dyn ChainView) -> bool {
        self.canonical(hash, number, chain)
            || self.live.pool.contains_key(hash)
            || self.live.is_held(hash)
    }

    /// Judges a whole block. `from` is who sent it, or nobody for our own sealer's.
    pub(super) fn take_block(
        &mut self,
        now: Now,
        from: Option<PeerId>,
        header: Arc<SealedHeader>,
        body: Bytes,
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        let (number, hash) = (header.header.number, header.hash);
        if self.staged.is_some() {
            return Ok(()); // a better chain is on its way into the store, which takes nothing else meanwhile
        }
        if self.is_known(&hash, number, chain) {
            return Ok(());
        }
        // A parent that is not known here is a claim, which catch-up or a branch acts on.
        let Some(parent) = self.known_tip(&header) else {
            if let Some(from) = from.filter(|_| number > self.tip.header.header.number) {
                self.live.keep_orphan(Orphan { from, header, body });
            }
            return Ok(());
        };
        if !self.rules.seal_is_checked_after(&parent) {
            self.live.fetches.remove(&hash);
            return Ok(()); // past the terminal total difficulty nothing in it says that it is right
        }
        let bad = |error: HeaderError| Fault::BadHeader {
            number,
            why: error.to_string(),
        };
        let now_s = from.map(|_| now.s);
        let (tip, due_s) = match self.rules.extend(&parent, header.clone(), now_s) {
            Ok(tip) => (tip, None),
            Err(error) => {
                let due_s = due_s(&error).ok_or_else(|| bad(error))?;
                if due_s > now.s.saturating_add(FUTURE_S) {
                    // One of the two clocks is wrong, and nobody can say whose.
                    if let Some(peer) = from.and_then(|id| self.peers.get_mut(&id)) {
                        peer.tell_clock(number, due_s, now.s);
                    }
                    return Ok(());
                }
                let tip = self.rules.extend(&parent, header.clone(), None);
                (tip.map_err(bad)?, Some(due_s))
            }
        };
        self.rules
            .check_body(&header, &body)
            .map_err(|error| Fault::BadBody {
                number,
                why: error.to_string(),
            })?;
        // Where branches come and go at the head, claims that come to nothing are nobody's lies. Who brings valid blocks is no boaster.
        if let Some(peer) = from.and_then(|id| self.peers.get_mut(&id)) {
            peer.empty_claims = 0;
        }
        if let (Some(due_s), Some(from)) = (due_s, from) {
            self.live.fetches.remove(&hash);
            self.live.hold(now, due_s, Held { from, tip, body });
            return Ok(());
        }
        self.live.fetches.remove(&hash);
        self.live.keep(tip.clone(), body.clone());
        if is_better(&tip, &self.tip) {
            if let Some(peer) = from.and_then(|id| self.peers.get_mut(&id)) {
                peer.off_chain = false;
            }
            self.adopt(now, tip, body, chain);
        } else if let Some(from) = from {
            self.tell_again(now, from);
        }
        Ok(())
    }

    /// A peer tells of a block that is no better than our head. It may have let our head go when it was told of it, as geth does while it
    /// starts, and nobody tells it again: signers of two such blocks would wait for each other for ever.
    fn tell_again(&mut self, now: Now, id: PeerId) {
        let Some((tip, body)) = self.live.pool.get(&self.tip.header.hash).cloned() else {
            return;
        };
        self.announce_to(now, id, &tip, body);
    }

    /// Takes the best of the blocks that came while the store was at work, with those before it.
    pub(super) fn take_waiting(&mut self, now: Now, chain: &dyn ChainView) {
        if self.storing_bytes.is_some() || !std::mem::take(&mut self.live.is_waiting) {
            return;
        }
        let better = self
            .live
            .pool
            .values()
            .filter(|(tip, _)| is_better(tip, &self.tip));
        let best = better.max_by(|(a, _), (b, _)| compare(a, b)).cloned();
        if let Some((tip, body)) = best.filter(|_| self.staged.is_none()) {
            self.adopt(now, tip, body, chain);
        }
    }

    /// The parent of `header`, if its state is at hand.
    fn known_tip(&self, header: &SealedHeader) -> Option<Tip> {
        let parent = &header.header.parent_hash;
        let number = header.header.number.checked_sub(1)?;
        match self.recent.get(&number) {
            Some(tip) if tip.header.hash == *parent => Some(tip.clone()),
            _ => self.live.tip(parent).cloned(),
        }
    }

    /// Makes a valid block the head, with those between it and our chain.
    fn adopt(&mut self, now: Now, tip: Tip, body: Bytes, chain: &dyn ChainView) {
        // The store takes one run at a time, and all that comes meanwhile is the next: a slow one must not fall ever further behind.
        if self.storing_bytes.is_some() {
            self.live.is_waiting = true;
            return;
        }
        let mut path = vec![(tip, body)];
        let ancestor = loop {
            let lowest = &path[path.len() - 1].0.header.header;
            let below = lowest.number - 1; // a block that hangs on a known one is not block 0
            if self.canonical(&lowest.parent_hash, below, chain) {
                break below;
            }
            match self.live.pool.get(&lowest.parent_hash) {
                Some(side) => path.push(side.clone()),
                None => return, // the blocks between were let go: a branch is looked for instead
            }
        };
        if ancestor < self.lowest_fork(chain) {
            return; // the branch search says why it cannot be taken
        }
        path.reverse();
        let replaces = ancestor < self.tip.header.header.number;
        if let (true, Some((first, _)), Some((new, _))) = (replaces, path.first(), path.last()) {
            self.reorganise((ancestor, first.header.header.parent_hash), new);
        }
        self.cut_receipts(ancestor);
        let blocks: Vec<Block> = path
            .iter()
            .map(|(tip, body)| self.block(tip, body.clone()))
            .collect();
        self.moved(now, ancestor, path.into_iter().map(|(tip, _)| tip));
        let told = blocks.last().cloned();
        self.storing(&blocks);
        self.actions.push_back(Action::Commit {
            blocks,
            tip: self.tip.clone(),
            live: true,
        });
        if replaces {
            self.restart_main();
            self.off_chain_forgotten();
        } else if self.main.bodies.pop_stored(&self.tip.header.hash) {
            self.main.base = self.tip.clone();
        } else {
            self.restart_main();
        }
        if let Some(block) = told {
            self.announce(now, &block);
        }
    }

    /// Takes the blocks that came before their parents, which are our head by now.
    pub(super) fn take_orphan(&mut self, now: Now, chain: &dyn ChainView) {
        while let Some(orphan) = self.live.orphans.remove(&self.tip.header.hash) {
            let Orphan { from, header, body } = orphan;
            if let Err(fault) = self.take_block(now, Some(from), header, body, chain) {
                self.punish(from, fault);
            }
        }
        let ours = self.tip.header.header.number;
        self.live
            .orphans
            .retain(|_, orphan| orphan.header.header.number > ours);
    }

    /// Takes the held blocks whose time has come.
    pub(super) fn take_due_blocks(&mut self, now: Now, chain: &dyn ChainView) {
        while let Some(entry) = self
            .live
            .held
            .first_entry()
            .filter(|entry| entry.key().0 <= now.s)
        {
            let Held { from, tip, body } = entry.remove();
            let header = tip.header;
            if let Err(fault) = self.take_block(now, Some(from), header, body, chain) {
                self.punish(from, fault);
            }
        }
        self.live.set_due(now);
    }
}
