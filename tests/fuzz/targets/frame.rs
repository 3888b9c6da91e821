//! Frames: what a writer wrote is read as it was, and changed anywhere it is not read.
#![no_main]

use cairn_fuzz::input::Input;
use cairn_net::keccak::Keccak256;
use cairn_net::rlpx::frame::{FrameReader, FrameWriter, HEADER_BYTES, begin, rest_bytes};
use cairn_net::rlpx::mac::MacState;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mac = || MacState::new(&[2; 32], Keccak256::new());
    let mut writer = FrameWriter::new(&[1; 32], mac());
    let mut reader = FrameReader::new(&[1; 32], mac());
    let mut input = Input(data);
    let mut wire = Vec::new();
    let mut bodies = Vec::new();
    for _ in 0..input.byte() % 5 {
        let body = input.chunk();
        // In two pieces, cut anywhere.
        let cut = usize::from(input.byte()).min(body.len());
        let mut frame = begin(body.len(), &mut wire);
        frame.push(&body[..cut]);
        frame.push(&body[cut..]);
        frame.finish();
        bodies.push(body);
    }
    writer.seal(&mut wire);
    // The rest is laid over it, and behind it.
    let written = wire.clone();
    let at = usize::from(input.u16()).min(wire.len());
    for (offset, byte) in input.0.iter().enumerate() {
        match wire.get_mut(at + offset) {
            Some(there) => *there ^= byte,
            None => wire.push(*byte),
        }
    }
    let changed_at = wire.iter().zip(&written).position(|(a, b)| a != b);
    let changed_at = changed_at.unwrap_or(written.len());

    let mut start = 0;
    let mut bodies = bodies.into_iter();
    while let Some(header) = wire
        .get_mut(start..)
        .and_then(<[u8]>::first_chunk_mut::<HEADER_BYTES>)
    {
        let read = reader.header(header);
        assert_eq!(
            read.is_ok(),
            changed_at >= start + HEADER_BYTES,
            "header at {start}"
        );
        let Ok(body_bytes) = read else { return };
        start += HEADER_BYTES;
        let expected = bodies.next().expect("only what was written is read");
        assert_eq!(body_bytes, expected.len());
        let end = start + rest_bytes(body_bytes);
        let Some(rest) = wire.get_mut(start..end) else {
            return;
        };
        let read = reader.body(rest, body_bytes);
        assert_eq!(read.is_ok(), changed_at >= end, "body at {start}");
        let Ok(body) = read else { return };
        assert_eq!(body, expected);
        start = end;
    }
});
