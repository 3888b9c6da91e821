//! Promise: a disk that fills at any moment of any kind of change damages nothing: what was acknowledged is there, and when
//! there is room again the store simply goes on.
//!
//! On a real full disk: a tmpfs of 4 MiB, in a mount namespace of its own, for which the test starts itself again. (Merging
//! runs takes four eras of 8,192 blocks: 8 MiB.)
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod common;
#[path = "common/kinds.rs"]
mod kinds;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use cairn_store::faults::{Change, Hook, Verdict};
use cairn_store::repair::repair;
use cairn_store::{Error, NewBlock, Writer};
use kinds::{Kind, grow, merge, small_kinds};

const MIB: u64 = 1 << 20;
/// How the room that is left is varied, in bytes: no multiple of a page, so that writes end anywhere.
const STEP_BYTES: u64 = 50_000;

/// Lets everything pass: the disk itself says no.
struct Pass;

impl Hook for Pass {
    fn before(&self, _: &Change<'_>) -> Verdict {
        Verdict::Go
    }
}

/// Fills the disk but for so many bytes.
fn fill(path: &Path, room_bytes: u64) {
    let mut ballast = File::create(path).unwrap();
    let full = loop {
        if let Err(e) = ballast.write_all(&[7; 4096]) {
            break e;
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    let length = ballast.metadata().unwrap().blocks() * 512;
    ballast.set_len(length.saturating_sub(room_bytes)).unwrap();
}

/// Makes the change with more and more room until there is enough. Returns how often the disk was full.
fn with_any_room(kind: &Kind, disk: &Path) -> u64 {
    let (store, ballast) = (disk.join("store"), disk.join("ballast"));
    let base = tempfile::tempdir().unwrap(); // on another disk
    if let Some(prepare) = kind.prepare {
        prepare(&base.path().join("store")).unwrap();
    }
    for n in 0.. {
        if store.exists() {
            fs::remove_dir_all(&store).unwrap();
        }
        if kind.prepare.is_some() {
            kinds::copy(&base.path().join("store"), &store);
        }
        fill(&ballast, n * STEP_BYTES);
        let mut done = 0;
        let result = (kind.change)(&store, Arc::new(Pass), &mut done);
        let place = format!(
            "{}, {} bytes of room: {:?}",
            kind.name,
            n * STEP_BYTES,
            result.as_ref().err()
        );
        let is_enough = result.is_ok();
        if let Err(e) = result {
            assert!(matches!(e, Error::Full { .. }), "{place}");
        }
        // While it is full all that was acknowledged can be read, and nothing is damaged.
        let may_be = &kind.states[done..kind.states.len().min(done + 2)];
        if !kind.is_repair && (kind.prepare.is_some() || done > 0) {
            let checks: Vec<_> = may_be.iter().map(|state| state.check(&store)).collect();
            assert!(checks.iter().any(Result::is_ok), "{place}: {checks:?}");
        }
        // Room is made, and it simply goes on.
        fs::remove_file(&ballast).unwrap();
        if is_enough {
            kind.states.last().unwrap().check(&store).unwrap();
            return n;
        }
        if kind.is_repair {
            repair(&store, false).unwrap();
        }
        let mut writer = match Writer::open(&store) {
            Err(Error::NoStore { .. } | Error::Damaged { .. }) if kind.prepare.is_none() => {
                Writer::create(&store, &kind.states[0].blocks[0].genesis()).unwrap()
            }
            other => other.unwrap_or_else(|e| panic!("{place}: {e}")),
        };
        let state = may_be.iter().find(|state| state.check(&store).is_ok());
        let mut on = state
            .unwrap_or_else(|| panic!("{place}: {:?}", may_be[0].check(&store)))
            .clone();
        for _ in 0..3 {
            grow(&mut on.blocks, 1, 5);
            let next = on.blocks.last().unwrap();
            let new: NewBlock<'_> = next.new_block();
            writer.commit(&[new], next.hash).unwrap();
        }
        drop(writer);
        on.check(&store)
            .unwrap_or_else(|e| panic!("{place}, and went on: {e}"));
    }
    unreachable!("a disk without ballast has room")
}

/// Not a test of its own: what runs where a small disk is mounted.
#[test]
fn child() {
    let Ok(disk) = std::env::var("CAIRN_STORE_SMALL_DISK") else {
        return;
    };
    let disk = Path::new(&disk);
    let remount = |mib: u64| {
        let size = format!("remount,size={mib}m");
        let status = Command::new("mount").args(["-o", &size]).arg(disk).status();
        assert!(status.unwrap().success());
    };
    for kind in small_kinds() {
        println!("{}: full {} times", kind.name, with_any_room(&kind, disk));
    }
    remount(8);
    let kind = merge();
    println!("{}: full {} times", kind.name, with_any_room(&kind, disk));
}

#[test]
fn at_any_moment_of_any_change() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size={} cairn \"$1\" || exit 77; shift; exec \"$@\"",
        4 * MIB
    );
    let is_root = File::open("/proc/self").unwrap().metadata().unwrap().uid() == 0;
    let mut unshare = Command::new("unshare");
    if !is_root {
        unshare.arg("-r");
    }
    let out = unshare
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("CAIRN_STORE_SMALL_DISK", dir.path())
        .output();
    let skipped = match &out {
        Err(e) => Some(format!("unshare: {e}")),
        Ok(out) if out.status.code() == Some(77) || out.stdout.is_empty() => {
            Some(String::from_utf8_lossy(&out.stderr).trim().to_owned())
        }
        Ok(_) => None,
    };
    if let Some(why) = skipped {
        println!("SKIPPED: no disk of 4 MiB can be mounted here: {why}");
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CI fills a real disk: {why}"
        );
        return;
    }
    let out = out.unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    println!("{said}");
    assert!(out.status.success(), "{said}\n{errors}");
    assert!(said.contains("merge runs: full"), "{said}");
}
