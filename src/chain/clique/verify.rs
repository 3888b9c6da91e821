//! The rules of a clique header, apart from those that every header obeys.

use alloy_consensus::constants::EMPTY_OMMER_ROOT_HASH;
use alloy_primitives::{Address, U256};

use super::{
    DIFFICULTY_IN_TURN, DIFFICULTY_OUT_OF_TURN, NONCE_AUTHORISE, NONCE_DROP, Snapshot, extra,
};
use crate::chain::{error::Fault, header::SealedHeader, spec::CliqueConfig};

/// Judges `header` after a parent of that time and snapshot, and gives the snapshot after it.
pub(crate) fn verify(
    config: CliqueConfig,
    parent_time_s: u64,
    snapshot: &Snapshot,
    sealed: &SealedHeader,
) -> Result<Snapshot, Fault> {
    let header = &sealed.header;
    let checkpoint = header.number.is_multiple_of(config.epoch.max(1));
    let earliest_s = parent_time_s.saturating_add(config.period_s);
    if header.timestamp < earliest_s {
        return Err(Fault::mismatch(
            "timestamp",
            format_args!("at least {earliest_s}, the parent's plus the period"),
            header.timestamp,
        ));
    }
    if header.nonce != NONCE_DROP && header.nonce != NONCE_AUTHORISE {
        return Err(Fault::mismatch(
            "nonce",
            "all zeros or all ones",
            header.nonce,
        ));
    }
    if checkpoint && header.nonce != NONCE_DROP {
        return Err(Fault::mismatch(
            "nonce",
            format_args!("{NONCE_DROP} at a checkpoint"),
            header.nonce,
        ));
    }
    if checkpoint && header.beneficiary != Address::ZERO {
        return Err(Fault::mismatch(
            "miner",
            format_args!("{} at a checkpoint", Address::ZERO),
            header.beneficiary,
        ));
    }
    if !header.mix_hash.is_zero() {
        return Err(Fault::mismatch("mixHash", "zero", header.mix_hash));
    }
    if header.ommers_hash != EMPTY_OMMER_ROOT_HASH {
        return Err(Fault::mismatch(
            "sha3Uncles",
            EMPTY_OMMER_ROOT_HASH,
            header.ommers_hash,
        ));
    }
    let middle = extra::middle(header)?;
    let listed = match checkpoint {
        true => snapshot.signers(),
        false => &[],
    };
    check_listed(listed, middle)?;
    if header.difficulty != U256::from(DIFFICULTY_IN_TURN)
        && header.difficulty != U256::from(DIFFICULTY_OUT_OF_TURN)
    {
        return Err(Fault::mismatch("difficulty", "1 or 2", header.difficulty));
    }
    let signer = sealed.signer()?;
    let next = snapshot.apply_signed(sealed, config.epoch, signer)?;
    let (expected, turn) = match snapshot.in_turn(header.number, &signer) {
        true => (DIFFICULTY_IN_TURN, "in turn"),
        false => (DIFFICULTY_OUT_OF_TURN, "out of turn"),
    };
    if header.difficulty != U256::from(expected) {
        return Err(Fault::mismatch(
            "difficulty",
            format_args!("{expected}, for {signer} is {turn}"),
            header.difficulty,
        ));
    }
    Ok(next)
}

/// Whether `middle` lists these signers. What is shown of it is short: a peer chose it.
fn check_listed(listed: &[Address], middle: &[u8]) -> Result<(), Fault> {
    let (expected, found) = (listed.len() * 20, middle.len());
    if expected != found {
        return Err(Fault::mismatch(
            "extraData",
            format_args!("{expected} bytes of signers"),
            format_args!("{found}"),
        ));
    }
    let (chunks, _) = middle.as_chunks::<20>();
    for (place, (signer, found)) in listed
        .iter()
        .zip(chunks.iter().map(Address::from))
        .enumerate()
    {
        if *signer != found {
            return Err(Fault::mismatch(
                "extraData",
                format_args!("{signer} as signer {place} of {}", listed.len()),
                found,
            ));
        }
    }
    Ok(())
}
