//! Headers asked for rising by number: who was given which range, and the answers that wait for the ones before them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_net::reactor::PeerId;

use crate::chain::SealedHeader;

/// An answer that links within itself and waits to be linked to what is verified.
#[derive(Debug)]
pub(super) struct Got {
    /// Who gave it, and answers for it.
    pub(super) peer: PeerId,
    /// Rising by one, never empty.
    pub(super) headers: Vec<Arc<SealedHeader>>,
}

/// Every number from the first on is in exactly one of: a gap, a request in flight, an answer, or past the frontier.
#[derive(Debug)]
pub(super) struct HeaderQueue {
    frontier: u64,
    gaps: BTreeMap<u64, u64>, // first -> last
    got: BTreeMap<u64, Got>,
}

impl HeaderQueue {
    /// A queue that begins at `first`.
    pub(super) fn new(first: u64) -> HeaderQueue {
        HeaderQueue {
            frontier: first,
            gaps: BTreeMap::new(),
            got: BTreeMap::new(),
        }
    }

    /// Gives out the lowest range that a peer holding `earliest..=top` can answer: its first number and its length.
    pub(super) fn take(
        &mut self,
        earliest: u64,
        top: u64,
        window_end: u64,
        batch: u64,
    ) -> Option<(u64, u64)> {
        let batch = batch.max(1);
        let gap = self
            .gaps
            .iter()
            .find(|&(&first, _)| earliest <= first && first <= top);
        if let Some((&first, &last)) = gap {
            let end = last.min(top).min(first + (batch - 1));
            self.gaps.remove(&first);
            if end < last {
                self.gaps.insert(end + 1, last);
            }
            return Some((first, end - first + 1));
        }
        let first = self.frontier;
        let end = top.min(window_end).min(first.saturating_add(batch - 1));
        if first < earliest || end < first {
            return None;
        }
        self.frontier = end + 1;
        Some((first, end - first + 1))
    }

    /// Takes a range back that was not answered, or not rightly.
    pub(super) fn give_back(&mut self, first: u64, count: u64) {
        if count > 0 {
            self.gaps.insert(first, first + (count - 1));
        }
    }

    /// Keeps an answer until the ones before it are there.
    pub(super) fn put(&mut self, first: u64, got: Got) {
        debug_assert!(!got.headers.is_empty(), "an empty answer is a gap");
        self.got.insert(first, got);
    }

    /// The answer that begins at `first`, if it is there.
    pub(super) fn pop(&mut self, first: u64) -> Option<Got> {
        self.got.remove(&first)
    }

    /// Whether any answer waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.got.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_given_out_once_and_lost_ranges_come_first_again() {
        let mut queue = HeaderQueue::new(1);
        assert_eq!(queue.take(0, 100, 1000, 10), Some((1, 10)));
        assert_eq!(
            queue.take(0, 15, 1000, 10),
            Some((11, 5)),
            "not more than the peer has"
        );
        assert_eq!(queue.take(0, 15, 1000, 10), None);
        assert_eq!(queue.take(0, 100, 1000, 10), Some((16, 10)));
        queue.give_back(1, 10);
        assert_eq!(
            queue.take(5, 25, 1000, 10),
            None,
            "it does not hold what is missing"
        );
        assert_eq!(queue.take(0, 4, 1000, 10), Some((1, 4)));
        assert_eq!(queue.take(0, 100, 1000, 10), Some((5, 6)));
        assert_eq!(
            queue.take(0, 100, 30, 10),
            Some((26, 5)),
            "not past the window"
        );
        assert_eq!(queue.take(0, u64::MAX, 30, 10), None);
    }
}
