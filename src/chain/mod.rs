//! The rules of a chain: what a valid header and a valid body are. Pure: no thread, no socket, no clock.
//!
//! Headers and bodies stay the slices that they came in: a header is decoded once beside its bytes, a body is never decoded,
//! its roots are computed over its raw items. What needs the state (balances, nonces, receipts, state roots) is not judged here.

mod above;
pub mod body;
pub mod clique;
mod error;
mod fees;
mod genesis;
mod header;
mod next;
mod ommers;
mod pow;
pub mod receipts;
pub(crate) mod rlp;
pub(crate) mod root;
mod rules;
mod size;
mod spec;
mod tx;

pub use error::{BodyError, Fault, HeaderError, Problem};
pub use genesis::{DEV_KEYS, DEV_SIGNER_KEY, Genesis, GenesisError};
pub use header::SealedHeader;
pub use ommers::OmmerWindow;
pub use rules::{Rules, Tip};
pub use spec::{BlobParams, CliqueConfig, Fork, Forks, Spec};

#[cfg(test)]
mod tests;
