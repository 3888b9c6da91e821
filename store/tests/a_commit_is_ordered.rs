//! Promise: what a MANIFEST names is durable before the MANIFEST is, its first copy before its second, and nothing is
//! removed before both; when a commit returns, nothing it wrote is unsynced but the closing frame of the tip log, which is
//! written when the frame before it is durable. A session's first change begins with the
//! MANIFEST it found.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cairn_store::Writer;
use cairn_store::faults::{Change, Hook, Verdict};
use common::{chain, commit, extend};

/// A page with an empty frame of the tip log.
fn is_closing(path: &Path, bytes: &[u8]) -> bool {
    let is_tip = path
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .starts_with("tip.");
    is_tip && bytes.len() == 4096 && bytes[4..16] == [0, 0, 0, 0, 72, 0, 0, 0, 0, 0, 0, 0]
}

#[derive(Default)]
struct State {
    /// Files with unsynced bytes, and folders with unsynced names.
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
    changes: Vec<String>,
}

#[derive(Default)]
struct Watch(Mutex<State>);

fn is_manifest(path: &Path) -> bool {
    path.file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .starts_with("MANIFEST")
}

impl Hook for Watch {
    fn before(&self, change: &Change<'_>) -> Verdict {
        let mut state = self.0.lock().unwrap();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        match change {
            Change::MakeDir(path) => {
                state.folders.insert(path.parent().unwrap().to_path_buf());
            }
            Change::Create(path) => {
                assert!(
                    !is_manifest(path) || state.files.is_empty(),
                    "{path:?} before {:?}",
                    state.files
                );
                state.folders.insert(path.parent().unwrap().to_path_buf());
                state.changes.push(format!("create {}", name(path)));
            }
            Change::Write { path, bytes, .. } => {
                if is_manifest(path) {
                    let mut others = state.files.clone();
                    others.remove(*path);
                    assert!(others.is_empty(), "{path:?} before {others:?}");
                    // Its own name is synced behind it, when it is made.
                    let mut folders = state.folders.clone();
                    folders.retain(|folder| {
                        !state.changes.last().unwrap().contains("MANIFEST")
                            || folder != path.parent().unwrap()
                    });
                    assert!(folders.is_empty(), "{path:?} before {folders:?}");
                }
                if is_closing(path, bytes) {
                    let log = format!("create {}", name(path));
                    assert!(
                        !state.files.contains(*path) || state.changes.contains(&log),
                        "{path:?} is closed and its last frame not synced"
                    );
                    state.changes.push(format!("close {}", name(path)));
                    return Verdict::Go;
                }
                state.files.insert(path.to_path_buf());
                state.changes.push(format!("write {}", name(path)));
            }
            Change::Sync(path) => {
                assert!(
                    state.files.remove(*path),
                    "{path:?} is synced and was not written"
                );
                state.changes.push(format!("sync {}", name(path)));
            }
            Change::SyncDir(path) => {
                state.folders.remove(*path);
            }
            Change::Link { to, .. } => {
                state.folders.insert(to.parent().unwrap().to_path_buf());
            }
            Change::Rename { from, to } => {
                assert!(!state.files.contains(*from), "{from:?} is not synced");
                state.folders.insert(to.parent().unwrap().to_path_buf());
            }
            Change::Remove(path) => {
                assert!(
                    state.files.is_empty(),
                    "{path:?} is removed before {:?}",
                    state.files
                );
                state.changes.push(format!("remove {}", name(path)));
            }
        }
        Verdict::Go
    }
}

#[test]
fn in_every_kind_of_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let mut blocks = chain(3, 1000);
    extend(&mut blocks, 10, 0, 900_000);
    extend(&mut blocks, 11_000, 0, 0);
    let watch = Arc::new(Watch::default());
    let taken = || {
        let mut state = watch.0.lock().unwrap();
        assert!(
            state.files.is_empty() && state.folders.is_empty(),
            "{:?} {:?}",
            state.files,
            state.folders
        );
        std::mem::take(&mut state.changes)
    };
    let mut writer = Writer::create_with(&store, &blocks[0].genesis(), watch.clone()).unwrap();
    taken();
    // A frame: one write, and one sync; zeros are ahead. The closing frame behind it is not waited for.
    commit(&mut writer, &blocks[1..2]).unwrap();
    let frame = [
        "write tip.00000001",
        "sync tip.00000001",
        "close tip.00000001",
    ];
    assert_eq!(taken(), frame);
    // A batch.
    commit(&mut writer, &blocks[2..14]).unwrap();
    let changes = taken();
    let end: Vec<&str> = changes[changes.len() - 7..]
        .iter()
        .map(String::as_str)
        .collect();
    let ends = |sequence: &str, gone: &str| {
        [
            format!("sync tip.{sequence}"),
            "write MANIFEST.0".into(),
            "sync MANIFEST.0".into(),
            "write MANIFEST.1".into(),
            "sync MANIFEST.1".into(),
            format!("remove tip.{gone}"),
        ]
    };
    assert_eq!(end[1..], ends("00000002", "00000001"));
    assert!(
        changes.contains(&"create 000000.00000002".to_owned()),
        "{changes:?}"
    );
    drop(writer);
    // A session's first change begins with the MANIFEST, twice.
    let mut writer = Writer::open_with(&store, watch.clone()).unwrap();
    assert_eq!(taken(), [""; 0]);
    commit(&mut writer, &blocks[14..15]).unwrap();
    let changes = taken();
    let begin = [
        "write MANIFEST.0",
        "sync MANIFEST.0",
        "write MANIFEST.1",
        "sync MANIFEST.1",
        "create tip.00000003",
    ];
    assert_eq!(changes[..5], begin);
    assert_eq!(changes[changes.len() - 6..], ends("00000003", "00000002"));
    // Settling, again and again, and past the end of an era.
    let mut made = Vec::new();
    for part in blocks[15..].chunks(900) {
        commit(&mut writer, part).unwrap();
        made.extend(
            taken()
                .into_iter()
                .filter(|change| change.starts_with("create 00000")),
        );
    }
    // The run of era 0, and the segments of era 1.
    assert_eq!(made.len(), 3, "{made:?}");
    drop(writer);
    common::assert_stored(&store, &blocks);
}
