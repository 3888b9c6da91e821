//! What time alone does: peers that stall, work that nobody can be asked for, and when to be called next.

use cairn_net::reactor::PeerId;

use super::boundary::Now;
use super::fault::Fault;
use super::limits::{
    BRANCH_PACE_BLOCKS, BRANCH_PACE_BYTES, DUE_STEP_MS, HEADERS_LEAST, PAUSE_MS, SLOW_BYTES_PER_S,
    SLOW_TIMEOUTS, STALLS_ALLOWED,
};
use super::machine::Machine;
use super::peers::{Asked, Peer, What};
use super::target::Target;

/// How a line of blocks gets on.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Blocks and bytes when it was last looked at, and since when they have not changed.
    seen: (u64, usize),
    changed_ms: u64,
    /// The same when it last was as far ahead as it should be, and when that was.
    reached: (u64, usize),
    since_ms: u64,
}

impl Pace {
    /// One that begins now, at this block.
    pub(super) fn begun(now_ms: u64, blocks: u64) -> Pace {
        Pace {
            seen: (blocks, 0),
            changed_ms: now_ms,
            reached: (blocks, 0),
            since_ms: now_ms,
        }
    }

    /// Since when it has not got on as it should.
    pub(super) fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// It had to wait until now.
    pub(super) fn wait(&mut self, now_ms: u64) {
        (self.changed_ms, self.since_ms) = (now_ms, now_ms);
    }

    /// So much time does not count.
    fn forgive(&mut self, late_ms: u64) {
        self.changed_ms = self.changed_ms.saturating_add(late_ms);
        self.since_ms = self.since_ms.saturating_add(late_ms);
    }

    /// It is at so many blocks and bytes now; `is_idle`: nothing is wanted of it now.
    pub(super) fn look(&mut self, now_ms: u64, at: (u64, usize), is_idle: bool) {
        if self.seen != at || is_idle {
            (self.seen, self.changed_ms) = (at, now_ms);
        }
        let gets_on = at.0 >= self.reached.0.saturating_add(BRANCH_PACE_BLOCKS)
            || at.1 >= self.reached.1.saturating_add(BRANCH_PACE_BYTES);
        let is_another = at.0 < self.reached.0 || at.1 < self.reached.1; // a line from another block, or bodies that were stored
        if gets_on || is_another || is_idle {
            (self.reached, self.since_ms) = (at, now_ms);
        }
    }
}

impl Machine {
    /// Finds peers that owe an answer for too long: their work goes to the others, and the second time they are dropped.
    pub(super) fn find_stalled(&mut self, now: Now) {
        let timeout = self.config.limits.request_timeout_ms;
        self.find_mute(now, timeout);
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
            let oldest_ms = peer.oldest_ms().unwrap_or(now.ms);
            let waited_ms = now.ms.saturating_sub(oldest_ms);
            peer.stalls += 1;
            // Perhaps it is only slow: it is asked for little until it shows its rate.
            peer.rate = SLOW_BYTES_PER_S;
            peer.header_cap = HEADERS_LEAST;
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

    /// When nothing has come for long, though there is work, what the peers lacked is asked for again. True if there is something to ask for.
    pub(super) fn unstick(&mut self, now: Now) -> bool {
        self.unstick_branch(now);
        let limits = &self.config.limits;
        let waiting = self.storing_bytes.is_none()
            && (self.main.bodies.len() > 0
                || self.main.headers.is_waiting()
                || self.target_waits());
        let progress = (
            self.main.base.header.header.number,
            self.main.top_number(),
            self.main.bodies.held_bytes(),
            self.target.as_ref().map_or(0, Target::fetched),
        );
        if !waiting || self.progress != progress {
            self.progress = progress;
            self.stuck_since_ms = waiting.then_some(now.ms);
            return false;
        }
        let since = *self.stuck_since_ms.get_or_insert(now.ms);
        let patience_ms = if self.is_coming() {
            limits.request_timeout_ms.saturating_mul(SLOW_TIMEOUTS)
        } else {
            limits.stuck_ms
        };
        if now.ms.saturating_sub(since) < patience_ms {
            return false;
        }
        self.stuck_since_ms = Some(now.ms);
        if self.is_pruned_everywhere() {
            return false; // asking for the same headers again brings no body nearer
        }
        match &mut self.target {
            Some(target) => {
                target.forget_refusals();
                self.main.bodies.forget_refusals();
            }
            // Headers without bodies may be a branch that nobody has whole: begin again from the head.
            None => self.leave_main(),
        }
        true
    }

    /// Whether the next body is below what every peer says it holds; told once for each such block.
    fn is_pruned_everywhere(&mut self) -> bool {
        let Some(number) = self.main.bodies.front_missing_number() else {
            return false;
        };
        let Some(earliest) = self.peers.values().map(|peer| peer.earliest).min() else {
            return false;
        };
        if earliest <= number {
            return false;
        }
        if self.told_lacking.replace(number) != Some(number) {
            log::warn!(
                "No peer has the body of block {number}: all of them have forgotten those below {earliest}; connect to one that keeps \
                 them (--bootnodes), or import them from a file"
            );
        }
        true
    }

    /// Begins again from the head. Who gave the header whose body is not to be had is asked for no more of it: the others, whose chain did
    /// not hang on that header, may have the right one.
    pub(super) fn leave_main(&mut self) {
        if let Some((source, number)) = self.main.bodies.front_missing_source() {
            let may_have = |(id, peer): (&PeerId, &Peer)| {
                *id != source && peer.is_usable() && peer.top().is_some_and(|top| top >= number)
            };
            let is_with_others = self.peers.iter().any(may_have);
            // No breach: where signers reorganise, honest peers have left what they showed.
            if let Some(peer) = self.peers.get_mut(&source).filter(|_| is_with_others) {
                peer.lacks_from = Some(number);
            }
        }
        self.restart_main();
        self.off_chain_forgotten();
    }

    /// Looks how far the main line is.
    pub(super) fn watch_main(&mut self, now: Now) {
        let main = &self.main;
        let blocks = main.base.header.header.number + main.top_number();
        let reached = (blocks, main.bodies.held_bytes());
        let waits_for_clock = now.s < main.pause_until_s; // no faster than its second comes, and nobody's fault
        let is_storing = self.storing_bytes.is_some(); // our own disk's time
        let is_idle = waits_for_clock || is_storing || self.main_is_idle();
        self.main_pace.look(now.ms, reached, is_idle);
    }

    /// When the main line will have stood still for as long as a request may take, or crept for some times that.
    fn main_stands_ms(&self) -> u64 {
        let timeout_ms = self.config.limits.request_timeout_ms;
        let still_ms = self.main_pace.changed_ms.saturating_add(timeout_ms);
        let slow_ms = timeout_ms.saturating_mul(SLOW_TIMEOUTS);
        still_ms.min(self.main_pace.since_ms.saturating_add(slow_ms))
    }

    /// Whether a branch need not wait for the main line: there is nothing more to be had of it, or nothing comes of what is claimed.
    pub(super) fn main_may_wait(&self, now: Now) -> bool {
        self.main_stands_still(now) || self.main_is_idle()
    }

    /// Whether nothing has come of the main line for as long as a request may take, or next to nothing for some times that.
    pub(super) fn main_stands_still(&self, now: Now) -> bool {
        now.ms >= self.main_stands_ms()
    }

    /// Lets everything go that hangs on the head, and begins a new line there.
    pub(super) fn restart_main(&mut self) {
        self.leave_staged();
        self.main = self.new_pipe(self.tip.clone());
    }

    /// If we were not called when we asked to be (a slow disk, a machine that slept), the peers had no less time than we.
    pub(super) fn forgive_pause(&mut self, now: Now) {
        let late_ms = self.deadline.map_or(0, |due| now.ms.saturating_sub(due));
        if late_ms < PAUSE_MS {
            return;
        }
        self.main_pace.forgive(late_ms);
        if let Some(branch) = &mut self.branch {
            branch.pace.forgive(late_ms);
        }
        for peer in self.peers.values_mut() {
            peer.heard_ms = peer.heard_ms.saturating_add(late_ms).min(now.ms);
            for asked in peer.asked.values_mut() {
                asked.sent_ms = asked.sent_ms.saturating_add(late_ms).min(now.ms);
            }
        }
    }

    pub(super) fn next_deadline(&self, now: Now) -> Option<u64> {
        let limits = &self.config.limits;
        let stalls = self
            .peers
            .values()
            .filter_map(|peer| stall_deadline(peer, limits.request_timeout_ms))
            .min();
        let flush = self
            .main
            .ready_since_ms
            .filter(|_| self.storing_bytes.is_none())
            .map(|since| since + limits.flush_ms);
        // Looked at now and then: `unstick` knows how long is too long.
        let stuck = self.stuck_since_ms.map(|_| now.ms + limits.stuck_ms);
        let stands = self.main_stands_ms();
        let stands = (stands > now.ms && !self.main_is_idle()).then_some(stands);
        let pause = (self.main.pause_until_s > now.s).then(|| due_ms(now, self.main.pause_until_s));
        let urgent = self
            .peers
            .values()
            .flat_map(|peer| peer.asked.values())
            .filter(|asked| {
                matches!(
                    asked.what,
                    What::Bodies { .. }
                        | What::Rising { .. }
                        | What::Falling { .. }
                        | What::FetchHeader { .. }
                        | What::FetchBody { .. }
                )
            })
            .map(|asked| asked.sent_ms + limits.urgent_ms)
            .filter(|&due| due > now.ms)
            .min();
        [
            stalls,
            flush,
            stuck,
            stands,
            pause,
            urgent,
            self.live.deadline(),
            self.tell_deadline(),
            self.poll_deadline(),
            self.receipts_deadline(now),
            self.behind.deadline(),
            self.branch_deadline(now),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|due| due.max(now.ms))
    }
}

/// When a peer is taken not to answer for receipts: when anything else would have been given up, however slow its line.
pub(super) fn mute_deadline(peer: &Peer, timeout_ms: u64) -> Option<u64> {
    let oldest_ms = peer.oldest_receipts_ms()?;
    Some(oldest_ms.saturating_add(timeout_ms.saturating_mul(SLOW_TIMEOUTS)))
}

/// When to look whether a Unix second has come: it may turn at any moment from the one before it on, so that time is then
/// looked at often.
pub(super) fn due_ms(now: Now, due_s: u64) -> u64 {
    let whole_s = due_s.saturating_sub(now.s).saturating_sub(1);
    now.ms
        .saturating_add(whole_s.saturating_mul(1000).max(DUE_STEP_MS))
}

/// When a peer has stalled: it has given no answer at all for the timeout, or not this one for [`SLOW_TIMEOUTS`] times as long (a slow
/// line brings one answer after the other).
fn stall_deadline(peer: &Peer, timeout_ms: u64) -> Option<u64> {
    let oldest_ms = peer.oldest_ms()?;
    let silent = peer.heard_ms.saturating_add(timeout_ms);
    Some(silent.min(oldest_ms.saturating_add(timeout_ms.saturating_mul(SLOW_TIMEOUTS))))
}
