//! Clique, proof of authority (EIP-225): who may seal a block, and how those who may are voted in and out.

mod error;
mod extra;
mod restore;
mod seal;
mod snapshot;
mod verify;

pub use error::CliqueError;
pub use extra::{SEAL_BYTES, VANITY_BYTES, extra};
pub(crate) use restore::restore;
pub use seal::{address_of, find_signers, put_seal, seal, seal_hash, sign, signer, unsealed};
pub use snapshot::{Snapshot, Vote};
pub(crate) use verify::verify;

use alloy_primitives::B64;

/// Nonce of a vote to let `coinbase` in.
pub const NONCE_AUTHORISE: B64 = B64::repeat_byte(0xff);
/// Nonce of a vote to put `coinbase` out, and of a header without a vote.
pub const NONCE_DROP: B64 = B64::ZERO;
/// Difficulty of a block whose signer was in turn.
pub const DIFFICULTY_IN_TURN: u64 = 2;
/// Difficulty of a block whose signer was not.
pub const DIFFICULTY_OUT_OF_TURN: u64 = 1;
/// Blocks between checkpoints where the genesis does not say.
pub const DEFAULT_EPOCH: u64 = 30_000;
