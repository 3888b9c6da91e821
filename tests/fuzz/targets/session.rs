//! A whole session: a peer that did the handshake says any frames in any order, and the clock runs on.
//!
//! An input is: where to begin, then frames, each of what it is made, its length and its bytes.
#![no_main]

use cairn_fuzz::input::Input;
use cairn_fuzz::peer::{NOW_MS, chain, linked, pack, ready, receive, say, say_frame};
use cairn_net::eth;
use cairn_net::session::{Session, SessionEvent};
use libfuzzer_sys::fuzz_target;

/// Hello and Status, and what a short answer to a frame takes: a Pong, an empty list, a Disconnect.
const FIRST_BYTES: usize = 4096;
const ANSWER_BYTES: usize = 128;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let version = 67 + input.byte() % 5;
    let (mut session, mut link) = match eth::message_count(version) {
        Some(_) => ready(version),
        None => linked(),
    };
    let mut now_ms = NOW_MS;
    let mut frames = 0;
    while !input.is_empty() && !session.is_closed() {
        let kind = input.byte();
        let id = input.byte() & 0x7f;
        match kind % 6 {
            0 => say_frame(&mut session, &mut link, input.chunk()),
            1 => say(&mut session, &mut link, id, input.chunk()),
            2 => {
                now_ms += u64::from(input.u16());
                session.handle_timeout(now_ms);
            }
            3 => session.handle_input(now_ms, &mut input.chunk().to_vec(), chain()),
            _ => say(&mut session, &mut link, id, &pack(input.chunk())),
        }
        frames += 1;
        drain(&mut session);
        assert!(
            session.output().len() <= FIRST_BYTES + frames * ANSWER_BYTES,
            "nothing long was asked for"
        );
    }
    if session.is_closed() {
        assert_eq!(session.deadline_ms(), None);
        let said = session.output().len();
        session.handle_input(now_ms, &mut [1; 100], chain());
        assert_eq!(
            session.output().len(),
            said,
            "a session that has ended is silent"
        );
        assert_eq!(session.poll_event(), None);
    }
    assert!(receive(&mut session, &mut link) <= 2 * frames + 3);
});

/// Takes the events: one Close at the most, and the last of all.
fn drain(session: &mut Session) {
    let mut is_closed = false;
    while let Some(event) = session.poll_event() {
        assert!(!is_closed, "{event:?} after the end");
        is_closed = matches!(event, SessionEvent::Closed(_));
    }
    assert_eq!(is_closed, session.is_closed());
}
