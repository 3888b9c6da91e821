//! What was signed is kept through restarts, torn writes and damage, and no second block over a parent is allowed.

#![allow(clippy::unwrap_used)]
use super::*;
use alloy_primitives::{B64, Bytes};

fn header(number: u64, parent: u8, time_s: u64) -> Header {
    Header {
        number,
        parent_hash: B256::repeat_byte(parent),
        timestamp: time_s,
        extra_data: Bytes::from(vec![0; 97]),
        nonce: B64::repeat_byte(0xff), // so that its last byte is none that a file has anyway
        ..Header::default()
    }
}

/// Over a parent of its own.
fn over(number: u64) -> Header {
    Header {
        parent_hash: B256::left_padding_from(&number.to_be_bytes()),
        ..header(number, 0, 7)
    }
}

#[test]
fn a_second_block_over_one_parent_is_refused_also_after_a_restart_and_the_same_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signed-x");
    let mut record = Record::open(&path).unwrap();
    assert_eq!(record.over(&B256::repeat_byte(1)).unwrap(), None);
    record.allow(&header(5, 1, 100)).unwrap();
    assert!(matches!(Record::open(&path), Err(RecordError::InUse(_))));
    drop(record);
    let mut record = Record::open(&path).unwrap();
    assert_eq!(
        record.over(&B256::repeat_byte(1)).unwrap(),
        Some(header(5, 1, 100))
    );
    record.allow(&header(5, 1, 100)).unwrap();
    let refused = record.allow(&header(5, 1, 101));
    assert!(matches!(refused, Err(Refusal::Other { .. })), "{refused:?}");
    // At the same height over another parent: or a network that was reorganised could stop.
    record.allow(&header(5, 2, 101)).unwrap();
}

#[test]
fn what_an_external_signer_says_it_signed_takes_the_place_of_what_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let mut record = Record::open(&path).unwrap();
    record.allow(&header(5, 1, 101)).unwrap();
    record.put_right(&header(5, 1, 100)).unwrap();
    for _ in 0..2 {
        let kept = record.over(&B256::repeat_byte(1)).unwrap();
        assert_eq!(kept, Some(header(5, 1, 100)));
        record.allow(&header(5, 1, 100)).unwrap();
        let refused = record.allow(&header(5, 1, 101));
        assert!(matches!(refused, Err(Refusal::Other { .. })), "{refused:?}");
        drop(record);
        record = Record::open(&path).unwrap();
    }
    // The older of the two is overwritten first.
    for number in 6..SLOTS as u64 + 5 {
        record.allow(&over(number)).unwrap();
    }
    let refused = record.allow(&header(5, 1, 101));
    assert!(matches!(refused, Err(Refusal::Other { .. })), "{refused:?}");
}

#[test]
fn what_is_forgotten_is_never_signed_again_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let mut record = Record::open(&path).unwrap();
    let last = SLOTS as u64 + 10;
    for number in 1..=last {
        record.allow(&over(number)).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(record.signed.len(), SLOTS);
        for number in 1..=10 {
            let refused = record.allow(&over(number));
            assert!(
                matches!(refused, Err(Refusal::TooOld { forgotten: 11, .. })),
                "{refused:?}"
            );
            let told = refused.unwrap_err().to_string();
            assert!(
                told.contains(path.to_str().unwrap()) && told.contains("remove"),
                "{told}"
            );
        }
        record.allow(&over(11)).unwrap();
        drop(record);
        record = Record::open(&path).unwrap();
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), FILE_BYTES as u64);
}

#[test]
fn a_write_that_was_cut_short_loses_what_was_not_signed_and_what_is_older_than_all_else() {
    for full in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let mut record = Record::open(&path).unwrap();
        let last = if full { SLOTS as u64 + 3 } else { 5 };
        for number in 1..=last {
            record.allow(&over(number)).unwrap();
        }
        let before = record.signed.clone();
        drop(record);
        let slot = slot_of(last, 0, &over(last + 1)).unwrap();
        for cut in [1, 4, 11, 20, 24, 200, slot.len() - 1] {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&slot[..cut], offset_bytes(last)).unwrap();
            let mut record = Record::open(&path).unwrap();
            match full {
                false => assert_eq!(record.signed, before, "{cut}"),
                true => {
                    assert_eq!(record.signed, before[1..], "{cut}");
                    let refused = record.allow(&over(before[0].number));
                    assert!(matches!(refused, Err(Refusal::TooOld { .. })), "{cut}");
                }
            }
            let seen = before[before.len() - 1].number;
            let other = Header {
                timestamp: 8,
                ..over(seen)
            };
            assert!(matches!(record.allow(&other), Err(Refusal::Other { .. })));
        }
        let mut record = Record::open(&path).unwrap();
        record.allow(&over(last + 1)).unwrap();
        drop(record);
        assert_eq!(Record::open(&path).unwrap().next, last + 1);
    }
}

#[test]
fn what_a_torn_write_destroyed_is_forgotten_whatever_its_number_was_and_whatever_is_left_of_it() {
    // The one that is lost is the highest: the chain went back and came again by another way.
    for left in [vec![1; SLOT_BYTES], vec![0; SLOT_BYTES]] {
        for count in [SLOTS as u64, SLOTS as u64 + 9] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("r");
            let mut record = Record::open(&path).unwrap();
            let lost = count - SLOTS as u64;
            let number = |n: u64| if n == lost { 1000 } else { 10 + n };
            for n in 0..count {
                record.allow(&over(number(n))).unwrap();
            }
            drop(record);
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&left, offset_bytes(count)).unwrap();
            let mut record = Record::open(&path).unwrap();
            assert_eq!(record.signed.len(), SLOTS - 1);
            let destroyed = Header {
                timestamp: 8,
                ..over(number(lost))
            };
            let refused = record.allow(&destroyed);
            assert!(
                matches!(refused, Err(Refusal::TooOld { .. })),
                "{refused:?}"
            );
            record.allow(&over(1001)).unwrap();
        }
    }
}

#[test]
fn of_those_who_begin_a_record_at_the_same_time_one_has_it() {
    for _ in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let together = std::sync::Barrier::new(4);
        let opened: Vec<_> = std::thread::scope(|scope| {
            let open = || {
                together.wait();
                Record::open(&path)
            };
            let all: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let have = opened.iter().filter(|opened| opened.is_ok()).count();
        let in_use = |opened: &&Result<_, _>| matches!(opened, Err(RecordError::InUse(_)));
        assert_eq!(
            (have, opened.iter().filter(in_use).count()),
            (1, 3),
            "{opened:?}"
        );
    }
}

#[test]
fn damage_is_told_and_nothing_is_signed_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let mut record = Record::open(&path).unwrap();
    for number in 1..=5 {
        record.allow(&over(number)).unwrap();
    }
    drop(record);
    let whole = fs::read(&path).unwrap();
    let mut damages = vec![whole[..whole.len() - 1].to_vec(), Vec::new()];
    for at in [0, PAGE_BYTES, PAGE_BYTES + 2 * SLOT_BYTES + 40] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        damages.push(bytes);
    }
    let mut gone = whole.clone();
    gone[PAGE_BYTES + SLOT_BYTES..PAGE_BYTES + 2 * SLOT_BYTES].fill(0);
    damages.push(gone);
    let mut stray = whole.clone();
    stray[PAGE_BYTES + 9 * SLOT_BYTES] = 1;
    damages.push(stray);
    for (place, bytes) in damages.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let opened = Record::open(&path);
        assert!(matches!(opened, Err(RecordError::Damaged(_))), "{place}");
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(Record::open(&path).unwrap().next, 5);
}

#[test]
fn what_cannot_be_kept_is_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let mut record = Record::open(&path).unwrap();
    record.file = fs::File::open(&path).unwrap(); // not to be written
    let refused = record.allow(&header(5, 1, 100));
    assert!(matches!(refused, Err(Refusal::NotKept(_))), "{refused:?}");
    drop(record);
    let mut record = Record::open(&path).unwrap();
    record.allow(&header(5, 1, 101)).unwrap();
    let long = Header {
        extra_data: vec![0; SLOT_BYTES].into(),
        ..header(6, 2, 102)
    };
    assert!(matches!(record.allow(&long), Err(Refusal::TooLong(_))));
}
