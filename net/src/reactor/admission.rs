//! Who is let in: caps, duplicates, ourselves. Pure.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use super::PeerId;
use crate::enode::{Enode, NodeId};
use crate::fault::Cause;
use crate::limits::{MAX_INBOUND_PER_ADDRESS, MAX_STATICS, MAX_TRUSTED, TIE_WINDOW_MS};

/// The book of connections.
#[derive(Debug)]
pub(super) struct Admission {
    own: NodeId,
    max_peers: usize,
    /// Nodes that we dial because the operator named them: they stand above `max_peers`.
    statics: HashSet<NodeId>,
    /// Nodes that the operator trusts, and where they are: they stand above every cap.
    trusted: HashMap<NodeId, IpAddr>,
    /// Who holds which id: authenticated connections, ready or on their way to it.
    seats: HashMap<NodeId, Seat>,
    /// Inbound connections of each address, loopback left out.
    per_address: HashMap<IpAddr, usize>,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    peer: PeerId,
    inbound: bool,
    since_ms: u64,
}

/// What becomes of a connection whose peer has proven its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Admit,
    /// It goes on in the place of another, which ends with AlreadyConnected.
    Replace(PeerId),
    /// It ends.
    Refuse(Cause),
}

impl Admission {
    pub(super) fn new(own: NodeId, max_peers: usize) -> Admission {
        Admission {
            own,
            max_peers,
            statics: HashSet::new(),
            trusted: HashMap::new(),
            seats: HashMap::new(),
            per_address: HashMap::new(),
        }
    }

    /// This node is to be dialled: `false` if it is ourselves, or there is no room.
    pub(super) fn add_static(&mut self, id: NodeId) -> bool {
        if id == self.own || !self.has_room_for_static(&id) {
            return false;
        }
        self.statics.insert(id);
        true
    }

    /// This node is trusted, if there is room.
    pub(super) fn trust(&mut self, node: Enode) {
        if !self.has_room_for_trusted(&node.id) {
            log::warn!(
                "Not trusting {}: {MAX_TRUSTED} nodes are trusted already",
                node.tcp_addr()
            );
            return;
        }
        self.trusted.insert(node.id, node.ip.to_canonical());
    }

    pub(super) fn has_room_for_static(&self, id: &NodeId) -> bool {
        self.statics.contains(id) || self.statics.len() < MAX_STATICS
    }

    pub(super) fn has_room_for_trusted(&self, id: &NodeId) -> bool {
        self.trusted.contains_key(id) || self.trusted.len() < MAX_TRUSTED
    }

    /// It is trusted no more.
    pub(super) fn distrust(&mut self, id: &NodeId) {
        self.trusted.remove(id);
    }

    /// This node is dialled no more.
    pub(super) fn remove_static(&mut self, id: &NodeId) {
        self.statics.remove(id);
    }

    pub(super) fn is_static(&self, id: &NodeId) -> bool {
        self.statics.contains(id)
    }

    pub(super) fn is_trusted(&self, id: &NodeId) -> bool {
        self.trusted.contains_key(id)
    }

    /// Whether a trusted node has this address. Never true of our own machine's, which says nothing of who is there.
    pub(super) fn is_trusted_address(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        !ip.is_loopback() && self.trusted.values().any(|trusted| *trusted == ip)
    }

    pub(super) fn holds(&self, id: &NodeId) -> bool {
        self.seats.contains_key(id)
    }

    pub(super) fn peers(&self) -> usize {
        self.seats.len()
    }

    /// A connection came in: `false` if its address has as many as it may.
    pub(super) fn arrive(&mut self, ip: IpAddr) -> bool {
        if let Some(key) = address_key(ip) {
            let count = self.per_address.entry(key).or_default();
            if *count >= MAX_INBOUND_PER_ADDRESS {
                return false;
            }
            *count += 1;
        }
        true
    }

    /// The peer has proven that it is `id`.
    pub(super) fn authenticate(
        &mut self,
        peer: PeerId,
        id: NodeId,
        inbound: bool,
        now_ms: u64,
    ) -> Verdict {
        if id == self.own {
            return Verdict::Refuse(Cause::SelfConnect);
        }
        let seat = Seat {
            peer,
            inbound,
            since_ms: now_ms,
        };
        if let Some(held) = self.seats.get_mut(&id) {
            // Both dialled at once: both sides must end the same one of the two, whatever each of them saw first. The
            // one that the smaller id dialled stays.
            let at_once =
                held.inbound != inbound && now_ms.saturating_sub(held.since_ms) < TIE_WINDOW_MS;
            let smaller_dialled = (id < self.own) == inbound;
            if at_once && smaller_dialled {
                let replaced = std::mem::replace(held, seat);
                return Verdict::Replace(replaced.peer);
            }
            return Verdict::Refuse(Cause::AlreadyConnected);
        }
        let is_above = self.statics.contains(&id) || self.is_trusted(&id);
        if self.seats.len() >= self.max_peers && !is_above {
            return Verdict::Refuse(Cause::TooManyPeers);
        }
        self.seats.insert(id, seat);
        Verdict::Admit
    }

    /// The connection has ended; it was counted in `arrive` if there is an address.
    pub(super) fn leave(&mut self, peer: PeerId, id: Option<NodeId>, counted_from: Option<IpAddr>) {
        if let Some(id) = id.filter(|id| self.seats.get(id).is_some_and(|seat| seat.peer == peer)) {
            self.seats.remove(&id);
        }
        if let Some(key) = counted_from.and_then(address_key)
            && let Some(count) = self.per_address.get_mut(&key)
        {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&key);
            }
        }
    }
}

/// What counts as one address; `None` if it is not counted.
pub(super) fn address_key(ip: IpAddr) -> Option<IpAddr> {
    match ip.to_canonical() {
        ip if ip.is_loopback() => None,
        // Who has an IPv6 address has at least a /64 of them.
        IpAddr::V6(ip) => Some(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64))),
        ip => Some(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId([n; 64])
    }

    fn book(max_peers: usize) -> Admission {
        Admission::new(id(5), max_peers)
    }

    #[test]
    fn ourselves_and_whom_we_have_are_refused() {
        let mut book = book(10);
        let refuse = |reason| Verdict::Refuse(reason);
        assert_eq!(
            book.authenticate(PeerId(1), id(5), true, 0),
            refuse(Cause::SelfConnect)
        );
        assert_eq!(book.authenticate(PeerId(2), id(7), true, 0), Verdict::Admit);
        assert_eq!(
            book.authenticate(PeerId(3), id(7), true, 0),
            refuse(Cause::AlreadyConnected)
        );
        book.leave(PeerId(3), Some(id(7)), None);
        assert!(
            book.holds(&id(7)),
            "the refused one's end does not free the seat"
        );
        book.leave(PeerId(2), Some(id(7)), None);
        assert_eq!(book.authenticate(PeerId(4), id(7), true, 0), Verdict::Admit);
    }

    #[test]
    fn past_the_cap_only_nodes_named_by_the_operator_are_admitted() {
        let mut book = book(1);
        book.add_static(id(9));
        assert_eq!(book.authenticate(PeerId(1), id(1), true, 0), Verdict::Admit);
        let too_many = Verdict::Refuse(Cause::TooManyPeers);
        assert_eq!(book.authenticate(PeerId(2), id(2), true, 0), too_many);
        assert_eq!(book.authenticate(PeerId(3), id(9), true, 0), Verdict::Admit);
        assert_eq!(book.peers(), 2);
    }

    /// In every order in which both ends can see the two connections, both keep the same one.
    #[test]
    fn two_nodes_that_dial_each_other_at_once_keep_the_same_connection() {
        let (a, b) = (id(1), id(2));
        for a_sees_own_first in [true, false] {
            for b_sees_own_first in [true, false] {
                // By its own side: which of the two connections it keeps. true: the one that `a` dialled.
                let keeps = |own: NodeId, other: NodeId, own_first: bool| {
                    let mut book = Admission::new(own, 10);
                    // PeerId 1 is the one we dialled, 2 the one that came in.
                    let order = if own_first {
                        [(1, false), (2, true)]
                    } else {
                        [(2, true), (1, false)]
                    };
                    let mut kept = 0;
                    for (peer, inbound) in order {
                        match book.authenticate(PeerId(peer), other, inbound, 0) {
                            Verdict::Admit | Verdict::Replace(_) => kept = peer,
                            Verdict::Refuse(_) => {}
                        }
                    }
                    (kept == 1) == (own == a)
                };
                assert!(keeps(a, b, a_sees_own_first), "a keeps what a dialled");
                assert!(keeps(b, a, b_sees_own_first), "b keeps what a dialled");
            }
        }
    }

    #[test]
    fn a_session_that_stands_is_not_replaced_by_a_later_dial() {
        let mut book = book(10);
        book.authenticate(PeerId(1), id(1), false, 0);
        let verdict = book.authenticate(PeerId(2), id(1), true, TIE_WINDOW_MS);
        assert_eq!(verdict, Verdict::Refuse(Cause::AlreadyConnected));
    }

    #[test]
    fn one_address_cannot_take_every_place_but_loopback_is_free() {
        let mut book = book(10);
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        for n in 0..8 {
            assert!(book.arrive(ip("203.0.113.7")));
            assert!(book.arrive(ip(&format!("2001:db8::{n}"))));
        }
        assert!(!book.arrive(ip("203.0.113.7")));
        assert!(
            !book.arrive(ip("::ffff:203.0.113.7")),
            "the same in IPv6 clothes"
        );
        assert!(!book.arrive(ip("2001:db8::ffff")), "the same /64");
        assert!(book.arrive(ip("2001:db8:0:1::1")));
        assert!(book.arrive(ip("203.0.113.8")));
        book.leave(PeerId(0), None, Some(ip("203.0.113.7")));
        assert!(book.arrive(ip("203.0.113.7")));
        for _ in 0..100 {
            assert!(book.arrive(ip("127.0.0.1")));
        }
    }
}
