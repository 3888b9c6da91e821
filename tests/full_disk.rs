//! A disk that is really full, a tmpfs of 4 MiB: import, catch-up and sealing end with status 1 and say which file and what to
//! do; when there is room they simply go on to the same head.
//!
//! The tests run themselves again in a mount namespace of their own (`unshare`), where they may mount. Where that is not
//! permitted they are skipped, unless CI=true.
#![allow(clippy::unwrap_used)]
mod common;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use cairn::generate::Params;
use common::*;

/// Set inside the namespace, to the folder where the small disk is mounted.
const DISK: &str = "CAIRN_TEST_DISK";
const SMALL: &str = "size=4m";
/// What a validator signed takes four MiB of it.
const VALIDATORS: &str = "size=8m";
const LARGE: &str = "size=64m";

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg(match rustix::process::geteuid().is_root() {
        true => "-m",
        false => "-rm",
    });
    command
}

/// Runs the test `name` in a namespace with a small disk; gives the disk's folder inside of it.
fn on_a_small_disk(name: &str) -> Option<std::path::PathBuf> {
    if let Some(disk) = std::env::var_os(DISK) {
        let disk = std::path::PathBuf::from(disk);
        mount(&disk, SMALL);
        return Some(disk);
    }
    let dir = tempfile::tempdir().unwrap();
    let tried = unshare()
        .args(["mount", "-t", "tmpfs", "-o", SMALL, "cairn"])
        .arg(dir.path())
        .output();
    let why = match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(stderr(&output)),
        Err(error) => Some(format!("unshare: {error}")),
    };
    if let Some(why) = why {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CI tests on a full disk, and none can be mounted: {why}"
        );
        println!("skipped: no disk can be mounted here: {why}");
        return None;
    }
    let output = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(DISK, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", stderr(&output));
    None
}

fn mount(disk: &Path, options: &str) {
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "cairn"])
        .arg(disk)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

fn make_room(disk: &Path) {
    let output = Command::new("mount")
        .args(["-o", &format!("remount,{LARGE}")])
        .arg(disk)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Takes all the room there is.
fn fill(disk: &Path) {
    let mut ballast = std::fs::File::create(disk.join("ballast")).unwrap();
    while ballast.write_all(&[7; 4096]).is_ok() {}
}

/// About twice what the small disk holds.
fn too_large() -> Params {
    Params {
        blocks: 400,
        txs_per_block: 20,
        body_bytes: Some(40_000),
        ..Params::default()
    }
}

/// It ended with status 1 and said which file the disk has no room for, and what to do.
fn says_what_to_do(output: &Output, disk: &Path) {
    let said = stderr(output);
    assert_eq!(status(output), 1, "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("cairn: ")
            && last.contains(&format!("{}/", text(&disk.join("d/blocks"))))
            && last.contains("the disk is full; make room"),
        "{said}"
    );
}

fn verifies(datadir: &Path) {
    let report = cairn_store::check::verify(&datadir.join("blocks"), &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn an_import_onto_a_full_disk_goes_on_when_there_is_room() {
    let name = "an_import_onto_a_full_disk_goes_on_when_there_is_room";
    let Some(disk) = on_a_small_disk(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let chain = chain_file(dir.path(), &too_large());
    let data = disk.join("d");
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    let import = ["import", "--datadir", text(&data), text(&chain.blocks)];
    for _ in 0..2 {
        says_what_to_do(&run(&import), &disk);
        verifies(&data);
    }
    let stored = head(&data);
    make_room(&disk);
    run_ok(&import);
    assert!(stored < 400, "{stored}");
    assert_eq!(
        reader(&data).snapshot().head().hash.to_string(),
        chain.head_hash
    );
    verifies(&data);
}

#[test]
fn a_node_that_catches_up_onto_a_full_disk_goes_on_when_there_is_room() {
    let name = "a_node_that_catches_up_onto_a_full_disk_goes_on_when_there_is_room";
    let Some(disk) = on_a_small_disk(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let chain = chain_file(dir.path(), &too_large());
    let (theirs, data) = (dir.path().join("theirs"), disk.join("d"));
    for folder in [&theirs, &data] {
        run_ok(&["init", "--datadir", text(folder), text(&chain.genesis)]);
    }
    run_ok(&["import", "--datadir", text(&theirs), text(&chain.blocks)]);
    let serving = Node::start(&theirs, &[]);
    for _ in 0..2 {
        let output = node_to_its_end(&data, &["--bootnodes", &serving.enode]);
        says_what_to_do(&output, &disk);
        verifies(&data);
    }
    assert!(head(&data) < 400);
    make_room(&disk);
    let mut node = Node::start(&data, &["--bootnodes", &serving.enode]);
    node.wait_head(400);
    node.stop();
    serving.stop();
    assert_same_chain(&theirs, &data, 400);
    verifies(&data);
}

#[test]
fn a_validator_on_a_full_disk_seals_on_when_there_is_room() {
    let name = "a_validator_on_a_full_disk_seals_on_when_there_is_room";
    let Some(disk) = on_a_small_disk(name) else {
        return;
    };
    mount(&disk, VALIDATORS); // over the small one
    let data = disk.join("d");
    let sealing = [
        "--enable-consensus",
        "--validator",
        DEV_SIGNER,
        "--block-interval-ms",
        "1000",
    ];
    let mut node = Node::start(&data, &sealing);
    node.wait_head(2);
    node.stop();
    let stored = head(&data);
    fill(&disk);
    for _ in 0..2 {
        says_what_to_do(&node_to_its_end(&data, &sealing), &disk);
        verifies(&data);
        assert_eq!(head(&data), stored);
    }
    std::fs::remove_file(disk.join("ballast")).unwrap();
    let mut node = Node::start(&data, &sealing);
    node.wait_head(stored + 2);
    node.stop();
    verifies(&data);
}

#[test]
fn a_data_folder_on_a_full_disk_is_made_when_there_is_room() {
    let name = "a_data_folder_on_a_full_disk_is_made_when_there_is_room";
    let Some(disk) = on_a_small_disk(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let chain = chain_file(
        dir.path(),
        &Params {
            blocks: 3,
            ..Params::default()
        },
    );
    let data = disk.join("d");
    let init = ["init", "--datadir", text(&data), text(&chain.genesis)];
    fill(&disk);
    // From no room at all up to nearly enough.
    for free in [0, 1, 2, 3, 5, 8, 13, 21] {
        let ballast = std::fs::OpenOptions::new()
            .write(true)
            .open(disk.join("ballast"))
            .unwrap();
        let full = ballast.metadata().unwrap().len();
        ballast.set_len(full - free * 4096).unwrap();
        let output = run(&init);
        let said = stderr(&output);
        if status(&output) != 0 {
            assert_eq!(status(&output), 1, "{said}");
            assert!(said.contains(text(&disk)), "{said}");
            assert!(said.contains("full") || said.contains("No space"), "{said}");
        }
    }
    std::fs::remove_file(disk.join("ballast")).unwrap();
    run_ok(&init);
    run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
    assert_eq!(head(&data), 3);
    verifies(&data);
}
