//! Every message of every version of eth from 68 on, which the first two bytes choose: what is read is written as the very bytes.
//!
//! A new message is fuzzed from the day `decode` knows it; here it gets its line in `written`, so that it is compared too.
#![no_main]

use bytes::Bytes;
use cairn_fuzz::input::Input;
use cairn_net::eth;
use cairn_net::eth::message::{self, AnswerKind, Message, Outgoing, Request};
use cairn_net::limits::{MAX_ANNOUNCED_BLOCKS, MAX_ITEMS};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let version = 68 + input.byte() % 4;
    let code = input.byte();
    let Some(known) = eth::message_count(version) else {
        return;
    };
    let payload = Bytes::copy_from_slice(input.0);
    match message::decode(version, code, payload) {
        Ok(message) => {
            assert!(code < known, "code {code} is not of eth/{version}");
            check(version, code, &message, input.0);
        }
        Err(error) => {
            assert!(error.offset_bytes <= input.0.len(), "{error}");
            assert!(!error.to_string().is_empty());
        }
    }
});

fn check(version: u8, code: u8, message: &Message, payload: &[u8]) {
    if let Some(answer) = message.empty_answer() {
        let mut out = Vec::new();
        assert!(answer.encode(version, &mut out) < 0x80);
    }
    let mut out = Vec::new();
    if let Some(written) = written(version, message, &mut out) {
        assert_eq!((written, &out[..]), (code, payload), "{message:?}");
    }
}

/// Writes the message, if it is one that is kept whole: gives its code.
fn written(version: u8, message: &Message, out: &mut Vec<u8>) -> Option<u8> {
    let mut answer = |kind, id: u64, items: &[&[u8]]| {
        assert!(items.len() <= MAX_ITEMS);
        Some(Outgoing::Answer { kind, id, items }.encode(version, out))
    };
    match message {
        Message::NewBlockHashes(blocks) => {
            assert!(blocks.len() <= MAX_ANNOUNCED_BLOCKS);
            Some(Outgoing::NewBlockHashes(blocks).encode(version, out))
        }
        Message::NewBlock { header, body, td } => {
            let td = *td;
            Some(Outgoing::NewBlock { header, body, td }.encode(version, out))
        }
        Message::Request { id, request } => {
            if let Request::Bodies { hashes }
            | Request::Receipts { hashes, .. }
            | Request::BlockAccessLists { hashes } = request
            {
                assert!(hashes.len() <= MAX_ITEMS);
                // Of more, only the first are kept.
                if hashes.len() == MAX_ITEMS {
                    return None;
                }
            }
            Some(Outgoing::Request { id: *id, request }.encode(version, out))
        }
        Message::Headers { id, headers } => answer(AnswerKind::Headers, *id, &slices(headers)),
        Message::Bodies { id, bodies } => answer(AnswerKind::Bodies, *id, &slices(bodies)),
        Message::Receipts {
            id,
            blocks,
            last_is_cut,
        } => {
            assert!(!last_is_cut || version >= 70 && !blocks.is_empty());
            let kind = match last_is_cut {
                true => AnswerKind::CutReceipts,
                false => AnswerKind::Receipts,
            };
            answer(kind, *id, &slices(blocks))
        }
        Message::BlockAccessLists { id, lists } => {
            let absent: &[u8] = &[0x80];
            let items: Vec<&[u8]> = lists
                .iter()
                .map(|list| list.as_deref().unwrap_or(absent))
                .collect();
            answer(AnswerKind::BlockAccessLists, *id, &items)
        }
        Message::BlockRange {
            earliest,
            latest,
            latest_hash,
        } => {
            assert!(earliest <= latest && !latest_hash.is_zero());
            let range = Outgoing::BlockRange {
                earliest: *earliest,
                latest: *latest,
                latest_hash: *latest_hash,
            };
            Some(range.encode(version, out))
        }
        _ => None,
    }
}

fn slices(items: &[Bytes]) -> Vec<&[u8]> {
    items.iter().map(Bytes::as_ref).collect()
}
