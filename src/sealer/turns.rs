//! When to seal: a pure state machine that heads and time are handed to, and that says which block is to be sealed now.

use std::fmt;

use alloy_primitives::{Address, U256};

use crate::chain::Tip;
use crate::chain::clique::DIFFICULTY_IN_TURN;

/// Out of turn, a signer leaves this much for every signer of the majority before its own random wait ends (EIP-225).
const WIGGLE_MS: u64 = 500;
/// A head further ahead of the clock than this is worth a word: peers refuse what is 15 seconds ahead.
const CLOCK_TOLERANCE_S: u64 = 15;
/// How long a sealed block may take to become the head: a commit takes milliseconds, on a slow disk a second.
const REFUSED_WAIT_MS: u64 = 10_000;
/// How soon a signer that gave no signature is asked again, unless a new head comes first.
const SIGNER_RETRY_MS: u64 = 1_000;
/// A clock that was set back is looked at again so often.
const CLOCK_RETRY_MS: u64 = 1_000;

/// Why a signer cannot seal on a block now. It may on a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// The signer is none of the chain's.
    NotASigner,
    /// It sealed one of the last blocks, and others must seal first.
    SignedRecently,
    /// The period is 0 and no interval was asked for.
    NoPace,
}

/// A block that may be sealed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The block's time, in seconds since 1970.
    pub time_s: u64,
    /// When to seal it, in milliseconds since 1970: its time, and out of turn a random wait after it.
    pub seal_at_ms: u64,
    /// Is it this signer's turn?
    pub in_turn: bool,
}

/// Who seals, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The signer.
    pub signer: Address,
    /// Seconds from one block to the next; 0: nothing is sealed (period 0 and no interval).
    pub pace_s: u64,
}

impl Pace {
    /// When it may seal on `parent`. `draw` is any random number, for the wait out of turn.
    ///
    /// # Errors
    /// `NotNow` says why it may not.
    pub fn slot(&self, parent: &Tip, now_ms: u64, draw: u64) -> Result<Slot, NotNow> {
        if self.pace_s == 0 {
            return Err(NotNow::NoPace);
        }
        let snapshot = parent.clique.as_ref().ok_or(NotNow::NotASigner)?;
        let number = parent.header.header.number + 1;
        if !snapshot.is_signer(&self.signer) {
            return Err(NotNow::NotASigner);
        }
        if snapshot.signed_recently(number, &self.signer) {
            return Err(NotNow::SignedRecently);
        }
        let time_s = parent
            .header
            .header
            .timestamp
            .saturating_add(self.pace_s)
            .max(now_ms / 1000);
        let in_turn = snapshot.in_turn(number, &self.signer);
        let wait_ms = match in_turn {
            true => 0,
            false => draw % (snapshot.limit() * WIGGLE_MS),
        };
        Ok(Slot {
            time_s,
            seal_at_ms: time_s
                .saturating_mul(1000)
                .max(now_ms)
                .saturating_add(wait_ms),
            in_turn,
        })
    }
}

/// See the file's first line. Times are Unix milliseconds, of a clock that may be set.
#[derive(Debug)]
pub struct Turns {
    pace: Pace,
    parent: Option<Tip>,
    plan: Plan,
    /// Something better than the parent is known: nothing is sealed before the next head.
    is_behind: bool,
    told: Option<NotNow>,
    clock_told_s: Option<u64>,
}

#[derive(Debug)]
enum Plan {
    /// There is no head yet, or none on which this signer may seal.
    Nothing,
    /// To seal then.
    Seal(Slot),
    /// A block was made, which is to become the head by then.
    Offered { until_ms: u64 },
}

impl Turns {
    /// Nothing is sealed before the first head.
    pub fn new(pace: Pace) -> Turns {
        Turns {
            pace,
            parent: None,
            plan: Plan::Nothing,
            is_behind: false,
            told: None,
            clock_told_s: None,
        }
    }

    /// Who seals.
    pub fn signer(&self) -> Address {
        self.pace.signer
    }

    /// There is a new head, on which the next block is to be sealed. But our own turn is kept from nobody by a block out of turn over the
    /// same parent, which was sealed early or found us late: ours is the heavier.
    pub fn handle_head(&mut self, now_ms: u64, head: Tip, draw: u64) {
        let is_mine = matches!(self.plan, Plan::Seal(slot) if slot.in_turn);
        let is_beside = self.parent.as_ref().is_some_and(|parent| {
            let header = &head.header.header;
            header.parent_hash == parent.header.hash
                && header.difficulty < U256::from(DIFFICULTY_IN_TURN)
        });
        // What was better has come to nothing: who was to wait goes on waiting, and what came due meanwhile is planned anew.
        let is_same = (self.parent.as_ref()).is_some_and(|it| it.header.hash == head.header.hash);
        let is_ahead = matches!(self.plan, Plan::Seal(slot) if now_ms < slot.seal_at_ms);
        self.is_behind = false;
        if (is_mine && is_beside) || (is_same && is_ahead) {
            return;
        }
        self.parent = Some(head);
        self.plan(now_ms, draw);
    }

    /// Something better than the head is known, but not stored yet: nothing is sealed until the next head comes, be it the same again.
    pub fn handle_behind(&mut self) {
        self.is_behind = true;
    }

    /// When [`Turns::handle_timeout`] wants to be called.
    pub fn deadline_ms(&self) -> Option<u64> {
        match self.plan {
            _ if self.is_behind => None,
            Plan::Nothing => None,
            Plan::Seal(slot) => Some(slot.seal_at_ms),
            Plan::Offered { until_ms } => Some(until_ms),
        }
    }

    /// What is to be sealed now, and on what. After that the next head is awaited: our own block, or a heavier one of somebody else.
    /// Should neither come, the block is offered again: a validator must not wait for ever on one that was refused.
    pub fn handle_timeout(&mut self, now_ms: u64, draw: u64) -> Option<(Tip, Slot)> {
        if self.deadline_ms().is_none_or(|due_ms| now_ms < due_ms) {
            return None;
        }
        match self.plan {
            Plan::Nothing => None,
            // The clock may have been set back meanwhile: a block of the future is nobody's.
            Plan::Seal(slot) if now_ms < slot.time_s.saturating_mul(1000) => {
                self.plan(now_ms, draw);
                None
            }
            Plan::Seal(slot) => {
                let pace_ms = self.pace.pace_s.saturating_mul(1000);
                let until_ms = now_ms.saturating_add(pace_ms.max(REFUSED_WAIT_MS));
                self.plan = Plan::Offered { until_ms };
                let parent = self.parent.clone()?;
                Some((parent, slot))
            }
            Plan::Offered { .. } => {
                log::warn!(
                    "The block sealed last was not taken: a better chain came; sealing again"
                );
                self.plan(now_ms, draw);
                None
            }
        }
    }

    /// There was no signature for what was to be sealed: it is tried again soon.
    pub fn handle_unsigned(&mut self, now_ms: u64, slot: Slot) {
        self.plan = Plan::Seal(Slot {
            seal_at_ms: now_ms.saturating_add(SIGNER_RETRY_MS),
            ..slot
        });
    }

    /// How long to wait for a head before looking at the time again: the clock may be set while we wait.
    pub fn wait_ms(&self, now_ms: u64) -> Option<u64> {
        let wait_ms = self.deadline_ms()?.saturating_sub(now_ms);
        Some(match wait_ms {
            0..=CLOCK_RETRY_MS => wait_ms,
            _ => CLOCK_RETRY_MS,
        })
    }

    fn plan(&mut self, now_ms: u64, draw: u64) {
        self.plan = Plan::Nothing;
        let Some(parent) = &self.parent else { return };
        match self.pace.slot(parent, now_ms, draw) {
            Err(why) => {
                // Once for each change of reason: `signed recently` is every other block of a busy signer.
                if self.told.replace(why) != Some(why) && why != NotNow::SignedRecently {
                    let signer = self.pace.signer;
                    log::warn!("Not sealing signer={signer} reason=\"{why}\"");
                }
            }
            Ok(slot) => {
                self.told = None;
                let soon_s = now_ms / 1000 + self.pace.pace_s;
                let ahead_s = slot.time_s.saturating_sub(soon_s);
                if ahead_s >= CLOCK_TOLERANCE_S
                    && self.clock_told_s.replace(slot.time_s) != Some(slot.time_s)
                {
                    log::warn!(
                        "The head is {ahead_s} s ahead of this machine's clock: sealing waits for it; is the clock right?"
                    );
                }
                self.plan = Plan::Seal(slot);
            }
        }
    }
}

impl fmt::Display for NotNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotNow::NotASigner => {
                "this address is none of the chain's signers; the others must vote it in"
            }
            NotNow::SignedRecently => {
                "this signer sealed one of the last blocks; others must seal first"
            }
            NotNow::NoPace => "the period is 0 and there is no --block-interval-ms",
        })
    }
}
