//! A signer's key as a node of a new network gets it: the one place that knows in which form it is kept.

use std::path::Path;

use alloy_primitives::hex;
use zeroize::Zeroizing;

use crate::config::ConfigError;
use crate::datadir::{DataDir, write_whole};
use crate::keystore::Strength;
use crate::secret::{Password, SigningKey};

/// In a node's folder: its data folder, as the start script names it.
pub(super) const DATADIR: &str = "data";
const RAW_FILE: &str = "signer.key";
const PASSWORD_FILE: &str = "password";
/// As many as the key that it opens is strong by: nobody guesses it, so the files need no costly derivation, and a node that starts again
/// need not find 256 MiB for one.
const PASSWORD_BYTES: usize = 16;

/// How the keys are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// In the keystore of the data folder, as geth has it, with a password of its own in a file.
    Keystore,
    /// 64 hex digits in a file, for clients that take no keystore.
    Raw,
}

impl Form {
    /// What a start script passes to cairn, from within the node's folder, so that the node seals with the key.
    pub(super) fn flags(self) -> &'static str {
        match self {
            Form::Keystore => "--password password",
            Form::Raw => "--signer-key signer.key",
        }
    }

    /// What the README says of the secrets.
    pub(super) fn warning(self) -> &'static str {
        match self {
            Form::Keystore => {
                "**`nodekey`, `password` and `data/keystore` are secrets**: whoever has a signer's key file and its password seals and votes in its
name. Keep a copy of both, each in a safe place of its own. Of `data` only `data/blocks` may ever be removed."
            }
            Form::Raw => {
                "**`nodekey` and `signer.key` are secrets**: whoever has a signer's key seals and votes in its name. Keep a copy of it in a safe place.
Of `data` only `data/blocks` may ever be removed."
            }
        }
    }

    /// Writes the key into the node's folder, readable by its owner alone.
    pub(super) fn write(self, key: &SigningKey, folder: &Path) -> Result<(), ConfigError> {
        match self {
            Form::Keystore => {
                let mut bytes = Zeroizing::new([0; PASSWORD_BYTES]);
                getrandom::fill(&mut *bytes).map_err(super::no_randomness)?;
                let text = Zeroizing::new(hex::encode(*bytes));
                let password = Password::new(text.as_bytes().to_vec());
                let keystore = DataDir::new(&folder.join(DATADIR)).keystore();
                keystore.add(key, &password, Strength::Light)?;
                write_whole(&folder.join(PASSWORD_FILE), text.as_bytes(), 0o600)?;
            }
            Form::Raw => {
                let bytes = Zeroizing::new(key.key().secret_bytes());
                let text = Zeroizing::new(hex::encode(*bytes));
                write_whole(&folder.join(RAW_FILE), text.as_bytes(), 0o600)?;
            }
        }
        Ok(())
    }
}
