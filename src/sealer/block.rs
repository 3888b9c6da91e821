//! The block that is sealed: an empty one.

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH};
use alloy_primitives::{Address, B256, Bloom, Bytes, U256};

use super::turns::{Pace, Slot};
use crate::chain::body::EMPTY_BODY;
use crate::chain::clique::{
    DIFFICULTY_IN_TURN, DIFFICULTY_OUT_OF_TURN, NONCE_AUTHORISE, NONCE_DROP, extra,
};
use crate::chain::{HeaderError, Rules, SealedHeader, Tip};
use crate::signer::{SignError, Signer};
use crate::sync::SealedBlock;

/// What the vanity bytes of a sealed block say.
const VANITY: &str = concat!("cairn v", env!("CARGO_PKG_VERSION"));

/// An empty block on `parent`, still without a seal. Its state root is its parent's: a clique block pays no reward, so that is what a
/// client finds that executes it (clique.md). `vote` is to let an address in (true) or to put it out; a checkpoint carries none.
pub fn unsealed(rules: &Rules, parent: &Tip, slot: Slot, vote: Option<(Address, bool)>) -> Header {
    let before = &parent.header.header;
    let number = before.number + 1;
    let snapshot = parent
        .clique
        .as_ref()
        .expect("a slot is only given on a clique chain");
    let listed = match rules.is_checkpoint(number) {
        true => snapshot.signers(),
        false => &[],
    };
    let (beneficiary, nonce) = match vote.filter(|_| !rules.is_checkpoint(number)) {
        None => (Address::ZERO, NONCE_DROP),
        Some((target, true)) => (target, NONCE_AUTHORISE),
        Some((target, false)) => (target, NONCE_DROP),
    };
    let (gas_limit, base_fee_per_gas) = rules.next_gas(before);
    Header {
        parent_hash: parent.header.hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary,
        state_root: before.state_root,
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        logs_bloom: Bloom::ZERO,
        difficulty: U256::from(if slot.in_turn {
            DIFFICULTY_IN_TURN
        } else {
            DIFFICULTY_OUT_OF_TURN
        }),
        number,
        gas_limit,
        gas_used: 0,
        timestamp: slot.time_s,
        extra_data: Bytes::from(extra(VANITY, listed)),
        mix_hash: B256::ZERO,
        nonce,
        base_fee_per_gas,
        ..Header::default()
    }
}

/// Whether the block of this header is an empty one on `parent`, as all that are sealed here.
pub(super) fn is_empty_on(parent: &Tip, header: &Header) -> bool {
    header.state_root == parent.header.header.state_root
        && header.transactions_root == EMPTY_ROOT_HASH
        && header.receipts_root == EMPTY_ROOT_HASH
        && header.logs_bloom == Bloom::ZERO
        && header.gas_used == 0
}

/// Has it sealed.
///
/// # Errors
/// Only of an external signer.
pub fn seal(mut header: Header, signer: &Signer) -> Result<SealedBlock, SignError> {
    signer.seal(&mut header)?;
    Ok(of(header))
}

/// The block of a header that is sealed.
pub(super) fn of(header: Header) -> SealedBlock {
    SealedBlock {
        header: Arc::new(SealedHeader::from_header(header)),
        body: bytes::Bytes::from_static(EMPTY_BODY),
    }
}

/// Sees that a block sealed on `parent` would obey the chain's rules: a genesis may ask for what no clique block can have,
/// such as Shanghai's withdrawals or a gas limit of 0. Nothing is signed for it.
///
/// # Errors
/// The rule it would break.
pub fn try_out(rules: &Rules, parent: &Tip, pace: &Pace) -> Result<(), HeaderError> {
    let Ok(slot) = pace.slot(parent, 0, 0) else {
        return Ok(()); // it may not seal now; `Turns` tells why
    };
    let header = unsealed(rules, parent, slot, None);
    let header = SealedHeader::to_be_sealed(header, pace.signer);
    rules.extend(parent, Arc::new(header), None).map(|_| ())
}
