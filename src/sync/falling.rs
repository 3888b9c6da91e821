//! Headers that fall from a hash that is known to be right: down to a block of ours, or through a window that was let go.

use std::sync::Arc;

use alloy_primitives::B256;
use cairn_net::reactor::PeerId;

use super::boundary::{ChainView, Falling, Now};
use super::fault::Fault;
use super::machine::Machine;
use super::target::{Fall, Phase, Target, Window};
use crate::chain::SealedHeader;

impl Machine {
    /// Headers falling from `hash`, which link to it and to each other.
    pub(super) fn falling_answer(
        &mut self,
        now: Now,
        id: PeerId,
        hash: B256,
        headers: Vec<Arc<SealedHeader>>,
        given_up: bool,
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
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
        let every = self.config.limits.anchor_every.max(1);
        let mut landed = None;
        match &target.phase {
            Phase::Falling(fall) if fall.next == hash && !headers.is_empty() => {
                landed = self.fall_on(id, &mut target, headers, chain);
                // The lowest windows are needed first and kept.
                let header_bytes = self.config.limits.header_bytes;
                let keep_bytes = self.config.target_bytes();
                while target.windows.len() > 1 && target.kept_bytes(header_bytes) > keep_bytes {
                    target.windows.pop_last();
                }
            }
            Phase::Rising => target.refill(id, hash, headers, every),
            _ => {}
        }
        self.target = Some(target);
        if let Some(fork) = landed {
            self.rise_from(now, fork, chain);
        }
        Ok(())
    }

    /// Takes headers on their way down. The block of ours on which they land, if it lies below our head.
    fn fall_on(
        &self,
        id: PeerId,
        target: &mut Target,
        headers: Vec<Arc<SealedHeader>>,
        chain: &dyn ChainView,
    ) -> Option<u64> {
        let every = self.config.limits.anchor_every.max(1);
        let ours = self.tip.header.header.number;
        for header in headers {
            let (number, hash) = (header.header.number, header.hash);
            if target.number.is_none() {
                target.number = Some(number);
                if number <= ours && self.canonical(&hash, number, chain) {
                    log::info!("The sync target is stored already: number={number} hash={hash}");
                    target.phase = Phase::Reached;
                    return None;
                }
                log::info!("Following the sync target: number={number} hash={hash}");
            }
            if number <= self.lowest_fork(chain) {
                log::error!(
                    "The sync target {} is of another chain than ours: its block {number} is {hash}; following nothing",
                    target.hash
                );
                target.give_up();
                return None;
            }
            if number % every == every - 1 || target.number == Some(number) {
                target.anchors.insert(number, hash);
            }
            let parent = header.header.parent_hash;
            let new = || Window {
                falling: Vec::new(),
                rest: None,
                source: id,
            };
            let window = target.windows.entry(number / every).or_insert_with(new);
            window.falling.push(header);
            let below = number - 1; // it is above the lowest block that may be hung on
            if below <= ours && self.canonical(&parent, below, chain) {
                target.bottom = number;
                target.phase = Phase::Rising;
                return (below < ours).then_some(below);
            }
            target.phase = Phase::Falling(Fall::new(parent, Some(below)));
        }
        None
    }

    /// Begins to put the target's chain in the place of ours above block `fork`: as soon as it is as long as ours, or whole.
    fn rise_from(&mut self, now: Now, fork: u64, chain: &dyn ChainView) {
        let Some(base) = self.tip_at(fork, chain) else {
            log::error!(
                "Cannot rebuild the chain's state at block {fork}: the sync target is left"
            );
            self.give_up_target();
            return;
        };
        let Some(target) = self.target.take() else {
            return;
        };
        let ours = self.tip.header.header.number;
        let until = target.number.map_or(ours, |number| number.min(ours));
        let main = self.new_pipe(base.clone());
        self.begin_staged(now, &base, until, main, target);
    }
}

impl Target {
    /// How far they have fallen, if they do, where our head is `ours`.
    pub(super) fn falling(&self, ours: u64) -> Option<Falling> {
        let (Phase::Falling(fall), Some(top)) = (&self.phase, self.number) else {
            return None;
        };
        let next = fall.number?;
        Some(Falling {
            fetched: top.saturating_sub(next),
            all: (next > ours).then(|| top.saturating_sub(ours)),
        })
    }

    /// Takes headers of a window that is fetched again.
    fn refill(&mut self, id: PeerId, hash: B256, headers: Vec<Arc<SealedHeader>>, every: u64) {
        let is_asked = |window: &&mut Window| {
            let rest = window.rest.as_ref();
            rest.is_some_and(|rest| rest.next == hash)
        };
        let Some(window) = self.windows.values_mut().find(is_asked) else {
            return;
        };
        let Some(first) = headers.first() else {
            return;
        };
        let bottom = self.bottom.max(first.number() / every * every);
        window.source = id;
        // What was asked for on the way down, and comes late, goes on below the window.
        let in_window = |header: &Arc<SealedHeader>| header.number() >= bottom;
        let headers = headers.into_iter().take_while(in_window);
        window.falling.extend(headers);
        let lowest = window.falling.last().map(|header| &header.header);
        window.rest = lowest
            .filter(|h| h.number != bottom)
            .map(|h| Fall::new(h.parent_hash, Some(h.number - 1)));
    }
}
