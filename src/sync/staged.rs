//! A branch that is too long to be held in memory: its blocks go into the store as they come, and take the place of ours all at
//! once, when they outweigh them. Until then our chain is what it was, and nothing else is stored.

use std::collections::VecDeque;

use alloy_primitives::B256;
use bytes::Bytes;
use cairn_net::reactor::PeerId;

use super::boundary::{Action, Block, Now, Staging};
use super::limits::{RECENT_TIPS, STAGED_PACE_BLOCKS, STAGED_PACE_BYTES};
use super::machine::Machine;
use super::pipe::Pipe;
use super::target::Target;
use crate::chain::{OmmerWindow, Tip};

/// The branch that is on its way into the store.
#[derive(Debug)]
pub(super) struct Staged {
    /// The block of ours that it hangs on.
    fork: (u64, B256),
    /// The block with which it takes the place of ours.
    until: u64,
    /// Its last blocks, as many as are remembered of our chain.
    tips: VecDeque<Tip>,
    /// Whether the store knows of it.
    is_begun: bool,
    /// How far it was when it had got on last, and the bytes that have come since.
    paced: u64,
    bytes: usize,
}

impl Machine {
    /// Begins to put a branch into the store that hangs on our block `base`. Its blocks come through `main`, their headers by
    /// `target`, and with block `until` it takes the place of ours.
    pub(super) fn begin_staged(
        &mut self,
        now: Now,
        base: &Tip,
        until: u64,
        main: Pipe,
        target: Target,
    ) {
        let fork = (base.header.header.number, base.header.hash);
        log::info!(
            "Fetching a branch fork={} hash={} until={until} head={}",
            fork.0,
            fork.1,
            self.tip.header.header.number
        );
        self.branch = None;
        self.main = main;
        self.target = Some(target);
        self.staged = Some(Staged {
            fork,
            until,
            tips: VecDeque::new(),
            is_begun: false,
            paced: fork.0,
            bytes: 0,
        });
        self.ommers = OmmerWindow::new();
        self.off_chain_forgotten();
        self.behind.begin_again(now);
    }

    /// Gives the branch's next blocks out; with the last one it becomes our chain.
    pub(super) fn stage(&mut self, now: Now, blocks: Vec<(Tip, Bytes, PeerId)>) {
        let Some(staged) = &mut self.staged else {
            return;
        };
        let mut out = Vec::with_capacity(blocks.len());
        if !std::mem::replace(&mut staged.is_begun, true) {
            let fork = staged.fork.0;
            self.actions
                .push_back(Action::Stage(Staging::Begin { fork }));
        }
        for (tip, body, source) in blocks {
            staged.bytes += tip.header.raw.len() + body.len();
            if let Some(peer) = self.peers.get_mut(&source) {
                peer.empty_claims = 0;
            }
            out.push(Block {
                header: tip.header.clone(),
                body,
                receipts: None, // asked for when the branch is ours
                td: tip.td,
            });
            staged.tips.push_back(tip);
            if staged.tips.len() > RECENT_TIPS {
                staged.tips.pop_front();
            }
        }
        let (last, until) = (staged.tips.back().cloned(), staged.until);
        self.storing(&out);
        self.actions
            .push_back(Action::Stage(Staging::Add { blocks: out }));
        if let Some(last) = last {
            let is_whole = last.header.header.number >= until;
            self.main.base = last;
            if is_whole {
                self.publish_staged(now);
            }
        }
    }

    fn publish_staged(&mut self, now: Now) {
        let Some(Staged { fork, tips, .. }) = self.staged.take() else {
            return;
        };
        if self.target.as_ref().is_some_and(Target::is_weighed) {
            self.target = None;
        }
        if let Some(new) = tips.back() {
            self.reorganise(fork, new);
        }
        self.cut_receipts(fork.0);
        self.moved(now, fork.0, tips);
        self.off_chain_forgotten();
        self.untold = true;
        let tip = self.tip.clone();
        self.actions
            .push_back(Action::Stage(Staging::Publish { tip }));
    }

    /// Lets the branch go, if one is on its way: our chain stays.
    pub(super) fn leave_staged(&mut self) {
        let Some(staged) = self.staged.take() else {
            return;
        };
        if let Some((id, head)) = self.target.as_ref().and_then(Target::claimed) {
            self.target = None;
            self.judge(id, head);
        }
        if staged.is_begun {
            self.actions.push_back(Action::Stage(Staging::Leave));
        }
    }

    /// Lets a branch go that does not get on, for nothing else is stored meanwhile: it was a peer's word that there is one.
    pub(super) fn leave_slow_staged(&mut self) {
        let is_weighed = self.target.as_ref().is_some_and(Target::is_weighed);
        if let Some(staged) = self.staged.as_ref().filter(|_| is_weighed)
            && self.behind.is_out_of_patience()
        {
            log::warn!(
                "Left a branch that nobody has whole, or not fast enough: fork={} until={} reached={}",
                staged.fork.0,
                staged.until,
                self.main.base.header.header.number
            );
            self.restart_main();
        }
    }

    /// Whether a good part of the branch has come since this was last so.
    pub(super) fn staged_gets_on(&mut self) -> bool {
        let reached = self.main.base.header.header.number;
        let Some(staged) = &mut self.staged else {
            return false;
        };
        let gets_on = reached >= staged.paced.saturating_add(STAGED_PACE_BLOCKS)
            || staged.bytes >= STAGED_PACE_BYTES;
        if gets_on {
            (staged.paced, staged.bytes) = (reached, 0);
        }
        gets_on
    }
}
