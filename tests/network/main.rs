//! Twelve nodes as a network: real processes, each in a network namespace of its own, joined through a relay that delays, throttles,
//! cuts and silences their connections. Four of them seal, four follow the signers, four know only followers. And networks of signers alone.
//!
//! The schedule comes from a seed, which is printed: `CAIRN_NETWORK_SEED=N` replays it (the schedule, not the moments at which
//! processes do things). A longer run, by name: `CAIRN_NETWORK_MINUTES=30 cargo test --test network -- --ignored --nocapture longer`.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]
#![cfg(target_os = "linux")]

mod chain;
#[path = "../common/mod.rs"]
mod common;
mod dice;
mod fleet;
mod relay;
mod scenes;
mod signers;
mod space;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cairn::generate::Params;
use chain::Chain;
use dice::Dice;
use fleet::{Cut, Fleet};
use relay::{Line, Relay};

const SIGNERS: usize = 4;
const NODES: usize = 12;
/// A machine with other work takes no longer than this for what takes no time.
const PATIENCE: Duration = Duration::from_secs(10);

fn seed() -> u64 {
    let seed = std::env::var("CAIRN_NETWORK_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("CAIRN_NETWORK_SEED={seed}");
    seed
}

fn minutes(default: u64) -> u64 {
    std::env::var("CAIRN_NETWORK_MINUTES").map_or(default, |minutes| minutes.parse().unwrap())
}

/// Signers dial each other, and so do two neighbours; the next four dial two signers and one another, the last four only those.
fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for from in 0..SIGNERS {
        lines.extend((0..SIGNERS).filter(|to| *to != from).map(|to| (from, to)));
    }
    for n in 0..4 {
        let (middle, edge) = (SIGNERS + n, SIGNERS + 4 + n);
        let beside = |base: usize| base + (n + 1) % 4;
        lines.extend([(middle, n), (middle, beside(0)), (middle, beside(SIGNERS))]);
        lines.extend([
            (edge, middle),
            (edge, beside(SIGNERS)),
            (edge, beside(SIGNERS + 4)),
        ]);
    }
    lines
}

/// A folder of this name, and in it what the network begins with: a chain that ended a moment ago.
fn begin(name: &str, signers: usize, blocks: u64, txs_per_block: u32) -> Chain {
    let dir = fleet::folder(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let params = Params {
        blocks,
        txs_per_block,
        body_bytes: Some(8_000),
        seed: 12,
        end_time_s: Some(now),
        ..Params::default()
    };
    chain::write(&dir, signers, &params)
}

/// What the other tests rest on.
#[test]
fn the_relay_delays_throttles_silences_and_cuts() {
    if !space::is_inside("the_relay_delays_throttles_silences_and_cuts") {
        return;
    }
    let line = (0, 1);
    (0..2).for_each(space::nearby);
    let node = TcpListener::bind((space::address(1), relay::NODE_PORT)).unwrap();
    let relay = Relay::start(&[line]);
    let dial = || {
        let near = TcpStream::connect(relay::dialled(line)).unwrap();
        let (far, from) = node.accept().unwrap();
        assert_eq!(from.ip(), space::alias(0));
        for side in [&near, &far] {
            side.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        (near, far)
    };
    let (mut near, mut far) = dial();
    let mut pass = |count: usize| {
        let start = Instant::now();
        near.write_all(&vec![1; count]).unwrap();
        far.read_exact(&mut vec![0; count]).unwrap();
        start.elapsed()
    };
    let quick = pass(300_000);
    assert!(quick < PATIENCE, "{quick:?}");
    relay.change(line, |nature| nature.latency = Duration::from_millis(300));
    let late = pass(1);
    assert!(late >= Duration::from_millis(300), "{late:?}");
    relay.mend(line);
    relay.change(line, |nature| nature.bytes_per_s = 20_000);
    let slow = pass(20_000);
    assert!(slow >= Duration::from_millis(900), "{slow:?}");
    relay.mend(line);

    relay.silence(line, true);
    near.write_all(&[7]).unwrap();
    far.set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let read = far.read(&mut [0]).unwrap_err().kind();
    assert_eq!(read, ErrorKind::WouldBlock);
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    relay.silence(line, false);
    assert_eq!(far.read(&mut [0]).unwrap(), 1);

    relay.cut(line, true);
    for side in [&mut near, &mut far] {
        let read = side.read(&mut [0]).unwrap_err().kind();
        assert_eq!(read, ErrorKind::ConnectionReset);
    }
    // The reset may come before the dial has returned.
    let read = TcpStream::connect(relay::dialled(line)).and_then(|mut near| near.read(&mut [0]));
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    relay.cut(line, false);
    let (near, mut far) = dial();
    drop(near);
    assert_eq!(
        far.read(&mut [0]).unwrap(),
        0,
        "an end is passed on as an end"
    );
}

#[test]
fn twelve_nodes_are_one_network_whatever_happens_to_their_lines_and_processes() {
    let name = "twelve_nodes_are_one_network_whatever_happens_to_their_lines_and_processes";
    if !space::is_inside(name) {
        return;
    }
    let mut dice = Dice::new(seed());
    let chain = begin("network", SIGNERS, 3_000, 8);
    let mut fleet = Fleet::new("network", SIGNERS, NODES, &lines(), &chain);
    scenes::start(&mut fleet, &chain);
    scenes::partition(&mut fleet, &mut dice, Some(Cut::Reset), 18);
    scenes::partition(&mut fleet, &mut dice, None, 18);
    scenes::kills(&mut fleet, &mut dice);
    scenes::bad_lines(&mut fleet, &mut dice);
    scenes::unplugged(&mut fleet, &mut dice, 8);
    scenes::asleep(&mut fleet, &mut dice, 8);
    scenes::late_joiner(&mut fleet, &mut dice, &chain);
    scenes::end(&mut fleet);
    fleet.finish();
}

#[test]
#[ignore = "takes CAIRN_NETWORK_MINUTES"]
fn a_longer_run_of_scenes_at_random() {
    if !space::is_inside("a_longer_run_of_scenes_at_random") {
        return;
    }
    let end = Instant::now() + Duration::from_secs(60 * minutes(10));
    let mut dice = Dice::new(seed());
    let chain = begin("network-longer", SIGNERS, 3_000, 8);
    let mut fleet = Fleet::new("network-longer", SIGNERS, NODES, &lines(), &chain);
    scenes::start(&mut fleet, &chain);
    while Instant::now() < end {
        match dice.below(7) {
            0 => {
                let how = [None, Some(Cut::Reset), Some(Cut::Paused), Some(Cut::Lost)];
                let how = dice.pick(&how);
                scenes::partition(&mut fleet, &mut dice, how, 60);
            }
            1 => scenes::kills(&mut fleet, &mut dice),
            2 => scenes::bad_lines(&mut fleet, &mut dice),
            3 => scenes::unplugged(&mut fleet, &mut dice, 60),
            5 => scenes::outage(&mut fleet, &mut dice),
            4 => scenes::asleep(&mut fleet, &mut dice, 60),
            _ => scenes::late_joiner(&mut fleet, &mut dice, &chain),
        }
    }
    scenes::end(&mut fleet);
    fleet.finish();
}

/// A network of signers alone, most of whom are killed; an even number is cut in halves too.
fn majority(test: &str, signers: usize) {
    if !space::is_inside(test) {
        return;
    }
    let mut dice = Dice::new(seed());
    let name = format!("network-majority-{signers}");
    let chain = begin(&name, signers, 0, 0);
    let lines = signers::mesh(signers);
    let mut fleet = Fleet::new(&name, signers, signers, &lines, &chain);
    signers::start(&mut fleet);
    signers::no_majority(&mut fleet, &mut dice);
    if signers.is_multiple_of(2) {
        signers::halves(&mut fleet, &mut dice);
    }
    signers::tell_reorgs(&mut fleet);
    scenes::end(&mut fleet);
    fleet.finish();
}

#[test]
fn three_signers_stand_still_without_a_majority_and_go_on_with_one() {
    majority(
        "three_signers_stand_still_without_a_majority_and_go_on_with_one",
        3,
    );
}

#[test]
fn four_signers_stand_still_without_a_majority_and_go_on_with_one() {
    majority(
        "four_signers_stand_still_without_a_majority_and_go_on_with_one",
        4,
    );
}

#[test]
fn five_signers_stand_still_without_a_majority_and_go_on_with_one() {
    majority(
        "five_signers_stand_still_without_a_majority_and_go_on_with_one",
        5,
    );
}

#[test]
fn seven_signers_stand_still_without_a_majority_and_go_on_with_one() {
    majority(
        "seven_signers_stand_still_without_a_majority_and_go_on_with_one",
        7,
    );
}

#[test]
#[ignore = "takes CAIRN_NETWORK_MINUTES"]
fn five_signers_go_on_while_one_after_another_is_killed() {
    if !space::is_inside("five_signers_go_on_while_one_after_another_is_killed") {
        return;
    }
    let mut dice = Dice::new(seed());
    let chain = begin("network-kills", 5, 0, 0);
    let mut fleet = Fleet::new("network-kills", 5, 5, &signers::mesh(5), &chain);
    signers::start(&mut fleet);
    let time = Duration::from_secs(60 * minutes(3));
    signers::one_after_another(&mut fleet, &mut dice, time);
    signers::tell_reorgs(&mut fleet);
    scenes::end(&mut fleet);
    fleet.finish();
}
