//! Moves everything on that can move after an input: verifies headers, stores complete blocks, has the rest asked for.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_net::reactor::PeerId;

use super::boundary::{Action, Block, ChainView, Now};
use super::fault::Fault;
use super::headers::Got;
use super::limits::FUTURE_S;
use super::machine::{Machine, due_s};
use super::peers::{Peer, What};
use super::pipe::Pipe;
use crate::chain::{Rules, Tip, clique};

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
        self.look_for_receipts(now, chain);
        loop {
            self.take_waiting(now, chain);
            self.take_orphan(now, chain);
            self.stop_at_terminal();
            self.verify_main(now);
            self.feed_target(now);
            self.watch_main(now);
            let mut moved = self.commit_main(now, false);
            moved |= self.step_branch(now, chain);
            self.ask_all(now);
            moved |= self.commit_main(now, true);
            if !moved {
                break;
            }
        }
        self.keep_receipts(now);
        if self.unstick(now) {
            self.ask_all(now); // before anybody can claim anew what he kept back
        }
        self.count_behind(now);
        self.leave_slow_staged();
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
        let (count, bytes) = self.main.bodies.ready();
        if count == 0 {
            self.main.ready_since_ms = None;
            return false;
        }
        // The store takes one run at a time, and all that has come meanwhile is the next.
        if self.storing_bytes.is_some() {
            return false;
        }
        let is_full = self.memory_bytes() + self.body_size.average() > self.memory_limit_bytes();
        let limits = &self.config.limits;
        let since = *self.main.ready_since_ms.get_or_insert(now.ms);
        let enough = count >= limits.commit_blocks
            || bytes >= self.config.commit_bytes()
            || (is_full && bytes >= self.config.memory_limit_bytes / 8)
            || now.ms.saturating_sub(since) >= limits.flush_ms;
        if !enough && (!dry || self.is_coming()) {
            return false;
        }
        let most = limits.commit_blocks.max(1);
        let count = (self.main.bodies).fitting(count.min(most), self.config.commit_bytes());
        let mut blocks = self.main.bodies.pop(count);
        let was_staged = self.staged.is_some();
        self.check_ommers(&mut blocks);
        if blocks.is_empty() || was_staged != self.staged.is_some() {
            return false;
        }
        self.main.ready_since_ms = None;
        if self.staged.is_some() {
            self.stage(now, blocks);
            return true;
        }
        self.store(now, self.main.base.header.header.number, blocks);
        self.main.base = self.tip.clone();
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
                blocks.truncate(index);
                self.give_up_target();
                return;
            }
            self.ommers.push(&tip.header, body);
        }
    }

    /// Whether headers or bodies of the main line are in flight that are not here yet: what was asked for twice may still be owed by
    /// the slower one, and nobody waits for that.
    pub(super) fn is_coming(&self) -> bool {
        let (epoch, verified) = (self.main.epoch, self.main.top_number());
        let stored = self.main.base.header.header.number;
        self.peers
            .values()
            .flat_map(|peer| peer.asked.values())
            .any(|asked| {
                !asked.given_up
                    && match &asked.what {
                        What::Rising {
                            epoch: of,
                            first,
                            count,
                        } => *of == epoch && first.saturating_add(*count) > verified + 1,
                        What::Bodies { wanted } => {
                            wanted.iter().any(|header| header.number() > stored)
                        }
                        What::Falling { .. } => true,
                        _ => false,
                    }
            })
    }

    /// A block to be stored, the next one of our chain.
    pub(super) fn block(&mut self, tip: &Tip, body: Bytes) -> Block {
        Block {
            header: tip.header.clone(),
            body,
            receipts: self.known_receipts(&tip.header),
            td: tip.td,
        }
    }

    /// Gives these blocks, which hang on block `ancestor` of our chain, out to be stored, and makes the last the head.
    pub(super) fn store(&mut self, now: Now, ancestor: u64, blocks: Vec<(Tip, Bytes, PeerId)>) {
        self.cut_receipts(ancestor);
        let mut out = Vec::with_capacity(blocks.len());
        let mut tips = Vec::with_capacity(blocks.len());
        for (tip, body, source) in blocks {
            if let Some(peer) = self.peers.get_mut(&source) {
                peer.empty_claims = 0;
            }
            out.push(self.block(&tip, body));
            tips.push(tip);
        }
        self.moved(now, ancestor, tips);
        self.storing(&out);
        self.actions.push_back(Action::Commit {
            blocks: out,
            tip: self.tip.clone(),
            live: false,
        });
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
    if now.s < pipe.pause_until_s || !rules.seal_is_checked_after(pipe.top()) {
        return Verified::Nothing;
    }
    let Some(got) = pipe.headers.pop(first) else {
        return Verified::Nothing;
    };
    let count = got.headers.len() as u64;
    if got.headers[0].header.parent_hash != pipe.top().header.hash {
        pipe.headers.give_back(first, count);
        return Verified::Unlinked(got.peer);
    }
    let mut is_begun = false;
    let mut headers = got.headers.into_iter();
    while let Some(header) = headers.next() {
        if !rules.seal_is_checked_after(pipe.top()) {
            return Verified::Some; // of what follows nobody can say whether it is right
        }
        let number = header.header.number;
        match rules.extend(pipe.top(), header.clone(), Some(now.s)) {
            Ok(tip) => {
                pipe.bodies.push(tip, got.peer);
                // The first one hangs where it should: the others are worth the work of several threads.
                if rules.spec.clique.is_some() && !std::mem::replace(&mut is_begun, true) {
                    clique::find_signers(headers.as_slice());
                }
            }
            Err(error) => {
                let Some(due_s) = due_s(&error) else {
                    pipe.headers.give_back(number, first + count - number);
                    let fault = Fault::BadHeader {
                        number,
                        why: error.to_string(),
                    };
                    return Verified::Fault(got.peer, fault);
                };
                if due_s <= now.s.saturating_add(FUTURE_S) {
                    pipe.pause_until_s = due_s;
                    let headers = std::iter::once(header).chain(headers).collect();
                    let got = Got { headers, ..got };
                    pipe.headers.put(number, got);
                    return Verified::Some;
                }
                pipe.headers.give_back(number, first + count - number);
                if let Some(peer) = peers.get_mut(&got.peer) {
                    peer.lacks_from = Some(number);
                    peer.tell_clock(number, due_s, now.s);
                }
                return Verified::Some;
            }
        }
    }
    Verified::Some
}
