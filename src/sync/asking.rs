//! Decides who is asked for what: the quickest and least busy first, nobody for what it lacks, within the memory limit.

use std::cmp::Reverse;
use std::sync::Arc;

use alloy_primitives::B256;
use cairn_net::eth::message::{Request, Start};
use cairn_net::reactor::{OwnedOutgoing, PeerId};

use super::boundary::{Action, Now};
use super::limits::{OPEN_PER_PEER, SLOW_AGAIN_MS};
use super::machine::Machine;
use super::peers::{Asked, Peer, What};
use super::target::Target;
use crate::chain::SealedHeader;

impl Machine {
    /// Asks the peers for everything that is wanted, the quickest and least busy first.
    pub(super) fn ask_all(&mut self, now: Now) {
        self.ask_fetches(now);
        let mut order: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_usable())
            .map(|(&id, _)| id)
            .collect();
        self.sort(&mut order, |peer| peer.header_rate);
        if self.target.is_some() {
            self.ask_target(now, &order);
        } else {
            for &id in &order {
                self.ask_head(now, id);
            }
            self.ask_headers(now, &order);
        }
        self.sort(&mut order, |peer| peer.rate);
        // One request to each in turn, so that the memory limit does not starve the last of them.
        while order.iter().filter(|&&id| self.ask_bodies(now, id)).count() > 0 {}
        self.sort(&mut order, |peer| peer.receipt_rate);
        // Receipts come behind: the chain does not wait for them.
        while order
            .iter()
            .filter(|&&id| self.ask_receipts(now, id))
            .count()
            > 0
        {}
    }

    /// The least busy first, and of those the quickest at what is to be asked for.
    fn sort(&self, order: &mut [PeerId], rate: impl Fn(&Peer) -> u64) {
        order.sort_by_key(|id| {
            let peer = &self.peers[id];
            (peer.asked.len(), Reverse(rate(peer)), *id)
        });
    }

    /// An eth/68 peer names its head by hash only: its number is asked for when the head is better than ours.
    fn ask_head(&mut self, now: Now, id: PeerId) {
        let peer = &self.peers[&id];
        if peer.is_usable()
            && peer.head.number.is_none()
            && peer.claims_better(&self.tip)
            && peer.count(|what| matches!(what, What::Head { .. })) == 0
        {
            let hash = peer.head.hash;
            self.ask(
                now,
                id,
                What::Head { hash },
                headers_of(Start::Hash(hash), 1, false),
                0,
            );
        }
    }

    /// Whether a peer may be asked for headers that hang on our head.
    fn leads(&self, peer: &Peer) -> bool {
        !peer.off_chain
            && peer.top().is_some_and(|top| top > self.main.top_number())
            && peer.first_header <= self.main.top_number() + 1
            && peer.claims_better(&self.tip)
            && !self.live.is_pending(&peer.head.hash)
    }

    /// Whether there is nothing to be caught up with along our own line.
    pub(super) fn main_is_idle(&self) -> bool {
        self.main.bodies.len() == 0
            && !self.is_coming()
            && !self
                .peers
                .values()
                .any(|peer| peer.is_usable() && self.leads(peer))
    }

    fn ask_headers(&mut self, now: Now, order: &[PeerId]) {
        let ends = !self.rules.seal_is_checked_after(self.main.top());
        if ends
            || now.s < self.main.pause_until_s
            || !self.peers.values().any(|peer| self.leads(peer))
        {
            return;
        }
        let ours = self.tip.header.header.number;
        let window_end = ours.saturating_add(self.header_window());
        for &id in order {
            let peer = &self.peers[&id];
            // Most have headers below `earliest` too: it bounds bodies.
            let begins_above = self.main.top_number() + 1 < peer.first_header;
            let Some(top) = peer.top().filter(|_| !peer.off_chain && !begins_above) else {
                continue;
            };
            let batch = self.config.limits.header_batch.min(peer.header_cap);
            let open = peer.count(|what| matches!(what, What::Rising { .. }));
            for _ in open..self.config.limits.headers_per_peer {
                if !self.peers[&id].is_usable() {
                    break;
                }
                let Some((first, count)) = self.main.headers.take(top, window_end, batch) else {
                    break;
                };
                self.ask_rising(now, id, self.main.epoch, (first, count));
            }
            if open == 0 && self.peers[&id].oldest_ms().is_none() {
                self.ask_overdue_headers(now, id, top);
            }
        }
    }

    /// Asks `id` for headers (the first, and how many) of the line of this epoch.
    pub(super) fn ask_rising(
        &mut self,
        now: Now,
        id: PeerId,
        epoch: u64,
        (first, count): (u64, u64),
    ) {
        let what = What::Rising {
            epoch,
            first,
            count,
        };
        let request = headers_of(Start::Number(first), count, false);
        self.ask(now, id, what, request, 0);
    }

    /// The headers that come next are owed by a slow peer: an idle one is asked for them as well, once.
    fn ask_overdue_headers(&mut self, now: Now, id: PeerId, top: u64) {
        let (epoch, next) = (self.main.epoch, self.main.top_number() + 1);
        let mut owed = None;
        for asked in self.peers.values().flat_map(|peer| peer.asked.values()) {
            let What::Rising {
                epoch: of,
                first,
                count,
            } = asked.what
            else {
                continue;
            };
            if of == epoch && !asked.given_up && first <= next && next < first + count {
                if owed.is_some() {
                    return; // by two already
                }
                owed = Some((first + count - next, asked.sent_ms));
            }
        }
        let Some((count, sent_ms)) = owed else { return };
        if top >= next && now.ms.saturating_sub(sent_ms) >= self.config.limits.urgent_ms {
            self.ask_rising(now, id, epoch, (next, count.min(top - next + 1)));
        }
    }

    /// Whether a peer may have what a weighed branch leads to; of any other target nobody says that he has it.
    pub(super) fn has_target(&self, peer: &Peer) -> bool {
        let is_weighed = self.target.as_ref().is_some_and(Target::is_weighed);
        !is_weighed || peer.claims_better(&self.tip)
    }

    /// Asks `id` for one batch of bodies, if it has any that are wanted and the memory limit allows it.
    fn ask_bodies(&mut self, now: Now, id: PeerId) -> bool {
        let limits = self.config.limits.clone();
        let used = self.memory_bytes();
        let average = self.body_size.average();
        let peer = &self.peers[&id];
        let open = peer.count(|what| matches!(what, What::Bodies { .. }));
        let most_open = match peer.rate {
            0 => 1, // until its rate is known
            _ => limits.bodies_per_peer,
        };
        if open >= most_open || !peer.is_usable() {
            return false;
        }
        let unknown_top = if self.target.is_some() { u64::MAX } else { 0 };
        let (earliest, top) = (peer.earliest, peer.top().unwrap_or(unknown_top));
        let answer = limits.answer_bytes.min(peer.bytes_in_time());
        let batch = match peer.rate {
            0 => (answer / average).clamp(limits.body_batch_min, limits.body_batch_start),
            _ => match answer.min(self.fair_room(id, unknown_top)) / average {
                // What it brings now and then shows whether it has become faster.
                0 if open > 0
                    || (self.is_coming()
                        && now.ms < peer.heard_ms.saturating_add(SLOW_AGAIN_MS)) =>
                {
                    return false;
                }
                fitting => fitting.clamp(1, limits.body_batch_max),
            },
        };
        let batch = batch.min(peer.body_cap);
        let on_main = !peer.off_chain && self.has_target(peer);

        let mut wanted = Vec::new();
        // A branch is held whole until it is better: it has a limit of its own.
        let branch = self
            .branch
            .as_mut()
            .and_then(|branch| branch.wanting(id, &self.tip));
        if let Some((pipe, enough)) = branch {
            wanted = pipe.bodies.take(id, earliest, top.min(enough), batch);
        }
        if wanted.is_empty() && on_main {
            let room = self.memory_limit_bytes().saturating_sub(used) / expected_bytes(average);
            // What all others wait for may be asked for although the memory is used up, and nothing above it.
            let front = self.main.bodies.front_missing_number().unwrap_or(0);
            let (most, top_now) = match room {
                0 => (1, top.min(front)),
                _ => (room, top),
            };
            let bodies = &mut self.main.bodies;
            wanted = bodies.take(id, earliest, top_now, batch.min(most));
            if wanted.is_empty() && open == 0 && self.is_overdue(now) {
                wanted = self
                    .main
                    .bodies
                    .take_urgent(id, earliest, top, limits.body_batch_min);
            }
        }
        if wanted.is_empty() {
            return false;
        }
        let request = Request::Bodies {
            hashes: wanted.iter().map(|header| header.hash).collect(),
        };
        let expected = wanted.len() * expected_bytes(average);
        self.ask(now, id, What::Bodies { wanted }, request, expected);
        true
    }

    /// Bytes of bodies that this peer may be asked for beside what it owes: its part, by its rate, of what all are asked for. So each
    /// brings its part in the same time, and nobody's comes so late that all the others have to wait for it.
    fn fair_room(&self, id: PeerId, unknown_top: u64) -> usize {
        let (peer, bodies) = (&self.peers[&id], &self.main.bodies);
        let next = bodies.front_missing_number().unwrap_or(0);
        let may_have = |(id, peer): &(&PeerId, &Peer)| {
            let range = peer.earliest..=peer.top().unwrap_or(unknown_top);
            let is_asked = peer.is_usable() && !peer.off_chain;
            is_asked && range.contains(&next) && !bodies.front_is_refused_by(**id)
        };
        let all: u64 = self
            .peers
            .iter()
            .filter(may_have)
            .map(|(_, peer)| peer.rate)
            .sum();
        let leads = self.branch.as_ref().is_some_and(|branch| branch.peer == id);
        if all <= peer.rate || leads {
            return usize::MAX;
        }
        let window = (self.memory_limit_bytes() / 2) as u128;
        let part = window * u128::from(peer.rate) / u128::from(all.max(1));
        let owed: usize = peer.asked.values().map(|asked| asked.expected_bytes).sum();
        usize::try_from(part).map_or(usize::MAX, |part| part.saturating_sub(owed))
    }

    /// Whether the oldest body request holds everything else up.
    fn is_overdue(&self, now: Now) -> bool {
        let Some(front) = self.main.bodies.front_missing() else {
            return false;
        };
        self.peers.values().flat_map(|peer| peer.asked.values()).any(|asked| {
            now.ms.saturating_sub(asked.sent_ms) >= self.config.limits.urgent_ms
                && matches!(&asked.what, What::Bodies { wanted } if wanted.iter().any(|h| h.hash == front))
        })
    }

    /// Sends a request and remembers what it was for.
    pub(super) fn ask(
        &mut self,
        now: Now,
        id: PeerId,
        what: What,
        request: Request,
        expected_bytes: usize,
    ) {
        let request_id = self.new_id();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        debug_assert!(
            peer.asked.len() < OPEN_PER_PEER,
            "each caller asks who may be asked"
        );
        if peer.oldest_ms().is_none() {
            peer.heard_ms = now.ms;
        }
        let asked = Asked {
            what,
            sent_ms: now.ms,
            expected_bytes,
            given_up: false,
        };
        peer.asked.insert(request_id, asked);
        self.actions.push_back(Action::Send {
            peer: id,
            message: OwnedOutgoing::Request {
                id: request_id,
                request,
            },
        });
    }
}

/// What a body of this size takes while it comes in: its frame is held beside what it becomes, and is about half of it.
fn expected_bytes(average: usize) -> usize {
    average + average / 2
}

/// A request for `amount` headers in a row.
pub(super) fn headers_of(start: Start, amount: u64, reverse: bool) -> Request {
    Request::Headers {
        start,
        amount,
        skip: 0,
        reverse,
    }
}

/// A request for one body.
pub(super) fn body_of(header: &Arc<SealedHeader>) -> Request {
    let hashes: Vec<B256> = vec![header.hash];
    Request::Bodies { hashes }
}
