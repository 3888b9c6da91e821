//! The body of a frame: a message id and snappy, against the decoder of the crate `snap` alone and within its limit.
#![no_main]
#![allow(dead_code)]

use cairn_fuzz::input::Input;
use cairn_net::{limits, rlpx};
use libfuzzer_sys::fuzz_target;

// Private to a session: the same files are built here once more.
#[path = "../../../net/src/session/buffers.rs"]
mod buffers;
#[path = "../../../net/src/session/codec.rs"]
mod codec;
#[path = "../../../net/src/session/workspace.rs"]
mod workspace;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let limit_bytes = input.of(&[0, 1, 100, 2 << 10, 1 << 20, 10 << 20]);
    let Some((id, payload)) = codec::split(input.0) else {
        assert!(input.0.first().is_none_or(|first| *first == 0));
        return;
    };
    assert!(id <= 0x80 && payload.len() + 1 == input.0.len());

    let pool = buffers::Buffers::default();
    let take = |bytes| pool.take(bytes, 0);
    let ours = codec::decompress(payload, limit_bytes, take).ok();
    // What snap alone would allocate is what is claimed: looked at first.
    let claimed = snap::raw::decompress_len(payload).ok();
    let fits = claimed.is_some_and(|claimed| claimed <= limit_bytes);
    let theirs = fits
        .then(|| snap::raw::Decoder::new().decompress_vec(payload).ok())
        .flatten();
    assert_eq!(ours.as_deref(), theirs.as_deref());
    if let Some(text) = ours {
        assert!(text.len() <= limit_bytes && text.len() <= payload.len() * 64);
        let packed = cairn_fuzz::peer::pack(&text);
        // Into the same memory, if it was long enough to be kept.
        let again = Vec::from(text);
        assert_eq!(codec::decompress(&packed, limit_bytes, take), Ok(again.into()));
    }
});
