//! What counts by address, seen from addresses of its own: caps, the rate of handshakes, bans, and those who are trusted. Loopback is
//! exempt from all of them, so each test runs again in a network of its own, in which 203.0.113.0/24 is this machine.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(target_os = "linux")]

mod common;

use std::io::{ErrorKind, Read as _, Write};
use std::net::{IpAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_net::enode::Enode;
use cairn_net::limits::{
    HANDSHAKE_BURST, HANDSHAKES_PER_S, MAX_HELD_STRANGERS, MAX_INBOUND_PER_ADDRESS, RLPX_TIMEOUT_MS,
};
use cairn_net::reactor::ReactorConfig;
use cairn_net::scores::{Ban, Subject};
use common::puppet::{Honest, Puppet, auth, connect_from, hung_up};
use common::steps::*;
use common::*;

const INSIDE: &str = "CAIRN_TEST_NETWORK";

/// Whether this process is in a network of its own. If not, the test is run again in one, if the system gives it.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = |args: &[&str]| {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.arg("--net").args(args);
        command
    };
    let up = "ip link set lo up && ip address add 203.0.113.0/24 dev lo";
    if !unshare(&["sh", "-c", up])
        .output()
        .is_ok_and(|done| done.status.success())
    {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "this system gives no network of its own (unshare, ip)"
        );
        println!("skipped: this system gives no network of its own (unshare, ip)");
        return false;
    }
    let up = format!("{up} && exec \"$@\"");
    let program = std::env::current_exe().unwrap();
    let done = unshare(&["sh", "-c", &up, "sh", program.to_str().unwrap()])
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(done.success(), "{test} in a network of its own");
    false
}

fn ip(last: u8) -> IpAddr {
    [203, 0, 113, last].into()
}

fn config() -> ReactorConfig {
    let mut config = reactor_config(1);
    config.listen = "203.0.113.1:0".parse().unwrap();
    config.max_peers = 500;
    config
}

/// A node that listens there, and one honest peer of it.
fn start(config: ReactorConfig) -> (Node, Honest) {
    let node = Node::start(config);
    let honest = Honest::start(9, (node.addr, node.id), headers_request(), 3);
    node.connected();
    (node, honest)
}

/// A peer at an address.
fn ready(node: &Node, last: u8, key: u8) -> Puppet {
    let mut puppet = Puppet::over(connect_from(ip(last), node.addr), key, node.id);
    puppet.greet();
    puppet.learn_status();
    puppet.say_status(|_| {});
    node.connected();
    puppet
}

fn assert_refused(node: &Node, last: u8) {
    let start = Instant::now();
    assert_eq!(hung_up(connect_from(ip(last), node.addr)), 0);
    let took = start.elapsed();
    assert!(
        took < Duration::from_millis(RLPX_TIMEOUT_MS),
        "{took:?}: at once, not by the clock"
    );
}

/// A node that trusts the one of key 77, at 203.0.113.77.
fn with_trusted() -> ReactorConfig {
    let trusted = Enode {
        id: id(77),
        ip: ip(77),
        tcp: 30303,
        udp: 30303,
    };
    ReactorConfig {
        trusted: vec![trusted],
        ..config()
    }
}

#[test]
fn one_address_has_eight_connections_and_a_trusted_one_as_many_as_it_wants() {
    if !is_inside("one_address_has_eight_connections_and_a_trusted_one_as_many_as_it_wants") {
        return;
    }
    let (node, honest) = start(with_trusted());
    // Half of them peers, half of them silent.
    let mut peers: Vec<Puppet> = (0..4).map(|n| ready(&node, 7, 20 + n)).collect();
    let silent = (peers.len()..MAX_INBOUND_PER_ADDRESS).map(|_| connect_from(ip(7), node.addr));
    let _silent: Vec<TcpStream> = silent.collect();
    for _ in 0..20 {
        assert_refused(&node, 7);
    }
    ready(&node, 8, 30);
    node.gone();
    // With one gone there is room for one.
    peers.pop();
    node.gone();
    let again = ready(&node, 7, 31);
    assert_refused(&node, 7);
    let trusted: Vec<Puppet> = (0..20).map(|n| ready(&node, 77, 40 + n)).collect();
    let count = trusted.len() + peers.len() + 1;
    drop((trusted, peers, again));
    (0..count).for_each(|_| drop(node.gone()));
    over(&node, honest, "connections of one address");
}

#[test]
fn after_a_burst_handshakes_begin_at_their_rate() {
    if !is_inside("after_a_burst_handshakes_begin_at_their_rate") {
        return;
    }
    let (node, honest) = start(config());
    const COUNT: u64 = HANDSHAKE_BURST + MAX_HELD_STRANGERS as u64 - 8; // the honest one is one of them
    let auths: Vec<_> = (0..COUNT)
        .map(|n| auth(1 + (n % 250) as u8, node.id).1)
        .collect();
    let start = Instant::now();
    let dial = |(n, auth): (usize, &Vec<u8>)| {
        let mut stream = connect_from(ip(10 + (n % 200) as u8), node.addr);
        stream.write_all(auth).unwrap();
        stream
    };
    let streams: Vec<TcpStream> = auths.iter().enumerate().map(dial).collect();
    let dialled = start.elapsed();
    // Who is accepted is given an ack: so many were, and when.
    let acks: Vec<Duration> = streams
        .into_iter()
        .map(|mut stream| {
            stream.read_exact(&mut [0; 2]).unwrap();
            start.elapsed()
        })
        .collect();
    // The honest one's is among the burst.
    let (burst, last) = (
        acks[HANDSHAKE_BURST as usize - 10],
        acks[COUNT as usize - 1],
    );
    println!("the burst after {burst:?}, the last after {last:?}");
    let waited = Duration::from_millis((COUNT - HANDSHAKE_BURST) * 1000 / HANDSHAKES_PER_S);
    assert!(last >= waited - Duration::from_millis(20), "{last:?}");
    assert!(last < waited + Duration::from_secs(4), "{last:?}");
    // At the rate alone the burst would have taken so long.
    let at_the_rate = Duration::from_millis((HANDSHAKE_BURST - 10) * 1000 / HANDSHAKES_PER_S);
    assert!(burst < dialled + at_the_rate, "{burst:?}");
    over(&node, honest, "a flood of handshakes");
}

#[test]
fn of_a_flood_of_strangers_some_wait_and_some_are_closed_and_a_trusted_nodes_address_does_not_wait()
{
    if !is_inside(
        "of_a_flood_of_strangers_some_wait_and_some_are_closed_and_a_trusted_nodes_address_does_not_wait",
    ) {
        return;
    }
    let (node, honest) = start(with_trusted());
    let auths: Vec<Vec<u8>> = (1..50).map(|key| auth(key, node.id).1).collect();
    let mut waiting: Vec<TcpStream> = Vec::new();
    let mut dialled = 0;
    // They come until one is closed: then as many wait as may, and whom the rate lets in waits behind all of them.
    let mut flood = |waiting: &mut Vec<TcpStream>| {
        let mut is_closed = false;
        let start = Instant::now();
        while !is_closed {
            assert!(start.elapsed() < 2 * PATIENCE, "nobody is closed");
            if waiting.len() > 500 {
                // We are far ahead of the node, and have no more descriptors than it.
                std::thread::sleep(Duration::from_millis(20));
            }
            let more = if waiting.len() > 500 { 0 } else { 16 };
            for _ in 0..more {
                let mut stream = connect_from(ip(100 + (dialled % 150) as u8), node.addr);
                let _ = stream.write_all(&auths[dialled % auths.len()]); // who is closed may hear of it already
                stream.set_nonblocking(true).unwrap();
                waiting.push(stream);
                dialled += 1;
            }
            waiting.retain(|stream| match stream.peek(&mut [0]) {
                Ok(1..) => false, // it has had its ack
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Ok(0) | Err(_) => {
                    is_closed = true;
                    false
                }
            });
        }
    };
    // A machine that holds one of us up for longer than a stranger waits shows nothing: then once more.
    let mut judged = false;
    let is_before = (0..10).any(|n| {
        let pulse = Pulse::start();
        flood(&mut waiting);
        drop(ready(&node, 77, 200 + n));
        node.gone();
        judged |= pulse.stop() < Duration::from_millis(100);
        // All that came before it have been accepted: they had their ack, are closed, or wait.
        let is_waiting = |stream: &TcpStream| matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        waiting.retain(is_waiting);
        println!("{} wait behind the trusted one", waiting.len());
        !waiting.is_empty()
    });
    assert!(is_before || !judged, "it came last and was served last");
    println!("{dialled} were dialled");
    over(&node, honest, "a flood of strangers");
}

#[test]
fn an_address_that_sends_garbage_is_banned_and_its_neighbours_are_not() {
    if !is_inside("an_address_that_sends_garbage_is_banned_and_its_neighbours_are_not") {
        return;
    }
    let (node, honest) = start(with_trusted());
    // An auth that nobody can have made for this node: a tenth of a ban each time.
    let garbage = |last| {
        let mut stream = connect_from(ip(last), node.addr);
        let _ = stream.write_all(&[&[0x01, 0x90][..], &noise(0x190)].concat());
        assert_eq!(hung_up(stream), 0);
    };
    for _ in 0..9 {
        garbage(66);
    }
    ready(&node, 66, 20);
    node.gone();
    garbage(66);
    assert_refused(&node, 66);
    let bans = node.handle.bans();
    let [Ban { subject, count, .. }] = bans[..] else {
        panic!("{bans:?}")
    };
    assert_eq!((subject, count), (Subject::Address(ip(66)), 1));
    ready(&node, 67, 21);
    node.gone();
    // Whom the operator trusts is never banned.
    for _ in 0..30 {
        garbage(77);
    }
    ready(&node, 77, 22);
    node.gone();
    assert_eq!(node.handle.bans(), bans);
    over(&node, honest, "garbage of one address");
    node.stop();
    // The ban outlives the node.
    let mut config = config();
    config.bans = bans;
    let (node, honest) = start(config);
    assert_refused(&node, 66);
    ready(&node, 67, 23);
    node.gone();
    over(&node, honest, "a ban of before");
}

/// How late this machine lets a thread go on that slept.
struct Pulse {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Pulse {
    fn start() -> Pulse {
        const BEAT: Duration = Duration::from_millis(5);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut latest = Duration::ZERO;
            while !stopped.load(Ordering::SeqCst) {
                let begun = Instant::now();
                std::thread::sleep(BEAT);
                latest = latest.max(begun.elapsed() - BEAT);
            }
            latest
        });
        Pulse { stop, thread }
    }

    /// The latest it was.
    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}
