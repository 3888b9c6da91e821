//! Chains whose seals cannot be checked: only a head that we were told to trust is followed, by hashes falling from it.
//!
//! A header is right if its hash is the parent hash of a right one, so that nothing a peer says has to be believed. The
//! headers fall to our head once; of every window of them one hash (an anchor) is kept, and as many of the lowest windows
//! as there is room for. Then the windows are taken in rising order, those that were let go fetched again from their anchor.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::B256;
use cairn_net::eth::message::Start;
use cairn_net::reactor::PeerId;

use super::asking::headers_of;
use super::boundary::{ChainView, MachineConfig, Now};
use super::fault::Fault;
use super::limits::{FUTURE_S, HEADER_BYTES};
use super::machine::{Machine, due_s};
use super::peers::What;
use crate::chain::{Rules, SealedHeader, Tip};

/// Headers that are wanted falling from a hash.
#[derive(Debug)]
struct Fall {
    /// The hash of the next header; right for sure.
    next: B256,
    /// Its number; only the target's own is unknown at first.
    number: Option<u64>,
    /// How many peers owe it, and since when the last.
    asked: u8,
    asked_ms: u64,
    /// Peers that answered empty.
    lacking: Vec<PeerId>,
}

impl Fall {
    fn new(next: B256, number: Option<u64>) -> Fall {
        Fall {
            next,
            number,
            asked: 0,
            asked_ms: 0,
            lacking: Vec::new(),
        }
    }
}

/// The headers of one window that are here, from its top down.
#[derive(Debug)]
struct Window {
    falling: Vec<Arc<SealedHeader>>,
    /// What is missing, if it is being fetched again.
    rest: Option<Fall>,
    source: PeerId,
}

#[derive(Debug)]
enum Phase {
    /// From the target down to our head.
    Falling(Fall),
    /// From our head up to the target.
    Rising,
    /// The target is our head, or below it.
    Reached,
    /// It cannot be reached from here, or there is none.
    Nothing,
}

/// The trusted head and the way to it.
#[derive(Debug)]
pub(super) struct Target {
    hash: B256,
    number: Option<u64>,
    /// The lowest number that is wanted: the one above the head that we had.
    bottom: u64,
    phase: Phase,
    anchors: BTreeMap<u64, B256>,
    windows: BTreeMap<u64, Window>,
}

impl Target {
    /// What is followed on this chain above `tip`: nothing of the kind if the seals there can be checked. On a clique chain
    /// that is to merge a target given is followed from the start: it decides which terminal block is the right one.
    pub(super) fn new(rules: &Rules, config: &MachineConfig, tip: &Tip) -> Option<Target> {
        let may_merge = rules.spec.terminal_total_difficulty.is_some();
        if rules.seal_is_checked_after(tip) && !(may_merge && config.sync_target.is_some()) {
            if config.sync_target.is_some() {
                log::warn!("The sync target is not needed: this chain's seals are checked");
            }
            return None;
        }
        let hash = config.sync_target.unwrap_or_default();
        let phase = match config.sync_target {
            Some(hash) => Phase::Falling(Fall::new(hash, None)),
            None if rules.seal_is_checked() => {
                log::warn!(
                    "Not following beyond block {}: the chain has reached its terminal total difficulty, after which no seal can be checked; pass --synctarget HASH of a head you trust. Serving what is stored",
                    tip.header.header.number
                );
                Phase::Nothing
            }
            None => {
                log::warn!(
                    "Not following: no seal of this chain can be checked; pass --synctarget HASH of a head you trust. Serving what is stored"
                );
                Phase::Nothing
            }
        };
        let (anchors, windows) = (BTreeMap::new(), BTreeMap::new());
        Some(Target {
            hash,
            number: None,
            bottom: 0,
            phase,
            anchors,
            windows,
        })
    }

    /// The target's number, once it is known.
    pub(super) fn number(&self) -> Option<u64> {
        self.number
    }

    /// Whether there is a way to go.
    pub(super) fn waits(&self) -> bool {
        matches!(self.phase, Phase::Falling(_) | Phase::Rising)
    }

    /// A request for the headers below `hash` ended without an answer.
    pub(super) fn release(&mut self, hash: &B256) {
        if let Some(fall) = self.fall(hash) {
            fall.asked = fall.asked.saturating_sub(1);
        }
    }

    /// Every peer may be asked again for what it lacked.
    pub(super) fn forget_refusals(&mut self) {
        if let Phase::Falling(fall) = &mut self.phase {
            if self.number.is_none() && !fall.lacking.is_empty() {
                log::warn!("No peer has the sync target {} yet", self.hash);
            }
            fall.lacking.clear();
        }
        for rest in self
            .windows
            .values_mut()
            .filter_map(|window| window.rest.as_mut())
        {
            rest.lacking.clear();
        }
    }

    /// Follows nothing from now on.
    pub(super) fn give_up(&mut self) {
        self.phase = Phase::Nothing;
        self.windows.clear();
        self.anchors.clear();
    }

    fn fall(&mut self, hash: &B256) -> Option<&mut Fall> {
        let falling = match &mut self.phase {
            Phase::Falling(fall) => Some(fall),
            _ => None,
        };
        let refetched = self
            .windows
            .values_mut()
            .filter_map(|window| window.rest.as_mut());
        falling
            .into_iter()
            .chain(refetched)
            .find(|fall| fall.next == *hash)
    }

    /// Headers and anchors that are here: changes as long as anything comes.
    pub(super) fn fetched(&self) -> usize {
        let headers: usize = self.windows.values().map(|w| w.falling.len()).sum();
        headers + self.anchors.len()
    }

    fn kept_bytes(&self) -> usize {
        self.windows
            .values()
            .flat_map(|w| &w.falling)
            .map(|h| h.raw.len() + HEADER_BYTES)
            .sum()
    }
}

impl Machine {
    /// When our head is the last whose seal can be checked, lets go of everything above it: from there on only a trusted hash
    /// is followed.
    pub(super) fn stop_at_terminal(&mut self) {
        if self.target.is_some() || self.rules.seal_is_checked_after(&self.tip) {
            return;
        }
        self.target = Target::new(&self.rules, &self.config, &self.tip);
        self.branch = None;
        self.poll_more = None;
        self.restart_main();
    }

    /// Whether a target is on its way.
    pub(super) fn target_waits(&self) -> bool {
        self.target.as_ref().is_some_and(Target::waits)
    }

    /// Headers falling from `hash`, which link to it and to each other.
    pub(super) fn falling_answer(
        &mut self,
        id: PeerId,
        hash: B256,
        headers: Vec<Arc<SealedHeader>>,
        given_up: bool,
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        let every = self.config.limits.anchor_every.max(1);
        let keep_bytes = self.config.memory_limit_bytes / 2;
        let ours = self.tip.header.header.number;
        let our_hash = self.tip.header.hash;
        let Some(mut target) = self.target.take() else {
            return Ok(());
        };
        if let Some(fall) = target.fall(&hash) {
            if !given_up {
                fall.asked = fall.asked.saturating_sub(1);
            }
            if headers.is_empty() {
                fall.lacking.push(id);
            }
        }
        match &target.phase {
            Phase::Falling(fall) if fall.next == hash && !headers.is_empty() => {
                for header in headers {
                    let number = header.header.number;
                    if target.number.is_none() {
                        target.number = Some(number);
                        target.bottom = ours + 1;
                        if number <= ours {
                            let (have, at) = (self.canonical(&hash, number, chain), number);
                            target.phase = if have { Phase::Reached } else { Phase::Nothing };
                            if have {
                                log::info!(
                                    "The sync target is stored already: number={at} hash={hash}"
                                );
                            } else {
                                log::error!(
                                    "The sync target {hash} is block {at} of another chain than ours, whose head is {ours}: following nothing"
                                );
                            }
                            break;
                        }
                        log::info!("Following the sync target: number={number} hash={hash}");
                    }
                    if number % every == every - 1 || target.number == Some(number) {
                        target.anchors.insert(number, header.hash);
                    }
                    let parent = header.header.parent_hash;
                    let new = || Window {
                        falling: Vec::new(),
                        rest: None,
                        source: id,
                    };
                    target
                        .windows
                        .entry(number / every)
                        .or_insert_with(new)
                        .falling
                        .push(header);
                    if number > ours + 1 {
                        target.phase = Phase::Falling(Fall::new(parent, Some(number - 1)));
                        continue;
                    }
                    if parent == our_hash {
                        target.phase = Phase::Rising;
                    } else {
                        log::error!(
                            "The sync target {} does not descend from our head {ours} ({our_hash}): its chain has {parent} there; following nothing",
                            target.hash
                        );
                        target.give_up();
                    }
                    break;
                }
                // The lowest windows are needed first and kept.
                while target.windows.len() > 1 && target.kept_bytes() > keep_bytes {
                    target.windows.pop_last();
                }
            }
            Phase::Rising => {
                for window in target.windows.values_mut() {
                    if window.rest.as_ref().is_none_or(|rest| rest.next != hash)
                        || headers.is_empty()
                    {
                        continue;
                    }
                    window.source = id;
                    window.falling.extend(headers);
                    let lowest = window.falling.last().map(|header| &header.header);
                    let bottom = lowest.map(|h| target.bottom.max(h.number / every * every));
                    window.rest = lowest
                        .filter(|h| Some(h.number) != bottom)
                        .map(|h| Fall::new(h.parent_hash, Some(h.number - 1)));
                    break;
                }
            }
            _ => {}
        }
        self.target = Some(target);
        Ok(())
    }

    /// Takes the next windows into the main line, as far as it has room.
    pub(super) fn feed_target(&mut self, now: Now) {
        let limits = &self.config.limits;
        let (every, room) = (limits.anchor_every.max(1), limits.header_window);
        let Some(target) = &mut self.target else {
            return;
        };
        if !matches!(target.phase, Phase::Rising) || now.s < self.main.pause_until_s {
            return;
        }
        if self.tip.header.hash == target.hash {
            log::info!(
                "Caught up with the sync target: number={} hash={}",
                self.tip.header.header.number,
                target.hash
            );
            target.phase = Phase::Reached;
            target.anchors.clear();
            return;
        }
        while (self.main.bodies.len() as u64) < room {
            let index = (self.main.top_number() + 1) / every;
            let Some(window) = target.windows.get_mut(&index).filter(|w| w.rest.is_none()) else {
                break;
            };
            while let Some(header) = window.falling.pop() {
                let number = header.header.number;
                match self
                    .rules
                    .extend(self.main.top(), header.clone(), Some(now.s))
                {
                    Ok(tip) => self.main.bodies.push(tip, window.source),
                    Err(error) => {
                        if due_s(&error).is_some_and(|due| due <= now.s.saturating_add(FUTURE_S)) {
                            self.main.pause_until_s = due_s(&error).unwrap_or(0);
                            window.falling.push(header);
                            return;
                        }
                        // Nobody's lie: its hash is the one that we were told to trust, or an ancestor's of it.
                        log::error!(
                            "The sync target's chain breaks a rule at block {number}, following nothing: {error}"
                        );
                        target.give_up();
                        return;
                    }
                }
            }
            target.windows.remove(&index);
        }
    }

    /// Asks for headers falling to our head, or for the windows that are needed next and were let go.
    pub(super) fn ask_target(&mut self, now: Now, order: &[PeerId]) {
        let limits = &self.config.limits;
        let (every, urgent_ms) = (limits.anchor_every.max(1), limits.urgent_ms);
        let (per_peer, ahead) = (
            limits.headers_per_peer,
            (limits.header_window / every).max(2),
        );
        let Some(target) = &mut self.target else {
            return;
        };
        let mut wanted: Vec<(B256, Option<u64>, u64)> = Vec::new();
        match &target.phase {
            Phase::Falling(fall) => {
                let down_to = self.tip.header.header.number;
                let count = fall
                    .number
                    .map_or(every, |number| (number - down_to).min(every));
                wanted.push((fall.next, fall.number, count));
            }
            Phase::Rising => {
                let next = self.main.top_number() + 1;
                let last = target.number.unwrap_or(0);
                for index in next / every..=(last / every).min(next / every + ahead) {
                    if next > last {
                        break;
                    }
                    let top = last.min(index * every + (every - 1));
                    let (bottom, anchors) = (target.bottom.max(index * every), &target.anchors);
                    let new = || Window {
                        falling: Vec::new(),
                        rest: anchors.get(&top).map(|&hash| Fall::new(hash, Some(top))),
                        source: PeerId(0),
                    };
                    let window = target.windows.entry(index).or_insert_with(new);
                    if let Some(rest) = &window.rest {
                        let number = rest.number.unwrap_or(top);
                        wanted.push((rest.next, rest.number, number - bottom + 1));
                    }
                }
            }
            Phase::Reached | Phase::Nothing => {}
        }
        for (hash, number, count) in wanted {
            let Some(fall) = self.target.as_mut().and_then(|target| target.fall(&hash)) else {
                continue;
            };
            let late = now.ms.saturating_sub(fall.asked_ms) >= urgent_ms;
            if fall.asked > u8::from(late) {
                continue;
            }
            let peers = &self.peers;
            let is_falling = |what: &What| matches!(what, What::Falling { .. });
            let same = |what: &What| matches!(what, What::Falling { hash: of, .. } if *of == hash);
            let chosen = order.iter().copied().find(|id| {
                let peer = &peers[id];
                let has = number.is_none_or(|number| peer.top().is_none_or(|top| top >= number));
                has && peer.is_usable()
                    && !fall.lacking.contains(id)
                    && peer.count(same) == 0
                    && peer.count(is_falling) < per_peer
            });
            let Some(id) = chosen else { continue };
            fall.asked += 1;
            fall.asked_ms = now.ms;
            let request = headers_of(Start::Hash(hash), count, true);
            self.ask(now, id, What::Falling { hash, count }, request, 0);
        }
    }
}
