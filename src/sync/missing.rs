//! Tells in the log of signers that are missing while the chain goes on, and of their return: a line for each, once.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use log::Level;

use crate::health::last;
use crate::standing::Standing;

/// Lines for one head: more signers than that are only counted.
const LINES_PER_HEAD: usize = 8;

/// The signers that it was told of.
#[derive(Debug, Default)]
pub(super) struct Missing {
    told: BTreeSet<Address>,
    /// The head that was looked at last.
    head: Option<u64>,
}

impl Missing {
    /// Tells what is new.
    pub(super) fn show(&mut self, standing: &Standing, is_new: bool, now_s: u64) {
        for (level, line) in self.news(standing, is_new, now_s) {
            log::log!(level, "{line}");
        }
    }

    /// The lines. Where the head is not new, or stands still, who is missing says nothing of who will be when it goes on.
    fn news(&mut self, standing: &Standing, is_new: bool, now_s: u64) -> Vec<(Level, String)> {
        let head = standing.head.number;
        if !is_new || standing.stands_still || self.head == Some(head) {
            return Vec::new();
        }
        self.head = Some(head);
        self.told.retain(|address| standing.of(address).is_some());
        let mut lines = Vec::new();
        for signer in &standing.signers {
            let address = signer.address;
            let is_told = self.told.contains(&address);
            if signer.is_missing && !is_told {
                self.told.insert(address);
                let (turns, last) = (signer.turns_missed, last(signer, now_s));
                let line = format!("Signer {address} has missed its last {turns} turns; {last}");
                lines.push((Level::Warn, line));
            } else if !signer.is_missing && is_told {
                self.told.remove(&address);
                let number = signer.last.map_or(head, |made| made.number);
                lines.push((
                    Level::Info,
                    format!("Signer {address} is back: number={number}"),
                ));
            }
        }
        let more = lines.len().saturating_sub(LINES_PER_HEAD);
        if more > 0 {
            lines.truncate(LINES_PER_HEAD);
            let line = format!("{more} more signers are missing or back; `cairn status` shows all");
            lines.push((Level::Warn, line));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standing::{Made, SignerStanding};

    fn standing(number: u64, turns_missed: u64, signers: u8) -> Standing {
        let signer = |byte| SignerStanding {
            address: Address::repeat_byte(byte),
            last: Some(Made {
                number: 5,
                timestamp_s: 100,
            }),
            turns_missed,
            in_turn: false,
            may_seal: true,
            is_missing: turns_missed >= 3,
        };
        Standing {
            head: Made {
                number,
                timestamp_s: 200,
            },
            stands_still: false,
            needed: 1,
            first: 1,
            signers: (1..=signers).map(signer).collect(),
        }
    }

    #[test]
    fn a_signer_that_is_missing_is_told_of_once_and_when_it_is_back() {
        let mut missing = Missing::default();
        let first = missing.news(&standing(20, 3, 1), false, 160);
        assert_eq!(first, [], "the head of before the start");
        let still = Standing {
            stands_still: true,
            ..standing(21, 3, 1)
        };
        assert_eq!(missing.news(&still, true, 160), []);
        let [(Level::Warn, line)] = &missing.news(&standing(21, 3, 1), true, 160)[..] else {
            panic!("it is missing");
        };
        let says = "has missed its last 3 turns; its last block was 5, 1 min 0 s ago";
        assert!(line.contains(says), "{line}");
        assert_eq!(missing.news(&standing(22, 4, 1), true, 170), []);
        let [(Level::Info, line)] = &missing.news(&standing(23, 0, 1), true, 180)[..] else {
            panic!("it is back");
        };
        assert!(line.contains("is back"), "{line}");
        assert_eq!(missing.news(&standing(24, 0, 1), true, 190), []);
    }

    #[test]
    fn many_signers_make_few_lines() {
        let mut missing = Missing::default();
        let lines = missing.news(&standing(20, 3, 100), true, 160);
        assert_eq!(lines.len(), LINES_PER_HEAD + 1);
        assert!(lines[LINES_PER_HEAD].1.starts_with("92 more"));
        assert_eq!(missing.news(&standing(21, 4, 100), true, 160), []);
    }
}
