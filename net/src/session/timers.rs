//! When a session must act without input: deadlines of the handshake, Ping, and giving up on a silent peer.

use crate::limits::{PING_INTERVAL_MS, SILENCE_TIMEOUT_MS};

/// How long a peer may leave a Ping unanswered: with the silence before it, [`SILENCE_TIMEOUT_MS`].
const PONG_TIMEOUT_MS: u64 = SILENCE_TIMEOUT_MS - PING_INTERVAL_MS;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The peer did not send this in time.
    Awaited(&'static str),
    /// It is time to ask whether the peer is there.
    Ping,
    /// The peer is gone.
    Silence,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    /// Something must arrive by then, whatever else does.
    Awaiting {
        what: &'static str,
        until_ms: u64,
    },
    /// Any frame will do.
    Ready {
        heard_ms: u64,
        pinged_ms: Option<u64>,
    },
    Stopped,
}

/// The deadlines of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers {
    mode: Mode,
    /// The peer was not read at some time since its last frame, so its silence may be our doing.
    unread: bool,
}

impl Timers {
    /// The peer must send `what` by `until_ms`.
    pub(super) fn awaiting(what: &'static str, until_ms: u64) -> Timers {
        Timers {
            mode: Mode::Awaiting { what, until_ms },
            unread: false,
        }
    }

    /// The peer must send anything now and then.
    pub(super) fn ready(now_ms: u64) -> Timers {
        Timers {
            mode: Mode::Ready {
                heard_ms: now_ms,
                pinged_ms: None,
            },
            unread: false,
        }
    }

    /// Nothing is awaited any more.
    pub(super) fn stopped() -> Timers {
        Timers {
            mode: Mode::Stopped,
            unread: false,
        }
    }

    /// A whole frame came.
    pub(super) fn heard(&mut self, now_ms: u64) {
        if let Mode::Ready { .. } = self.mode {
            *self = Timers::ready(now_ms);
        }
    }

    /// The peer is not read at the moment.
    pub(super) fn not_reading(&mut self) {
        self.unread = true;
    }

    /// When [`Timers::due`] has to be asked.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        match self.mode {
            Mode::Awaiting { until_ms, .. } => Some(until_ms),
            Mode::Ready {
                heard_ms,
                pinged_ms: None,
            } => Some(heard_ms + PING_INTERVAL_MS),
            Mode::Ready {
                pinged_ms: Some(pinged_ms),
                ..
            } => Some(pinged_ms + PONG_TIMEOUT_MS),
            Mode::Stopped => None,
        }
    }

    /// What is due at `now_ms`. A Ping that is due counts as sent.
    pub(super) fn due(&mut self, now_ms: u64) -> Option<Due> {
        if now_ms < self.deadline_ms()? {
            return None;
        }
        match &mut self.mode {
            Mode::Awaiting { what, .. } => Some(Due::Awaited(what)),
            Mode::Ready {
                pinged_ms: pinged_ms @ None,
                ..
            } => {
                *pinged_ms = Some(now_ms);
                Some(Due::Ping)
            }
            Mode::Ready { .. } if self.unread => {
                *self = Timers::ready(now_ms);
                None
            }
            Mode::Ready { .. } => Some(Due::Silence),
            Mode::Stopped => None,
        }
    }
}
