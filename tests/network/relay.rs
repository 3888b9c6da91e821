//! The relay through which all nodes are joined: of each line (one node dials another) it knows the latency and the throughput, and it
//! cuts, silences and joins lines again. One thread, real TCP on both sides.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::space;

/// Where nodes listen.
pub const NODE_PORT: u16 = 30303;
/// Node `to` is dialled at its place above this port.
const FIRST_PORT: u16 = 20_000;
/// Bytes on their way in one direction: what a line without a limit holds.
const IN_FLIGHT_BYTES: usize = 1 << 20;
/// So much of a slow line's time lies in its buffer: more is what routers do, and no help.
const BUFFER: Duration = Duration::from_millis(500);
const CHUNK_BYTES: usize = 16 << 10;
const WAKE: Token = Token(0);
const TICK: Duration = Duration::from_secs(1);

/// Who dials, and whom.
pub type Line = (usize, usize);

/// Where `from` reaches `to`.
pub fn dialled((from, to): Line) -> SocketAddr {
    let port = FIRST_PORT + u16::try_from(to).unwrap();
    SocketAddr::new(space::hub(from), port)
}

/// What a line is like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nature {
    pub latency: Duration,
    /// Each way; 0 is no limit.
    pub bytes_per_s: u64,
    /// Nothing passes, and nobody is told: what is on its way waits.
    pub is_silent: bool,
    /// Who dials is reset.
    pub is_down: bool,
    /// How often what stood was reset.
    pub cuts: u64,
}

type Lines = Arc<Mutex<BTreeMap<Line, Nature>>>;

/// The relay's end in the test.
pub struct Relay {
    lines: Lines,
    waker: Waker,
}

impl Relay {
    /// Listens for all of `lines`. The thread ends with the process.
    pub fn start(lines: &[Line]) -> Relay {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), WAKE).unwrap();
        let natures: BTreeMap<Line, Nature> = lines
            .iter()
            .map(|line| (*line, Nature::default()))
            .collect();
        let lines = Arc::new(Mutex::new(natures));
        let mut thread = Thread::new(poll, lines.clone());
        std::thread::spawn(move || thread.run());
        Relay { lines, waker }
    }

    /// Changes what a line is like, for all that passes from now on.
    pub fn change(&self, line: Line, change: impl FnOnce(&mut Nature)) {
        change(self.lines.lock().unwrap().get_mut(&line).unwrap());
        self.waker.wake().unwrap();
    }

    /// Resets what stands on a line; `is_down`: and whoever dials.
    pub fn cut(&self, line: Line, is_down: bool) {
        self.change(line, |nature| {
            nature.cuts += 1;
            nature.is_down = is_down;
        });
    }

    /// Nothing passes any more, or it passes again.
    pub fn silence(&self, line: Line, is_silent: bool) {
        self.change(line, |nature| nature.is_silent = is_silent);
    }

    /// The line is as good as it gets.
    pub fn mend(&self, line: Line) {
        self.change(line, |nature| {
            *nature = Nature {
                cuts: nature.cuts,
                ..Nature::default()
            };
        });
    }
}

struct Thread {
    poll: Poll,
    lines: Lines,
    listeners: Vec<(Line, TcpListener)>,
    /// By the token of their first side; the second side's is the next.
    pairs: BTreeMap<usize, Pair>,
    next_token: usize,
}

/// A connection of a node and the one that was made for it.
struct Pair {
    line: Line,
    /// The line's when it was made: it is reset when there are more.
    cuts: u64,
    sides: [TcpStream; 2],
    /// What came from each side.
    flows: [Flow; 2],
}

#[derive(Default)]
struct Flow {
    /// What is on its way, and when it arrives.
    chunks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// Until when the line is busy with what it took.
    busy_until: Option<Instant>,
    is_ended: bool,
    is_end_told: bool,
}

impl Thread {
    fn new(poll: Poll, lines: Lines) -> Thread {
        let mut listeners = Vec::new();
        for &line in lines.lock().unwrap().keys() {
            let mut listener = TcpListener::bind(dialled(line)).unwrap();
            let token = Token(1 + listeners.len());
            poll.registry()
                .register(&mut listener, token, Interest::READABLE)
                .unwrap();
            listeners.push((line, listener));
        }
        let next_token = 1 + listeners.len();
        Thread {
            poll,
            lines,
            listeners,
            pairs: BTreeMap::new(),
            next_token,
        }
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let wait = self.next_arrival().map_or(TICK, |at| {
                at.saturating_duration_since(Instant::now()).min(TICK)
            });
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                done => done.unwrap(),
            }
            for event in &events {
                if let Some(index) = event.token().0.checked_sub(1)
                    && index < self.listeners.len()
                {
                    self.accept(index);
                }
            }
            // There are few, and most have nothing to do: all are looked at. The lock is held meanwhile: nothing passes by what a line
            // was like before a change that has returned.
            let lines = self.lines.lock().unwrap();
            self.pairs.retain(|_, pair| pair.turn(&lines[&pair.line]));
        }
    }

    fn next_arrival(&self) -> Option<Instant> {
        let flows = self.pairs.values().flat_map(|pair| &pair.flows);
        let now = Instant::now();
        flows
            .filter_map(|flow| flow.chunks.front())
            .map(|(at, _)| *at)
            .filter(|at| *at > now) // what has arrived and does not go out waits for its socket, or for the line
            .min()
    }

    fn accept(&mut self, index: usize) {
        loop {
            let (line, listener) = &self.listeners[index];
            let nature = self.lines.lock().unwrap()[line];
            let near = match listener.accept() {
                Ok((near, _)) => near,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the relay cannot accept: {error}"),
            };
            if nature.is_down {
                reset(&near);
                continue;
            }
            let far = match dial(*line) {
                Ok(far) => far,
                Err(_) => {
                    reset(&near);
                    continue;
                }
            };
            let mut sides = [near, far];
            for (token, side) in (self.next_token..).zip(&mut sides) {
                let _ = side.set_nodelay(true);
                let interest = Interest::READABLE | Interest::WRITABLE;
                let registry = self.poll.registry();
                registry.register(side, Token(token), interest).unwrap();
            }
            let pair = Pair {
                line: *line,
                cuts: nature.cuts,
                sides,
                flows: Default::default(),
            };
            self.pairs.insert(self.next_token, pair);
            self.next_token += 2;
        }
    }
}

impl Pair {
    /// Takes and gives what there is. False when it is over; both sides are reset unless both have ended it.
    fn turn(&mut self, nature: &Nature) -> bool {
        match self.pass(nature) {
            Ok(()) => !self.flows.iter().all(|flow| flow.is_end_told),
            Err(_) => {
                self.sides.iter().for_each(reset);
                false
            }
        }
    }

    fn pass(&mut self, nature: &Nature) -> io::Result<()> {
        if nature.cuts != self.cuts {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if nature.is_silent {
            return Ok(());
        }
        let [a, b] = &mut self.sides;
        let [there, back] = &mut self.flows;
        while there.pass(a, b, nature)? | back.pass(b, a, nature)? {}
        Ok(())
    }
}

impl Flow {
    /// True if anything moved.
    fn pass(
        &mut self,
        from: &mut TcpStream,
        to: &mut TcpStream,
        line: &Nature,
    ) -> io::Result<bool> {
        let mut moved = false;
        let room = match line.bytes_per_s {
            0 => IN_FLIGHT_BYTES,
            rate => (rate as f64 * (line.latency + BUFFER).as_secs_f64()) as usize,
        };
        while self.bytes < room.max(1) && !self.is_ended {
            let mut chunk = vec![0; CHUNK_BYTES.min(room.max(1))];
            let count = match from.read(&mut chunk) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            self.is_ended = count == 0;
            chunk.truncate(count);
            self.take(chunk, line);
            moved = true;
        }
        while let Some((at, chunk)) = self.chunks.front_mut() {
            if *at > Instant::now() {
                break;
            }
            match to.write(chunk) {
                Ok(count) => {
                    chunk.drain(..count);
                    self.bytes -= count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It is being dialled.
                Err(error) if error.kind() == ErrorKind::NotConnected => break,
                Err(error) => return Err(error),
            }
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            moved = true;
        }
        if self.is_ended && self.chunks.is_empty() && !self.is_end_told {
            self.is_end_told = true;
            to.shutdown(Shutdown::Write)?;
        }
        Ok(moved)
    }

    fn take(&mut self, chunk: Vec<u8>, line: &Nature) {
        if chunk.is_empty() {
            return;
        }
        let mut sent = Instant::now();
        if line.bytes_per_s > 0 {
            let takes = Duration::from_secs_f64(chunk.len() as f64 / line.bytes_per_s as f64);
            sent = self.busy_until.map_or(sent, |busy| busy.max(sent)) + takes;
            self.busy_until = Some(sent);
        }
        self.bytes += chunk.len();
        self.chunks.push_back((sent + line.latency, chunk));
    }
}

/// A connection to the node at the line's end, from the address that stands for the other.
fn dial((from, to): Line) -> io::Result<TcpStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddr::new(space::alias(from), 0))?;
    let node = SocketAddr::new(space::address(to), NODE_PORT);
    match rustix::net::connect(&socket, &node) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {
            Ok(TcpStream::from_std(std::net::TcpStream::from(socket)))
        }
        Err(error) => Err(error.into()),
    }
}

/// With its next close the peer is told that the connection broke, and what was on its way is gone.
fn reset(stream: &TcpStream) {
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}
