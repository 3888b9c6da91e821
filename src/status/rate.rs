//! How much of something comes in a second.

use std::collections::VecDeque;

/// It is counted over so many last seconds: long enough for a large commit, short enough to follow a change.
const RATE_S: u64 = 10;

/// What came of late.
#[derive(Default)]
pub(super) struct Rate {
    /// How much in each of the last seconds in which there was any.
    seconds: VecDeque<(u64, u64)>,
}

impl Rate {
    /// So much has come.
    pub(super) fn count(&mut self, now_ms: u64, count: u64) {
        let second = now_ms / 1000;
        let is_old = |entry: &(u64, u64)| entry.0 + RATE_S <= second;
        while self.seconds.front().is_some_and(is_old) {
            self.seconds.pop_front();
        }
        match self.seconds.back_mut() {
            _ if count == 0 => {}
            Some(last) if last.0 == second => last.1 += count,
            _ => self.seconds.push_back((second, count)),
        }
    }

    /// How much a second.
    pub(super) fn per_s(&self, now_ms: u64) -> f64 {
        let first = (now_ms / 1000).saturating_sub(RATE_S - 1);
        // The second that is not over counts as far as it has come.
        let over_s = (now_ms - first * 1000) as f64 / 1000.0;
        let counted = self.seconds.iter().filter(|entry| entry.0 >= first);
        counted.map(|entry| entry.1).sum::<u64>() as f64 / over_s.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_the_last_ten_seconds_counts_and_no_more_is_remembered() {
        let mut rate = Rate::default();
        for second in 0..30 {
            rate.count(second * 1000 + 500, 100);
        }
        assert!(
            (rate.per_s(29_999) - 100.0).abs() < 0.1,
            "{}",
            rate.per_s(29_999)
        );
        assert!(rate.seconds.len() <= RATE_S as usize);
        assert_eq!(rate.per_s(39_000), 0.0);
        // The first second is one, however little of it is over.
        let mut rate = Rate::default();
        rate.count(5, 7);
        assert_eq!(rate.per_s(10), 7.0);
    }
}
