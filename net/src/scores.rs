//! How much each node id and each address has on its account, and who is banned until when. Pure: time is handed in.
//!
//! What a fault weighs is [`Cause::weight`](crate::fault::Cause::weight). An account halves every
//! [`SCORE_HALF_LIFE_S`]; at [`BAN_SCORE`] its holder is banned, each time for twice as long, and a time without fault after the ban
//! makes it forgotten.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::enode::NodeId;
use crate::limits::{
    BAN_FIRST_S, BAN_FORGOTTEN_S, BAN_MOST_S, BAN_SCORE, SCORE_HALF_LIFE_S, SCORED_MOST,
};

/// Whom a ban is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A node, wherever it dials from.
    Id(NodeId),
    /// An address, whoever dials from it; of IPv6 one /64.
    Address(IpAddr),
}

/// A ban, as it is kept over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Whom it is of.
    pub subject: Subject,
    /// When it ends, Unix time.
    pub until_s: u64,
    /// Bans of this one so far, with this one: the next is twice as long.
    pub count: u32,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    points: u32,
    /// When the points were counted last, Unix time.
    at_s: u64,
    bans: u32,
    until_s: u64,
}

impl Account {
    /// What is left of the points.
    fn points(&self, now_s: u64) -> u32 {
        let halvings = now_s.saturating_sub(self.at_s) / SCORE_HALF_LIFE_S;
        u32::try_from(halvings)
            .ok()
            .and_then(|halvings| self.points.checked_shr(halvings))
            .unwrap_or(0)
    }

    fn is_forgotten(&self, now_s: u64) -> bool {
        let is_free = now_s >= self.until_s.saturating_add(BAN_FORGOTTEN_S);
        self.points(now_s) == 0 && (self.bans == 0 || is_free)
    }
}

/// The accounts of all that have any.
#[derive(Debug, Default)]
pub struct Scores {
    accounts: HashMap<Subject, Account>,
    version: u64,
}

impl Scores {
    /// With bans of an earlier run.
    pub fn new(bans: &[Ban]) -> Scores {
        let mut scores = Scores::default();
        for ban in bans.iter().take(SCORED_MOST) {
            let account = Account {
                points: 0,
                at_s: 0,
                bans: ban.count,
                until_s: ban.until_s,
            };
            scores.accounts.insert(ban.subject, account);
        }
        scores
    }

    /// Counts a fault against its author. Gives the ban, if this one is too much.
    pub fn blame(&mut self, subject: Subject, weight: u32, now_s: u64) -> Option<Ban> {
        if weight == 0 {
            return None;
        }
        if !self.accounts.contains_key(&subject) && self.accounts.len() >= SCORED_MOST {
            self.make_room(now_s);
        }
        let account = self.accounts.entry(subject).or_insert(Account {
            points: 0,
            at_s: now_s,
            bans: 0,
            until_s: 0,
        });
        if account.is_forgotten(now_s) {
            account.bans = 0;
        }
        account.points = account.points(now_s).saturating_add(weight);
        account.at_s = now_s;
        if account.points < BAN_SCORE {
            return None;
        }
        let length_s = BAN_FIRST_S
            .checked_shl(account.bans)
            .map_or(BAN_MOST_S, |length_s| length_s.min(BAN_MOST_S));
        account.points = 0;
        account.bans = account.bans.saturating_add(1).min(u64::BITS / 2);
        account.until_s = now_s.saturating_add(length_s);
        self.version += 1;
        Some(Ban {
            subject,
            until_s: account.until_s,
            count: account.bans,
        })
    }

    /// When the ban of this one ends, if there is one at `now_s`.
    pub fn banned_until_s(&self, subject: &Subject, now_s: u64) -> Option<u64> {
        let until_s = self.accounts.get(subject)?.until_s;
        (now_s < until_s).then_some(until_s)
    }

    /// The bans that are not forgotten, over or not: what is to be kept over a restart.
    pub fn bans(&self, now_s: u64) -> Vec<Ban> {
        let kept = self
            .accounts
            .iter()
            .filter(|(_, account)| account.bans > 0 && !account.is_forgotten(now_s));
        let ban = |(subject, account): (&Subject, &Account)| Ban {
            subject: *subject,
            until_s: account.until_s,
            count: account.bans,
        };
        kept.map(ban).collect()
    }

    /// Changes with every new ban.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Lets those go that are forgotten, or else the one that matters least: no ban, the fewest points, the oldest; of bans the
    /// one that ends first.
    fn make_room(&mut self, now_s: u64) {
        self.accounts
            .retain(|_, account| !account.is_forgotten(now_s));
        if self.accounts.len() < SCORED_MOST {
            return;
        }
        let least = self
            .accounts
            .iter()
            .min_by_key(|(_, account)| (account.until_s, account.points(now_s), account.at_s))
            .map(|(subject, _)| *subject);
        if let Some(subject) = least {
            self.accounts.remove(&subject);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW_S: u64 = 1_700_000_000;

    fn id(n: u32) -> Subject {
        let mut id = [0; 64];
        id[..4].copy_from_slice(&n.to_be_bytes());
        Subject::Id(NodeId(id))
    }

    #[test]
    fn four_small_faults_are_a_ban_and_old_ones_do_not_count() {
        let mut scores = Scores::default();
        for _ in 0..3 {
            assert_eq!(scores.blame(id(1), 25, NOW_S), None);
        }
        assert_eq!(scores.banned_until_s(&id(1), NOW_S), None);
        assert_eq!(scores.version(), 0);
        let ban = scores.blame(id(1), 25, NOW_S).unwrap();
        assert_eq!((ban.until_s, ban.count), (NOW_S + BAN_FIRST_S, 1));
        assert_eq!(
            scores.banned_until_s(&id(1), ban.until_s - 1),
            Some(ban.until_s)
        );
        assert_eq!(scores.banned_until_s(&id(1), ban.until_s), None);
        assert_eq!(scores.version(), 1);

        // One fault in a while never adds up: 25 + 12 + 6 + ...
        for n in 0..1000 {
            assert_eq!(scores.blame(id(2), 25, NOW_S + n * SCORE_HALF_LIFE_S), None);
        }
        assert_eq!(scores.blame(id(3), 0, NOW_S), None, "no fault, no account");
        assert_eq!(scores.accounts.len(), 2);
    }

    #[test]
    fn each_ban_is_twice_as_long_up_to_a_day_and_is_forgotten_after_good_conduct() {
        let mut scores = Scores::default();
        let mut now_s = NOW_S;
        let mut expected_s = BAN_FIRST_S;
        for _ in 0..100 {
            let ban = scores.blame(id(1), 100, now_s).unwrap();
            assert_eq!(ban.until_s - now_s, expected_s);
            expected_s = (expected_s * 2).min(BAN_MOST_S);
            now_s = ban.until_s;
        }
        assert_eq!(scores.bans(now_s).len(), 1);
        now_s += BAN_FORGOTTEN_S;
        assert_eq!(scores.bans(now_s), []);
        let ban = scores.blame(id(1), 100, now_s).unwrap();
        assert_eq!((ban.until_s - now_s, ban.count), (BAN_FIRST_S, 1));
    }

    #[test]
    fn bans_outlive_a_restart_and_go_on_growing() {
        let mut scores = Scores::default();
        let address = Subject::Address("203.0.113.7".parse().unwrap());
        let ban = scores.blame(address, 100, NOW_S).unwrap();
        scores.blame(id(1), 99, NOW_S);
        assert_eq!(scores.bans(NOW_S), [ban]);
        let mut again = Scores::new(&scores.bans(NOW_S));
        assert_eq!(again.banned_until_s(&address, NOW_S), Some(ban.until_s));
        let longer = again.blame(address, 100, ban.until_s).unwrap();
        assert_eq!(longer.until_s - ban.until_s, 2 * BAN_FIRST_S);
    }

    #[test]
    fn accounts_are_bounded_and_a_ban_is_the_last_to_go() {
        let mut scores = Scores::default();
        let ban = scores.blame(id(0), 100, NOW_S).unwrap();
        for n in 1..3 * SCORED_MOST as u32 {
            scores.blame(id(n), 10, NOW_S + u64::from(n) / 1000);
            assert!(scores.accounts.len() <= SCORED_MOST);
        }
        assert_eq!(scores.banned_until_s(&id(0), NOW_S), Some(ban.until_s));
        assert!(
            scores
                .accounts
                .contains_key(&id(3 * SCORED_MOST as u32 - 1))
        );
        let more = vec![ban; SCORED_MOST + 5];
        assert_eq!(Scores::new(&more).accounts.len(), 1);
    }

    #[test]
    fn a_clock_that_jumps_back_or_far_ahead_harms_nothing() {
        let mut scores = Scores::default();
        scores.blame(id(1), 60, NOW_S);
        assert!(scores.blame(id(1), 60, NOW_S - 1_000_000).is_some());
        assert_eq!(scores.blame(id(2), 99, u64::MAX), None);
        assert!(scores.blame(id(2), 1, u64::MAX).is_some());
    }
}
