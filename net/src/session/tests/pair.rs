//! Two sessions that are what they should be, with bytes cut anywhere between them.

use bytes::Bytes;

use super::*;
use crate::eth::message::Request;
use crate::limits::{PING_INTERVAL_MS, STATUS_TIMEOUT_MS};

/// A session whose owner takes its events as they come.
struct Owned {
    session: Session,
    events: Vec<SessionEvent>,
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
fn events(owned: &mut Owned) -> Vec<SessionEvent> {
    owned.events.extend(super::events(&mut owned.session));
    std::mem::take(&mut owned.events)
}

#[track_caller]
fn closed(owned: &mut Owned) -> (DisconnectReason, String) {
    let events = events(owned);
    assert!(owned.session.events.is_empty());
    owned.session.events.extend(events);
    super::closed(&mut owned.session)
}

struct Pair {
    a: Owned,
    b: Owned,
    chain_a: LocalChain,
    chain_b: LocalChain,
    now_ms: u64,
    dice: Entropy,
}

impl Pair {
    fn new(seed: u8, versions_a: &[u8], versions_b: &[u8]) -> Pair {
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
    fn ready(seed: u8) -> Pair {
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
    fn run(&mut self) {
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

fn carry(from: &mut Owned, to: &mut Owned, length: usize, now_ms: u64, chain: &LocalChain) {
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
    let (a, now_ms) = (&mut pair.a, pair.now_ms);
    a.send(
        now_ms,
        Outgoing::Request {
            id: 5,
            request: &request,
        },
    )
    .unwrap();
    a.send(
        now_ms,
        Outgoing::NewBlockHashes(&[(B256::repeat_byte(4), 8)]),
    )
    .unwrap();
    let answer = Outgoing::Answer {
        kind: AnswerKind::Headers,
        id: 6,
        items: &items,
    };
    pair.b.send(now_ms, answer).unwrap();
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
        .send(
            NOW_MS,
            Outgoing::Answer {
                kind,
                id: 1,
                items: &items,
            },
        )
        .unwrap();
    pair.a
        .send(
            NOW_MS,
            Outgoing::ReadyAnswer {
                kind,
                id: 1,
                raw_len,
                streams: &streams,
            },
        )
        .unwrap();
    pair.a
        .send(
            NOW_MS,
            Outgoing::ReadyAnswer {
                kind,
                id: 2,
                raw_len: 0,
                streams: &[],
            },
        )
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
    let refused = pair.a.send(
        NOW_MS,
        Outgoing::Answer {
            kind,
            id,
            items: &items,
        },
    );
    assert_eq!(refused, Err(NotReady::TooLarge));
    let ready = Outgoing::ReadyAnswer {
        kind,
        id,
        raw_len: 12 << 20,
        streams: &[],
    };
    assert_eq!(pair.a.send(NOW_MS, ready), Err(NotReady::TooLarge));
    let ready = Outgoing::ReadyAnswer {
        kind,
        id,
        raw_len: 1,
        streams: &[&half, &half, &half],
    };
    assert_eq!(pair.a.send(NOW_MS, ready), Err(NotReady::TooLarge));
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
    assert_eq!(pair.a.send(NOW_MS, range), Err(NotReady::NotOfVersion));
    assert!(pair.a.output().is_empty());
}

#[test]
fn nothing_is_sent_before_the_session_is_ready_or_after_it_ended() {
    let message = Outgoing::EmptyAnswer { code: 4, id: 1 };
    let mut session = recipient();
    assert_eq!(session.send(NOW_MS, message), Err(NotReady::Handshaking));
    Puppet::dial(&mut session);
    assert_eq!(session.send(NOW_MS, message), Err(NotReady::Handshaking));
    session.disconnect(DisconnectReason::Quitting);
    assert_eq!(session.send(NOW_MS, message), Err(NotReady::Closed));
}

#[test]
fn a_disconnect_reaches_the_peer_at_every_step_after_the_handshake() {
    let mut pair = Pair::ready(6);
    pair.a.disconnect(DisconnectReason::Quitting);
    pair.a.disconnect(DisconnectReason::Requested);
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
    pair.b.disconnect(DisconnectReason::TooManyPeers);
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

#[test]
fn an_idle_peer_is_pinged_and_answers_and_stays() {
    let mut pair = Pair::ready(7);
    for _ in 0..10 {
        let deadline_ms = pair.a.deadline_ms().unwrap();
        assert_eq!(deadline_ms, pair.now_ms + PING_INTERVAL_MS);
        pair.now_ms = deadline_ms;
        pair.a.handle_timeout(deadline_ms - 1);
        assert!(pair.a.output().is_empty());
        pair.a.handle_timeout(deadline_ms);
        assert!(!pair.a.output().is_empty());
        pair.run();
    }
    assert_eq!((events(&mut pair.a), events(&mut pair.b)), (vec![], vec![]));
}

#[test]
fn a_silent_peer_is_given_up_after_half_a_minute() {
    let mut pair = Pair::ready(8);
    let now_ms = pair.a.deadline_ms().unwrap();
    pair.a.handle_timeout(now_ms);
    assert_eq!(pair.a.deadline_ms(), Some(NOW_MS + SILENCE_TIMEOUT_MS));
    pair.a.handle_timeout(NOW_MS + SILENCE_TIMEOUT_MS - 1);
    assert!(!pair.a.is_closed());
    pair.a.handle_timeout(NOW_MS + SILENCE_TIMEOUT_MS);
    assert_eq!(closed(&mut pair.a).0, DisconnectReason::Timeout);
}

#[test]
fn a_peer_that_we_do_not_read_is_not_given_up() {
    let mut pair = Pair::ready(9);
    pair.a.set_paused(true);
    let mut now_ms = NOW_MS;
    for _ in 0..20 {
        now_ms = pair.a.deadline_ms().unwrap();
        pair.a.handle_timeout(now_ms);
        let length = pair.a.output().len();
        pair.a.consume_output(length);
    }
    assert!(now_ms > NOW_MS + 4 * SILENCE_TIMEOUT_MS && !pair.a.is_closed());
    pair.a.set_paused(false);
    let resumed_ms = now_ms;
    while !pair.a.is_closed() {
        now_ms = pair.a.deadline_ms().unwrap();
        pair.a.handle_timeout(now_ms);
    }
    assert!((SILENCE_TIMEOUT_MS..=2 * SILENCE_TIMEOUT_MS).contains(&(now_ms - resumed_ms)));
}

#[test]
fn a_handshake_that_stops_at_any_byte_is_ended_by_the_clock() {
    let whole = {
        let mut pair = Pair::new(11, &[69], &[69]);
        let mut whole = 0;
        while !(pair.a.output().is_empty() && pair.b.output().is_empty()) {
            whole += pair.a.output().len();
            carry(&mut pair.a, &mut pair.b, usize::MAX, NOW_MS, &pair.chain_b);
            carry(&mut pair.b, &mut pair.a, usize::MAX, NOW_MS, &pair.chain_a);
        }
        whole
    };
    for allowed in (0..whole).step_by(23).chain([whole - 1]) {
        let mut pair = Pair::new(11, &[69], &[69]);
        let mut left = allowed;
        while !(pair.b.output().is_empty() && (left == 0 || pair.a.output().is_empty())) {
            let length = left.min(pair.a.output().len());
            left -= length;
            carry(&mut pair.a, &mut pair.b, length, NOW_MS, &pair.chain_b);
            carry(&mut pair.b, &mut pair.a, usize::MAX, NOW_MS, &pair.chain_a);
        }
        let deadline_ms = pair.b.deadline_ms().unwrap();
        assert!(deadline_ms <= NOW_MS + STATUS_TIMEOUT_MS, "{allowed}");
        pair.b.handle_timeout(deadline_ms);
        assert_eq!(
            closed(&mut pair.b).0,
            DisconnectReason::Timeout,
            "{allowed}"
        );
    }
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
                        let _ = session.send(
                            NOW_MS,
                            Outgoing::Answer {
                                kind,
                                id,
                                items: &[&item],
                            },
                        );
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

#[test]
fn an_idle_session_keeps_no_buffers() {
    let mut pair = Pair::ready(13);
    let mut item = vec![0xfa, 0x10, 0x00, 0x00];
    item.resize(4 + (1 << 20), 0xc0);
    for _ in 0..3 {
        let answer = Outgoing::Answer {
            kind: AnswerKind::Headers,
            id: 1,
            items: &[&item],
        };
        pair.a.send(NOW_MS, answer).unwrap();
        pair.run();
        assert_eq!(events(&mut pair.b).len(), 1);
    }
    for session in [&pair.a, &pair.b] {
        assert_eq!(session.input.capacity(), 0);
        assert!(session.output.end_capacity() <= 1024 && session.events.capacity() <= 16);
    }
}

/// What a session holds on to while nothing happens, buffers and its owner's [`PeerInfo`] aside.
#[test]
fn a_session_at_rest_is_small() {
    let bytes = size_of::<Session>() + size_of::<Linked>();
    assert!(bytes < 8 * 1024, "{bytes}");
}

#[test]
fn a_session_whose_output_is_full_says_so_until_it_is_drained() {
    let mut pair = Pair::ready(14);
    let noise: Vec<u8> = (0..1 << 20)
        .map(|at: u32| (at.wrapping_mul(at) >> 7) as u8)
        .collect();
    let mut item = Vec::new();
    alloy_rlp::Header {
        list: true,
        payload_length: noise.len(),
    }
    .encode(&mut item);
    item.extend(&noise);
    let mut sent = 0;
    while !pair.a.output_is_full() {
        let answer = Outgoing::Answer {
            kind: AnswerKind::Bodies,
            id: sent,
            items: &[&item],
        };
        pair.a.send(NOW_MS, answer).unwrap();
        sent += 1;
        assert!(sent < 200, "never full");
    }
    assert!(pair.a.output().len() < OUTPUT_LIMIT_BYTES + item.len() + 1024);
    let half = pair.a.output().len() / 2;
    carry(&mut pair.a, &mut pair.b, half, NOW_MS, &pair.chain_b);
    assert!(!pair.a.output_is_full());
    pair.run();
    let ids: Vec<u64> = events(&mut pair.b)
        .iter()
        .map(|event| match event {
            SessionEvent::Message(Message::Bodies { id, .. }) => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, (0..sent).collect::<Vec<_>>());
}
