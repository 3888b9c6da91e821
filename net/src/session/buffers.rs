//! Memory for long messages that come in, used again when nobody looks at the message any more.
//!
//! Memory that is new for each costs more than to decompress into it: the system clears it page by page as it is touched.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::limits::{
    BUFFER_STEP_BYTES, BUFFERS_REST_MS, IDLE_BUFFERS_BYTES, REUSED_LEAST_BYTES, REUSED_MOST_BYTES,
};

/// Buffers that wait for the next message, and the way back for those that hold one.
#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Idle>>);

#[derive(Default)]
struct Idle {
    /// Each initialised in its whole length; what came back last is at the end.
    buffers: VecDeque<Vec<u8>>,
    /// Their bytes together.
    bytes: usize,
    /// When one was last asked for. Without it nothing that comes back is kept.
    used_at_ms: Option<u64>,
}

impl Buffers {
    /// Memory for a message of so many bytes: what is in it is any message that was there before.
    pub(super) fn take(&self, bytes: usize, now_ms: u64) -> Buffer {
        if !(REUSED_LEAST_BYTES..=REUSED_MOST_BYTES).contains(&bytes) {
            return Buffer::alone(bytes);
        }
        let mut idle = self.0.lock();
        idle.used_at_ms = Some(now_ms);
        // A message must not hold much more than it is counted as: a quarter.
        let fits = bytes..=bytes + bytes / 4;
        let at = idle
            .buffers
            .iter()
            .rposition(|buffer| fits.contains(&buffer.len()));
        let memory = at.and_then(|at| idle.buffers.remove(at));
        idle.bytes -= memory.as_ref().map_or(0, Vec::len);
        // What is new takes the place of what did not fit, so that no more is held than if nothing were kept.
        let left_bytes = match &memory {
            Some(_) => IDLE_BUFFERS_BYTES,
            None => idle.bytes.saturating_sub(bytes),
        };
        let too_old = idle.shrink(left_bytes);
        drop(idle);
        drop(too_old); // before the system is asked for more, and unlocked
        Buffer {
            memory: memory.unwrap_or_else(|| vec![0; bytes.next_multiple_of(BUFFER_STEP_BYTES)]),
            bytes,
            back_to: Some(self.clone()),
        }
    }

    /// When [`rest`](Buffers::rest) has something to do.
    pub(super) fn rests_at_ms(&self) -> Option<u64> {
        let used_at_ms = self.0.lock().used_at_ms?;
        Some(used_at_ms + BUFFERS_REST_MS)
    }

    /// Gives back to the system what nobody has asked for in a while, and keeps nothing from then on until somebody does.
    pub(super) fn rest(&self, now_ms: u64) {
        if self.rests_at_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            let idle = std::mem::take(&mut *self.0.lock());
            drop(idle); // unlocked
        }
    }

    /// How many wait, and their bytes.
    #[cfg(test)]
    pub(super) fn idle(&self) -> (usize, usize) {
        let idle = self.0.lock();
        assert_eq!(idle.bytes, idle.buffers.iter().map(Vec::len).sum::<usize>());
        (idle.buffers.len(), idle.bytes)
    }

    fn give_back(&self, memory: Vec<u8>) {
        let mut idle = self.0.lock();
        if idle.used_at_ms.is_none() {
            return;
        }
        idle.bytes += memory.len();
        idle.buffers.push_back(memory);
        let too_old = idle.shrink(IDLE_BUFFERS_BYTES);
        drop(idle);
        drop(too_old); // unlocked
    }
}

impl Idle {
    /// Takes out the oldest, which are those that no message fitted into, until so many bytes are left at the most.
    fn shrink(&mut self, left_bytes: usize) -> Vec<Vec<u8>> {
        let mut too_old = Vec::new();
        while self.bytes > left_bytes {
            let oldest = self.buffers.pop_front().expect("some have these bytes");
            self.bytes -= oldest.len();
            too_old.push(oldest);
        }
        too_old
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Buffers(..)")
    }
}

/// Memory for one message.
pub(super) struct Buffer {
    /// At least as long as the message.
    memory: Vec<u8>,
    bytes: usize,
    back_to: Option<Buffers>,
}

impl Buffer {
    /// Memory of its own for a message of so many bytes.
    pub(super) fn alone(bytes: usize) -> Buffer {
        Buffer {
            memory: vec![0; bytes],
            bytes,
            back_to: None,
        }
    }

    /// Where the message is to be written: all of it, for what is there now is another's.
    pub(super) fn text(&mut self) -> &mut [u8] {
        &mut self.memory[..self.bytes]
    }

    /// The message. The memory goes back when the last slice of it is dropped, on whatever thread that is.
    pub(super) fn into_bytes(mut self) -> Bytes {
        match self.back_to {
            Some(_) => Bytes::from_owner(self),
            None => Bytes::from(std::mem::take(&mut self.memory)),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.bytes]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(buffers) = self.back_to.take() {
            buffers.give_back(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LONG: usize = REUSED_LEAST_BYTES;

    #[test]
    fn a_buffer_is_used_again_once_the_last_slice_of_its_message_is_dropped_on_any_thread() {
        let buffers = Buffers::default();
        let mut first = buffers.take(LONG + 5, 0);
        first.text().fill(7);
        let place = first.as_ref().as_ptr();
        let message = first.into_bytes();
        assert_eq!(message.len(), LONG + 5);
        let slice = message.slice(9..10);
        drop(message);
        assert_eq!(buffers.idle().0, 0, "a slice of it is held");
        std::thread::spawn(move || drop(slice)).join().unwrap();
        assert_eq!(buffers.idle(), (1, LONG + BUFFER_STEP_BYTES));
        let second = buffers.take(LONG + 9, 0);
        assert_eq!(buffers.idle(), (0, 0));
        assert_eq!(second.as_ref().as_ptr(), place);
        assert_eq!(second.into_bytes().len(), LONG + 9);
    }

    #[test]
    fn a_message_gets_no_buffer_that_is_much_longer_than_it_is() {
        for (bytes, is_used) in [(3 * LONG, false), (4 * LONG - 9, true), (5 * LONG, false)] {
            let buffers = Buffers::default();
            drop(buffers.take(4 * LONG, 0));
            let buffer = buffers.take(bytes, 0);
            assert_eq!(buffer.memory.len() == 4 * LONG, is_used, "{bytes}");
            assert!(buffer.memory.len() <= bytes + bytes / 4, "{bytes}");
        }
    }

    #[test]
    fn what_is_new_takes_the_place_of_what_did_not_fit() {
        let buffers = Buffers::default();
        let short: Vec<Buffer> = (0..8).map(|_| buffers.take(LONG, 0)).collect();
        drop(short);
        let _new = buffers.take(3 * LONG, 0);
        assert_eq!(buffers.idle(), (5, 5 * LONG));
        let _fits = buffers.take(LONG, 0);
        assert_eq!(buffers.idle(), (4, 4 * LONG));
    }

    #[test]
    fn short_messages_and_the_longest_have_memory_of_their_own() {
        let buffers = Buffers::default();
        for bytes in [0, 1, LONG - 1, REUSED_MOST_BYTES + 1] {
            let message = buffers.take(bytes, 0).into_bytes();
            assert_eq!(message.len(), bytes);
            drop(message);
            assert_eq!(buffers.idle(), (0, 0), "{bytes}");
        }
    }

    #[test]
    fn what_is_idle_has_a_limit_and_the_newest_stay() {
        let buffers = Buffers::default();
        let take = |bytes| buffers.take(bytes, 0);
        let old: Vec<Buffer> = (0..2 * IDLE_BUFFERS_BYTES / LONG)
            .map(|_| take(LONG))
            .collect();
        drop(old);
        let (many, bytes) = buffers.idle();
        assert_eq!((many, bytes), (IDLE_BUFFERS_BYTES / LONG, many * LONG));
        let (new, old) = (take(REUSED_MOST_BYTES), take(LONG));
        drop((old, new));
        assert!(buffers.idle().1 <= IDLE_BUFFERS_BYTES);
        let newest = buffers.0.lock().buffers.back().map(Vec::len);
        assert_eq!(newest, Some(REUSED_MOST_BYTES));
    }

    #[test]
    fn nothing_is_kept_once_nobody_has_asked_for_a_while() {
        let buffers = Buffers::default();
        assert_eq!(buffers.rests_at_ms(), None);
        let (one, late) = (buffers.take(LONG, 0), buffers.take(LONG, 500));
        drop(one);
        assert_eq!(buffers.rests_at_ms(), Some(500 + BUFFERS_REST_MS));
        buffers.rest(499 + BUFFERS_REST_MS);
        assert_eq!(buffers.idle().0, 1);
        buffers.rest(500 + BUFFERS_REST_MS);
        assert_eq!((buffers.idle().0, buffers.rests_at_ms()), (0, None));
        drop(late);
        assert_eq!(buffers.idle().0, 0, "it came back too late");
        drop(buffers.take(LONG, 9_000));
        assert_eq!(buffers.idle().0, 1);
    }
}
