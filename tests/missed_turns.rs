//! How many turns five signers miss that nothing happens to, as processes on loopback, and why: from what is stored and from their logs.
//!
//! The figure: `CAIRN_TURNS=1000 cargo test --release -p cairn --test missed_turns -- --nocapture`, some 17 minutes.
#![allow(clippy::unwrap_used)]
mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, U256};
use cairn::chain::SealedHeader;
use common::started::{Started, free_ports, new_network};
use common::*;

/// Those of `cargo test`, which is to end some time.
const FEW_TURNS: u64 = 30;
const SIGNERS: usize = 5;

/// A turn that was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// Its signer sealed one of the blocks before, out of turn, and the rules kept it from sealing this one.
    SignedRecently,
    /// Its signer sealed it, and it is not in the chain.
    Lost,
    /// Its signer did not seal it.
    NotSealed,
}

#[test]
fn signers_that_nothing_happens_to_seal_in_turn() {
    let turns = std::env::var("CAIRN_TURNS").map_or(FEW_TURNS, |turns| turns.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("network");
    let port = free_ports(5).to_string();
    let made = new_network(
        &out,
        &["--signers", "5", "--period", "1", "--base-port", &port],
    );
    let folders = (1..=SIGNERS).map(|n| out.join(format!("signer{n}")));
    let mut nodes: Vec<Started> = folders.map(|it| Started::by_script(&it, 0)).collect();
    let logs_of: BTreeMap<Address, usize> = (0..SIGNERS)
        .map(|n| {
            let signer = &made["nodes"][n]["signer"];
            (signer.as_str().unwrap().parse().unwrap(), n)
        })
        .collect();
    for node in &mut nodes {
        node.wait_head(SIGNERS as u64);
    }
    let data: Vec<PathBuf> = nodes.iter().map(Started::data).collect();
    let highest = || data.iter().map(|data| head(data)).max().unwrap();
    let first = highest() + SIGNERS as u64;
    let (last, begin) = (first + turns - 1, Instant::now());
    let most = Duration::from_secs(3 * turns) + STEP_TIMEOUT;
    // Those that come after it may still be replaced.
    while data.iter().map(|data| head(data)).min().unwrap() < last + SIGNERS as u64 {
        assert!(begin.elapsed() < most, "not at {last}: {}", nodes[0].log());
        std::thread::sleep(Duration::from_millis(500));
    }
    let took = begin.elapsed();
    for (place, node) in nodes.iter().enumerate() {
        println!("signer{}: {}", place + 1, Used::of(node.child.id()));
        let status = run_ok(&["clique", "status", "--datadir", text(&data[place])]);
        println!("{}", String::from_utf8_lossy(&status.stdout));
    }
    let logs: Vec<String> = nodes.iter().map(Started::log).collect();
    nodes.into_iter().for_each(Started::stop);
    for other in &data[1..] {
        assert_same_chain(&data[0], other, last);
    }

    let stored = reader(&data[0]).snapshot();
    let signers: Vec<Address> = logs_of.keys().copied().collect();
    let header = |number: u64| {
        let raw = stored.header(number).unwrap().unwrap();
        SealedHeader::decode(bytes::Bytes::copy_from_slice(&raw)).unwrap()
    };
    let mut missed: BTreeMap<Cause, u64> = BTreeMap::new();
    for number in first..=last {
        let block = header(number);
        if block.header.difficulty == U256::from(2) {
            continue;
        }
        let in_turn = signers[(number % SIGNERS as u64) as usize];
        let log = &logs[logs_of[&in_turn]];
        let recents = (number - 2..number).map(|number| header(number).signer().unwrap());
        let cause = match log.contains(&format!("Sealed new block number={number} ")) {
            _ if recents.clone().any(|signer| signer == in_turn) => Cause::SignedRecently,
            true => Cause::Lost,
            false => Cause::NotSealed,
        };
        *missed.entry(cause).or_default() += 1;
        println!("block {number}, the turn of {in_turn}: {cause:?}; its log:");
        let about = (number - 1..=number).map(|number| format!("number={number} "));
        let about: Vec<String> = about.collect();
        let lines = log.lines().filter(|line| {
            line.contains("WARN") || about.iter().any(|number| line.contains(number))
        });
        lines.for_each(|line| println!("  {line}"));
    }
    let beside = logs
        .iter()
        .flat_map(|log| log.lines())
        .filter(|line| line.contains("Sealed new block") && line.contains("in_turn=false"))
        .count();
    let all: u64 = missed.values().sum();
    println!(
        "{all} of {turns} turns missed in {took:.0?}: {missed:?}; all signers sealed {beside} blocks out of turn since the start"
    );
    // A machine that is busy may have each of them late at times. Signers that do not keep to their turns miss two of three.
    assert!(
        5 * all < 3 * turns,
        "{all} of {turns} turns missed: {missed:?}\n{}",
        logs[0]
    );
}
