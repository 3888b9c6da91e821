//! What the machine wants done and is not done yet, in order: the store has one thing at a time, and what follows waits for it. Of
//! what is on its way into the store the machine is shown that it is there.

use std::collections::VecDeque;
use std::sync::Arc;

use alloy_primitives::B256;

use super::boundary::{Action, Block, Staging};

/// See the file's first line. The machine has one run of blocks and one of receipts out at a time, and what is said of them to each peer;
/// the part of a branch beside them.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    queue: VecDeque<Action>,
    at_work: Option<Arc<Action>>,
}

/// What is to be done next.
pub(super) enum Task {
    /// A message, or a peer to be dropped.
    Here(Action),
    /// For the store. Nothing else is next until [`Tasks::done`].
    Store(Arc<Action>),
}

impl Tasks {
    /// Puts one in line.
    pub(super) fn push(&mut self, action: Action) {
        self.queue.push_back(action);
    }

    /// The next thing to do, unless the store is at work.
    pub(super) fn next(&mut self) -> Option<Task> {
        if self.at_work.is_some() {
            return None;
        }
        match self.queue.pop_front()? {
            action @ (Action::Send { .. } | Action::Punish { .. }) => Some(Task::Here(action)),
            action => {
                let action = Arc::new(action);
                self.at_work = Some(action.clone());
                Some(Task::Store(action))
            }
        }
    }

    /// The store has done what it was at, which this gives.
    pub(super) fn done(&mut self) -> Arc<Action> {
        let done = self.at_work.take();
        done.expect("the store does only what it was given")
    }

    /// Whether all is done.
    pub(super) fn is_idle(&self) -> bool {
        self.at_work.is_none() && self.queue.is_empty()
    }

    /// Whether the machine may not have its next input before the store has done what it was given: a branch that begins, ends or
    /// takes the place of our chain, for what the machine looks at then changes by more than is held here.
    pub(super) fn must_wait(&self) -> bool {
        self.open().any(|action| {
            matches!(
                action,
                Action::Stage(Staging::Begin { .. } | Staging::Publish { .. } | Staging::Leave)
            )
        })
    }

    /// The blocks of our chain that are on their way into the store, a run at a time, the newest first.
    pub(super) fn runs(&self) -> impl Iterator<Item = &[Block]> {
        self.open().rev().filter_map(|action| match action {
            Action::Commit { blocks, .. } => Some(&blocks[..]),
            _ => None,
        })
    }

    /// Whether the receipts of this block are on their way into the store.
    pub(super) fn keeps(&self, number: u64, hash: &B256) -> bool {
        self.open().any(|action| match action {
            Action::Keep { receipts } => receipts
                .binary_search_by_key(&number, |found| found.number)
                .is_ok_and(|at| receipts[at].hash == *hash),
            _ => false,
        })
    }

    fn open(&self) -> impl DoubleEndedIterator<Item = &Action> {
        self.at_work.as_deref().into_iter().chain(&self.queue)
    }
}
