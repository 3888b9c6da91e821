//! The turn of one session: events to the service, answers to the socket, bytes to the session, all within bounds.

use super::admission::Verdict;
use super::connection::{Connection, Entry, Name, State};
use super::shared::Counted;
use super::{Command, NetEvent, PeerId, Reactor, Reply, Service, unix_s};
use crate::eth::message::{Message, Outgoing};
use crate::fault::Cause;
use crate::limits::{
    LINGER_MS, MAX_LINGERING, MAX_WAITING_EVENTS, PAUSE_RETRY_MS, SEAL_APART_BYTES,
    SEALED_TOGETHER, TURN_BYTES, TURN_MESSAGES,
};
use crate::scores::Subject;
use crate::session::{Close, NotReady, SessionEvent, seal_each};

/// No longer than the rest of the shortest frame after its header: body and MAC, 16 bytes each (RLPx).
const PIECE_BYTES: usize = 32;

/// What a turn has left.
enum Next {
    /// Nothing to do until the poll or a timer says so.
    Wait,
    /// More to do: another turn, after the others.
    Again,
    /// An answer to be sealed beside those of others, and then another turn.
    Seal,
    /// The connection is over.
    End(Close),
}

impl Reactor {
    /// Whatever the connection is in, it goes on.
    pub(super) fn turn(&mut self, peer: PeerId, service: &mut dyn Service) {
        let Some(entry) = self.slots.take(peer) else {
            return;
        };
        match entry.state {
            State::Dial(dial) => self.dial_turn(peer, dial),
            State::Linger(_) => {
                self.slots.put_back(entry);
                self.linger_turn(peer);
            }
            State::Open(mut connection) => {
                if let Some(workspace) = self.workspace.take() {
                    connection.session.lend(workspace);
                }
                let next = self.session_turn(peer, &mut connection, service);
                self.workspace = connection.session.reclaim();
                connection.tell_paused();
                match next {
                    Next::End(close) => self.end(peer, *connection, close, service),
                    Next::Wait | Next::Again | Next::Seal => {
                        self.slots.put_back(Entry {
                            state: State::Open(connection),
                            ..entry
                        });
                        self.arm(peer);
                        match next {
                            Next::Again => self.slots.queue(peer),
                            Next::Seal => self.unsealed.push(peer),
                            _ => {}
                        }
                        if self.unsealed.len() >= SEALED_TOGETHER {
                            self.seal();
                        }
                    }
                }
            }
        }
    }

    /// Seals the answers that wait for it side by side, and writes them.
    pub(super) fn seal(&mut self) {
        let now_ms = self.now_ms();
        let waiting = self.unsealed.drain(..);
        let mut entries: Vec<Entry> = waiting.filter_map(|peer| self.slots.take(peer)).collect();
        seal_each(
            entries
                .iter_mut()
                .filter_map(|entry| match &mut entry.state {
                    State::Open(connection) => Some(&mut connection.session),
                    _ => None, // it has been ended meanwhile
                }),
        );
        for mut entry in entries {
            if let State::Open(connection) = &mut entry.state {
                if let Some(workspace) = self.workspace.take() {
                    connection.session.lend(workspace);
                }
                connection.flush(now_ms);
                self.workspace = connection.session.reclaim();
            }
            let peer = entry.peer;
            self.slots.put_back(entry);
            self.arm(peer);
            self.slots.queue(peer);
        }
    }

    fn session_turn(
        &mut self,
        peer: PeerId,
        connection: &mut Connection,
        service: &mut dyn Service,
    ) -> Next {
        let now_ms = self.now_ms();
        let mut bytes = 0;
        let mut messages = 0;
        loop {
            // What came in is dealt with before more is read.
            let mut drained = false;
            while !connection.is_blocked() && bytes < TURN_BYTES && messages < TURN_MESSAGES {
                let Some(event) = connection.session.poll_event() else {
                    drained = true;
                    break;
                };
                messages += 1;
                let before = connection.session.waiting_bytes();
                if let Some(close) = self.event(peer, connection, event, service) {
                    return Next::End(close);
                }
                bytes += connection.session.waiting_bytes().saturating_sub(before);
            }
            // With nobody else in sight it is sealed as it is written.
            if connection.session.unsealed_bytes() >= SEAL_APART_BYTES
                && (self.slots.queued() > 0 || !self.unsealed.is_empty())
            {
                return Next::Seal;
            }
            connection.flush(now_ms);
            if drained {
                if let Some(why) = connection.ended.take() {
                    return Next::End(Close::Io(why));
                }
                if bytes >= TURN_BYTES {
                    return Next::Again;
                }
                // What was written may have made the session ready for nothing: only reading gives it more to do.
                let taken = match self.feed(peer, connection, service) {
                    Ok(taken) => taken,
                    Err(close) => return Next::End(close),
                };
                bytes += taken;
                if taken == 0 && connection.ended.is_none() {
                    connection.flush(now_ms);
                    return Next::Wait;
                }
            } else if connection.is_blocked() {
                // The service's room, or the socket's, will bring the next turn.
                return Next::Wait;
            } else if bytes >= TURN_BYTES || messages >= TURN_MESSAGES {
                return Next::Again;
            }
        }
    }

    /// Hands to the session what it left of the last read, or else what a new one gives; gives how many bytes it took. The rest waits
    /// until its events are dealt with.
    ///
    /// Until the peer has proven its id they go in small pieces: so the verdict about it falls before its Hello, which
    /// comes after the header of the frame that proves it, has been acted on. A peer that is refused never gets our
    /// Status, and so never takes itself for connected.
    fn feed(
        &mut self,
        peer: PeerId,
        connection: &mut Connection,
        service: &mut dyn Service,
    ) -> Result<usize, Close> {
        let now_ms = self.now_ms();
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = std::mem::take(&mut connection.unread);
        let came = if left.is_empty() {
            let len = connection.read(&mut buffer);
            &mut buffer[..len]
        } else {
            &mut left[..]
        };
        let mut taken = 0;
        let mut fed = Ok(());
        while taken < came.len() && fed.is_ok() {
            let piece = if connection.is_authenticated {
                &mut came[taken..]
            } else {
                let end = came.len().min(taken + PIECE_BYTES);
                &mut came[taken..end]
            };
            let piece_bytes = piece.len();
            let session = &mut connection.session;
            let piece_taken = session.handle_some(now_ms, piece, &self.chain, MAX_WAITING_EVENTS);
            taken += piece_taken;
            if !connection.is_authenticated
                && let Some(event) = connection.session.poll_event()
            {
                fed = self
                    .event(peer, connection, event, service)
                    .map_or(Ok(()), Err);
            } else if piece_taken < piece_bytes {
                connection.unread = came[taken..].to_vec();
                break;
            }
        }
        self.buffer = buffer;
        fed.map(|()| taken)
    }

    /// Deals with one event; the last one gives how the session closed.
    fn event(
        &mut self,
        peer: PeerId,
        connection: &mut Connection,
        event: SessionEvent,
        service: &mut dyn Service,
    ) -> Option<Close> {
        match event {
            SessionEvent::Authenticated { id } => {
                connection.id = Some(id);
                connection.is_authenticated = true;
                let now = (self.now_ms(), unix_s());
                let verdict = self
                    .shared
                    .book()
                    .authenticate(peer, id, connection.inbound, now);
                match verdict {
                    Verdict::Admit => {}
                    Verdict::Replace(other) => self.replace(other, service),
                    Verdict::Refuse(cause) => {
                        connection.session.disconnect(cause);
                        // What the session gave already, such as Ready, counts no more.
                        return Some(drain_to_close(connection));
                    }
                }
            }
            SessionEvent::Ready(info) => {
                self.crowd.over(peer);
                log::info!(
                    "Peer connected {} client={:?} eth={} inbound={} peers={}",
                    Name(Some(info.id), connection.addr),
                    Printable(&info.client),
                    info.eth,
                    info.inbound,
                    self.shared.book().admission.peers()
                );
                connection.info = Some(info.clone());
                self.shared.roll.enter(peer, connection.addr, info.clone());
                let event = NetEvent::Connected {
                    peer,
                    addr: connection.addr,
                    info,
                };
                // An end that was not taken yet comes first, so that no more ends wait than there are peers.
                let taken = if self.gone.is_empty() {
                    service.offer(event)
                } else {
                    Err(event)
                };
                connection.is_announced = taken.is_ok();
                self.hold(peer, connection, taken);
            }
            SessionEvent::Message(Message::Request { id, request }) => {
                let info = connection
                    .info
                    .clone()
                    .expect("a session is ready before it gives messages");
                let session = &mut connection.session;
                let kind = request.answer_kind();
                let mut send = |message: Outgoing<'_>| {
                    if let Err(error) = session.send(message) {
                        log::debug!("Answer not sent id={}: {error:?}", info.id.short());
                        // A request must not go without an answer; a session that has closed needs none.
                        if error == NotReady::TooLarge {
                            let empty = Outgoing::EmptyAnswer {
                                code: kind.code(),
                                id,
                            };
                            let _ = session.send(empty);
                        }
                    }
                };
                let mut reply = Reply::new(id, &request, &mut send);
                service.answer(&info, id, &request, &mut reply);
                if !reply.is_sent() {
                    reply.empty();
                }
            }
            // The session has answered it, if it wanted an answer.
            SessionEvent::Message(Message::Ignored { .. }) => {}
            SessionEvent::Message(message) => {
                let taken = service.offer(NetEvent::Message { peer, message });
                self.hold(peer, connection, taken);
            }
            SessionEvent::Closed(close) => return Some(close),
        }
        None
    }

    /// Pauses the connection if the service gave its event back.
    fn hold(&mut self, peer: PeerId, connection: &mut Connection, taken: Result<(), NetEvent>) {
        if let Err(event) = taken {
            connection.held = Some(event);
            self.paused.push_back(peer);
            self.retry_later();
        }
    }

    fn retry_later(&mut self) {
        let now_ms = self.now_ms();
        self.retry_at_ms.get_or_insert(now_ms + PAUSE_RETRY_MS);
    }

    /// Ends the other of two connections with one node, which may be another reactor's.
    fn replace(&mut self, other: PeerId, service: &mut dyn Service) {
        let cause = Cause::AlreadyConnected;
        match self
            .neighbours
            .get(other.thread(self.neighbours.len().max(1)))
        {
            Some(neighbour) if !self.slots.has(other) => {
                // If its link is full the peer ends the connection: it comes to the same verdict.
                let command = Command::Disconnect { peer: other, cause };
                let _ = neighbour.link.send(command);
            }
            _ => self.disconnect(other, cause, service),
        }
    }

    /// Ends a connection for a reason of ours, whatever it has to say still.
    pub(super) fn disconnect(&mut self, peer: PeerId, cause: Cause, service: &mut dyn Service) {
        let Some(entry) = self.slots.take(peer) else {
            return;
        };
        let State::Open(mut connection) = entry.state else {
            return self.slots.put_back(entry);
        };
        connection.session.disconnect(cause);
        let close = drain_to_close(&mut connection);
        self.end(peer, *connection, close, service);
    }

    /// A connection that was taken from its place has ended: the log, the service and the books are told.
    fn end(
        &mut self,
        peer: PeerId,
        connection: Connection,
        close: Close,
        service: &mut dyn Service,
    ) {
        let name = Name(connection.id, connection.addr);
        let what = CloseText(&close);
        if connection.info.is_some() {
            log::info!("Peer disconnected {name} {what}");
        } else if connection.is_authenticated || connection.index.is_some() {
            log::info!(
                "Handshake failed {name} inbound={} {what}",
                connection.inbound
            );
        } else {
            self.stranger_line(format_args!("Handshake failed {name} inbound=true {what}"));
        }
        if connection.held.is_some() {
            self.paused.retain(|paused| *paused != peer);
        }
        if connection.is_announced {
            let event = NetEvent::Gone {
                peer,
                close: close.clone(),
            };
            let taken = if self.gone.is_empty() {
                service.offer(event)
            } else {
                Err(event)
            };
            if let Err(event) = taken {
                self.gone.push_back(event);
                self.retry_later();
            }
        }
        if let Close::Local { cause, .. } = close {
            let id = connection.id.filter(|_| connection.is_authenticated);
            let bans = self.shared.blame(id, connection.addr.ip(), cause, unix_s());
            for ban in bans {
                let length_s = ban.until_s.saturating_sub(unix_s());
                self.stranger_line(format_args!(
                    "Banned {} for={length_s}s times={} cause={cause:?}",
                    SubjectText(&ban.subject),
                    ban.count
                ));
            }
        }
        let linger = matches!(close, Close::Local { .. });
        self.forget(peer, connection, linger);
    }

    /// Takes the connection off the books; if it is to linger, its last bytes are still sent.
    pub(super) fn forget(&mut self, peer: PeerId, connection: Connection, linger: bool) {
        let now_ms = self.now_ms();
        self.crowd.over(peer);
        self.shared.roll.leave(peer);
        let counted = (connection.counted == Counted::Yes).then_some(connection.addr.ip());
        self.shared
            .book()
            .admission
            .leave(peer, connection.id, counted);
        if let Some(index) = connection.index {
            self.dialer.ended(index, now_ms);
        }
        if linger && self.slots.count(|state| matches!(state, State::Linger(_))) < MAX_LINGERING {
            let until_ms = now_ms + LINGER_MS;
            let state = State::Linger(Box::new(connection.linger(until_ms)));
            self.slots.put_back(Entry {
                peer,
                armed_ms: u64::MAX,
                is_queued: false,
                state,
            });
            self.slots.arm(peer, until_ms);
            self.slots.queue(peer);
        } else {
            self.slots.release(peer);
        }
    }

    /// A connection that we have ended goes on ending.
    pub(super) fn linger_turn(&mut self, peer: PeerId) {
        let Some(mut entry) = self.slots.take(peer) else {
            return;
        };
        let State::Linger(linger) = &mut entry.state else {
            return self.slots.put_back(entry);
        };
        if linger.turn(&mut self.buffer) {
            self.slots.release(peer);
        } else {
            self.slots.put_back(entry);
        }
    }

    /// Sets the timer of an open connection.
    pub(super) fn arm(&mut self, peer: PeerId) {
        let Some(Entry {
            state: State::Open(connection),
            ..
        }) = self.slots.get(peer)
        else {
            return;
        };
        if let Some(at_ms) = connection.deadline_ms() {
            self.slots.arm(peer, at_ms);
        }
    }

    /// Everything that is due.
    pub(super) fn fire_timers(&mut self, service: &mut dyn Service) {
        let now_ms = self.now_ms();
        // All that are due first: one that is due again at once waits for the next round.
        let due: Vec<PeerId> = std::iter::from_fn(|| self.slots.fired(now_ms)).collect();
        for peer in due {
            let Some(entry) = self.slots.get_mut(peer) else {
                continue;
            };
            match &mut entry.state {
                State::Dial(_) => self.turn(peer, service),
                State::Linger(linger) if linger.until_ms <= now_ms => {
                    self.slots.take(peer);
                    self.slots.release(peer);
                }
                State::Linger(linger) => {
                    let until_ms = linger.until_ms;
                    self.slots.arm(peer, until_ms);
                }
                State::Open(connection) => {
                    if connection.has_stalled(now_ms) {
                        self.stalled(peer, service);
                    } else if connection
                        .deadline_ms()
                        .is_some_and(|at_ms| at_ms <= now_ms)
                    {
                        connection.session.handle_timeout(now_ms);
                        self.turn(peer, service);
                    } else {
                        self.arm(peer);
                    }
                }
            }
        }
    }

    fn stalled(&mut self, peer: PeerId, service: &mut dyn Service) {
        let Some(entry) = self.slots.take(peer) else {
            return;
        };
        let State::Open(mut connection) = entry.state else {
            return self.slots.put_back(entry);
        };
        let cause = Cause::Silence;
        connection.session.disconnect(cause);
        let why = "it does not read what it asked for".to_owned();
        self.end(peer, *connection, Close::Local { cause, why }, service);
    }
}

/// The end that a session tells of, past everything that it has not told yet.
fn drain_to_close(connection: &mut Connection) -> Close {
    while let Some(event) = connection.session.poll_event() {
        if let SessionEvent::Closed(close) = event {
            return close;
        }
    }
    Close::Io("ended".into())
}

/// How a connection ended, for the log.
struct CloseText<'a>(&'a Close);

impl std::fmt::Display for CloseText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Close::Local { cause, why } => write!(f, "by=us reason={:?}: {why}", cause.reason()),
            Close::Remote { reason } => write!(f, "by=peer reason={reason:?}"),
            Close::Io(why) => write!(f, "by=network: {why}"),
        }
    }
}

/// Who is banned, for the log.
struct SubjectText<'a>(&'a Subject);

impl std::fmt::Display for SubjectText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Subject::Id(id) => write!(f, "id={}", id.short()),
            Subject::Address(ip) => write!(f, "addr={ip}"),
        }
    }
}

/// A peer's own words, short and in one line.
struct Printable<'a>(&'a str);

impl std::fmt::Debug for Printable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = self
            .0
            .char_indices()
            .nth(80)
            .map_or(self.0.len(), |(at, _)| at);
        std::fmt::Debug::fmt(&self.0[..end], f)
    }
}
