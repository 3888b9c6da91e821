//! The places of the reactor, found by token or by peer, and the timers set for them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use mio::Token;

use super::PeerId;
use super::connection::{Entry, State};

/// Tokens below this are the reactor's own.
const FIRST_TOKEN: usize = 2;

/// Entries by place. A place is used again; a [`PeerId`] is not.
pub(super) struct Slots {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    by_peer: HashMap<PeerId, usize>,
    /// Places whose turn it is, in order.
    queue: VecDeque<usize>,
    /// May hold more than is still wanted: what is taken out is compared with its entry.
    timers: BinaryHeap<Reverse<(u64, PeerId)>>,
    last_peer: PeerId,
    /// Reactors that give names: each its own.
    threads: u64,
}

impl Slots {
    /// No entries yet, for the reactor `thread` of so many.
    pub(super) fn new(thread: usize, threads: usize) -> Slots {
        Slots {
            entries: Vec::new(),
            free: Vec::new(),
            by_peer: HashMap::new(),
            queue: VecDeque::new(),
            timers: BinaryHeap::new(),
            last_peer: PeerId(thread as u64),
            threads: threads as u64,
        }
    }

    /// The next connection's name.
    pub(super) fn next_peer(&mut self) -> PeerId {
        self.last_peer.0 += self.threads;
        self.last_peer
    }

    /// Connections, whatever they are in.
    pub(super) fn len(&self) -> usize {
        self.by_peer.len()
    }

    /// The token that the next `insert` will have.
    pub(super) fn next_token(&self) -> Token {
        Token(FIRST_TOKEN + self.free.last().copied().unwrap_or(self.entries.len()))
    }

    pub(super) fn insert(&mut self, peer: PeerId, state: State) {
        let entry = Entry {
            peer,
            armed_ms: u64::MAX,
            is_queued: false,
            state,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.entries[place] = Some(entry);
                place
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() - 1
            }
        };
        self.by_peer.insert(peer, place);
    }

    /// Whether this connection is here, be it in its turn.
    pub(super) fn has(&self, peer: PeerId) -> bool {
        self.by_peer.contains_key(&peer)
    }

    pub(super) fn get(&self, peer: PeerId) -> Option<&Entry> {
        self.entries[*self.by_peer.get(&peer)?].as_ref()
    }

    pub(super) fn get_mut(&mut self, peer: PeerId) -> Option<&mut Entry> {
        self.entries[*self.by_peer.get(&peer)?].as_mut()
    }

    pub(super) fn by_token(&mut self, token: Token) -> Option<&mut Entry> {
        self.entries
            .get_mut(token.0.checked_sub(FIRST_TOKEN)?)?
            .as_mut()
    }

    /// Takes an entry out for its turn. Its place is kept until `put_back` or `release`.
    pub(super) fn take(&mut self, peer: PeerId) -> Option<Entry> {
        self.entries[*self.by_peer.get(&peer)?].take()
    }

    pub(super) fn put_back(&mut self, entry: Entry) {
        let place = self.by_peer[&entry.peer];
        self.entries[place] = Some(entry);
    }

    /// Frees the place of an entry that was taken.
    pub(super) fn release(&mut self, peer: PeerId) {
        if let Some(place) = self.by_peer.remove(&peer) {
            self.entries[place] = None;
            self.free.push(place);
        }
    }

    pub(super) fn peers(&self) -> Vec<PeerId> {
        self.by_peer.keys().copied().collect()
    }

    pub(super) fn count(&self, mut of: impl FnMut(&State) -> bool) -> usize {
        self.entries
            .iter()
            .flatten()
            .filter(|entry| of(&entry.state))
            .count()
    }

    /// Queues a turn, unless one is queued.
    pub(super) fn queue(&mut self, peer: PeerId) {
        let Some(&place) = self.by_peer.get(&peer) else {
            return;
        };
        if let Some(entry) = self.entries[place]
            .as_mut()
            .filter(|entry| !entry.is_queued)
        {
            entry.is_queued = true;
            self.queue.push_back(place);
        }
    }

    /// How many turns are queued.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The next one whose turn it is; `None` also for one that has ended meanwhile.
    pub(super) fn next_turn(&mut self) -> Option<PeerId> {
        let place = self.queue.pop_front()?;
        let entry = self.entries[place].as_mut()?;
        entry.is_queued = false;
        Some(entry.peer)
    }

    /// Sees to it that the timer fires at `at_ms`, or before.
    pub(super) fn arm(&mut self, peer: PeerId, at_ms: u64) {
        let Some(entry) = self.get_mut(peer) else {
            return;
        };
        if at_ms < entry.armed_ms {
            entry.armed_ms = at_ms;
            self.timers.push(Reverse((at_ms, peer)));
        }
    }

    /// When the next timer fires.
    pub(super) fn next_timer_ms(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at_ms, _))| *at_ms)
    }

    /// A connection whose timer has fired: whether anything is due is for the caller to see.
    pub(super) fn fired(&mut self, now_ms: u64) -> Option<PeerId> {
        loop {
            let Reverse((at_ms, peer)) = *self.timers.peek()?;
            if at_ms > now_ms {
                return None;
            }
            self.timers.pop();
            if let Some(entry) = self.get_mut(peer).filter(|entry| entry.armed_ms == at_ms) {
                entry.armed_ms = u64::MAX;
                return Some(peer);
            }
        }
    }
}
