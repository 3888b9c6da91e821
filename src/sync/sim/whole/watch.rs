//! What must be true of the node at any moment, whatever is done to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::B256;
use cairn_net::eth::message::{Request, Start};
use cairn_store::{Reader, Snapshot, Writer};

use super::remote::Remote;
use super::trace::Trace;
use crate::chain::Tip;
use crate::sync::sim::chain::{SimBlock, receipts_of};
use crate::sync::sim::runs::MEMORY;
use crate::sync::storing::View;
use crate::sync::{Block, ChainView as _, Fault, Machine};

/// An answer may be larger than the average makes it expected to be.
const MEMORY_MOST: usize = MEMORY / 4 * 7;

/// The rules that a run is held to, and what it came to.
pub(super) struct Watch {
    /// Every valid block there is.
    pub(super) valid: BTreeMap<B256, Arc<SimBlock>>,
    /// The head that was acknowledged last.
    pub(super) head: B256,
    /// The head of a commit that is under way.
    attempted: Option<B256>,
    /// Whether the chain's total difficulty decides.
    pub(super) is_sealed: bool,
    pub(super) most_memory: usize,
    pub(super) commits: usize,
    pub(super) reorgs: usize,
    pub(super) restarts: usize,
    /// Ends of the process: killed, for want of room, by a fault of the disk.
    pub(super) deaths: [usize; 3],
    /// Times that sync had no room for an event.
    pub(super) stalls: usize,
    pub(super) blocks_stored: usize,
    pub(super) bodies_asked: usize,
    pub(super) punished: usize,
}

impl Watch {
    pub(super) fn new(valid: BTreeMap<B256, Arc<SimBlock>>, head: B256, is_sealed: bool) -> Watch {
        Watch {
            valid,
            head,
            attempted: None,
            is_sealed,
            most_memory: 0,
            commits: 0,
            reorgs: 0,
            restarts: 0,
            deaths: [0; 3],
            stalls: 0,
            blocks_stored: 0,
            bodies_asked: 0,
            punished: 0,
        }
    }

    /// The process has started on what it found: what was acknowledged, or the commit that it died in, whole.
    pub(super) fn opened(&mut self, writer: &Writer, tip: &Tip, now_ms: u64, trace: &mut Trace) {
        let head = tip.header.hash;
        let number = tip.header.header.number;
        trace.step(now_ms, format_args!("node starts at {number}"));
        assert!(
            head == self.head || self.attempted.take() == Some(head),
            "what was acknowledged is lost: found {number} {head}, expected {}",
            self.head
        );
        (self.head, self.attempted) = (head, None);
        self.restarts += 1;
        self.compare(&writer.reader().snapshot());
    }

    /// The process has ended: no more is lost than the batch in hand, and what came while the store was at one.
    pub(super) fn died(machine: &Machine, is_storing: bool) {
        if is_storing {
            return;
        }
        let limits = &machine.config.limits;
        let (blocks, bytes) = machine.main.bodies.ready();
        let most_bytes = limits
            .commit_bytes
            .min(machine.config.memory_limit_bytes / 2);
        assert!(
            blocks < limits.commit_blocks && bytes < most_bytes,
            "{blocks} whole blocks of {bytes} bytes were not stored"
        );
    }

    /// These blocks are about to be stored.
    pub(super) fn committing(&mut self, writer: &Writer, blocks: &[Block], tip: &Tip) {
        let snapshot = writer.reader().snapshot();
        let first = &blocks[0].header.header;
        let mut parent = snapshot.hash(first.number - 1).unwrap().unwrap();
        for block in blocks {
            let header = &block.header;
            assert_eq!(
                header.header.parent_hash, parent,
                "it hangs on a stored block"
            );
            parent = header.hash;
            let valid = self.valid.get(&header.hash);
            let valid = valid.expect("only valid blocks are stored");
            assert_eq!(
                (&valid.header.raw, &valid.body, valid.td),
                (&header.raw, &block.body, block.td)
            );
        }
        assert_eq!(parent, tip.header.hash);
        let head = snapshot.head();
        if first.number <= head.number {
            self.reorgs += 1;
        }
        assert!(
            !self.is_sealed || tip.td >= head.td,
            "the head never becomes lighter"
        );
        self.attempted = Some(parent);
        self.blocks_stored += blocks.len();
    }

    /// They are.
    pub(super) fn committed(&mut self, writer: &Writer, tip: &Tip) {
        let head = writer.head();
        assert_eq!((head.hash, head.td), (tip.header.hash, tip.td));
        (self.head, self.attempted) = (head.hash, None);
        self.commits += 1;
    }

    /// What is stored is never asked for again, unless it is about to be replaced: then it is as if it were not there.
    pub(super) fn asks(
        &mut self,
        stored: &Snapshot,
        view: &View<'_>,
        remote: &Remote,
        request: &Request,
    ) {
        let place = |hash: &B256| {
            let number = stored.number(hash).unwrap();
            number.filter(|number| view.hash(*number) == Some(*hash))
        };
        match request {
            Request::Bodies { hashes } => {
                self.bodies_asked += hashes.len();
                for hash in hashes {
                    assert_eq!(place(hash), None, "a body is asked for that is stored");
                }
            }
            Request::Receipts { hashes, .. } => {
                for number in hashes.iter().filter_map(place) {
                    assert!(
                        !stored.has_receipts(number).unwrap(),
                        "receipts of {number} are asked for that are stored"
                    );
                }
            }
            // To find where a branch leaves ours headers are asked for falling, or one at a time.
            Request::Headers {
                start: Start::Number(first),
                reverse: false,
                ..
            } if remote.is_honest() && !remote.has_moved => {
                let theirs = remote.sim.chain.get(usize::try_from(*first).unwrap());
                let ours = view.hash(*first);
                let is_head = view.hash(*first + 1).is_none(); // of a peer that may have another
                assert!(
                    is_head || ours.is_none() || theirs.map(|block| block.header.hash) != ours,
                    "headers are asked for from block {first} on, which is stored"
                );
            }
            _ => {}
        }
    }

    /// A peer is dropped for a fault.
    pub(super) fn punished(&mut self, remote: &Remote, fault: &Fault) {
        self.punished += 1;
        let excuse = matches!(fault, Fault::Stalled { .. }) && remote.is_disturbed;
        assert!(
            !remote.is_honest() || excuse,
            "remote {} is {:?} and was punished: {fault}",
            remote.sim.id.0,
            remote.sim.nature
        );
    }

    pub(super) fn memory(&mut self, machine: &Machine) {
        self.most_memory = self.most_memory.max(machine.memory_bytes());
        assert!(
            self.most_memory <= MEMORY_MOST,
            "{} bytes held and expected",
            self.most_memory
        );
    }

    /// Whether the receipts of every block are stored.
    pub(super) fn has_receipts(stored: &Snapshot) -> bool {
        (1..=stored.head().number).all(|number| stored.has_receipts(number).unwrap())
    }

    /// All that a reader of the files finds is what the valid chain has.
    pub(super) fn compare(&self, stored: &Snapshot) {
        let head = stored.head();
        let mut hash = head.hash;
        for number in (0..=head.number).rev() {
            let block = &self.valid[&hash];
            assert_eq!(block.number(), number);
            assert_eq!(stored.hash(number).unwrap(), Some(hash));
            assert_eq!(stored.td(number).unwrap(), Some(block.td), "td of {number}");
            let header = stored.header(number).unwrap().unwrap();
            assert_eq!(*header, *block.header.raw, "header {number}");
            let body = stored.body(number).unwrap().unwrap();
            assert_eq!(body, block.body, "body {number}");
            if let Some(receipts) = stored.receipts(number).unwrap() {
                assert_eq!(receipts, receipts_of(&block.body), "receipts of {number}");
            }
            hash = block.header.header.parent_hash;
        }
    }

    /// The same through a reader of its own, as another process would.
    pub(super) fn compare_files(&self, dir: &std::path::Path) {
        self.compare(&Reader::open(dir).unwrap().snapshot());
    }
}
