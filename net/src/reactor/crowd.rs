//! Inbound handshakes: how many are under way, and how many may begin. Pure.

use super::PeerId;
use crate::limits::{HANDSHAKE_BURST, HANDSHAKES_PER_S};

/// Inbound connections under handshake, in the order in which they came.
#[derive(Debug)]
pub(super) struct Crowd {
    under_way: Vec<PeerId>,
    most: usize,
}

impl Crowd {
    /// At most so many.
    pub(super) fn new(most: usize) -> Crowd {
        Crowd {
            under_way: Vec::new(),
            most,
        }
    }

    /// A handshake has begun.
    pub(super) fn begin(&mut self, peer: PeerId) {
        self.under_way.push(peer);
    }

    /// The handshake of this connection is over, if it was under way.
    pub(super) fn over(&mut self, peer: PeerId) {
        self.under_way.retain(|other| *other != peer);
    }

    /// If too many are under way: the one to end. The oldest of those that never sent a byte, or else the oldest: an honest
    /// one is over in three round trips.
    pub(super) fn crowded_out(&self, is_silent: impl Fn(PeerId) -> bool) -> Option<PeerId> {
        if self.under_way.len() <= self.most {
            return None;
        }
        // The newest had no time to say anything yet.
        let (_, older) = self.under_way.split_last()?;
        older
            .iter()
            .find(|peer| is_silent(**peer))
            .or(older.first())
            .copied()
    }
}

/// How many handshakes may begin: a bucket that fills with time.
#[derive(Debug)]
pub(super) struct Rate {
    /// Thousandths of a handshake.
    left: u64,
    at_ms: u64,
}

/// One handshake, in what the bucket counts; so much a millisecond comes in.
const ONE: u64 = 1000;
const PER_MS: u64 = HANDSHAKES_PER_S;

impl Rate {
    pub(super) fn new() -> Rate {
        Rate {
            left: HANDSHAKE_BURST * ONE,
            at_ms: 0,
        }
    }

    /// When one may begin: now, or later.
    pub(super) fn next_ms(&mut self, now_ms: u64) -> u64 {
        let came_in = now_ms.saturating_sub(self.at_ms).saturating_mul(PER_MS);
        self.left = self.left.saturating_add(came_in).min(HANDSHAKE_BURST * ONE);
        self.at_ms = now_ms;
        now_ms + ONE.saturating_sub(self.left).div_ceil(PER_MS)
    }

    /// One has begun.
    pub(super) fn take(&mut self) {
        self.left = self.left.saturating_sub(ONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_handshakes_crowd_the_oldest_silent_one_makes_room() {
        let mut crowd = Crowd::new(128);
        (0..128).for_each(|n| crowd.begin(PeerId(n)));
        assert_eq!(crowd.crowded_out(|_| true), None);
        crowd.begin(PeerId(128));
        assert_eq!(crowd.crowded_out(|peer| peer.0 >= 3), Some(PeerId(3)));
        assert_eq!(
            crowd.crowded_out(|peer| peer.0 == 128),
            Some(PeerId(0)),
            "the newest is not judged by its silence"
        );
        crowd.over(PeerId(0));
        assert_eq!(crowd.crowded_out(|_| true), None);
    }

    #[test]
    fn after_a_burst_handshakes_begin_at_their_rate() {
        let mut rate = Rate::new();
        let mut now_ms = 5_000;
        for _ in 0..HANDSHAKE_BURST {
            assert_eq!(rate.next_ms(now_ms), now_ms);
            rate.take();
        }
        let mut begun = 0u64;
        while now_ms < 15_000 {
            now_ms = rate.next_ms(now_ms).max(now_ms + 1);
            if rate.next_ms(now_ms) <= now_ms {
                rate.take();
                begun += 1;
            }
        }
        let expected = 10 * HANDSHAKES_PER_S;
        assert!(begun.abs_diff(expected) <= 2, "{begun} in ten seconds");
        // A pause brings back no more than the burst.
        now_ms += 3_600_000;
        rate.next_ms(now_ms);
        assert_eq!(rate.left, HANDSHAKE_BURST * ONE);
    }
}
