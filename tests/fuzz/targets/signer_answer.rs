//! What a signer answers: what is read is a seal's shape, and what is told of it keeps to its line.
#![no_main]

use std::sync::LazyLock;

use alloy_consensus::Header;
use cairn::chain::{Genesis, clique};
use cairn::signer::read_answer;
use libfuzzer_sys::fuzz_target;

static HEADER: LazyLock<Header> = LazyLock::new(|| Genesis::dev().header.header);

fuzz_target!(|data: &[u8]| {
    match read_answer(data) {
        Ok(seal) => {
            assert!(seal[64] <= 1);
            let mut header = HEADER.clone();
            clique::put_seal(&mut header, &seal);
            assert_eq!(header.extra_data.len(), HEADER.extra_data.len());
            assert_eq!(clique::seal_hash(&header), clique::seal_hash(&HEADER));
            let _ = clique::signer(&header); // anybody, or nobody: who asked compares
        }
        Err(error) => {
            let told = error.to_string();
            assert!(told.chars().count() < 2200 && !told.contains(char::is_control));
        }
    }
});
