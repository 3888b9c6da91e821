//! The data folder: its layout, the genesis it was made for, and the node's key.
//!
//! ```text
//! DATADIR/blocks/        the block store (cairn-store)
//! DATADIR/genesis.json   the genesis file the folder was made for; absent for built-in chains
//! DATADIR/bans.json      the peers that are banned, until when
//! DATADIR/cairn.ipc      the control socket of a running node
//! DATADIR/nodekey        the node's secp256k1 key, 64 hex digits, as geth writes it
//! ```

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use alloy_primitives::B256;
use cairn_store::{Head, Reader, Writer};
use secp256k1::SecretKey;

use crate::chain::Genesis;

/// A genesis file larger than this is not read: the largest known (mainnet's alloc) is under 1 MiB.
const GENESIS_LIMIT_BYTES: u64 = 256 << 20;
/// A key file is 64 hex digits, perhaps `0x`, and line ends.
const KEY_LIMIT_BYTES: u64 = 80;

/// A data folder by its path. Nothing is opened until asked for.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// What is wrong with a data folder or a file beside it. Ours to tell, the user's to mend.
#[derive(Debug)]
pub enum DataDirError {
    /// The system refused an operation on a file.
    Io {
        /// What was attempted.
        op: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The block store refused.
    Store(cairn_store::Error),
    /// The genesis file cannot be used.
    Genesis {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        why: String,
    },
    /// The folder was made for another chain.
    OtherGenesis {
        /// The folder.
        path: PathBuf,
        /// The genesis hash of the store in it.
        stored: B256,
        /// The genesis hash that was asked for.
        asked: B256,
    },
    /// The folder's store is of a chain whose genesis.json is gone.
    NoGenesis {
        /// The file that is missing.
        path: PathBuf,
        /// The genesis hash of the store.
        stored: B256,
    },
    /// A key file cannot be used.
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
}

impl DataDir {
    /// The data folder at `path`.
    pub fn new(path: &Path) -> DataDir {
        DataDir { path: path.into() }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its block store is.
    pub fn blocks(&self) -> PathBuf {
        self.path.join("blocks")
    }

    /// Where the bans of peers are kept.
    pub fn bans(&self) -> PathBuf {
        self.path.join("bans.json")
    }

    /// Where a running node is asked, unless another path is named.
    pub fn ipc(&self) -> PathBuf {
        self.path.join("cairn.ipc")
    }

    /// Where its node key is, unless another file is named.
    pub fn nodekey(&self) -> PathBuf {
        self.path.join("nodekey")
    }

    /// Where the genesis file is that it was made for, unless that is built in.
    pub fn genesis_file(&self) -> PathBuf {
        self.path.join("genesis.json")
    }

    /// Makes the folder for `genesis`, or finds it made for that very one. `json` is kept beside the store, so that the
    /// chain's rules outlive the file they came from; built-in chains need none.
    ///
    /// # Errors
    /// `OtherGenesis` if the folder holds another chain; nothing is changed then.
    pub fn init(&self, genesis: &Genesis, json: Option<&[u8]>) -> Result<Made, DataDirError> {
        // A store whose making was cut short reads as damaged: making it again succeeds, where there was a whole one it does
        // not, and then the damage is what there is to tell.
        let damage = match Reader::open(&self.blocks()) {
            Ok(reader) => {
                let stored = reader.snapshot().genesis_hash();
                if stored != genesis.header.hash {
                    return Err(self.other_genesis(stored, genesis.header.hash));
                }
                if let Some(json) = json.filter(|_| !self.genesis_file().exists()) {
                    self.write_genesis(json)?;
                }
                return Ok(Made::AlreadyThere);
            }
            Err(cairn_store::Error::NoStore { .. }) => None,
            Err(error @ cairn_store::Error::Damaged { .. }) => Some(error),
            Err(error) => return Err(error.into()),
        };
        self.make_folder()?;
        // Before the store: a making that is cut short is then gone on with, for the same chain. Beside a store that is damaged, perhaps
        // of another chain, it waits until that one is known to be none.
        if let Some(json) = json.filter(|_| damage.is_none()) {
            self.write_genesis(json)?;
        }
        let made = Writer::create(&self.blocks(), &of_store(genesis));
        let is_remade = damage.is_some();
        match (made, damage) {
            (Ok(_), _) => {}
            (
                Err(cairn_store::Error::Damaged { .. } | cairn_store::Error::Exists { .. }),
                Some(damage),
            ) => {
                return Err(damage.into());
            }
            (Err(error), _) => return Err(error.into()),
        }
        if let Some(json) = json.filter(|_| is_remade) {
            self.write_genesis(json)?;
        }
        Ok(Made::New)
    }

    /// Makes the folder for a built-in `genesis`, with a store that begins above the block `below`, the last of an era.
    ///
    /// # Errors
    /// Whatever keeps it from being made; also a store that is there.
    pub fn init_above(&self, genesis: &Genesis, below: Head) -> Result<(), DataDirError> {
        self.make_folder()?;
        Writer::create_at(&self.blocks(), &of_store(genesis), below)?;
        Ok(())
    }

    /// Is there a store in the folder? One whose making was cut short is none; a damaged one is told by `init`.
    ///
    /// # Errors
    /// Whatever keeps an existing store from being read.
    pub fn is_made(&self) -> Result<bool, DataDirError> {
        match Reader::open(&self.blocks()) {
            Ok(_) => Ok(true),
            Err(cairn_store::Error::NoStore { .. } | cairn_store::Error::Damaged { .. }) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The genesis that the folder was made for.
    ///
    /// # Errors
    /// `NoGenesis` where it is neither built in nor beside the store; `OtherGenesis` where the file beside it is another's.
    pub fn genesis(&self) -> Result<Genesis, DataDirError> {
        let stored = Reader::open(&self.blocks())?.snapshot().genesis_hash();
        let path = self.genesis_file();
        if !path.exists() {
            return Genesis::builtin(stored).ok_or(DataDirError::NoGenesis { path, stored });
        }
        let (genesis, _) = read_genesis(&path)?;
        if genesis.header.hash == stored {
            Ok(genesis)
        } else {
            Err(self.other_genesis(stored, genesis.header.hash))
        }
    }

    /// The node's key: from `named` if given, else the folder's own, which is made if it is not there.
    ///
    /// # Errors
    /// `Key` if the file does not hold a key.
    pub fn node_key(&self, named: Option<&Path>) -> Result<SecretKey, DataDirError> {
        let path = named.map_or_else(|| self.nodekey(), Path::to_path_buf);
        if named.is_some() || path.exists() {
            return read_key(&path);
        }
        self.make_folder()?;
        let key = random_key()?;
        let text = alloy_primitives::hex::encode(key.secret_bytes());
        write_whole(&path, text.as_bytes(), 0o600)?;
        Ok(key)
    }

    fn make_folder(&self) -> Result<(), DataDirError> {
        fs::create_dir_all(&self.path).map_err(|source| io_error("make", &self.path, source))
    }

    fn write_genesis(&self, json: &[u8]) -> Result<(), DataDirError> {
        write_whole(&self.genesis_file(), json, 0o644)
    }

    fn other_genesis(&self, stored: B256, asked: B256) -> DataDirError {
        DataDirError::OtherGenesis {
            path: self.path.clone(),
            stored,
            asked,
        }
    }
}

fn of_store(genesis: &Genesis) -> cairn_store::Genesis<'_> {
    cairn_store::Genesis {
        chain_id: genesis.spec.network_id(), // the low 64 bits, which is what the store keeps
        hash: genesis.header.hash,
        difficulty: genesis.header.header.difficulty,
        header: &genesis.header.raw,
        body: &genesis.body,
    }
}

/// What `init` found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The folder was made.
    New,
    /// It was there already, for the same genesis.
    AlreadyThere,
}

/// Reads a genesis file, and gives its bytes too.
///
/// # Errors
/// `Io` or `Genesis`, naming the file.
pub fn read_genesis(path: &Path) -> Result<(Genesis, Vec<u8>), DataDirError> {
    let file = fs::File::open(path).map_err(|source| io_error("open", path, source))?;
    let json = read_limited(file, path, GENESIS_LIMIT_BYTES)?;
    if json.len() as u64 > GENESIS_LIMIT_BYTES {
        return Err(DataDirError::Genesis {
            path: path.into(),
            why: format!("it has more than {GENESIS_LIMIT_BYTES} bytes"),
        });
    }
    let genesis = Genesis::from_json(&json).map_err(|error| DataDirError::Genesis {
        path: path.into(),
        why: error.to_string(),
    })?;
    Ok((genesis, json))
}

/// Reads a key of 64 hex digits.
///
/// # Errors
/// `Io`, or `Key` if the file holds anything else.
pub fn read_key(path: &Path) -> Result<SecretKey, DataDirError> {
    let file = fs::File::open(path).map_err(|source| io_error("open", path, source))?;
    parse_key(path, read_limited(file, path, KEY_LIMIT_BYTES)?)
}

/// Reads a signing key, which nobody but its owner may be able to read: whoever has it can seal in the signer's name.
///
/// # Errors
/// As `read_key`, and `Key` if group or others may read the file.
pub fn read_signer_key(path: &Path) -> Result<SecretKey, DataDirError> {
    let file = fs::File::open(path).map_err(|source| io_error("open", path, source))?;
    let mode = file
        .metadata()
        .map_err(|source| io_error("read", path, source))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(DataDirError::Key {
            path: path.into(),
            why: format!(
                "others than its owner may use it (mode {:03o}); run: chmod 600 {}",
                mode & 0o777,
                path.display()
            ),
        });
    }
    parse_key(path, read_limited(file, path, KEY_LIMIT_BYTES)?)
}

fn parse_key(path: &Path, text: Vec<u8>) -> Result<SecretKey, DataDirError> {
    let bad = |why: &str| DataDirError::Key {
        path: path.into(),
        why: why.into(),
    };
    let text = std::str::from_utf8(&text)
        .map_err(|_| bad("expected 64 hex digits, found bytes that are no text"))?
        .trim();
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() != 64 {
        return Err(bad(&format!(
            "expected 64 hex digits, found {} characters",
            digits.chars().count()
        )));
    }
    let mut bytes = [0; 32];
    alloy_primitives::hex::decode_to_slice(digits, &mut bytes)
        .map_err(|_| bad("expected 64 hex digits, found another character among them"))?;
    SecretKey::from_byte_array(&bytes)
        .map_err(|_| bad("the number is not a secp256k1 key (zero or too large)"))
}

fn random_key() -> Result<SecretKey, DataDirError> {
    loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| DataDirError::Io {
            op: "read randomness for",
            path: "nodekey".into(),
            source: io::Error::other(error.to_string()),
        })?;
        // One in 2^128 is no key.
        if let Ok(key) = SecretKey::from_byte_array(&bytes) {
            return Ok(key);
        }
    }
}

/// Reads a file whole, up to one byte more than the limit: what is too long is found by its reader.
fn read_limited(file: fs::File, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, DataDirError> {
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| io_error("read", path, source))?;
    Ok(bytes)
}

/// Writes a small file so that a crash leaves the old one, the new one or none, never a part.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DataDirError> {
    let new = path.with_extension("new");
    let written = (|| {
        // One that a crash left behind may have another mode.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent() {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(|source| io_error("write", path, source))
}

fn io_error(op: &'static str, path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io {
        op,
        path: path.into(),
        source,
    }
}

impl From<cairn_store::Error> for DataDirError {
    fn from(error: cairn_store::Error) -> DataDirError {
        DataDirError::Store(error)
    }
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataDirError::Io { op, path, source } => {
                write!(f, "cannot {op} {}: {source}", path.display())
            }
            DataDirError::Store(error) => error.fmt(f),
            DataDirError::Genesis { path, why } => write!(f, "genesis {}: {why}", path.display()),
            DataDirError::OtherGenesis {
                path,
                stored,
                asked,
            } => write!(
                f,
                "data folder {}: it was made for the chain with genesis {stored}, not for {asked}; \
                 choose another --datadir, or the genesis it was made for",
                path.display()
            ),
            DataDirError::NoGenesis { path, stored } => write!(
                f,
                "{} is missing, and the stored genesis {stored} is no built-in one; \
                 put the chain's genesis file there, or run `cairn init` with it",
                path.display()
            ),
            DataDirError::Key { path, why } => write!(f, "key file {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for DataDirError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
            fs::write(&path, &good).unwrap();
            assert_eq!(read_key(&path).unwrap().secret_bytes(), [0x11; 32]);
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
            fs::write(&path, &bad).unwrap();
            let error = read_key(&path).unwrap_err().to_string();
            assert!(error.contains("key file"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_signer_key_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signer");
        fs::write(&path, "22".repeat(32)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_signer_key(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_signer_key(&path).unwrap().secret_bytes(), [0x22; 32]);
    }

    #[test]
    fn a_node_key_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(&dir.path().join("fresh"));
        let key = data.node_key(None).unwrap();
        assert_eq!(data.node_key(None).unwrap(), key);
        let mode = fs::metadata(data.nodekey()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
