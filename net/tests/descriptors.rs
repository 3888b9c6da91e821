//! A node out of file descriptors: alone in its process, because the limit is the process's.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use cairn_net::limits::ACCEPT_PAUSE_MS;
use common::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// CPU time of this process: the fields utime and stime of proc(5), a hundredth of a second each.
fn cpu_ms(stat: &File) -> u64 {
    let mut text = [0; 1024];
    let len = stat.read_at(&mut text, 0).unwrap();
    let stat = std::str::from_utf8(&text[..len]).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap());
    ticks.sum::<u64>() * 10
}

#[test]
fn without_descriptors_the_node_waits_without_spinning_and_then_goes_on() {
    let a = Node::start(reactor_config(1));
    let mut healthy = Bare::dial(3, &a).unwrap();
    let stat = File::open("/proc/self/stat").unwrap();
    let before = getrlimit(Resource::Nofile);
    // As many as are open, and two: the client's end of each connection takes one, the node's another.
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(open + 2),
            ..before
        },
    )
    .unwrap();
    let start = Instant::now();
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect(a.addr) {
        clients.push(client);
    }
    eventually("it says so", || {
        !log_lines("Cannot accept connections for now").is_empty()
    });
    let cpu_before_ms = cpu_ms(&stat);
    std::thread::sleep(Duration::from_millis(1200));
    let used_ms = cpu_ms(&stat) - cpu_before_ms;
    assert!(
        used_ms < 200,
        "{used_ms} ms of CPU in 1200 ms of nothing to do"
    );
    // One when it happens, and one after each pause.
    let lines = log_lines("Cannot accept connections for now").len() as u64;
    let pauses = start.elapsed().as_millis() as u64 / ACCEPT_PAUSE_MS;
    assert!(lines <= 1 + pauses, "{lines} lines, {pauses} pauses");
    healthy.assert_served();

    setrlimit(Resource::Nofile, before).unwrap();
    drop(clients);
    Bare::dial(4, &a).unwrap().assert_served();
}
