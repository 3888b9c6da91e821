//! Nodes with a scripted service, and a bare peer on a blocking socket, for tests over loopback.
#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

pub mod puppet;
pub mod steps;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use alloy_eip2124::{ForkFilter, Head};
use alloy_primitives::{B256, U256};
use cairn_net::enode::{Enode, NodeId};
use cairn_net::eth::message::{Outgoing, Request, Start};
use cairn_net::eth::status::LocalChain;
use cairn_net::p2p::DisconnectReason;
use cairn_net::reactor::{
    Command, Handle, NetEvent, OwnedOutgoing, PeerId, Reactor, ReactorConfig, Reply, SendError,
    Service,
};
use cairn_net::session::{Close, Config, NotReady, PeerInfo, Role, Session, SessionEvent};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use secp256k1::{PublicKey, Secp256k1, SecretKey};

/// A test that waits longer than this has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A node's clock counts whole milliseconds: what must not come before its time may seem to by so much.
pub const TICK: Duration = Duration::from_millis(2);

pub const BODY_BYTES: usize = 2 << 20;

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).unwrap()
}

pub fn id(n: u8) -> NodeId {
    NodeId::from_public_key(&PublicKey::from_secret_key(
        &Secp256k1::signing_only(),
        &key(n),
    ))
}

pub fn chain() -> LocalChain {
    let genesis = B256::repeat_byte(1);
    LocalChain {
        network_id: 1337,
        genesis,
        fork_filter: ForkFilter::new(Head::default(), genesis, 0, []),
        head_number: 9,
        head: B256::repeat_byte(9),
        td: U256::from(19),
        earliest: 0,
    }
}

pub fn session_config(n: u8) -> Config {
    Config::new(
        key(n),
        format!("test/{n}"),
        0,
        cairn_net::eth::VERSIONS.to_vec(),
    )
}

pub fn reactor_config(n: u8) -> ReactorConfig {
    ReactorConfig {
        session: session_config(n),
        listen: "127.0.0.1:0".parse().unwrap(),
        max_peers: 50,
        statics: vec![],
        trusted: vec![],
        bans: vec![],
        chain: chain(),
    }
}

/// A body of [`BODY_BYTES`] that snappy cannot make smaller: an RLP list with one long string in it.
pub fn body() -> &'static [u8] {
    static BODY: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let string = BODY_BYTES - 8;
        let mut body = vec![0xfa];
        body.extend_from_slice(&(BODY_BYTES as u32 - 4).to_be_bytes()[1..]);
        body.push(0xba);
        body.extend_from_slice(&(string as u32).to_be_bytes()[1..]);
        let mut x = 88172645463325252u64;
        while body.len() < BODY_BYTES {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            body.push(x as u8);
        }
        body
    });
    &BODY
}

/// Answers headers with three of one byte, and each requested body with [`body`]; gives its events to a channel.
pub struct Script {
    events: Sender<NetEvent>,
    pub answers: Arc<AtomicU64>,
    /// Times that an event was given back.
    pub refusals: Arc<AtomicU64>,
    gate: Arc<Mutex<()>>,
}

impl Service for Script {
    fn answer(&mut self, _peer: &PeerInfo, _id: u64, request: &Request, reply: &mut Reply<'_>) {
        self.answers.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().unwrap());
        match request {
            Request::Headers { .. } => reply.headers(&[&[0xc1, 1], &[0xc1, 2, 0xc1, 3]]),
            Request::Bodies { hashes } if hashes.is_empty() => {}
            Request::Bodies { .. } => reply.bodies(&[body()]),
            // More than a message may have.
            Request::Receipts { hashes, .. } if hashes.len() > 1 => reply.receipts(&[body(); 6]),
            Request::Receipts { .. } | Request::BlockAccessLists { .. } => {}
        }
    }

    fn offer(&mut self, event: NetEvent) -> Result<(), NetEvent> {
        self.events.try_send(event).map_err(|error| {
            self.refusals.fetch_add(1, Ordering::SeqCst);
            match error {
                TrySendError::Full(event) | TrySendError::Disconnected(event) => event,
            }
        })
    }
}

/// A reactor on a thread of its own.
pub struct Node {
    pub id: NodeId,
    pub addr: SocketAddr,
    pub handle: Handle,
    pub events: Receiver<NetEvent>,
    pub answers: Arc<AtomicU64>,
    pub refusals: Arc<AtomicU64>,
    /// Who holds it holds the reactor that answers next.
    pub gate: Arc<Mutex<()>>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Node {
    pub fn start(config: ReactorConfig) -> Node {
        Node::with_room(config, 100_000)
    }

    /// Its service takes `room` events at a time.
    pub fn with_room(config: ReactorConfig, room: usize) -> Node {
        Node::run(config, room, 1)
    }

    /// Its sessions are spread over so many threads.
    pub fn with_threads(config: ReactorConfig, threads: usize) -> Node {
        Node::run(config, 100_000, threads)
    }

    fn run(config: ReactorConfig, room: usize, threads: usize) -> Node {
        capture_log();
        let id = config.session.id();
        let (reactors, handle) = Reactor::bind_threads(config, threads).unwrap();
        let addr = reactors[0].local_addr();
        let (sender, events) = crossbeam_channel::bounded(room);
        let answers = Arc::new(AtomicU64::new(0));
        let refusals = Arc::new(AtomicU64::new(0));
        let gate = Arc::new(Mutex::new(()));
        let run = |reactor: Reactor| {
            let mut script = Script {
                events: sender.clone(),
                answers: answers.clone(),
                refusals: refusals.clone(),
                gate: gate.clone(),
            };
            std::thread::spawn(move || reactor.run(&mut script))
        };
        let threads = reactors.into_iter().map(run).collect();
        Node {
            id,
            addr,
            handle,
            events,
            answers,
            refusals,
            gate,
            threads,
        }
    }

    pub fn enode(&self) -> Enode {
        Enode {
            id: self.id,
            ip: self.addr.ip(),
            tcp: self.addr.port(),
            udp: self.addr.port(),
        }
    }

    pub fn send(&self, command: Command) {
        let mut command = command;
        let start = Instant::now();
        while let Err(error) = self.handle.send(command) {
            match error {
                SendError::Full(back) => command = *back,
                SendError::Stopped(_) => panic!("the reactor has ended"),
            }
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }

    pub fn request(&self, peer: PeerId, id: u64, request: Request) {
        self.send(Command::Send {
            peer,
            message: OwnedOutgoing::Request { id, request },
        });
    }

    pub fn event(&self) -> NetEvent {
        self.events
            .recv_timeout(PATIENCE)
            .expect("an event in time")
    }

    pub fn connected(&self) -> (PeerId, Arc<PeerInfo>) {
        match self.event() {
            NetEvent::Connected { peer, info, .. } => (peer, info),
            other => panic!("expected Connected, found {other:?}"),
        }
    }

    pub fn gone(&self) -> (PeerId, Close) {
        match self.event() {
            NetEvent::Gone { peer, close } => (peer, close),
            other => panic!("expected Gone, found {other:?}"),
        }
    }

    /// No event comes for a while.
    pub fn assert_quiet(&self, while_ms: u64) {
        if let Ok(event) = self.events.recv_timeout(Duration::from_millis(while_ms)) {
            panic!("expected nothing, found {event:?}");
        }
    }

    /// Ends it; gives how long that took.
    pub fn stop(mut self) -> Duration {
        let start = Instant::now();
        self.end().unwrap();
        start.elapsed()
    }

    fn end(&mut self) -> std::io::Result<()> {
        let _ = self.handle.send(Command::Shutdown);
        self.threads
            .drain(..)
            .try_for_each(|thread| thread.join().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let ended = self.end();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

pub fn headers_request() -> Request {
    Request::Headers {
        start: Start::Number(0),
        amount: 3,
        skip: 0,
        reverse: false,
    }
}

pub fn bodies_request() -> Request {
    Request::Bodies {
        hashes: vec![B256::repeat_byte(7)],
    }
}

/// A session on a blocking socket, driven by the test.
pub struct Bare {
    pub stream: TcpStream,
    pub session: Session,
    pub chain: LocalChain,
    started: Instant,
    pub info: Option<Arc<PeerInfo>>,
    key_id: NodeId,
}

impl Bare {
    /// Its own id.
    pub fn key_id(&self) -> NodeId {
        self.key_id
    }

    /// Dials and goes as far as the peer lets it: up to Ready, or to how it was closed.
    pub fn dial(n: u8, node: &Node) -> Result<Bare, Close> {
        Bare::dial_with(session_config(n), chain(), node.addr, node.id)
    }

    pub fn dial_with(
        config: Config,
        chain: LocalChain,
        addr: SocketAddr,
        id: NodeId,
    ) -> Result<Bare, Close> {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let key_id = config.id();
        let session = Session::new(Arc::new(config), Role::Initiator(id), seed, 0);
        let mut bare = Bare {
            stream,
            session,
            chain,
            started: Instant::now(),
            info: None,
            key_id,
        };
        loop {
            match bare.event() {
                SessionEvent::Ready(info) => {
                    // With the node's Hello its Status may have come: ours is not out yet, and the node waits for it.
                    bare.flush().unwrap();
                    bare.info = Some(info);
                    return Ok(bare);
                }
                SessionEvent::Closed(close) => return Err(close),
                _ => {}
            }
        }
    }

    /// The same when the connection of before is off the books.
    pub fn dial_again(n: u8, node: &Node) -> Bare {
        let start = Instant::now();
        loop {
            match Bare::dial(n, node) {
                Ok(bare) => return bare,
                Err(close) => assert!(start.elapsed() < PATIENCE, "{close:?}"),
            }
        }
    }

    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The next event; the end of the stream is one too.
    pub fn event(&mut self) -> SessionEvent {
        loop {
            if let Some(event) = self.session.poll_event() {
                return event;
            }
            if let Err(error) = self.flush() {
                return SessionEvent::Closed(Close::Io(error.to_string()));
            }
            if let Some(close) = self.read() {
                return SessionEvent::Closed(close);
            }
        }
    }

    fn read(&mut self) -> Option<Close> {
        let mut buffer = [0; 1 << 16];
        match self.stream.read(&mut buffer) {
            Ok(0) => Some(Close::Io("end".into())),
            Ok(len) => {
                self.session
                    .handle_input(self.now_ms(), &mut buffer[..len], &self.chain);
                None
            }
            // A process that was stopped and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => None,
            Err(error) => Some(Close::Io(error.to_string())),
        }
    }

    /// The next message of eth.
    pub fn message(&mut self) -> cairn_net::eth::message::Message {
        match self.event() {
            SessionEvent::Message(message) => message,
            other => panic!("expected a message, found {other:?}"),
        }
    }

    pub fn flush(&mut self) -> std::io::Result<()> {
        while !self.session.output().is_empty() {
            match self.stream.write(self.session.output()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => self.session.consume_output(written?),
            }
        }
        Ok(())
    }

    pub fn send(&mut self, message: Outgoing<'_>) -> Result<(), NotReady> {
        self.session.send(message)
    }

    pub fn request(&mut self, id: u64, request: &Request) {
        self.send(Outgoing::Request { id, request }).unwrap();
        self.flush().unwrap();
    }

    /// Writes without waiting until the other side takes no more for `while_ms`; `true` if everything was taken.
    pub fn flush_until_blocked(&mut self, while_ms: u64) -> bool {
        self.stream
            .set_write_timeout(Some(Duration::from_millis(while_ms)))
            .unwrap();
        let taken = match self.flush() {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                false
            }
            Err(error) => panic!("{error}"),
        };
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        taken
    }

    /// The node still answers this peer.
    pub fn assert_served(&mut self) {
        self.request(77, &headers_request());
        match self.message() {
            cairn_net::eth::message::Message::Headers { id: 77, headers } => {
                assert_eq!(headers.len(), 3);
            }
            other => panic!("expected headers, found {other:?}"),
        }
    }
}

/// Two nodes that may dial each other come to one connection, and stay with it.
pub fn assert_one_connection(nodes: [&Node; 2]) {
    const STAYS: Duration = Duration::from_millis(600);
    let mut peers = [0i32; 2];
    let (start, mut last) = (Instant::now(), Instant::now());
    while peers != [1, 1] || last.elapsed() < STAYS {
        assert!(start.elapsed() < PATIENCE, "{peers:?} connections");
        for (node, peers) in nodes.iter().zip(&mut peers) {
            for event in node.events.try_iter() {
                last = Instant::now();
                match event {
                    NetEvent::Connected { .. } => *peers += 1,
                    NetEvent::Gone { .. } => *peers -= 1,
                    NetEvent::Message { .. } => {}
                }
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What something takes where nothing comes between: a busy machine only ever adds to it, and hardly each time.
pub fn quickest(run: impl Fn() -> Duration) -> Duration {
    (0..5).map(|_| run()).min().unwrap()
}

/// The peer ended it for this reason.
pub fn is_remote(close: &Close, reason: DisconnectReason) -> bool {
    matches!(close, Close::Remote { reason: found } if *found == reason)
}

pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES
                .lock()
                .unwrap()
                .push(format!("{} {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}

fn capture_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Capture).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// Lines of the log, at info level and above, with this in them.
pub fn log_lines(with: &str) -> Vec<String> {
    LINES
        .lock()
        .unwrap()
        .iter()
        .filter(|line| line.contains(with))
        .cloned()
        .collect()
}
