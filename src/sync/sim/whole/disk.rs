//! The node's disk: it fills, it fails, and it is where a killed process may be at work.

use std::io;
use std::sync::Arc;

use cairn_store::faults::{Change, Hook, Verdict};
use parking_lot::Mutex;

/// What the disk does at one of the changes to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// After so many more bytes there is no room, until some is made.
    Full { room_bytes: u64 },
    /// After so many more changes one fails.
    Fails { changes: u64 },
    /// After so many more changes the process is killed: half of a write is made, and nothing after it.
    Kill { changes: u64 },
}

#[derive(Debug, Default)]
struct State {
    trouble: Option<Trouble>,
    killed: bool,
}

/// A disk with room and without faults, until it is given [`Trouble`].
#[derive(Clone, Debug, Default)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub(super) fn set(&self, trouble: Option<Trouble>) {
        *self.0.lock() = State {
            trouble,
            killed: false,
        };
    }

    /// The process was killed in the middle of a change.
    pub(super) fn was_killed(&self) -> bool {
        self.0.lock().killed
    }

    pub(super) fn hook(&self) -> Arc<dyn Hook> {
        Arc::new(self.clone())
    }
}

fn failed() -> io::Error {
    io::Error::other("the disk failed")
}

impl Hook for SimDisk {
    fn before(&self, change: &Change<'_>) -> Verdict {
        let state = &mut *self.0.lock();
        if state.killed {
            return Verdict::Fail(failed());
        }
        let length = match change {
            Change::Write { bytes, .. } => bytes.len(),
            _ => 0,
        };
        match &mut state.trouble {
            None => Verdict::Go,
            Some(Trouble::Full { room_bytes }) if *room_bytes < length as u64 => {
                let room = usize::try_from(std::mem::take(room_bytes)).unwrap();
                Verdict::Short(room, io::ErrorKind::StorageFull.into())
            }
            Some(Trouble::Full { room_bytes }) => {
                *room_bytes -= length as u64;
                Verdict::Go
            }
            Some(Trouble::Fails { changes: 0 }) => {
                state.trouble = None;
                Verdict::Fail(failed())
            }
            Some(Trouble::Kill { changes: 0 }) => {
                state.killed = true;
                match length {
                    0 => Verdict::Fail(failed()),
                    _ => Verdict::Short(length / 2, failed()),
                }
            }
            Some(Trouble::Fails { changes } | Trouble::Kill { changes }) => {
                *changes -= 1;
                Verdict::Go
            }
        }
    }
}
