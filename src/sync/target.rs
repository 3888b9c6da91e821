//! Chains whose seals cannot be checked: only a head that we were told to trust is followed, by hashes falling from it.
//!
//! A header is right if its hash is the parent hash of a right one, so that nothing a peer says has to be believed. The
//! headers fall to a block of ours once (`falling.rs`); of every window of them one hash (an anchor) is kept, and as many of the
//! lowest windows as there is room for. Then the windows are taken in rising order, those that were let go fetched again from
//! their anchor. A branch that was weighed by its headers (`follow.rs`) is fetched in the same way.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::B256;
use cairn_net::eth::message::Start;
use cairn_net::reactor::PeerId;

use super::asking::headers_of;
use super::boundary::{MachineConfig, Now};
use super::limits::FUTURE_S;
use super::machine::{Machine, due_s};
use super::peers::What;
use crate::chain::{Rules, SealedHeader, Tip};

/// Headers that are wanted falling from a hash.
#[derive(Debug)]
pub(super) struct Fall {
    /// The hash of the next header; right for sure.
    pub(super) next: B256,
    /// Its number; only the target's own is unknown at first.
    pub(super) number: Option<u64>,
    /// How many peers owe it, and since when the last.
    pub(super) asked: u8,
    pub(super) asked_ms: u64,
    /// Peers that answered empty.
    pub(super) lacking: Vec<PeerId>,
}

impl Fall {
    /// Wanted from `next` down.
    pub(super) fn new(next: B256, number: Option<u64>) -> Fall {
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
pub(super) struct Window {
    pub(super) falling: Vec<Arc<SealedHeader>>,
    /// What is missing, if it is being fetched again.
    pub(super) rest: Option<Fall>,
    pub(super) source: PeerId,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// From the target down to a block of ours.
    Falling(Fall),
    /// From there up to the target.
    Rising,
    /// The target is our head, or below it.
    Reached,
    /// It cannot be reached from here, or there is none.
    Nothing,
}

/// Why a hash is followed.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// We were told to trust it.
    Told,
    /// Its headers were verified, up from a block of ours, when this peer claimed this head.
    Weighed(PeerId, B256),
}

/// The trusted head and the way to it.
#[derive(Debug)]
pub(super) struct Target {
    origin: Origin,
    pub(super) hash: B256,
    pub(super) number: Option<u64>,
    /// The lowest number that is wanted: the one above the last block that is ours too.
    pub(super) bottom: u64,
    pub(super) phase: Phase,
    pub(super) anchors: BTreeMap<u64, B256>,
    pub(super) windows: BTreeMap<u64, Window>,
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
            origin: Origin::Told,
            hash,
            number: None,
            bottom: 0,
            phase,
            anchors,
            windows,
        })
    }

    /// The last block of a branch whose headers from number `bottom` on were verified and let go but for `anchors`, which
    /// a peer led to by claiming a head.
    pub(super) fn weighed(
        top: &Tip,
        bottom: u64,
        mut anchors: BTreeMap<u64, B256>,
        (peer, head): (PeerId, B256),
    ) -> Target {
        let (number, hash) = (top.header.header.number, top.header.hash);
        anchors.insert(number, hash);
        Target {
            origin: Origin::Weighed(peer, head),
            hash,
            number: Some(number),
            bottom,
            phase: Phase::Rising,
            anchors,
            windows: BTreeMap::new(),
        }
    }

    /// Whether it is a branch that was weighed, and not a head that we were told to trust.
    pub(super) fn is_weighed(&self) -> bool {
        self.claimed().is_some()
    }

    /// Who claimed which head that led to it, if it is a branch that was weighed.
    pub(super) fn claimed(&self) -> Option<(PeerId, B256)> {
        match self.origin {
            Origin::Told => None,
            Origin::Weighed(peer, head) => Some((peer, head)),
        }
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

    /// What is wanted falling from `hash`, if anything is.
    pub(super) fn fall(&mut self, hash: &B256) -> Option<&mut Fall> {
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

    /// What its headers take, `header_bytes` each.
    pub(super) fn kept_bytes(&self, header_bytes: usize) -> usize {
        let headers = self.windows.values().map(|window| window.falling.len());
        headers.sum::<usize>() * header_bytes
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

    /// Follows nothing from now on, not even what of the target is on its way into the store.
    pub(super) fn give_up_target(&mut self) {
        if let Some(target) = &mut self.target {
            target.give_up();
        }
        self.restart_main();
    }

    /// Takes the next windows into the main line, as far as it has room.
    pub(super) fn feed_target(&mut self, now: Now) {
        let limits = &self.config.limits;
        let (every, room) = (limits.anchor_every.max(1), self.config.header_window());
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
                        match self.staged {
                            Some(_) => self.give_up_target(),
                            None => target.give_up(), // what is below that block is right, and is stored
                        }
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
            (self.config.header_window() / 2 / every).max(1),
        );
        let Some(target) = &mut self.target else {
            return;
        };
        let is_weighed = target.is_weighed();
        let mut wanted: Vec<(B256, Option<u64>, u64)> = Vec::new();
        match &target.phase {
            Phase::Falling(fall) => {
                let ours = self.tip.header.header.number;
                let count = match fall.number {
                    Some(number) if number > ours => (number - ours).min(every),
                    Some(number) => number.min(every), // down to where it leaves our chain
                    None => every,
                };
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
            let (peers, ours) = (&self.peers, &self.tip);
            let is_falling = |what: &What| matches!(what, What::Falling { .. });
            let same = |what: &What| matches!(what, What::Falling { hash: of, .. } if *of == hash);
            let chosen = order.iter().copied().find(|id| {
                let peer = &peers[id];
                let has = number.is_none_or(|number| peer.top().is_none_or(|top| top >= number));
                has && peer.is_usable()
                    && (!is_weighed || peer.claims_better(ours))
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
