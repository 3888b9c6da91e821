//! Receipts of stored blocks: in catch-up, live, and of blocks that were stored without.
//!
//! The chain does not wait for them. A window goes over the stored blocks from the lowest one up; what is wanted there is asked of
//! peers that may have it, checked against the header's root, and kept in runs. What no peer has is asked for a second time, then
//! passed over until another peer comes.

mod answer;
mod queue;

use std::sync::Arc;

use alloy_consensus::EMPTY_ROOT_HASH;
use bytes::Bytes;
use cairn_net::eth::message::Request;
use cairn_net::reactor::PeerId;

use self::queue::ReceiptQueue;
use super::bodies::BodySize;
use super::boundary::{Action, ChainView, MachineConfig, Now};
use super::limits::{RECEIPTS_LOOK, RECEIPTS_REWIND_MS};
use super::machine::Machine;
use super::peers::{Part, Peer, What};
use super::timing::mute_deadline;
use crate::chain::SealedHeader;
use crate::chain::receipts::NO_RECEIPTS;

pub use self::queue::Found;

/// The receipts that are wanted, and what is known of them.
#[derive(Debug)]
pub(super) struct Receipts {
    queue: ReceiptQueue,
    /// How large the receipts of a block are.
    size: BodySize,
    /// There are stored blocks that were not looked at.
    unseen: bool,
    /// Since when complete blocks have been waiting at the front.
    ready_since_ms: Option<u64>,
    /// Bytes of the run that was given out to be kept and is not yet.
    keeping_bytes: Option<usize>,
    /// Since when nobody has been known to have the first block's.
    lacking_since_ms: Option<u64>,
    /// The lowest block that was passed over.
    passed: Option<u64>,
    /// A peer has come since, which may have them.
    newcomer: bool,
    rewound_ms: u64,
    /// Up to here a block may have been stored before, on a branch that gave way, and the store passes over what comes with it.
    replaced_to: u64,
}

impl Receipts {
    /// Nothing is known yet; `None` if no receipts are wanted.
    pub(super) fn new(config: &MachineConfig) -> Option<Receipts> {
        let limits = &config.limits;
        config.receipts.then(|| Receipts {
            queue: ReceiptQueue::new(config.earliest.max(1)), // the genesis block has none
            size: BodySize::new(limits.answer_bytes / limits.receipt_batch_start.max(1)),
            unseen: true,
            ready_since_ms: None,
            keeping_bytes: None,
            lacking_since_ms: None,
            passed: None,
            newcomer: false,
            rewound_ms: 0,
            replaced_to: 0,
        })
    }
}

impl Machine {
    /// Bytes of receipts held and expected: their part of what the memory limit bounds.
    pub fn receipt_bytes(&self) -> usize {
        let held = self.receipts.as_ref().map_or(0, |receipts| {
            receipts.queue.held_bytes() + receipts.keeping_bytes.unwrap_or(0)
        });
        let asked = self.peers.values().flat_map(|peer| peer.asked.values());
        let expected: usize = asked
            .filter(|asked| matches!(asked.what, What::Receipts { .. }))
            .map(|asked| asked.expected_bytes)
            .sum();
        held + expected
    }

    /// The blocks above `ancestor` are about to be replaced.
    pub(super) fn cut_receipts(&mut self, ancestor: u64) {
        if let Some(receipts) = &mut self.receipts {
            receipts.queue.cut(ancestor);
            let ours = self.tip.header.header.number;
            if ancestor < ours {
                receipts.replaced_to = receipts.replaced_to.max(ours);
            }
        }
    }

    /// The receipts of a block that is about to be stored, if they are known and those of all blocks before it are kept.
    pub(super) fn known_receipts(&mut self, header: &SealedHeader) -> Option<Bytes> {
        let receipts = self.receipts.as_mut()?;
        let (queue, number) = (&mut receipts.queue, header.header.number);
        let is_next = queue.len() == 0 && queue.next() == number && number > receipts.replaced_to;
        if !is_next || !has_none(header) {
            return None;
        }
        queue.pass();
        Some(Bytes::from_static(NO_RECEIPTS))
    }

    /// Blocks were given out to be stored: they are looked at when they are.
    pub(super) fn blocks_stored(&mut self) {
        if let Some(receipts) = &mut self.receipts {
            receipts.unseen = true;
        }
    }

    /// A peer has come.
    pub(super) fn receipts_newcomer(&mut self) {
        if let Some(receipts) = &mut self.receipts {
            receipts.newcomer = true;
        }
    }

    /// Takes stored blocks into the window, and deals with what cannot be had.
    pub(super) fn look_for_receipts(&mut self, now: Now, chain: &dyn ChainView) {
        let Some(receipts) = self.receipts.as_mut().filter(|_| self.staged.is_none()) else {
            return;
        };
        let (head, window) = (
            self.tip.header.header.number,
            self.config.limits.receipt_window,
        );
        if chain.hash(head) != Some(self.tip.header.hash) {
            return; // the last blocks given out are not stored yet
        }
        if let Some(passed) = receipts.passed
            && receipts.newcomer
            && now.ms >= receipts.rewound_ms.saturating_add(RECEIPTS_REWIND_MS)
        {
            receipts.queue.restart(passed);
            receipts.passed = None;
            receipts.rewound_ms = now.ms;
        }
        receipts.newcomer &= receipts.passed.is_some();
        let queue = &mut receipts.queue;
        receipts.unseen = false;
        for _ in 0..RECEIPTS_LOOK {
            let number = queue.next();
            if number > head || queue.len() as u64 >= window {
                break;
            }
            let is_stored = chain.has_receipts(number);
            if is_stored && queue.len() == 0 {
                queue.pass();
                continue;
            }
            let Some(Ok(header)) = chain.header(number).map(SealedHeader::decode) else {
                return; // a damaged store, which the view tells of
            };
            let header = Arc::new(header);
            if is_stored {
                queue.push_stored(header);
            } else if has_none(&header) {
                queue.push_found(header, Bytes::from_static(NO_RECEIPTS));
            } else {
                queue.push(header);
            }
        }
        receipts.unseen = queue.next() <= head && (queue.len() as u64) < window;
        self.pass_over(now);
    }

    /// What has been lacking at the front for long is asked for once more, then passed over.
    fn pass_over(&mut self, now: Now) {
        let (Some(receipts), peers) = (&mut self.receipts, &self.peers) else {
            return;
        };
        let nobody_has = |number: u64, refused: &[PeerId]| {
            let has = |(id, peer): (&PeerId, &Peer)| {
                peer.may_have_receipts(number) && !refused.contains(id)
            };
            !peers.iter().any(has)
        };
        if peers.is_empty() || !receipts.queue.front_is_lacking(nobody_has) {
            receipts.lacking_since_ms = None;
            return;
        }
        let since_ms = *receipts.lacking_since_ms.get_or_insert(now.ms);
        if now.ms.saturating_sub(since_ms) < self.config.limits.stuck_ms {
            return;
        }
        receipts.lacking_since_ms = None;
        let Some(first) = receipts.queue.pass_lacking(nobody_has) else {
            return;
        };
        receipts.unseen = true;
        if receipts.passed.is_none() {
            log::info!("No peer has the receipts from block {first} on: passed over");
        }
        receipts.passed = Some(receipts.passed.map_or(first, |passed| passed.min(first)));
        // Where all peers have nothing old there is no use in looking at it window by window.
        let willing = peers.values().filter(|peer| !peer.is_mute_on_receipts);
        let earliest = willing.map(|peer| peer.earliest).min().unwrap_or(0);
        let after_head = self.tip.header.header.number + 1;
        if earliest > receipts.queue.next() {
            receipts.queue.restart(earliest.min(after_head));
        }
    }

    /// Asks `id` for the receipts of some blocks, if it may have any that are wanted and the memory limit allows it.
    pub(super) fn ask_receipts(&mut self, now: Now, id: PeerId) -> bool {
        let limits = &self.config.limits;
        let used = self.receipt_bytes();
        let (Some(receipts), Some(peer)) = (&mut self.receipts, self.peers.get(&id)) else {
            return false;
        };
        let open = peer.count(|what| matches!(what, What::Receipts { .. }));
        let is_full = open >= limits.receipts_per_peer || !peer.is_usable();
        if peer.off_chain || peer.is_mute_on_receipts || is_full {
            return false;
        }
        let average = receipts.size.average();
        let room = self.config.receipt_bytes().saturating_sub(used) / average;
        let (earliest, top) = peer.receipt_range();
        // The block that all others wait for may be asked for although the memory is used up, and none above it.
        let front = receipts.queue.front_number().unwrap_or(0);
        let (room, top) = match room {
            0 => (1, top.min(front)),
            _ => (room, top),
        };
        let fitting = limits.answer_bytes.min(peer.bytes_in_time()) / average;
        let batch = fitting.clamp(1, limits.receipt_batch_max).min(room);
        let mut wanted = receipts.queue.take(id, (earliest, top), batch);
        if wanted.is_empty() && open == 0 {
            wanted = self.overdue_receipts(now, id);
            wanted.truncate(batch);
        }
        if wanted.is_empty() {
            return false;
        }
        let request = Request::Receipts {
            hashes: wanted.iter().map(|header| header.hash).collect(),
            first_index: 0,
        };
        let expected = wanted.len() * average;
        let part = Part::default();
        self.ask(now, id, What::Receipts { wanted, part }, request, expected);
        true
    }

    /// What one peer has owed for long, of which nothing has come, if the first block is among it and holds everything else up.
    fn overdue_receipts(&self, now: Now, id: PeerId) -> Vec<Arc<SealedHeader>> {
        let (Some(receipts), Some(peer)) = (&self.receipts, self.peers.get(&id)) else {
            return Vec::new();
        };
        let (queue, range) = (&receipts.queue, peer.receipt_range());
        let overdue_ms = self.receipts_overdue_ms();
        let mut owed = Vec::new();
        for peer in self.peers.values() {
            for asked in peer.asked.values().filter(|asked| !asked.given_up) {
                let What::Receipts { wanted, part } = &asked.what else {
                    continue;
                };
                if wanted.iter().any(|header| queue.is_front(header)) {
                    let is_late = now.ms.saturating_sub(asked.sent_ms) >= overdue_ms;
                    if !is_late || part.count > 0 || !owed.is_empty() {
                        return Vec::new();
                    }
                    let may_have = |header: &&Arc<SealedHeader>| queue.is_owed(header, id, range);
                    owed.extend(wanted.iter().filter(may_have).cloned());
                }
            }
        }
        if owed.first().is_some_and(|first| !queue.is_front(first)) {
            owed.clear(); // this peer has refused the front
        }
        owed
    }

    /// After this time an idle peer is asked for the first block's receipts too.
    fn receipts_overdue_ms(&self) -> u64 {
        self.config.limits.urgent_ms.saturating_mul(4) // the chain does not wait for them
    }

    /// Gives blocks back that are no longer asked for.
    pub(super) fn release_receipts(&mut self, wanted: &[Arc<SealedHeader>]) {
        if let Some(receipts) = &mut self.receipts {
            wanted
                .iter()
                .for_each(|header| receipts.queue.release(header));
        }
    }

    /// Peers that do not answer for receipts are not asked for any again. It costs them no more: there are clients that never
    /// answer.
    pub(super) fn find_mute(&mut self, now: Now, timeout_ms: u64) {
        let mut given_up = Vec::new();
        for peer in self.peers.values_mut() {
            if mute_deadline(peer, timeout_ms).is_none_or(|due| due > now.ms) {
                continue;
            }
            peer.is_mute_on_receipts = true;
            for asked in peer.asked.values_mut().filter(|asked| !asked.given_up) {
                if let What::Receipts { wanted, part } = &mut asked.what {
                    asked.given_up = true;
                    asked.expected_bytes = 0;
                    *part = Part::default();
                    given_up.extend_from_slice(wanted);
                }
            }
        }
        self.release_receipts(&given_up);
    }

    /// Gives the complete blocks at the front out to be kept, if they are enough or no more are to come soon.
    pub(super) fn keep_receipts(&mut self, now: Now) {
        let limits = &self.config.limits;
        // A branch that goes into the store is in the way of all else.
        let Some(receipts) = self.receipts.as_mut().filter(|_| self.staged.is_none()) else {
            return;
        };
        let (count, bytes) = receipts.queue.ready();
        if count == 0 {
            receipts.ready_since_ms = None;
            return;
        }
        // The store takes one run at a time, and all that has come meanwhile is the next.
        if receipts.keeping_bytes.is_some() {
            return;
        }
        let since_ms = *receipts.ready_since_ms.get_or_insert(now.ms);
        let is_coming = self
            .peers
            .values()
            .any(|peer| peer.oldest_receipts_ms().is_some());
        let enough = count as u64 >= limits.receipt_window / 2
            || bytes >= self.config.receipt_bytes() / 2
            || now.ms.saturating_sub(since_ms) >= limits.flush_ms;
        if !enough && is_coming {
            return;
        }
        receipts.ready_since_ms = None;
        receipts.unseen = true; // there is room in the window
        let found = receipts.queue.pop_ready();
        if !found.is_empty() {
            receipts.keeping_bytes = Some(bytes);
            self.actions.push_back(Action::Keep { receipts: found });
        }
    }

    /// The run that was given out to be kept is, or is let go: there is room for the next, which comes with the next input.
    pub fn kept(&mut self) {
        if let Some(receipts) = &mut self.receipts {
            receipts.keeping_bytes = None;
        }
    }

    /// When time alone changes something for receipts.
    pub(super) fn receipts_deadline(&self, now: Now) -> Option<u64> {
        let receipts = self.receipts.as_ref()?;
        let limits = &self.config.limits;
        // None of it is done while a branch goes into the store.
        let is_free = self.staged.is_none();
        let looks = receipts.unseen.then_some(now.ms).filter(|_| is_free);
        let is_kept = receipts.keeping_bytes.is_none();
        let flush = receipts.ready_since_ms.filter(|_| is_free && is_kept);
        let flush = flush.map(|since| since + limits.flush_ms);
        let lacking = receipts.lacking_since_ms.filter(|_| is_free);
        let lacking = lacking.map(|since| since + limits.stuck_ms);
        let mute = self
            .peers
            .values()
            .filter_map(|peer| mute_deadline(peer, limits.request_timeout_ms))
            .min();
        let overdue = self
            .peers
            .values()
            .filter_map(Peer::oldest_receipts_ms)
            .map(|sent_ms| sent_ms.saturating_add(self.receipts_overdue_ms()))
            .filter(|&due_ms| due_ms > now.ms)
            .min();
        [looks, flush, lacking, mute, overdue]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Whether the header of a block says that it has no receipts.
fn has_none(header: &SealedHeader) -> bool {
    header.header.receipts_root == EMPTY_ROOT_HASH
}
