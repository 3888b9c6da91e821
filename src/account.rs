//! `cairn account`: makes, lists and takes in signing keys, and says what came of it in geth's words, which scripts know.

use std::fmt;
use std::path::Path;

use alloy_primitives::hex;
use serde::Serialize;

use crate::cli::NewKey;
use crate::config::ConfigError;
use crate::datadir::DataDir;
use crate::keystore::{Account, KeyError, Strength};
use crate::password::password;
use crate::secret::{SigningKey, read_signer_key};

/// A key that was made or taken in.
#[derive(Debug, Serialize)]
pub struct Added {
    /// Its address, with a checksum.
    pub address: String,
    /// Its file.
    pub file: String,
    #[serde(skip)]
    is_new: bool,
}

/// The keys of a data folder.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// The folder.
    pub keystore: String,
    /// The keys, the oldest file first.
    pub accounts: Vec<Entry>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Its address, with a checksum.
    pub address: String,
    /// Its file.
    pub file: String,
    #[serde(skip)]
    hex: String,
}

/// Makes a key.
///
/// # Errors
/// What is wrong with the password or the folder.
pub fn new(datadir: &DataDir, options: &NewKey) -> Result<Added, ConfigError> {
    let password = password(options.password.as_deref(), "the new key", true)?;
    let key = SigningKey::random().map_err(KeyError::NoEntropy)?;
    let added = datadir.keystore().add(&key, &password, strength(options))?;
    Ok(Added::of(added, true))
}

/// Takes the key of a file of 64 hex digits in.
///
/// # Errors
/// What is wrong with the file, the password or the folder; also a key that is there already.
pub fn import(datadir: &DataDir, file: &Path, options: &NewKey) -> Result<Added, ConfigError> {
    let key = read_signer_key(file)?;
    let whose = format!("the key of {}", key.address());
    let password = password(options.password.as_deref(), &whose, true)?;
    let added = datadir.keystore().add(&key, &password, strength(options))?;
    Ok(Added::of(added, false))
}

/// Lists the keys.
///
/// # Errors
/// What is wrong with the folder.
pub fn list(datadir: &DataDir) -> Result<Listed, ConfigError> {
    let keystore = datadir.keystore();
    let accounts = keystore.list()?.into_iter().map(|account| Entry {
        address: account.address.to_string(),
        file: absolute(&account.file),
        hex: hex::encode(account.address),
    });
    Ok(Listed {
        keystore: absolute(keystore.path()),
        accounts: accounts.collect(),
    })
}

fn strength(options: &NewKey) -> Strength {
    match options.lightkdf {
        true => Strength::Light,
        false => Strength::Standard,
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path)
        .unwrap_or_else(|_| path.into())
        .display()
        .to_string()
}

impl Added {
    fn of(account: Account, is_new: bool) -> Added {
        Added {
            address: account.address.to_string(),
            file: absolute(&account.file),
            is_new,
        }
    }
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_new {
            return writeln!(f, "Address: {{{}}}", self.address[2..].to_lowercase());
        }
        writeln!(f, "Public address of the key:   {}", self.address)?;
        writeln!(f, "Path of the secret key file: {}", self.file)?;
        writeln!(
            f,
            "Keep a copy of the file and of the password elsewhere: without either nobody can seal with this key any more."
        )
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, entry) in self.accounts.iter().enumerate() {
            writeln!(
                f,
                "Account #{place}: {{{}}} keystore://{}",
                entry.hex, entry.file
            )?;
        }
        Ok(())
    }
}
