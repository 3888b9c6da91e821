//! Status of every version from 68 on, which the first byte chooses: what is read is written as the very bytes.
#![no_main]

use cairn_fuzz::input::Input;
use cairn_fuzz::peer::chain;
use cairn_net::eth::status::Status;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let version = 68 + input.byte() % 4;
    match Status::decode(version, input.0) {
        Ok(status) => {
            let mut written = Vec::new();
            status.encode(&mut written);
            assert_eq!(written, input.0);
            if let Err(error) = status.check(chain()) {
                assert!(!error.to_string().is_empty());
            }
        }
        Err(error) => assert!(error.offset_bytes <= input.0.len()),
    }
});
