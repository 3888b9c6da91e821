//! The net thread's part of the node, played as close to `cairn_net`'s reactor as it can be without sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_net::enode::NodeId;
use cairn_net::eth::message::{Message, Outgoing};
use cairn_net::fault::Cause;
use cairn_net::reactor::{NetEvent, PeerId, Reply, Service};
use cairn_net::scores::Subject;
use cairn_net::session::{Close, NotReady, PeerInfo, Role, Session, SessionEvent};

use super::{Node, Outside, Run};
use crate::sync::sim::whole::link::{Parcel, Side};
use crate::sync::sim::whole::remote::{Remote, flush};

/// Bytes handed to a session at a time until its peer has proven its id, as in the reactor.
const PIECE_BYTES: usize = 32;

/// Its end of a connection.
pub(super) struct Conn {
    pub(super) session: Session,
    addr: SocketAddr,
    pub(super) remote: usize,
    id: Option<NodeId>,
    info: Option<Arc<PeerInfo>>,
    is_announced: bool,
    /// An event that sync had no room for.
    held: Option<NetEvent>,
}

impl Node {
    /// A connection has come up, with this session on our end.
    pub(in crate::sync::sim::whole) fn connect(
        &mut self,
        peer: PeerId,
        remote: &Remote,
        role: Role,
        session: Session,
    ) {
        let Some(run) = &mut self.run else { return };
        let dialled = match role {
            Role::Initiator(id) => Some(id),
            Role::Recipient => None,
        };
        let conn = Conn {
            session,
            addr: SocketAddr::new(remote.addr(), 30303),
            remote: usize::try_from(remote.sim.id.0).unwrap(),
            id: dialled,
            info: None,
            is_announced: false,
            held: None,
        };
        run.conns.insert(peer, conn);
    }

    /// One connection, as the reactor's `session_turn` does it.
    pub(super) fn conn_turn(&mut self, run: &mut Run, peer: PeerId, out: &mut Outside<'_>) {
        let Some(mut conn) = run.conns.remove(&peer) else {
            return;
        };
        let due_ms = conn.session.deadline_ms();
        if due_ms.is_some_and(|due_ms| due_ms <= out.clocks.ms) {
            conn.session.handle_timeout(out.clocks.ms);
        }
        let close = loop {
            let mut close = None;
            while !conn.is_blocked() && close.is_none() {
                let Some(event) = conn.session.poll_event() else {
                    break;
                };
                close = run.event(peer, &mut conn, event, out);
            }
            flush_conn(out, peer, &mut conn);
            if close.is_some() || conn.is_blocked() {
                break close;
            }
            let received = out.links.get_mut(&peer).map(|link| {
                let now_ms = out.now_ms;
                link.receive(now_ms, Side::Node)
            });
            match received {
                Some(None) => break None,
                None => break Some(Close::Io("no such connection".into())),
                Some(Some(Parcel::End(why))) => break Some(Close::Io(why.into())),
                Some(Some(Parcel::Bytes(bytes))) => {
                    if let Some(close) = run.feed(peer, &mut conn, bytes, out) {
                        break Some(close);
                    }
                }
            }
        };
        conn.session.set_paused(conn.held.is_some());
        match close {
            None => {
                run.conns.insert(peer, conn);
            }
            Some(close) => self.end(run, peer, conn, close, out),
        }
    }

    /// A connection has ended: as the reactor's `end` does it.
    fn end(
        &mut self,
        run: &mut Run,
        peer: PeerId,
        mut conn: Conn,
        close: Close,
        out: &mut Outside<'_>,
    ) {
        out.trace
            .step(out.now_ms, format_args!("node ends {} {close:?}", peer.0));
        if conn.is_announced {
            let close = close.clone();
            run.offer_gone(NetEvent::Gone { peer, close });
        }
        if let Close::Local { cause, .. } = close {
            let remote = &out.remotes[conn.remote];
            assert!(
                cause.weight() == 0 || !remote.is_honest(),
                "an honest peer is blamed for {cause:?}"
            );
            for subject in [Subject::Id(remote.id), Subject::Address(remote.addr())] {
                run.scores.blame(subject, cause.weight(), out.clocks.s);
            }
            self.bans = run.scores.bans(out.clocks.s);
        }
        flush_conn(out, peer, &mut conn);
        if let Some(link) = out.links.get_mut(&peer) {
            link.close(out.now_ms, Side::Node);
        }
    }

    /// Ends a connection for a reason of ours.
    pub(super) fn disconnect(
        &mut self,
        run: &mut Run,
        peer: PeerId,
        cause: Cause,
        out: &mut Outside<'_>,
    ) {
        let Some(mut conn) = run.conns.remove(&peer) else {
            return;
        };
        conn.session.disconnect(cause);
        let close = drain_to_close(&mut conn.session);
        self.end(run, peer, conn, close, out);
    }
}

impl Run {
    /// One event of a session, as the reactor's `event` does it; the last one gives how it closed.
    fn event(
        &mut self,
        peer: PeerId,
        conn: &mut Conn,
        event: SessionEvent,
        out: &mut Outside<'_>,
    ) -> Option<Close> {
        match event {
            SessionEvent::Authenticated { id } => {
                conn.id = Some(id);
                let ban = self.scores.banned_until_s(&Subject::Id(id), out.clocks.s);
                if ban.is_some() {
                    conn.session.disconnect(Cause::Banned);
                    return Some(drain_to_close(&mut conn.session));
                }
            }
            SessionEvent::Ready(info) => {
                let what = format_args!("node has peer {} {} {}", peer.0, info.client, info.eth);
                out.trace.step(out.now_ms, what);
                conn.info = Some(info.clone());
                let addr = conn.addr;
                let event = NetEvent::Connected { peer, addr, info };
                let taken = match self.gone.is_empty() {
                    true => self.server.offer(event),
                    false => Err(event),
                };
                conn.is_announced = taken.is_ok();
                conn.held = taken.err();
            }
            SessionEvent::Message(Message::Request { id, request }) => {
                let info = conn.info.clone().unwrap();
                let session = &mut conn.session;
                let mut send = |message: Outgoing<'_>| {
                    let sent = session.send(message);
                    assert!(
                        matches!(sent, Ok(()) | Err(NotReady::Closed)),
                        "an answer is not sent: {sent:?}"
                    );
                };
                let mut reply = Reply::new(id, &request, &mut send);
                self.server.answer(&info, id, &request, &mut reply);
                assert!(reply.is_sent() && !self.server.has_failed());
            }
            SessionEvent::Message(Message::Ignored { .. }) => {}
            SessionEvent::Message(message) => {
                conn.held = self.server.offer(NetEvent::Message { peer, message }).err();
            }
            SessionEvent::Closed(close) => return Some(close),
        }
        None
    }

    /// Hands bytes to the session, in small pieces until the peer has proven its id.
    fn feed(
        &mut self,
        peer: PeerId,
        conn: &mut Conn,
        mut bytes: Vec<u8>,
        out: &mut Outside<'_>,
    ) -> Option<Close> {
        let mut rest = &mut bytes[..];
        let mut is_proven = conn.info.is_some();
        while !rest.is_empty() {
            let length = match is_proven {
                true => rest.len(),
                false => rest.len().min(PIECE_BYTES),
            };
            let (piece, later) = rest.split_at_mut(length);
            conn.session.handle_input(out.clocks.ms, piece, &self.chain);
            rest = later;
            if !is_proven && let Some(event) = conn.session.poll_event() {
                is_proven = matches!(event, SessionEvent::Authenticated { .. });
                if let Some(close) = self.event(peer, conn, event, out) {
                    return Some(close);
                }
            }
        }
        None
    }

    fn offer_gone(&mut self, event: NetEvent) {
        let taken = match self.gone.is_empty() {
            true => self.server.offer(event),
            false => Err(event),
        };
        self.gone.extend(taken.err());
    }

    /// Offers again what sync had no room for, as the reactor's `resume` does it.
    pub(super) fn resume(&mut self, out: &mut Outside<'_>) {
        if !self.stalled.swap(false, Ordering::SeqCst) {
            return;
        }
        out.watch.stalls += 1;
        while let Some(event) = self.gone.pop_front() {
            if let Err(event) = self.server.offer(event) {
                self.gone.push_front(event);
                return;
            }
        }
        for conn in self.conns.values_mut() {
            let Some(event) = conn.held.take() else {
                continue;
            };
            let is_connected = matches!(event, NetEvent::Connected { .. });
            conn.held = self.server.offer(event).err();
            if conn.held.is_some() {
                return;
            }
            conn.is_announced |= is_connected;
        }
    }
}

impl Conn {
    pub(super) fn is_blocked(&self) -> bool {
        self.held.is_some() || self.session.output_is_full()
    }
}

pub(super) fn flush_conn(out: &mut Outside<'_>, peer: PeerId, conn: &mut Conn) {
    if let Some(link) = out.links.get_mut(&peer) {
        flush(out.now_ms, &mut conn.session, link, Side::Node);
    }
}

/// How a session that was ended has closed: what else it has to say counts no more.
fn drain_to_close(session: &mut Session) -> Close {
    loop {
        if let SessionEvent::Closed(close) = session.poll_event().unwrap() {
            return close;
        }
    }
}
