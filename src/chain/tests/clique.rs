//! Seals, and the voting of EIP-225 in all its situations.

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_primitives::{Address, B64, B256, Bytes, U256, b256};
use secp256k1::SecretKey;

use super::{Break, address, addresses, clique_child, clique_genesis, extra, key, sealed};
use crate::chain::{
    CliqueConfig, DEV_SIGNER_KEY, HeaderError, Rules, SealedHeader, Tip,
    clique::{self, CliqueError, NONCE_AUTHORISE, NONCE_DROP, Snapshot},
};

#[test]
fn the_seal_hash_is_geths() {
    let header = Header {
        ommers_hash: B256::ZERO,
        state_root: B256::ZERO,
        transactions_root: B256::ZERO,
        receipts_root: B256::ZERO,
        extra_data: Bytes::from_static(&[0; 97]),
        base_fee_per_gas: Some(0),
        ..Header::default()
    };
    assert_eq!(
        clique::seal_hash(&header),
        b256!("bd3d1fa43fbc4c5bfcc91b179ec92e2861df3654de60468beb908ff805359e8f")
    );
}

#[test]
fn who_seals_is_who_is_found() {
    let mut header = Header::default();
    let key = SecretKey::from_slice(&DEV_SIGNER_KEY).unwrap();
    clique::seal(&mut header, &key);
    assert_eq!(header.extra_data.len(), 97);
    assert_eq!(clique::signer(&header), Ok(clique::address_of(&key)));
    // The seal says nothing about itself, so the hash that is signed stays.
    let hash = clique::seal_hash(&header);
    clique::seal(&mut header, &super::key('A'));
    assert_eq!(clique::seal_hash(&header), hash);
    assert_eq!(clique::signer(&header), Ok(address('A')));
}

#[test]
fn what_is_no_seal_is_refused() {
    let mut header = Header {
        extra_data: Bytes::from_static(&[0; 96]),
        ..Header::default()
    };
    assert_eq!(
        clique::signer(&header),
        Err(CliqueError::ExtraTooShort { found: 96 })
    );
    clique::seal(&mut header, &key('A'));
    let seal = header.extra_data.to_vec();
    let with = |place: usize, byte: u8| {
        let mut extra = seal.clone();
        extra[place] = byte;
        clique::signer(&Header {
            extra_data: extra.into(),
            ..header.clone()
        })
    };
    assert_ne!(with(0, 1), Ok(address('A')), "the vanity is signed");
    assert_ne!(with(40, seal[40] ^ 1), Ok(address('A')));
    for v in [2, 3, 27, 28, 255] {
        assert_eq!(with(96, v), Err(CliqueError::Seal), "{v}");
    }
    let zero = Header {
        extra_data: Bytes::from_static(&[0; 97]),
        ..header.clone()
    };
    assert_eq!(clique::signer(&zero), Err(CliqueError::Seal));
}

/// What comes of a row of blocks.
#[derive(Clone, Copy)]
enum Outcome {
    /// These may seal after it.
    Signers(&'static str),
    /// The last block is by somebody who is no signer.
    Unauthorised,
    /// The last block is by somebody who must wait.
    Recent,
}
use Outcome::{Recent, Signers, Unauthorised};

/// The situations of the voting: what happens, the signers at first, the blocks, what comes of them. A block is its signer, `+` or `-` and
/// the one voted on, or `.` for no vote. Every row has an epoch of 30,000 but those whose name says another.
const SITUATIONS: [(&str, &str, &str, Outcome); 24] = [
    ("one signer alone", "A", "A. A. A.", Signers("A")),
    (
        "one adds a second at once, a third needs both",
        "A",
        "A+B B. A+C",
        Signers("AB"),
    ),
    (
        "two add two, a fifth needs three of four",
        "AB",
        "A+C B+C A+D B+D C. A+E B+E",
        Signers("ABCD"),
    ),
    ("the last one puts itself out", "A", "A-A", Signers("")),
    (
        "of two, one alone cannot put the other out",
        "AB",
        "A-B",
        Signers("AB"),
    ),
    (
        "of two, both can put one out, that one agreeing",
        "AB",
        "A-B B-B",
        Signers("A"),
    ),
    (
        "of three, two put the third out",
        "ABC",
        "A-C B-C",
        Signers("AB"),
    ),
    (
        "of four, two are not enough",
        "ABCD",
        "A-D B-D",
        Signers("ABCD"),
    ),
    ("of four, three are", "ABCD", "A-D B-D C-D", Signers("ABC")),
    (
        "voting in again and again counts once",
        "AB",
        "A+C B. A+C B. A+C",
        Signers("AB"),
    ),
    (
        "two are voted in side by side",
        "AB",
        "A+C B. A+D B. A. B+D A. B+C",
        Signers("ABCD"),
    ),
    (
        "voting out again and again counts once",
        "AB",
        "A-B B. A-B B. A-B",
        Signers("AB"),
    ),
    (
        "two are voted out side by side",
        "ABCD",
        "A-C B. C. A-D B. C. A. B-D C-D A. B-C",
        Signers("AB"),
    ),
    (
        "who is put out has its votes to put out dropped",
        "ABC",
        "C-B A-C B-C A-B",
        Signers("AB"),
    ),
    (
        "who is put out has its votes to let in dropped",
        "ABC",
        "C+D A-C B-C A+D",
        Signers("AB"),
    ),
    (
        "a change makes no other one happen",
        "ABCD",
        "A-C B. C. A-D B-C C. A. B-D C-D",
        Signers("ABC"),
    ),
    (
        "what another change made due happens when touched",
        "ABCD",
        "A-C B. C. A-D B-C C. A. B-D C-D A. C+C",
        Signers("AB"),
    ),
    (
        "what another change made due lapses when taken back",
        "ABCD",
        "A-C B. C. A-D B-C C. A. B-D C-D A. B+C",
        Signers("ABC"),
    ),
    (
        "votes do not outlive the change that they were for",
        "ABCDE",
        "A+F B+F C+F D-F E-F B-F C-F D+F E+F B-A C-A D-A B+F",
        Signers("BCDEF"),
    ),
    (
        "epoch 3: a checkpoint forgets all votes",
        "AB",
        "A+C B. A. B+C",
        Signers("AB"),
    ),
    ("a stranger seals", "A", "B.", Unauthorised),
    ("one seals twice in a row", "AB", "A. A.", Recent),
    (
        "epoch 3: a checkpoint does not forget who sealed",
        "ABC",
        "A. B. A. A.",
        Recent,
    ),
    (
        "epoch 3: nor does a start from the checkpoint",
        "ABC",
        "A. B. A. restart A.",
        Recent,
    ),
];

/// Plays a row, restoring the snapshot from the headers after each block: what is found out anew is what was known. Only its last block
/// may be refused.
fn play(name: &str, signers: &str, row: &str) -> Result<Vec<Address>, CliqueError> {
    let epoch = if name.starts_with("epoch 3") {
        3
    } else {
        30_000
    };
    let config = CliqueConfig { period_s: 1, epoch };
    let genesis = clique_genesis(signers, epoch).header;
    let mut snapshot = Snapshot::genesis(&genesis).unwrap();
    let mut headers = vec![genesis];
    let last = row.split(' ').count() - 1;
    for (place, step) in row.split(' ').enumerate() {
        let restored = clique::restore(config, snapshot.number, None, &mut |number| {
            Ok(headers[usize::try_from(number).unwrap()].clone())
        });
        assert_eq!(restored, Ok(snapshot.clone()), "{name}: before {step}");
        if step == "restart" {
            snapshot = restored.unwrap();
            continue;
        }
        let letters: Vec<char> = step.chars().collect();
        let number = snapshot.number + 1;
        let listed = match number.is_multiple_of(epoch) {
            true => snapshot.signers(),
            false => &[],
        };
        let header = Header {
            parent_hash: snapshot.hash,
            number,
            beneficiary: letters
                .get(2)
                .map_or(Address::ZERO, |target| address(*target)),
            nonce: if letters[1] == '+' {
                NONCE_AUTHORISE
            } else {
                NONCE_DROP
            },
            extra_data: extra(listed),
            ..Header::default()
        };
        let header = sealed(header, letters[0]);
        let applied = snapshot.apply(&header, epoch);
        assert!(
            applied.is_ok() || place == last,
            "{name}: {step} was refused: {applied:?}"
        );
        snapshot = applied?;
        headers.push((*header).clone());
    }
    Ok(snapshot.signers().to_vec())
}

#[test]
fn every_situation_of_the_voting_ends_as_eip_225_says() {
    for (name, signers, row, outcome) in SITUATIONS {
        let found = play(name, signers, row);
        match outcome {
            Signers(names) => assert_eq!(found, Ok(addresses(names)), "{name}"),
            Unauthorised => {
                assert!(
                    matches!(found, Err(CliqueError::Unauthorised { .. })),
                    "{name}"
                );
            }
            Recent => assert!(
                matches!(found, Err(CliqueError::SignedRecently { .. })),
                "{name}"
            ),
        }
    }
}

#[test]
fn signers_take_turns_in_ascending_order() {
    let snapshot = Snapshot::genesis(&clique_genesis("CAB", 10).header).unwrap();
    let order = addresses("ABC");
    assert_eq!(snapshot.signers(), order);
    for (place, signer) in order.iter().enumerate() {
        let number = 30 + place as u64;
        assert!(snapshot.in_turn(number, signer));
        assert!(!snapshot.in_turn(number + 1, signer));
    }
    assert!(!snapshot.in_turn(30, &address('D')));
}

#[test]
fn of_n_signers_one_must_wait_half_of_n_blocks() {
    for (signers, waits) in [("A", 0), ("AB", 1), ("ABC", 1), ("ABCD", 2), ("ABCDE", 2)] {
        let genesis = clique_genesis(signers, 30_000).header;
        let snapshot = Snapshot::genesis(&genesis).unwrap();
        let header = Header {
            number: 1,
            extra_data: extra(&[]),
            ..Header::default()
        };
        let after = snapshot.apply(&sealed(header, 'A'), 30_000).unwrap();
        assert!((2..2 + waits).all(|number| after.signed_recently(number, &address('A'))));
        assert!(!after.signed_recently(2 + waits, &address('A')));
        assert!(!after.signed_recently(2, &address('B')));
    }
}

#[test]
fn a_snapshot_takes_no_header_but_the_next() {
    let snapshot = Snapshot::genesis(&clique_genesis("A", 10).header).unwrap();
    let header = Header {
        number: 2,
        ..Header::default()
    };
    let expected = CliqueError::NotNext {
        expected: 1,
        found: 2,
    };
    assert_eq!(snapshot.apply(&sealed(header, 'A'), 10), Err(expected));
}

#[test]
fn a_genesis_without_whole_addresses_has_no_snapshot() {
    let with = |extra_bytes: usize| {
        let mut header = clique_genesis("A", 10).header.header;
        header.extra_data = vec![0; extra_bytes].into();
        Snapshot::genesis(&SealedHeader::from_header(header)).unwrap_err()
    };
    assert_eq!(with(96), CliqueError::ExtraTooShort { found: 96 });
    assert_eq!(with(97), CliqueError::SignerBytes { found: 0 });
    assert_eq!(with(97 + 21), CliqueError::SignerBytes { found: 21 });
}

/// Who may seal next, in turn if possible.
fn next_signer(parent: &Tip, names: &str) -> char {
    let snapshot = parent.clique.as_ref().unwrap();
    let number = parent.header.number() + 1;
    let may = |name: &char| {
        let address = address(*name);
        snapshot.is_signer(&address) && !snapshot.signed_recently(number, &address)
    };
    let in_turn = |name: &char| snapshot.in_turn(number, &address(*name));
    let mut able = names.chars().filter(may);
    let first = able.next().unwrap();
    names.chars().filter(may).find(in_turn).unwrap_or(first)
}

/// A chain of 25 blocks sealed by three in turn with a checkpoint every 10, and votes in it.
fn chain() -> (Rules, Vec<Tip>) {
    let rules = Rules::new(&clique_genesis("ABC", 10));
    let mut tips = vec![rules.genesis_tip()];
    for _ in 0..25 {
        let parent = tips.last().unwrap();
        let number = parent.header.number() + 1;
        let signer = next_signer(parent, "ABCD");
        let mut header = clique_child(&rules, parent, signer);
        if number % 10 > 6 {
            header.beneficiary = address('D');
            header.nonce = if number < 10 {
                NONCE_AUTHORISE
            } else {
                NONCE_DROP
            };
        }
        let tip = rules.extend(parent, sealed(header, signer), None).unwrap();
        tips.push(tip);
    }
    (rules, tips)
}

#[test]
fn a_chain_with_votes_and_checkpoints_restores_at_every_height() {
    let (rules, tips) = chain();
    assert_eq!(
        tips[9].clique.as_ref().unwrap().signers(),
        addresses("ABCD")
    );
    assert_eq!(
        tips[25].clique.as_ref().unwrap().signers(),
        addresses("ABC")
    );
    for tip in &tips {
        let number = tip.header.number();
        let mut read = Vec::new();
        let restored = rules.restore(number, tip.td, None, &mut |number| {
            read.push(number);
            tips.get(usize::try_from(number).unwrap())
                .map(|tip| tip.header.raw.clone())
        });
        let restored = restored.unwrap();
        assert_eq!(restored.clique, tip.clique, "{number}");
        assert_eq!(
            (restored.header, restored.td),
            (Arc::clone(&tip.header), tip.td)
        );
        // Nothing is read but from N/2 blocks before the last checkpoint on.
        let checkpoint = number - number % 10;
        assert!(read.iter().all(|read| read + 2 >= checkpoint), "{read:?}");
    }
}

#[test]
fn a_header_that_lacks_at_a_restart_is_named() {
    let (rules, tips) = chain();
    for (head, lacks) in [(25, 22), (20, 19)] {
        let restored = rules.restore(head, U256::ZERO, None, &mut |number| {
            let tip = tips.get(usize::try_from(number).unwrap());
            tip.filter(|_| number != lacks)
                .map(|tip| tip.header.raw.clone())
        });
        assert_eq!(
            restored.unwrap_err(),
            HeaderError::Missing { number: lacks }
        );
    }
    let swapped = rules.restore(25, U256::ZERO, None, &mut |number| {
        let number = if number == 23 { 22 } else { number };
        Some(tips[usize::try_from(number).unwrap()].header.raw.clone())
    });
    assert_eq!(super::refused(swapped), "number");
}

#[test]
fn each_broken_rule_of_a_header_is_named() {
    let (rules, tips) = chain();
    let at = |number: usize| {
        let parent = &tips[number - 1];
        let signer = next_signer(parent, "ABCD");
        (parent, signer, clique_child(&rules, parent, signer))
    };
    let (parent, signer, valid) = at(5);
    let judge = |header: Header| super::refused(rules.extend(parent, sealed(header, signer), None));
    assert_eq!(judge(valid.clone()), "nothing");
    let cases: [Break; 15] = [
        ("parentHash", |header| header.parent_hash = B256::ZERO),
        ("number", |header| header.number += 1),
        ("timestamp", |header| header.timestamp -= 1),
        ("nonce", |header| header.nonce = B64::from([1; 8])),
        ("mixHash", |header| header.mix_hash = B256::repeat_byte(1)),
        ("sha3Uncles", |header| header.ommers_hash = B256::ZERO),
        ("extraData", |header| {
            header.extra_data = extra(&[Address::ZERO]);
        }),
        ("difficulty", |header| header.difficulty = U256::ONE),
        ("difficulty", |header| header.difficulty = U256::ZERO),
        ("difficulty", |header| header.difficulty = U256::from(3)),
        ("gasLimit", |header| {
            header.gas_limit += header.gas_limit / 1024;
        }),
        ("gasUsed", |header| header.gas_used = header.gas_limit + 1),
        ("baseFeePerGas", |header| header.base_fee_per_gas = Some(1)),
        ("baseFeePerGas", |header| header.base_fee_per_gas = None),
        ("withdrawalsRoot", |header| {
            header.withdrawals_root = Some(B256::ZERO);
        }),
    ];
    for (field, break_it) in cases {
        let mut header = valid.clone();
        break_it(&mut header);
        assert_eq!(judge(header), field);
    }
    let unsealed = Arc::new(SealedHeader::from_header(valid));
    assert_eq!(
        super::refused(rules.extend(parent, unsealed, None)),
        "extraData"
    );

    let (parent, signer, valid) = at(10);
    let judge = |header: Header| super::refused(rules.extend(parent, sealed(header, signer), None));
    let checkpoints: [Break; 4] = [
        ("nothing", |_| {}),
        ("nonce", |header| header.nonce = NONCE_AUTHORISE),
        ("miner", |header| header.beneficiary = address('D')),
        ("extraData", |header| {
            header.extra_data = extra(&addresses("ABC"));
        }),
    ];
    for (field, break_it) in checkpoints {
        let mut header = valid.clone();
        break_it(&mut header);
        assert_eq!(judge(header), field);
    }
}

#[test]
fn a_signer_out_of_turn_seals_with_difficulty_one_and_not_two() {
    let rules = Rules::new(&clique_genesis("ABC", 10));
    let parent = rules.genesis_tip();
    let snapshot = parent.clique.as_ref().unwrap();
    let out = |name: &char| !snapshot.in_turn(1, &address(*name));
    let signer = "ABC".chars().find(out).unwrap();
    let mut header = clique_child(&rules, &parent, signer);
    assert_eq!(header.difficulty, U256::ONE);
    let tip = rules.extend(&parent, sealed(header.clone(), signer), None);
    assert_eq!(tip.unwrap().td, U256::from(2));
    header.difficulty = U256::from(2);
    let refused = super::refused(rules.extend(&parent, sealed(header, signer), None));
    assert_eq!(refused, "difficulty");
}

#[test]
fn an_early_header_is_told_from_a_wrong_one() {
    let rules = Rules::new(&clique_genesis("A", 10));
    let parent = rules.genesis_tip();
    let header = clique_child(&rules, &parent, 'A');
    let due_s = header.timestamp;
    let early = sealed(header.clone(), 'A');
    let expected = HeaderError::Future {
        number: 1,
        hash: early.hash,
        due_s,
    };
    let judged = rules.extend(&parent, Arc::clone(&early), Some(due_s - 1));
    assert_eq!(judged.unwrap_err(), expected);
    assert!(rules.extend(&parent, early, Some(due_s)).is_ok());
    let stranger = sealed(header, 'B');
    let judged = rules.extend(&parent, stranger, Some(due_s - 1));
    assert_eq!(super::refused(judged), "extraData");
}

#[test]
fn signers_that_several_threads_find_are_those_that_one_finds() {
    let key = SecretKey::from_byte_array(&[7; 32]).unwrap();
    let sealed = |number: u64| {
        let mut header = Header {
            number,
            ..Default::default()
        };
        clique::seal(&mut header, &key);
        if number % 10 == 3 {
            header.extra_data = vec![0xff; header.extra_data.len()].into();
        }
        Arc::new(SealedHeader::from_header(header))
    };
    for count in [0, 1, 31, 32, 33, 100] {
        let headers: Vec<_> = (0..count).map(sealed).collect();
        clique::find_signers(&headers);
        for header in &headers {
            assert_eq!(header.signer(), clique::signer(&header.header));
            assert_eq!(header.signer().is_err(), header.number() % 10 == 3);
        }
    }
}
