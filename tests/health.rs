//! A clique chain that loses signers and gets them back: what the nodes say of it, and how `cairn status --check` exits.
#![allow(clippy::unwrap_used)]
mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::*;
use serde_json::Value;

/// A chain stands still after some seconds, in a node that runs for a minute.
const STALE_TIMEOUT: Duration = Duration::from_secs(240);

fn shown(node: &Node) -> Value {
    let output = run_ok(&["status", "--json", "--datadir", text(&node.datadir)]);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The exit status of a check, and all that it said.
fn check(datadir: &Path, more: &[&str]) -> (i32, String) {
    let mut args = vec!["status", "--check", "--datadir", text(datadir)];
    args.extend(more);
    let output = run(&args);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    (status(&output), out + &stderr(&output))
}

/// Waits until the check exits so and says all of this.
#[track_caller]
fn wait_check(node: &Node, expected: i32, says: &[&str]) -> String {
    let deadline = Instant::now() + STALE_TIMEOUT;
    loop {
        let (status, said) = check(&node.datadir, &[]);
        if status == expected && says.iter().all(|what| said.contains(what)) {
            return said;
        }
        assert!(
            Instant::now() < deadline,
            "{status} instead of {expected}: {said} without one of {says:?}\n{}",
            node.log()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until the check says one of this; it must not exit with 0 before.
#[track_caller]
fn wait_told(node: &Node, says: &[&str]) -> String {
    let deadline = Instant::now() + STALE_TIMEOUT;
    loop {
        let (status, said) = check(&node.datadir, &[]);
        assert_eq!(status, 1, "{said}");
        if says.iter().any(|what| said.contains(what)) {
            return said;
        }
        assert!(Instant::now() < deadline, "{said}\n{}", node.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Network {
    keys: Vec<PathBuf>,
    addresses: Vec<String>,
    folders: Vec<PathBuf>,
}

impl Network {
    fn new(dir: &Path) -> Network {
        let made = clique_network(dir, &[3, 4, 5], 3, 30_000);
        let folders: Vec<PathBuf> = (0..4).map(|at| dir.join(format!("node-{at}"))).collect();
        for folder in &folders {
            run_ok(&["init", "--datadir", text(folder), text(&made.genesis)]);
        }
        Network {
            keys: made.keys,
            addresses: made.addresses.iter().map(ToString::to_string).collect(),
            folders,
        }
    }

    fn signer(&self, at: usize, bootnodes: &str) -> Node {
        let key = text(&self.keys[at]);
        let mut args = vec!["--enable-consensus", "--signer-key", key];
        if !bootnodes.is_empty() {
            args.extend(["--bootnodes", bootnodes]);
        }
        Node::start(&self.folders[at], &args)
    }
}

#[test]
fn a_minority_that_is_missing_is_told_and_a_stall_fails_the_check_until_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::new(dir.path());
    let [one, two, three] = &network.addresses[..] else {
        panic!("three signers");
    };
    // One watches, and all others dial it, so that it and each of them has a peer.
    let mut watcher = Node::start(&network.folders[3], &[]);
    let first = network.signer(0, &watcher.enode);
    let second = network.signer(1, &watcher.enode);

    // Two of three: the chain goes on, and the third is told of.
    watcher.wait_log(&format!("Signer {three} has missed its last"));
    let says = [
        "ok: ",
        "1 of 3 signers is missing",
        three,
        "none of the last",
    ];
    wait_check(&watcher, 0, &says);
    wait_check(&first, 0, &says);
    let signers = &shown(&watcher)["signers"];
    let all = signers["all"].as_array().unwrap();
    assert_eq!((&signers["needed"], all.len()), (&Value::from(2), 3));
    for signer in all {
        let is_third = signer["address"] == **three;
        assert_eq!(signer["missing"], is_third, "{signer}");
        assert_eq!(signer["last_block"].is_null(), is_third, "{signer}");
    }
    let of = |address: &str| all.iter().find(|signer| signer["address"] == *address);
    let third = of(three).unwrap();
    assert!(third["turns_missed"].as_u64() >= Some(3), "{third}");
    let by_cause = &third["missed_by_cause"];
    assert_eq!(by_cause["unknown"], third["missed_since_start"], "{third}");
    // The rules cost the other two turns as well: they seal one block in two.
    let recent =
        |address: &str| of(address).unwrap()["missed_by_cause"]["signed_recently"].as_u64();
    assert!(recent(one) > Some(0) || recent(two) > Some(0), "{signers}");
    let output = run_ok(&["status", "--datadir", text(&watcher.datadir)]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("Signers  3, 1 missing, 2 needed"), "{table}");

    // One of three: it stands still, and every node says who is missing, and what its own signer has to do with it.
    second.kill();
    let says = [
        "stalled: ",
        "2 of 3 signers are missing; 2 are needed",
        two,
        three,
        "no block has come after",
        "is the turn of",
    ];
    let said = wait_check(&watcher, 1, &says);
    assert!(said.starts_with("cairn: stalled"), "{said}");
    wait_check(&first, 1, &["signed recently and must wait for others"]);
    watcher.wait_log("The head is stale: no block has come after");
    let (status, json) = check(&watcher.datadir, &["--json", "--verbosity", "0"]);
    assert_eq!(status, 1);
    assert!(json.contains(r#""state": "stalled""#), "{json}");
    assert_eq!(shown(&watcher)["signers"]["cannot_go_on"], true);
    // Who starts while it stands still never says that all is well.
    first.stop();
    let first = network.signer(0, &watcher.enode);
    let said = wait_told(&first, &["starting: the node started", "stalled: "]);
    assert!(said.contains("is the turn of"), "{said}");

    // Both are back.
    let second = network.signer(1, &watcher.enode);
    let third = network.signer(2, &watcher.enode);
    watcher.wait_log("The head is fresh again");
    watcher.wait_log(&format!("Signer {three} is back"));
    for node in [&watcher, &first, &second, &third] {
        let said = wait_check(node, 0, &["ok: "]);
        assert!(said.starts_with("ok: "), "{said}");
    }

    // Without a peer nobody knows.
    for node in [watcher, second, third] {
        node.stop();
    }
    wait_check(&first, 1, &["alone: nobody is connected"]);
    let folder = first.datadir.clone();
    first.stop();
    let (status, said) = check(&folder, &[]);
    assert_eq!(status, 1);
    assert!(said.contains("no node is running"), "{said}");
    fails(&["status", "--check", "--no-such"], 2, &["--no-such"]);
}

#[test]
fn the_only_signer_of_a_chain_is_well_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(&dir.path().join("d"), &SEALING);
    node.wait_head(2);
    wait_check(&node, 0, &["ok: the head is block"]);
    node.stop();
}
