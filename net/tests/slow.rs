//! Peers that take their time, over loopback: whoever trickles or does not read is ended by the clock, whoever is only slow is not, and
//! an honest peer is served all the while.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use cairn_net::enode::Enode;
use cairn_net::eth::message::Message;
use cairn_net::fault::Cause;
use cairn_net::limits::{DIAL_TIMEOUT_MS, MAX_DIALS, WRITE_STALL_MS};
use cairn_net::p2p::DisconnectReason;
use cairn_net::reactor::{Command, NetEvent};
use cairn_net::rlpx::frame::HEADER_BYTES;
use cairn_net::session::Close;
use common::puppet::{End, Puppet, auth, connect, hung_up};
use common::steps::*;
use common::*;

#[test]
fn a_peer_that_trickles_is_ended_by_the_clock_at_every_step() {
    let (node, target, honest) = watched(61);
    const EACH: Duration = Duration::from_millis(100);
    // Counted from before the node's clock can begin to run; each byte is one more beginning if the clock is wrong, and there are bytes
    // for longer than that.
    let five = Duration::from_secs(5) - TICK..Duration::from_secs(20);
    let thirty = Duration::from_secs(30) - TICK..Duration::from_secs(50);
    let timeout = End::Told(DisconnectReason::Timeout);
    // The node dials a listener whose ack comes byte by byte.
    let dialled = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    node.send(Command::AddStatic(Enode {
        id: id(62),
        ip: addr.ip(),
        tcp: addr.port(),
        udp: 0,
    }));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            let stream = connect(target.0);
            assert_eq!(hung_up(stream), 0);
            assert!(
                five.contains(&start.elapsed()),
                "TCP: {:?}",
                start.elapsed()
            );
        });
        scope.spawn(|| {
            let start = Instant::now();
            let mut stream = connect(target.0);
            let (_, auth) = auth(3, target.1);
            let reader = stream.try_clone().unwrap();
            scope.spawn(move || {
                for byte in auth {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(EACH);
                }
            });
            assert_eq!(hung_up(reader), 0);
            assert!(
                five.contains(&start.elapsed()),
                "auth: {:?}",
                start.elapsed()
            );
        });
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let reader = stream.try_clone().unwrap();
            scope.spawn(move || {
                for byte in [0x01, 0xea, 0x04].into_iter().chain(std::iter::repeat(7)) {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(EACH);
                }
            });
            assert!(hung_up(reader) > 0, "its auth");
            assert!(
                five.contains(&dialled.elapsed()),
                "ack: {:?}",
                dialled.elapsed()
            );
        });
        for (n, (step, within)) in [
            (Step::Hello, &five),
            (Step::Status, &five),
            (Step::Ready, &thirty),
        ]
        .into_iter()
        .enumerate()
        {
            // The header of a frame, and of its body a byte at a time; or the header itself in more time than there is.
            for (key, whole, each) in [
                (4, HEADER_BYTES, EACH),
                (14, HEADER_BYTES / 2, Duration::from_millis(2_500)),
            ] {
                let key = key + n as u8;
                scope.spawn(move || {
                    let start = Instant::now();
                    let mut puppet = step.reach(key, target);
                    let mut wire = puppet.sealed(&noise(2000));
                    let rest = wire.split_off(whole);
                    puppet.write(&wire);
                    let end = puppet.trickle(&rest, each);
                    let took = start.elapsed();
                    assert_eq!(end, timeout, "{step:?}, {whole} bytes");
                    assert!(within.contains(&took), "{step:?}, {whole} bytes: {took:?}");
                });
            }
        }
    });
    let events: Vec<NetEvent> = (0..4).map(|_| node.event()).collect();
    let gone =
        |event: &&NetEvent| matches!(event, NetEvent::Gone { close, .. } if is_silence(close));
    assert_eq!(events.iter().filter(gone).count(), 2, "{events:?}");
    assert_eq!(node.handle.bans(), [], "slowness is no fault");
    over(&node, honest, "slow peers");
}

fn is_silence(close: &Close) -> bool {
    matches!(
        close,
        Close::Local {
            cause: Cause::Silence,
            ..
        }
    )
}

#[test]
fn a_peer_that_reads_nothing_is_given_up_after_half_a_minute_and_one_that_reads_slowly_is_kept() {
    let (node, target, honest) = watched(71);
    const ANSWERS: u64 = 20;
    let mut mute = Puppet::ready(3, target);
    let (of_mute, _) = node.connected();
    let mut slow = Puppet::ready(4, target);
    node.connected();
    let start = Instant::now();
    for puppet in [&mut mute, &mut slow] {
        // Little is on the way, so that the node soon waits for what is read.
        rustix::net::sockopt::set_socket_recv_buffer_size(&puppet.stream, 64 << 10).unwrap();
        for id in 0..ANSWERS {
            puppet.request(id, &bodies_request());
        }
    }
    let mut piece = vec![0; 32 << 10];
    // The slow one outlasts the time that is given to the other.
    let stall = Duration::from_millis(WRITE_STALL_MS);
    let mut gone = None;
    while gone.is_none() || start.elapsed() < stall + Duration::from_secs(5) {
        assert!(start.elapsed() < stall + PATIENCE, "none was given up");
        let len = slow.stream.read(&mut piece).unwrap();
        assert!(len > 0, "hung up after {:?}", start.elapsed());
        slow.early.extend(&piece[..len]);
        std::thread::sleep(Duration::from_millis(250));
        if let Ok(event) = node.events.try_recv() {
            assert!(gone.replace((event, start.elapsed())).is_none());
        }
    }
    let Some((NetEvent::Gone { peer, close }, after)) = gone else {
        panic!("{gone:?}");
    };
    assert_eq!(peer, of_mute);
    assert!(is_silence(&close), "{close:?}");
    assert!(after >= stall - TICK, "given up after {after:?}");
    assert!(slow.early.len() < BODY_BYTES * 4, "it was slow");
    // It reads on, faster, and everything comes.
    for id in 0..ANSWERS {
        let Some(Message::Bodies { id: found, bodies }) = slow.message() else {
            panic!("no answer {id}");
        };
        assert!(found == id && bodies[0] == body());
    }
    assert_eq!(node.handle.bans(), []);
    drop(slow);
    node.gone();
    over(&node, honest, "slow readers");
}

#[test]
fn dials_that_nobody_answers_are_bounded_and_given_up_one_after_the_other() {
    let (node, target, honest) = watched(72);
    // What a listener's full queue has no room for is not answered at all.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let addr = listener.local_addr().unwrap();
    let _queued = [connect(addr), connect(addr)];
    const NODES: u8 = 40;
    let start = Instant::now();
    for n in 0..NODES {
        node.send(Command::AddStatic(Enode {
            id: id(180 + n),
            ip: addr.ip(),
            tcp: addr.port(),
            udp: 0,
        }));
    }
    // proc(5), net/tcp: the addresses, then the state, of which 2 is SYN_SENT.
    let to = format!(":{:04X} 02 ", addr.port());
    let dialling = || {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let dials = table.lines().filter(|line| line.contains(&to));
        // By our end: the table is no snapshot, and may tell of one several times.
        let ours = dials.map(|line| line.split_whitespace().nth(1).unwrap());
        ours.collect::<HashSet<_>>().len()
    };
    eventually("dials are under way", || dialling() > 0);
    let failed = || log_lines("no answer").len();
    let timeout = Duration::from_millis(DIAL_TIMEOUT_MS);
    let mut most = 0;
    while failed() == 0 {
        assert!(start.elapsed() < timeout + PATIENCE, "none was given up");
        let now = dialling();
        // With the first failure others begin.
        if failed() == 0 {
            most = most.max(now);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(most, MAX_DIALS);
    assert!(
        start.elapsed() >= timeout - TICK,
        "given up after {:?}",
        start.elapsed()
    );
    // The next have their turn.
    eventually("others are dialled", || dialling() > 0);
    Puppet::ready(3, target);
    assert_gone(&node, Step::Ready);
    over(&node, honest, "dials");
}
