//! A node, a chain and a peer of it for the targets of the wire: keys and entropy never change, so that a crash replays.

use std::sync::{Arc, LazyLock};

use alloy_eip2124::{ForkFilter, ForkFilterKey, Head};
use alloy_primitives::{B256, U256};
use cairn_net::enode::NodeId;
use cairn_net::eth;
use cairn_net::eth::status::{LocalChain, Status};
use cairn_net::p2p::{self, Capability, Hello};
use cairn_net::rlpx;
use cairn_net::rlpx::entropy::Entropy;
use cairn_net::rlpx::frame::{HEADER_BYTES, rest_bytes};
use cairn_net::rlpx::handshake::{AwaitingAck, Link, PREFIX_BYTES, Step};
use cairn_net::session::{Config, Role, Session};
use secp256k1::SecretKey;

pub const NOW_MS: u64 = 1_000_000;

/// The static keys of EIP-8's vectors, of A who dials and of B.
pub fn of_eip_8() -> [SecretKey; 2] {
    [crate::vectors::STATIC_A, crate::vectors::STATIC_B]
        .map(|key| SecretKey::from_slice(&key).expect("a key of the specification"))
}

/// The key of our node.
pub const OURS: u8 = 2;
/// The key of its peer.
pub const THEIRS: u8 = 3;

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).expect("a small number is a key")
}

pub fn id(n: u8) -> NodeId {
    rlpx::node_id(&key(n))
}

pub fn chain() -> &'static LocalChain {
    static CHAIN: LazyLock<LocalChain> = LazyLock::new(|| {
        let head = Head {
            number: 7,
            timestamp: 70,
            ..Head::default()
        };
        let genesis = B256::repeat_byte(0x61);
        LocalChain {
            network_id: 1337,
            genesis,
            fork_filter: ForkFilter::new(head, genesis, 0, [ForkFilterKey::Block(5)]),
            head_number: 7,
            head: B256::repeat_byte(0x68),
            td: U256::from(15),
            earliest: 0,
        }
    });
    &CHAIN
}

pub fn config() -> Arc<Config> {
    Arc::new(Config::new(
        key(OURS),
        "cairn/fuzz".to_owned(),
        30303,
        eth::VERSIONS.to_vec(),
    ))
}

/// A recipient's session, and the link of the peer that dialled it: auth and ack are behind them.
pub fn linked() -> (Session, Link) {
    let mut session = Session::new(config(), Role::Recipient, [2; 32], NOW_MS);
    let mut auth = Vec::new();
    let state = AwaitingAck::start(
        key(THEIRS),
        id(OURS),
        &mut Entropy::new([99; 32]),
        &mut auth,
    )
    .expect("a key's id is one");
    session.handle_input(NOW_MS, &mut auth, chain());
    let mut output = session.output().to_vec();
    let (state, size) = match state.read(&mut output[..PREFIX_BYTES]) {
        Ok(Step::More {
            state,
            needed_bytes,
        }) => (state, needed_bytes),
        other => panic!("no ack: {other:?}"),
    };
    let Ok(Step::Done(link)) = state.read(&mut output[..size]) else {
        panic!("no ack");
    };
    session.consume_output(size);
    (session, *link)
}

/// The same, ready for messages of eth of this version.
pub fn ready(version: u8) -> (Session, Link) {
    let (mut session, mut link) = linked();
    let mut payload = Vec::new();
    hello(version).encode(&mut payload);
    say(&mut session, &mut link, p2p::HELLO, &payload);
    let mut payload = Vec::new();
    Status::of(chain(), version).encode(&mut payload);
    say(
        &mut session,
        &mut link,
        p2p::FIRST_CAPABILITY_ID,
        &pack(&payload),
    );
    while session.poll_event().is_some() {}
    assert!(!session.is_closed(), "an honest peer is welcome");
    receive(&mut session, &mut link);
    (session, link)
}

pub fn hello(version: u8) -> Hello {
    Hello {
        version: p2p::VERSION,
        client: "peer".to_owned(),
        capabilities: vec![Capability {
            name: "eth".to_owned(),
            version: version.into(),
        }],
        port: 0,
        id: id(THEIRS),
    }
}

/// Compressed, as everything after Hello is.
pub fn pack(payload: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new()
        .compress_vec(payload)
        .expect("far below 4 GiB")
}

/// Sends a frame of a message id and bytes as they are.
pub fn say(session: &mut Session, link: &mut Link, id: u8, payload: &[u8]) {
    let id = if id == 0 { 0x80 } else { id };
    say_frame(session, link, &[&[id], payload].concat());
}

pub fn say_frame(session: &mut Session, link: &mut Link, body: &[u8]) {
    let mut wire = Vec::new();
    link.writer.write(&[body], &mut wire);
    session.handle_input(NOW_MS, &mut wire, chain());
}

/// Takes what the session has said: it must be whole frames, each of a message id and something that can be read.
pub fn receive(session: &mut Session, link: &mut Link) -> usize {
    let mut output = session.output().to_vec();
    session.consume_output(output.len());
    let mut rest = output.as_mut_slice();
    let mut frames = 0;
    while !rest.is_empty() {
        let (header, after) = rest
            .split_first_chunk_mut::<HEADER_BYTES>()
            .expect("a whole header");
        let body_bytes = link.reader.header(header).expect("our MAC");
        let (body, after) = after.split_at_mut(rest_bytes(body_bytes));
        rest = after;
        assert!(
            !link
                .reader
                .body(body, body_bytes)
                .expect("our MAC")
                .is_empty()
        );
        frames += 1;
    }
    frames
}
