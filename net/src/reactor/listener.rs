//! Connections that come in: accepted in bounded numbers, and never in a spin when the system has no more to give.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::connection::{Connection, Name, State};
use super::{BindError, Reactor, entropy};
use crate::limits::{ACCEPT_PAUSE_MS, ACCEPTS_PER_TURN, LISTEN_BACKLOG};
use crate::session::{Role, Session};

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
                    self.paused_until_ms = Some(now_ms + ACCEPT_PAUSE_MS);
                    Err(error)
                }
            },
        }
    }
}

impl Reactor {
    /// Accepts some of what waits.
    pub(super) fn accept(&mut self) {
        let now_ms = self.now_ms();
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.listener.is_ready(now_ms) {
                return;
            }
            match self.listener.next(now_ms) {
                Ok(Some((stream, addr))) => {
                    if let Err(error) = self.accepted(stream, addr, now_ms) {
                        log::warn!("Cannot take a connection addr={addr}: {error}");
                    }
                }
                Ok(None) => {}
                Err(error) => log::warn!("Cannot accept connections for now: {error}"),
            }
        }
    }

    fn accepted(&mut self, mut stream: TcpStream, addr: SocketAddr, now_ms: u64) -> io::Result<()> {
        let peer = self.slots.next_peer();
        if !self.admission.arrive(addr.ip(), peer) {
            self.stranger_line(format_args!(
                "Connection refused addr={addr}: too many from this address"
            ));
            return Ok(());
        }
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
        let seed = match prepared {
            Ok(seed) => seed,
            Err(error) => {
                self.admission.leave(peer, None, Some(addr.ip()));
                return Err(error);
            }
        };
        let session = Session::new(self.session.clone(), Role::Recipient, seed, now_ms);
        let connection = Box::new(Connection::new(stream, session, addr));
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
            Some(State::Open(connection)) => !connection.has_spoken,
            _ => true,
        };
        let Some(peer) = self.admission.crowded_out(is_silent) else {
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
