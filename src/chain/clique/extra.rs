//! The parts of a clique header's `extraData`: vanity, the signers at a checkpoint, the seal.

use alloy_consensus::Header;
use alloy_primitives::Address;

use super::error::CliqueError;

/// Bytes at the start of `extraData` that mean nothing.
pub const VANITY_BYTES: usize = 32;
/// Bytes of the seal at its end: r, s, v.
pub const SEAL_BYTES: usize = 65;

/// An `extraData` with room for a seal: vanity, of which no more than its bytes are taken, and the signers where it lists them.
pub fn extra(vanity: &str, signers: &[Address]) -> Vec<u8> {
    let mut extra = vanity.as_bytes().to_vec();
    extra.resize(VANITY_BYTES, 0);
    extra.extend(signers.iter().flat_map(|signer| signer.as_slice()));
    extra.resize(extra.len() + SEAL_BYTES, 0);
    extra
}

/// What stands between vanity and seal.
pub(super) fn middle(header: &Header) -> Result<&[u8], CliqueError> {
    let extra = &header.extra_data;
    extra
        .len()
        .checked_sub(SEAL_BYTES)
        .and_then(|end| extra.get(VANITY_BYTES..end))
        .ok_or(CliqueError::ExtraTooShort { found: extra.len() })
}

/// The signers that a checkpoint lists, as it lists them.
pub(super) fn signers(header: &Header) -> Result<Vec<Address>, CliqueError> {
    let middle = middle(header)?;
    let (signers, rest) = middle.as_chunks::<20>();
    if signers.is_empty() || !rest.is_empty() {
        return Err(CliqueError::SignerBytes {
            found: middle.len(),
        });
    }
    Ok(signers.iter().map(Address::from).collect())
}
