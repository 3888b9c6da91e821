//! A peer on a blocking socket, with the chain of a node's own folder.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cairn::chain::{Genesis, SealedHeader, Tip};
use cairn::sync::local_chain;
use cairn_net::enode::Enode;
use cairn_net::eth::message::{Message, Outgoing, Request};
use cairn_net::eth::status::{LocalChain, Status};
use cairn_net::session::{Config, Role, Session, SessionEvent};
use secp256k1::SecretKey;

use super::{Node, STEP_TIMEOUT, reader};

pub struct Peer {
    /// What the node said of itself.
    pub status: Status,
    stream: TcpStream,
    session: Session,
    chain: LocalChain,
    started: Instant,
}

impl Peer {
    /// Dials the node and shakes hands.
    pub fn dial(node: &Node, genesis: &Genesis, eth: u8) -> Peer {
        let snapshot = reader(&node.datadir).snapshot();
        let head = snapshot.head();
        let raw = snapshot.header(head.number).unwrap().unwrap();
        let header = SealedHeader::decode(Bytes::copy_from_slice(&raw)).unwrap();
        let tip = Tip {
            header: Arc::new(header),
            td: head.td,
            clique: None,
        };
        let network_id = genesis.spec.network_id();
        let enode: Enode = node.enode.parse().unwrap();
        // Who dials twice is another one each time.
        let key = SecretKey::from_byte_array(&[eth; 32]).unwrap();
        let config = Config::new(key, "test".into(), 0, vec![eth]);
        let mut stream = TcpStream::connect((enode.ip, enode.tcp)).unwrap();
        stream.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
        let mut session = Session::new(Arc::new(config), Role::Initiator(enode.id), [9; 32], 0);
        let chain = local_chain(genesis, network_id, &tip, snapshot.first_body());
        let started = Instant::now();
        let info = loop {
            let event = next_event(&mut stream, &mut session, &chain, started);
            if let SessionEvent::Ready(info) = event {
                break info;
            }
        };
        Peer {
            status: info.status.clone(),
            stream,
            session,
            chain,
            started,
        }
    }

    /// The next message.
    pub fn message(&mut self) -> Message {
        loop {
            let event = next_event(
                &mut self.stream,
                &mut self.session,
                &self.chain,
                self.started,
            );
            if let SessionEvent::Message(message) = event {
                return message;
            }
        }
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, request: &Request) -> Message {
        let message = Outgoing::Request { id: 5, request };
        assert!(self.session.send(message).is_ok());
        loop {
            let message = self.message();
            if matches!(
                message,
                Message::Headers { id: 5, .. }
                    | Message::Bodies { id: 5, .. }
                    | Message::Receipts { id: 5, .. }
            ) {
                return message;
            }
        }
    }
}

fn next_event(
    stream: &mut TcpStream,
    session: &mut Session,
    chain: &LocalChain,
    started: Instant,
) -> SessionEvent {
    let mut buffer = [0; 65536];
    loop {
        while !session.output().is_empty() {
            let n = stream.write(session.output()).unwrap();
            session.consume_output(n);
        }
        if let Some(event) = session.poll_event() {
            assert!(!matches!(event, SessionEvent::Closed(_)), "{event:?}");
            return event;
        }
        let n = match stream.read(&mut buffer) {
            // A process that was stopped and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert!(n > 0, "the node hung up");
        let now_ms = started.elapsed().as_millis() as u64;
        session.handle_input(now_ms, &mut buffer[..n], chain);
    }
}
