//! Whether there is a better chain to be caught up with: as long as there may be one, our own sealer must not build on our head.

use alloy_primitives::U256;

use super::boundary::Now;
use super::branch::Branch;
use super::choice::is_better;
use super::limits::{
    CATCH_UP_PATIENCE_MS, CATCH_UP_PATIENCE_S, STALE_AFTER_START_MS, STALE_LEAST_S, still_after_s,
};
use super::machine::Machine;
use super::peers::Peer;
use crate::chain::Tip;

/// How long we have been behind without getting on, as a leaky bucket: what peers claim holds us up for a limited time, and
/// for no more than half of it however they go on claiming.
#[derive(Debug)]
pub(super) struct Behind {
    /// The time spent behind, less the time spent caught up. Old headers verified or stored empty it.
    spent_ms: u64,
    looked_ms: u64,
    was_behind: bool,
    /// The greatest total difficulty verified, and that of the head, when it was last looked at.
    verified_td: U256,
    stored_td: U256,
}

impl Behind {
    /// Nothing is known yet.
    pub(super) fn new(tip: &Tip) -> Behind {
        Behind {
            spent_ms: 0,
            looked_ms: 0,
            was_behind: false,
            verified_td: tip.td,
            stored_td: tip.td,
        }
    }

    /// Patience begins anew.
    pub(super) fn begin_again(&mut self, now: Now) {
        (self.spent_ms, self.looked_ms) = (0, now.ms);
    }

    /// Whether we have been behind for as long as we wait.
    pub(super) fn is_out_of_patience(&self) -> bool {
        self.spent_ms >= CATCH_UP_PATIENCE_MS
    }

    /// When patience ends, if we are behind.
    pub(super) fn deadline(&self) -> Option<u64> {
        let left_ms = CATCH_UP_PATIENCE_MS - self.spent_ms;
        (self.was_behind && left_ms > 0).then(|| self.looked_ms + left_ms)
    }
}

impl Machine {
    /// Whether nothing better than our head is known of: no peer claims more, no header or body is on its way, no branch is
    /// looked into. A claim that nothing comes of counts for 30 seconds at most. Never true of a clique chain that has passed
    /// its terminal total difficulty: nobody seals there.
    pub fn is_caught_up(&self) -> bool {
        if self.rules.seal_is_checked() && !self.rules.seal_is_checked_after(&self.tip) {
            return false;
        }
        !self.is_behind() || (self.target.is_none() && self.behind.spent_ms >= CATCH_UP_PATIENCE_MS)
    }

    /// The head's age at this Unix time, if a newer block should be here by now: on a clique chain that has a period after
    /// four periods, or as many times what the head itself took, where nothing beyond a trusted head is followed after a
    /// minute. Of a chain that seals when it likes nobody can say.
    pub fn overdue_s(&self, now_s: u64) -> Option<u64> {
        // Who has just started has not had the time to hear of anything newer.
        let first_ms = self.first_ms.unwrap_or(self.clocks.ms);
        if self.clocks.ms.saturating_sub(first_ms) < STALE_AFTER_START_MS {
            return None;
        }
        let age_s = now_s.saturating_sub(self.tip.header.header.timestamp);
        let allowed_s = match &self.rules.spec.clique {
            Some(clique) if self.rules.seal_is_checked_after(&self.tip) => {
                if clique.period_s == 0 {
                    return None;
                }
                let number = self.tip.header.header.number;
                let parent = number
                    .checked_sub(1)
                    .and_then(|number| self.recent.get(&number));
                let took_s = parent.map_or(0, |parent| {
                    let (head, parent) = (&self.tip.header.header, &parent.header.header);
                    head.timestamp.saturating_sub(parent.timestamp)
                });
                still_after_s(clique.period_s, took_s)
            }
            _ => STALE_LEAST_S,
        };
        // By our own clock alone a head would be old that came just now, were that clock ahead.
        let stood_ms = self.clocks.ms.saturating_sub(self.moved_ms);
        let is_still = stood_ms > allowed_s.saturating_mul(1000);
        (age_s > allowed_s && is_still).then_some(age_s)
    }

    fn is_behind(&self) -> bool {
        if self.target.is_some() {
            return self.target_waits() || self.main.bodies.len() > 0;
        }
        let ours = self.tip.header.header.number;
        let claims_more = |peer: &Peer| {
            peer.claims_better(&self.tip)
                && match peer.top() {
                    Some(top) => top > ours && !self.live.is_pending(&peer.head.hash),
                    None => peer.head.td.is_some_and(|td| td > self.tip.td), // its number is being asked for
                }
        };
        // A branch of which only a claim is known is behind us as far as its peer claims more.
        let outweighs = |branch: &Branch| branch.top().is_some_and(|top| is_better(top, &self.tip));
        self.branch.as_ref().is_some_and(outweighs)
            || !self.main_is_idle()
            || self.peers.values().any(claims_more)
    }

    /// Keeps count of the time behind. A block of the last seconds is news and not catch-up: who passes the news on and
    /// boasts of more gains no time by it.
    pub(super) fn count_behind(&mut self, now: Now) {
        let is_behind = self.is_behind();
        let branch = self.branch_pipe().map(|pipe| pipe.top().clone());
        let main = self.main.top().clone();
        let best = branch.filter(|tip| tip.td > main.td).unwrap_or(main);
        let is_old = |tip: &Tip| {
            let old_s = tip
                .header
                .header
                .timestamp
                .saturating_add(CATCH_UP_PATIENCE_S);
            old_s <= now.s
        };
        let (td, head_is_old) = (self.tip.td, is_old(&self.tip));
        let behind = &mut self.behind;
        let passed_ms = now.ms.saturating_sub(behind.looked_ms);
        behind.spent_ms = if behind.was_behind {
            (behind.spent_ms.saturating_add(passed_ms)).min(CATCH_UP_PATIENCE_MS)
        } else {
            behind.spent_ms.saturating_sub(passed_ms)
        };
        let gets_on = self.staged_gets_on();
        let behind = &mut self.behind;
        let got_on = gets_on
            || (best.td > behind.verified_td && is_old(&best))
            || (td > behind.stored_td && head_is_old);
        if got_on {
            behind.spent_ms = 0;
        }
        behind.verified_td = behind.verified_td.max(best.td).max(td);
        behind.stored_td = td;
        behind.looked_ms = now.ms;
        behind.was_behind = is_behind;
    }
}
