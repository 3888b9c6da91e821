//! Sessions against each other, and against a peer that says whatever a test wants.

#![allow(clippy::unwrap_used)]

mod bounds;
mod hostile;
mod pair;

use alloy_eip2124::{ForkFilter, ForkFilterKey, Head};
use alloy_primitives::{B256, U256};

use super::buffers::Buffer;
use super::workspace::Packer;
use super::*;
use crate::p2p::{self, Capability, Hello};
use crate::rlpx::frame::{HEADER_BYTES, rest_bytes};
use crate::rlpx::handshake::Link;

fn chain() -> LocalChain {
    let head = Head {
        number: 7,
        timestamp: 70,
        ..Head::default()
    };
    let genesis = B256::repeat_byte(0x61);
    let forks = [(ForkFilterKey::Block(5), ())].map(|(fork, ())| fork);
    LocalChain {
        network_id: 1337,
        genesis,
        fork_filter: ForkFilter::new(head, genesis, 0, forks),
        head_number: 7,
        head: B256::repeat_byte(0x68),
        td: U256::from(15),
        earliest: 0,
    }
}

fn config(key: u8, eth_versions: &[u8]) -> Arc<Config> {
    Arc::new(Config::new(
        SecretKey::from_slice(&[key; 32]).unwrap(),
        format!("cairn/test{key}"),
        30303,
        eth_versions.to_vec(),
    ))
}

fn id(key: u8) -> NodeId {
    rlpx::node_id(&SecretKey::from_slice(&[key; 32]).unwrap())
}

fn events(session: &mut Session) -> Vec<SessionEvent> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// The reason of the one Close, which must be the last event.
#[track_caller]
fn closed(session: &mut Session) -> (DisconnectReason, String) {
    assert!(session.is_closed());
    assert_eq!(session.deadline_ms(), None);
    let events = events(session);
    let closes = events
        .iter()
        .filter(|event| matches!(event, SessionEvent::Closed(_)))
        .count();
    assert_eq!(closes, 1, "{events:?}");
    match events.last() {
        Some(SessionEvent::Closed(Close::Local { cause, why })) => (cause.reason(), why.clone()),
        other => panic!("not closed by this side: {other:?}"),
    }
}

/// A peer that does the handshake as it should and then says whatever a test wants.
struct Puppet {
    key: u8,
    link: Link,
}

const NOW_MS: u64 = 1_000_000;

impl Puppet {
    /// Dials a new session of key 2, and swallows its Hello.
    fn dial(session: &mut Session) -> Puppet {
        let key = 3;
        let mut entropy = Entropy::new([99; 32]);
        let mut auth = Vec::new();
        let secret = SecretKey::from_slice(&[key; 32]).unwrap();
        let state = AwaitingAck::start(secret, id(2), &mut entropy, &mut auth).unwrap();
        session.handle_input(NOW_MS, &mut auth, &chain());
        let mut output = session.output().to_vec();
        let size = usize::from(u16::from_be_bytes([output[0], output[1]])) + 2;
        let Ok(Step::More { state, .. }) = state.read(&mut output[..2]) else {
            panic!("no ack")
        };
        let Ok(Step::Done(link)) = state.read(&mut output[..size]) else {
            panic!("no ack")
        };
        session.consume_output(size);
        let mut puppet = Puppet { key, link: *link };
        let hello = puppet.receive(session);
        assert_eq!(hello.len(), 1, "Hello at once, and no more");
        assert_eq!(
            (hello[0].0, Hello::decode(&hello[0].1).unwrap().id),
            (p2p::HELLO, id(2))
        );
        puppet
    }

    /// Dials, and goes on until the session is ready.
    fn ready(session: &mut Session) -> Puppet {
        let mut puppet = Puppet::dial(session);
        puppet.say_hello(session, |_| {});
        puppet.say_status(session, |_| {});
        let events = events(session);
        assert!(
            matches!(events.last(), Some(SessionEvent::Ready(_))),
            "{events:?}"
        );
        assert_eq!(puppet.receive(session)[0].0, 0x10, "our Status");
        puppet
    }

    fn say_hello(&mut self, session: &mut Session, change: impl FnOnce(&mut Hello)) {
        let eth = Capability {
            name: "eth".to_owned(),
            version: 69,
        };
        let mut hello = Hello {
            version: 5,
            client: "puppet".to_owned(),
            capabilities: vec![eth],
            port: 0,
            id: id(self.key),
        };
        change(&mut hello);
        let mut payload = Vec::new();
        hello.encode(&mut payload);
        self.say_plain(session, p2p::HELLO, &payload);
    }

    fn say_status(&mut self, session: &mut Session, change: impl FnOnce(&mut Status)) {
        let mut status = Status::of(&chain(), 69);
        change(&mut status);
        let mut payload = Vec::new();
        status.encode(&mut payload);
        self.say(session, 0x10, &payload);
    }

    /// A message as it is after Hello.
    fn say(&mut self, session: &mut Session, id: u8, payload: &[u8]) {
        let mut wire = Vec::new();
        let packer = &mut Packer::default();
        codec::write(id, payload, packer, &mut wire);
        self.link.writer.seal(&mut wire);
        session.handle_input(NOW_MS, &mut wire, &chain());
    }

    /// A message that is not compressed, or compressed by the test.
    fn say_plain(&mut self, session: &mut Session, id: u8, payload: &[u8]) {
        let mut wire = Vec::new();
        codec::write_plain(id, payload, &mut wire);
        self.link.writer.seal(&mut wire);
        session.handle_input(NOW_MS, &mut wire, &chain());
    }

    /// A frame with any body.
    fn say_frame(&mut self, session: &mut Session, body: &[u8]) {
        let mut wire = Vec::new();
        self.link.writer.write(&[body], &mut wire);
        session.handle_input(NOW_MS, &mut wire, &chain());
    }

    /// What the session has said: ids, and payloads decompressed (but Hello's).
    fn receive(&mut self, session: &mut Session) -> Vec<(u8, Vec<u8>)> {
        let mut output = session.output().to_vec();
        session.consume_output(output.len());
        let mut rest = output.as_mut_slice();
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let (header, after) = rest.split_first_chunk_mut::<HEADER_BYTES>().unwrap();
            let body_bytes = self.link.reader.header(header).unwrap();
            let (frame, after) = after.split_at_mut(rest_bytes(body_bytes));
            rest = after;
            let (id, payload) =
                codec::split(self.link.reader.body(frame, body_bytes).unwrap()).unwrap();
            messages.push(match id {
                p2p::HELLO => (id, payload.to_vec()),
                id => (
                    id,
                    codec::decompress(payload, usize::MAX >> 8, Buffer::alone)
                        .unwrap()
                        .to_vec(),
                ),
            });
        }
        messages
    }

    /// The reason of the Disconnect, which must be the last the session has said.
    #[track_caller]
    fn disconnected(&mut self, session: &mut Session) -> DisconnectReason {
        let messages = self.receive(session);
        match messages.last() {
            Some((p2p::DISCONNECT, payload)) => DisconnectReason::decode(payload).unwrap(),
            other => panic!("no Disconnect: {other:?}"),
        }
    }
}

fn recipient() -> Session {
    Session::new(config(2, &[69, 68]), Role::Recipient, [2; 32], NOW_MS)
}
