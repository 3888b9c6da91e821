//! genesis.json: whatever is read makes a chain that can be begun.
#![no_main]

use cairn::chain::{Genesis, Rules};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match Genesis::from_json(data) {
        Ok(genesis) => {
            let header = &genesis.header;
            assert_eq!(
                alloy_rlp::encode(&header.header),
                header.raw,
                "encoded as it is hashed"
            );
            let rules = Rules::new(&genesis);
            let tip = rules.genesis_tip();
            assert_eq!(tip.clique.is_some(), genesis.spec.clique.is_some());
            let at = header.header.timestamp;
            let at_genesis = genesis.spec.fork_filter(&genesis, 0, at);
            assert!(
                at_genesis.validate(at_genesis.current()).is_ok(),
                "it is on its own chain"
            );
            for time_s in [0, at, u64::MAX] {
                genesis.spec.fork(u64::MAX, time_s);
                genesis.spec.blob_params(time_s);
            }
            rules
                .check_body(header, &genesis.body)
                .expect("the body is the header's");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
