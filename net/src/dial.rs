//! When a static node is dialled again: pure, from the times and outcomes that are handed in.

use std::net::IpAddr;

use crate::limits::{REDIAL_MAX_MS, REDIAL_MIN_MS, REDIAL_REMOTE_MS, SESSION_LASTED_MS};

/// The schedule of one static node: at once, then after 1, 2, 4 s and so on up to half a minute, each a little longer
/// by chance so that two nodes that dial each other do not collide for ever.
#[derive(Clone, Debug)]
pub struct Redial {
    /// Not on our own network, where a node may refuse an address that it has just seen.
    remote: bool,
    /// State of the generator of jitter.
    seed: u64,
    /// Failures in a row.
    failures: u32,
    /// When to dial; `None` while a dial or its session is under way.
    due_ms: Option<u64>,
    /// When the last connection came up, as far as TCP goes.
    reached_ms: Option<u64>,
}

impl Redial {
    /// A schedule that begins now. `seed` may be any number, and should differ between nodes.
    pub fn new(ip: IpAddr, seed: u64, now_ms: u64) -> Redial {
        Redial {
            remote: !is_local(ip),
            seed,
            failures: 0,
            due_ms: Some(now_ms),
            reached_ms: None,
        }
    }

    /// When to dial; `None` while a dial or its session is under way.
    pub fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Whether a dial or its session is under way.
    pub fn is_under_way(&self) -> bool {
        self.due_ms.is_none()
    }

    /// Nothing of before counts: it is due at once.
    pub fn restart(&mut self, now_ms: u64) {
        (self.failures, self.reached_ms, self.due_ms) = (0, None, Some(now_ms));
    }

    /// A dial has begun.
    pub fn started(&mut self) {
        self.due_ms = None;
    }

    /// The TCP connection is up: the peer has seen our address.
    pub fn reached(&mut self, now_ms: u64) {
        self.reached_ms = Some(now_ms);
    }

    /// The dial failed, or its session ended.
    pub fn ended(&mut self, now_ms: u64) {
        if self
            .reached_ms
            .is_some_and(|reached_ms| now_ms.saturating_sub(reached_ms) >= SESSION_LASTED_MS)
        {
            self.failures = 0;
        }
        let wait_ms = (REDIAL_MIN_MS << self.failures.min(16)).min(REDIAL_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        let mut due_ms = now_ms + wait_ms;
        if let Some(reached_ms) = self.reached_ms.take().filter(|_| self.remote) {
            due_ms = due_ms.max(reached_ms + REDIAL_REMOTE_MS);
        }
        self.due_ms = Some(due_ms + self.jitter(wait_ms / 4));
    }

    /// The node is connected already, by its own dial: look again later.
    pub fn postpone(&mut self, now_ms: u64) {
        self.due_ms = Some(now_ms + REDIAL_MIN_MS);
    }

    /// Uniform in `0..=most_ms` (xorshift64).
    fn jitter(&mut self, most_ms: u64) -> u64 {
        let mut x = self.seed | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.seed = x;
        x % (most_ms + 1)
    }
}

/// Loopback, link-local or private: as geth's netutil.IsLAN judges.
fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

    /// Fails at once as often as there are waits, which it gives.
    fn waits(redial: &mut Redial, reach: bool, count: usize) -> Vec<u64> {
        let mut now_ms = redial.due_ms().expect("due");
        let mut waits = Vec::new();
        for _ in 0..count {
            redial.started();
            assert_eq!(redial.due_ms(), None, "not dialled twice at once");
            if reach {
                redial.reached(now_ms);
            }
            redial.ended(now_ms);
            let due_ms = redial.due_ms().expect("due again");
            waits.push(due_ms - now_ms);
            now_ms = due_ms;
        }
        waits
    }

    #[test]
    fn the_first_dial_is_at_once_and_the_waits_double_up_to_half_a_minute() {
        let mut redial = Redial::new(LOOPBACK, 7, 100);
        assert_eq!(redial.due_ms(), Some(100));
        let waits = waits(&mut redial, true, 40);
        for (wait_ms, least_ms) in waits
            .iter()
            .zip([1, 2, 4, 8, 16, 30, 30, 30].map(|s| s * 1000))
        {
            assert!((least_ms..=least_ms * 5 / 4).contains(wait_ms), "{waits:?}");
        }
        assert!(
            waits[8..]
                .iter()
                .all(|wait_ms| (30_000..=37_500).contains(wait_ms))
        );
    }

    #[test]
    fn a_session_that_lasted_begins_the_waits_anew() {
        let mut redial = Redial::new(LOOPBACK, 7, 0);
        waits(&mut redial, true, 6);
        redial.started();
        redial.reached(1_000_000);
        redial.ended(1_000_000 + SESSION_LASTED_MS);
        let wait_ms = redial.due_ms().expect("due") - (1_000_000 + SESSION_LASTED_MS);
        assert!((1000..=1250).contains(&wait_ms), "{wait_ms}");
    }

    #[test]
    fn a_far_node_is_not_connected_to_twice_within_the_time_in_which_geth_refuses() {
        let reached = waits(&mut Redial::new(FAR, 7, 0), true, 4);
        assert!(
            reached.iter().all(|wait_ms| *wait_ms >= REDIAL_REMOTE_MS),
            "{reached:?}"
        );
        // One that was never reached has seen nothing of us.
        let refused = waits(&mut Redial::new(FAR, 7, 0), false, 1);
        assert!(refused[0] <= 1250, "{refused:?}");
    }

    #[test]
    fn two_nodes_that_dial_each_other_drift_apart() {
        let a = waits(&mut Redial::new(LOOPBACK, 1, 0), true, 3);
        let b = waits(&mut Redial::new(LOOPBACK, 2, 0), true, 3);
        assert_ne!(a, b);
    }

    #[test]
    fn private_addresses_are_our_own_network() {
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.9",
            "172.16.0.1",
            "169.254.1.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_local(ip.parse().expect("an address")), "{ip}");
        }
        for ip in ["203.0.113.7", "172.32.0.1", "2001:db8::1"] {
            assert!(!is_local(ip.parse().expect("an address")), "{ip}");
        }
    }
}
