//! What a session takes of time and memory: its deadlines, its buffers.

use super::pair::{Pair, carry, closed, events};
use super::*;
use crate::limits::{
    MAX_ITEMS, MAX_WAITING_EVENTS, PING_INTERVAL_MS, REUSED_LEAST_BYTES, STATUS_TIMEOUT_MS,
    WORKSPACE_BYTES,
};

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
        pair.a.send(answer).unwrap();
        pair.run();
        assert_eq!(events(&mut pair.b).len(), 1);
    }
    for session in [&pair.a, &pair.b] {
        assert_eq!(session.input.capacity(), 0);
        assert!(session.output.end_capacity() <= 1024 && session.events.capacity() <= 16);
    }
}

/// Answers of short items, of long ones, and of both.
#[test]
fn with_lent_memory_a_session_sends_the_same_bytes_and_keeps_none_of_it() {
    let [mut lent, mut alone] = [Pair::ready(15), Pair::ready(15)];
    let item = |length: usize| {
        let mut item = Vec::new();
        alloy_rlp::Header {
            list: true,
            payload_length: length,
        }
        .encode(&mut item);
        item.extend((0..length).map(|at| ((at * at) >> 9) as u8));
        item
    };
    let (short, long) = (item(500), item(150_000));
    let mut workspace = Box::<Workspace>::default();
    for items in [
        &[&short[..], &short[..]][..],
        &[&long[..], &long[..]],
        &[&long[..], &short[..]],
        &[],
    ] {
        let answer = || Outgoing::Answer {
            kind: AnswerKind::Headers,
            id: 7,
            items,
        };
        lent.a.lend(workspace);
        lent.a.send(answer()).unwrap();
        alone.a.send(answer()).unwrap();
        assert_eq!(lent.a.output(), alone.a.output());
        lent.run();
        alone.run();
        workspace = lent.a.reclaim().unwrap();
        assert!(lent.a.output.end_capacity() <= 512);
        let came = events(&mut lent.b);
        assert_eq!(came, events(&mut alone.b));
        let [SessionEvent::Message(Message::Headers { headers, .. })] = &came[..] else {
            panic!("{came:?}")
        };
        assert_eq!(headers, items);
    }
    // What waits stays with the session.
    lent.a.lend(workspace);
    let answer = Outgoing::EmptyAnswer {
        code: AnswerKind::Headers.code(),
        id: 8,
    };
    lent.a.send(answer).unwrap();
    lent.a.reclaim().unwrap();
    lent.run();
    assert_eq!(events(&mut lent.b).len(), 1);
}

#[test]
fn long_answers_come_in_through_memory_that_is_used_again_and_are_what_was_sent() {
    let [mut lent, mut alone] = [Pair::ready(15), Pair::ready(15)];
    let mut workspace = Box::<Workspace>::default();
    let mut state = 1_u32;
    for length in [900_000, 899_000, 300_000, 900_000, 20, 1_200_000, 1_100_000] {
        let mut item = Vec::new();
        let prefix = alloy_rlp::Header {
            list: true,
            payload_length: length,
        };
        prefix.encode(&mut item);
        item.extend((0..length).map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        }));
        lent.b.lend(workspace);
        for pair in [&mut lent, &mut alone] {
            let answer = Outgoing::Answer {
                kind: AnswerKind::Bodies,
                id: 7,
                items: &[&item],
            };
            pair.a.send(answer).unwrap();
            let mut wire = pair.a.output().to_vec();
            pair.a.consume_output(wire.len());
            for part in wire.chunks_mut(50_000) {
                pair.b.handle_input(NOW_MS, part, &chain());
            }
        }
        workspace = lent.b.reclaim().unwrap();
        let came = events(&mut lent.b);
        assert_eq!(came, events(&mut alone.b));
        let [SessionEvent::Message(Message::Bodies { bodies, .. })] = &came[..] else {
            panic!("{came:?}")
        };
        assert!(*bodies == [item]);
        let (idle, bytes) = workspace.buffers.idle();
        drop(came);
        if length >= REUSED_LEAST_BYTES {
            let (now_idle, now_bytes) = workspace.buffers.idle();
            assert_eq!(now_idle, idle + 1, "{length}");
            assert!(now_bytes >= bytes + length);
            assert!((length..WORKSPACE_BYTES).contains(&workspace.input.capacity()));
        }
    }
    workspace.rest();
    workspace.rest_buffers(workspace.rests_at_ms().unwrap());
    assert_eq!(
        (workspace.buffers.idle().0, workspace.input.capacity()),
        (0, 0)
    );
}

#[test]
fn sessions_that_are_sealed_side_by_side_send_what_they_send_alone() {
    let mut beside: Vec<Pair> = (1..=5).map(Pair::ready).collect();
    let mut alone: Vec<Pair> = (1..=5).map(Pair::ready).collect();
    for (n, (a, b)) in beside.iter_mut().zip(&mut alone).enumerate() {
        let stream = vec![0; n * 40_000]; // snappy's shortest literal, again and again
        for pair in [a, b] {
            for id in 0..3 {
                let answer = Outgoing::ReadyAnswer {
                    kind: AnswerKind::Bodies,
                    id,
                    raw_len: stream.len() / 2,
                    streams: &[&stream],
                };
                pair.a.send(answer).unwrap();
            }
            assert!(pair.a.unsealed_bytes() > n * 120_000);
            assert_eq!(pair.a.unsealed_bytes(), pair.a.waiting_bytes());
        }
    }
    seal_each(beside.iter_mut().map(|pair| &mut *pair.a));
    for (a, b) in beside.iter_mut().zip(&mut alone) {
        assert_eq!(a.a.unsealed_bytes(), 0);
        assert!(a.a.output() == b.a.output());
    }
    // A session that ends says what it had to say, and then goodbye.
    let pair = &mut beside[0];
    let waiting_bytes = pair.a.waiting_bytes();
    pair.a.disconnect(Cause::Quitting);
    seal_each([&mut *pair.a]);
    assert!(pair.a.output().len() > waiting_bytes);
    assert_eq!(pair.a.unsealed_bytes(), 0);
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
        pair.a.send(answer).unwrap();
        sent += 1;
        assert!(sent < 200, "never full");
    }
    assert!(pair.a.output().len() < OUTPUT_LIMIT_BYTES + item.len() + 1024);
    let most = pair.a.output().len() - OUTPUT_LIMIT_BYTES / 2;
    carry(&mut pair.a, &mut pair.b, most, NOW_MS, &pair.chain_b);
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

#[test]
fn a_long_frame_that_never_ends_holds_no_more_than_four_times_what_came() {
    let mut pair = Pair::ready(16);
    let mut state = 1_u64;
    let mut item = Vec::new();
    let length = WORKSPACE_BYTES / 2;
    alloy_rlp::Header {
        list: true,
        payload_length: length,
    }
    .encode(&mut item);
    item.extend((0..length).map(|_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 56) as u8
    }));
    let answer = Outgoing::Answer {
        kind: AnswerKind::Bodies,
        id: 7,
        items: &[&item],
    };
    pair.a.send(answer).unwrap();
    let mut wire = pair.a.output().to_vec();
    // What another one's long frame left.
    let mut workspace = Box::<Workspace>::default();
    workspace.input = Vec::with_capacity(WORKSPACE_BYTES);
    let mut is_used = false;
    for part in wire.chunks_mut(READ_BUFFER_BYTES) {
        pair.b.lend(workspace);
        pair.b.handle_input(NOW_MS, part, &chain());
        workspace = pair.b.reclaim().unwrap();
        let (came, held) = (pair.b.input.len(), pair.b.input.capacity());
        assert!(held <= 4 * came, "{held} bytes for {came}");
        is_used |= held == WORKSPACE_BYTES;
    }
    assert!(is_used, "it is taken once enough has come");
    assert_eq!(events(&mut pair.b).len(), 1);
}

#[test]
fn of_many_messages_in_one_input_no_more_wait_than_is_said_and_none_is_lost() {
    let mut pair = Pair::ready(21);
    let empty: &[u8] = &[0xc0];
    const COUNT: u64 = 500;
    for id in 0..COUNT {
        let answer = Outgoing::Answer {
            kind: AnswerKind::Bodies,
            id,
            items: &[empty; MAX_ITEMS],
        };
        pair.a.send(answer).unwrap();
    }
    let mut wire = pair.a.output().to_vec();
    assert!(wire.len() <= READ_BUFFER_BYTES, "{} bytes", wire.len());
    let (mut at, mut next) = (0, 0);
    while at < wire.len() {
        let taken = pair
            .b
            .handle_some(NOW_MS, &mut wire[at..], &chain(), MAX_WAITING_EVENTS);
        // More are not taken before these are.
        let more = &mut wire[at + taken..];
        if !more.is_empty() {
            let taken = pair
                .b
                .handle_some(NOW_MS, more, &chain(), MAX_WAITING_EVENTS);
            assert_eq!(taken, 0);
        }
        at += taken;
        let came = events(&mut pair.b);
        assert!((1..=MAX_WAITING_EVENTS).contains(&came.len()));
        for event in came {
            let SessionEvent::Message(Message::Bodies { id, bodies }) = event else {
                panic!("{event:?}")
            };
            assert_eq!((id, bodies.len()), (next, MAX_ITEMS));
            next += 1;
        }
    }
    assert_eq!(next, COUNT);
}
