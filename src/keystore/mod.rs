//! The keystore: a folder of encrypted signing keys, with geth's names and format, so that either program reads the other's.

mod file;
mod kdf;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, hex};
use zeroize::Zeroizing;

use crate::datadir::{DataDirError, io_error, read_limited, write_whole};
use crate::secret::{Password, SigningKey, read_private};

pub use file::{FILE_LIMIT_BYTES, FileEntropy, FileError, KeyFile};
pub use kdf::{MEMORY_LIMIT_BYTES, PBKDF2_ROUNDS_LIMIT, SCRYPT_WORK_LIMIT, Strength};

/// Files looked at: a validator has one key, and who has thousands has named the wrong folder.
const FILES_LIMIT: usize = 10_000;

/// A folder of keys. Nothing is opened until asked for.
#[derive(Clone, Debug)]
pub struct Keystore {
    path: PathBuf,
}

/// A key in the folder, by what its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Whose key it is.
    pub address: Address,
    /// The file.
    pub file: PathBuf,
}

/// Why a key cannot be had or kept.
#[derive(Debug)]
pub enum KeyError {
    /// The system refused, or others may use a file.
    Folder(DataDirError),
    /// A file of the folder cannot be used.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, or with the password.
        why: FileError,
    },
    /// No file says that its key is of that address.
    NoSuch {
        /// Whose was asked for.
        address: Address,
        /// The folder.
        keystore: PathBuf,
        /// Whose there are.
        there: Vec<Address>,
    },
    /// Several files say that they have the key of one address.
    Ambiguous {
        /// Whose.
        address: Address,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// The key is there already.
    Exists(Account),
    /// There are more than `FILES_LIMIT` files.
    TooMany(PathBuf),
    /// The system gives no randomness.
    NoEntropy(getrandom::Error),
}

impl Keystore {
    /// The keystore at `path`.
    pub fn new(path: &Path) -> Keystore {
        Keystore { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys that are there, by the names of their files, which begin with the time: the oldest first. As geth does, it passes over
    /// what begins with a dot or ends with a tilde, and over files that cannot be read or do not say whose they are, of which it warns.
    ///
    /// # Errors
    /// `Folder` if the folder cannot be read; there are no keys in a folder that is not there.
    pub fn list(&self) -> Result<Vec<Account>, KeyError> {
        let failed = |source| KeyError::Folder(io_error("read", &self.path, source));
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let file = entry.map_err(failed)?.path();
            let name = file.file_name().unwrap_or_default().as_encoded_bytes();
            // A link may lead to a file of a secret store.
            let is_file = fs::metadata(&file).is_ok_and(|found| found.is_file());
            if is_file && !name.starts_with(b".") && !name.ends_with(b"~") {
                files.push(file);
            }
            if files.len() > FILES_LIMIT {
                return Err(KeyError::TooMany(self.path.clone()));
            }
        }
        files.sort();
        let mut accounts = Vec::new();
        for file in files {
            match said_address(&file) {
                Ok(address) => accounts.push(Account { address, file }),
                Err(why) => log::warn!("Passing over {}: {why}", file.display()),
            }
        }
        Ok(accounts)
    }

    /// The one key of `address`.
    ///
    /// # Errors
    /// `NoSuch`, `Ambiguous`, or as `list`.
    pub fn find(&self, address: Address) -> Result<Account, KeyError> {
        let mut all = self.list()?;
        let there = all.iter().map(|account| account.address).collect();
        all.retain(|account| account.address == address);
        match all.len() {
            0 => Err(KeyError::NoSuch {
                address,
                keystore: self.path.clone(),
                there,
            }),
            1 => Ok(all.remove(0)),
            _ => Err(KeyError::Ambiguous {
                address,
                files: all.into_iter().map(|account| account.file).collect(),
            }),
        }
    }

    /// Encrypts `key` and keeps it: when this returns, the file is on the disk, whole, readable by its owner alone.
    ///
    /// # Errors
    /// `Exists` if it is there already; `Folder` if it cannot be written.
    pub fn add(
        &self,
        key: &SigningKey,
        password: &Password,
        strength: Strength,
    ) -> Result<Account, KeyError> {
        let address = key.address();
        if let Some(there) = self
            .list()?
            .into_iter()
            .find(|there| there.address == address)
        {
            return Err(KeyError::Exists(there));
        }
        let mut random = Zeroizing::new([0; 64]);
        getrandom::fill(&mut *random).map_err(KeyError::NoEntropy)?;
        let take = |from: usize| random[from..from + 16].try_into().expect("16 bytes");
        let entropy = FileEntropy {
            salt: random[..32].try_into().expect("32 bytes"),
            iv: take(32),
            id: take(48),
        };
        let json = KeyFile::lock(key, password.bytes(), strength, &entropy).to_json();
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path);
        made.map_err(|source| KeyError::Folder(io_error("make", &self.path, source)))?;
        let file = self.path.join(file_name(address, jiff::Timestamp::now()));
        write_whole(&file, json.as_bytes(), 0o600)?;
        // A folder that was just made is in its own folder only when that one is on the disk too.
        if let Some(above) = self.path.parent() {
            let synced = fs::File::open(above).and_then(|above| above.sync_all());
            synced.map_err(|source| KeyError::Folder(io_error("sync", above, source)))?;
        }
        Ok(Account { address, file })
    }
}

impl Account {
    /// Decrypts the key.
    ///
    /// # Errors
    /// `File` for a wrong password and a file that is not what it says; `Folder` if others may use it.
    pub fn unlock(&self, password: &Password) -> Result<SigningKey, KeyError> {
        let json = read_private(&self.file, "key file", FILE_LIMIT_BYTES)?;
        let read = KeyFile::from_json(&json);
        read.and_then(|read| read.unlock(password.bytes()))
            .map_err(|why| KeyError::File {
                path: self.file.clone(),
                why,
            })
    }
}

/// Whose key a file says it has. Nothing in it is decrypted, so it matters not who else may read it.
fn said_address(path: &Path) -> Result<Address, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let json = read_limited(file, path, FILE_LIMIT_BYTES).map_err(|error| error.to_string())?;
    let read = KeyFile::from_json(&json).map_err(|error| error.to_string())?;
    read.address()
        .ok_or_else(|| "it does not say whose key it is".into())
}

/// geth's name for a key file: `UTC--2016-03-22T12-57-55.920751759Z--7ef5a6135f1fd6a02593eedc869c6d41d934aef8`.
fn file_name(address: Address, now: jiff::Timestamp) -> String {
    format!(
        "UTC--{}--{}",
        now.strftime("%Y-%m-%dT%H-%M-%S.%9fZ"),
        hex::encode(address)
    )
}

impl From<DataDirError> for KeyError {
    fn from(error: DataDirError) -> KeyError {
        KeyError::Folder(error)
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Folder(error) => error.fmt(f),
            KeyError::File { path, why } => write!(f, "key file {}: {why}", path.display()),
            KeyError::NoSuch {
                address,
                keystore,
                there,
            } => {
                write!(f, "there is no key of {address} in {}", keystore.display())?;
                match there[..] {
                    [] => f.write_str(", which has none; make one with `cairn account new`, or take one in with `cairn account import`"),
                    _ => {
                        let there: Vec<String> = there.iter().map(Address::to_string).collect();
                        write!(f, ", which has those of {}", there.join(", "))
                    }
                }
            }
            KeyError::Ambiguous { address, files } => {
                let files: Vec<String> = files
                    .iter()
                    .map(|file| file.display().to_string())
                    .collect();
                write!(
                    f,
                    "{} key files say that they are of {address}: {}; leave one in the folder",
                    files.len(),
                    files.join(", ")
                )
            }
            KeyError::Exists(there) => write!(
                f,
                "the key of {} is there already: {}",
                there.address,
                there.file.display()
            ),
            KeyError::TooMany(path) => write!(
                f,
                "{}: more than {FILES_LIMIT} files; is it a keystore?",
                path.display()
            ),
            KeyError::NoEntropy(error) => {
                write!(f, "the system's randomness cannot be read: {error}")
            }
        }
    }
}

impl std::error::Error for KeyError {}
