//! Moves everything on that can move after an input: verifies, stores, asks; and decides who is asked for what.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::B256;
use bytes::Bytes;
use cairn_net::eth::message::{Request, Start};
use cairn_net::reactor::{OwnedOutgoing, PeerId};

use super::fault::Fault;
use super::limits::{FUTURE_S, STALLS_ALLOWED};
use super::machine::{Action, Block, ChainView, Machine, Now, due_s};
use super::peers::{Asked, Peer, What};
use super::pipe::Pipe;
use crate::chain::{Rules, SealedHeader, Tip};

/// What verifying a line's next headers came to.
pub(super) enum Verified {
    /// Nothing stood in line.
    Nothing,
    /// Headers were taken, or ranges given back.
    Some,
    /// This peer's next headers hang on another block than the line's last.
    Unlinked(PeerId),
    /// This peer broke a rule.
    Fault(PeerId, Fault),
}

impl Machine {
    /// Does all that can be done now. Called after every input.
    pub(super) fn pump(&mut self, now: Now, chain: &dyn ChainView) {
        loop {
            self.verify_main(now);
            self.feed_target(now);
            let mut moved = self.commit_main(now, false);
            moved |= self.step_branch(now, chain);
            self.ask_all(now);
            moved |= self.commit_main(now, true);
            if !moved {
                break;
            }
        }
        self.unstick(now);
        self.tell(now);
        self.poll(now);
        self.deadline = self.next_deadline(now);
    }

    fn verify_main(&mut self, now: Now) {
        if self.target.is_some() {
            return;
        }
        loop {
            match verify_next(&self.rules, &mut self.peers, &mut self.main, now) {
                Verified::Nothing => return,
                Verified::Some => {}
                Verified::Unlinked(id) => {
                    // Another branch, or a lie: told apart by looking for the place where it leaves our chain.
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.off_chain = true;
                    }
                }
                Verified::Fault(id, fault) => self.punish(id, fault),
            }
        }
    }

    /// Stores the complete blocks at the front of the main line if there are enough of them, or if `dry` and nothing more
    /// is to come soon. True if anything was stored.
    fn commit_main(&mut self, now: Now, dry: bool) -> bool {
        let limits = &self.config.limits;
        let (count, bytes) = self.main.bodies.ready();
        if count == 0 {
            self.main.ready_since_ms = None;
            return false;
        }
        let since = *self.main.ready_since_ms.get_or_insert(now.ms);
        let enough = count >= limits.commit_blocks
            || bytes >= limits.commit_bytes.min(self.config.memory_limit_bytes / 2)
            || now.ms.saturating_sub(since) >= limits.flush_ms;
        if !enough && (!dry || self.is_coming()) {
            return false;
        }
        let mut blocks = self.main.bodies.pop(count.min(limits.commit_blocks.max(1)));
        self.check_ommers(&mut blocks);
        if blocks.is_empty() {
            return false;
        }
        self.store(now, self.main.base.header.header.number, blocks);
        self.main.base = self.tip.clone();
        self.main.ready_since_ms = None;
        self.untold = true;
        true
    }

    /// Judges ommers by the blocks before them, where there may be any; lets go what follows a bad one.
    fn check_ommers(&mut self, blocks: &mut Vec<(Tip, Bytes, PeerId)>) {
        if self.rules.seal_is_checked() {
            return;
        }
        for (index, (tip, body, _)) in blocks.iter().enumerate() {
            if let Err(error) = self.ommers.check(&self.rules, &tip.header, body) {
                log::error!("The sync target's chain breaks a rule, following nothing: {error}");
                if let Some(target) = &mut self.target {
                    target.give_up();
                }
                blocks.truncate(index);
                self.restart_main();
                return;
            }
            self.ommers.push(&tip.header, body);
        }
    }

    /// Whether headers or bodies of the main line are in flight.
    fn is_coming(&self) -> bool {
        let epoch = self.main.epoch;
        self.peers
            .values()
            .flat_map(|peer| peer.asked.values())
            .any(|asked| {
                !asked.given_up
                    && match &asked.what {
                        What::Rising { epoch: of, .. } => *of == epoch,
                        What::Bodies { .. } | What::Falling { .. } => true,
                        _ => false,
                    }
            })
    }

    /// Gives these blocks, which hang on block `ancestor` of our chain, out to be stored, and makes the last the head.
    pub(super) fn store(&mut self, now: Now, ancestor: u64, blocks: Vec<(Tip, Bytes, PeerId)>) {
        let mut out = Vec::with_capacity(blocks.len());
        let mut tips = Vec::with_capacity(blocks.len());
        for (tip, body, source) in blocks {
            if let Some(peer) = self.peers.get_mut(&source) {
                peer.empty_claims = 0;
            }
            out.push(Block {
                header: tip.header.clone(),
                body,
                td: tip.td,
            });
            tips.push(tip);
        }
        self.moved(now, ancestor, tips);
        self.actions.push_back(Action::Commit {
            blocks: out,
            tip: self.tip.clone(),
            live: false,
        });
    }

    /// Asks the peers for everything that is wanted, the quickest and least busy first.
    fn ask_all(&mut self, now: Now) {
        let mut order: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_usable())
            .map(|(&id, _)| id)
            .collect();
        order.sort_by_key(|id| {
            let peer = &self.peers[id];
            (peer.asked.len(), Reverse(peer.rate), *id)
        });
        self.ask_fetches(now);
        if self.target.is_some() {
            self.ask_target(now, &order);
        } else {
            for &id in &order {
                self.ask_head(now, id);
            }
            self.ask_headers(now, &order);
        }
        // One request to each in turn, so that the memory limit does not starve the last of them.
        while order.iter().filter(|&&id| self.ask_bodies(now, id)).count() > 0 {}
    }

    /// An eth/68 peer names its head by hash only: its number is asked for when the head is better than ours.
    fn ask_head(&mut self, now: Now, id: PeerId) {
        let peer = &self.peers[&id];
        if peer.head.number.is_none()
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
            && peer.claims_better(&self.tip)
            && !self.live.is_pending(&peer.head.hash)
    }

    /// Whether there is nothing to be caught up with along our own line.
    pub(super) fn main_is_idle(&self) -> bool {
        self.main.bodies.len() == 0
            && !self.main.headers.is_waiting()
            && !self.is_coming()
            && !self
                .peers
                .values()
                .any(|peer| peer.is_usable() && self.leads(peer))
    }

    fn ask_headers(&mut self, now: Now, order: &[PeerId]) {
        if now.s < self.main.pause_until_s || !self.peers.values().any(|peer| self.leads(peer)) {
            return;
        }
        let ours = self.tip.header.header.number;
        let window_end = ours.saturating_add(self.config.limits.header_window);
        for &id in order {
            let peer = &self.peers[&id];
            if peer.off_chain {
                continue;
            }
            let Some(top) = peer.top() else { continue };
            let batch = self.config.limits.header_batch.min(peer.header_cap);
            let open = peer.count(|what| matches!(what, What::Rising { .. }));
            for _ in open..self.config.limits.headers_per_peer {
                // Headers are served below `earliest` too: it bounds bodies.
                let Some((first, count)) = self.main.headers.take(0, top, window_end, batch) else {
                    break;
                };
                let what = What::Rising {
                    epoch: self.main.epoch,
                    first,
                    count,
                };
                self.ask(
                    now,
                    id,
                    what,
                    headers_of(Start::Number(first), count, false),
                    0,
                );
            }
        }
    }

    /// Asks `id` for one batch of bodies, if it has any that are wanted and the memory limit allows it.
    fn ask_bodies(&mut self, now: Now, id: PeerId) -> bool {
        let limits = self.config.limits.clone();
        let used = self.memory_bytes();
        let average = self.body_size.average();
        let peer = &self.peers[&id];
        let open = peer.count(|what| matches!(what, What::Bodies { .. }));
        if open >= limits.bodies_per_peer {
            return false;
        }
        let unknown_top = if self.target.is_some() { u64::MAX } else { 0 };
        let (earliest, top) = (peer.earliest, peer.top().unwrap_or(unknown_top));
        let fitting = limits.answer_bytes.min(peer.bytes_in_time()) / average;
        let batch = fitting
            .clamp(1, limits.body_batch_max)
            .max(if peer.rate == 0 {
                limits.body_batch_min
            } else {
                1
            })
            .min(if peer.rate == 0 {
                limits.body_batch_start
            } else {
                usize::MAX
            })
            .min(peer.body_cap);
        let on_main = !peer.off_chain;

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
            let room = self.config.memory_limit_bytes.saturating_sub(used) / average;
            let most = if room == 0 && self.main.bodies.front_is_unasked() {
                1
            } else {
                room
            };
            wanted = self.main.bodies.take(id, earliest, top, batch.min(most));
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
        let expected = wanted.len() * average;
        self.ask(now, id, What::Bodies { wanted }, request, expected);
        true
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
        if peer.asked.is_empty() {
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

    /// Finds peers that owe an answer for too long: their work goes to the others, and the second time they are dropped.
    pub(super) fn find_stalled(&mut self, now: Now) {
        let timeout = self.config.limits.request_timeout_ms;
        let stalled: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| stall_deadline(peer, timeout).is_some_and(|due| due <= now.ms))
            .map(|(&id, _)| id)
            .collect();
        for id in stalled {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            let oldest_ms = peer
                .asked
                .values()
                .map(|a| a.sent_ms)
                .min()
                .unwrap_or(now.ms);
            let waited_ms = now.ms.saturating_sub(oldest_ms);
            peer.stalls += 1;
            peer.good_answers = 0;
            peer.heard_ms = now.ms;
            if peer.stalls >= STALLS_ALLOWED {
                self.punish(id, Fault::Stalled { waited_ms });
                continue;
            }
            let open: Vec<Asked> = peer
                .asked
                .values()
                .filter(|a| !a.given_up)
                .cloned()
                .collect();
            for asked in peer.asked.values_mut() {
                asked.given_up = true;
                asked.sent_ms = now.ms;
                asked.expected_bytes = 0;
            }
            for asked in open {
                self.release(asked);
            }
        }
    }

    /// When work has waited for long that nobody could be asked for, what the peers lacked is asked for again.
    fn unstick(&mut self, now: Now) {
        let waiting =
            self.main.bodies.len() > 0 || self.main.headers.is_waiting() || self.target_waits();
        if !waiting || self.is_coming() {
            self.stuck_since_ms = None;
            return;
        }
        let since = *self.stuck_since_ms.get_or_insert(now.ms);
        if now.ms.saturating_sub(since) < self.config.limits.stuck_ms {
            return;
        }
        self.stuck_since_ms = Some(now.ms);
        match &mut self.target {
            Some(target) => {
                target.forget_refusals();
                self.main.bodies.forget_refusals();
            }
            // Headers without bodies may be a branch that nobody has whole: begin again from the head.
            None => self.restart_main(),
        }
    }

    /// Lets everything go that hangs on the head, and begins a new line there.
    pub(super) fn restart_main(&mut self) {
        self.main = self.new_pipe(self.tip.clone());
    }

    fn next_deadline(&self, now: Now) -> Option<u64> {
        let limits = &self.config.limits;
        let stalls = self
            .peers
            .values()
            .filter_map(|peer| stall_deadline(peer, limits.request_timeout_ms))
            .min();
        let flush = self
            .main
            .ready_since_ms
            .map(|since| since + limits.flush_ms);
        let stuck = self.stuck_since_ms.map(|since| since + limits.stuck_ms);
        let pause = self
            .main
            .pause_until_s
            .saturating_sub(now.s)
            .saturating_mul(1000);
        let pause = (pause > 0).then(|| now.ms.saturating_add(pause));
        let urgent = self
            .peers
            .values()
            .flat_map(|peer| peer.asked.values())
            .filter(|asked| matches!(asked.what, What::Bodies { .. }))
            .map(|asked| asked.sent_ms + limits.urgent_ms)
            .filter(|&due| due > now.ms)
            .min();
        [
            stalls,
            flush,
            stuck,
            pause,
            urgent,
            self.live.deadline(),
            self.tell_deadline(),
            self.poll_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|due| due.max(now.ms))
    }
}

/// Judges the answer that is next in `pipe`, if it is there.
pub(super) fn verify_next(
    rules: &Rules,
    peers: &mut BTreeMap<PeerId, Peer>,
    pipe: &mut Pipe,
    now: Now,
) -> Verified {
    let first = pipe.top_number() + 1;
    let Some(got) = pipe.headers.pop(first) else {
        return Verified::Nothing;
    };
    let count = got.headers.len() as u64;
    if got.headers[0].header.parent_hash != pipe.top().header.hash {
        pipe.headers.give_back(first, count);
        return Verified::Unlinked(got.peer);
    }
    for header in got.headers {
        let number = header.header.number;
        match rules.extend(pipe.top(), header, Some(now.s)) {
            Ok(tip) => pipe.bodies.push(tip, got.peer),
            Err(error) => {
                pipe.headers.give_back(number, first + count - number);
                let Some(due_s) = due_s(&error) else {
                    let fault = Fault::BadHeader {
                        number,
                        why: error.to_string(),
                    };
                    return Verified::Fault(got.peer, fault);
                };
                if due_s <= now.s.saturating_add(FUTURE_S) {
                    pipe.pause_until_s = due_s;
                } else if let Some(peer) = peers.get_mut(&got.peer) {
                    peer.lacks_from = Some(number);
                }
                return Verified::Some;
            }
        }
    }
    Verified::Some
}

/// When a peer has stalled: it has given no answer at all for the timeout, or not this one for three times as long (a slow
/// line brings one answer after the other).
fn stall_deadline(peer: &Peer, timeout_ms: u64) -> Option<u64> {
    let oldest_ms = peer.asked.values().map(|asked| asked.sent_ms).min()?;
    let silent = peer.heard_ms.saturating_add(timeout_ms);
    Some(silent.min(oldest_ms.saturating_add(timeout_ms.saturating_mul(3))))
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
