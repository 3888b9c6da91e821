//! A branch that hangs on a block of ours is followed upwards until it outweighs our chain: in memory as long as there is room, else
//! weighed by its headers alone, of which only some hashes are kept.

use std::collections::BTreeMap;

use alloy_primitives::B256;
use cairn_net::reactor::PeerId;
use log::Level;

use super::boundary::{ChainView, Now};
use super::branch::{Branch, Stage};
use super::choice::is_better;
use super::limits::{ANCHORS_LIMIT, REFUSALS_TOLD};
use super::machine::Machine;
use super::peers::What;
use super::pipe::Pipe;
use super::schedule::{Verified, verify_next};
use super::target::Target;
use crate::chain::Tip;

/// A branch on its way up.
#[derive(Debug)]
pub(super) struct Follow {
    /// The block of ours that it hangs on.
    pub(super) base: Tip,
    pub(super) pipe: Pipe,
    /// Hashes of the headers that were let go, one of each window of a target's: it is too long for the memory.
    anchors: Option<BTreeMap<u64, B256>>,
}

impl Follow {
    /// A branch above our block `base`.
    pub(super) fn new(base: Tip, pipe: Pipe) -> Follow {
        Follow {
            base,
            pipe,
            anchors: None,
        }
    }

    /// The place of the first verified block that is better than `ours`, if there is one.
    fn better(&self, ours: &Tip) -> Option<usize> {
        let bodies = &self.pipe.bodies;
        (0..bodies.len()).find(|&i| bodies.tip(i).is_some_and(|tip| is_better(tip, ours)))
    }

    /// The number up to which bodies are wanted: none before the headers outweigh `ours`.
    pub(super) fn enough(&self, ours: &Tip) -> Option<u64> {
        let tip = self.pipe.bodies.tip(self.better(ours)?)?;
        Some(tip.header.header.number)
    }

    /// Lets the verified headers go, but for a hash of every window of `every`. False if it has too many windows.
    fn let_go(&mut self, every: u64) -> bool {
        let anchors = self.anchors.get_or_insert_default();
        let top = self.pipe.top().clone();
        for index in 0..self.pipe.bodies.len() {
            if let Some(tip) = self.pipe.bodies.tip(index) {
                let number = tip.header.header.number;
                if number % every == every - 1 {
                    anchors.insert(number, tip.header.hash);
                }
            }
        }
        self.pipe.forget_below(top);
        anchors.len() <= ANCHORS_LIMIT
    }
}

impl Machine {
    /// Verifies what has come of the branch, stores it if it is better, asks for more of it or leaves it. True if our line moved.
    pub(super) fn follow_branch(
        &mut self,
        now: Now,
        mut branch: Branch,
        chain: &dyn ChainView,
    ) -> bool {
        let id = branch.peer;
        let Stage::Follow(follow) = &mut branch.stage else {
            return false;
        };
        loop {
            match verify_next(&self.rules, &mut self.peers, &mut follow.pipe, now) {
                Verified::Nothing => break,
                Verified::Some => {}
                Verified::Unlinked(_) => {
                    // It named this ancestor itself: it moved over just now, or it lies.
                    if let Err(fault) = self.empty_claim(id) {
                        self.punish(id, fault);
                    }
                    return false;
                }
                Verified::Fault(peer, fault) => {
                    self.punish(peer, fault);
                    return false;
                }
            }
        }
        let outweighs = is_better(follow.pipe.top(), &self.tip);
        let first = follow.pipe.bodies.tip(0).map(|tip| tip.header.clone());
        if first.is_some_and(|first| self.canonical(&first.hash, first.number(), chain)) {
            // Our chain has gone the same way meanwhile: where it leaves it now is looked for anew. Who shows us our own blocks again and
            // again keeps the others waiting; but where our clock is behind and lets one block after the other in, nobody does.
            let waited_for_clock = follow.pipe.pause_until_s > 0;
            if !waited_for_clock && let Err(fault) = self.empty_claim(id) {
                self.punish(id, fault);
            }
            return false;
        }
        let (ready, _) = follow.pipe.bodies.ready();
        let is_whole = follow.anchors.is_none();
        let better = follow.better(&self.tip);
        let is_free = self.storing_bytes.is_none(); // the store takes one run at a time
        if is_whole && is_free && better.is_some_and(|better| better < ready) {
            return self.take_branch(now, branch, ready, chain);
        }
        let held = follow.pipe.held_bytes(self.config.limits.header_bytes);
        let is_too_much = held > self.config.branch_bytes();
        if !is_whole || (is_too_much && !outweighs) {
            let every = self.config.limits.anchor_every.max(1);
            if !follow.let_go(every) {
                log::warn!("Left a branch of more than {ANCHORS_LIMIT} times {every} blocks");
                self.judge(id, branch.head);
                return false;
            }
        }
        if outweighs && (is_too_much || !is_whole) {
            if !self.main_may_wait(now) {
                branch.pace.wait(now.ms);
                self.branch = Some(branch); // our chain may outweigh it yet
                return false;
            }
            return self.stage_branch(now, branch, chain);
        }
        if outweighs {
            // It is held up by nobody who lacks the next body, has forgotten it or does not claim it any more.
            let peer = self.peers.get(&id);
            let has = peer.map_or(0..=0, |peer| peer.earliest..=peer.top().unwrap_or(0));
            let bodies = &follow.pipe.bodies;
            let next = bodies.front_missing_number();
            if bodies.front_is_refused_by(id) || next.is_some_and(|next| !has.contains(&next)) {
                self.judge(id, branch.head);
                return false;
            }
            self.branch = Some(branch); // its bodies are asked for with the others
            return false;
        }
        self.ask_branch(now, branch);
        false
    }

    /// Asks for more headers of the branch, or leaves it if that is all of it.
    fn ask_branch(&mut self, now: Now, mut branch: Branch) {
        let id = branch.peer;
        let (Some(peer), Stage::Follow(follow)) = (self.peers.get(&id), &mut branch.stage) else {
            return;
        };
        let pipe = &mut follow.pipe;
        let epoch = pipe.epoch;
        let is_asked = |what: &What| matches!(what, What::Rising { epoch: of, .. } if *of == epoch);
        // One answer at a time: it is one peer's word.
        if now.s < pipe.pause_until_s || peer.count(is_asked) > 0 {
            self.branch = Some(branch);
            return;
        }
        let batch = self.config.limits.header_batch.min(peer.header_cap);
        let top = peer.top().unwrap_or(0);
        match pipe.headers.take(top, u64::MAX, batch) {
            Some((first, count)) => {
                self.ask_rising(now, id, epoch, (first, count));
                self.branch = Some(branch);
            }
            None => self.judge(id, branch.head), // all of it is here, and it is not better
        }
    }

    /// Makes the branch, whose first `ready` blocks are here and better than ours, our chain.
    fn take_branch(
        &mut self,
        now: Now,
        branch: Branch,
        ready: usize,
        chain: &dyn ChainView,
    ) -> bool {
        let Some(follow) = self.still_hangs(branch, chain) else {
            return false;
        };
        let Follow { base, mut pipe, .. } = follow;
        let blocks = pipe.bodies.pop(ready);
        let fork = (base.header.header.number, base.header.hash);
        if let Some((new, _, _)) = blocks.last() {
            self.reorganise(fork, new);
        }
        self.store(now, fork.0, blocks);
        self.untold = true;
        pipe.base = self.tip.clone();
        self.main = pipe;
        self.off_chain_forgotten();
        true
    }

    /// Has the branch, whose headers outweigh our chain, fetched into the store part by part.
    fn stage_branch(&mut self, now: Now, branch: Branch, chain: &dyn ChainView) -> bool {
        let claimed = (branch.peer, branch.head);
        let first = branch.fork().map_or(0, |fork| fork + 1);
        let mut claiming = self
            .peers
            .values()
            .filter(|peer| peer.claims_better(&self.tip));
        if claiming.all(|peer| peer.earliest > first) {
            log::info!("Left a branch that nobody has whole: from block {first} on");
            self.judge(branch.peer, branch.head);
            return false;
        }
        let Some(follow) = self.still_hangs(branch, chain) else {
            return false;
        };
        let Follow {
            base,
            pipe,
            anchors,
        } = follow;
        let top = pipe.top().clone();
        let bottom = base.header.header.number + 1;
        let main = match anchors {
            None => pipe,
            Some(_) => self.new_pipe(base.clone()),
        };
        let target = Target::weighed(&top, bottom, anchors.unwrap_or_default(), claimed);
        self.begin_staged(now, &base, top.header.header.number, main, target);
        true
    }

    /// The branch, unless the block that it hangs on was settled since the search began.
    fn still_hangs(&mut self, branch: Branch, chain: &dyn ChainView) -> Option<Follow> {
        let (id, head) = (branch.peer, branch.head);
        let Stage::Follow(follow) = branch.stage else {
            return None;
        };
        let base = follow.base.header.header.number;
        if base < self.lowest_fork(chain) {
            self.refuse(id, base + 1, head, chain);
            return None;
        }
        Some(*follow)
    }

    /// Leaves a branch that hangs too low on our chain, and says so: loudly once for a peer and the place where it leaves our chain,
    /// for the peer may claim heads as it likes.
    pub(super) fn refuse(&mut self, id: PeerId, lowest: u64, head: B256, chain: &dyn ChainView) {
        let ours = self.tip.header.header.number;
        let floor = self.lowest_fork(chain);
        let is_new = self
            .peers
            .get_mut(&id)
            .is_some_and(|peer| peer.refused.len() < REFUSALS_TOLD && peer.refused.insert(lowest));
        let level = if is_new { Level::Warn } else { Level::Debug };
        log::log!(
            level,
            "Refused a branch that leaves our chain at block {lowest} or below: head={ours} settled={floor} peer={} branch={head}",
            id.0,
        );
        self.judge(id, head);
    }
}
