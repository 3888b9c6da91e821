//! The file of kept snapshots, as if its checksum were right: what comes out can be gone on from, and is written as the same bytes.
#![no_main]

use alloy_primitives::B256;
use cairn::snapshots::{decode, encode};
use libfuzzer_sys::fuzz_target;

/// Of the chain that the seeds are of.
const GENESIS: B256 = B256::repeat_byte(0xee);

fuzz_target!(|data: &[u8]| {
    let Ok(kept) = decode(data, &GENESIS) else {
        return;
    };
    assert_eq!(encode(&GENESIS, &kept), data);
    for snapshot in kept {
        let next = snapshot.number.saturating_add(1);
        assert!(snapshot.recents().len() as u64 <= snapshot.limit());
        for signer in snapshot.signers() {
            assert!(snapshot.is_signer(signer));
            snapshot.in_turn(next, signer);
            snapshot.signed_recently(next, signer);
        }
    }
});
