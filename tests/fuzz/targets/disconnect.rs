//! Disconnect: every form it has in the wild, and what we write of it.
#![no_main]

use cairn_net::p2p::DisconnectReason;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(reason) = DisconnectReason::decode(data) {
        assert_eq!(DisconnectReason::decode(&reason.encode()), Some(reason));
        assert_eq!(DisconnectReason::from_code(reason.code()), reason);
        assert!(!reason.to_string().is_empty());
    }
});
