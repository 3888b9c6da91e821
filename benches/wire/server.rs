//! The server, in a process of its own: a reactor on a net thread with the node's serving code over a store, as `src/node.rs` wires
//! them. It says what it costs when asked.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use alloy_eip2124::{ForkFilter, Head};
use cairn::serve::Server;
use cairn_net::enode::NodeId;
use cairn_net::eth::message::Request;
use cairn_net::eth::status::LocalChain;
use cairn_net::limits::SOFT_ANSWER_BYTES;
use cairn_net::reactor::{NetEvent, Reactor, ReactorConfig, Reply, Service};
use cairn_net::rlpx;
use cairn_net::session::{self, PeerInfo};
use cairn_store::{Reader, Snapshot};
use rustix::process::{Resource, getrlimit, setrlimit};
use secp256k1::SecretKey;

use crate::{chain, machine};

const MOST_PEERS: usize = 10_000;

fn key() -> SecretKey {
    SecretKey::from_slice(&[7; 32]).unwrap()
}

/// What both sides say of the chain.
pub(crate) fn local_chain(snapshot: &Snapshot) -> LocalChain {
    let (head, genesis) = (snapshot.head(), snapshot.genesis_hash());
    LocalChain {
        network_id: 1337,
        genesis,
        fork_filter: ForkFilter::new(Head::default(), genesis, 0, []),
        head_number: head.number,
        head: head.hash,
        td: head.td,
        earliest: 0,
    }
}

/// The whole life of the child: `how` is "ready", the node's own code, or "again".
pub(crate) fn run(how: &str, dir: &Path) {
    raise_descriptors();
    cairn::logging::start(3); // to standard error, as the node's default
    let reader = Reader::open(&chain::store(dir)).unwrap();
    let config = ReactorConfig {
        session: session::Config::new(
            key(),
            "cairn/bench".into(),
            0,
            cairn_net::eth::VERSIONS.to_vec(),
        ),
        listen: "127.0.0.1:0".parse().unwrap(),
        max_peers: MOST_PEERS,
        statics: vec![],
        trusted: vec![],
        bans: vec![],
        chain: local_chain(&reader.snapshot()),
    };
    let (reactor, handle) = Reactor::bind(config).unwrap();
    println!("{}", reactor.local_addr());
    let (events_in, events) = crossbeam_channel::bounded(16);
    let mut server = Server::new(reader.clone(), events_in, Default::default());
    let mut again = Again { reader };
    let is_again = how == "again";
    std::thread::spawn(move || match is_again {
        true => reactor.run(&mut again).unwrap(),
        false => reactor.run(&mut server).unwrap(),
    });
    // Sync's place: it takes what comes.
    std::thread::spawn(move || while events.recv().is_ok() {});
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "cpu" => println!("{}", machine::cpu().as_nanos()),
            "rss" => println!("{}", machine::anon_kib()),
            other => panic!("{other}"),
        }
    }
    drop(handle);
}

/// Our best path that decompresses what is kept and compresses it again: the snapshot's own reads, one buffer, one message.
struct Again {
    reader: Reader,
}

impl Service for Again {
    fn answer(&mut self, _: &PeerInfo, _: u64, request: &Request, reply: &mut Reply<'_>) {
        let Request::Bodies { hashes } = request else {
            return;
        };
        let chain = self.reader.snapshot();
        let mut raw = Vec::with_capacity(2 * SOFT_ANSWER_BYTES);
        let mut next = None;
        for hash in hashes {
            let number = match next {
                Some(number) if chain.hash(number).unwrap() == Some(*hash) => number,
                _ => chain.number(hash).unwrap().unwrap(),
            };
            next = Some(number + 1);
            raw.extend_from_slice(&chain.body(number).unwrap().unwrap());
            if raw.len() >= SOFT_ANSWER_BYTES {
                break;
            }
        }
        reply.bodies(&[&raw]);
    }

    fn offer(&mut self, _: NetEvent) -> Result<(), NetEvent> {
        Ok(())
    }
}

/// A child process that is told what to do line by line.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    pub(crate) addr: SocketAddr,
}

impl Process {
    /// Runs this program again with these arguments; the first line it says is an address.
    pub(crate) fn start(args: &[&str], dir: &Path) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(args)
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        Process {
            stdin: child.stdin.take(),
            child,
            stdout,
            addr: line.trim().parse().unwrap(),
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    pub(crate) fn answer(&mut self) -> u64 {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }

    /// CPU time so far.
    pub(crate) fn cpu(&mut self) -> Duration {
        self.tell("cpu");
        Duration::from_nanos(self.answer())
    }

    /// Its RssAnon once it has nothing to do.
    pub(crate) fn settled_rss_kib(&mut self) -> u64 {
        let mut before = self.cpu();
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = self.cpu();
            if now - before < Duration::from_millis(2) {
                self.tell("rss");
                return self.answer();
            }
            before = now;
        }
    }

    /// The node to dial.
    pub(crate) fn node(&self) -> (SocketAddr, NodeId) {
        (self.addr, rlpx::node_id(&key()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None;
        // It may wait for a peer that never comes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets this process open as many sockets as it may.
pub(crate) fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
