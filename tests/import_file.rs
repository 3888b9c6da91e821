//! Files of blocks, in and out: what is whole in them is stored and given back byte for byte, and what is not is told with its place.
#![allow(clippy::unwrap_used)]
mod common;

use common::*;

#[test]
fn import_and_export_give_back_the_very_bytes_and_a_second_import_finds_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    let chain = chain_file(dir.path(), &small());
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    let output = run_ok(&[
        "import",
        "--json",
        "--datadir",
        text(&data),
        text(&chain.blocks),
    ]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["blocks"], 30);
    assert_eq!(report["transactions"], 60);
    assert_eq!(report["head_hash"], chain.head_hash);
    assert!(
        report["not_checked"][0]
            .as_str()
            .unwrap()
            .contains("not executed")
    );
    let out = dir.path().join("out.rlp");
    run_ok(&["export", "--datadir", text(&data), text(&out), "1"]);
    assert_eq!(
        std::fs::read(&out).unwrap(),
        std::fs::read(&chain.blocks).unwrap()
    );
    let piped = run_ok(&["export", "--datadir", text(&data), "-", "1", "30"]);
    assert_eq!(piped.stdout, std::fs::read(&chain.blocks).unwrap());
    let again = run_ok(&[
        "import",
        "--json",
        "--datadir",
        text(&data),
        text(&chain.blocks),
    ]);
    let report: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(
        (report["blocks"].as_u64(), report["known"].as_u64()),
        (Some(0), Some(30))
    );
    // From block 0, as geth's, and the genesis in a file is no fault.
    run_ok(&["export", "--datadir", text(&data), text(&out)]);
    let fresh = dir.path().join("fresh");
    run_ok(&["init", "--datadir", text(&fresh), text(&chain.genesis)]);
    run_ok(&["import", "--datadir", text(&fresh), text(&out)]);
    assert_same_chain(&data, &fresh, 30);
    fails(
        &["export", "--datadir", text(&data), text(&out), "31"],
        2,
        &["31"],
    );
    fails(
        &["export", "--datadir", text(&data), text(&out), "5", "4"],
        2,
        &["FIRST 5 is above LAST 4"],
    );
    fails(
        &[
            "export",
            "--datadir",
            text(&dir.path().join("none")),
            text(&out),
        ],
        1,
        &["none"],
    );
}

#[test]
fn one_bad_byte_anywhere_in_a_file_is_an_error_with_its_place_and_nothing_after_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain_file(dir.path(), &small());
    let good = std::fs::read(&chain.blocks).unwrap();
    let bad = dir.path().join("bad.rlp");
    // Spread over the whole file, so that headers, bodies and lengths are all hit.
    for step in 0..24 {
        let at = good.len() * step / 24 + step;
        let mut bytes = good.clone();
        bytes[at] ^= 0x41;
        std::fs::write(&bad, &bytes).unwrap();
        let data = dir.path().join(format!("d{step}"));
        run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
        fails(
            &["import", "--datadir", text(&data), text(&bad)],
            1,
            &["bad.rlp", "byte"],
        );
        let stored = head(&data);
        assert!(stored < 30);
        // Good blocks before the bad one are kept, and the good file completes them.
        run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
        assert_eq!(head(&data), 30);
    }
}

#[test]
fn a_truncated_file_is_told_and_what_was_whole_in_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain_file(dir.path(), &small());
    let good = std::fs::read(&chain.blocks).unwrap();
    let cut = dir.path().join("cut.rlp");
    std::fs::write(&cut, &good[..good.len() - 10]).unwrap();
    let data = dir.path().join("d");
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    fails(
        &["import", "--datadir", text(&data), text(&cut)],
        1,
        &["truncated", "byte"],
    );
    assert_eq!(head(&data), 29);
}

#[test]
fn a_file_that_begins_above_the_head_is_told_as_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain_file(dir.path(), &small());
    let data = dir.path().join("d");
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
    let part = dir.path().join("part.rlp");
    run_ok(&["export", "--datadir", text(&data), text(&part), "11", "20"]);
    let fresh = dir.path().join("fresh");
    run_ok(&["init", "--datadir", text(&fresh), text(&chain.genesis)]);
    fails(
        &["import", "--datadir", text(&fresh), text(&part)],
        1,
        &["begins with block 11", "head is block 0"],
    );
}

#[test]
fn an_import_from_a_pipe_without_a_writer_ends_at_the_second_signal() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let mut child = cairn()
        .args([
            "import",
            "--datadir",
            text(&dir.path().join("d")),
            text(&pipe),
        ])
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + STEP_TIMEOUT;
    while child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert!(std::time::Instant::now() < deadline, "it goes on for ever");
    }
}
