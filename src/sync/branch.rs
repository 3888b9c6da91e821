//! Another branch than ours: finds where a peer's chain leaves our own. From there on `follow.rs` has it.

use std::cmp::Reverse;
use std::sync::Arc;

use alloy_primitives::B256;
use cairn_net::eth::message::Start;
use cairn_net::reactor::PeerId;

use super::asking::headers_of;
use super::boundary::{ChainView, Now};
use super::fault::Fault;
use super::follow::Follow;
use super::limits::{ANCESTOR_FIRST, RESTORE_MIN_MS, SLOW_TIMEOUTS};
use super::machine::Machine;
use super::peers::{Peer, What};
use super::pipe::Pipe;
use super::timing::Pace;
use crate::chain::{SealedHeader, Tip};
use crate::logging::reorg;

/// The one branch that is looked into.
#[derive(Debug)]
pub(super) struct Branch {
    /// Who claims it. Only its headers are believed to belong to it, and it goes when the peer goes.
    pub(super) peer: PeerId,
    /// The head that was claimed when the search began.
    pub(super) head: B256,
    pub(super) stage: Stage,
    /// How it gets on, from the beginning of the search and of the way up: the number of its top, bytes of its bodies.
    pub(super) pace: Pace,
}

/// How far the search is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Headers falling from here are asked for, to find one that is ours too.
    Seek { top: u64, asked: bool },
    /// Deeper: single headers are asked for, halving what is between.
    Probe(Probe),
    /// It hangs on a block of ours and is followed upwards.
    Follow(Box<Follow>),
}

/// Where the peer's chain leaves ours: at `low` or above, and below `high`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    /// The lowest block that a branch may hang on.
    floor: u64,
    /// The highest that is known to be in both; `None`: the floor is not known to be yet.
    low: Option<u64>,
    /// The lowest that is known to be another one there.
    high: u64,
    asked: bool,
}

impl Probe {
    /// The block to ask for; `None` if all is known.
    fn next(&self) -> Option<u64> {
        match self.low {
            None => Some(self.floor),
            Some(low) => (low + 1 < self.high).then_some(low.midpoint(self.high)),
        }
    }
}

impl Branch {
    /// The branch's line, once it hangs on a block of ours.
    pub(super) fn pipe_mut(&mut self) -> Option<&mut Pipe> {
        match &mut self.stage {
            Stage::Seek { .. } | Stage::Probe(_) => None,
            Stage::Follow(follow) => Some(&mut follow.pipe),
        }
    }

    /// The block of ours that it hangs on, once that is known.
    pub(super) fn fork(&self) -> Option<u64> {
        match &self.stage {
            Stage::Seek { .. } | Stage::Probe(_) => None,
            Stage::Follow(follow) => Some(follow.base.header.header.number),
        }
    }

    /// The last verified block of its line, once it hangs on a block of ours.
    pub(super) fn top(&self) -> Option<&Tip> {
        match &self.stage {
            Stage::Seek { .. } | Stage::Probe(_) => None,
            Stage::Follow(follow) => Some(follow.pipe.top()),
        }
    }

    /// The branch's line if its bodies are wanted from this peer, and the number up to which they are: only once its headers
    /// outweigh `ours`, and no further.
    pub(super) fn wanting(&mut self, peer: PeerId, ours: &Tip) -> Option<(&mut Pipe, u64)> {
        let Stage::Follow(follow) = &mut self.stage else {
            return None;
        };
        let enough = follow.enough(ours).filter(|_| self.peer == peer)?;
        Some((&mut follow.pipe, enough))
    }

    /// What it holds, if a verified header takes `header_bytes`.
    pub(super) fn held_bytes(&self, header_bytes: usize) -> usize {
        match &self.stage {
            Stage::Seek { .. } | Stage::Probe(_) => 0,
            Stage::Follow(follow) => follow.pipe.held_bytes(header_bytes),
        }
    }
}

impl Machine {
    /// The line of the branch that is followed, if there is one.
    pub(super) fn branch_pipe(&mut self) -> Option<&mut Pipe> {
        self.branch.as_mut().and_then(Branch::pipe_mut)
    }

    /// Moves the branch on, or begins with one. True if our head moved.
    pub(super) fn step_branch(&mut self, now: Now, chain: &dyn ChainView) -> bool {
        if self.target.is_some() {
            return false;
        }
        if self.branch.is_none() && self.main_may_wait(now) {
            self.begin_branch(now, chain);
        }
        let Some(mut branch) = self.branch.take() else {
            return false;
        };
        let id = branch.peer;
        if !self.peers.get(&id).is_some_and(Peer::is_usable) {
            return false;
        }
        match &mut branch.stage {
            Stage::Seek { top, asked } => {
                if !std::mem::replace(asked, true) {
                    self.ask_ancestors(now, id, *top, ANCESTOR_FIRST.min(*top + 1));
                }
                self.branch = Some(branch);
                false
            }
            Stage::Probe(probe) => {
                if let Some(number) = probe.next().filter(|_| !probe.asked) {
                    probe.asked = true;
                    self.ask_ancestors(now, id, number, 1);
                }
                self.branch = Some(branch);
                false
            }
            Stage::Follow(_) => self.follow_branch(now, branch, chain),
        }
    }

    /// The best claim among the peers that do not follow our line.
    fn begin_branch(&mut self, now: Now, chain: &dyn ChainView) {
        let ours = self.tip.header.header.number;
        loop {
            let best = self
                .peers
                .iter()
                .filter(|(_, peer)| {
                    peer.is_usable()
                        && peer.lacks_from.is_none()
                        && peer.no_branch_before_ms <= now.ms
                        && peer.claims_better(&self.tip)
                        && peer
                            .head
                            .number
                            .is_some_and(|number| peer.off_chain || number <= ours)
                        && !self.live.is_pending(&peer.head.hash)
                })
                // Each in turn, lest one that boasts keeps the others waiting.
                .max_by_key(|(id, peer)| {
                    let claim = (peer.head.td, peer.head.number);
                    (Reverse(peer.searched_ms), claim, Reverse(**id))
                })
                .map(|(&id, peer)| (id, peer.head.hash, peer.head.number.unwrap_or(0)));
            let Some((id, head, number)) = best else {
                return;
            };
            if self.canonical(&head, number, chain) || self.live.is_pooled(&head) {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.judged = Some(head); // its head is ours, or was weighed when it was announced
                }
                continue;
            }
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.searched_ms = now.ms;
            }
            let stage = Stage::Seek {
                top: number.min(ours),
                asked: false,
            };
            self.branch = Some(Branch {
                peer: id,
                head,
                stage,
                pace: Pace::begun(now.ms, 0),
            });
            return;
        }
    }

    /// Lets a branch go of which next to nothing comes for as long as a request may take: others may be had meanwhile.
    pub(super) fn unstick_branch(&mut self, now: Now) {
        if let Some(branch) = &mut self.branch
            && let Stage::Follow(follow) = &branch.stage
        {
            let at = (follow.pipe.top_number(), follow.pipe.bodies.held_bytes());
            branch.pace.look(now.ms, at, false);
        }
        if self
            .branch_stuck_ms()
            .is_some_and(|due_ms| due_ms <= now.ms)
            && let Some(branch) = self.branch.take()
        {
            self.judge(branch.peer, branch.head);
        }
    }

    /// When the branch will have crept for so long. While it is looked for each request has its own timeout, and there are some thirty at
    /// the most.
    fn branch_stuck_ms(&self) -> Option<u64> {
        let branch = self.branch.as_ref()?;
        let times = if branch.fork().is_some() { 1 } else { 2 };
        let timeout_ms = self.config.limits.request_timeout_ms;
        let patience_ms = timeout_ms.saturating_mul(SLOW_TIMEOUTS * times);
        Some(branch.pace.since_ms().saturating_add(patience_ms))
    }

    /// When that is, or when a branch may be looked for that had to wait.
    pub(super) fn branch_deadline(&self, now: Now) -> Option<u64> {
        let waits = self.peers.values().map(|peer| peer.no_branch_before_ms);
        let waits = waits.filter(|&at_ms| at_ms > now.ms).min();
        waits.into_iter().chain(self.branch_stuck_ms()).min()
    }

    fn ask_ancestors(&mut self, now: Now, id: PeerId, top: u64, count: u64) {
        let request = headers_of(Start::Number(top), count, true);
        self.ask(now, id, What::Ancestor { top, count }, request, 0);
    }

    /// Headers of a peer falling from `top`, which link to each other: is one of them ours?
    pub(super) fn ancestor_answer(
        &mut self,
        now: Now,
        id: PeerId,
        (top, count): (u64, u64),
        headers: &[Arc<SealedHeader>],
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        let Some(branch) = self.branch.take_if(|branch| branch.peer == id) else {
            return Ok(());
        };
        if matches!(branch.stage, Stage::Follow(_)) {
            self.branch = Some(branch);
            return Ok(());
        }
        if headers.is_empty() {
            if let Some(peer) = self.peers.get_mut(&id) {
                if peer.begins_above(top) {
                    // Looked for again above; below there is nothing to be had of it.
                    if matches!(branch.stage, Stage::Seek { .. }) {
                        peer.judged = Some(branch.head);
                    }
                    return Ok(());
                }
                peer.lacks_from = Some(top);
            }
            return self.empty_claim(id);
        }
        let ours = self.tip.header.header.number;
        let common = headers
            .iter()
            .find(|header| self.canonical(&header.hash, header.header.number, chain))
            .map(|header| header.header.number);
        let lowest = top - (headers.len() as u64 - 1);
        if let Stage::Probe(probe) = branch.stage {
            return self.probed(now, branch, (probe, top), common.is_some(), chain);
        }
        if let Some(number) = common {
            if number == ours {
                // It follows our line after all: what did not link was another's, or it moved over.
                let is_led_astray = self.main.bodies.len() > 0;
                let Some(peer) = self.peers.get_mut(&id) else {
                    return Ok(());
                };
                if peer.off_chain && is_led_astray {
                    // The headers above our head are another's, and both cannot be followed: those that came first, while they get on.
                    if self.main_stands_still(now) {
                        self.leave_main();
                    }
                    return Ok(());
                }
                let suspected = std::mem::take(&mut peer.off_chain);
                if peer.head.number.is_none_or(|number| number <= ours) {
                    peer.judged = Some(peer.head.hash);
                }
                return if suspected {
                    self.empty_claim(id)
                } else {
                    Ok(())
                };
            }
            if number == top && number < ours {
                // Our head has moved on since it was asked: of what lies above nothing is known. Begun again, if it claims more.
                if let Some(peer) = self.peers.get_mut(&id)
                    && peer.head.number.is_none_or(|head| head <= top)
                {
                    peer.judged = Some(peer.head.hash);
                    // It claimed another block than it has there.
                    let claimed = (peer.head.number, peer.head.hash);
                    let is_there = |header: &Arc<SealedHeader>| {
                        (Some(header.number()), header.hash) == claimed
                    };
                    if !headers.iter().any(is_there) {
                        return self.empty_claim(id);
                    }
                }
                return Ok(());
            }
            return self.follow_from(now, branch, number, chain);
        }
        if lowest == 0 {
            let why = format!("its block 0 is not ours, though its Status said so (asked {count})");
            return Err(Fault::BadHeader { number: 0, why });
        }
        let theirs = self.peers.get(&id).map_or(0, |peer| peer.first_header);
        let floor = self.lowest_fork(chain).max(theirs);
        if lowest <= floor {
            self.refuse(id, lowest, branch.head, chain);
            return Ok(());
        }
        let stage = Stage::Probe(Probe {
            floor,
            low: (floor == 0).then_some(0), // its Status said that the genesis block is ours
            high: lowest,
            asked: false,
        });
        self.branch = Some(Branch { stage, ..branch });
        Ok(())
    }

    /// Block `number` of the peer's chain is ours too, or is not.
    fn probed(
        &mut self,
        now: Now,
        branch: Branch,
        (mut probe, number): (Probe, u64),
        is_ours: bool,
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        match is_ours {
            true => probe.low = Some(number),
            false if number == probe.floor => {
                self.refuse(branch.peer, number, branch.head, chain);
                return Ok(());
            }
            false => probe.high = number,
        }
        if let (None, Some(low)) = (probe.next(), probe.low) {
            return self.follow_from(now, branch, low, chain);
        }
        probe.asked = false;
        let stage = Stage::Probe(probe);
        self.branch = Some(Branch { stage, ..branch });
        Ok(())
    }

    /// Begins to follow a branch that hangs on our block `number`.
    fn follow_from(
        &mut self,
        now: Now,
        branch: Branch,
        number: u64,
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        let id = branch.peer;
        if number < self.lowest_fork(chain) {
            self.refuse(id, number + 1, branch.head, chain);
            return Ok(());
        }
        if !self.may_restore(now, id, number) {
            log::debug!("A branch at block {number} waits: its peer had one rebuilt just now");
            if let Some(peer) = self.peers.get_mut(&id) {
                let rebuilt_ms = peer.restored_ms.unwrap_or(now.ms);
                peer.no_branch_before_ms = rebuilt_ms.saturating_add(RESTORE_MIN_MS);
            }
            return Ok(());
        }
        let Some(base) = self.tip_at(number, chain) else {
            log::error!("Cannot rebuild the chain's state at block {number}: the branch is left");
            self.judge(id, branch.head);
            return Ok(());
        };
        let pipe = self.new_pipe(base.clone());
        let stage = Stage::Follow(Box::new(Follow::new(base, pipe)));
        self.branch = Some(Branch {
            stage,
            pace: Pace::begun(now.ms, number),
            ..branch
        });
        Ok(())
    }

    /// The lowest block of ours that a branch may hang on.
    pub(super) fn lowest_fork(&self, chain: &dyn ChainView) -> u64 {
        chain.lowest_fork().max(self.config.settled)
    }

    /// Whether the state at block `number` may be had for this peer's branch: at once if it is at hand, else once in a while,
    /// for it takes reading up to an epoch of headers.
    fn may_restore(&mut self, now: Now, id: PeerId, number: u64) -> bool {
        let is_at_hand = self.recent.contains_key(&number)
            || self
                .restored
                .as_ref()
                .is_some_and(|tip| tip.header.header.number == number);
        let Some(peer) = self.peers.get_mut(&id).filter(|_| !is_at_hand) else {
            return is_at_hand;
        };
        if peer
            .restored_ms
            .is_some_and(|at| now.ms.saturating_sub(at) < RESTORE_MIN_MS)
        {
            return false;
        }
        peer.restored_ms = Some(now.ms);
        true
    }

    /// The state of our chain at block `number`.
    pub(super) fn tip_at(&mut self, number: u64, chain: &dyn ChainView) -> Option<Tip> {
        if let Some(tip) = self.recent.get(&number) {
            return Some(tip.clone());
        }
        let kept = self.restored.as_ref().filter(|tip| {
            tip.header.header.number == number && chain.hash(number) == Some(tip.header.hash)
        });
        if let Some(tip) = kept {
            return Some(tip.clone());
        }
        let td = chain.td(number)?;
        let kept = self.kept.before(number, self.rules.spec.clique_epoch());
        match self
            .rules
            .restore(number, td, kept, &mut |number| chain.header(number))
        {
            Ok(tip) => {
                self.restored = Some(tip.clone());
                Some(tip)
            }
            Err(error) => {
                log::error!("Stored headers do not verify: {error}");
                None
            }
        }
    }

    /// This peer's head has been weighed.
    pub(super) fn judge(&mut self, id: PeerId, head: B256) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.judged = Some(head);
        }
    }

    /// Says that blocks of ours above `ancestor` give way.
    pub(super) fn reorganise(&mut self, ancestor: (u64, B256), new: &Tip) {
        let name = |tip: &Tip| (tip.header.header.number, tip.header.hash);
        reorg(ancestor, name(&self.tip), name(new));
    }

    /// After a change of branch nobody is known to be on another one.
    pub(super) fn off_chain_forgotten(&mut self) {
        for peer in self.peers.values_mut() {
            peer.off_chain = false;
        }
        self.receipts_newcomer(); // they may have what was passed over
    }
}
