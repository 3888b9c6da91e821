//! One line of blocks on its way from a stored block upwards: headers asked for, headers verified, bodies, complete blocks.

use super::bodies::BodyQueue;
use super::headers::HeaderQueue;
use crate::chain::Tip;

/// Everything above `base` that is on its way into the store.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Tells this line's requests from those of lines given up; never reused.
    pub(super) epoch: u64,
    /// The stored block on which the first waiting block hangs.
    pub(super) base: Tip,
    /// The next header is of the future: none is asked for before this second.
    pub(super) pause_until_s: u64,
    /// Since when complete blocks have been waiting at the front.
    pub(super) ready_since_ms: Option<u64>,
    pub(super) headers: HeaderQueue,
    pub(super) bodies: BodyQueue,
}

impl Pipe {
    /// An empty line above `base`.
    pub(super) fn new(epoch: u64, base: Tip) -> Pipe {
        let first = base.header.header.number + 1;
        Pipe {
            epoch,
            base,
            pause_until_s: 0,
            ready_since_ms: None,
            headers: HeaderQueue::new(first),
            bodies: BodyQueue::default(),
        }
    }

    /// What it holds, if a verified header takes `header_bytes`.
    pub(super) fn held_bytes(&self, header_bytes: usize) -> usize {
        self.bodies.len() * header_bytes + self.bodies.held_bytes() + self.headers.held_bytes()
    }

    /// Lets the verified headers go: the last of them, `top`, is what the next one hangs on.
    pub(super) fn forget_below(&mut self, top: Tip) {
        self.base = top;
        self.bodies = BodyQueue::default();
    }

    /// The last verified block.
    pub(super) fn top(&self) -> &Tip {
        self.bodies.last().unwrap_or(&self.base)
    }

    /// Its number.
    pub(super) fn top_number(&self) -> u64 {
        self.top().header.header.number
    }
}
