//! The data folder: its layout, the genesis it was made for, and the node's key.
//!
//! ```text
//! DATADIR/blocks/        the block store (cairn-store)
//! DATADIR/genesis.json   the genesis file the folder was made for; absent for built-in chains
//! DATADIR/bans.json      the peers that are banned, until when
//! DATADIR/cairn.ipc      the control socket of a running node
//! DATADIR/keystore/      the signing keys, encrypted (web3 secret storage), as geth has them
//! DATADIR/snapshots      who might seal after some of the last blocks of a clique chain; only a cache
//! DATADIR/nodekey        the node's secp256k1 key, 64 hex digits, as geth writes it
//! DATADIR/signed-ADDRESS-GENESIS  what the node signed last with a key of its own; GENESIS: the first 8 hex digits of the chain's
//! DATADIR/asked-ADDRESS-GENESIS   what the node last asked another program to sign
//! DATADIR/signed-ADDRESS  what `cairn signer` signed last, which knows no chain
//! ```
//!
//! Whoever puts back a backup of one of the last three, or of the whole folder, and goes on sealing may sign twice over one parent.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256, hex};
use cairn_store::{Head, Reader, Writer};
use secp256k1::SecretKey;

use crate::chain::Genesis;
use crate::keystore::Keystore;
use crate::secret::read_node_key;

/// A genesis file larger than this is not read: the largest known (mainnet's alloc) is under 1 MiB.
const GENESIS_LIMIT_BYTES: usize = 256 << 20;
/// Room made for what comes from a pipe, whose size nobody knows.
const PIPE_BYTES: usize = 4096;

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
    /// A file with a secret in it cannot be used.
    Secret {
        /// What it is for: `key file`, `password file`.
        what: &'static str,
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

    /// Where snapshots of the signers are kept.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// Where the signing keys are, encrypted.
    pub fn keystore(&self) -> Keystore {
        Keystore::new(&self.path.join("keystore"))
    }

    /// Where `cairn signer` keeps what it signed for `address`, on whatever chain.
    pub fn signed(&self, address: Address) -> PathBuf {
        self.path.join(format!("signed-{}", hex::encode(address)))
    }

    /// Where the sealer keeps what it signed for `address` on the chain of this genesis hash.
    pub fn signed_on(&self, address: Address, genesis: &B256) -> PathBuf {
        self.of_chain("signed", address, genesis)
    }

    /// Where the sealer keeps what it asked another program to sign for `address` on the chain of this genesis hash.
    pub fn asked(&self, address: Address, genesis: &B256) -> PathBuf {
        self.of_chain("asked", address, genesis)
    }

    /// What was signed with this key in another role, if nothing was in that of `record`: `cairn signer` and a node of the key's own name
    /// their records differently, and without the older one nobody knows what was signed.
    pub fn record_of_other_role(&self, address: Address, record: &Path) -> Option<PathBuf> {
        if record.exists() {
            return None;
        }
        let signers = self.signed(address);
        if record != signers {
            return signers.exists().then_some(signers);
        }
        let prefix = format!("signed-{}-", hex::encode(address));
        let mut names = fs::read_dir(&self.path).ok()?.flatten();
        let left = names.find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))?;
        Some(left.path())
    }

    /// A chain that is made anew with the same keys begins a new one.
    fn of_chain(&self, what: &str, address: Address, genesis: &B256) -> PathBuf {
        let (address, chain) = (hex::encode(address), hex::encode(&genesis[..4]));
        self.path.join(format!("{what}-{address}-{chain}"))
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
        let made = self.create(genesis);
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
        self.create_above(genesis, below)?;
        Ok(())
    }

    /// Makes only the store, with the genesis block, in a folder that is there.
    ///
    /// # Errors
    /// Whatever keeps it from being made; also a store that is there.
    pub fn create(&self, genesis: &Genesis) -> Result<Writer, cairn_store::Error> {
        Writer::create(&self.blocks(), &of_store(genesis))
    }

    /// The same, with a store that begins above the block `below`, the last of an era.
    ///
    /// # Errors
    /// Whatever keeps it from being made; also a store that is there.
    pub fn create_above(
        &self,
        genesis: &Genesis,
        below: Head,
    ) -> Result<Writer, cairn_store::Error> {
        Writer::create_at(&self.blocks(), &of_store(genesis), below)
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
    /// `Secret` if the file does not hold a key.
    pub fn node_key(&self, named: Option<&Path>) -> Result<SecretKey, DataDirError> {
        let path = named.map_or_else(|| self.nodekey(), Path::to_path_buf);
        if named.is_some() || path.exists() {
            return read_node_key(&path);
        }
        self.make_folder()?;
        let key = random_key()?;
        let text = hex::encode(key.secret_bytes());
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
    if json.len() > GENESIS_LIMIT_BYTES {
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

/// A key of the system's randomness.
pub(crate) fn random_key() -> Result<SecretKey, DataDirError> {
    loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| DataDirError::Io {
            op: "read randomness for",
            path: "a key".into(),
            source: io::Error::other(error.to_string()),
        })?;
        // One in 2^128 is no key.
        if let Ok(key) = SecretKey::from_byte_array(&bytes) {
            return Ok(key);
        }
    }
}

/// Reads a file whole, up to one byte more than the limit: what is too long is found by its reader. A secret leaves no copy on the way.
pub(crate) fn read_limited(
    file: fs::File,
    path: &Path,
    limit_bytes: usize,
) -> Result<Vec<u8>, DataDirError> {
    let size = file.metadata().map_or(0, |found| found.len());
    let room = usize::try_from(size)
        .unwrap_or(limit_bytes)
        .min(limit_bytes);
    // A pipe has no size: a secret of one is not longer than this.
    let mut bytes = Vec::with_capacity(room.max(PIPE_BYTES.min(limit_bytes)) + 1);
    file.take(limit_bytes as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| io_error("read", path, source))?;
    Ok(bytes)
}

/// Writes a small file so that a crash leaves the old one, the new one or none, never a part.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DataDirError> {
    replace(path, bytes, mode, true)
}

/// The same for what is made anew where it lacks or is damaged, as a power cut may leave it: nobody waits for the disk.
pub(crate) fn write_cache(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DataDirError> {
    replace(path, bytes, mode, false)
}

fn replace(path: &Path, bytes: &[u8], mode: u32, is_synced: bool) -> Result<(), DataDirError> {
    // Hidden, and of this file alone: another one may be written beside it at the same time.
    let name = path.file_name().unwrap_or_default().display();
    let new = path.with_file_name(format!(".{name}.new"));
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
        if is_synced {
            file.sync_all()?;
        }
        fs::rename(&new, path)?;
        match path.parent().filter(|_| is_synced) {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    })();
    if written.is_err() {
        // On a disk that is full a part of it would only take room; if it cannot be removed, the next write does.
        let _ = fs::remove_file(&new);
    }
    written.map_err(|source| io_error("write", path, source))
}

pub(crate) fn io_error(op: &'static str, path: &Path, source: io::Error) -> DataDirError {
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
            DataDirError::Secret { what, path, why } => {
                write!(f, "{what} {}: {why}", path.display())
            }
        }
    }
}

impl std::error::Error for DataDirError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

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
