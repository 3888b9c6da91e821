//! Bodies and their transactions: taken apart and put together, and judged under a header that commits to them.
//!
//! The first bytes choose the chain, the time and the gas; the rest is the body.
#![no_main]

use std::sync::LazyLock;

use alloy_primitives::U256;
use cairn::chain::{BodyError, Forks, Genesis, OmmerWindow, Rules, SealedHeader, Spec, body};
use cairn_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;

/// Times at which mainnet has other rules: Shanghai, Cancun, Prague, Osaka, and later.
const TIMES_S: [u64; 6] = [
    0,
    1_700_000_000,
    1_720_000_000,
    1_750_000_000,
    1_790_000_000,
    u64::MAX,
];

static CHAINS: LazyLock<Vec<Rules>> = LazyLock::new(|| {
    let mut foreign = Genesis::dev();
    foreign.spec = Spec::new(U256::MAX, Forks::default());
    [Genesis::mainnet(), Genesis::dev(), foreign]
        .iter()
        .map(Rules::new)
        .collect()
});

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let rules = &CHAINS[usize::from(input.byte()) % CHAINS.len()];
    let timestamp = input.of(&TIMES_S);
    let gas_used = u64::from(input.u16()) * 1000;
    let raw = input.0;

    let transactions: Vec<&[u8]> = body::transactions(raw).collect();
    let ommers: Vec<&[u8]> = body::ommers(raw).collect();
    assert!(transactions.len() + ommers.len() <= raw.len());
    let parts = body::parts(raw);
    let roots = body::roots(raw);
    assert!(parts.is_ok() || roots.is_err());
    let Ok(parts) = parts else { return };

    // A block of any header and this body comes apart as it was put together.
    let header = SealedHeader::from_header(alloy_consensus::Header {
        number: 20_000_000,
        timestamp,
        gas_limit: 60_000_000,
        gas_used,
        base_fee_per_gas: Some(7),
        withdrawals_root: roots.as_ref().ok().and_then(|roots| roots.withdrawals),
        transactions_root: roots
            .as_ref()
            .map_or_else(|_| U256::ZERO.into(), |roots| roots.transactions),
        ommers_hash: roots
            .as_ref()
            .map_or_else(|_| U256::ZERO.into(), |roots| roots.ommers),
        ..Default::default()
    });
    let block = body::join_block(&header.raw, raw).expect("it is a body");
    assert_eq!(
        body::split_block(&block).expect("it is a block").0,
        header.raw
    );
    assert_eq!(body::body_of_block(&block).expect("it is a block"), raw);

    let judged = rules.check_body(&header, raw);
    if roots.is_ok() {
        let is_refused = matches!(
            judged,
            Err(BodyError::Malformed(_) | BodyError::NotOfHeader(_))
        );
        assert!(!is_refused, "its header commits to it: {judged:?}");
    } else {
        assert!(judged.is_err());
    }
    let mut window = OmmerWindow::new();
    window.push(&header, raw);
    if let Some(first) = ommers.first() {
        assert!(
            parts
                .ommers
                .windows(first.len())
                .any(|window| window == *first)
        );
    }
});
