//! A key that an external signer keeps: it comes and goes, and remembers what it signed.
#![allow(clippy::unwrap_used)]
mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_primitives::B256;
use common::home::{Home, sealed_by};
use common::*;
use rustix::process::Signal;

#[test]
fn sealing_goes_on_when_an_external_signer_comes_and_comes_back() {
    let home = Home::new();
    let args = home.by_socket();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // It is away at the start: the node runs, says so, and goes on when it comes.
    let mut node = Node::start(&home.data, &args);
    let line = node.wait_log("nobody listens at");
    assert!(
        line.contains("WARN") && line.contains(text(&home.socket())),
        "{line}"
    );
    let first = home.signer();
    node.wait_log("The signer signs again");
    node.wait_head(2);
    // Killed, as by a power cut: no block comes, and the node stays.
    let told = |node: &Node| node.log().matches("Not sealing").count();
    let before = told(&node);
    first.end(Signal::KILL);
    wait_until("it is told", || told(&node) > before);
    let stood = node.head();
    std::thread::sleep(Duration::from_secs(3));
    assert!(node.head() <= stood + 1, "{} after {stood}", node.head());
    let second = home.signer();
    node.wait_head(stood + 3);
    let log = node.log();
    // On a busy machine an answer may be late besides.
    assert!(log.matches("The signer signs again").count() >= 2, "{log}");
    node.stop();
    let (ended_well, log) = second.end(Signal::TERM);
    assert!(ended_well && log.contains("Signed block number="), "{log}");
    assert!(!home.socket().exists(), "its socket goes with it");
    assert_eq!(sealed_by(&home.data, 3), home.address);
    assert_eq!(
        std::fs::metadata(
            home.data
                .join(format!("signed-{}", home.address[2..].to_lowercase()))
        )
        .unwrap()
        .permissions()
        .mode()
            & 0o777,
        0o600
    );
}

#[test]
fn a_signer_that_signs_rubbish_is_told_and_not_believed_and_one_that_hangs_stops_nothing() {
    // The node waits 2 s for an answer: also on a busy machine one of many comes in time.
    let home = Home::of_period(2);
    let listener = UnixListener::bind(home.socket()).unwrap();
    // Whoever asks is answered with a signature of nobody, until that was told; then one more is not answered at all.
    let is_told = Arc::new(AtomicBool::new(false));
    let is_told_there = is_told.clone();
    let server = std::thread::spawn(move || {
        let mut asked = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
            if line.is_empty() {
                continue; // the node looks who is there
            }
            asked.push(line);
            if is_told_there.load(Ordering::Relaxed) {
                let _ = stream.read(&mut [0; 1]); // until the node hangs up
                return asked;
            }
            let answer = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"0x{}01\"}}\n",
                "11".repeat(64)
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let args = home.by_socket();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut node = Node::start(&home.data, &args);
    let line = node.wait_log("it is not used");
    assert!(
        line.contains("WARN") && line.contains(&home.address),
        "{line}"
    );
    is_told.store(true, Ordering::Relaxed);
    node.wait_log("no answer in time");
    let asked = server.join().unwrap();
    assert!(asked.len() > 1);
    assert!(
        asked.iter().all(|line| *line == asked[0]),
        "over one parent it asks for one block alone: {asked:?}"
    );
    assert_eq!(node.head(), 0);
    // The socket has gone with its listener: a good one takes its place.
    let signer = home.signer();
    node.wait_head(1);
    assert!(node.stop() < STEP_TIMEOUT);
    signer.end(Signal::TERM);
}

#[test]
fn an_external_signer_needs_an_address_and_a_path_and_no_key_beside_it() {
    let home = Home::new();
    let with = |more: &[&str], says: &[&str]| {
        fails(
            &[&["--datadir", text(&home.data), "--enable-consensus"], more].concat(),
            2,
            says,
        );
    };
    with(&["--signer", "unix:/s"], &["--validator"]);
    with(
        &["--signer", "tcp:1", "--validator", &home.address],
        &["expected unix:PATH"],
    );
    with(
        &[
            "--signer",
            "unix:/s",
            "--validator",
            &home.address,
            "--password",
            "p",
        ],
        &["cannot be used with"],
    );
    // One process holds the record of an address.
    let signer = home.signer();
    fails(
        &[
            "signer",
            "--datadir",
            text(&home.data),
            "--validator",
            &home.address,
            "--password",
            text(&home.password),
            "--listen",
            text(&home.dir.path().join("other")),
        ],
        1,
        &["another process signs"],
    );
    signer.end(Signal::TERM);
}

/// The hashes of a node's blocks from 1 to its head.
fn hashes(data: &Path) -> Vec<B256> {
    let chain = reader(data).snapshot();
    let hash = |number| chain.hash(number).unwrap().unwrap();
    (1..=chain.head().number).map(hash).collect()
}

#[test]
fn a_node_that_lost_its_folder_offers_what_its_signer_signed_before_and_goes_on() {
    let home = Home::new();
    let (data, args) = (home.dir.path().join("node"), home.by_socket());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let genesis = home.dir.path().join("genesis.json");
    let signer = home.signer();
    let start = || {
        run_ok(&["init", "--datadir", text(&data), text(&genesis)]);
        Node::start(&data, &args)
    };
    let mut node = start();
    node.wait_head(4);
    node.kill();
    let before = hashes(&data);
    std::fs::remove_dir_all(&data).unwrap();
    // Its clock has gone on: a block of its own making would be another one.
    let mut node = start();
    node.wait_head(before.len() as u64 + 2);
    let line = node.wait_log("signed block 1 over this parent before");
    assert!(line.contains("it is offered again"), "{line}");
    node.stop();
    let after = hashes(&data);
    assert_eq!(after[..before.len()], before, "never two over one parent");
    // What it asked for instead is asked for no more, also when the signer forgets.
    let (_, log) = signer.end(Signal::TERM);
    assert!(log.contains("Signed block number=1 "), "{log}");
    let signers_record = home
        .data
        .join(format!("signed-{}", home.address[2..].to_lowercase()));
    std::fs::remove_file(signers_record).unwrap();
    std::fs::remove_dir_all(data.join("blocks")).unwrap();
    let signer = home.signer();
    let mut node = start();
    node.wait_head(after.len() as u64 + 1);
    node.stop();
    signer.end(Signal::TERM);
    assert_eq!(hashes(&data)[..after.len()], after);
}
