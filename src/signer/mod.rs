//! Who signs our blocks: a key that this process holds, or another program that is asked over a socket
//! (PROTOCOL.md).

mod external;
mod serve;
mod wire;

use std::fmt;
use std::io;
use std::path::PathBuf;

use alloy_consensus::Header;
use alloy_primitives::Address;

use crate::chain::clique;
use crate::secret::SigningKey;

pub use external::External;
pub use serve::SignerRole;
pub use wire::{AnswerError, CONTENT_TYPE, METHOD, read_answer, read_unsealed, request};

/// Signs for one address. It belongs to the sealer's thread, which wipes the key when it ends.
#[derive(Debug)]
pub enum Signer {
    /// By a key of our own.
    Key(SigningKey),
    /// By another program.
    External(External),
}

/// Why a block was not signed.
#[derive(Debug)]
pub enum SignError {
    /// Nobody listens at the socket.
    Away(PathBuf),
    /// The connection failed, or the answer did not come in time.
    Io(PathBuf, io::Error),
    /// What came is no signature, or a refusal. `AnswerError::Signed` carries another header over the very parent that was asked for.
    Answer(PathBuf, AnswerError),
    /// The signature is of another key, or of other bytes.
    NotOurs {
        /// The signer's socket.
        path: PathBuf,
        /// Who was to sign.
        expected: Address,
        /// Who did, if anybody can have.
        found: Option<Address>,
    },
}

impl Signer {
    /// For whom it signs.
    pub fn address(&self) -> Address {
        match self {
            Signer::Key(key) => key.address(),
            Signer::External(external) => external.address(),
        }
    }

    /// Signs `header`, which has room for the seal at the end of its `extraData`, and puts the seal there.
    ///
    /// # Errors
    /// Only of an external signer.
    pub fn seal(&self, header: &mut Header) -> Result<(), SignError> {
        match self {
            Signer::Key(key) => clique::seal(header, key.key()),
            Signer::External(external) => external.seal(header)?,
        }
        Ok(())
    }

    /// Whether it could be asked now.
    ///
    /// # Errors
    /// Only of an external signer.
    pub fn reach(&self) -> Result<(), SignError> {
        match self {
            Signer::Key(_) => Ok(()),
            Signer::External(external) => external.reach(),
        }
    }
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignError::Away(path) => write!(
                f,
                "nobody listens at {} (is `cairn signer` running?)",
                path.display()
            ),
            SignError::Io(path, error) if external::is_timeout(error) => {
                write!(f, "{}: no answer in time", path.display())
            }
            SignError::Io(path, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{}: permission denied: this user may not ask the signer (`cairn signer --group-access`)",
                    path.display()
                )
            }
            SignError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            SignError::Answer(path, why) => write!(f, "{}: {why}", path.display()),
            SignError::NotOurs {
                path,
                expected,
                found: Some(found),
            } => write!(
                f,
                "{}: the signature is of {found}, not of {expected}, or of another block; it is not used",
                path.display()
            ),
            SignError::NotOurs {
                path,
                expected,
                found: None,
            } => write!(
                f,
                "{}: what came is no signature that {expected} can have made; it is not used",
                path.display()
            ),
        }
    }
}

impl std::error::Error for SignError {}
