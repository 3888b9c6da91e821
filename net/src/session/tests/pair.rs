//! Two sessions that are what they should be, with bytes cut anywhere between them.

use bytes::Bytes;

use super::*;
use crate::eth::message::Request;

/// A session whose owner takes its events as they come.
pub(super) struct Owned {
    pub(super) session: Session,
    pub(super) events: Vec<SessionEvent>,
}

impl std::ops::Deref for Owned {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl std::ops::DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl From<Session> for Owned {
    fn from(session: Session) -> Owned {
        Owned {
            session,
            events: Vec::new(),
        }
    }
}

/// What has happened since the last time.
pub(super) fn events(owned: &mut Owned) -> Vec<SessionEvent> {
    owned.events.extend(super::events(&mut owned.session));
    std::mem::take(&mut owned.events)
}

#[track_caller]
pub(super) fn closed(owned: &mut Owned) -> (DisconnectReason, String) {
    let events = events(owned);
    assert!(owned.session.events.is_empty());
    owned.session.events.extend(events);
    super::closed(&mut owned.session)
}

pub(super) struct Pair {
    pub(super) a: Owned,
    pub(super) b: Owned,
    pub(super) chain_a: LocalChain,
    pub(super) chain_b: LocalChain,
    pub(super) now_ms: u64,
    dice: Entropy,
}

impl Pair {
    pub(super) fn new(seed: u8, versions_a: &[u8], versions_b: &[u8]) -> Pair {
        let initiator = Role::Initiator(id(2));
        Pair {
            a: Session::new(config(1, versions_a), initiator, [seed; 32], NOW_MS).into(),
            b: Session::new(config(2, versions_b), Role::Recipient, [!seed; 32], NOW_MS).into(),
            chain_a: chain(),
            chain_b: chain(),
            now_ms: NOW_MS,
            dice: Entropy::new([seed; 32]),
        }
    }

    /// Ready, with the events of that taken.
    pub(super) fn ready(seed: u8) -> Pair {
        let mut pair = Pair::new(seed, &[69, 68], &[69, 68]);
        pair.run();
        assert!(matches!(
            events(&mut pair.a)[..],
            [_, SessionEvent::Ready(_)]
        ));
        assert!(matches!(
            events(&mut pair.b)[..],
            [_, SessionEvent::Ready(_)]
        ));
        pair
    }

    /// Carries bytes in pieces of random length until neither has any.
    pub(super) fn run(&mut self) {
        while !(self.a.output().is_empty() && self.b.output().is_empty()) {
            let length = match self.dice.below(4) {
                0 => 1,
                1 => 1 + self.dice.below(40),
                2 => 1 + self.dice.below(u16::MAX),
                _ => usize::MAX,
            };
            if self.dice.below(2) == 0 {
                carry(&mut self.a, &mut self.b, length, self.now_ms, &self.chain_b);
            } else {
                carry(&mut self.b, &mut self.a, length, self.now_ms, &self.chain_a);
            }
        }
    }
}

pub(super) fn carry(
    from: &mut Owned,
    to: &mut Owned,
    length: usize,
    now_ms: u64,
    chain: &LocalChain,
) {
    let length = length.min(from.output().len());
    let mut bytes = from.output()[..length].to_vec();
    from.consume_output(length);
    to.handle_input(now_ms, &mut bytes, chain);
    to.events.extend(super::events(&mut to.session));
}

#[test]
fn two_sessions_become_ready_however_their_bytes_are_cut() {
    for seed in 0..60 {
        let mut pair = Pair::new(seed, &[69, 68], &[68, 69]);
        pair.run();
        for (session, remote, inbound) in [(&mut pair.a, 2, false), (&mut pair.b, 1, true)] {
            let events = events(session);
            let [
                SessionEvent::Authenticated { id: first },
                SessionEvent::Ready(info),
            ] = &events[..]
            else {
                panic!("seed {seed}: {events:?}");
            };
            assert_eq!((*first, info.id), (id(remote), id(remote)));
            assert_eq!((info.eth, info.inbound), (69, inbound));
            assert_eq!(info.client, format!("cairn/test{remote}"));
            assert_eq!(info.status, Status::of(&chain(), 69));
        }
    }
}

#[test]
fn the_highest_common_version_is_spoken() {
    for (a, b, expected) in [
        (&[69, 68][..], &[68][..], 68),
        (&[68], &[68, 69], 68),
        (&[69], &[69, 68], 69),
        (&[71, 70, 69, 68], &[68, 69, 70], 70),
        (&[70, 71], &[68, 69, 70, 71], 71),
        (&[71, 70, 69, 68], &[68, 72], 68),
    ] {
        let mut pair = Pair::new(1, a, b);
        pair.run();
        for session in [&mut pair.a, &mut pair.b] {
            match events(session).last() {
                Some(SessionEvent::Ready(info)) => {
                    assert_eq!(info.eth, expected);
                    assert_eq!(info.status.td.is_some(), expected == 68);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn peers_without_a_common_version_part_as_useless() {
    let mut pair = Pair::new(1, &[68], &[69]);
    pair.run();
    let (reason, why) = closed(&mut pair.a);
    assert_eq!(reason, DisconnectReason::UselessPeer);
    assert!(why.contains("[68]") && why.contains("eth/69"), "{why}");
    assert_eq!(closed(&mut pair.b).0, DisconnectReason::UselessPeer);
}

#[test]
fn peers_on_other_chains_part_with_the_field_that_differs() {
    let other_forks = {
        let head = Head {
            number: 7,
            ..Head::default()
        };
        let genesis = chain().genesis;
        ForkFilter::new(head, genesis, 0, [ForkFilterKey::Block(3)])
    };
    type Change = Box<dyn Fn(&mut LocalChain)>;
    let differences: [(&str, Change); 3] = [
        ("network id", Box::new(|chain| chain.network_id = 1)),
        (
            "genesis",
            Box::new(|chain| chain.genesis = B256::repeat_byte(1)),
        ),
        (
            "fork id",
            Box::new(move |chain| chain.fork_filter = other_forks.clone()),
        ),
    ];
    for (field, change) in differences {
        let mut pair = Pair::new(1, &[69, 68], &[69, 68]);
        change(&mut pair.chain_b);
        pair.run();
        for session in [&mut pair.a, &mut pair.b] {
            let (reason, why) = closed(session);
            assert_eq!(reason, DisconnectReason::Subprotocol);
            assert!(why.contains(field), "{why}");
        }
    }
}

#[test]
fn messages_go_both_ways_whole_and_in_order() {
    let mut pair = Pair::ready(3);
    let headers: Vec<Vec<u8>> = (0..50u8)
        .map(|at| [vec![0xf8, 200], vec![at; 200]].concat())
        .collect();
    let items: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
    let request = Request::Bodies {
        hashes: vec![B256::repeat_byte(9); 128],
    };
    let a = &mut pair.a;
    a.send(Outgoing::Request {
        id: 5,
        request: &request,
    })
    .unwrap();
    a.send(Outgoing::NewBlockHashes(&[(B256::repeat_byte(4), 8)]))
        .unwrap();
    let answer = Outgoing::Answer {
        kind: AnswerKind::Headers,
        id: 6,
        items: &items,
    };
    pair.b.send(answer).unwrap();
    pair.run();
    let request = SessionEvent::Message(Message::Request { id: 5, request });
    let announced = SessionEvent::Message(Message::NewBlockHashes(vec![(B256::repeat_byte(4), 8)]));
    assert_eq!(events(&mut pair.b), [request, announced]);
    let headers = headers.into_iter().map(Bytes::from).collect();
    let answer = SessionEvent::Message(Message::Headers { id: 6, headers });
    assert_eq!(events(&mut pair.a), [answer]);
}

/// Streams that were compressed alone, one of them with references back into itself.
#[test]
fn a_ready_answer_says_what_the_answer_of_the_same_items_says() {
    let bodies: Vec<Vec<u8>> = [3usize, 900, 70_000, 300_000]
        .iter()
        .map(|len| {
            let payload: Vec<u8> = (0..*len).map(|at| (at / 7 % 200) as u8).collect();
            let mut body = Vec::new();
            alloy_rlp::Header {
                list: true,
                payload_length: payload.len(),
            }
            .encode(&mut body);
            body.extend(payload);
            body
        })
        .collect();
    let streams: Vec<Vec<u8>> = bodies
        .iter()
        .map(|body| {
            let stream = snap::raw::Encoder::new().compress_vec(body).unwrap();
            let preamble = 1 + stream.iter().position(|byte| byte & 0x80 == 0).unwrap();
            stream[preamble..].to_vec()
        })
        .collect();
    let mut pair = Pair::ready(4);
    let kind = AnswerKind::Bodies;
    let items: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    let streams: Vec<&[u8]> = streams.iter().map(Vec::as_slice).collect();
    let raw_len = bodies.iter().map(Vec::len).sum();
    pair.a
        .send(Outgoing::Answer {
            kind,
            id: 1,
            items: &items,
        })
        .unwrap();
    pair.a
        .send(Outgoing::ReadyAnswer {
            kind,
            id: 1,
            raw_len,
            streams: &streams,
        })
        .unwrap();
    pair.a
        .send(Outgoing::ReadyAnswer {
            kind,
            id: 2,
            raw_len: 0,
            streams: &[],
        })
        .unwrap();
    pair.run();
    let bodies = bodies.into_iter().map(Bytes::from).collect();
    let answer = SessionEvent::Message(Message::Bodies { id: 1, bodies });
    let empty = SessionEvent::Message(Message::Bodies {
        id: 2,
        bodies: vec![],
    });
    assert_eq!(events(&mut pair.b), [answer.clone(), answer, empty]);
}

#[test]
fn a_message_that_no_peer_would_take_is_not_sent() {
    let mut pair = Pair::ready(5);
    let (kind, id) = (AnswerKind::Bodies, 1);
    let half = vec![0; 6 << 20];
    let items: [&[u8]; 2] = [&half, &half];
    let refused = pair.a.send(Outgoing::Answer {
        kind,
        id,
        items: &items,
    });
    assert_eq!(refused, Err(NotReady::TooLarge));
    let ready = Outgoing::ReadyAnswer {
        kind,
        id,
        raw_len: 12 << 20,
        streams: &[],
    };
    assert_eq!(pair.a.send(ready), Err(NotReady::TooLarge));
    let ready = Outgoing::ReadyAnswer {
        kind,
        id,
        raw_len: 1,
        streams: &[&half, &half, &half],
    };
    assert_eq!(pair.a.send(ready), Err(NotReady::TooLarge));
    assert!(pair.a.output().is_empty());
}

#[test]
fn a_message_that_the_peers_version_has_not_is_not_sent() {
    let mut pair = Pair::new(1, &[68], &[68]);
    pair.run();
    let latest_hash = B256::repeat_byte(1);
    let range = Outgoing::BlockRange {
        earliest: 0,
        latest: 1,
        latest_hash,
    };
    assert_eq!(pair.a.send(range), Err(NotReady::NotOfVersion));
    assert!(pair.a.output().is_empty());

    let mut pair = Pair::new(1, &[70], &[70]);
    pair.run();
    let request = Outgoing::Request {
        id: 1,
        request: &Request::BlockAccessLists { hashes: vec![] },
    };
    assert_eq!(pair.a.send(request), Err(NotReady::NotOfVersion));
}

#[test]
fn nothing_is_sent_before_the_session_is_ready_or_after_it_ended() {
    let message = Outgoing::EmptyAnswer { code: 4, id: 1 };
    let mut session = recipient();
    assert_eq!(session.send(message), Err(NotReady::Handshaking));
    Puppet::dial(&mut session);
    assert_eq!(session.send(message), Err(NotReady::Handshaking));
    session.disconnect(Cause::Quitting);
    assert_eq!(session.send(message), Err(NotReady::Closed));
}

#[test]
fn a_disconnect_reaches_the_peer_at_every_step_after_the_handshake() {
    let mut pair = Pair::ready(6);
    pair.a.disconnect(Cause::Quitting);
    pair.a.disconnect(Cause::Requested);
    assert_eq!(closed(&mut pair.a).0, DisconnectReason::Quitting);
    pair.run();
    let reason = DisconnectReason::Quitting;
    assert_eq!(
        events(&mut pair.b),
        [SessionEvent::Closed(Close::Remote { reason })]
    );
    assert!(pair.b.is_closed() && pair.b.output().is_empty());

    // right after the handshake, before a Hello was seen
    let mut pair = Pair::new(6, &[69], &[69]);
    carry(&mut pair.a, &mut pair.b, usize::MAX, NOW_MS, &pair.chain_b);
    pair.b.disconnect(Cause::TooManyPeers);
    pair.run();
    let reason = DisconnectReason::TooManyPeers;
    assert_eq!(
        events(&mut pair.a).last(),
        Some(&SessionEvent::Closed(Close::Remote { reason }))
    );
}

#[test]
fn a_node_that_reaches_itself_notices_in_both_roles() {
    let mut session = Session::new(config(2, &[69]), Role::Initiator(id(2)), [1; 32], NOW_MS);
    assert_eq!(super::closed(&mut session).0, DisconnectReason::SelfConnect);
    assert!(session.output().is_empty());

    // under another name for the same key, the recipient sees it
    let mut entropy = Entropy::new([5; 32]);
    let mut auth = Vec::new();
    let secret = SecretKey::from_slice(&[2; 32]).unwrap();
    AwaitingAck::start(secret, id(2), &mut entropy, &mut auth).unwrap();
    let mut session = recipient();
    session.handle_input(NOW_MS, &mut auth, &chain());
    assert_eq!(super::closed(&mut session).0, DisconnectReason::SelfConnect);
}

#[test]
fn dialling_another_node_than_the_one_meant_ends_on_both_sides() {
    let mut a = Owned::from(Session::new(
        config(1, &[69]),
        Role::Initiator(id(3)),
        [1; 32],
        NOW_MS,
    ));
    let mut b = Owned::from(recipient());
    carry(&mut a, &mut b, usize::MAX, NOW_MS, &chain());
    let (reason, why) = closed(&mut b);
    assert_eq!(reason, DisconnectReason::ProtocolBreach);
    assert!(why.contains("another node"), "{why}");
    assert!(b.output().is_empty());
    let deadline_ms = a.deadline_ms().unwrap();
    a.handle_timeout(deadline_ms);
    assert_eq!(closed(&mut a).0, DisconnectReason::Timeout);
}

/// A flipped bit anywhere in either direction, from the first byte of the handshake to messages: no panic, and the
/// sides never both go on as if nothing had been.
#[test]
fn a_flipped_bit_anywhere_ends_the_session() {
    for at in (0..3000).step_by(13) {
        for to_b in [true, false] {
            let mut pair = Pair::new(12, &[69], &[69]);
            let (mut seen_a, mut seen_b) = (0, 0);
            let (mut idle, mut sent) = (false, false);
            while !idle {
                idle = true;
                let mut bytes = pair.a.output().to_vec();
                pair.a.consume_output(bytes.len());
                if to_b && (seen_a..seen_a + bytes.len()).contains(&at) {
                    bytes[at - seen_a] ^= 1 << (at % 8);
                }
                seen_a += bytes.len();
                idle &= bytes.is_empty();
                pair.b.handle_input(NOW_MS, &mut bytes, &pair.chain_b);
                pair.b.events.extend(super::events(&mut pair.b.session));
                let mut bytes = pair.b.output().to_vec();
                pair.b.consume_output(bytes.len());
                if !to_b && (seen_b..seen_b + bytes.len()).contains(&at) {
                    bytes[at - seen_b] ^= 1 << (at % 8);
                }
                seen_b += bytes.len();
                idle &= bytes.is_empty();
                pair.a.handle_input(NOW_MS, &mut bytes, &pair.chain_a);
                pair.a.events.extend(super::events(&mut pair.a.session));
                if idle && !sent {
                    (idle, sent) = (false, true);
                    let noise = Entropy::new([1; 32]).bytes::<1500>();
                    let mut item = vec![0xf9, 0x05, 0xdc];
                    item.extend(noise);
                    for session in [&mut pair.a, &mut pair.b] {
                        let (kind, id) = (AnswerKind::Headers, 1);
                        let _ = session.send(Outgoing::Answer {
                            kind,
                            id,
                            items: &[&item],
                        });
                    }
                }
            }
            let seen = if to_b { seen_a } else { seen_b };
            let [hurt, other] = if to_b {
                [&mut pair.b, &mut pair.a]
            } else {
                [&mut pair.a, &mut pair.b]
            };
            if at < seen {
                // the receiver notices, or waits for bytes that a flipped size has promised, until its deadline
                if !hurt.is_closed() {
                    let deadline_ms = hurt.deadline_ms().unwrap();
                    assert!(deadline_ms <= NOW_MS + 5000, "byte {at}");
                    hurt.handle_timeout(deadline_ms);
                }
                closed(hurt);
            } else {
                assert!(
                    !hurt.is_closed() && !other.is_closed(),
                    "byte {at} is beyond {seen}"
                );
            }
        }
    }
}
