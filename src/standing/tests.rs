#![allow(clippy::unwrap_used)]
use alloy_consensus::Header;
use alloy_primitives::U256;

use super::*;
use crate::chain::SealedHeader;
use crate::sealer::Own;

fn address(place: usize) -> Address {
    Address::repeat_byte(place as u8 + 1)
}

/// The snapshot after block `number`, of so many signers, with these blocks before it.
fn snapshot(signers: usize, number: u64, sealed: &[(u64, Address)]) -> Snapshot {
    let mut extra = vec![0; 32];
    (0..signers).for_each(|place| extra.extend_from_slice(address(place).as_slice()));
    extra.extend([0; 65]);
    let header = Header {
        number,
        extra_data: extra.into(),
        ..Header::default()
    };
    Snapshot::from_checkpoint(&SealedHeader::from_header(header), sealed.to_vec()).unwrap()
}

fn made(number: u64) -> Made {
    Made {
        number,
        timestamp_s: number * 2,
    }
}

/// A chain of `signers`, which those that are up go on with by the rules.
struct Chain {
    signers: usize,
    sealed: Vec<(u64, Address)>,
    last: LastBlocks,
}

impl Chain {
    fn new(signers: usize) -> Chain {
        let mut last = LastBlocks::default();
        last.set_signers(&snapshot(signers, 0, &[]));
        Chain {
            signers,
            sealed: Vec::new(),
            last,
        }
    }

    fn snapshot(&self) -> Snapshot {
        snapshot(self.signers, self.sealed.len() as u64, &self.sealed)
    }

    /// So many blocks, or as many as there can be.
    fn run(&mut self, blocks: usize, is_up: impl Fn(usize) -> bool) {
        for _ in 0..blocks {
            let (number, at) = (self.sealed.len() as u64 + 1, self.snapshot());
            let from = number as usize % self.signers;
            let mut by_turn = (from..from + self.signers).map(|place| place % self.signers);
            let Some(place) = by_turn
                .find(|place| is_up(*place) && !at.signed_recently(number, &address(*place)))
            else {
                return;
            };
            self.sealed.push((number, address(place)));
            self.last.put(address(place), made(number));
        }
    }

    fn standing(&self, stands_still: bool) -> Standing {
        let number = self.sealed.len() as u64;
        Standing::new(&self.snapshot(), number * 2, &self.last, stands_still)
    }
}

const NOBODY: [Address; 0] = [];

fn missing(standing: &Standing) -> Vec<Address> {
    standing.missing().map(|signer| signer.address).collect()
}

#[test]
fn whoever_is_down_is_missing_in_every_pattern_of_three_four_five_and_seven_signers() {
    for signers in [3, 4, 5, 7] {
        for up in 0..1_u32 << signers {
            let is_up = |place: usize| up >> place & 1 == 1;
            let mut chain = Chain::new(signers);
            chain.run(4 * signers, |_| true);
            assert_eq!(missing(&chain.standing(false)), NOBODY, "{signers}");

            let before = chain.sealed.len();
            let blocks = (MISSING_TURNS as usize + 1) * signers;
            chain.run(blocks, is_up);
            let goes_on = up.count_ones() as usize > signers / 2;
            assert_eq!(chain.sealed.len() == before + blocks, goes_on, "{up:b}");
            let standing = chain.standing(!goes_on);
            let down: Vec<Address> = (0..signers).filter(|p| !is_up(*p)).map(address).collect();
            assert_eq!(standing.cannot_go_on(), !goes_on, "{signers}: {up:b}");
            assert_eq!(standing.needed as usize, signers / 2 + 1);
            let found = missing(&standing);
            match goes_on {
                true => assert_eq!(found, down, "{signers}: {up:b}"),
                false => {
                    // Who sealed one of the last blocks may be down too, but its absence shows only when others have gone on.
                    assert!(found.iter().all(|a| down.contains(a)), "{signers}: {up:b}");
                    let free = signers - signers / 2;
                    assert!(found.len() >= free, "{signers}: {up:b}: {found:?}");
                }
            }
            chain.run(2 * signers, |_| true);
            assert_eq!(
                missing(&chain.standing(false)),
                NOBODY,
                "{signers}: {up:b} and back"
            );
        }
    }
}

#[test]
fn it_says_whose_turn_it_is_who_may_seal_and_who_must_wait() {
    let mut chain = Chain::new(3);
    chain.run(7, |place| place != 2);
    // The signers 0, 1, 2 have the turns 0, 1, 2, 3, ...: 0 and 1 alternate without 2.
    let standing = chain.standing(true);
    let next = standing.in_turn().unwrap();
    assert_eq!((next.address, next.may_seal), (address(2), true));
    let [zero, one, two] = &standing.signers[..] else {
        panic!("{standing:?}");
    };
    let recent = chain.sealed.last().unwrap().1;
    assert_eq!(zero.may_seal, recent != address(0));
    assert_eq!(one.may_seal, recent != address(1));
    assert!(zero.may_seal != one.may_seal);
    assert_eq!((two.last, two.turns_missed), (None, 2), "blocks 2 and 5");
    assert!(two.is_missing && standing.cannot_go_on());
    let standing = chain.standing(false);
    assert_eq!(
        missing(&standing),
        NOBODY,
        "two turns are not yet worth a word"
    );
    assert!(!standing.cannot_go_on());
}

#[test]
fn who_was_voted_in_just_now_has_missed_nothing_before() {
    let mut chain = Chain::new(3);
    chain.run(90, |_| true);
    chain.signers = 4;
    chain.last.set_signers(&chain.snapshot());
    let of_new = |chain: &Chain| {
        let standing = chain.standing(false);
        standing.of(&address(3)).unwrap().turns_missed
    };
    assert_eq!(of_new(&chain), 0);
    chain.run(4, |place| place != 3);
    assert_eq!(of_new(&chain), 1);
    // After a restart nobody knows since when it is one.
    let mut again = LastBlocks::default();
    (chain.sealed.iter()).for_each(|(number, signer)| again.put(*signer, made(*number)));
    again.set_signers(&chain.snapshot());
    chain.last = again;
    assert!(of_new(&chain) > MISSING_TURNS);
}

#[test]
fn the_last_blocks_are_bounded_and_follow_a_reorganisation() {
    let mut last = LastBlocks::default();
    for number in 1..=LOOK_BACK as u64 + 10 {
        let signer = address(usize::from(number > 5));
        last.put(signer, made(number));
    }
    assert_eq!(last.first(), 11);
    assert_eq!(last.of(&address(0)), None, "too long ago");
    let head = LOOK_BACK as u64 + 10;
    assert_eq!(last.of(&address(1)), Some(made(head)));
    last.put(address(2), made(head - 3));
    assert_eq!(last.of(&address(1)), Some(made(head - 4)));
    assert_eq!(last.of(&address(2)), Some(made(head - 3)));
    last.put(address(0), made(head + 100));
    assert_eq!(last.first(), head + 100, "what is between was not seen");
}

#[test]
fn a_missed_turn_is_counted_by_its_cause() {
    let signers = snapshot(3, 0, &[]);
    let sealed = |number: u64, difficulty: u64| {
        SealedHeader::from_header(Header {
            number,
            difficulty: U256::from(difficulty),
            ..Header::default()
        })
    };
    let own = |parent: Option<u64>, unsigned: Option<u64>| Own {
        signer: address(1),
        parent,
        unsigned,
        sealed: None,
    };
    let (none, mut recent) = (LastBlocks::default(), LastBlocks::default());
    recent.put(address(1), made(9));
    let one = |number, difficulty, last: &LastBlocks, own: Option<Own>| {
        let mut missed = MissedBySigner::new();
        let header = sealed(number, difficulty);
        count(&mut missed, &header, &signers, last, own.as_ref());
        missed.get(&address(number as usize % 3)).copied()
    };
    assert_eq!(one(10, 2, &none, None), None, "sealed in turn");
    let is = |found: Option<Missed>, expected: Missed| assert_eq!(found, Some(expected));
    let no = Missed::default();
    is(one(10, 1, &none, None), Missed { unknown: 1, ..no });
    let expected = Missed {
        signed_recently: 1,
        ..no
    };
    is(one(10, 1, &recent, None), expected);
    is(one(10, 1, &recent, Some(own(None, None))), expected);
    let expected = Missed {
        no_timely_parent: 1,
        ..no
    };
    is(one(10, 1, &none, Some(own(None, None))), expected);
    is(one(10, 1, &none, Some(own(Some(8), Some(9)))), expected);
    let expected = Missed {
        no_signature: 1,
        ..no
    };
    is(one(10, 1, &none, Some(own(Some(9), Some(10)))), expected);
    let expected = Missed {
        sealed_late: 1,
        ..no
    };
    is(one(10, 1, &none, Some(own(Some(9), None))), expected);
    is(
        one(11, 1, &none, Some(own(Some(9), None))),
        Missed { unknown: 1, ..no },
    );
    assert_eq!(expected.sum(), 1);
}
