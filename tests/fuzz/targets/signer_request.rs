//! What a signer is asked to sign: what is read is hashed as the very bytes that came, and is sealed as one header alone.
#![no_main]

use alloy_primitives::keccak256;
use cairn::chain::clique;
use cairn::secret::SigningKey;
use cairn::signer::{Signer, read_unsealed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut header = match read_unsealed(data) {
        Ok(header) => header,
        Err(why) => {
            assert!(!why.is_empty());
            return;
        }
    };
    assert_eq!(clique::seal_hash(&header), keccak256(data));
    let whole = alloy_rlp::encode(&header);
    assert!(
        read_unsealed(&whole).is_err(),
        "one with a seal is no request"
    );
    let signer = Signer::Key(SigningKey::from_bytes(&[1; 32]).expect("a key"));
    signer.seal(&mut header).expect("by a key of our own");
    assert_eq!(clique::signer(&header), Ok(signer.address()));
    assert_eq!(clique::seal_hash(&header), keccak256(data));
});
