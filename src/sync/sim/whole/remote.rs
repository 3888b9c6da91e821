//! A virtual peer: a real session on its own end of the link, behind it one of the simulation's natures and liars.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use alloy_primitives::{B256, U256, keccak256};
use cairn_net::enode::NodeId;
use cairn_net::eth::message::{AnswerKind, Message, Outgoing, Request, Start};
use cairn_net::eth::status::LocalChain;
use cairn_net::reactor::PeerId;
use cairn_net::session::{Close, Config, NotReady, Role, Session, SessionEvent};
use secp256k1::SecretKey;

use super::link::{Cut, Link, Parcel, Side};
use super::trace::Trace;
use crate::chain::Genesis;
use crate::sync::sim::Dice;
use crate::sync::sim::chain::SimBlock;
use crate::sync::sim::peer::{Nature, SimPeer};

pub(super) const NETWORK_ID: u64 = 4242;

/// Bytes that a remote that makes noise sends in place of its part of the handshake.
const NOISE_BYTES: u64 = 600;

/// What a remote does to its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// Nothing.
    Fair,
    /// This byte is another one.
    Spoilt(u64),
    /// It takes the connection and never says a word.
    Mute,
    /// It sends anything.
    Noise,
    /// It is of another network.
    OtherNetwork,
    /// From its Status on it reads nothing.
    Deaf,
}

/// One peer, connected or not.
pub(super) struct Remote {
    pub(super) sim: SimPeer,
    pub(super) wire: Wire,
    /// The node dials it; else it dials the node.
    pub(super) is_dialled: bool,
    pub(super) is_present: bool,
    pub(super) think_ms: u64,
    pub(super) window_bytes: usize,
    /// It wants to see what the node has.
    pub(super) is_curious: bool,
    /// A partition keeps it from the node until then.
    pub(super) held_until_ms: u64,
    /// Cuts of its connections to come.
    pub(super) cuts: VecDeque<Cut>,
    pub(super) backoff_ms: u64,
    /// Something was done to its connections for which it may be found silent.
    pub(super) is_disturbed: bool,
    /// It left a branch: an answer from before may be under way.
    pub(super) has_moved: bool,
    pub(super) id: NodeId,
    pub(super) open: Option<Open>,
    config: Arc<Config>,
}

/// Its end of a connection.
pub(super) struct Open {
    pub(super) link: PeerId,
    pub(super) since_ms: u64,
    /// None: it does not speak the protocol.
    session: Option<Session>,
    is_ready: bool,
    /// What it asked the node for.
    asked: Vec<B256>,
}

/// What came of a turn.
#[derive(Default)]
pub(super) struct Turn {
    /// Requests of the node, in order.
    pub(super) requests: Vec<(u64, Request)>,
    /// The connection is over, and why.
    pub(super) ended: Option<String>,
}

impl Remote {
    pub(super) fn new(sim: SimPeer) -> Remote {
        let mut secret = [0; 32];
        secret[24..].copy_from_slice(&(sim.id.0 + 1).to_be_bytes());
        let key = SecretKey::from_slice(&secret).unwrap();
        let config = Config::new(key, sim.client.into(), 30303, vec![sim.eth]);
        Remote {
            sim,
            wire: Wire::Fair,
            is_dialled: false,
            is_present: false,
            think_ms: 0,
            window_bytes: 256 << 10,
            is_curious: false,
            held_until_ms: 0,
            cuts: VecDeque::new(),
            backoff_ms: 0,
            is_disturbed: false,
            has_moved: false,
            id: config.id(),
            open: None,
            config: Arc::new(config),
        }
    }

    pub(super) fn addr(&self) -> IpAddr {
        let [.., high, low] = self.sim.id.0.to_be_bytes();
        Ipv4Addr::new(203, 0, high, low).into()
    }

    /// Nothing that it does is a reason to punish it.
    pub(super) fn is_honest(&self) -> bool {
        self.wire == Wire::Fair && !matches!(self.sim.nature, Nature::Liar(_))
    }

    /// What its Status says.
    fn chain(&self, genesis: &Genesis) -> LocalChain {
        let info = self.sim.info(0);
        let head = &self.sim.head().header.header;
        let boast = info.status.latest.unwrap_or(head.number);
        LocalChain {
            network_id: match self.wire {
                Wire::OtherNetwork => NETWORK_ID + 1,
                _ => NETWORK_ID,
            },
            genesis: genesis.header.hash,
            fork_filter: genesis
                .spec
                .fork_filter(genesis, head.number, head.timestamp),
            head_number: boast,
            head: info.status.head,
            td: info.status.td.unwrap_or(U256::ZERO),
            earliest: self.sim.earliest,
        }
    }

    /// A connection has come up.
    pub(super) fn connect(
        &mut self,
        now_ms: u64,
        id: PeerId,
        link: &mut Link,
        session: Option<Session>,
        dice: &mut Dice,
    ) {
        if let Wire::Spoilt(at) = self.wire {
            link.spoilt_byte = Some(at);
        }
        link.cut = self.cuts.pop_front();
        if self.wire == Wire::Noise {
            let noise: Vec<u8> = (0..NOISE_BYTES).map(|_| dice.next() as u8).collect();
            link.send(now_ms, Side::Remote, &noise);
        }
        self.sim.answered = 0;
        self.open = Some(Open {
            link: id,
            since_ms: now_ms,
            session,
            is_ready: false,
            asked: Vec::new(),
        });
    }

    /// A session of its own for a new connection, if it speaks the protocol.
    pub(super) fn session(&self, now_ms: u64, role: Role, seed: [u8; 32]) -> Option<Session> {
        match self.wire {
            Wire::Mute | Wire::Noise => None,
            _ => Some(Session::new(self.config.clone(), role, seed, now_ms)),
        }
    }

    /// When time does something to it.
    pub(super) fn deadline_ms(&self, link: &Link) -> Option<u64> {
        let open = self.open.as_ref()?;
        let arrival_ms = link.next_ms(Side::Remote).filter(|_| self.reads());
        let session = open.session.as_ref();
        let timer_ms = session.and_then(Session::deadline_ms);
        arrival_ms.into_iter().chain(timer_ms).min()
    }

    fn reads(&self) -> bool {
        let Some(open) = &self.open else { return false };
        let is_full = open.session.as_ref().is_some_and(Session::output_is_full);
        let is_deaf = self.wire == Wire::Deaf && open.is_ready;
        !is_full && !is_deaf
    }

    /// Everything that can be done now.
    pub(super) fn turn(
        &mut self,
        now_ms: u64,
        link: &mut Link,
        genesis: &Genesis,
        valid: &BTreeMap<B256, Arc<SimBlock>>,
        trace: &mut Trace,
    ) -> Turn {
        let mut turn = Turn::default();
        if self.open.is_none() {
            return turn;
        }
        let chain = self.chain(genesis);
        let timer_ms = |open: &Open| open.session.as_ref().and_then(Session::deadline_ms);
        if let Some(open) = &mut self.open
            && timer_ms(open).is_some_and(|due_ms| due_ms <= now_ms)
            && let Some(session) = &mut open.session
        {
            session.handle_timeout(now_ms);
        }
        loop {
            self.take_events(&mut turn, valid, trace, now_ms);
            self.flush(now_ms, link);
            if turn.ended.is_some() || !self.reads() {
                break;
            }
            match link.receive(now_ms, Side::Remote) {
                None => break,
                Some(Parcel::End(why)) => turn.ended = Some(why.into()),
                Some(Parcel::Bytes(mut bytes)) => {
                    let open = self.open.as_mut().unwrap();
                    if let Some(session) = &mut open.session {
                        session.handle_input(now_ms, &mut bytes, &chain);
                    }
                }
            }
        }
        if turn.ended.is_some() {
            link.close(now_ms, Side::Remote);
            self.open = None;
        }
        turn
    }

    fn take_events(
        &mut self,
        turn: &mut Turn,
        valid: &BTreeMap<B256, Arc<SimBlock>>,
        trace: &mut Trace,
        now_ms: u64,
    ) {
        let is_curious = self.is_curious;
        let Some(open) = &mut self.open else { return };
        while let Some(event) = open.session.as_mut().and_then(Session::poll_event) {
            match event {
                SessionEvent::Authenticated { .. } => {}
                SessionEvent::Ready(_) => {
                    open.is_ready = true;
                    if is_curious {
                        let request = Request::Headers {
                            start: Start::Number(1),
                            amount: 40,
                            skip: 0,
                            reverse: false,
                        };
                        open.send(Outgoing::Request {
                            id: 1,
                            request: &request,
                        });
                    }
                }
                SessionEvent::Message(Message::Request { id, request }) => {
                    turn.requests.push((id, request));
                }
                SessionEvent::Message(message) => open.judge(message, valid),
                SessionEvent::Closed(close) => {
                    if let Close::Local { cause, .. } = &close {
                        assert_eq!(cause.weight(), 0, "the node breaks the protocol: {close:?}");
                    }
                    let text = format!("{close:?}");
                    trace.step(
                        now_ms,
                        format_args!("remote {} closes {text}", self.sim.id.0),
                    );
                    turn.ended = Some(text);
                }
            }
        }
    }

    /// Hands its bytes to the link, as far as there is room; at the end all of them.
    fn flush(&mut self, now_ms: u64, link: &mut Link) {
        let Some(session) = self.open.as_mut().and_then(|open| open.session.as_mut()) else {
            return;
        };
        flush(now_ms, session, link, Side::Remote);
    }

    /// Sends a message if the connection is still that one.
    pub(super) fn say(&mut self, now_ms: u64, id: PeerId, link: &mut Link, message: &Message) {
        let Some(open) = self.open.as_mut().filter(|open| open.link == id) else {
            return;
        };
        match message {
            Message::Headers { id, headers } => open.answer(AnswerKind::Headers, *id, headers),
            Message::Bodies { id, bodies } => open.answer(AnswerKind::Bodies, *id, bodies),
            Message::Receipts {
                id,
                blocks,
                last_is_cut,
            } => {
                let kind = match last_is_cut {
                    true => AnswerKind::CutReceipts,
                    false => AnswerKind::Receipts,
                };
                open.answer(kind, *id, blocks);
            }
            Message::NewBlockHashes(hashes) => open.send(Outgoing::NewBlockHashes(hashes)),
            Message::NewBlock { header, body, td } => open.send(Outgoing::NewBlock {
                header,
                body,
                td: *td,
            }),
            Message::BlockRange {
                earliest,
                latest,
                latest_hash,
            } => open.send(Outgoing::BlockRange {
                earliest: *earliest,
                latest: *latest,
                latest_hash: *latest_hash,
            }),
            other => panic!("no peer of the simulation says {other:?}"),
        }
        self.flush(now_ms, link);
    }
}

impl Open {
    fn send(&mut self, message: Outgoing<'_>) {
        let Some(session) = &mut self.session else {
            return;
        };
        match session.send(message) {
            // Some of what the liars say does not exist in their version.
            Ok(()) | Err(NotReady::NotOfVersion | NotReady::Handshaking | NotReady::Closed) => {}
            Err(NotReady::TooLarge) => panic!("no message of the simulation is that long"),
        }
    }

    fn answer(&mut self, kind: AnswerKind, id: u64, items: &[bytes::Bytes]) {
        let items: Vec<&[u8]> = items.iter().map(|item| &item[..]).collect();
        let items = &items;
        self.send(Outgoing::Answer { kind, id, items });
    }

    /// What the node says must be true: nothing but valid blocks.
    fn judge(&mut self, message: Message, valid: &BTreeMap<B256, Arc<SimBlock>>) {
        match message {
            Message::Headers { headers, .. } => {
                self.asked = headers.iter().map(keccak256).collect();
                let known = |hash| valid.contains_key(hash);
                assert!(
                    self.asked.iter().all(known),
                    "the node serves a header of its own"
                );
                let request = Request::Bodies {
                    hashes: self.asked.clone(),
                };
                if !self.asked.is_empty() {
                    self.send(Outgoing::Request {
                        id: 2,
                        request: &request,
                    });
                }
            }
            Message::Bodies { bodies, .. } => {
                // Those of blocks that were replaced meanwhile are left out.
                let mut asked = self.asked.iter();
                for body in bodies {
                    let fits = |hash: &B256| valid[hash].body == body;
                    assert!(
                        asked.any(fits),
                        "the node serves a body that was not asked for"
                    );
                }
            }
            Message::NewBlockHashes(hashes) => {
                let known = |(hash, _): &(B256, u64)| valid.contains_key(hash);
                assert!(hashes.iter().all(known), "the node announces what is none");
            }
            Message::NewBlock { header, .. } => {
                let hash = keccak256(&header);
                assert!(
                    valid.contains_key(&hash),
                    "the node announces an invalid block"
                );
            }
            Message::BlockRange { latest_hash, .. } => {
                assert!(
                    valid.contains_key(&latest_hash),
                    "the node tells of an invalid head"
                );
            }
            other => panic!("the node says {other:?}"),
        }
    }
}

/// Hands a session's bytes to the link as far as there is room, or all of them once the session has ended.
pub(super) fn flush(now_ms: u64, session: &mut Session, link: &mut Link, side: Side) {
    loop {
        let is_closed = session.is_closed();
        let output = session.output();
        let room = if is_closed {
            output.len()
        } else {
            link.room(side)
        };
        let length = output.len().min(room);
        if length == 0 {
            return;
        }
        link.send(now_ms, side, &output[..length]);
        session.consume_output(length);
    }
}
