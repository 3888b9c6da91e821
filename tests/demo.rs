//! `cairn demo`, as a newcomer runs it, but shorter.
#![allow(clippy::unwrap_used)]
mod common;

use common::*;

fn demo(args: &[&str], temp: &std::path::Path) -> std::process::Output {
    let output = cairn()
        .args(["demo", "--blocks", "300", "--live", "2"])
        .args(args)
        .env("TMPDIR", temp)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

#[test]
fn the_demo_ends_with_both_heads_the_same_and_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let output = demo(&["--json"], temp.path());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["same"], true);
    assert_eq!(report["catch_up_blocks"], 300);
    assert_eq!(report["catch_up_transactions"], 3000);
    assert!(report["live_blocks"].as_u64().unwrap() >= 2);
    assert_eq!(
        report["validator"]["head_hash"],
        report["fullnode"]["head_hash"]
    );
    assert!(report["fullnode"]["peak_memory_bytes"].as_u64().unwrap() > 0);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn the_demo_keeps_its_folders_when_asked_and_says_where() {
    let temp = tempfile::tempdir().unwrap();
    let output = demo(&["--keep"], temp.path());
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, folder) = text.split_once("Folders kept in ").unwrap();
    let folder = std::path::Path::new(folder.trim());
    assert_same_chain(&folder.join("validator"), &folder.join("fullnode"), 302);
}
