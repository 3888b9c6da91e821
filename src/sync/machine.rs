//! The sync machine: events and time in; requests, blocks to store and verdicts on peers out. No socket, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use alloy_primitives::B256;
use cairn_net::reactor::{NetEvent, PeerId};

use super::announced::Live;
use super::behind::Behind;
use super::bodies::BodySize;
#[cfg(doc)]
use super::boundary::Staging;
use super::boundary::{Action, Block, ChainView, MachineConfig, Now, SealedBlock, SyncStatus};
use super::branch::Branch;
use super::limits::{POLL_PERIODS, RECENT_TIPS, STAGED_BYTES};
use super::peers::{Peer, What};
use super::pipe::Pipe;
use super::receipts::Receipts;
use super::staged::Staged;
use super::target::Target;
use super::timing::Pace;
use crate::chain::{HeaderError, OmmerWindow, Rules, Tip};
use crate::snapshots::Kept;

/// See the module's first line. Outputs are drained after every input.
pub struct Machine {
    pub(super) rules: Arc<Rules>,
    pub(super) config: MachineConfig,
    /// The stored head.
    pub(super) tip: Tip,
    /// The tips of the last canonical blocks, the head's with them.
    pub(super) recent: BTreeMap<u64, Tip>,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    pub(super) actions: VecDeque<Action>,
    next_id: u64,
    next_epoch: u64,
    /// The line that hangs on our head.
    pub(super) main: Pipe,
    /// Another line, that may become better than ours.
    pub(super) branch: Option<Branch>,
    /// The last state of our chain that was rebuilt for a branch, which may be claimed again.
    pub(super) restored: Option<Tip>,
    /// Older snapshots of our chain's signers, to rebuild a state from.
    pub(super) kept: Kept,
    /// What is followed by its hash: where seals cannot be checked, or a branch that was weighed.
    pub(super) target: Option<Target>,
    /// The branch that goes into the store part by part, if one does.
    pub(super) staged: Option<Staged>,
    pub(super) live: Live,
    /// The receipts that are wanted, if any are.
    pub(super) receipts: Option<Receipts>,
    pub(super) body_size: BodySize,
    /// When the head last moved, or the chain was last asked for news.
    pub(super) news_ms: u64,
    /// When our head moved last.
    pub(super) moved_ms: u64,
    pub(super) last_polled: Option<PeerId>,
    /// The peer that may have more than it was asked for.
    pub(super) poll_more: Option<PeerId>,
    /// How far everything was when it was last looked at, and since when that has not changed though there is work.
    pub(super) progress: (u64, u64, usize, usize),
    pub(super) stuck_since_ms: Option<u64>,
    /// How the main line gets on.
    pub(super) main_pace: Pace,
    /// The last block of which was told that nobody has its body.
    pub(super) told_lacking: Option<u64>,
    /// The last block of a target of which was told that it is ahead of the clock.
    pub(super) told_future: Option<u64>,
    /// For how long a better chain has been claimed.
    pub(super) behind: Behind,
    /// Blocks were stored in catch-up that no peer has been told of.
    pub(super) untold: bool,
    /// The last blocks of a chain that may have ommers.
    pub(super) ommers: OmmerWindow,
    /// Peers (by public key) that left when they were sent an announcement.
    pub(super) shy: BTreeSet<[u8; 64]>,
    /// The two clocks when they were last given together.
    pub(super) clocks: Now,
    /// Bytes of the run of blocks that was given out to be stored and is not yet.
    pub(super) storing_bytes: Option<usize>,
    /// When it was first called.
    pub(super) first_ms: Option<u64>,
    /// The next moment at which time alone changes something.
    pub(super) deadline: Option<u64>,
}

impl Machine {
    /// A machine that goes on from the stored head.
    pub fn new(rules: Arc<Rules>, tip: Tip, config: MachineConfig) -> Machine {
        let target = Target::new(&rules, &config, &tip);
        let behind = Behind::new(&tip);
        let receipts = Receipts::new(&config);
        let limits = &config.limits;
        Machine {
            recent: BTreeMap::from([(tip.header.header.number, tip.clone())]),
            body_size: BodySize::new(limits.answer_bytes / limits.body_batch_start.max(1)),
            main: Pipe::new(0, tip.clone()),
            kept: config.kept.clone(),
            rules,
            config,
            tip,
            peers: BTreeMap::new(),
            actions: VecDeque::new(),
            next_id: 1,
            next_epoch: 1,
            branch: None,
            restored: None,
            target,
            staged: None,
            live: Live::default(),
            receipts,
            news_ms: 0,
            moved_ms: 0,
            last_polled: None,
            poll_more: None,
            ommers: OmmerWindow::new(),
            progress: (0, 0, 0, 0),
            stuck_since_ms: None,
            main_pace: Pace::default(),
            told_lacking: None,
            told_future: None,
            behind,
            untold: false,
            shy: BTreeSet::new(),
            clocks: Now { ms: 0, s: 0 },
            storing_bytes: None,
            first_ms: None,
            deadline: None,
        }
    }

    /// What the network did. `now_ms` is monotonic with any origin, `now_s` is Unix time.
    pub fn handle_event(
        &mut self,
        now_ms: u64,
        now_s: u64,
        event: NetEvent,
        chain: &dyn ChainView,
    ) {
        let now = self.clock(now_ms, now_s);
        self.forgive_pause(now);
        match event {
            NetEvent::Connected { peer, info, .. } => self.connected(now, peer, info),
            NetEvent::Gone { peer, close } => self.gone(now, peer, &close),
            NetEvent::Message { peer, message } => {
                if self.peers.contains_key(&peer)
                    && let Err(fault) = self.message(now, peer, message, chain)
                {
                    self.punish(peer, fault);
                }
            }
        }
        if self.deadline.is_some_and(|due| due <= now.ms) {
            self.find_stalled(now);
            self.take_due_blocks(now, chain);
        }
        self.pump(now, chain);
    }

    /// A block of our own sealer: checked like any other, stored, announced. It hangs on the head, or on the head's parent in our own turn;
    /// another is let go, and so is one made while a better chain is being caught up with.
    pub fn handle_sealed(&mut self, now_ms: u64, block: SealedBlock, chain: &dyn ChainView) {
        let since_s = now_ms.saturating_sub(self.clocks.ms) / 1000;
        let now = Now {
            ms: now_ms,
            s: self.clocks.s.saturating_add(since_s),
        };
        let number = block.header.header.number;
        let parent = block.header.header.parent_hash;
        if parent != self.tip.header.hash && parent != self.tip.header.header.parent_hash {
            log::info!("Letting go of our sealed block number={number}: the head has moved");
            return;
        }
        if !self.is_caught_up() {
            log::info!(
                "Letting go of our sealed block number={number}: a better chain is being caught up with"
            );
            return;
        }
        if let Err(fault) = self.take_block(now, None, block.header, block.body, chain) {
            log::error!("Our own sealed block is not valid: {fault}");
        }
        self.pump(now, chain);
    }

    /// Lets time act. To be called at [`Machine::deadline_ms`]; any other time does no harm.
    pub fn handle_timeout(&mut self, now_ms: u64, now_s: u64, chain: &dyn ChainView) {
        let now = self.clock(now_ms, now_s);
        self.forgive_pause(now);
        self.find_stalled(now);
        self.take_due_blocks(now, chain);
        self.pump(now, chain);
    }

    /// The [`Action::Commit`] or [`Staging::Add`] that was given out is carried out: there is room for the next, which comes with the
    /// next input. Until then the store is given no more blocks.
    pub fn stored(&mut self) {
        let stored = self.storing_bytes.take();
        debug_assert!(stored.is_some(), "only what was given out is stored");
    }

    /// The next thing to do, if there is one.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Machine::handle_timeout`] wants to be called, in `now_ms`'s time.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.deadline
    }

    /// The head, with every [`Action::Commit`] given out so far, also those that are not carried out yet.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// How far sync is.
    pub fn status(&self) -> SyncStatus {
        let ours = self.tip.header.header.number;
        let target = match &self.target {
            Some(target) => target.number(),
            None => self
                .peers
                .values()
                .filter(|peer| peer.claims_better(&self.tip))
                .filter_map(Peer::top)
                .max(),
        };
        let better = self
            .peers
            .values()
            .filter(|peer| peer.claims_better(&self.tip));
        let first = better.map(|peer| peer.first_header).min();
        SyncStatus {
            begins_above: first.filter(|&first| first > self.main.top_number() + 1),
            reached: match self.staged {
                Some(_) => self.main.base.header.header.number,
                None => ours,
            },
            target_number: target.filter(|&number| number > ours || self.staged.is_some()),
            headers: self.main.bodies.len() as u64,
            falling: self.target.as_ref().and_then(|target| target.falling(ours)),
            in_flight: self.peers.values().map(|peer| peer.asked.len()).sum(),
            peers: self.peers.len(),
        }
    }

    /// Bytes of headers, bodies and receipts held and expected: what the memory limit bounds.
    pub fn memory_bytes(&self) -> usize {
        let header_bytes = self.config.limits.header_bytes;
        let branch = self.branch.as_ref();
        let branch = branch.map_or(0, |branch| branch.held_bytes(header_bytes));
        let target = self.target.as_ref();
        let target = target.map_or(0, |target| target.kept_bytes(header_bytes));
        let expected: usize = self
            .peers
            .values()
            .flat_map(|peer| peer.asked.values())
            .filter(|asked| !matches!(asked.what, What::Receipts { .. }))
            .map(|asked| asked.expected_bytes)
            .sum();
        let storing = self.storing_bytes.unwrap_or(0);
        let held = self.main.held_bytes(header_bytes) + storing;
        held + branch + target + expected + self.receipt_bytes()
    }

    /// Counts blocks that are given out to be stored.
    pub(super) fn storing(&mut self, blocks: &[Block]) {
        let bytes = blocks.iter().map(Block::bytes).sum();
        let before = self.storing_bytes.replace(bytes);
        debug_assert!(before.is_none(), "the store takes one run at a time");
    }

    /// What they may be now.
    pub(super) fn memory_limit_bytes(&self) -> usize {
        let limit = self.config.memory_limit_bytes;
        match self.staged {
            Some(_) => limit.saturating_sub(STAGED_BYTES).max(limit / 2),
            None => limit,
        }
    }

    /// Headers, verified and in flight, ahead of what is stored: a quarter of the memory.
    pub(super) fn header_window(&self) -> u64 {
        (self.memory_limit_bytes() / 4 / self.config.limits.header_bytes.max(1)) as u64
    }

    fn clock(&mut self, ms: u64, s: u64) -> Now {
        self.first_ms.get_or_insert(ms);
        self.clocks = Now { ms, s };
        self.clocks
    }

    /// A new line above `base`.
    pub(super) fn new_pipe(&mut self, base: Tip) -> Pipe {
        self.next_epoch += 1;
        Pipe::new(self.next_epoch, base)
    }

    /// A request id, never used before.
    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Two periods of the chain, or the configured time if that is longer.
    pub(super) fn poll_interval_ms(&self) -> u64 {
        let period_s = self
            .rules
            .spec
            .clique
            .as_ref()
            .map_or(0, |clique| clique.period_s);
        self.config
            .limits
            .poll_ms
            .max(period_s.saturating_mul(POLL_PERIODS * 1000))
    }

    /// The head has moved, along tips in rising order that hang on block `ancestor`.
    pub(super) fn moved(&mut self, now: Now, ancestor: u64, tips: impl IntoIterator<Item = Tip>) {
        let replaced = self.recent.split_off(&(ancestor + 1));
        let fork = self.branch.as_ref().and_then(Branch::fork);
        if !replaced.is_empty() && fork.is_some_and(|fork| fork > ancestor) {
            self.branch = None; // it hangs on a block that is no longer ours
        }
        for tip in tips {
            self.live.fetches.remove(&tip.header.hash); // it has come another way
            self.tip = tip.clone();
            self.recent.insert(tip.header.header.number, tip);
            if self.recent.len() > RECENT_TIPS {
                self.recent.pop_first();
            }
        }
        let head = self.tip.clique.as_ref();
        self.kept
            .moved(ancestor, head, self.rules.spec.clique_epoch());
        (self.news_ms, self.moved_ms) = (now.ms, now.ms);
        self.stuck_since_ms = None;
        self.blocks_stored();
    }

    /// The number of a block of our chain, also of one that is about to be stored.
    pub(super) fn canonical(&self, hash: &B256, number: u64, chain: &dyn ChainView) -> bool {
        match self.recent.get(&number) {
            Some(tip) => tip.header.hash == *hash,
            None => number < self.tip.header.header.number && chain.hash(number) == Some(*hash),
        }
    }
}

/// When a header of the future is due, in Unix seconds.
pub(super) fn due_s(error: &HeaderError) -> Option<u64> {
    match error {
        HeaderError::Future { due_s, .. } => Some(*due_s),
        _ => None,
    }
}
