//! Headers: read and written as the very bytes, as alloy reads them too; then judged as the first of several chains.
#![no_main]

use std::sync::{Arc, LazyLock};

use alloy_rlp::Decodable;
use cairn::chain::{Genesis, Rules, SealedHeader, Tip, clique};
use libfuzzer_sys::fuzz_target;

static CHAINS: LazyLock<Vec<(Rules, Tip)>> = LazyLock::new(|| {
    [Genesis::dev(), Genesis::mainnet(), Genesis::sepolia()]
        .iter()
        .map(Rules::new)
        .map(|rules| (rules.clone(), rules.genesis_tip()))
        .collect()
});

fuzz_target!(|data: &[u8]| {
    let raw = bytes::Bytes::copy_from_slice(data);
    let ours = SealedHeader::decode(raw.clone());
    let mut rest = data;
    let theirs = alloy_consensus::Header::decode(&mut rest).ok();
    let theirs = theirs.filter(|header| rest.is_empty() && alloy_rlp::encode(header) == data);
    match (ours, theirs) {
        (Ok(sealed), theirs) => {
            assert_eq!(alloy_rlp::encode(&sealed.header), data);
            assert_eq!(
                theirs.as_ref(),
                Some(&sealed.header),
                "alloy reads the same"
            );
            judge(sealed);
        }
        (Err(error), theirs) => assert!(theirs.is_none(), "{error}, but alloy reads {theirs:?}"),
    }
});

fn judge(sealed: SealedHeader) {
    let _ = clique::signer(&sealed.header);
    let _ = clique::seal_hash(&sealed.header);
    if let Ok(snapshot) = clique::Snapshot::genesis(&sealed) {
        assert!(!snapshot.signers().is_empty());
    }
    let sealed = Arc::new(sealed);
    for (rules, tip) in &*CHAINS {
        // As a successor of the first block, whatever its parent hash says, and as the parent of itself.
        for parent in [
            tip.clone(),
            Tip {
                header: sealed.clone(),
                ..tip.clone()
            },
        ] {
            let linked = SealedHeader::from_header(alloy_consensus::Header {
                parent_hash: parent.header.hash,
                number: parent.header.header.number.wrapping_add(1),
                ..sealed.header.clone()
            });
            let _ = rules.extend(&parent, Arc::new(linked), Some(1_700_000_000));
            let _ = rules.read_header(sealed.raw.clone());
        }
    }
}
