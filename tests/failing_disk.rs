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
const CALLS: [&str; 7] = [
    "pwrite64",
    "fdatasync",
    "fsync",
    "rename",
    "unlink",
    "mkdir",
    "ftruncate",
];

/// The `n`-th call of this name, counted in one thread.
#[derive(Clone, Debug)]
struct Call {
    name: String,
    n: usize,
}

/// A command of cairn's under strace: with `failing` that call fails, without the calls are written to `log`. It is ended when it takes
/// far too long.
fn traced(log: &Path, failing: Option<&Call>) -> Command {
    let mut command = Command::new("strace");
    let all = CALLS.join(",");
    command.args(["-f", "-qq", "-o", text(log), "-e", &format!("trace={all}")]);
    if let Some(Call { name, n }) = failing {
        command.args(["-e", &format!("inject={name}:error=EIO:when={n}")]);
    }
    command.args(["timeout", "300", env!("CARGO_BIN_EXE_cairn")]);
    command
        .env_remove("RUST_LOG")
        .stdin(std::process::Stdio::null());
    command
}

/// A spread of the calls in a log of one thread that made some.
fn calls_of(log: &Path) -> Vec<Call> {
    let log = std::fs::read_to_string(log).unwrap();
    let mut calls = Vec::new();
    for name in CALLS {
        let count = |thread: &str| {
            let line = format!("{thread} {name}(");
            log.lines()
                .filter(|found| squeezed(found).starts_with(&line))
                .count()
        };
        let most = threads(&log).iter().map(|thread| count(thread)).max();
        for n in spread(most.unwrap_or(0)) {
            calls.push(Call {
                name: name.into(),
                n,
            });
        }
    }
    calls
}

fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn threads(log: &str) -> std::collections::BTreeSet<&str> {
    log.lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect()
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
    let mut all: Vec<usize> = (1..=calls.min(8)).collect();
    while let Some(&last) = all.last()
        && last < calls
    {
        all.push((last + last / 3).min(calls));
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
fn names_the_file(output: &Output, data: &Path, call: &Call) {
    let said = stderr(output);
    assert_eq!(status(output), 1, "{call:?}: {said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("cairn: ")
            && last.contains(text(data))
            && last.contains("Input/output error"),
        "{said}"
    );
    // A store that is only being made has nothing to be lost.
    let is_store = last.contains("/blocks/") && call.name != "mkdir";
    assert!(!is_store || last.contains("see to the disk"), "{said}");
}

/// Imports `blocks` into copies of `data` with each of a spread of calls failing.
fn fails_at_each(dir: &Path, data: &Path, blocks: &Path, heads: &[u64]) {
    let (log, work) = (dir.join("strace.log"), dir.join("work"));
    let import = |command: &mut Command| {
        command
            .args([
                "import",
                "--verbosity",
                "2",
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
    let calls = calls_of(&log);
    for call in &calls {
        std::fs::remove_dir_all(&work).unwrap();
        copy(data, &work);
        let output = import(&mut traced(&log, Some(call)));
        let traced = std::fs::read_to_string(&log).unwrap();
        assert!(
            traced.contains("(INJECTED)"),
            "{call:?} was not made: {traced}"
        );
        if output.status.success() {
            // What comes after the commit, the second MANIFEST or a file that is not needed any more, the next session makes good.
            assert_eq!(reader(&work).snapshot().head(), end, "{call:?}");
            let said = stderr(&output);
            assert!(
                said.contains("WARN") && said.contains(text(&work)),
                "{call:?} failed and nothing was said: {said}"
            );
        } else {
            names_the_file(&output, &work, call);
        }
        verifies(&work);
        let stored = head(&work);
        assert!(heads.contains(&stored), "{call:?}: head {stored}");
        let output = import(&mut cairn());
        assert!(output.status.success(), "{call:?}: {}", stderr(&output));
        assert_eq!(reader(&work).snapshot().head(), end, "{call:?}");
        verifies(&work);
    }
    println!("{} calls failed, one by one", calls.len());
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
        "--ipcdisable", // it goes on without a socket that cannot be made
    ];
    let node = |data: &Path, log: &Path, failing: Option<&Call>| {
        let mut command = traced(log, failing);
        command
            .args(["--verbosity", "1", "--datadir", text(data)])
            .args(["--listen-addr", "127.0.0.1", "--p2p-port", "0"])
            .args(sealing)
            .stderr(std::process::Stdio::piped());
        command
    };
    let made = |data: &Path| {
        let mut node = Node::start(data, &sealing);
        node.wait_head(1);
        node.stop();
    };
    // The calls that make a folder and seal a block in it, and those of a node that goes on in a folder.
    let (fresh, old) = (dir.path().join("fresh"), dir.path().join("old"));
    made(&old);
    let mut calls = Vec::new();
    for data in [&fresh, &old] {
        let log = data.with_extension("strace");
        let before = if data == &old { head(data) } else { 0 };
        let mut child = node(data, &log, None).spawn().unwrap();
        let deadline = std::time::Instant::now() + STEP_TIMEOUT;
        while !data.join("blocks/MANIFEST.1").exists() || head(data) < before + 2 {
            assert!(
                std::time::Instant::now() < deadline,
                "{:?}",
                child.try_wait()
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        // strace itself heeds no signal; the id of any of its threads stands for the program.
        let traced = std::fs::read_to_string(&log).unwrap();
        let id = threads(&traced).iter().map(|id| id.parse().unwrap()).min();
        let id = id.and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap();
        // A file that cannot be removed does not end a node: the next session tries again.
        let all = calls_of(&log).into_iter();
        let all = all.filter(|call| call.name != "unlink");
        calls.extend(all.map(|call| (call, data == &old)));
    }
    std::thread::scope(|scope| {
        for (place, (call, is_old)) in calls.iter().enumerate() {
            let data = dir.path().join(format!("d{place}"));
            scope.spawn(move || {
                if *is_old {
                    made(&data);
                }
                let before = is_old.then(|| head(&data));
                let log = data.with_extension("strace");
                let output = node(&data, &log, Some(call)).output().unwrap();
                names_the_file(&output, &data, call);
                if let Some(before) = before {
                    verifies(&data);
                    assert!(head(&data) >= before, "{call:?}: a sealed block is gone");
                }
                let mut node = Node::start(&data, &sealing);
                let head = node.head();
                node.wait_head(head + 1);
                node.stop();
                verifies(&data);
            });
        }
    });
    println!("{} calls failed, one by one", calls.len());
}
