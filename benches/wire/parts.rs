//! What is measured, part by part.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use cairn_net::eth::message::{Message, Request, Start};
use cairn_net::keccak::keccak256;

use crate::chain::{BLOCKS, Chain, FULL};
use crate::client::Client;
use crate::curve;
use crate::server::Process;
use crate::table::{Samples, Table};

const IN_FLIGHT: usize = 16;
/// Bodies that a request names: what geth asks for at the most.
const BODIES: usize = 128;
/// Answers between two looks at the clock: short, so that what else the machine does falls on both sides.
const BODY_ANSWERS: usize = 48;
const HEADERS: usize = 1024;
const HEADER_ANSWERS: usize = 128;
const SINGLES: usize = 12_000;
const HANDSHAKES: u32 = 100;
const SESSIONS: usize = 1000;
const CROWD: usize = 100;

/// The first header of the request of this index.
pub(crate) fn first_header(at: usize) -> u64 {
    256 + (at as u64 * 997) % (BLOCKS - 256 - HEADERS as u64) // numbers of two bytes: requests are as long as each other
}

/// Lets the ceiling send, and gives its nanoseconds.
fn reach(ceiling: &mut Process, stream: &mut TcpStream, order: &str) -> u64 {
    ceiling.tell(order);
    let mut left = ceiling.answer() as usize;
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let most = left.min(buffer.len());
        let came = stream.read(&mut buffer[..most]).unwrap();
        assert!(came > 0);
        left -= came;
    }
    ceiling.answer()
}

fn s_per_gb(cpu: Duration, bytes: usize) -> f64 {
    cpu.as_secs_f64() / (bytes as f64 / 1e9)
}

pub(crate) fn bodies(dir: &Path, chain: &Chain, rounds: usize, table: &mut Table) {
    let requests: Vec<Request> = (0..64)
        .map(|at| {
            let first = 1 + (at as usize * 31) % (FULL as usize - BODIES);
            let hashes = chain.hashes[first..first + BODIES].to_vec();
            Request::Bodies { hashes }
        })
        .collect();
    let raw = std::cell::Cell::new(0);
    let check = |_: &Request, message: Message| {
        let Message::Bodies { bodies, .. } = message else {
            panic!("{message:?}");
        };
        raw.set(raw.get() + bodies.iter().map(|body| body.len()).sum::<usize>());
        assert!((30..40).contains(&bodies.len()), "{}", bodies.len());
    };
    let mut ready = Process::start(&["serve", "ready"], dir);
    let mut again = Process::start(&["serve", "again"], dir);
    let mut ceiling = Process::start(&["ceiling"], dir);
    let mut ceiling_stream = TcpStream::connect(ceiling.addr).unwrap();
    let mut ready_peer = Client::dial(ready.node());
    let mut again_peer = Client::dial(again.node());
    let ready_lengths = ready_peer.learn(&requests, check);
    let raw_each = raw.take() / requests.len();
    let again_lengths = again_peer.learn(&requests, check);
    let wire_each = ready_lengths.iter().sum::<usize>() / requests.len();
    let raw_all = BODY_ANSWERS * raw_each;
    let [mut own, mut other, mut floor] = [const { Samples::new() }; 3];
    for _ in 0..rounds {
        let before = ready.cpu();
        ready_peer.run(&requests, &ready_lengths, BODY_ANSWERS, IN_FLIGHT, true);
        own.push(s_per_gb(ready.cpu() - before, raw_all));
        let order = format!("bodies {wire_each} {BODY_ANSWERS}");
        let nanos = reach(&mut ceiling, &mut ceiling_stream, &order);
        floor.push(s_per_gb(Duration::from_nanos(nanos), raw_all));
        let before = again.cpu();
        again_peer.run(&requests, &again_lengths, BODY_ANSWERS, IN_FLIGHT, true);
        other.push(s_per_gb(again.cpu() - before, raw_all));
    }
    let part = "bodies: 128 asked, cut at 2 MiB, 16 in flight";
    let ratio = wire_each as f64 / raw_each as f64;
    table.row(
        &format!("{part} (compressed to {ratio:.2}), CPU s per GB"),
        &own,
        Some(("AES, MAC, send", &floor)),
        "90 %, 2.0 s",
    );
    table.row(
        "the same, decompressed and compressed again",
        &other,
        Some(("AES, MAC, send", &floor)),
        &format!("1.5 times the row above: {:.2}", other.over(&own)),
    );
}

/// Several peers at once, each on its own thread: what the net thread spends.
pub(crate) fn several(dir: &Path, chain: &Chain, rounds: usize, table: &mut Table) {
    let mut ready = Process::start(&["serve", "ready"], dir);
    let raw = std::sync::atomic::AtomicUsize::new(0);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    let mut peers: Vec<(Client, Vec<Request>, Vec<usize>)> = (0..8)
        .map(|n| {
            let requests: Vec<Request> = (0..16)
                .map(|at| {
                    let first = 1 + ((n * 16 + at) * 31) % (FULL as usize - BODIES);
                    let hashes = chain.hashes[first..first + BODIES].to_vec();
                    Request::Bodies { hashes }
                })
                .collect();
            let mut peer = Client::dial(ready.node());
            let lengths = peer.learn(&requests, |_, message| {
                let Message::Bodies { bodies, .. } = message else {
                    panic!("{message:?}");
                };
                raw.fetch_add(bodies.iter().map(|body| body.len()).sum(), relaxed);
            });
            (peer, requests, lengths)
        })
        .collect();
    let raw_each = raw.load(relaxed) / 128;
    let counts = [1, 2, 4, 8];
    let mut samples = [const { Samples::new() }; 4];
    for _ in 0..rounds {
        for (count, samples) in counts.iter().zip(&mut samples) {
            let before = ready.cpu();
            std::thread::scope(|scope| {
                for (peer, requests, lengths) in &mut peers[..*count] {
                    scope.spawn(|| {
                        peer.run(requests, lengths, BODY_ANSWERS / count, IN_FLIGHT, true);
                    });
                }
            });
            samples.push(s_per_gb(ready.cpu() - before, BODY_ANSWERS * raw_each));
        }
    }
    for (count, own) in counts.iter().zip(&samples) {
        let alone = (*count > 1).then_some(("one peer", &samples[0]));
        let what = format!("bodies to several peers at once: {count}, CPU s per GB");
        table.row(&what, own, alone, "");
    }
}

fn header_requests(count: usize, amount: u64) -> Vec<Request> {
    (0..count)
        .map(|at| Request::Headers {
            start: Start::Number(first_header(at)),
            amount,
            skip: 0,
            reverse: false,
        })
        .collect()
}

pub(crate) fn headers(dir: &Path, chain: &Chain, rounds: usize, table: &mut Table) {
    let requests = header_requests(HEADER_ANSWERS, HEADERS as u64);
    let raw = std::cell::Cell::new(0);
    let check = |request: &Request, message: Message| {
        let Message::Headers { headers, .. } = message else {
            panic!("{message:?}");
        };
        raw.set(raw.get() + headers.iter().map(|header| header.len()).sum::<usize>());
        check_headers(chain, request, &headers, HEADERS);
    };
    let mut ready = Process::start(&["serve", "ready"], dir);
    let mut ceiling = Process::start(&["ceiling"], dir);
    let mut ceiling_stream = TcpStream::connect(ceiling.addr).unwrap();
    let mut peer = Client::dial(ready.node());
    let lengths = peer.learn(&requests, check);
    let raw_each = raw.get() / requests.len();
    let wire_each = lengths.iter().sum::<usize>() / requests.len();
    let raw_all = HEADER_ANSWERS * raw_each;
    let [mut own, mut floor] = [const { Samples::new() }; 2];
    for _ in 0..rounds {
        let before = ready.cpu();
        peer.run(&requests, &lengths, HEADER_ANSWERS, IN_FLIGHT, true);
        own.push(s_per_gb(ready.cpu() - before, raw_all));
        let order = format!("headers 0 {HEADERS} {HEADER_ANSWERS}");
        let nanos = reach(&mut ceiling, &mut ceiling_stream, &order);
        floor.push(s_per_gb(Duration::from_nanos(nanos), raw_all));
    }
    let ratio = wire_each as f64 / raw_each as f64;
    table.row(
        &format!("1,024 headers a request, 16 in flight (compressed to {ratio:.2}), CPU s per GB"),
        &own,
        Some(("snappy, AES, MAC, send", &floor)),
        "80 %",
    );
}

fn check_headers(chain: &Chain, request: &Request, headers: &[bytes::Bytes], count: usize) {
    let Request::Headers {
        start: Start::Number(first),
        ..
    } = request
    else {
        panic!("{request:?}");
    };
    assert_eq!(headers.len(), count);
    for (header, number) in headers.iter().zip(*first as usize..) {
        assert_eq!(keccak256(header), chain.hashes[number], "header {number}");
    }
}

pub(crate) fn single_headers(dir: &Path, chain: &Chain, rounds: usize, table: &mut Table) {
    let requests = header_requests(256, 1);
    let mut ready = Process::start(&["serve", "ready"], dir);
    let mut peer = Client::dial(ready.node());
    let lengths = peer.learn(&requests, |request, message| {
        let Message::Headers { headers, .. } = message else {
            panic!("{message:?}");
        };
        check_headers(chain, request, &headers, 1);
    });
    let patterns = [
        ("16 in flight", 16, true, "8 us"),
        ("16 in flight, a write for each request", 16, false, ""),
        ("1 in flight", 1, true, ""),
    ];
    let mut ceiling = Process::start(&["ceiling"], dir);
    let mut other = Client::dial(ready.node());
    let request_bytes = other.request_bytes(&requests);
    other.divert(TcpStream::connect(ceiling.addr).unwrap());
    let answer_bytes = lengths.iter().sum::<usize>() / lengths.len();
    let mut samples = [const { [const { Samples::new() }; 2] }; 3];
    let us = |cpu: Duration| cpu.as_secs_f64() * 1e6 / SINGLES as f64;
    for _ in 0..rounds {
        for ((_, in_flight, in_one_write, _), [own, floor]) in patterns.iter().zip(&mut samples) {
            let before = ready.cpu();
            peer.run(&requests, &lengths, SINGLES, *in_flight, *in_one_write);
            own.push(us(ready.cpu() - before));
            ceiling.tell(&format!("singles {request_bytes} {answer_bytes} {SINGLES}"));
            let lengths = [answer_bytes];
            other.run(&requests, &lengths, SINGLES, *in_flight, *in_one_write);
            floor.push(us(Duration::from_nanos(ceiling.answer())));
        }
    }
    for ((name, .., aim), [own, floor]) in patterns.iter().zip(&samples) {
        table.row(
            &format!("1 header a request, {name}, CPU us each"),
            own,
            Some(("read, AES, MACs both ways, send", floor)),
            aim,
        );
    }
}

pub(crate) fn handshakes(dir: &Path, _: &Chain, rounds: usize, table: &mut Table) {
    let mut ready = Process::start(&["serve", "ready"], dir);
    let [mut curves, mut alone, mut whole] = [const { Samples::new() }; 3];
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    for _ in 0..rounds {
        curves.push(us(curve::operations(HANDSHAKES)));
        alone.push(us(curve::recipient(HANDSHAKES)));
        let before = ready.cpu();
        for _ in 0..HANDSHAKES {
            drop(Client::dial(ready.node()));
        }
        whole.push(us((ready.cpu() - before) / HANDSHAKES));
    }
    let name = format!(
        "{} agreements, {} recovery, {} keys",
        curve::AGREEMENTS,
        curve::RECOVERIES,
        curve::KEYS
    );
    table.row(
        "auth and ack as the recipient, CPU us",
        &alone,
        Some((&name, &curves)),
        "80 %, 300 us",
    );
    table.row(
        "a connection from accept over Hello and Status to its end, CPU us",
        &whole,
        Some((&name, &curves)),
        "80 %, 300 us",
    );
}

pub(crate) fn idle(dir: &Path, _: &Chain, _: usize, table: &mut Table) {
    let mut ready = Process::start(&["serve", "ready"], dir);
    let _first: Vec<Client> = (0..10).map(|_| Client::dial(ready.node())).collect();
    let before = ready.settled_rss_kib();
    let peers: Vec<Client> = (0..SESSIONS).map(|_| Client::dial(ready.node())).collect();
    let after = ready.settled_rss_kib();
    let mut samples = Samples::new();
    samples.push((after - before) as f64 / peers.len() as f64);
    table.row(
        "1,000 idle sessions, RssAnon of the server in KiB each",
        &samples,
        None,
        "16 KiB",
    );
}

pub(crate) fn in_flight(dir: &Path, chain: &Chain, _: usize, table: &mut Table) {
    let mut ready = Process::start(&["serve", "ready"], dir);
    let request = Request::Bodies {
        hashes: chain.hashes[1..=36].to_vec(),
    };
    let mut peers: Vec<Client> = (0..CROWD).map(|_| Client::dial(ready.node())).collect();
    let lengths: Vec<usize> = peers
        .iter_mut()
        .flat_map(|peer| peer.learn(std::slice::from_ref(&request), |_, _| {}))
        .collect();
    let before = ready.settled_rss_kib();
    for peer in &mut peers {
        peer.ask(&request, 100);
    }
    let after = ready.settled_rss_kib();
    // Each is served on.
    for (peer, length) in peers.iter_mut().zip(&lengths) {
        peer.drain(8 * length);
    }
    let later = ready.settled_rss_kib();
    let mut samples = Samples::new();
    samples.push((after.max(later).saturating_sub(before)) as f64 / 1024.0);
    table.row(
        "10,000 requests for 2 MiB of bodies in flight over 100 sessions that do not read, RssAnon in MiB",
        &samples,
        None,
        "bounded",
    );
}
