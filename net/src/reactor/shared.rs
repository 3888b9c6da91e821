//! What the reactors of a node share: who is connected, who is to blame for what, and how busy each of them is.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::PeerId;
use super::admission::{Admission, Verdict, address_key};
use super::roll::Roll;
use crate::enode::{Enode, NodeId};
use crate::fault::Cause;
use crate::scores::{Ban, Scores, Subject};

/// Locked for some comparisons at a time, when a connection comes, proves its id, or ends.
pub(super) struct Shared {
    book: Mutex<Book>,
    pub(super) roll: Roll,
    /// Changes with every new ban, for those who keep them.
    bans_version: AtomicU64,
    /// Connections of each reactor.
    loads: Vec<AtomicUsize>,
}

impl Shared {
    pub(super) fn new(book: Book, threads: usize) -> Shared {
        Shared {
            book: Mutex::new(book),
            roll: Roll::default(),
            bans_version: AtomicU64::new(0),
            loads: (0..threads).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }

    /// Counts a fault, and gives the bans it led to.
    pub(super) fn blame(
        &self,
        id: Option<NodeId>,
        ip: IpAddr,
        cause: Cause,
        now_s: u64,
    ) -> Vec<Ban> {
        if cause.weight() == 0 {
            return Vec::new();
        }
        let bans = self.book().blame(id, ip, cause, now_s);
        if !bans.is_empty() {
            self.bans_version.fetch_add(1, Ordering::Release);
        }
        bans
    }

    pub(super) fn bans_version(&self) -> u64 {
        self.bans_version.load(Ordering::Acquire)
    }

    pub(super) fn set_load(&self, thread: usize, connections: usize) {
        self.loads[thread].store(connections, Ordering::Relaxed);
    }

    /// The reactor with the fewest connections, which gets one more.
    pub(super) fn least_busy(&self) -> usize {
        let load = |thread: &usize| self.loads[*thread].load(Ordering::Relaxed);
        let thread = (0..self.loads.len()).min_by_key(load).unwrap_or(0);
        self.loads[thread].fetch_add(1, Ordering::Relaxed);
        thread
    }
}

/// Whether a connection counts against its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// It does, also against the handshakes under way.
    Yes,
    /// It stands above the caps.
    No,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its address has as many as it may.
    TooMany,
    /// Its address is banned.
    Banned,
}

/// Who is connected and who is to blame. Pure.
pub(super) struct Book {
    pub(super) admission: Admission,
    pub(super) scores: Scores,
}

impl Book {
    /// A connection came in from this address: whether it is taken, and counted.
    pub(super) fn arrive(&mut self, ip: IpAddr, now_s: u64) -> Result<Counted, Refusal> {
        if self.admission.is_trusted_address(ip) {
            return Ok(Counted::No);
        }
        let subject = address_key(ip).map(Subject::Address);
        let ban = subject.and_then(|subject| self.scores.banned_until_s(&subject, now_s));
        if ban.is_some() {
            return Err(Refusal::Banned);
        }
        match self.admission.arrive(ip) {
            true => Ok(Counted::Yes),
            false => Err(Refusal::TooMany),
        }
    }

    /// The peer has proven that it is `id`.
    pub(super) fn authenticate(
        &mut self,
        peer: PeerId,
        id: NodeId,
        inbound: bool,
        (now_ms, now_s): (u64, u64),
    ) -> Verdict {
        let ban = self.scores.banned_until_s(&Subject::Id(id), now_s);
        if ban.is_some() && !self.admission.is_trusted(&id) {
            return Verdict::Refuse(Cause::Banned);
        }
        self.admission.authenticate(peer, id, inbound, now_ms)
    }

    /// Whether this node is neither connected nor banned.
    pub(super) fn may_dial(&self, node: &Enode, now_s: u64) -> bool {
        let address = address_key(node.ip).map(Subject::Address);
        let is_banned = [Some(Subject::Id(node.id)), address]
            .into_iter()
            .flatten()
            .any(|subject| self.scores.banned_until_s(&subject, now_s).is_some());
        !self.admission.holds(&node.id) && (!is_banned || self.admission.is_trusted(&node.id))
    }

    /// Counts a fault against the id that was proven, if one was, and against the address, unless it is our own machine's: there many
    /// nodes share one. Trusted nodes are not blamed.
    fn blame(&mut self, id: Option<NodeId>, ip: IpAddr, cause: Cause, now_s: u64) -> Vec<Ban> {
        if id.is_some_and(|id| self.admission.is_trusted(&id))
            || self.admission.is_trusted_address(ip)
        {
            return Vec::new();
        }
        let subjects = [id.map(Subject::Id), address_key(ip).map(Subject::Address)];
        let weight = cause.weight();
        subjects
            .into_iter()
            .flatten()
            .filter_map(|subject| self.scores.blame(subject, weight, now_s))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BAN_FIRST_S;

    const NOW_S: u64 = 1_700_000_000;

    fn id(n: u8) -> NodeId {
        NodeId([n; 64])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn node(n: u8, at: &str) -> Enode {
        Enode {
            id: id(n),
            ip: ip(at),
            tcp: 30303,
            udp: 30303,
        }
    }

    fn book() -> Book {
        Book {
            admission: Admission::new(id(5), 10),
            scores: Scores::default(),
        }
    }

    #[test]
    fn a_lie_bans_the_id_and_the_address_until_the_ban_is_over() {
        let mut book = book();
        let bans = book.blame(Some(id(1)), ip("203.0.113.7"), Cause::FalseData, NOW_S);
        assert_eq!(bans.len(), 2);
        assert_eq!(book.arrive(ip("203.0.113.7"), NOW_S), Err(Refusal::Banned));
        assert_eq!(
            book.arrive(ip("::ffff:203.0.113.7"), NOW_S),
            Err(Refusal::Banned)
        );
        assert_eq!(book.arrive(ip("203.0.113.8"), NOW_S), Ok(Counted::Yes));
        let from_elsewhere = book.authenticate(PeerId(1), id(1), true, (0, NOW_S));
        assert_eq!(from_elsewhere, Verdict::Refuse(Cause::Banned));
        assert!(!book.may_dial(&node(1, "203.0.113.9"), NOW_S));
        assert!(!book.may_dial(&node(2, "203.0.113.7"), NOW_S));
        assert!(book.may_dial(&node(2, "203.0.113.9"), NOW_S));
        let over_s = NOW_S + BAN_FIRST_S;
        assert_eq!(book.arrive(ip("203.0.113.7"), over_s), Ok(Counted::Yes));
        let again = book.authenticate(PeerId(2), id(1), true, (0, over_s));
        assert_eq!(again, Verdict::Admit);
    }

    #[test]
    fn on_our_own_machine_a_lie_bans_the_id_alone() {
        let mut book = book();
        let bans = book.blame(Some(id(1)), ip("127.0.0.1"), Cause::FalseData, NOW_S);
        assert_eq!(bans.len(), 1);
        assert_eq!(book.arrive(ip("127.0.0.1"), NOW_S), Ok(Counted::Yes));
        // Who has proven no id is known by its address alone.
        assert!(
            book.blame(None, ip("127.0.0.1"), Cause::FalseData, NOW_S)
                .is_empty()
        );
    }

    #[test]
    fn what_the_network_may_have_done_weighs_nothing() {
        let mut book = book();
        for _ in 0..1000 {
            for cause in [
                Cause::Silence,
                Cause::NoAnswer,
                Cause::OtherChain,
                Cause::TooManyPeers,
            ] {
                assert!(
                    book.blame(Some(id(1)), ip("203.0.113.7"), cause, NOW_S)
                        .is_empty()
                );
            }
        }
        assert_eq!(book.arrive(ip("203.0.113.7"), NOW_S), Ok(Counted::Yes));
    }

    #[test]
    fn trusted_nodes_stand_above_the_caps_and_the_bans() {
        let mut book = book();
        let trusted = node(1, "203.0.113.7");
        book.blame(Some(id(1)), trusted.ip, Cause::FalseData, NOW_S);
        book.admission.trust(trusted);
        for _ in 0..100 {
            assert_eq!(book.arrive(trusted.ip, NOW_S), Ok(Counted::No));
        }
        for n in 10..20 {
            let seat = book.authenticate(PeerId(n.into()), id(n), true, (0, NOW_S));
            assert_eq!(seat, Verdict::Admit);
        }
        let full = book.authenticate(PeerId(1), id(2), true, (0, NOW_S));
        assert_eq!(full, Verdict::Refuse(Cause::TooManyPeers));
        let seat = book.authenticate(PeerId(2), id(1), true, (0, NOW_S));
        assert_eq!(seat, Verdict::Admit);
        book.admission.leave(PeerId(2), Some(id(1)), None);
        assert!(book.may_dial(&trusted, NOW_S));
        assert!(
            book.blame(Some(id(1)), trusted.ip, Cause::FalseData, NOW_S)
                .is_empty()
        );
    }
}
