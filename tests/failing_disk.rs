//! A disk that fails: EIO at the n-th write or sync of a whole import, of a branch's too, and of a validator. Each ends with
//! status 1 and names the file; the store is sound then, and going on reaches the same head.
//!
//! The calls are made to fail by `strace`. Where there is none, or it may not trace, the tests are skipped, unless CI=true.
#![allow(clippy::unwrap_used)]
mod common;

use std::path::Path;
use std::process::{Command, Output};

use cairn::generate::Params;
use common::*;

/// Every call by which a store, or a data folder, changes the disk. What is printed goes by `write`.
const CALLS: &str =
    "pwrite64,pwritev,fdatasync,fsync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat";

/// A command of cairn's under strace: with `fail_at` the n-th of its calls fails, without they are written to `log`.
fn traced(log: &Path, fail_at: Option<usize>) -> Command {
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        text(log),
        "-e",
        &format!("trace={CALLS}"),
    ]);
    if let Some(n) = fail_at {
        command.args(["-e", &format!("inject={CALLS}:error=EIO:when={n}")]);
    }
    command.arg(env!("CARGO_BIN_EXE_cairn"));
    command
        .env_remove("RUST_LOG")
        .stdin(std::process::Stdio::null());
    command
}

fn can_trace() -> bool {
    let tried = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync", "true"])
        .output();
    let why = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => stderr(&output),
        Err(error) => format!("strace: {error}"),
    };
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "CI tests on a failing disk, and nothing can make it fail: {why}"
    );
    println!("skipped: no call can be made to fail here: {why}");
    false
}

/// The small ones one by one, then fewer and fewer, and the last.
fn spread(calls: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (1..=calls.min(12)).collect();
    while let Some(&last) = all.last()
        && last < calls
    {
        all.push((last + last / 6).min(calls));
    }
    all
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &name),
            false => drop(std::fs::copy(&path, &name).unwrap()),
        }
    }
}

fn verifies(datadir: &Path) {
    let report = cairn_store::check::verify(&datadir.join("blocks"), &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// It ended with status 1 and named a file of the store, or of the folder it stands in.
fn names_the_file(output: &Output, data: &Path) {
    let said = stderr(output);
    assert_eq!(status(output), 1, "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("cairn: ")
            && last.contains(&format!("{}/", text(data)))
            && last.contains("Input/output error"),
        "{said}"
    );
}

/// Imports `blocks` into copies of `data` with each of a spread of calls failing.
fn fails_at_each(dir: &Path, data: &Path, blocks: &Path, heads: &[u64]) {
    let (log, work) = (dir.join("strace.log"), dir.join("work"));
    let import = |command: &mut Command| {
        command
            .args([
                "import",
                "--verbosity",
                "1",
                "--datadir",
                text(&work),
                text(blocks),
            ])
            .output()
            .unwrap()
    };
    copy(data, &work);
    let output = import(&mut traced(&log, None));
    assert!(output.status.success(), "{}", stderr(&output));
    let end = reader(&work).snapshot().head();
    let calls = std::fs::read_to_string(&log).unwrap().lines().count();
    let tried = spread(calls);
    for n in &tried {
        std::fs::remove_dir_all(&work).unwrap();
        copy(data, &work);
        let output = import(&mut traced(&log, Some(*n)));
        if output.status.success() {
            // An unlink that fails after a commit may be told and lived with.
            let line = std::fs::read_to_string(&log).unwrap();
            let line = line.lines().find(|line| line.contains("INJECTED"));
            assert!(line.is_some_and(|line| line.contains("unlink")), "{line:?}");
        } else {
            names_the_file(&output, &work);
        }
        verifies(&work);
        let stored = head(&work);
        assert!(heads.contains(&stored), "call {n}: head {stored}");
        let output = import(&mut cairn());
        assert!(output.status.success(), "call {n}: {}", stderr(&output));
        assert_eq!(reader(&work).snapshot().head(), end, "call {n}");
        verifies(&work);
    }
    println!("{calls} calls, of which {} failed: {tried:?}", tried.len());
}

#[test]
fn an_import_survives_an_error_of_the_disk_at_every_call() {
    if !can_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let params = Params {
        blocks: 4_400,
        txs_per_block: 0,
        ..Params::default()
    };
    let chain = chain_file(dir.path(), &params);
    let data = dir.path().join("d");
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    fails_at_each(dir.path(), &data, &chain.blocks, &[0, 4_096, 4_400]);
}

#[test]
fn an_import_of_a_branch_survives_an_error_of_the_disk_at_every_call() {
    if !can_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let params = |blocks, seed| Params {
        blocks,
        seed,
        txs_per_block: 1,
        ..Params::default()
    };
    let ours = chain_file(dir.path(), &params(2_100, 1));
    let data = dir.path().join("d");
    run_ok(&["init", "--datadir", text(&data), text(&ours.genesis)]);
    run_ok(&["import", "--datadir", text(&data), text(&ours.blocks)]);
    let theirs = chain_file(dir.path(), &params(4_200, 2));
    fails_at_each(dir.path(), &data, &theirs.blocks, &[2_100, 4_200]);
}

#[test]
fn a_validator_survives_an_error_of_the_disk_at_every_call() {
    if !can_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let sealing = [
        "--enable-consensus",
        "--validator",
        DEV_SIGNER,
        "--block-interval-ms",
        "1000",
    ];
    // The first calls make the folder, on the main thread; those of a thread are counted for themselves.
    std::thread::scope(|scope| {
        for (n, made) in [1, 2, 3, 5, 8, 11, 14, 17, 18, 19, 20]
            .into_iter()
            .flat_map(|n| [(n, false), (n, true)])
        {
            let data = dir.path().join(format!("d{n}-{made}"));
            let log = data.with_extension("strace");
            scope.spawn(move || {
                if made {
                    let mut node = Node::start(&data, &sealing);
                    node.wait_head(1);
                    node.stop();
                }
                let before = made.then(|| head(&data));
                let output = traced(&log, Some(n))
                    .args(["--verbosity", "1", "--datadir", text(&data)])
                    .args(["--listen-addr", "127.0.0.1", "--p2p-port", "0"])
                    .args(sealing)
                    .output()
                    .unwrap();
                names_the_file(&output, &data);
                if let Some(before) = before {
                    verifies(&data);
                    assert!(head(&data) >= before, "call {n}: a sealed block is gone");
                }
                let mut node = Node::start(&data, &sealing);
                let head = node.head();
                node.wait_head(head + 1);
                node.stop();
                verifies(&data);
            });
        }
    });
}
