//! Secrets: the signing key and passwords, each in one place, wiped when it goes and shown nowhere; and the files they come from.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use alloy_primitives::Address;
use rustix::process::DumpableBehavior;
use secp256k1::SecretKey;
use zeroize::Zeroizing;

use crate::chain::clique::address_of;
use crate::datadir::{DataDirError, io_error, read_limited};

/// A key file is 64 hex digits, perhaps `0x`, and line ends.
const KEY_LIMIT_BYTES: usize = 80;

/// Keeps what is in this process's memory from other programs of the same user, and out of core dumps, for good: only root may trace it
/// then, and look into its memory. To be called before a key or a password is read.
///
/// # Errors
/// The system refused.
pub fn shut_memory() -> std::io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// A signing key. It has one place in memory, which moves with its owner, cannot be copied, and is wiped when the owner goes,
/// also by a panic. What the processor's stack holds of it for the moment of reading and signing is out of a program's hands.
pub struct SigningKey {
    key: Box<SecretKey>,
    address: Address,
}

impl SigningKey {
    /// The key of these 32 bytes; `None` if they are none (zero, or not below the order of secp256k1).
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<SigningKey> {
        let mut read = SecretKey::from_byte_array(bytes).ok()?;
        let key = Box::new(read);
        read.non_secure_erase();
        let address = address_of(&key);
        Some(SigningKey { key, address })
    }

    /// A key of the system's randomness.
    ///
    /// # Errors
    /// Only if the system gives none.
    pub fn random() -> Result<SigningKey, getrandom::Error> {
        loop {
            let mut bytes = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *bytes)?;
            // One in 2^128 is no key.
            if let Some(key) = SigningKey::from_bytes(&bytes) {
                return Ok(key);
            }
        }
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The key itself, for who signs or encrypts with it: not to be copied.
    pub(crate) fn key(&self) -> &SecretKey {
        &self.key
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.key.non_secure_erase();
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of every log.
        f.debug_tuple("SigningKey").field(&self.address).finish()
    }
}

/// A password: bytes, as they were typed or stand in the file.
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Password {
        Password(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Reads a signing key of 64 hex digits, which nobody but its owner may be able to read: whoever has it can seal in the signer's
/// name.
///
/// # Errors
/// `Io`, or `Secret` if group or others may use the file or if it holds anything else.
pub fn read_signer_key(path: &Path) -> Result<SigningKey, DataDirError> {
    let bytes = parse_key(path, &read_private(path, "key file", KEY_LIMIT_BYTES)?)?;
    Ok(SigningKey::from_bytes(&bytes).expect("parse_key gives keys alone"))
}

/// Reads a node's key of 64 hex digits. Where others may read it they may pose as the node, and no more: that is warned of, since
/// geth takes such a file.
///
/// # Errors
/// `Io`, or `Secret` if the file holds anything else.
pub fn read_node_key(path: &Path) -> Result<SecretKey, DataDirError> {
    let file = fs::File::open(path).map_err(|source| io_error("open", path, source))?;
    if let Some(mode) = opened_to_others(&file, path)? {
        log::warn!(
            "Others than its owner may use the node key file {} (mode {mode:03o}), and so pose as this node; run: chmod 600 {}",
            path.display(),
            path.display()
        );
    }
    let text = Zeroizing::new(read_limited(file, path, KEY_LIMIT_BYTES)?);
    let bytes = parse_key(path, &text)?;
    Ok(SecretKey::from_byte_array(&bytes).expect("parse_key gives keys alone"))
}

/// Reads a file that holds a secret whole, up to one byte more than the limit: what is too long is found by its reader.
///
/// # Errors
/// `Io`, or `Secret` if group or others may use the file.
pub fn read_private(
    path: &Path,
    what: &'static str,
    limit_bytes: usize,
) -> Result<Zeroizing<Vec<u8>>, DataDirError> {
    let file = fs::File::open(path).map_err(|source| io_error("open", path, source))?;
    if let Some(mode) = opened_to_others(&file, path)? {
        return Err(DataDirError::Secret {
            what,
            path: path.into(),
            why: format!(
                "others than its owner may use it (mode {mode:03o}); run: chmod 600 {}",
                path.display()
            ),
        });
    }
    read_limited(file, path, limit_bytes).map(Zeroizing::new)
}

/// The file's mode, if group or others may do anything with it.
fn opened_to_others(file: &fs::File, path: &Path) -> Result<Option<u32>, DataDirError> {
    let found = file
        .metadata()
        .map_err(|source| io_error("read", path, source))?;
    let mode = found.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

fn parse_key(path: &Path, text: &[u8]) -> Result<Zeroizing<[u8; 32]>, DataDirError> {
    let bad = |why: &str| DataDirError::Secret {
        what: "key file",
        path: path.into(),
        why: why.into(),
    };
    let text = std::str::from_utf8(text)
        .map_err(|_| bad("expected 64 hex digits, found bytes that are no text"))?
        .trim();
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() != 64 {
        return Err(bad(&format!(
            "expected 64 hex digits, found {} characters",
            digits.chars().count()
        )));
    }
    let mut bytes = Zeroizing::new([0; 32]);
    alloy_primitives::hex::decode_to_slice(digits, &mut *bytes)
        .map_err(|_| bad("expected 64 hex digits, found another character among them"))?;
    let mut key = SecretKey::from_byte_array(&bytes)
        .map_err(|_| bad("the number is not a secp256k1 key (zero or too large)"))?;
    key.non_secure_erase();
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_file_is_64_hex_digits_with_or_without_prefix_and_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let digits = "11".repeat(32);
        for good in [
            digits.clone(),
            format!("0x{digits}\n"),
            format!("{digits}\r\n"),
        ] {
            write(&path, &good, 0o600);
            assert_eq!(read_node_key(&path).unwrap().secret_bytes(), [0x11; 32]);
            let key = read_signer_key(&path).unwrap();
            assert_eq!(key.key().secret_bytes(), [0x11; 32]);
        }
        for bad in [
            "".into(),
            "11".repeat(31),
            "zz".repeat(32),
            "00".repeat(32),
            "ff".repeat(32),
            "11".repeat(64),
            "é".repeat(32),
        ] {
            write(&path, &bad, 0o600);
            let error = read_node_key(&path).unwrap_err().to_string();
            assert!(error.contains("key file"), "{bad}: {error}");
            assert!(read_signer_key(&path).is_err());
        }
    }

    #[test]
    fn a_signer_key_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signer");
        for mode in [0o644, 0o640, 0o604] {
            write(&path, &"22".repeat(32), mode);
            let error = read_signer_key(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
            // A node's key is no such secret.
            assert!(read_node_key(&path).is_ok());
        }
        write(&path, &"22".repeat(32), 0o400);
        let key = read_signer_key(&path).unwrap();
        assert_eq!(key.key().secret_bytes(), [0x22; 32]);
    }

    #[test]
    fn a_secret_is_not_shown_by_debug() {
        let key = SigningKey::from_bytes(&[0x17; 32]).unwrap();
        let shown = format!("{key:?} {key:#?}");
        assert!(shown.contains(&format!("{:?}", key.address())), "{shown}");
        assert!(
            !shown.contains("1717") && !shown.contains("23, 23"),
            "{shown}"
        );
        let shown = format!("{:?}", Password::new(b"hunter2".to_vec()));
        assert!(
            !shown.contains("hunter2") && !shown.contains("104"),
            "{shown}"
        );
    }
}
