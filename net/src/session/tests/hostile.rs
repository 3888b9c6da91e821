//! A session against a peer that breaks the rules after a proper handshake, and against noise instead of one.

use super::*;
use crate::eth::message::code;
use crate::limits::{HELLO_TIMEOUT_MS, MAX_HELLO_BYTES, MAX_MESSAGE_BYTES, message_limit_bytes};

#[track_caller]
fn assert_ended(session: &mut Session, puppet: &mut Puppet, reason: DisconnectReason, why: &str) {
    let (found, text) = closed(session);
    assert_eq!(found, reason, "{text}");
    assert!(text.contains(why), "{text}");
    assert_eq!(puppet.disconnected(session), reason);
}

#[test]
fn a_hello_is_held_to_its_rules() {
    use DisconnectReason as Reason;
    type Change = fn(&mut Hello);
    let cases: [(Change, Reason, &str); 5] = [
        (
            |hello| hello.id = id(4),
            Reason::UnexpectedIdentity,
            "nodeId",
        ),
        (
            |hello| hello.capabilities.clear(),
            Reason::UselessPeer,
            "in common",
        ),
        (
            |hello| hello.capabilities[0].version = 67,
            Reason::UselessPeer,
            "eth/67",
        ),
        (
            |hello| hello.capabilities[0].name = "ETH".into(),
            Reason::UselessPeer,
            "ETH/69",
        ),
        (
            |hello| hello.capabilities[0].version = u64::MAX,
            Reason::UselessPeer,
            "in common",
        ),
    ];
    for (change, reason, why) in cases {
        let mut session = recipient();
        let mut puppet = Puppet::dial(&mut session);
        puppet.say_hello(&mut session, change);
        assert_ended(&mut session, &mut puppet, reason, why);
    }
}

#[test]
fn a_peer_that_is_refused_by_its_identity_hears_no_status() {
    let mut session = recipient();
    let mut puppet = Puppet::dial(&mut session);
    puppet.say_hello(&mut session, |_| {});
    puppet.say_status(&mut session, |_| {});
    let first = session.poll_event();
    assert_eq!(first, Some(SessionEvent::Authenticated { id: id(3) }));
    session.disconnect(Cause::TooManyPeers);
    let said = puppet.receive(&mut session);
    assert_eq!(said, [(p2p::DISCONNECT, vec![0xc1, 0x04])]);
}

/// Such a peer has no snappy: its Disconnect must be plain.
#[test]
fn a_peer_without_snappy_is_told_in_plain() {
    let mut session = recipient();
    let mut puppet = Puppet::dial(&mut session);
    puppet.say_hello(&mut session, |hello| hello.version = 4);
    assert_eq!(
        closed(&mut session).0,
        DisconnectReason::IncompatibleVersion
    );
    let mut output = session.output().to_vec();
    let (header, rest) = output.split_first_chunk_mut::<HEADER_BYTES>().unwrap();
    let body_bytes = puppet.link.reader.header(header).unwrap();
    assert_eq!(
        puppet.link.reader.body(rest, body_bytes).unwrap(),
        [0x01, 0xc1, 0x06]
    );
}

#[test]
fn a_later_p2p_version_and_unknown_capabilities_are_welcome() {
    let mut session = recipient();
    let mut puppet = Puppet::dial(&mut session);
    puppet.say_hello(&mut session, |hello| {
        hello.version = u64::MAX;
        let more = ["snap", "les", "", "averylongnameindeed"];
        let more = more.map(|name| Capability {
            name: name.into(),
            version: 1,
        });
        hello.capabilities.extend(more);
        hello.capabilities.insert(
            0,
            Capability {
                name: "eth".into(),
                version: 72,
            },
        );
    });
    puppet.say_status(&mut session, |_| {});
    assert!(
        matches!(events(&mut session).last(), Some(SessionEvent::Ready(info)) if info.eth == 69)
    );
}

#[test]
fn a_hello_above_its_limit_is_refused_at_its_header() {
    let mut session = recipient();
    let mut puppet = Puppet::dial(&mut session);
    let mut wire = Vec::new();
    puppet
        .link
        .writer
        .write(&[&vec![0x80; MAX_HELLO_BYTES + 2]], &mut wire);
    session.handle_input(NOW_MS, &mut wire[..HEADER_BYTES], &chain());
    assert_ended(
        &mut session,
        &mut puppet,
        DisconnectReason::ProtocolBreach,
        "before Hello",
    );
}

#[test]
fn a_malformed_hello_names_its_field() {
    for (payload, field) in [
        (&[][..], "message"),
        (&[0xc0], "protocolVersion"),
        (&[0xc1, 0x05], "clientId"),
        (&[0xc3, 0x05, 0x80, 0x80], "capabilities"),
        (&[0xc4, 0x05, 0x80, 0xc1, 0x80], "capability"),
        (&[0xc3, 0x05, 0x80, 0xc0], "listenPort"),
        (&[0xc5, 0x05, 0x80, 0xc0, 0x80, 0x80], "nodeId"),
        (&[0xc2, 0x00, 0x80], "protocolVersion"),
        (&[0xf8, 0xff, 0x05], "message"),
    ] {
        let mut session = recipient();
        let mut puppet = Puppet::dial(&mut session);
        puppet.say_plain(&mut session, p2p::HELLO, payload);
        assert_ended(
            &mut session,
            &mut puppet,
            DisconnectReason::ProtocolBreach,
            field,
        );
    }
}

#[test]
fn messages_have_their_order() {
    use DisconnectReason::{ProtocolBreach, Subprotocol};
    let mut session = recipient();
    let mut puppet = Puppet::dial(&mut session);
    puppet.say(&mut session, p2p::PING, &[0xc0]);
    assert_ended(
        &mut session,
        &mut puppet,
        ProtocolBreach,
        "0x02 before Hello",
    );

    let mut session = recipient();
    let mut puppet = Puppet::dial(&mut session);
    puppet.say_hello(&mut session, |_| {});
    puppet.say(&mut session, 0x13, &[0xc0]);
    assert_ended(&mut session, &mut puppet, Subprotocol, "0x03 before Status");

    let mut session = recipient();
    let mut puppet = Puppet::ready(&mut session);
    puppet.say_hello(&mut session, |_| {});
    assert_ended(&mut session, &mut puppet, ProtocolBreach, "second");

    let mut session = recipient();
    let mut puppet = Puppet::ready(&mut session);
    puppet.say_status(&mut session, |_| {});
    assert_ended(&mut session, &mut puppet, Subprotocol, "");
}

#[test]
fn a_status_is_held_to_its_rules() {
    type Change = fn(&mut Status);
    let cases: [(Change, &str); 4] = [
        (|status| status.network_id = 1, "network id"),
        (|status| status.genesis = B256::ZERO, "genesis"),
        (
            |status| (status.earliest, status.latest) = (Some(8), Some(7)),
            "earliest",
        ),
        (|status| status.head = B256::ZERO, "hash"),
    ];
    for (change, why) in cases {
        let mut session = recipient();
        let mut puppet = Puppet::dial(&mut session);
        puppet.say_hello(&mut session, |_| {});
        puppet.say_status(&mut session, change);
        assert_ended(
            &mut session,
            &mut puppet,
            DisconnectReason::Subprotocol,
            why,
        );
    }
}

#[test]
fn message_ids_outside_the_shared_range_are_a_breach_and_unused_ones_of_p2p_are_not() {
    for body in [
        &[0x10 + 18, 0][..],
        &[0x7f, 0],
        &[0x81, 0x80, 0],
        &[0xc0, 0],
        &[0x00, 0],
        &[],
    ] {
        let mut session = recipient();
        let mut puppet = Puppet::ready(&mut session);
        puppet.say_frame(&mut session, body);
        assert_ended(
            &mut session,
            &mut puppet,
            DisconnectReason::ProtocolBreach,
            "message id",
        );
    }
    let mut session = recipient();
    let mut puppet = Puppet::ready(&mut session);
    for id in 0x03..0x10 {
        puppet.say(&mut session, id, &[0xc0]);
    }
    puppet.say(&mut session, p2p::PING, &[0xc0]);
    assert_eq!(puppet.receive(&mut session), [(p2p::PONG, vec![0xc0])]);
    assert_eq!(events(&mut session), []);
}

#[test]
fn a_ping_is_answered_before_status_too() {
    let mut session = recipient();
    let mut puppet = Puppet::dial(&mut session);
    puppet.say_hello(&mut session, |_| {});
    puppet.receive(&mut session);
    puppet.say(&mut session, p2p::PING, &[0xc0]);
    assert_eq!(puppet.receive(&mut session), [(p2p::PONG, vec![0xc0])]);
}

#[test]
fn a_request_for_pooled_transactions_is_answered_with_none() {
    let mut session = recipient();
    let mut puppet = Puppet::ready(&mut session);
    puppet.say(&mut session, 0x10 + 0x09, &[0xc3, 0x81, 0xff, 0xc0]);
    assert_eq!(
        puppet.receive(&mut session),
        [(0x10 + 0x0a, vec![0xc3, 0x81, 0xff, 0xc0])]
    );
    puppet.say(&mut session, 0x10 + 0x02, &[0xc1, 0xc0]);
    assert_eq!(puppet.receive(&mut session), []);
    assert_eq!(events(&mut session), []);
}

#[test]
fn a_malformed_message_names_itself() {
    let mut session = recipient();
    let mut puppet = Puppet::ready(&mut session);
    puppet.say(&mut session, 0x13, &[0xc2, 0x01, 0x02]);
    assert_ended(
        &mut session,
        &mut puppet,
        DisconnectReason::Subprotocol,
        "GetBlockHeaders",
    );
}

#[test]
fn a_snappy_bomb_is_refused_before_it_is_unpacked() {
    use DisconnectReason::{ProtocolBreach, Subprotocol};
    let mut above = vec![0; 5];
    let mut claimed = MAX_MESSAGE_BYTES + 1;
    for byte in &mut above[..4] {
        *byte = claimed as u8 & 0x7f | 0x80;
        claimed >>= 7;
    }
    above[3] &= 0x7f;
    let cases: [(&[u8], _, _); 4] = [
        (&[0xff, 0xff, 0xff, 0xff, 0x0f], Subprotocol, "4294967295"),
        (&above, Subprotocol, "10485761"),
        (
            &[0x80, 0x80, 0x80, 0x04, 0x00, 0x01],
            ProtocolBreach,
            "snappy",
        ),
        (&[0x05, 0xff], ProtocolBreach, "snappy"),
    ];
    for (payload, reason, why) in cases {
        let mut session = recipient();
        let mut puppet = Puppet::ready(&mut session);
        puppet.say_plain(&mut session, 0x14, payload);
        assert_ended(&mut session, &mut puppet, reason, why);
    }
}

#[test]
fn each_message_is_held_to_the_length_of_its_type() {
    for code in 0x01..=0x11 {
        let limit = message_limit_bytes(code);
        // Claims so many bytes; what follows would make that long a text, if it were looked at.
        let claim = |bytes: usize| {
            let mut payload = Vec::new();
            let mut left = bytes;
            while left >= 0x80 {
                payload.push(left as u8 | 0x80);
                left >>= 7;
            }
            payload.push(left as u8);
            payload
        };
        let mut session = recipient();
        let mut puppet = Puppet::ready(&mut session);
        puppet.say_plain(&mut session, 0x10 + code, &claim(limit + 1));
        let (reason, why) = closed(&mut session);
        assert_eq!(reason, DisconnectReason::Subprotocol, "{code:#x}: {why}");
        let expected = format!("above the limit of {limit}");
        assert!(why.contains(&expected), "{code:#x}: {why}");
    }
    assert_eq!(message_limit_bytes(code::BLOCK_BODIES), MAX_MESSAGE_BYTES);
    for code in [code::GET_RECEIPTS, code::GET_BLOCK_ACCESS_LISTS] {
        let most = 33 * crate::limits::MAX_ITEMS;
        assert!((2 * most..8 * most).contains(&message_limit_bytes(code)));
    }
}

#[test]
fn what_a_frame_claims_is_not_allocated() {
    let mut session = recipient();
    let mut puppet = Puppet::ready(&mut session);
    let mut wire = Vec::new();
    puppet
        .link
        .writer
        .write(&[&vec![0x14; 12_000_000]], &mut wire);
    session.handle_input(NOW_MS, &mut wire[..HEADER_BYTES + 1000], &chain());
    assert!(!session.is_closed());
    assert!(
        session.input.capacity() <= 4096,
        "{}",
        session.input.capacity()
    );

    // and one that no message can need is refused at its header
    let mut session = recipient();
    let mut puppet = Puppet::ready(&mut session);
    wire.clear();
    puppet
        .link
        .writer
        .write(&[&vec![0x14; 13_000_000]], &mut wire);
    session.handle_input(NOW_MS, &mut wire[..HEADER_BYTES], &chain());
    assert_ended(
        &mut session,
        &mut puppet,
        DisconnectReason::ProtocolBreach,
        "13000000",
    );
}

#[test]
fn a_wrong_mac_ends_the_session() {
    for at in [0, 20, 40, 50] {
        let mut session = recipient();
        let mut puppet = Puppet::ready(&mut session);
        let mut wire = Vec::new();
        codec::write(p2p::PING, &[0xc0], &mut Packer::default(), &mut wire);
        puppet.link.writer.seal(&mut wire);
        wire[at] ^= 0x80;
        session.handle_input(NOW_MS, &mut wire, &chain());
        assert_ended(
            &mut session,
            &mut puppet,
            DisconnectReason::ProtocolBreach,
            "MAC",
        );
        // what comes after is not looked at
        puppet.say(&mut session, p2p::PING, &[0xc0]);
        assert!(session.output().is_empty() && events(&mut session).is_empty());
    }
}

#[test]
fn a_frame_said_twice_ends_the_session() {
    let mut session = recipient();
    let mut puppet = Puppet::ready(&mut session);
    let mut wire = Vec::new();
    let packer = &mut Packer::default();
    codec::write(p2p::PING, &[0xc0], packer, &mut wire);
    puppet.link.writer.seal(&mut wire);
    session.handle_input(NOW_MS, &mut wire.clone(), &chain());
    assert!(!session.is_closed());
    session.handle_input(NOW_MS, &mut wire, &chain());
    assert_ended(
        &mut session,
        &mut puppet,
        DisconnectReason::ProtocolBreach,
        "MAC",
    );
}

/// The handshake of another time, sent again: whoever replays it cannot make a frame, so nobody is authenticated.
#[test]
fn a_replayed_auth_authenticates_nobody() {
    let mut auth = Vec::new();
    let mut entropy = Entropy::new([99; 32]);
    let secret = SecretKey::from_slice(&[3; 32]).unwrap();
    AwaitingAck::start(secret, id(2), &mut entropy, &mut auth).unwrap();
    let mut first = recipient();
    first.handle_input(NOW_MS, &mut auth.clone(), &chain());
    let mut again = Session::new(config(2, &[69]), Role::Recipient, [77; 32], NOW_MS);
    again.handle_input(NOW_MS, &mut auth, &chain());
    assert_eq!(events(&mut again), []);
    again.handle_input(NOW_MS, &mut [7; 64], &chain());
    assert_eq!(closed(&mut again).0, DisconnectReason::ProtocolBreach);
}

#[test]
fn noise_instead_of_a_handshake_ends_at_once_or_by_the_clock() {
    for seed in 0..100 {
        for role in [Role::Recipient, Role::Initiator(id(5))] {
            let mut session = Session::new(config(2, &[69]), role, [1; 32], NOW_MS);
            let mut dice = Entropy::new([seed; 32]);
            for _ in 0..20 {
                let mut noise = dice.bytes::<200>();
                // some of it begins like a size that is allowed, or like a plain packet
                if seed % 3 == 0 && session.input.is_empty() {
                    noise[0] = seed % 8;
                }
                let length = dice.below(200);
                session.handle_input(NOW_MS, &mut noise[..length], &chain());
                assert!(session.input.len() <= handshake::PACKET_LIMIT_BYTES);
            }
            if let Some(deadline_ms) = session.deadline_ms() {
                assert!(deadline_ms <= NOW_MS + HELLO_TIMEOUT_MS);
                session.handle_timeout(deadline_ms);
            }
            closed(&mut session);
        }
    }
}

#[test]
fn the_peers_disconnect_is_understood_in_every_form_at_every_step() {
    type Form = (&'static [u8], DisconnectReason);
    let plain: [Form; 4] = [
        (&[0xc1, 0x04], DisconnectReason::TooManyPeers),
        (&[0x04], DisconnectReason::TooManyPeers),
        (&[0xc0], DisconnectReason::Requested),
        (&[0x80], DisconnectReason::Requested),
    ];
    for (payload, reason) in plain {
        for step in 0..3 {
            for compressed in [false, true] {
                let mut session = recipient();
                let mut puppet = Puppet::dial(&mut session);
                if step > 0 {
                    puppet.say_hello(&mut session, |_| {});
                }
                if step > 1 {
                    puppet.say_status(&mut session, |_| {});
                }
                puppet.receive(&mut session);
                match compressed {
                    true => puppet.say(&mut session, p2p::DISCONNECT, payload),
                    false => puppet.say_plain(&mut session, p2p::DISCONNECT, payload),
                }
                let expected = SessionEvent::Closed(Close::Remote { reason });
                assert_eq!(
                    events(&mut session).last(),
                    Some(&expected),
                    "{payload:x?} {step}"
                );
                assert!(session.output().is_empty() && session.is_closed());
            }
        }
    }
}

/// Authentic frames of random content at every step: each ends in a Close or in nothing, never in a panic.
#[test]
fn random_messages_harm_nobody() {
    for seed in 0..120u8 {
        let mut dice = Entropy::new([seed; 32]);
        let mut session = recipient();
        let mut puppet = Puppet::dial(&mut session);
        if seed % 3 > 0 {
            puppet.say_hello(&mut session, |_| {});
        }
        if seed % 3 > 1 {
            puppet.say_status(&mut session, |_| {});
        }
        for _ in 0..20 {
            let id = dice.below(0x24) as u8;
            let mut noise = dice.bytes::<48>();
            let length = dice.below(48);
            // often a list with the right length, so that the walk goes on inside
            if dice.below(2) == 0 {
                noise[0] = 0xc0 + length.saturating_sub(1) as u8;
            }
            let raw = dice.below(8) == 0;
            if raw {
                puppet.say_plain(&mut session, id, &noise[..length]);
            } else {
                puppet.say(&mut session, id, &noise[..length]);
            }
            let events = events(&mut session);
            let closed = events
                .iter()
                .any(|event| matches!(event, SessionEvent::Closed(_)));
            assert_eq!(closed, session.is_closed());
            if closed {
                break;
            }
        }
    }
}
