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

/// Another block over the same parent.
fn other(number: u64) -> Header {
    Header {
        timestamp: 8,
        ..over(number)
    }
}

/// The slots of record `n`, in both tables.
fn slots(bytes: &[u8], n: u64) -> [&[u8]; TABLES] {
    [0, 1].map(|table| &bytes[offset_bytes(n, table) as usize..][..SLOT_BYTES])
}

#[test]
fn a_write_that_was_cut_short_anywhere_loses_what_was_not_signed_and_what_is_older_than_all_else() {
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
        let whole = fs::read(&path).unwrap();
        let new = slot_of(last, 0, &over(last + 1)).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        // The disk may have either slot first. Where reading takes its time, and for the other order, not every byte is tried.
        let cuts = |order: [usize; TABLES], step| {
            let cuts = (0..=2 * new.len()).step_by(step);
            cuts.map(move |cut| (order, cut))
        };
        let step = if full { 61 } else { 1 };
        for (order, cut) in cuts([0, 1], step).chain(cuts([1, 0], 61)) {
            let parts = [cut.min(new.len()), cut.saturating_sub(new.len())];
            for (table, part) in order.into_iter().zip(parts) {
                let mut slot = slots(&whole, last)[table].to_vec();
                slot[..part].copy_from_slice(&new[..part]);
                file.write_all_at(&slot, offset_bytes(last, table)).unwrap();
            }
            let mut record = Record::open(&path).unwrap();
            let is_kept = parts.contains(&new.len());
            // What is overwritten goes when the second slot begins to; the first was whole by then.
            let mut expected = before.clone();
            if full && is_kept {
                expected.remove(0);
            }
            assert_eq!(record.signed[..expected.len()], expected, "{parts:?}");
            assert_eq!(record.signed.len(), expected.len() + usize::from(is_kept));
            for refused in [last, last - 1] {
                let refused = record.allow(&other(refused));
                assert!(matches!(refused, Err(Refusal::Other { .. })), "{parts:?}");
            }
            // Nobody signed this one, and it may be signed; but no third one once it is.
            assert_eq!(
                record.over(&other(last + 1).parent_hash).unwrap().is_some(),
                is_kept
            );
            drop(record);
            let [one, two] = [0, 1].map(|table| {
                let mut slot = [0; SLOT_BYTES];
                let read = fs::File::open(&path).unwrap();
                read.read_exact_at(&mut slot, offset_bytes(last, table))
                    .unwrap();
                slot
            });
            assert!(one == two || (!full && !is_kept), "not mended: {parts:?}");
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
            for table in 0..TABLES {
                file.write_all_at(&left, offset_bytes(count, table))
                    .unwrap();
            }
            let mut record = Record::open(&path).unwrap();
            assert_eq!(record.signed.len(), SLOTS - 1);
            let refused = record.allow(&other(number(lost)));
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
    let slot = |n: u64, table| offset_bytes(n, table) as usize;

    // One of two, be it the newest: nothing is lost, and no other block is signed.
    for n in 0..5 {
        for table in 0..TABLES {
            for damage in [Some(0), Some(6), Some(100), None] {
                let mut bytes = whole.clone();
                match damage {
                    Some(at) => bytes[slot(n, table) + at] ^= 1,
                    None => bytes[slot(n, table)..][..SLOT_BYTES].fill(0),
                }
                fs::write(&path, &bytes).unwrap();
                let mut record = Record::open(&path).unwrap();
                for number in 1..=5 {
                    let refused = record.allow(&other(number));
                    assert!(matches!(refused, Err(Refusal::Other { .. })), "{refused:?}");
                }
                drop(record);
                assert!(fs::read(&path).unwrap() == whole, "not mended: {n} {table}");
            }
        }
    }

    // Both.
    let mut damages = vec![whole[..whole.len() - 1].to_vec(), Vec::new()];
    let mut page = whole.clone();
    page[0] ^= 1;
    damages.push(page);
    for (n, at) in [(0, 0), (2, 40), (3, 100)] {
        let mut bytes = whole.clone();
        for table in 0..TABLES {
            bytes[slot(n, table) + at] ^= 1;
        }
        damages.push(bytes);
    }
    let mut gone = whole.clone();
    let mut stray = whole.clone();
    for table in 0..TABLES {
        gone[slot(1, table)..][..SLOT_BYTES].fill(0);
    }
    stray[slot(9, 1)] = 1;
    damages.extend([gone, stray]);
    for (place, bytes) in damages.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let opened = Record::open(&path);
        assert!(matches!(opened, Err(RecordError::Damaged(_))), "{place}");
        assert!(fs::read(&path).unwrap() == *bytes, "{place} was changed");
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(Record::open(&path).unwrap().next, 5);
}

#[test]
fn a_file_with_one_table_is_taken_up_and_given_the_second_however_often_that_is_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let mut record = Record::open(&path).unwrap();
    let last = SLOTS as u64 + 3;
    for number in 1..=last {
        record.allow(&over(number)).unwrap();
    }
    drop(record);
    let whole = fs::read(&path).unwrap();
    let mut older = whole[..PAGE_BYTES + TABLE_BYTES].to_vec();
    older[..OLDER_MAGIC.len()].copy_from_slice(OLDER_MAGIC);
    let cuts = [0, 1, SLOT_BYTES * 3 + 50, TABLE_BYTES - 1, TABLE_BYTES];
    for cut in cuts {
        for of_another in [false, true] {
            let mut bytes = older.clone();
            bytes.extend_from_slice(&whole[PAGE_BYTES + TABLE_BYTES..][..cut]);
            if of_another {
                bytes[older.len()..].fill(0); // longer, and not yet written
            }
            fs::write(&path, &bytes).unwrap();
            let mut record = Record::open(&path).unwrap();
            assert_eq!(record.signed.len(), SLOTS);
            let refused = record.allow(&other(last));
            assert!(matches!(refused, Err(Refusal::Other { .. })), "{refused:?}");
            drop(record);
            assert!(fs::read(&path).unwrap() == whole, "{cut}");
        }
    }
    // What is damaged is left as it is.
    for bad in [older.len() - 1, FILE_BYTES + 1] {
        let mut bytes = older.clone();
        bytes.resize(bad, 0);
        fs::write(&path, &bytes).unwrap();
        let opened = Record::open(&path);
        assert!(matches!(opened, Err(RecordError::Damaged(_))), "{bad}");
    }
    older[PAGE_BYTES + 7 * SLOT_BYTES + 30] ^= 1;
    fs::write(&path, &older).unwrap();
    let opened = Record::open(&path);
    assert!(matches!(opened, Err(RecordError::Damaged(_))));
    assert!(fs::read(&path).unwrap() == older);
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
