//! What the machine of a node wants done, as `thread.rs` and `store.rs` do it: the store takes its time, and may be killed meanwhile.

use alloy_primitives::{B256, U256};
use bytes::Bytes;
use cairn_net::reactor::OwnedOutgoing;

use super::{Network, Node};
use crate::chain::Tip;
use crate::sync::tasks::Task;
use crate::sync::{Action, Block};

/// A commit that is under way. The machine sees it as done already.
pub(super) struct AtWork {
    pub(super) until_ms: u64,
    /// The blocks that it replaces, from this number on.
    replaced: (usize, Vec<(B256, Bytes, Bytes, U256)>),
    /// The head with it.
    tip: Tip,
}

impl Node {
    /// The commit is done, or, if `is_lost`, as if it had never begun.
    pub(super) fn end_commit(&mut self, at_work: AtWork, is_lost: bool) {
        let (first, replaced) = at_work.replaced;
        if is_lost {
            self.store.0.truncate(first);
            self.store.0.extend(replaced);
            return;
        }
        let td = at_work.tip.td;
        assert!(td >= self.tip.td, "the head never becomes lighter");
        self.reorgs += usize::from(!replaced.is_empty());
        self.tip = at_work.tip;
    }

    fn begin_commit(&mut self, blocks: &[Block], tip: Tip, until_ms: u64) {
        let first = usize::try_from(blocks[0].header.number()).unwrap();
        let replaced = self.store.0.split_off(first);
        for block in blocks {
            let header = &block.header;
            assert_eq!(header.header.parent_hash, self.store.0.last().unwrap().0);
            let stored = (
                header.hash,
                header.raw.clone(),
                block.body.clone(),
                block.td,
            );
            self.store.0.push(stored);
        }
        let at_work = AtWork {
            until_ms,
            replaced: (first, replaced),
            tip,
        };
        self.run.as_mut().unwrap().at_work = Some(at_work);
    }
}

impl Network {
    /// Carries out what there is now, as far as the store has got. Requests go ahead.
    pub(super) fn act(&mut self, node: usize) {
        loop {
            let Some(run) = &mut self.nodes[node].run else {
                return;
            };
            match run.machine.poll_action() {
                None => break,
                Some(Action::Send {
                    peer,
                    message: message @ OwnedOutgoing::Request { .. },
                }) => self.send(node, peer, message),
                Some(action) => run.tasks.push(action),
            }
        }
        while let Some(run) = &mut self.nodes[node].run {
            match run.tasks.next() {
                None => return,
                Some(Task::Store(action)) => {
                    let until_ms = self.now_ms + self.dice.below(self.disks.commit_ms + 1);
                    match &*action {
                        Action::Commit { blocks, tip, .. } => {
                            self.nodes[node].begin_commit(blocks, tip.clone(), until_ms);
                        }
                        Action::Stage(_) => panic!("these branches fit into the memory"),
                        _ => panic!("receipts are not wanted"),
                    }
                }
                Some(Task::Here(Action::Punish { peer, fault })) => {
                    let punished = format!("node {node} punished {}: {fault}", peer.0);
                    self.punished.push(punished);
                }
                Some(Task::Here(Action::Send { peer, message })) => self.send(node, peer, message),
                Some(Task::Here(_)) => unreachable!("all else is the store's"),
            }
        }
    }

    /// The store's part: true if it is done by now with what it was at.
    pub(super) fn store_turn(&mut self, node: usize) -> bool {
        let it = &mut self.nodes[node];
        let Some(run) = &mut it.run else { return false };
        let Some(done) = run.at_work.take_if(|it| it.until_ms <= self.now_ms) else {
            return false;
        };
        run.tasks.done();
        run.machine.stored();
        it.end_commit(done, false);
        true
    }
}
