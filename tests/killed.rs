//! SIGKILL at random moments of import, catch-up and sealing, twenty times in a row each: the store opens, verifies, and the
//! node reaches the same head.
#![allow(clippy::unwrap_used)]
mod common;

use std::path::Path;
use std::time::Duration;

use cairn::generate::Params;
use common::*;

const KILLS: u64 = 20;

/// Moments that differ from run to run in nothing: the n-th wait of a fixed series, spread over `span_ms`.
fn wait_ms(n: u64, span_ms: u64) -> Duration {
    Duration::from_millis((n * 7919 + 13) % span_ms)
}

fn verifies(datadir: &Path) {
    let report = cairn_store::check::verify(&datadir.join("blocks"), &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn an_import_that_is_killed_twenty_times_ends_where_one_that_is_not_does() {
    let dir = tempfile::tempdir().unwrap();
    let params = Params {
        blocks: 6000,
        txs_per_block: 1,
        seed: 3,
        ..Params::default()
    };
    let chain = chain_file(dir.path(), &params);
    let data = dir.path().join("d");
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    let mut before = 0;
    for n in 0..KILLS {
        let mut child = cairn()
            .args([
                "import",
                "--verbosity",
                "0",
                "--datadir",
                text(&data),
                text(&chain.blocks),
            ])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(wait_ms(n, 400));
        child.kill().unwrap();
        child.wait().unwrap();
        verifies(&data);
        let now = head(&data);
        assert!(
            now >= before,
            "a committed block is gone: head {before}, then {now}"
        );
        before = now;
    }
    let output = run_ok(&[
        "import",
        "--json",
        "--datadir",
        text(&data),
        text(&chain.blocks),
    ]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["head_hash"], chain.head_hash);
    verifies(&data);
}

#[test]
fn a_catch_up_that_is_killed_twenty_times_reaches_the_same_head() {
    let dir = tempfile::tempdir().unwrap();
    let params = Params {
        blocks: 8000,
        txs_per_block: 1,
        seed: 4,
        ..Params::default()
    };
    let chain = chain_file(dir.path(), &params);
    let (left, right) = (dir.path().join("left"), dir.path().join("right"));
    for data in [&left, &right] {
        run_ok(&["init", "--datadir", text(data), text(&chain.genesis)]);
    }
    run_ok(&["import", "--datadir", text(&left), text(&chain.blocks)]);
    let serving = Node::start(&left, &[]);
    let mut before = 0;
    for n in 0..KILLS {
        let node = Node::start(&right, &["--bootnodes", &serving.enode]);
        std::thread::sleep(wait_ms(n, 250));
        node.kill();
        verifies(&right);
        let now = head(&right);
        assert!(
            now >= before,
            "a committed block is gone: head {before}, then {now}"
        );
        before = now;
    }
    let mut node = Node::start(&right, &["--bootnodes", &serving.enode]);
    node.wait_head(8000);
    node.stop();
    serving.stop();
    assert_same_chain(&left, &right, 8000);
}

#[test]
fn a_validator_that_is_killed_twenty_times_seals_on_and_its_follower_holds_the_same_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (left, right) = (dir.path().join("left"), dir.path().join("right"));
    let sealing = [
        "--enable-consensus",
        "--validator",
        DEV_SIGNER,
        "--block-interval-ms",
        "1000",
    ];
    let mut validator = Node::start(&left, &sealing);
    let enode = validator.enode.clone();
    let port: u16 = enode.rsplit(':').next().unwrap().parse().unwrap();
    let mut follower = Node::start(&right, &["--bootnodes", &enode]);
    let mut before = 0;
    let mut least = Duration::from_millis(700);
    for n in 0..KILLS {
        std::thread::sleep(least + wait_ms(n, 700));
        validator.kill();
        verifies(&left);
        let now = head(&left);
        assert!(
            now >= before,
            "a sealed block is gone: head {before}, then {now}"
        );
        if now == before {
            least += Duration::from_millis(200); // the machine is slow
        }
        before = now;
        validator = Node::start_on(&left, port, &sealing);
    }
    assert!(before >= 8, "sealed only {before} blocks");
    validator.wait_head(before + 2);
    follower.wait_head(before + 2);
    validator.stop();
    follower.stop();
    assert_same_chain(&left, &right, before + 2);
}
