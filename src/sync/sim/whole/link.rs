//! A virtual connection: bytes in order, late, as many at a time as fit, until it ends, is cut at any byte or held up by a partition.

use std::collections::VecDeque;

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Node,
    Remote,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Node => Side::Remote,
            Side::Remote => Side::Node,
        }
    }
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parcel {
    Bytes(Vec<u8>),
    /// The connection is over, for this reason.
    End(&'static str),
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// After so many bytes of the remote's.
    pub(super) at_bytes: u64,
    /// Nobody is told: the bytes just vanish.
    pub(super) silent: bool,
}

/// What one side has sent and the other has not read.
#[derive(Debug, Default)]
struct Flow {
    parcels: VecDeque<(u64, Parcel)>,
    waiting_bytes: usize,
    sent_bytes: u64,
    /// When the line has taken all that was sent, in microseconds.
    free_us: u64,
    is_shut: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    /// Which of the remotes.
    pub(super) remote: usize,
    latency_ms: u64,
    bytes_per_ms: u64,
    /// Bytes on their way or unread, at the most.
    window_bytes: usize,
    held_until_ms: u64,
    flows: [Flow; 2],
    pub(super) cut: Option<Cut>,
    /// The byte of the remote's stream that is not what it should be.
    pub(super) spoilt_byte: Option<u64>,
}

impl Link {
    pub(super) fn new(
        remote: usize,
        latency_ms: u64,
        bytes_per_ms: u64,
        window_bytes: usize,
    ) -> Link {
        Link {
            remote,
            latency_ms: latency_ms.max(1),
            bytes_per_ms: bytes_per_ms.max(1),
            window_bytes,
            held_until_ms: 0,
            flows: Default::default(),
            cut: None,
            spoilt_byte: None,
        }
    }

    /// Bytes that `side` may send now.
    pub(super) fn room(&self, side: Side) -> usize {
        let flow = &self.flows[side as usize];
        match flow.is_shut {
            true => usize::MAX, // thrown away
            false => self.window_bytes.saturating_sub(flow.waiting_bytes),
        }
    }

    /// Bytes that `side` has sent so far.
    pub(super) fn sent_bytes(&self, side: Side) -> u64 {
        self.flows[side as usize].sent_bytes
    }

    fn push(&mut self, now_ms: u64, side: Side, parcel: Parcel) {
        let (latency_ms, held_until_ms) = (self.latency_ms, self.held_until_ms);
        let flow = &mut self.flows[side as usize];
        let length = match &parcel {
            Parcel::Bytes(bytes) => bytes.len(),
            Parcel::End(_) => 0,
        };
        flow.waiting_bytes += length;
        flow.free_us = flow.free_us.max(now_ms * 1000) + length as u64 * 1000 / self.bytes_per_ms;
        let before_ms = flow.parcels.back().map_or(0, |parcel| parcel.0);
        let arrival_ms = (flow.free_us / 1000 + latency_ms)
            .max(held_until_ms)
            .max(before_ms);
        flow.parcels.push_back((arrival_ms, parcel));
    }

    /// Sends bytes, for which there is room.
    pub(super) fn send(&mut self, now_ms: u64, side: Side, bytes: &[u8]) {
        let flow = &mut self.flows[side as usize];
        if flow.is_shut || bytes.is_empty() {
            return;
        }
        let start = flow.sent_bytes;
        flow.sent_bytes += bytes.len() as u64;
        let mut bytes = bytes.to_vec();
        let mut cut = None;
        if side == Side::Remote {
            if let Some(at) = self.spoilt_byte.and_then(|at| at.checked_sub(start))
                && let Some(byte) = bytes.get_mut(usize::try_from(at).unwrap())
            {
                *byte ^= 1;
            }
            cut = self
                .cut
                .filter(|cut| cut.at_bytes <= start + bytes.len() as u64);
            if let Some(cut) = cut {
                bytes.truncate(usize::try_from(cut.at_bytes.saturating_sub(start)).unwrap());
            }
        }
        self.push(now_ms, side, Parcel::Bytes(bytes));
        if let Some(cut) = cut {
            self.reset(now_ms, cut.silent);
        }
    }

    /// `side` sends nothing more.
    pub(super) fn close(&mut self, now_ms: u64, side: Side) {
        if !std::mem::replace(&mut self.flows[side as usize].is_shut, true) {
            self.push(now_ms, side, Parcel::End("the peer closed the connection"));
        }
    }

    /// Nothing goes through any more.
    pub(super) fn reset(&mut self, now_ms: u64, silent: bool) {
        for side in [Side::Node, Side::Remote] {
            let was_shut = std::mem::replace(&mut self.flows[side as usize].is_shut, true);
            if !was_shut && !silent {
                self.push(now_ms, side, Parcel::End("reset"));
            }
        }
    }

    /// Nothing arrives before this time.
    pub(super) fn hold(&mut self, until_ms: u64) {
        self.held_until_ms = self.held_until_ms.max(until_ms);
        for (arrival_ms, _) in self.flows.iter_mut().flat_map(|flow| &mut flow.parcels) {
            *arrival_ms = (*arrival_ms).max(until_ms);
        }
    }

    /// When the next thing arrives for `reader`.
    pub(super) fn next_ms(&self, reader: Side) -> Option<u64> {
        let flow = &self.flows[reader.other() as usize];
        flow.parcels.front().map(|(arrival_ms, _)| *arrival_ms)
    }

    /// What has arrived for `reader`, the oldest first.
    pub(super) fn receive(&mut self, now_ms: u64, reader: Side) -> Option<Parcel> {
        let flow = &mut self.flows[reader.other() as usize];
        if flow.parcels.front()?.0 > now_ms {
            return None;
        }
        let (_, parcel) = flow.parcels.pop_front()?;
        if let Parcel::Bytes(bytes) = &parcel {
            flow.waiting_bytes -= bytes.len();
        }
        Some(parcel)
    }
}
