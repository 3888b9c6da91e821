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

/// The ranges above what is verified. Every number of them is in at least one of: a gap, a request in flight, an answer, or
/// past the frontier. It may be in two, when a slow peer's range was given to another as well.
#[derive(Debug)]
pub(super) struct HeaderQueue {
    frontier: u64,
    gaps: BTreeMap<u64, u64>, // first -> last
    got: BTreeMap<u64, Got>,
    got_bytes: usize,
}

/// Bytes of headers as they came.
fn raw_bytes(headers: &[Arc<SealedHeader>]) -> usize {
    headers.iter().map(|header| header.raw.len()).sum()
}

impl HeaderQueue {
    /// A queue that begins at `first`.
    pub(super) fn new(first: u64) -> HeaderQueue {
        HeaderQueue {
            frontier: first,
            gaps: BTreeMap::new(),
            got: BTreeMap::new(),
            got_bytes: 0,
        }
    }

    /// Gives out the lowest range that a peer holding headers up to `top` can answer: its first number and its length.
    pub(super) fn take(&mut self, top: u64, window_end: u64, batch: u64) -> Option<(u64, u64)> {
        let batch = batch.max(1);
        if let Some(gap) = self.gaps.first_entry()
            && *gap.key() <= top
        {
            let (first, last) = gap.remove_entry();
            let end = last.min(top).min(first + (batch - 1));
            if end < last {
                self.give_back(end + 1, last - end);
            }
            return Some((first, end - first + 1));
        }
        let first = self.frontier;
        let end = top.min(window_end).min(first.saturating_add(batch - 1));
        if end < first {
            return None;
        }
        self.frontier = end + 1;
        Some((first, end - first + 1))
    }

    /// Takes a range back that was not answered, or not rightly.
    pub(super) fn give_back(&mut self, first: u64, count: u64) {
        if count > 0 {
            let last = self.gaps.entry(first).or_insert(first);
            *last = (*last).max(first + (count - 1));
        }
    }

    /// Keeps an answer until the ones before it are there.
    pub(super) fn put(&mut self, first: u64, got: Got) {
        debug_assert!(!got.headers.is_empty(), "an empty answer is a gap");
        match self.got.get(&first) {
            Some(other) if other.headers.len() >= got.headers.len() => {}
            _ => {
                self.got_bytes += raw_bytes(&got.headers);
                if let Some(shorter) = self.got.insert(first, got) {
                    self.got_bytes -= raw_bytes(&shorter.headers);
                }
            }
        }
    }

    /// The answer that begins at `first`, if it is there. What lies below is let go: it is verified.
    pub(super) fn pop(&mut self, first: u64) -> Option<Got> {
        self.forget_below(first);
        let got = self.got.remove(&first)?;
        self.got_bytes -= raw_bytes(&got.headers);
        Some(got)
    }

    fn forget_below(&mut self, first: u64) {
        self.frontier = self.frontier.max(first);
        while let Some(gap) = self.gaps.first_entry().filter(|gap| *gap.key() < first) {
            let last = gap.remove();
            if last >= first {
                self.give_back(first, last - first + 1);
            }
        }
        while let Some(got) = self.got.first_entry().filter(|got| *got.key() < first) {
            let (start, mut got) = got.remove_entry();
            self.got_bytes -= raw_bytes(&got.headers);
            let below = usize::try_from(first - start).unwrap_or(usize::MAX);
            if below < got.headers.len() {
                got.headers.drain(..below);
                self.put(first, got);
            }
        }
    }

    /// Bytes of the headers in the answers that wait.
    pub(super) fn held_bytes(&self) -> usize {
        self.got_bytes
    }

    /// Whether any answer waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.got.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_number_is_given_out_once_and_lost_ranges_come_first_again() {
        let mut queue = HeaderQueue::new(1);
        assert_eq!(queue.take(100, 1000, 10), Some((1, 10)));
        assert_eq!(
            queue.take(15, 1000, 10),
            Some((11, 5)),
            "not more than the peer has"
        );
        assert_eq!(queue.take(15, 1000, 10), None);
        assert_eq!(queue.take(100, 1000, 10), Some((16, 10)));
        queue.give_back(1, 10);
        assert_eq!(queue.take(4, 1000, 10), Some((1, 4)));
        assert_eq!(queue.take(100, 1000, 10), Some((5, 6)));
        assert_eq!(
            queue.take(100, 30, 10),
            Some((26, 5)),
            "not past the window"
        );
        assert_eq!(queue.take(u64::MAX, 30, 10), None);
    }

    #[test]
    fn ranges_that_were_asked_for_twice_do_no_harm() {
        let headers = |from: u64, to: u64| Got {
            peer: PeerId(1),
            headers: (from..=to)
                .map(|number| {
                    let header = alloy_consensus::Header {
                        number,
                        ..Default::default()
                    };
                    Arc::new(SealedHeader::from_header(header))
                })
                .collect(),
        };
        let mut queue = HeaderQueue::new(1);
        assert_eq!(queue.take(100, 100, 10), Some((1, 10)));
        queue.put(1, headers(1, 6));
        queue.give_back(7, 4);
        queue.put(1, headers(1, 3));
        assert_eq!(
            queue.pop(1).unwrap().headers.len(),
            6,
            "the longer one stays"
        );
        assert_eq!(queue.held_bytes(), 0);
        queue.put(1, headers(1, 10));
        assert_eq!(queue.held_bytes(), raw_bytes(&headers(1, 10).headers));
        let rest = queue.pop(7).unwrap();
        assert_eq!((rest.headers.len(), rest.headers[0].header.number), (4, 7));
        assert!(queue.pop(11).is_none() && !queue.is_waiting());
        assert_eq!(queue.held_bytes(), 0);
        assert_eq!(
            queue.take(100, 100, 10),
            Some((11, 10)),
            "what is verified is not asked for again"
        );
        queue.give_back(5, 10);
        queue.forget_below(9);
        assert_eq!(queue.take(100, 100, 10), Some((9, 6)));
    }
}
