//! Connections that come in: accepted in bounded numbers, strangers' begun at their rate, and never in a spin when the system has no
//! more to give.

use std::io;
use std::net::SocketAddr;

use crossbeam_channel::Sender;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::connection::{Connection, Name, State};
use super::link::Link;
use super::shared::{Counted, Refusal};
use super::{BindError, Reactor, entropy, unix_s};
use crate::limits::{
    ACCEPT_PAUSE_MS, ACCEPTED_QUEUE, ACCEPTS_PER_TURN, LISTEN_BACKLOG, MAX_HELD_STRANGERS,
};
use crate::session::{Role, Session};

/// A connection that was accepted and has no session yet.
pub(super) struct Accepted {
    stream: TcpStream,
    addr: SocketAddr,
    counted: Counted,
}

/// The way to another reactor.
#[derive(Clone)]
pub(super) struct Neighbour {
    pub(super) link: Link,
    pub(super) accepted: Sender<Accepted>,
}

impl Neighbour {
    /// Hands a connection over; gives it back if there is no room.
    fn take(&self, accepted: Accepted) -> Option<Accepted> {
        match self.accepted.try_send(accepted) {
            Ok(()) => {
                self.link.signal.wake();
                None
            }
            Err(error) => Some(error.into_inner()),
        }
    }
}

/// The listening socket and what is known of it.
pub(super) struct Listener {
    socket: Option<TcpListener>,
    /// The poll said so once, and nothing has shown that it is over.
    readable: bool,
    /// Nothing is accepted before.
    paused_until_ms: Option<u64>,
}

impl Listener {
    pub(super) fn bind(
        addr: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> Result<(Listener, SocketAddr), BindError> {
        let name = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(addr),
            io::ErrorKind::PermissionDenied => BindError::Denied(addr),
            io::ErrorKind::AddrNotAvailable => BindError::NotOurs(addr),
            _ => BindError::Listen(addr, error),
        };
        let mut socket = TcpListener::bind(addr).map_err(name)?;
        // mio asks for 128, and what does not fit is told nothing: it tries again a second later.
        rustix::net::listen(&socket, LISTEN_BACKLOG).map_err(|error| name(error.into()))?;
        let local_addr = socket.local_addr().map_err(name)?;
        registry
            .register(&mut socket, token, Interest::READABLE)
            .map_err(name)?;
        Ok((
            Listener {
                socket: Some(socket),
                readable: true,
                paused_until_ms: None,
            },
            local_addr,
        ))
    }

    pub(super) fn note(&mut self) {
        self.readable = true;
    }

    /// Whether there may be something to accept now.
    pub(super) fn is_ready(&self, now_ms: u64) -> bool {
        self.readable
            && self.socket.is_some()
            && self
                .paused_until_ms
                .is_none_or(|until_ms| until_ms <= now_ms)
    }

    /// When accepting goes on, if it pauses.
    pub(super) fn resumes_at_ms(&self) -> Option<u64> {
        self.paused_until_ms
            .filter(|_| self.readable && self.socket.is_some())
    }

    /// Nothing more is accepted before, nor before what was said already.
    fn pause(&mut self, until_ms: u64) {
        self.paused_until_ms = self.paused_until_ms.max(Some(until_ms));
    }

    pub(super) fn close(&mut self, registry: &Registry) {
        if let Some(mut socket) = self.socket.take() {
            // A socket that is dropped leaves the poll in any case.
            let _ = registry.deregister(&mut socket);
        }
    }

    /// The next connection. An error means that the system has no room for it now.
    fn next(&mut self, now_ms: u64) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let Some(socket) = &self.socket else {
            return Ok(None);
        };
        match socket.accept() {
            Ok(accepted) => Ok(Some(accepted)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    Ok(None)
                }
                // It ended while it waited; the next one may be fine. accept(2) names more such errors of the network,
                // and all of them are the one connection's.
                io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::TimedOut => Ok(None),
                _ => {
                    // No descriptors or memory: what waits to be accepted stays readable, so asking again at once
                    // would spin.
                    self.pause(now_ms + ACCEPT_PAUSE_MS);
                    Err(error)
                }
            },
        }
    }
}

impl Reactor {
    /// Accepts some of what waits. Who it is shows only then: so strangers are accepted past their rate too, and held, for those whom
    /// the rate is not for wait behind them in the kernel's queue.
    pub(super) fn accept(&mut self) {
        let now_ms = self.now_ms();
        while let Some(accepted) = self.next_held(now_ms) {
            self.hand_over(accepted);
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self
                .listener
                .as_mut()
                .filter(|listener| listener.is_ready(now_ms))
            else {
                return;
            };
            match listener.next(now_ms) {
                Ok(Some((stream, addr))) => self.accepted(stream, addr, now_ms),
                Ok(None) => {}
                Err(error) => log::warn!("Cannot accept connections for now: {error}"),
            }
        }
        // Most of what comes now is turned away: no more of it than a turn's worth until the next may begin.
        if self.held.len() >= MAX_HELD_STRANGERS
            && let Some(begins_ms) = self.held_begins_ms(now_ms)
            && let Some(listener) = &mut self.listener
        {
            listener.pause(begins_ms);
        }
    }

    /// When the first of the strangers that are held may begin, if there is any.
    pub(super) fn held_begins_ms(&mut self, now_ms: u64) -> Option<u64> {
        (!self.held.is_empty()).then(|| self.listener_rate.next_ms(now_ms))
    }

    /// The stranger that may begin now.
    fn next_held(&mut self, now_ms: u64) -> Option<Accepted> {
        self.held_begins_ms(now_ms)
            .filter(|at_ms| *at_ms <= now_ms)?;
        self.listener_rate.take();
        self.held.pop_front()
    }

    /// A connection came in: it begins, if its address may have one more and it need not wait.
    fn accepted(&mut self, stream: TcpStream, addr: SocketAddr, now_ms: u64) {
        let arrived = self.shared.book().arrive(addr.ip(), unix_s());
        let counted = match arrived {
            Ok(counted) => counted,
            Err(refusal) => {
                let why = match refusal {
                    Refusal::TooMany => "too many from this address",
                    Refusal::Banned => "its address is banned",
                };
                self.stranger_line(format_args!("Connection refused addr={addr}: {why}"));
                return;
            }
        };
        let accepted = Accepted {
            stream,
            addr,
            counted,
        };
        if counted == Counted::No || addr.ip().to_canonical().is_loopback() {
            return self.hand_over(accepted);
        }
        if self.held.len() >= MAX_HELD_STRANGERS {
            self.uncount(addr, counted);
            self.stranger_line(format_args!(
                "Connection refused addr={addr}: too many wait"
            ));
            return;
        }
        self.held.push_back(accepted);
        if let Some(accepted) = self.next_held(now_ms) {
            self.hand_over(accepted);
        }
    }

    /// Gives a connection to the reactor with the fewest.
    fn hand_over(&mut self, accepted: Accepted) {
        let thread = self.shared.least_busy();
        let kept = match self
            .neighbours
            .get(thread)
            .filter(|_| thread != self.thread)
        {
            None => Some(accepted),
            Some(neighbour) => neighbour.take(accepted),
        };
        if let Some(accepted) = kept {
            self.adopt(accepted);
        }
    }

    /// A connection that came to nothing is taken off its address.
    fn uncount(&mut self, addr: SocketAddr, counted: Counted) {
        if counted == Counted::Yes {
            let peer = self.slots.next_peer(); // of nobody: only the address is taken off
            self.shared
                .book()
                .admission
                .leave(peer, None, Some(addr.ip()));
        }
    }

    /// Takes the connections that the accepting reactor has handed over.
    pub(super) fn adopt_all(&mut self) {
        for _ in 0..ACCEPTED_QUEUE {
            match self.accepted.try_recv() {
                Ok(accepted) => self.adopt(accepted),
                Err(_) => return,
            }
        }
    }

    fn adopt(&mut self, accepted: Accepted) {
        let (addr, counted) = (accepted.addr, accepted.counted);
        if let Err(error) = self.begin_inbound(accepted) {
            log::warn!("Cannot take a connection addr={addr}: {error}");
            self.uncount(addr, counted);
        }
    }

    fn begin_inbound(&mut self, accepted: Accepted) -> io::Result<()> {
        let Accepted {
            mut stream,
            addr,
            counted,
        } = accepted;
        let now_ms = self.now_ms();
        let peer = self.slots.next_peer();
        let prepared = (|| {
            // Frames are whole messages: waiting to fill a segment would only delay them.
            stream.set_nodelay(true)?;
            let token = self.slots.next_token();
            self.poll.registry().register(
                &mut stream,
                token,
                Interest::READABLE | Interest::WRITABLE,
            )?;
            entropy()
        })();
        let seed = prepared?;
        let session = Session::new(self.session.clone(), Role::Recipient, seed, now_ms);
        let connection = Box::new(Connection::new(stream, session, addr).inbound(counted));
        if counted == Counted::Yes {
            self.crowd.begin(peer);
        }
        log::debug!("Connection accepted addr={addr}");
        self.slots.insert(peer, State::Open(connection));
        self.arm(peer);
        // What the peer sent first may be there already.
        self.slots.queue(peer);
        self.make_room();
        Ok(())
    }

    /// Ends a handshake if too many are under way.
    fn make_room(&mut self) {
        let is_silent = |peer| match self.slots.get(peer).map(|entry| &entry.state) {
            Some(State::Open(connection)) => !connection.has_spoken(),
            _ => true,
        };
        let Some(peer) = self.crowd.crowded_out(is_silent) else {
            return;
        };
        if let Some(entry) = self.slots.take(peer)
            && let State::Open(connection) = entry.state
        {
            let name = Name(connection.id, connection.addr);
            self.stranger_line(format_args!(
                "Connection dropped {name}: too many handshakes under way"
            ));
            self.forget(peer, *connection, false);
        }
    }

    /// A line about a connection of nobody we know: at info level only a few in a second.
    pub(super) fn stranger_line(&mut self, line: std::fmt::Arguments<'_>) {
        let second = self.now_ms() / 1000;
        if self.stranger_lines.1 != second {
            self.stranger_lines = (0, second);
        }
        self.stranger_lines.0 += 1;
        if self.stranger_lines.0 <= crate::limits::STRANGER_LINES_PER_S {
            log::info!("{line}");
        } else {
            log::debug!("{line}");
        }
    }
}
