//! The ipc role: a socket in the data folder through which a running node is looked at and told what to do (JSON-RPC 2.0, with
//! geth's method names).
//!
//! `DATADIR/cairn.ipc` is open to the node's own user alone (mode 0600). Requests are JSON values, one after the other; each is answered
//! by one JSON value and a line end. What a client may cost is bounded here; who is on the socket is the operator, so nothing is
//! weighed or banned.

mod client;
mod clique;
mod desk;
pub(crate) mod rpc;
pub(crate) mod socket;

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};

pub use client::{CallError, call};
pub use clique::Work;
pub use desk::{Desk, Facts};
use rpc::{Input, Taken, answer};
pub use rpc::{Methods, RpcError};
use socket::Place;

/// Clients at once: people and their scripts. One more takes the place of the one that has been quiet for longest.
const MAX_CLIENTS: usize = 16;
/// A request, or a batch of them: each names a method and a node or two.
const MAX_REQUEST_BYTES: usize = 128 << 10;
/// Read at once from a client.
const READ_BYTES: usize = 16 << 10;
/// Requests answered, and pieces read, of one client before the others have their turn.
const TURN_STEPS: usize = 32;
/// A turn ends with the request that brings the work of its answers above this, in headers read: some milliseconds.
const TURN_WORK: u64 = 1000;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
/// Of the first client.
const FIRST: usize = 2;

/// The socket, bound, and what answers on it.
pub struct IpcRole {
    poll: Poll,
    listener: mio::net::UnixListener,
    stop: Arc<AtomicBool>,
    /// Held here too: with its last owner goes the wake that was not yet seen.
    _waker: Arc<mio::Waker>,
    desk: Desk,
    clients: Vec<Option<Client>>,
    /// Clients may be waiting to be accepted.
    has_callers: bool,
    /// Counts turns of clients, to know who has been quiet for longest.
    turns: u64,
    /// Takes the socket's name away when the role ends.
    _place: Place,
}

/// Ends the role, from any thread.
pub struct Stop {
    waker: Arc<mio::Waker>,
    flag: Arc<AtomicBool>,
}

impl Stop {
    /// Ends it soon.
    pub fn stop(&self) {
        self.flag.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            log::error!("Cannot wake the ipc thread: {error}");
        }
    }
}

impl IpcRole {
    /// Binds the socket at `path`, in the place of one that a dead node has left: the caller holds the store's lock, so that no other
    /// node is at work in this data folder.
    ///
    /// # Errors
    /// What the system said.
    pub fn bind(path: &Path, desk: Desk) -> io::Result<(IpcRole, Stop)> {
        let (listener, place) = Place::bind(path, 0o600)?;
        Self::with(listener, place, desk)
    }

    fn with(listener: UnixListener, place: Place, desk: Desk) -> io::Result<(IpcRole, Stop)> {
        listener.set_nonblocking(true)?;
        let mut listener = mio::net::UnixListener::from_std(listener);
        let poll = Poll::new()?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(mio::Waker::new(registry, WAKER)?);
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let role = IpcRole {
            poll,
            listener,
            stop,
            _waker: Arc::clone(&waker),
            desk,
            clients: (0..MAX_CLIENTS).map(|_| None).collect(),
            has_callers: false,
            turns: 0,
            _place: place,
        };
        Ok((role, Stop { waker, flag }))
    }

    /// Answers until it is stopped.
    ///
    /// # Errors
    /// The poll's own: nothing that a client does ends it.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(2 * MAX_CLIENTS);
        while !self.stop.load(Ordering::Acquire) {
            let has_more = self.clients.iter().flatten().any(|client| client.has_more);
            let wait = (has_more || self.has_callers).then_some(Duration::ZERO);
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                other => other?,
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    LISTENER => self.has_callers = true,
                    Token(token) => {
                        if let Some(client) = &mut self.clients[token - FIRST] {
                            client.has_more = true;
                        }
                    }
                }
            }
            if self.has_callers {
                self.accept();
            }
            for index in 0..self.clients.len() {
                // Turns may be long, and the node's stop waits for one of them at the most.
                if self.stop.load(Ordering::Acquire) {
                    break;
                }
                self.turn(index);
            }
        }
        Ok(())
    }

    /// Takes as many as have a place at most, before those have their turn.
    fn accept(&mut self) {
        for _ in 0..MAX_CLIENTS {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.has_callers = false;
                    // Out of descriptors, mostly. The next client that comes brings the next try.
                    if error.kind() != io::ErrorKind::WouldBlock {
                        log::warn!("Clients of the control socket have to wait: {error}");
                    }
                    return;
                }
            };
            let index = self.free_place();
            let token = Token(FIRST + index);
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = self.poll.registry().register(&mut stream, token, interest) {
                log::warn!("A client of the control socket is let go: {error}");
                continue;
            }
            self.turns += 1;
            self.clients[index] = Some(Client::new(stream, self.turns));
        }
    }

    /// A place that is free, or made so.
    fn free_place(&mut self) -> usize {
        let quiet_for = |client: &Option<Client>| client.as_ref().map_or(0, |c| c.last_turn);
        let places = 0..self.clients.len();
        let index =
            places.min_by_key(|&i| (self.clients[i].is_some(), quiet_for(&self.clients[i])));
        let index = index.expect("there are places");
        self.clients[index] = None;
        index
    }

    fn turn(&mut self, index: usize) {
        let Some(client) = self.clients[index].as_mut().filter(|c| c.has_more) else {
            return;
        };
        self.turns += 1;
        client.last_turn = self.turns;
        if !client.go_on(&mut self.desk) {
            self.clients[index] = None;
        }
    }
}

/// One client: what it has sent and has not been answered, and what it has not taken yet.
struct Client {
    stream: UnixStream,
    input: Input,
    /// Nothing more is read or answered until this is gone.
    output: Vec<u8>,
    written: usize,
    /// It ends when its output has gone.
    is_ending: bool,
    /// It may have something to write, to answer or to read.
    has_more: bool,
    last_turn: u64,
}

impl Client {
    fn new(stream: UnixStream, last_turn: u64) -> Client {
        Client {
            stream,
            input: Input::default(),
            output: Vec::new(),
            written: 0,
            is_ending: false,
            has_more: true,
            last_turn,
        }
    }

    /// Writes, answers and reads as far as it goes, within bounds. False when it is over.
    fn go_on(&mut self, methods: &mut dyn Methods) -> bool {
        let mut work = 0;
        for _ in 0..TURN_STEPS {
            if work > TURN_WORK {
                break;
            }
            match self.flush() {
                Ok(true) => {}
                // The socket's room brings the next turn.
                Ok(false) => {
                    self.has_more = false;
                    return true;
                }
                Err(_) => return false,
            }
            if self.is_ending {
                return false;
            }
            match self.input.take() {
                Taken::Value(request) => {
                    if let Some(answer) = answer(methods, request) {
                        self.say(&answer);
                    }
                    work += methods.take_work();
                }
                Taken::Broken(answer) => {
                    self.say(&answer);
                    self.is_ending = true;
                }
                Taken::More if self.input.len() >= MAX_REQUEST_BYTES => {
                    let why = format!("a request of more than {MAX_REQUEST_BYTES} bytes");
                    self.say(&RpcError::invalid(why).answer(&serde_json::Value::Null));
                    self.is_ending = true;
                }
                Taken::More => match self.read() {
                    Ok(true) => {}
                    Ok(false) => {
                        self.has_more = false;
                        return true;
                    }
                    Err(_) => return false,
                },
            }
        }
        true
    }

    fn say(&mut self, answer: &serde_json::Value) {
        serde_json::to_writer(&mut self.output, answer).expect("memory takes all of it");
        self.output.push(b'\n');
    }

    /// True if all of the output has gone.
    fn flush(&mut self) -> io::Result<bool> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A large answer's memory is not kept for the next.
        self.output = Vec::new();
        self.written = 0;
        Ok(true)
    }

    /// True if something came.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.input.extend(&buffer[..read]);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
