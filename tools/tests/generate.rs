//! `generate`: files that others read, the same for the same seed, and never over somebody's data.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use cairn::{
    chain::{
        Genesis,
        receipts::{Form, Receipts},
    },
    era1::EraReader,
};
use common::{Ran, run, tree};

fn generate(dir: &Path, more: &[&str]) -> Ran {
    let out = dir.join("chain.rlp");
    let genesis = dir.join("genesis.json");
    let mut args = vec![
        "generate",
        "--blocks",
        "5",
        "--txs",
        "20",
        "--out",
        out.to_str().unwrap(),
        "--genesis",
        genesis.to_str().unwrap(),
    ];
    args.extend(more);
    run(&args)
}

#[test]
fn the_files_are_a_chain_and_its_genesis_and_the_figures_are_theirs() {
    for (fork, chain_id) in [("london", 1337), ("prague", 1338)] {
        let dir = tempfile::tempdir().unwrap();
        let report = generate(dir.path(), &["--fork", fork, "--json"])
            .ok()
            .json();
        let genesis = fs::read(dir.path().join("genesis.json")).unwrap();
        let genesis = Genesis::from_json(&genesis).unwrap();
        assert_eq!(report["genesis_hash"], genesis.header.hash.to_string());
        assert_eq!(report["chain_id"], chain_id);
        assert_eq!(report["blocks"], 5);
        assert_eq!(report["transactions"], 100);
        assert_eq!(report["head"]["number"], 5);
        assert_eq!(report["state_roots_executed"], false);
        let length = fs::metadata(dir.path().join("chain.rlp")).unwrap().len();
        assert_eq!(report["block_bytes"], length);
        let ratio = report["snappy_ratio"].as_f64().unwrap();
        assert!((0.55..0.65).contains(&ratio), "{ratio}");
    }
}

#[test]
fn people_are_told_that_state_roots_are_not_executed_and_the_ratio() {
    let dir = tempfile::tempdir().unwrap();
    let ran = generate(dir.path(), &[]).ok();
    assert!(ran.text().contains("State roots are not executed"));
    assert!(ran.text().contains("when snappy compresses each"));
}

#[test]
fn the_same_seed_gives_the_same_files() {
    let digest = |more: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let _ = generate(dir.path(), more).ok();
        fs::read(dir.path().join("chain.rlp")).unwrap()
    };
    assert_eq!(digest(&["--seed", "3"]), digest(&["--seed", "3"]));
    assert_ne!(digest(&["--seed", "3"]), digest(&["--seed", "4"]));
}

#[test]
fn files_that_exist_are_overwritten_only_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let _ = generate(dir.path(), &[]).ok();
    let before = tree(dir.path());
    generate(dir.path(), &[]).refused(2, "--force");
    assert_eq!(tree(dir.path()), before);

    // One of the two is enough, and the other is not made.
    fs::remove_file(dir.path().join("chain.rlp")).unwrap();
    let before = tree(dir.path());
    generate(dir.path(), &[]).refused(2, "genesis.json");
    assert_eq!(tree(dir.path()), before);

    let _ = generate(dir.path(), &["--force", "--seed", "9"]).ok();
    assert!(dir.path().join("chain.rlp").exists());
}

#[test]
fn what_cannot_be_generated_is_wrong_usage_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let before = tree(dir.path());
    generate(dir.path(), &["--body-bytes", "100000000"]).refused(2, "8388608");
    generate(dir.path(), &["--body-bytes", "5000000"]).refused(2, "fewer transactions");
    generate(dir.path(), &["--fork", "osaka"]).refused(2, "osaka");
    assert_eq!(tree(dir.path()), before);
    generate(&dir.path().join("nowhere"), &[]).refused(2, "nowhere");
}

/// A device that is always full: no fault of whoever typed the command, so not status 2. It stays a device.
#[test]
fn a_full_disk_is_a_failure_and_no_wrong_usage() {
    use std::os::unix::fs::FileTypeExt as _;

    let full = Path::new("/dev/full");
    if !full
        .metadata()
        .is_ok_and(|meta| meta.file_type().is_char_device())
    {
        println!("skipped: there is no /dev/full here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let genesis = dir.path().join("genesis.json");
    let args = ["generate", "--blocks", "5", "--txs", "20", "--force"];
    let out = ["--out", "/dev/full", "--genesis", genesis.to_str().unwrap()];
    run(&[&args[..], &out].concat()).refused(1, "/dev/full: No space left");

    let store = common::Fixture::clique(3);
    for args in [
        &["stats", "--svg", "/dev/full", "--force"][..],
        &["export", "/dev/full"],
    ] {
        store.run(args).refused(1, "/dev/full: No space left");
    }
    assert!(full.metadata().unwrap().file_type().is_char_device());
    for args in [&["list"][..], &["export", "-"], &["info", "--json"]] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_cairn-store"))
            .args(args)
            .args(["--datadir", store.datadir()])
            .stdout(fs::File::options().write(true).open(full).unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
    // Where a file cannot be is usage, and the picture that could not be drawn leaves nothing behind.
    store
        .run(&["stats", "--svg", "/nowhere/x.svg"])
        .refused(2, "/nowhere/x.svg");
}

#[test]
fn a_name_that_ends_in_era1_gives_an_era_with_the_receipts_that_the_headers_name() {
    let dir = tempfile::tempdir().unwrap();
    let (out, genesis) = (
        dir.path().join("chain.era1"),
        dir.path().join("genesis.json"),
    );
    let (out, genesis) = (out.to_str().unwrap(), genesis.to_str().unwrap());
    let args = |blocks| {
        [
            "generate",
            "--blocks",
            blocks,
            "--txs",
            "3",
            "--out",
            out,
            "--genesis",
            genesis,
        ]
    };
    let before = tree(dir.path());
    run(&args("8192")).refused(2, "8191");
    run(&[&args("5")[..], &["--fork", "prague"]].concat()).refused(2, "--fork london");
    assert_eq!(tree(dir.path()), before);
    let report = run(&[&args("5")[..], &["--json"]].concat()).ok().json();

    let mut era = EraReader::open(Path::new(out)).unwrap();
    let mut blocks = 0;
    let mut last = None;
    while let Some(block) = era.next_block().unwrap() {
        let receipts = Receipts::decode(Form::Eth68, &block.receipts).unwrap();
        assert_eq!(receipts.root(), block.header.header.receipts_root);
        assert_eq!(receipts.len(), if blocks == 0 { 0 } else { 3 });
        blocks += 1;
        last = Some((block.header.hash.to_string(), format!("{:#x}", block.td)));
    }
    assert_eq!(blocks, 6, "the genesis block and five above it");
    let head = &report["head"];
    let told = |field: &str| head[field].as_str().unwrap().to_owned();
    assert_eq!(last, Some((told("hash"), told("td"))));
}
