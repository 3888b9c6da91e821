//! From a password to a key: scrypt (RFC 7914) and PBKDF2 (RFC 8018), with what a file may ask of this machine.

use alloy_primitives::hex;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::FileError;

/// Bytes that scrypt may use for a file: twice what geth's standard takes, which is the most that any wallet is known to ask for.
pub const MEMORY_LIMIT_BYTES: u64 = 512 << 20;
/// Rounds of scrypt's block mixing by 128 bytes (n * r * p), eight times those of geth's standard: some ten seconds.
pub const SCRYPT_WORK_LIMIT: u64 = 1 << 24;
/// Rounds of PBKDF2: known writers ask for at most a million. Some ten seconds.
pub const PBKDF2_ROUNDS_LIMIT: u32 = 10_000_000;
/// Of the derived key: 16 for the cipher, 16 for the MAC. A longer one begins with the same bytes.
const DERIVED_BYTES: usize = 32;
/// Known writers have 32.
const SALT_LIMIT_BYTES: usize = 256;

/// How much work a new file asks of who guesses passwords, and of who has the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// geth's standard (n = 262144, r = 8, p = 1): 256 MiB and about a second.
    Standard,
    /// geth's `--lightkdf` (n = 4096, r = 8, p = 6): 4 MiB and a tenth of it.
    Light,
}

/// A key derivation and its parameters, within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kdf {
    Scrypt {
        log_n: u8,
        r: u32,
        p: u32,
        salt: Vec<u8>,
    },
    Pbkdf2 {
        rounds: u32,
        salt: Vec<u8>,
    },
}

/// `kdfparams`, of either kind.
#[derive(Deserialize, Serialize)]
pub(super) struct KdfParams {
    dklen: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    c: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prf: Option<String>,
    salt: String,
}

impl Kdf {
    pub(super) fn new(strength: Strength, salt: [u8; 32]) -> Kdf {
        let (log_n, r, p) = match strength {
            Strength::Standard => (18, 8, 1),
            Strength::Light => (12, 8, 6),
        };
        let salt = salt.to_vec();
        Kdf::Scrypt { log_n, r, p, salt }
    }

    /// Reads `kdf` and `kdfparams`.
    pub(super) fn read(name: &str, params: &KdfParams) -> Result<Kdf, FileError> {
        if params.dklen < DERIVED_BYTES as u64 {
            return Err(FileError::Field("kdfparams.dklen", "at least 32"));
        }
        let salt = hex::decode(&params.salt)
            .ok()
            .filter(|salt| salt.len() <= SALT_LIMIT_BYTES)
            .ok_or(FileError::Field("kdfparams.salt", "hex, at most 256 bytes"))?;
        match name {
            "scrypt" => {
                let (n, r, p) = match (params.n, params.r, params.p) {
                    (Some(n), Some(r), Some(p)) => (n, r, p),
                    _ => return Err(FileError::Field("kdfparams", "n, r and p")),
                };
                if n < 2 || !n.is_power_of_two() {
                    return Err(FileError::Field("kdfparams.n", "a power of two above 1"));
                }
                if r == 0 || p == 0 {
                    return Err(FileError::Field("kdfparams", "r and p above 0"));
                }
                // n blocks of 128 r bytes, and p of them to begin and end with.
                let blocks = n.checked_add(p).and_then(|blocks| blocks.checked_mul(r));
                let memory = blocks.and_then(|blocks| blocks.checked_mul(128));
                if memory.is_none_or(|bytes| bytes > MEMORY_LIMIT_BYTES) {
                    return Err(FileError::TooCostly(
                        "its scrypt asks for more than 512 MiB of memory",
                    ));
                }
                let work = n.checked_mul(r).and_then(|work| work.checked_mul(p));
                if work.is_none_or(|work| work > SCRYPT_WORK_LIMIT) {
                    return Err(FileError::TooCostly(
                        "its scrypt asks for more than eight times the work of geth's standard",
                    ));
                }
                let small = "r and p are below 2^24 since the work is";
                Ok(Kdf::Scrypt {
                    log_n: u8::try_from(n.trailing_zeros()).expect("below 64"),
                    r: u32::try_from(r).expect(small),
                    p: u32::try_from(p).expect(small),
                    salt,
                })
            }
            "pbkdf2" => {
                if params.prf.as_deref() != Some("hmac-sha256") {
                    return Err(FileError::Field("kdfparams.prf", "hmac-sha256"));
                }
                let rounds = params.c.filter(|c| *c > 0);
                let rounds = rounds.ok_or(FileError::Field("kdfparams.c", "a number above 0"))?;
                let rounds = u32::try_from(rounds)
                    .ok()
                    .filter(|c| *c <= PBKDF2_ROUNDS_LIMIT);
                let rounds = rounds.ok_or(FileError::TooCostly(
                    "its pbkdf2 asks for more than 10,000,000 rounds",
                ))?;
                Ok(Kdf::Pbkdf2 { rounds, salt })
            }
            _ => Err(FileError::Field("kdf", "scrypt or pbkdf2")),
        }
    }

    /// What `read` read.
    pub(super) fn write(&self) -> (&'static str, KdfParams) {
        let params = |salt: &[u8]| KdfParams {
            dklen: DERIVED_BYTES as u64,
            n: None,
            r: None,
            p: None,
            c: None,
            prf: None,
            salt: hex::encode(salt),
        };
        match self {
            Kdf::Scrypt { log_n, r, p, salt } => (
                "scrypt",
                KdfParams {
                    n: Some(1 << log_n),
                    r: Some((*r).into()),
                    p: Some((*p).into()),
                    ..params(salt)
                },
            ),
            Kdf::Pbkdf2 { rounds, salt } => (
                "pbkdf2",
                KdfParams {
                    c: Some((*rounds).into()),
                    prf: Some("hmac-sha256".into()),
                    ..params(salt)
                },
            ),
        }
    }

    /// The derived key.
    pub(super) fn derive(&self, password: &[u8]) -> Zeroizing<[u8; DERIVED_BYTES]> {
        let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
        match self {
            Kdf::Scrypt { log_n, r, p, salt } => {
                let params = scrypt::Params::new(*log_n, *r, *p).expect("the limits are stricter");
                scrypt::scrypt(password, salt, &params, &mut *derived)
                    .expect("32 bytes can be derived");
            }
            Kdf::Pbkdf2 { rounds, salt } => {
                pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password, salt, *rounds, &mut *derived);
            }
        }
        derived
    }

    /// What deriving costs at the least, in blocks mixed or rounds.
    pub(super) fn work(&self) -> u64 {
        match self {
            Kdf::Scrypt { log_n, r, p, .. } => (u64::from(*r) << log_n) * u64::from(*p),
            Kdf::Pbkdf2 { rounds, .. } => (*rounds).into(),
        }
    }
}
