//! Verified headers that wait for their bodies, and the complete run at the front that can be stored.

use std::collections::VecDeque;
use std::sync::Arc;

use alloy_primitives::B256;
use bytes::Bytes;
use cairn_net::reactor::PeerId;

use crate::chain::body::{EMPTY_BODY, EMPTY_BODY_WITH_WITHDRAWALS};
use crate::chain::{SealedHeader, Tip};

/// The body of a header whose roots are those of empty lists: it need not be asked for.
pub(super) fn made_body(header: &SealedHeader) -> Option<Bytes> {
    let h = &header.header;
    if h.transactions_root != alloy_consensus::EMPTY_ROOT_HASH
        || h.ommers_hash != alloy_consensus::EMPTY_OMMER_ROOT_HASH
    {
        return None;
    }
    match h.withdrawals_root {
        None => Some(Bytes::from_static(EMPTY_BODY)),
        Some(alloy_consensus::EMPTY_ROOT_HASH) => {
            Some(Bytes::from_static(EMPTY_BODY_WITH_WITHDRAWALS))
        }
        Some(_) => None,
    }
}

#[derive(Debug)]
struct Slot {
    tip: Tip,
    source: PeerId,
    body: Option<Bytes>,
    asked: u8,
    refused: Vec<PeerId>,
}

/// The verified headers above a known block, in order, each with its body as soon as it is there.
#[derive(Debug, Default)]
pub(super) struct BodyQueue {
    slots: VecDeque<Slot>,
    ready: usize,
    /// No block before this one is to be asked for: a hint, so that a long queue is not searched each time.
    unasked: usize,
    ready_bytes: usize,
    held_bytes: usize,
}

impl BodyQueue {
    /// Appends a verified header that `source` gave.
    pub(super) fn push(&mut self, tip: Tip, source: PeerId) {
        let body = made_body(&tip.header);
        self.held_bytes += body.as_ref().map_or(0, Bytes::len);
        self.slots.push_back(Slot {
            tip,
            source,
            body,
            asked: 0,
            refused: Vec::new(),
        });
        self.count_ready();
    }

    /// The last verified header, if any waits.
    pub(super) fn last(&self) -> Option<&Tip> {
        self.slots.back().map(|slot| &slot.tip)
    }

    /// Headers that wait, with or without their bodies.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Complete blocks at the front, and the bytes of their bodies.
    pub(super) fn ready(&self) -> (usize, usize) {
        (self.ready, self.ready_bytes)
    }

    /// Bytes of all bodies that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The tip of the `index`-th waiting block.
    pub(super) fn tip(&self, index: usize) -> Option<&Tip> {
        self.slots.get(index).map(|slot| &slot.tip)
    }

    /// The first block whose body is missing.
    pub(super) fn front_missing(&self) -> Option<B256> {
        self.slots.get(self.ready).map(|slot| slot.tip.header.hash)
    }

    /// Its number.
    pub(super) fn front_missing_number(&self) -> Option<u64> {
        let slot = self.slots.get(self.ready)?;
        Some(slot.tip.header.header.number)
    }

    /// Who gave its header, and its number.
    pub(super) fn front_missing_source(&self) -> Option<(PeerId, u64)> {
        let slot = self.slots.get(self.ready)?;
        Some((slot.source, slot.tip.header.header.number))
    }

    /// Whether `peer` lacks the first missing body.
    pub(super) fn front_is_refused_by(&self, peer: PeerId) -> bool {
        self.slots
            .get(self.ready)
            .is_some_and(|slot| slot.refused.contains(&peer))
    }

    /// Marks up to `max` bodies as asked of `peer`, which holds `earliest..=top`, from the front on.
    pub(super) fn take(
        &mut self,
        peer: PeerId,
        earliest: u64,
        top: u64,
        max: usize,
    ) -> Vec<Arc<SealedHeader>> {
        let mut taken = Vec::new();
        let is_asked = |slot: &Slot| slot.body.is_some() || slot.asked > 0;
        while self.slots.get(self.unasked).is_some_and(is_asked) {
            self.unasked += 1;
        }
        for slot in self.slots.iter_mut().skip(self.unasked) {
            let number = slot.tip.header.header.number;
            if taken.len() == max || number > top {
                break;
            }
            if !is_asked(slot) && number >= earliest && !slot.refused.contains(&peer) {
                slot.asked = 1;
                taken.push(slot.tip.header.clone());
            }
        }
        taken
    }

    /// Marks the first `max` bodies that somebody else owes as asked of `peer` too.
    pub(super) fn take_urgent(
        &mut self,
        peer: PeerId,
        earliest: u64,
        top: u64,
        max: usize,
    ) -> Vec<Arc<SealedHeader>> {
        let mut taken = Vec::new();
        for slot in self.slots.iter_mut().skip(self.ready).take(max) {
            let number = slot.tip.header.header.number;
            if slot.body.is_none()
                && slot.asked == 1
                && (earliest..=top).contains(&number)
                && !slot.refused.contains(&peer)
            {
                slot.asked = 2;
                taken.push(slot.tip.header.clone());
            }
        }
        taken
    }

    fn index(&self, header: &SealedHeader) -> Option<usize> {
        let first = self.slots.front()?.tip.header.header.number;
        let index = usize::try_from(header.header.number.checked_sub(first)?).ok()?;
        let slot = self.slots.get(index)?;
        (slot.tip.header.hash == header.hash).then_some(index)
    }

    fn slot(&mut self, header: &SealedHeader) -> Option<&mut Slot> {
        let index = self.index(header)?;
        self.slots.get_mut(index)
    }

    /// Whether the block waits here for its body.
    pub(super) fn wants(&mut self, header: &SealedHeader) -> bool {
        self.slot(header).is_some_and(|slot| slot.body.is_none())
    }

    /// Who gave this header, if it waits here.
    pub(super) fn source(&mut self, header: &SealedHeader) -> Option<PeerId> {
        self.slot(header).map(|slot| slot.source)
    }

    /// Takes a checked body; a second one for the same block is let go.
    pub(super) fn fill(&mut self, header: &SealedHeader, body: Bytes) {
        let bytes = body.len();
        match self.slot(header) {
            Some(slot) if slot.body.is_none() => slot.body = Some(body),
            _ => return,
        }
        self.held_bytes += bytes;
        self.count_ready();
    }

    /// A request for this body is over.
    pub(super) fn release(&mut self, header: &SealedHeader) {
        let Some(index) = self.index(header) else {
            return;
        };
        self.slots[index].asked = self.slots[index].asked.saturating_sub(1);
        self.unasked = self.unasked.min(index);
    }

    /// `peer` does not have this body and is not asked for it again.
    pub(super) fn refuse(&mut self, header: &SealedHeader, peer: PeerId) {
        if let Some(slot) = self.slot(header)
            && !slot.refused.contains(&peer)
        {
            slot.refused.push(peer);
        }
    }

    /// Forgets who lacked what.
    pub(super) fn forget_refusals(&mut self) {
        for slot in &mut self.slots {
            slot.refused.clear();
        }
    }

    /// How many of the first `count` blocks, which are complete, have bodies of no more than `most_bytes`; one at the least.
    pub(super) fn fitting(&self, count: usize, most_bytes: usize) -> usize {
        let mut bytes = 0;
        let fits = |slot: &&Slot| {
            bytes += slot.body.as_ref().map_or(0, Bytes::len);
            bytes <= most_bytes
        };
        let fitting = self.slots.iter().take(count).take_while(fits).count();
        fitting.max(1)
    }

    /// Takes the first `count` blocks, which are complete, with the peer that gave each header.
    pub(super) fn pop(&mut self, count: usize) -> Vec<(Tip, Bytes, PeerId)> {
        debug_assert!(count <= self.ready, "only complete blocks leave the queue");
        let mut popped = Vec::with_capacity(count);
        for _ in 0..count.min(self.ready) {
            if let Some(Slot {
                tip,
                source,
                body: Some(body),
                ..
            }) = self.slots.pop_front()
            {
                self.ready -= 1;
                self.unasked = self.unasked.saturating_sub(1);
                self.ready_bytes -= body.len();
                self.held_bytes -= body.len();
                popped.push((tip, body, source));
            }
        }
        popped
    }

    /// Lets the first block go because it was stored otherwise; true if it was `hash`.
    pub(super) fn pop_stored(&mut self, hash: &B256) -> bool {
        if self
            .slots
            .front()
            .is_none_or(|slot| slot.tip.header.hash != *hash)
        {
            return false;
        }
        if let Some(body) = self.slots.pop_front().and_then(|slot| slot.body) {
            self.held_bytes -= body.len();
            self.ready -= 1;
            self.ready_bytes -= body.len();
        }
        self.unasked = self.unasked.saturating_sub(1);
        self.count_ready();
        true
    }

    fn count_ready(&mut self) {
        while let Some(body) = self
            .slots
            .get(self.ready)
            .and_then(|slot| slot.body.as_ref())
        {
            self.ready_bytes += body.len();
            self.ready += 1;
        }
    }
}

/// How large bodies are, learnt from the answers, so that a request's answer has the size that is wanted.
#[derive(Debug)]
pub(super) struct BodySize {
    average: usize,
}

impl BodySize {
    /// As if bodies had this size until more is known.
    pub(super) fn new(average: usize) -> BodySize {
        BodySize {
            average: average.max(1),
        }
    }

    /// The bytes of a body, on average; not zero.
    pub(super) fn average(&self) -> usize {
        self.average
    }

    /// Learns from an answer. Up fast and down slowly: asking for too much costs more than asking for too little.
    pub(super) fn learn(&mut self, bodies: usize, bytes: usize) {
        let Some(found) = bytes.checked_div(bodies) else {
            return;
        };
        self.average = if found > self.average {
            self.average.midpoint(found)
        } else {
            (self.average * 7 + found) / 8
        }
        .max(1);
    }
}
