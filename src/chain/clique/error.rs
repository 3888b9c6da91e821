//! What can be wrong with a seal, a signer or a list of signers.

use std::fmt;

use alloy_primitives::Address;

use super::extra::{SEAL_BYTES, VANITY_BYTES};
use crate::chain::error::Fault;

/// The rule of EIP-225 that a header breaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CliqueError {
    /// `extraData` has no room for vanity and seal.
    ExtraTooShort {
        /// Its length in bytes.
        found: usize,
    },
    /// The signers in a checkpoint's `extraData` are no whole addresses, or there is none.
    SignerBytes {
        /// Their length in bytes.
        found: usize,
    },
    /// The seal is no signature: r, s or v is out of range, or no key can have made it.
    Seal,
    /// Who sealed is no signer.
    Unauthorised {
        /// Who sealed.
        signer: Address,
    },
    /// Who sealed did so too few blocks ago.
    SignedRecently {
        /// Who sealed.
        signer: Address,
        /// The block sealed then.
        at: u64,
        /// The first block that may be sealed again.
        again: u64,
    },
    /// The header is not the one after the snapshot.
    NotNext {
        /// The number that comes next.
        expected: u64,
        /// The header's.
        found: u64,
    },
}

impl From<CliqueError> for Fault {
    fn from(error: CliqueError) -> Self {
        match error {
            CliqueError::ExtraTooShort { found } => Self::mismatch(
                "extraData",
                format_args!(
                    "at least {} bytes of vanity and seal",
                    VANITY_BYTES + SEAL_BYTES
                ),
                format_args!("{found} bytes"),
            ),
            CliqueError::SignerBytes { found } => Self::mismatch(
                "extraData",
                "signers of 20 bytes each, one at least",
                format_args!("{found} bytes of them"),
            ),
            CliqueError::Seal => Self::mismatch(
                "extraData",
                "a seal r, s, v with v 0 or 1",
                "a seal that no key can have made",
            ),
            CliqueError::Unauthorised { signer } => Self::mismatch(
                "extraData",
                "the seal of a signer",
                format_args!("that of {signer}, who is none"),
            ),
            CliqueError::SignedRecently { signer, at, again } => Self::mismatch(
                "extraData",
                "the seal of a signer who has not signed recently",
                format_args!(
                    "that of {signer}, who sealed block {at} and may seal again from {again} on"
                ),
            ),
            CliqueError::NotNext { expected, found } => Self::mismatch("number", expected, found),
        }
    }
}

impl fmt::Display for CliqueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Fault::from(self.clone()).fmt(f)
    }
}

impl std::error::Error for CliqueError {}
