//! How far a puppet goes before it does harm, and what must hold after it.

use std::sync::atomic::{AtomicU8, Ordering};

use cairn_net::p2p::{self, DisconnectReason, Hello};

use super::puppet::{End, Honest, Puppet, Target};
use super::{Node, headers_request, id, reactor_config};

pub const BREACH: End = End::Told(DisconnectReason::ProtocolBreach);
pub const SUBPROTOCOL: End = End::Told(DisconnectReason::Subprotocol);

/// A node that has one honest peer already.
pub fn watched(n: u8) -> (Node, Target, Honest) {
    let node = Node::start(reactor_config(n));
    let target = (node.addr, node.id);
    let honest = Honest::start(9, target, headers_request(), 3);
    node.connected();
    (node, target, honest)
}

/// Nothing more came of the hostile, and the honest one was served.
#[track_caller]
pub fn over(node: &Node, honest: Honest, what: &str) {
    node.assert_quiet(50);
    honest.finish(what);
}

/// A key that did no harm yet: after four faults a node is banned.
pub fn stranger() -> u8 {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    100 + NEXT.fetch_add(1, Ordering::Relaxed) % 150
}

/// How far a puppet goes before it does harm.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Hello,
    Status,
    Ready,
}

pub const STEPS: [Step; 3] = [Step::Hello, Step::Status, Step::Ready];

impl Step {
    pub fn reach(self, key: u8, target: Target) -> Puppet {
        match self {
            Step::Hello => Puppet::dial(key, target),
            Step::Status => Puppet::greeted(key, target),
            Step::Ready => Puppet::ready(key, target),
        }
    }

    /// A frame that is right at this step.
    pub fn frame(self, puppet: &mut Puppet) -> Vec<u8> {
        let pong = [&[p2p::PONG][..], &[0x01, 0x00, 0xc0]].concat();
        match self {
            Step::Hello => puppet.sealed(&[&[0x80][..], &hello(9)].concat()),
            Step::Status | Step::Ready => puppet.sealed(&pong),
        }
    }
}

/// A Hello without capabilities.
pub fn hello(key: u8) -> Vec<u8> {
    let mut hello = Vec::new();
    Hello {
        version: p2p::VERSION,
        client: String::new(),
        capabilities: vec![],
        port: 0,
        id: id(key),
    }
    .encode(&mut hello);
    hello
}

/// What of a peer came to the service: nothing of one that never was ready, and of another that it came and went.
pub fn assert_gone(node: &Node, step: Step) {
    if matches!(step, Step::Ready) {
        node.connected();
        node.gone();
    }
}

pub fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..len).map(next).collect()
}
