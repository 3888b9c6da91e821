//! Promise: after a failed write or sync nothing more is written; the store opens as it was after the last commit (or, if
//! only the last sync failed, with that commit) and goes on. A full disk is said to be one.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_store::faults::{Change, Hook, Verdict};
use cairn_store::repair::repair;
use cairn_store::{Error, Writer};
use common::{Block, assert_stored, chain, commit, extend, verify};
use kinds::{Kind, grow, merge, small_kinds};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Mode {
    /// Anything that takes room fails.
    Full,
    /// Half of a write is made, then the disk is full.
    Short,
    /// A sync fails; what was written can be read.
    Sync,
}

/// Fails the n-th change of its mode, and notes it.
struct Fault {
    mode: Mode,
    after: AtomicU64,
    hit: AtomicU64,
}

impl Hook for Fault {
    fn before(&self, change: &Change<'_>) -> Verdict {
        let applies = match self.mode {
            Mode::Full => matches!(
                change,
                Change::Create(_) | Change::MakeDir(_) | Change::Write { .. }
            ),
            Mode::Short => matches!(change, Change::Write { .. }),
            Mode::Sync => matches!(change, Change::Sync(_) | Change::SyncDir(_)),
        };
        assert_eq!(
            self.hit.load(Ordering::Relaxed),
            0,
            "{change:?} after a fault"
        );
        if !applies || self.after.fetch_sub(1, Ordering::Relaxed) != 0 {
            return Verdict::Go;
        }
        self.hit.store(1, Ordering::Relaxed);
        match (self.mode, change) {
            (Mode::Full, _) => Verdict::Fail(io::Error::from_raw_os_error(ENOSPC)),
            (Mode::Short, Change::Write { bytes, .. }) => {
                Verdict::Short(bytes.len() / 2, io::Error::from_raw_os_error(ENOSPC))
            }
            _ => Verdict::Fail(io::Error::from_raw_os_error(EIO)),
        }
    }
}

/// Commits in two sessions: frames, a batch, frames, settling.
fn work(
    dir: &Path,
    blocks: &[Block],
    hook: &Arc<Fault>,
    acknowledged: &mut u64,
) -> Result<(), Error> {
    for (session, parts) in [&[2, 1, 10][..], &[1, 1500, 700, 1]]
        .into_iter()
        .enumerate()
    {
        let mut writer = match session {
            0 => Writer::create_with(dir, &blocks[0].genesis(), hook.clone())?,
            _ => Writer::open_with(dir, hook.clone())?,
        };
        for count in parts {
            let at = writer.head().number as usize + 1;
            let result = commit(&mut writer, &blocks[at..at + count]);
            if let Err(e) = result {
                assert!(matches!(
                    commit(&mut writer, &blocks[at..=at]).unwrap_err(),
                    Error::Poisoned
                ));
                assert_eq!(writer.head().number, *acknowledged);
                return Err(e);
            }
            *acknowledged = result.unwrap().number;
        }
    }
    Ok(())
}

fn at_every_change(mode: Mode) {
    let mut blocks = chain(3, 1000);
    extend(&mut blocks, 10, 0, 900_000);
    extend(&mut blocks, 2202, 0, 0);
    let mut faults = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        let hook = Arc::new(Fault {
            mode,
            after: AtomicU64::new(faults),
            hit: AtomicU64::new(0),
        });
        let mut acknowledged = 0;
        let result = work(&store, &blocks, &hook, &mut acknowledged);
        if hook.hit.load(Ordering::Relaxed) == 0 {
            result.unwrap();
            assert_eq!(acknowledged, 2215);
            break;
        }
        let error = result.unwrap_err();
        match mode {
            Mode::Full | Mode::Short => assert!(matches!(error, Error::Full { .. }), "{error}"),
            Mode::Sync => assert!(matches!(error, Error::Io { .. }), "{error}"),
        }
        // Room is made: it opens, or is made, and goes on.
        let mut writer = match Writer::open(&store) {
            Err(Error::NoStore { .. } | Error::Damaged { .. }) => {
                assert_eq!(acknowledged, 0, "change {faults}");
                Writer::create(&store, &blocks[0].genesis()).unwrap()
            }
            other => other.unwrap(),
        };
        let head = writer.head().number;
        let next = [2, 3, 13, 14, 1514, 2214, 2215]
            .into_iter()
            .find(|&n| n > acknowledged);
        let may_be = head == acknowledged
            || (mode == Mode::Sync && Some(head) == next)
            || error_is_late(&error, next, head);
        assert!(
            may_be,
            "change {faults}: head {head}, acknowledged {acknowledged}, {error}"
        );
        let report = verify(&store);
        assert!(report.is_sound(), "change {faults}: {report:#?}");
        let end = (head as usize + 5).min(blocks.len() - 1);
        commit(&mut writer, &blocks[head as usize..=end]).unwrap();
        drop(writer);
        assert_stored(&store, &blocks[..=end]);
        assert_eq!(
            verify(&store)
                .notices
                .iter()
                .filter(|notice| !notice.what.contains("change"))
                .count(),
            0
        );
        faults += 1;
    }
    println!("{mode:?}: {faults} faults");
    assert!(faults > 15, "{faults}");
}

/// The second copy of the MANIFEST, or the zeros behind a frame, could not be written: what they follow is on the disk.
fn error_is_late(error: &Error, next: Option<u64>, head: u64) -> bool {
    let Error::Full { path } = error else {
        return false;
    };
    let name = path.file_name().unwrap().to_str().unwrap();
    (name == "MANIFEST.1" || name.starts_with("tip.")) && next == Some(head)
}

#[test]
fn when_the_disk_is_full_at_any_change() {
    at_every_change(Mode::Full);
}

#[test]
fn when_the_disk_fills_in_the_middle_of_any_write() {
    at_every_change(Mode::Short);
}

#[test]
fn when_any_sync_fails() {
    at_every_change(Mode::Sync);
}

/// Fails the n-th change of any sort, and notes it. (A write that fails has written half.)
struct Nth {
    left: AtomicU64,
    hit: AtomicU64,
}

impl Hook for Nth {
    fn before(&self, change: &Change<'_>) -> Verdict {
        if self.left.fetch_sub(1, Ordering::Relaxed) != 0 {
            return Verdict::Go;
        }
        self.hit.store(1, Ordering::Relaxed);
        let error = io::Error::from_raw_os_error(EIO);
        match change {
            Change::Write { bytes, .. } => Verdict::Short(bytes.len() / 2, error),
            _ => Verdict::Fail(error),
        }
    }
}

/// Lets each change that a kind makes to the disk fail; returns how many there are.
fn fail_at_every_change(kind: &Kind) -> u64 {
    let base = tempfile::tempdir().unwrap();
    if let Some(prepare) = kind.prepare {
        prepare(&base.path().join("store")).unwrap();
    }
    for n in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        if kind.prepare.is_some() {
            kinds::copy(&base.path().join("store"), &store);
        }
        let hook = Arc::new(Nth {
            left: AtomicU64::new(n),
            hit: AtomicU64::new(0),
        });
        let mut done = 0;
        let result = (kind.change)(&store, hook.clone(), &mut done);
        let place = format!("{}, change {n}: {:?}", kind.name, result.as_ref().err());
        if hook.hit.load(Ordering::Relaxed) == 0 {
            assert!(result.is_ok(), "{place}");
            kind.states.last().unwrap().check(&store).unwrap();
            return n;
        }
        match result {
            // What was replaced could not be removed: the change is made.
            Ok(()) => assert_eq!(done, kind.states.len() - 1, "{place}"),
            Err(e) => assert!(matches!(e, Error::Io { .. }), "{place}"),
        }
        if kind.is_repair {
            repair(&store, false).unwrap();
        }
        let mut writer = match Writer::open(&store) {
            Err(Error::NoStore { .. } | Error::Damaged { .. }) if kind.prepare.is_none() => {
                assert_eq!(done, 0, "{place}");
                Writer::create(&store, &kind.states[0].blocks[0].genesis()).unwrap()
            }
            other => other.unwrap_or_else(|e| panic!("{place}: {e}")),
        };
        // What was acknowledged is there, and nothing else but what was attempted last.
        let may_be = &kind.states[done..kind.states.len().min(done + 2)];
        let checks: Vec<_> = may_be.iter().map(|state| state.check(&store)).collect();
        let Some(i) = checks.iter().position(Result::is_ok) else {
            panic!("{place}: {checks:?}");
        };
        let mut on = may_be[i].clone();
        grow(&mut on.blocks, 1, 5);
        let next = on.blocks.last().unwrap();
        commit(&mut writer, std::slice::from_ref(next)).unwrap();
        drop(writer);
        on.check(&store)
            .unwrap_or_else(|e| panic!("{place}, and went on: {e}"));
        let notices = verify(&store).notices;
        let left = notices
            .iter()
            .filter(|notice| !notice.what.contains("change"));
        assert_eq!(left.count(), 0, "{place}: {notices:?}");
    }
    unreachable!("a change has an end")
}

#[test]
fn when_any_call_fails_in_every_kind_of_change() {
    for kind in small_kinds() {
        println!("{}: {} faults", kind.name, fail_at_every_change(&kind));
    }
}

#[test]
fn when_any_call_fails_while_runs_are_merged() {
    let kind = merge();
    println!("{}: {} faults", kind.name, fail_at_every_change(&kind));
}
