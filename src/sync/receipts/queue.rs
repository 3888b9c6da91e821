//! Stored blocks that are without their receipts, from the lowest one up, and the run at the front that can be kept.

use std::collections::VecDeque;
use std::sync::Arc;

use alloy_primitives::B256;
use bytes::Bytes;
use cairn_net::reactor::PeerId;

use crate::chain::SealedHeader;

/// What there is of a block's receipts.
#[derive(Debug)]
enum Have {
    /// Nothing; perhaps they are asked for.
    Nothing { asked: bool },
    /// All of them, checked.
    Here(Bytes),
    /// They are in the store already.
    Stored,
    /// Nobody has them.
    Passed,
}

#[derive(Debug)]
struct Slot {
    header: Arc<SealedHeader>,
    have: Have,
    refused: Vec<PeerId>,
    /// Nobody had them, and all were asked once more.
    is_second_time: bool,
    /// They come in many parts, for which there is room only when nothing before them is missing.
    waits_for_front: bool,
}

/// Checked receipts of a stored block.
#[derive(Clone, Debug)]
pub struct Found {
    /// The block's number.
    pub number: u64,
    /// The block's hash.
    pub hash: B256,
    /// RLP of its receipts in eth/69's form, as the store keeps them.
    pub receipts: Bytes,
}

/// A window over the stored blocks. Below it are those that have their receipts, or were passed over.
#[derive(Debug, Default)]
pub(super) struct ReceiptQueue {
    slots: VecDeque<Slot>,
    /// The number after the last slot: the next block to be looked at.
    next: u64,
    held_bytes: usize,
}

impl ReceiptQueue {
    /// An empty window, which begins at block `first`.
    pub(super) fn new(first: u64) -> ReceiptQueue {
        ReceiptQueue {
            next: first,
            ..ReceiptQueue::default()
        }
    }

    /// The next block to be looked at.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Blocks in the window.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of the receipts that wait to be kept.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Goes past the next block, which needs nothing, while the window is empty.
    pub(super) fn pass(&mut self) {
        debug_assert!(self.slots.is_empty(), "a window has no holes");
        self.next += 1;
    }

    /// Begins anew at block `first`.
    pub(super) fn restart(&mut self, first: u64) {
        *self = ReceiptQueue::new(first);
    }

    /// Takes the next block into the window: its receipts are wanted.
    pub(super) fn push(&mut self, header: Arc<SealedHeader>) {
        self.push_as(header, Have::Nothing { asked: false });
    }

    /// The same for a block that has its receipts in the store.
    pub(super) fn push_stored(&mut self, header: Arc<SealedHeader>) {
        self.push_as(header, Have::Stored);
    }

    /// The same for a block whose receipts are known.
    pub(super) fn push_found(&mut self, header: Arc<SealedHeader>, receipts: Bytes) {
        self.held_bytes += receipts.len();
        self.push_as(header, Have::Here(receipts));
    }

    fn push_as(&mut self, header: Arc<SealedHeader>, have: Have) {
        debug_assert_eq!(header.header.number, self.next, "a window has no holes");
        self.next += 1;
        self.slots.push_back(Slot {
            header,
            have,
            refused: Vec::new(),
            is_second_time: false,
            waits_for_front: false,
        });
    }

    /// The blocks above `ancestor` are no longer ours.
    pub(super) fn cut(&mut self, ancestor: u64) {
        while self
            .slots
            .back()
            .is_some_and(|slot| slot.header.header.number > ancestor)
        {
            if let Some(Slot {
                have: Have::Here(receipts),
                ..
            }) = self.slots.pop_back()
            {
                self.held_bytes -= receipts.len();
            }
        }
        self.next = self.next.min(ancestor.saturating_add(1));
    }

    fn index(&self, header: &SealedHeader) -> Option<usize> {
        let first = self.front_number()?;
        let index = usize::try_from(header.header.number.checked_sub(first)?).ok()?;
        let slot = self.slots.get(index)?;
        (slot.header.hash == header.hash).then_some(index)
    }

    fn slot(&mut self, header: &SealedHeader) -> Option<&mut Slot> {
        let index = self.index(header)?;
        self.slots.get_mut(index)
    }

    /// Marks up to `max` blocks as asked of `peer`, which has receipts from block `earliest` to `top`, from the front on.
    pub(super) fn take(
        &mut self,
        peer: PeerId,
        (earliest, top): (u64, u64),
        max: usize,
    ) -> Vec<Arc<SealedHeader>> {
        let mut taken = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let number = slot.header.header.number;
            if taken.len() == max || number > top {
                break;
            }
            if slot.waits_for_front && index > 0 {
                continue;
            }
            let Have::Nothing { asked } = &mut slot.have else {
                continue;
            };
            if !*asked && number >= earliest && !slot.refused.contains(&peer) {
                *asked = true;
                taken.push(slot.header.clone());
            }
        }
        taken
    }

    /// Whether the receipts of this block are asked for, and `peer`, which has them from block `earliest` to `top`, may have them.
    pub(super) fn is_owed(
        &self,
        header: &SealedHeader,
        peer: PeerId,
        (earliest, top): (u64, u64),
    ) -> bool {
        let number = header.header.number;
        self.index(header).is_some_and(|index| {
            let slot = &self.slots[index];
            let is_asked = matches!(slot.have, Have::Nothing { asked: true });
            let may_have = (earliest..=top).contains(&number) && !slot.refused.contains(&peer);
            is_asked && may_have
        })
    }

    /// Marks one block as asked for, if it waits for its receipts and is not.
    pub(super) fn claim(&mut self, header: &SealedHeader) -> bool {
        match self.slot(header) {
            Some(Slot {
                have: Have::Nothing { asked },
                ..
            }) => !std::mem::replace(asked, true),
            _ => false,
        }
    }

    /// The number of the first block of the window.
    pub(super) fn front_number(&self) -> Option<u64> {
        Some(self.slots.front()?.header.header.number)
    }

    /// There is no room for all the parts of this block's receipts until it is the first one.
    pub(super) fn wait_for_front(&mut self, header: &SealedHeader) {
        if let Some(slot) = self.slot(header) {
            slot.waits_for_front = true;
        }
    }

    /// Whether this is the first block of the window.
    pub(super) fn is_front(&self, header: &SealedHeader) -> bool {
        self.slots
            .front()
            .is_some_and(|slot| slot.header.hash == header.hash)
    }

    /// A request for this block is over.
    pub(super) fn release(&mut self, header: &SealedHeader) {
        if let Some(Slot {
            have: Have::Nothing { asked },
            ..
        }) = self.slot(header)
        {
            *asked = false;
        }
    }

    /// `peer` does not have the receipts of this block.
    pub(super) fn refuse(&mut self, header: &SealedHeader, peer: PeerId) {
        if let Some(slot) = self.slot(header)
            && !slot.refused.contains(&peer)
        {
            slot.refused.push(peer);
        }
    }

    /// Takes checked receipts; those of a block that is not waiting for them are let go.
    pub(super) fn fill(&mut self, header: &SealedHeader, receipts: Bytes) {
        let bytes = receipts.len();
        if let Some(slot) = self.slot(header)
            && matches!(slot.have, Have::Nothing { .. })
        {
            slot.have = Have::Here(receipts);
            self.held_bytes += bytes;
        }
    }

    /// Complete blocks at the front, and the bytes of their receipts.
    pub(super) fn ready(&self) -> (usize, usize) {
        let mut bytes = 0;
        let mut count = 0;
        for slot in &self.slots {
            match &slot.have {
                Have::Nothing { .. } => break,
                Have::Here(receipts) => bytes += receipts.len(),
                Have::Stored | Have::Passed => {}
            }
            count += 1;
        }
        (count, bytes)
    }

    /// Takes the complete blocks at the front out of the window: what of their receipts is not in the store.
    pub(super) fn pop_ready(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        for _ in 0..self.ready().0 {
            let Some(Slot { header, have, .. }) = self.slots.pop_front() else {
                break;
            };
            if let Have::Here(receipts) = have {
                self.held_bytes -= receipts.len();
                let (number, hash) = (header.header.number, header.hash);
                found.push(Found {
                    number,
                    hash,
                    receipts,
                });
            }
        }
        found
    }

    /// Whether the first block's receipts cannot be had: it is asked of nobody, and `nobody_has` them of its number and those
    /// who refused it.
    pub(super) fn front_is_lacking(&self, nobody_has: impl Fn(u64, &[PeerId]) -> bool) -> bool {
        self.slots
            .front()
            .is_some_and(|slot| slot.is_lacking(&nobody_has))
    }

    /// Deals with the blocks of the window whose receipts cannot be had, the front's with them: the first time all peers may be
    /// asked once more, then they are passed over. Gives the first that was passed over.
    pub(super) fn pass_lacking(
        &mut self,
        nobody_has: impl Fn(u64, &[PeerId]) -> bool,
    ) -> Option<u64> {
        let front = self.slots.front()?;
        let (first, passes) = (front.header.header.number, front.is_second_time);
        for slot in &mut self.slots {
            if !slot.is_lacking(&nobody_has) {
                continue;
            }
            if !passes {
                slot.is_second_time = true;
                slot.refused.clear();
            } else if slot.is_second_time {
                slot.have = Have::Passed;
            }
        }
        passes.then_some(first)
    }
}

impl Slot {
    fn is_lacking(&self, nobody_has: &impl Fn(u64, &[PeerId]) -> bool) -> bool {
        matches!(self.have, Have::Nothing { asked: false })
            && nobody_has(self.header.header.number, &self.refused)
    }
}
