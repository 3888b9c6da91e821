//! Snappy elements as the store keeps them: whole by their own, laid end to end, and as the store makes them.
#![no_main]

use cairn_fuzz::input::Input;
use cairn_fuzz::snappy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let raw_len = usize::from(input.u16());
    let stream = input.0;
    if let Ok(raw) = snappy::decompress(raw_len, stream) {
        assert_eq!(raw.len(), raw_len);
        // Behind another stream they say the same: copies look back by a distance.
        let mut both = Vec::new();
        snappy::literal(&mut both, b"before");
        assert_eq!(both.len(), snappy::literal_len(6));
        both.extend_from_slice(stream);
        let text = snappy::decompress(6 + raw_len, &both).expect("two streams are one");
        assert_eq!(text, [b"before", &raw[..]].concat());
    }
    let mut literal = Vec::new();
    snappy::literal(&mut literal, stream);
    assert_eq!(literal.len(), snappy::literal_len(stream.len()));
    assert_eq!(
        snappy::decompress(stream.len(), &literal).as_deref(),
        Ok(stream)
    );
});
