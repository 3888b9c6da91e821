//! A key file: web3 secret storage, version 3, of bytes alone. The key is encrypted with AES-128-CTR under the first half of what a
//! key derivation makes of the password; keccak256 of the second half and the ciphertext says whether the password was right.
//!
//! Source: <https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage/>

use std::fmt;

use aes::Aes128;
use alloy_primitives::{Address, B256, Keccak256, hex};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::kdf::{Kdf, KdfParams, Strength};
use crate::secret::SigningKey;

/// A key file has some 500 bytes; notes of other wallets are let through.
pub const FILE_LIMIT_BYTES: usize = 64 << 10;

/// An encrypted key, as it stands in a file; what it asks for is within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    address: Option<Address>,
    /// At most 32 bytes: writers of 2015 left leading zeros of the key out.
    ciphertext: Vec<u8>,
    iv: [u8; 16],
    kdf: Kdf,
    mac: B256,
    id: String,
}

/// What a new file needs of randomness. No two files may have the same.
pub struct FileEntropy {
    /// Of the key derivation.
    pub salt: [u8; 32],
    /// Of the cipher.
    pub iv: [u8; 16],
    /// The file's UUID, before its version is set.
    pub id: [u8; 16],
}

/// What is wrong with a key file or the password for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// No JSON, or not that of a key file.
    Json(String),
    /// Another version, or a cipher that is not read.
    Unknown(&'static str),
    /// A field, and what was expected in it.
    Field(&'static str, &'static str),
    /// Opening it would cost too much.
    TooCostly(&'static str),
    /// The password does not open it.
    WrongPassword,
    /// What it holds is no key.
    NoKey,
    /// The key in it has another address than the file says.
    OtherAddress {
        /// What the file says.
        said: Address,
        /// What the key has.
        found: Address,
    },
}

#[derive(Deserialize, Serialize)]
struct Json {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    #[serde(default)]
    id: String,
    /// A number; version 1 wrote it as a string.
    version: Value,
}

#[derive(Deserialize, Serialize)]
struct Crypto {
    cipher: String,
    ciphertext: String,
    cipherparams: CipherParams,
    kdf: String,
    kdfparams: KdfParams,
    mac: String,
}

#[derive(Deserialize, Serialize)]
struct CipherParams {
    iv: String,
}

impl KeyFile {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, `TooCostly` among that.
    pub fn from_json(json: &[u8]) -> Result<KeyFile, FileError> {
        if json.len() > FILE_LIMIT_BYTES {
            return Err(FileError::Json(format!(
                "it has more than {FILE_LIMIT_BYTES} bytes"
            )));
        }
        let read: Json =
            serde_json::from_slice(json).map_err(|error| FileError::Json(error.to_string()))?;
        if read.version == "1" {
            return Err(FileError::Unknown(
                "its version is 1, of 2015; `geth account update` makes a version 3 of it",
            ));
        }
        if read.version.as_u64() != Some(3) {
            return Err(FileError::Unknown("its version is not 3"));
        }
        let crypto = &read.crypto;
        if crypto.cipher != "aes-128-ctr" {
            return Err(FileError::Unknown("its cipher is not aes-128-ctr"));
        }
        let address = match read.address.as_deref() {
            None | Some("") => None,
            Some(address) => Some(
                address
                    .parse()
                    .map_err(|_| FileError::Field("address", "40 hex digits"))?,
            ),
        };
        let ciphertext = hex::decode(&crypto.ciphertext).ok();
        Ok(KeyFile {
            address,
            ciphertext: ciphertext
                .filter(|bytes| (1..=32).contains(&bytes.len()))
                .ok_or(FileError::Field("ciphertext", "hex, at most 32 bytes"))?,
            iv: hex::decode_to_array(&crypto.cipherparams.iv)
                .map_err(|_| FileError::Field("cipherparams.iv", "hex, 16 bytes"))?,
            kdf: Kdf::read(&crypto.kdf, &crypto.kdfparams)?,
            mac: hex::decode_to_array(&crypto.mac)
                .map_err(|_| FileError::Field("mac", "hex, 32 bytes"))?
                .into(),
            id: read.id,
        })
    }

    /// Encrypts `key`.
    pub fn lock(
        key: &SigningKey,
        password: &[u8],
        strength: Strength,
        entropy: &FileEntropy,
    ) -> KeyFile {
        let kdf = Kdf::new(strength, entropy.salt);
        let derived = kdf.derive(password);
        let mut bytes = key.key().secret_bytes(); // encrypted in place
        cipher(&derived, &entropy.iv, &mut bytes);
        KeyFile {
            address: Some(key.address()),
            mac: mac(&derived, &bytes),
            ciphertext: bytes.to_vec(),
            iv: entropy.iv,
            kdf,
            id: uuid(entropy.id),
        }
    }

    /// The file.
    pub fn to_json(&self) -> String {
        let (kdf, kdfparams) = self.kdf.write();
        let json = Json {
            address: self.address.map(hex::encode),
            crypto: Crypto {
                cipher: "aes-128-ctr".into(),
                ciphertext: hex::encode(&self.ciphertext),
                cipherparams: CipherParams {
                    iv: hex::encode(self.iv),
                },
                kdf: kdf.into(),
                kdfparams,
                mac: hex::encode(self.mac),
            },
            id: self.id.clone(),
            version: 3.into(),
        };
        serde_json::to_string(&json).expect("strings and numbers can be written")
    }

    /// Decrypts the key: a second and 256 MiB where the writer was geth.
    ///
    /// # Errors
    /// `WrongPassword`, `NoKey`, `OtherAddress`.
    pub fn unlock(&self, password: &[u8]) -> Result<SigningKey, FileError> {
        let derived = self.kdf.derive(password);
        if mac(&derived, &self.ciphertext) != self.mac {
            return Err(FileError::WrongPassword);
        }
        let mut bytes = Zeroizing::new([0; 32]);
        let start = 32 - self.ciphertext.len();
        bytes[start..].copy_from_slice(&self.ciphertext);
        cipher(&derived, &self.iv, &mut bytes[start..]);
        let key = SigningKey::from_bytes(&bytes).ok_or(FileError::NoKey)?;
        match self.address {
            Some(said) if said != key.address() => Err(FileError::OtherAddress {
                said,
                found: key.address(),
            }),
            _ => Ok(key),
        }
    }

    /// Whose key it is, by what the file says; some wallets do not.
    pub fn address(&self) -> Option<Address> {
        self.address
    }

    /// What `unlock` costs at the least: blocks of 128 bytes that scrypt mixes, or rounds of PBKDF2.
    pub fn work(&self) -> u64 {
        self.kdf.work()
    }
}

fn cipher(derived: &[u8; 32], iv: &[u8; 16], bytes: &mut [u8]) {
    let key = derived.first_chunk::<16>().expect("32 bytes have 16");
    Ctr128BE::<Aes128>::new(key.into(), iv.into()).apply_keystream(bytes);
}

fn mac(derived: &[u8; 32], ciphertext: &[u8]) -> B256 {
    let mut hash = Keccak256::new();
    hash.update(&derived[16..]);
    hash.update(ciphertext);
    hash.finalize()
}

/// A random UUID (RFC 9562, version 4); geth reads no file without one.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Json(why) => write!(f, "it is no key file (web3 secret storage): {why}"),
            FileError::Unknown(why) => f.write_str(why),
            FileError::Field(field, expected) => write!(f, "{field}: expected {expected}"),
            FileError::TooCostly(why) => write!(f, "{why}; it is not opened"),
            FileError::WrongPassword => f.write_str("wrong password"),
            FileError::NoKey => f.write_str("what it holds is not a secp256k1 key"),
            FileError::OtherAddress { said, found } => write!(
                f,
                "it says that its key is of {said}, but the key in it is of {found}; it is not used"
            ),
        }
    }
}

impl std::error::Error for FileError {}
