//! `cairn import` of a chain that leaves the stored one below its head: the heavier one is canonical in either order, all of a
//! branch is kept or nothing, and whatever stops it the stored chain stands.
#![allow(clippy::unwrap_used)]
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cairn::generate::{self, Fork, GeneratedBlock, Params};
use common::*;
use serde_json::Value;

fn params(blocks: u64) -> Params {
    Params {
        blocks,
        txs_per_block: 1,
        ..Params::default()
    }
}

fn file(dir: &Path, name: &str, blocks: &[GeneratedBlock]) -> PathBuf {
    let path = dir.join(name);
    let bytes: Vec<u8> = blocks.iter().flat_map(generate::encode_block).collect();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A folder with this chain.
fn folder(dir: &Path, name: &str, params: &Params, blocks: &Path) -> PathBuf {
    let genesis = dir.join("genesis.json");
    let (generated, _) = generate::blocks(params);
    std::fs::write(&genesis, &generated.genesis_json).unwrap();
    let data = dir.join(name);
    run_ok(&["init", "--datadir", text(&data), text(&genesis)]);
    import(&data, blocks);
    data
}

fn import(data: &Path, blocks: &Path) -> Value {
    let output = run_ok(&["import", "--json", "--datadir", text(data), text(blocks)]);
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["log"] = stderr(&output).into();
    report
}

/// All files of a folder with their bytes.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(tree(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

/// The store is sound and holds the chain of this file, byte for byte.
fn holds(data: &Path, blocks: &Path) {
    let report = cairn_store::check::verify(&data.join("blocks"), &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
    let out = data.with_extension("out");
    run_ok(&["export", "--datadir", text(data), text(&out), "1"]);
    let same = std::fs::read(&out).unwrap() == std::fs::read(blocks).unwrap();
    assert!(
        same,
        "{} does not hold {}",
        data.display(),
        blocks.display()
    );
}

#[test]
fn of_two_chains_from_one_genesis_the_heavier_is_canonical_in_either_order() {
    let dir = tempfile::tempdir().unwrap();
    let light = file(dir.path(), "light.rlp", &branch(&params(200), 0, 1));
    let heavy = file(dir.path(), "heavy.rlp", &branch(&params(300), 0, 2));

    let data = folder(dir.path(), "light-first", &params(1), &light);
    let stored = head_of(&data);
    let report = import(&data, &heavy);
    let log = report["log"].as_str().unwrap();
    let (genesis, new) = (reader(&data).snapshot().genesis_hash(), head_of(&data));
    let line = format!(
        "Chain reorg detected number=0 hash={genesis} drop=200 dropfrom={} add=300 addfrom={}",
        stored.hash, new.hash
    );
    assert!(log.contains(&line), "{log}");
    assert_eq!(report["blocks"], 300);
    assert_eq!(report["transactions"], 300);
    assert_eq!(report["head_number"], 300);
    let branch = &report["branch"];
    assert_eq!(branch["canonical"], true);
    assert_eq!(branch["fork_number"], 0);
    assert_eq!(branch["fork_hash"], genesis.to_string());
    assert_eq!(branch["stored"]["blocks"], 200);
    assert_eq!(branch["stored"]["head_hash"], stored.hash.to_string());
    assert_eq!(branch["branch"]["head_number"], 300);
    assert_eq!(branch["branch"]["td"], format!("{:#x}", new.td));
    holds(&data, &heavy);
    // And again: all of it is there.
    let report = import(&data, &heavy);
    assert_eq!(
        (&report["known"], &report["branch"]),
        (&300.into(), &Value::Null)
    );

    let data = folder(dir.path(), "heavy-first", &params(1), &heavy);
    let before = tree(&data);
    let report = import(&data, &light);
    assert!(tree(&data) == before, "a lighter branch changed something");
    assert_eq!(
        (&report["blocks"], &report["transactions"]),
        (&0.into(), &0.into())
    );
    assert_eq!(report["branch"]["canonical"], false);
    let why = report["branch"]["why"].as_str().unwrap();
    assert!(
        why.contains("total difficulty is 401, that of the stored chain 601"),
        "{why}"
    );
    holds(&data, &heavy);
    let said = run_ok(&["import", "--datadir", text(&data), text(&light)]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("Not kept 200 blocks above block 0 were checked"),
        "{said}"
    );
}

fn head_of(data: &Path) -> cairn_store::Head {
    reader(data).snapshot().head()
}

#[test]
fn a_branch_may_hang_on_any_stored_block_and_begin_there_or_below() {
    let dir = tempfile::tempdir().unwrap();
    let ours = branch(&params(150), 0, 0);
    let all = file(dir.path(), "ours.rlp", &ours);
    for fork in [1, 2, 70, 148, 149] {
        let theirs = branch(&params(160), fork, 9);
        for (n, from) in [0, fork as usize / 2, fork as usize]
            .into_iter()
            .enumerate()
        {
            let data = folder(dir.path(), &format!("d{fork}-{n}"), &params(1), &all);
            let whole = file(dir.path(), "whole.rlp", &relinked(&ours, &theirs, fork));
            let part = file(
                dir.path(),
                "part.rlp",
                &relinked(&ours, &theirs, fork)[from..],
            );
            let report = import(&data, &part);
            assert_eq!(report["branch"]["fork_number"], fork, "{report}");
            assert_eq!(report["known"], fork - from as u64);
            assert_eq!(report["blocks"], 160 - fork);
            holds(&data, &whole);
        }
    }
    // A block that hangs on nothing stored is told.
    let data = folder(dir.path(), "d", &params(1), &all);
    let other = branch(&params(160), 0, 7);
    let part = file(dir.path(), "part.rlp", &other[5..]);
    let said = refused(&data, &part);
    assert!(said.contains("another one from below block 6 on"), "{said}");
}

/// `ours` up to `fork`, then `theirs`: they are the same below it.
fn relinked(ours: &[GeneratedBlock], theirs: &[GeneratedBlock], fork: u64) -> Vec<GeneratedBlock> {
    let fork = fork as usize;
    assert_eq!(ours[fork - 1].header.hash, theirs[fork - 1].header.hash);
    [&ours[..fork], &theirs[fork..]].concat()
}

fn refused(data: &Path, blocks: &Path) -> String {
    let output = run(&[
        "import",
        "--verbosity",
        "1",
        "--datadir",
        text(data),
        text(blocks),
    ]);
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_bad_block_in_a_heavier_branch_leaves_the_stored_chain_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let ours = file(dir.path(), "ours.rlp", &branch(&params(100), 0, 1));
    let data = folder(dir.path(), "d", &params(1), &ours);
    let theirs = branch(&params(130), 0, 2);
    let good = file(dir.path(), "good.rlp", &theirs);
    let bytes = std::fs::read(&good).unwrap();
    let before = tree(&data);
    let bad = dir.path().join("bad.rlp");
    for step in 0..12 {
        let at = bytes.len() * step / 12 + 100;
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x41;
        std::fs::write(&bad, &bytes).unwrap();
        let said = refused(&data, &bad);
        assert!(
            said.contains("bad.rlp")
                && said.contains("byte")
                && said.matches("bad.rlp").count() == 1,
            "{said}"
        );
        assert!(
            tree(&data) == before,
            "a bad branch changed something: {said}"
        );
    }
    std::fs::write(&bad, &bytes[..bytes.len() - 10]).unwrap();
    let said = refused(&data, &bad);
    assert!(
        said.contains("truncated") && said.contains("the stored chain stands as it was"),
        "{said}"
    );
    assert!(tree(&data) == before);
    import(&data, &good);
    holds(&data, &good);
}

/// Longer than what an import holds in memory, below what the store has settled, and across an era.
#[test]
fn a_long_branch_is_written_as_it_comes_and_counts_only_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (short, long) = (params(9_000), params(9_300));
    let ours = file(dir.path(), "ours.rlp", &branch(&short, 0, 1));
    let heavy = branch(&long, 0, 2);
    let theirs = file(dir.path(), "theirs.rlp", &heavy);
    let data = folder(dir.path(), "d", &params(1), &ours);

    let bytes = std::fs::read(&theirs).unwrap();
    let bad = dir.path().join("bad.rlp");
    std::fs::write(&bad, &bytes[..bytes.len() - 1]).unwrap();
    let said = refused(&data, &bad);
    assert!(said.contains("truncated"), "{said}");
    holds(&data, &ours);
    let light = file(dir.path(), "light.rlp", &heavy[..8_900]);
    assert_eq!(import(&data, &light)["branch"]["canonical"], false);
    holds(&data, &ours);

    // Killed at moments spread over the whole import, it is the one chain or the other.
    let mut was_taken = false;
    for n in 0..8 {
        let mut child = cairn()
            .args([
                "import",
                "--verbosity",
                "0",
                "--datadir",
                text(&data),
                text(&theirs),
            ])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(150 * n + 40));
        child.kill().unwrap();
        child.wait().unwrap();
        let is_taken = head(&data) == 9_300;
        assert!(is_taken || !was_taken, "the heavier chain is gone");
        was_taken = is_taken;
        holds(&data, if is_taken { &theirs } else { &ours });
    }
    let report = import(&data, &theirs);
    assert_eq!(report["head_number"], 9_300);
    holds(&data, &theirs);
    // The store goes on from there.
    let more = file(dir.path(), "more.rlp", &branch(&params(9_400), 0, 2));
    assert_eq!(import(&data, &more)["blocks"], 100);
    holds(&data, &more);
}

#[test]
fn of_equally_heavy_clique_chains_the_same_one_is_canonical_whichever_came_first() {
    let dir = tempfile::tempdir().unwrap();
    let one = file(dir.path(), "one.rlp", &branch(&params(20), 5, 1));
    let other = file(dir.path(), "other.rlp", &branch(&params(20), 5, 2));
    let left = folder(dir.path(), "left", &params(1), &one);
    let right = folder(dir.path(), "right", &params(1), &other);
    let (to_left, to_right) = (import(&left, &other), import(&right, &one));
    assert_eq!(head_of(&left), head_of(&right));
    let canonical = |report: &Value| report["branch"]["canonical"].as_bool().unwrap();
    assert!(canonical(&to_left) != canonical(&to_right));
    for report in [&to_left, &to_right] {
        let why = report["branch"]["why"].as_str().unwrap();
        assert!(why.contains("EIP-3436"), "{why}");
    }
}

#[test]
fn past_the_merge_an_import_is_its_users_word_unless_it_ends_lower() {
    let dir = tempfile::tempdir().unwrap();
    let prague = |blocks| Params {
        fork: Fork::Prague,
        ..params(blocks)
    };
    let first = file(dir.path(), "first.rlp", &branch(&prague(12), 4, 1));
    let lower = file(dir.path(), "lower.rlp", &branch(&prague(9), 4, 2));
    let second = file(dir.path(), "second.rlp", &branch(&prague(12), 4, 3));
    let data = folder(dir.path(), "d", &prague(1), &first);
    let cases = [
        (&lower, false, &first),
        (&second, true, &second),
        (&first, true, &first),
    ];
    for (blocks, canonical, kept) in cases {
        let report = import(&data, blocks);
        assert_eq!(report["head_number"], 12);
        assert_eq!(report["branch"]["canonical"], canonical);
        let why = report["branch"]["why"].as_str().unwrap();
        assert!(why.contains("past the merge"), "{why}");
        holds(&data, kept);
    }
}
