//! Who is connected, for those who look on: the reactors write it, anybody may read it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::PeerId;
use crate::session::PeerInfo;

/// A peer that has gone through Status, as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct ConnectedPeer {
    /// The connection.
    pub peer: PeerId,
    /// The other end's address.
    pub addr: SocketAddr,
    /// Who it is.
    pub info: Arc<PeerInfo>,
    /// For how long.
    pub connected_for: Duration,
    /// It stands above every cap and is never banned.
    pub is_trusted: bool,
    /// It is dialled, and dialled again whenever it is lost.
    pub is_static: bool,
}

/// The peers of all reactors. Locked for one change at a time, or for a copy of all.
#[derive(Default)]
pub(super) struct Roll {
    peers: Mutex<BTreeMap<PeerId, Present>>,
}

#[derive(Clone)]
pub(super) struct Present {
    pub(super) addr: SocketAddr,
    pub(super) info: Arc<PeerInfo>,
    pub(super) since: Instant,
}

impl Roll {
    pub(super) fn enter(&self, peer: PeerId, addr: SocketAddr, info: Arc<PeerInfo>) {
        let since = Instant::now();
        let present = Present { addr, info, since };
        self.peers.lock().insert(peer, present);
    }

    pub(super) fn leave(&self, peer: PeerId) {
        self.peers.lock().remove(&peer);
    }

    pub(super) fn len(&self) -> usize {
        self.peers.lock().len()
    }

    pub(super) fn all(&self) -> Vec<(PeerId, Present)> {
        let peers = self.peers.lock();
        peers.iter().map(|(&peer, at)| (peer, at.clone())).collect()
    }
}
