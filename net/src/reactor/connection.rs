//! One socket and its session: reading, writing, and what both lead to.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use mio::net::TcpStream;

use super::shared::Counted;
use super::{NetEvent, PeerId};
use crate::enode::NodeId;
use crate::limits::{LINGER_BYTES, WRITE_STALL_MS};
use crate::session::{PeerInfo, Session};

/// A TCP connection on its way up.
pub(super) struct Dial {
    pub(super) stream: TcpStream,
    pub(super) addr: SocketAddr,
    pub(super) id: NodeId,
    /// Which of the static nodes.
    pub(super) index: usize,
    pub(super) deadline_ms: u64,
}

/// A connection with its session.
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) session: Session,
    pub(super) addr: SocketAddr,
    pub(super) inbound: bool,
    /// It is counted against its address.
    pub(super) counted: Counted,
    /// Which of the static nodes was dialled.
    pub(super) index: Option<usize>,
    /// Whom we dialled, then who it has proven to be.
    pub(super) id: Option<NodeId>,
    /// The peer has proven its id.
    pub(super) is_authenticated: bool,
    pub(super) info: Option<Arc<PeerInfo>>,
    /// `Connected` has been taken by the service.
    pub(super) is_announced: bool,
    /// An event that the service gave back: until it is taken, nothing else of this peer is read.
    pub(super) held: Option<NetEvent>,
    /// What was read, and the session has not taken yet: it has events enough. At most a read buffer.
    pub(super) unread: Vec<u8>,
    /// Some byte has been read.
    has_spoken: bool,
    /// Writing has failed: nothing goes out any more.
    is_broken: bool,
    /// How the socket ended, once it has.
    pub(super) ended: Option<String>,
    /// Since when bytes wait that the socket does not take.
    stalled_since_ms: Option<u64>,
}

/// A connection that we have ended: what is left is sent, and the peer gets time to read it.
pub(super) struct Linger {
    pub(super) socket: Socket,
    pub(super) session: Session,
    pub(super) until_ms: u64,
    left_bytes: usize,
    is_shut: bool,
}

/// A stream and what its poll said last (edges: said once, remembered here).
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    readable: bool,
    writable: bool,
    /// The peer has closed its side: nothing announces that again, so it must be read up to the end.
    read_closed: bool,
}

impl Socket {
    /// Ready for both until the kernel says otherwise.
    pub(super) fn new(stream: TcpStream) -> Socket {
        Socket {
            stream,
            readable: true,
            writable: true,
            read_closed: false,
        }
    }

    pub(super) fn note(&mut self, event: &mio::event::Event) {
        // An error is found by reading.
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed();
        self.read_closed |= event.is_read_closed() || event.is_error();
    }

    /// Reads once. `None`: nothing there now; `Some(0)`: the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        while self.readable {
            match self.stream.read(buffer) {
                Ok(len) => {
                    // A read that does not fill the buffer has emptied the socket; what comes later is a new edge.
                    self.readable = len == buffer.len() || self.read_closed;
                    return Ok(Some(len));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Writes what the session has, as far as the socket takes it; gives the number of bytes.
    fn write(&mut self, session: &mut Session) -> io::Result<usize> {
        let mut written = 0;
        while self.writable && !session.output().is_empty() {
            match self.stream.write(session.output()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    session.consume_output(len);
                    written += len;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream, session: Session, addr: SocketAddr) -> Connection {
        Connection {
            socket: Socket::new(stream),
            session,
            addr,
            inbound: true,
            counted: Counted::No,
            index: None,
            id: None,
            is_authenticated: false,
            info: None,
            is_announced: false,
            held: None,
            unread: Vec::new(),
            has_spoken: false,
            is_broken: false,
            ended: None,
            stalled_since_ms: None,
        }
    }

    pub(super) fn inbound(self, counted: Counted) -> Connection {
        Connection { counted, ..self }
    }

    pub(super) fn dialled(self, id: NodeId, index: usize) -> Connection {
        Connection {
            inbound: false,
            id: Some(id),
            index: Some(index),
            ..self
        }
    }

    /// Reads once: the number of bytes, 0 if there is nothing to read or never will be.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self.socket.read(buffer) {
            Ok(None) => return 0,
            Ok(Some(0)) => self.ended = Some("the peer closed the connection".into()),
            Ok(Some(len)) => {
                self.has_spoken = true;
                return len;
            }
            Err(error) => self.ended = Some(error.to_string()),
        }
        0
    }

    /// Whether some byte has come in, read or not: who is accepted in one turn with many others has said its first word long before
    /// it is read.
    pub(super) fn has_spoken(&self) -> bool {
        self.has_spoken || matches!(self.socket.stream.peek(&mut [0]), Ok(1..))
    }

    /// Writes what there is to write.
    pub(super) fn flush(&mut self, now_ms: u64) {
        if self.is_broken {
            return self.discard_output();
        }
        match self.socket.write(&mut self.session) {
            Ok(_) if self.session.waiting_bytes() == 0 => self.stalled_since_ms = None,
            Ok(0) => {
                self.stalled_since_ms.get_or_insert(now_ms);
            }
            Ok(_) => self.stalled_since_ms = Some(now_ms),
            Err(error) => {
                // The reason for it may still be waiting to be read: the turn goes on until the end of what came in.
                log::trace!("write to {}: {error}", self.addr);
                self.is_broken = true;
                self.discard_output();
                self.socket.readable = true;
                self.socket.read_closed = true;
            }
        }
    }

    fn discard_output(&mut self) {
        self.session.discard_output();
        self.stalled_since_ms = None;
    }

    /// Whether the session must not be read now, because of us or because the peer does not read.
    pub(super) fn is_blocked(&self) -> bool {
        self.held.is_some() || self.session.output_is_full()
    }

    /// Tells the session whether it is being read: the peer's silence does not count while it is not.
    pub(super) fn tell_paused(&mut self) {
        self.session.set_paused(self.held.is_some());
    }

    /// When `handle_timeout` or the stall limit is due.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let stall_ms = self
            .stalled_since_ms
            .map(|since_ms| since_ms + WRITE_STALL_MS);
        self.session.deadline_ms().into_iter().chain(stall_ms).min()
    }

    /// The peer's socket has taken nothing for too long.
    pub(super) fn has_stalled(&self, now_ms: u64) -> bool {
        self.stalled_since_ms
            .is_some_and(|since_ms| now_ms >= since_ms + WRITE_STALL_MS)
    }

    /// From now on only what is left is sent.
    pub(super) fn linger(self, until_ms: u64) -> Linger {
        Linger {
            socket: self.socket,
            session: self.session,
            until_ms,
            left_bytes: LINGER_BYTES,
            is_shut: false,
        }
    }
}

impl Linger {
    /// Goes on sending and throwing away; `true` when it is over.
    pub(super) fn turn(&mut self, buffer: &mut [u8]) -> bool {
        if self.socket.write(&mut self.session).is_err() {
            return true;
        }
        if !self.is_shut && self.session.waiting_bytes() == 0 {
            self.is_shut = true;
            if self.socket.stream.shutdown(Shutdown::Write).is_err() {
                return true;
            }
        }
        loop {
            match self.socket.read(buffer) {
                Ok(None) => return false,
                Ok(Some(0)) | Err(_) => return true,
                Ok(Some(len)) => {
                    self.left_bytes = self.left_bytes.saturating_sub(len);
                    if self.left_bytes == 0 {
                        return true;
                    }
                }
            }
        }
    }
}

/// The peer of a log line: short id if there is one, and the address.
pub(super) struct Name(pub(super) Option<NodeId>, pub(super) SocketAddr);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(id) => write!(f, "id={} addr={}", id.short(), self.1),
            None => write!(f, "addr={}", self.1),
        }
    }
}

/// A place of the reactor: one socket in one of its three states.
pub(super) struct Entry {
    pub(super) peer: PeerId,
    /// The earliest timer set for it, so that it is not set again for a later time.
    pub(super) armed_ms: u64,
    /// It waits for its turn.
    pub(super) is_queued: bool,
    pub(super) state: State,
}

pub(super) enum State {
    Dial(Dial),
    Open(Box<Connection>),
    Linger(Box<Linger>),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use secp256k1::SecretKey;

    use super::*;
    use crate::session::{Config, Role};

    /// A connection whose session has an auth to send, and the socket of the other end.
    fn connection() -> (Connection, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, addr) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let secret_key = SecretKey::from_slice(&[1; 32]).unwrap();
        let remote = SecretKey::from_slice(&[2; 32])
            .unwrap()
            .public_key(&secp256k1::Secp256k1::new());
        let config = Config::new(secret_key, String::new(), 0, vec![69]);
        let role = Role::Initiator(NodeId::from_public_key(&remote));
        let session = Session::new(Arc::new(config), role, [3; 32], 0);
        (
            Connection::new(TcpStream::from_std(ours), session, addr),
            theirs,
        )
    }

    #[test]
    fn a_peer_stalls_when_its_socket_takes_nothing_for_half_a_minute_and_not_when_it_takes_a_little()
     {
        let (mut connection, mut theirs) = connection();
        while connection.socket.stream.write(&[0; 65536]).is_ok() {}
        connection.flush(1_000);
        assert!(!connection.has_stalled(1_000 + WRITE_STALL_MS - 1));
        connection.flush(5_000);
        assert!(
            connection.has_stalled(1_000 + WRITE_STALL_MS),
            "another try does not count"
        );
        assert!(
            connection.deadline_ms().unwrap() <= 1_000 + WRITE_STALL_MS,
            "the timer sees it"
        );

        // The peer reads.
        let mut buffer = vec![0; 1 << 20];
        while !connection.session.output().is_empty() {
            assert!(theirs.read(&mut buffer).unwrap() > 0);
            connection.socket.writable = true;
            connection.flush(20_000);
        }
        assert!(!connection.has_stalled(u64::MAX));
    }

    #[test]
    fn what_cannot_be_written_any_more_does_not_pile_up_and_the_end_is_found_by_reading() {
        let (mut connection, theirs) = connection();
        // Bytes that the peer never read make its close a reset.
        connection.socket.stream.write_all(b"unread").unwrap();
        drop(theirs);
        let mut buffer = [0; 16];
        while connection.ended.is_none() {
            connection.flush(0);
            connection.socket.readable = true;
            assert_eq!(connection.read(&mut buffer), 0);
        }
        connection.flush(0);
        connection.flush(0);
        assert!(connection.session.output().is_empty());
        assert!(!connection.has_stalled(u64::MAX));
    }
}
