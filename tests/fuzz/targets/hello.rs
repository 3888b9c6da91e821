//! Hello: what is read is written and read as the same, and no more of it is kept than was sent.
#![no_main]

use cairn_net::eth;
use cairn_net::limits::MAX_HELLO_BYTES;
use cairn_net::p2p::Hello;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(hello) = Hello::decode(&data[..data.len().min(MAX_HELLO_BYTES)]) else {
        return;
    };
    assert!(
        hello.capabilities.len() <= data.len() / 3,
        "three bytes each at the least"
    );
    let names = hello.capabilities.iter().map(|capability| &capability.name);
    for text in names.chain([&hello.client]) {
        assert!(!text.chars().any(char::is_control), "it may be logged");
    }
    if let Some(version) = hello.highest_eth(&eth::VERSIONS) {
        assert!(eth::VERSIONS.contains(&version));
    }
    let mut written = Vec::new();
    hello.encode(&mut written);
    assert_eq!(Hello::decode(&written), Ok(hello));
});
