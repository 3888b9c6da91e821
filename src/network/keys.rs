//! A signer's key as a node of a new network gets it: the one place that knows in which form it is kept.

use std::path::Path;

use alloy_primitives::hex;
use zeroize::Zeroizing;

use crate::datadir::{DataDirError, write_whole};
use crate::secret::SigningKey;

/// In a node's folder: 64 hex digits, as `--signer-key` takes them.
const FILE: &str = "signer.key";

/// What a start script passes to cairn, from within the node's folder, so that the node seals with the key.
pub(super) const FLAGS: &str = "--signer-key signer.key";

/// Writes the key into the node's folder, readable by its owner alone.
pub(super) fn write(key: &SigningKey, folder: &Path) -> Result<(), DataDirError> {
    let bytes = Zeroizing::new(key.key().secret_bytes());
    let text = Zeroizing::new(hex::encode(*bytes));
    write_whole(&folder.join(FILE), text.as_bytes(), 0o600)
}
