//! A slot of the record of what was signed, as if its checksum were right: a header that comes out is one that can be sealed again.
#![no_main]

use cairn::chain::clique;
use cairn::secret::SigningKey;
use cairn::signed::read_slot;
use cairn::signer::Signer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(mut header) = read_slot(data) else {
        return;
    };
    let hash = clique::seal_hash(&header);
    let is_clique = header.extra_data.len() >= 97;
    let signer = Signer::Key(SigningKey::from_bytes(&[1; 32]).expect("a key"));
    signer.seal(&mut header).expect("by a key of our own");
    // A shorter extraData is made long enough for a seal, which changes what is hashed.
    if is_clique {
        assert_eq!(clique::seal_hash(&header), hash);
        assert_eq!(clique::signer(&header), Ok(signer.address()));
    }
});
