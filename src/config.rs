//! What the command line means: one checked `Config`, and a small one for each role.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256};
use cairn_net::enode::{Enode, EnodeError, EnodeUrl};
use cairn_net::eth::VERSIONS;
use cairn_net::limits::{MAX_STATICS, MAX_THREADS, MAX_TRUSTED};
use cairn_store::Head;
use secp256k1::SecretKey;

use crate::chain::{DEV_SIGNER_KEY, Genesis};
use crate::checkpoint::Checkpoint;
use crate::cli::{Common, Run};
use crate::datadir::{self, DataDir, DataDirError, Made};
use crate::keystore::{Account, KeyError, Keystore};
use crate::names::Named;
use crate::password::password;
use crate::sealer::Pace;
use crate::secret::{SigningKey, read_signer_key};
use crate::signer::{External, Signer};

/// With the connections that shake hands, linger or are dialled (some 400), these need fewer file descriptors than a
/// system gives by default (1024), with one net thread.
const PEERS_LIMIT: usize = 550;
/// A longer interval is a slip of the finger.
const INTERVAL_LIMIT_MS: u64 = 366 * 24 * 3600 * 1000;

/// What `--sync-memory-mb` may be: less leaves no room for bodies beside the headers, and more than the most brings nothing more.
const SYNC_MEMORY_MB: RangeInclusive<usize> = 16..=4096;

/// Everything a running node is told, checked.
#[derive(Debug)]
pub struct Config {
    /// The data folder.
    pub datadir: DataDir,
    /// The chain, as the data folder has it.
    pub genesis: Genesis,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The node's identity.
    pub node_key: SecretKey,
    /// The network id told to peers.
    pub network_id: u64,
    /// Versions of eth to speak, the preferred first.
    pub eth_versions: Vec<u8>,
    /// Peers at the most.
    pub max_peers: usize,
    /// Peers that are dialled, and dialled again.
    pub bootnodes: Vec<Enode>,
    /// Peers that stand above the caps and are never banned.
    pub trusted: Vec<Enode>,
    /// Those of both whose host is a name: they are looked up while the node runs.
    pub named: Vec<Named>,
    /// Threads that peers are spread over.
    pub net_threads: usize,
    /// The control socket, unless there is to be none.
    pub ipc: Option<PathBuf>,
    /// Bytes of headers, bodies and receipts that sync may hold and expect.
    pub sync_memory_bytes: usize,
    /// Receipts are asked for and kept.
    pub receipts: bool,
    /// Where a new folder begins, if not at the genesis block.
    pub checkpoint: Option<Checkpoint>,
    /// The head to trust where no seal can be checked.
    pub sync_target: Option<B256>,
    /// How to seal, if asked to.
    pub sealer: Option<SealerConfig>,
}

/// How the sealer works. It moves into the sealer's thread, and the key with it: there is no other copy.
#[derive(Debug)]
pub struct SealerConfig {
    /// Who signs.
    pub signer: Signer,
    /// Seconds from one block to the next; 0: nothing is sealed (period 0 and no interval).
    pub pace_s: u64,
}

impl SealerConfig {
    /// Who seals, and how fast.
    pub fn pace(&self) -> Pace {
        Pace {
            signer: self.signer.address(),
            pace_s: self.pace_s,
        }
    }
}

/// Why a command cannot start.
#[derive(Debug)]
pub enum ConfigError {
    /// What was typed makes no sense (exit status 2).
    Usage(String),
    /// Something on this machine is not as it must be (exit status 1).
    Folder(DataDirError),
    /// A key cannot be had or kept (exit status 1; 2 for one that is not there).
    Key(KeyError),
}

/// The data folder that was named, or the default one.
///
/// # Errors
/// `Usage` if none was named and there is no home folder.
pub fn datadir(common: &Common) -> Result<DataDir, ConfigError> {
    match &common.datadir {
        Some(path) => Ok(DataDir::new(path)),
        None => std::env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .map(|home| DataDir::new(&PathBuf::from(home).join(".cairn")))
            .ok_or_else(|| usage("no --datadir was given and HOME is not set; pass --datadir DIR")),
    }
}

/// Where the control socket is: a name alone is in the data folder, as geth has it.
pub fn ipc(datadir: &DataDir, common: &Common) -> PathBuf {
    match &common.ipcpath {
        None => datadir.ipc(),
        Some(name) if name.components().count() == 1 => datadir.path().join(name),
        Some(path) => path.clone(),
    }
}

/// The genesis that `--mainnet` or `--sepolia` chose, if any.
pub fn chosen_genesis(common: &Common) -> Option<Genesis> {
    if common.mainnet {
        Some(Genesis::mainnet())
    } else if common.sepolia {
        Some(Genesis::sepolia())
    } else {
        None
    }
}

/// The genesis that a command works on: the chosen network's, else the data folder's, else the development chain's. Of a
/// folder's own genesis.json there are the bytes too, should its store be still to be made.
///
/// # Errors
/// Whatever is wrong with the folder.
pub fn find_genesis(
    common: &Common,
    datadir: &DataDir,
) -> Result<(Genesis, Option<Vec<u8>>), ConfigError> {
    if let Some(genesis) = chosen_genesis(common) {
        return Ok((genesis, None));
    }
    if datadir.is_made()? {
        return Ok((datadir.genesis()?, None));
    }
    let file = datadir.genesis_file();
    if file.exists() {
        let (genesis, json) = datadir::read_genesis(&file)?;
        return Ok((genesis, Some(json)));
    }
    Ok((Genesis::dev(), None))
}

/// Makes the data folder for what `find_genesis` found, if it is new; says so in the log.
///
/// # Errors
/// Whatever is wrong with the folder, such as another chain in it.
pub fn make_folder(
    datadir: &DataDir,
    genesis: &Genesis,
    json: Option<&[u8]>,
) -> Result<(), ConfigError> {
    if datadir.init(genesis, json)? == Made::New {
        let hash = genesis.header.hash;
        let path = datadir.path().display();
        if hash == Genesis::dev().header.hash {
            log::warn!(
                "New data folder for the built-in DEVELOPMENT chain datadir={path} genesis={hash} (for your own chain: cairn init)"
            );
        } else {
            log::info!("New data folder datadir={path} genesis={hash}");
        }
    }
    Ok(())
}

/// As `make_folder`, for an import of blocks right above `below`: a new folder begins there.
///
/// # Errors
/// As `make_folder`.
pub fn make_folder_above(
    datadir: &DataDir,
    genesis: &Genesis,
    json: Option<&[u8]>,
    below: Option<Head>,
) -> Result<(), ConfigError> {
    // Who may seal a clique block is not known there: such a chain begins above its genesis block only at a trusted checkpoint.
    let below = below.filter(|_| genesis.spec.clique.is_none());
    match below {
        Some(below) if !datadir.is_made()? => {
            datadir.init_above(genesis, below)?;
            log::warn!(
                "New data folder that begins above genesis datadir={} genesis={} first={} (what is older can be imported later)",
                datadir.path().display(),
                genesis.header.hash,
                below.number + 1
            );
            Ok(())
        }
        _ => make_folder(datadir, genesis, json),
    }
}

impl Config {
    /// Checks what was typed for a running node, and opens what it names. A new data folder is made here.
    ///
    /// # Errors
    /// `Usage` for what was typed, `Folder` for what was found.
    pub fn new(common: &Common, run: &Run) -> Result<Config, ConfigError> {
        if !(1..=PEERS_LIMIT).contains(&run.maxpeers) {
            return Err(usage(format!(
                "--maxpeers {}: expected 1 to {PEERS_LIMIT}",
                run.maxpeers
            )));
        }
        if !(1..=MAX_THREADS).contains(&run.net_threads) {
            return Err(usage(format!(
                "--net-threads {}: expected 1 to {MAX_THREADS}",
                run.net_threads
            )));
        }
        if !SYNC_MEMORY_MB.contains(&run.sync_memory_mb) {
            return Err(usage(format!(
                "--sync-memory-mb {}: expected {} to {}",
                run.sync_memory_mb,
                SYNC_MEMORY_MB.start(),
                SYNC_MEMORY_MB.end()
            )));
        }
        let interval_s = match run.block_interval_ms {
            None => None,
            Some(ms) if ms > INTERVAL_LIMIT_MS => {
                return Err(usage(format!(
                    "--block-interval-ms {ms}: expected at most {INTERVAL_LIMIT_MS}, a year"
                )));
            }
            Some(ms) if ms > 0 && ms % 1000 == 0 => Some(ms / 1000),
            Some(ms) => {
                return Err(usage(format!(
                    "--block-interval-ms {ms}: expected whole seconds (1000, 2000, ...), since block times are seconds"
                )));
            }
        };
        let eth_versions = eth_versions(&run.eth_versions)?;
        let (bootnodes, mut named) = enodes("--bootnodes", &run.bootnodes, MAX_STATICS, false)?;
        let (trusted, others) = enodes("--trusted", &run.trusted, MAX_TRUSTED, true)?;
        named.extend(others);
        let datadir = datadir(common)?;
        let (genesis, json) = find_genesis(common, &datadir)?;
        for warning in &genesis.warnings {
            log::warn!("Genesis: {warning}");
        }
        if let Some(checkpoint) = &run.checkpoint {
            let checked = checkpoint.check(&genesis);
            checked.map_err(|why| usage(format!("--checkpoint {checkpoint}: {why}")))?;
        }
        let sealer = match run.enable_consensus {
            true => Some(sealer(&genesis, &datadir, run, interval_s)?),
            false => None,
        };
        make_folder(&datadir, &genesis, json.as_deref())?;
        let node_key = datadir.node_key(run.nodekey.as_deref())?;
        Ok(Config {
            listen: SocketAddr::new(run.listen_addr, run.port),
            network_id: run.networkid.unwrap_or_else(|| genesis.spec.network_id()),
            eth_versions,
            max_peers: run.maxpeers,
            ipc: (!run.ipcdisable).then(|| ipc(&datadir, common)),
            sync_memory_bytes: run.sync_memory_mb << 20,
            receipts: run.receipts,
            checkpoint: run.checkpoint,
            sync_target: run.synctarget,
            datadir,
            genesis,
            node_key,
            bootnodes,
            trusted,
            named,
            net_threads: run.net_threads,
            sealer,
        })
    }
}

/// `--eth-versions`, in the order of preference; all there are if none was typed.
fn eth_versions(typed: &[u8]) -> Result<Vec<u8>, ConfigError> {
    if let Some(unknown) = typed.iter().find(|version| !VERSIONS.contains(version)) {
        let known = VERSIONS.map(|version| version.to_string()).join(", ");
        return Err(usage(format!(
            "--eth-versions {unknown}: the versions of eth spoken here are {known}"
        )));
    }
    let chosen = |version: &u8| typed.is_empty() || typed.contains(version);
    Ok(VERSIONS.into_iter().filter(chosen).collect())
}

/// What was typed behind `flag`, each an enode URL: those with an address, and those with a name.
fn enodes(
    flag: &str,
    typed: &[String],
    most: usize,
    is_trusted: bool,
) -> Result<(Vec<Enode>, Vec<Named>), ConfigError> {
    let (mut nodes, mut named) = (Vec::new(), Vec::new());
    for typed in typed.iter().map(|url| url.trim()) {
        if typed.is_empty() {
            continue;
        }
        let url: Result<EnodeUrl, EnodeError> = typed.parse();
        let url = url.map_err(|why| usage(format!("{flag} {typed}: {why}")))?;
        match url.enode() {
            Some(node) => nodes.push(node),
            None => named.push(Named { url, is_trusted }),
        }
    }
    match nodes.len() + named.len() {
        given if given > most => Err(usage(format!(
            "{flag}: {given} were given, at most {most} are taken"
        ))),
        _ => Ok((nodes, named)),
    }
}

/// How to seal: by the signer that was named, on the genesis' period or the interval.
fn sealer(
    genesis: &Genesis,
    datadir: &DataDir,
    run: &Run,
    interval_s: Option<u64>,
) -> Result<SealerConfig, ConfigError> {
    let Some(clique) = &genesis.spec.clique else {
        return Err(usage(
            "--enable-consensus: this data folder's chain is not a clique chain, so there is nothing to seal; \
             run without it, or make a folder for a genesis with config.clique",
        ));
    };
    let pace_s = clique.period_s.max(interval_s.unwrap_or(0));
    let signer = match (&run.signer, &run.signer_key) {
        (Some(typed), _) => Signer::External(external(typed, run.validator, pace_s)?),
        (None, Some(file)) => Signer::Key(raw_key(file, run.validator)?),
        (None, None) => Signer::Key(stored_key(genesis, &datadir.keystore(), run)?),
    };
    if pace_s == 0 {
        log::warn!(
            "The genesis period is 0 and no --block-interval-ms was given: nothing will be sealed, since there are no transactions to seal"
        );
    }
    Ok(SealerConfig { signer, pace_s })
}

/// `--signer`.
fn external(typed: &str, validator: Option<Address>, pace_s: u64) -> Result<External, ConfigError> {
    let path = typed.strip_prefix("unix:").filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| {
        usage(format!(
            "--signer {typed}: expected unix:PATH, the signer's socket"
        ))
    })?;
    let address =
        validator.ok_or_else(|| usage("--signer needs --validator ADDRESS, for whom to sign"))?;
    Ok(External::new(Path::new(path), address, pace_s))
}

/// `--signer-key`.
fn raw_key(file: &Path, validator: Option<Address>) -> Result<SigningKey, ConfigError> {
    let key = read_signer_key(file)?;
    match validator.filter(|named| *named != key.address()) {
        None => Ok(key),
        Some(named) => Err(usage(format!(
            "--validator {named}: the key in {} has the address {}; pass that one, or the --signer-key of yours",
            file.display(),
            key.address()
        ))),
    }
}

/// The key of `--validator` or the only one of the keystore; on the development chain the one that everybody knows.
fn stored_key(
    genesis: &Genesis,
    keystore: &Keystore,
    run: &Run,
) -> Result<SigningKey, ConfigError> {
    let is_dev = genesis.header.hash == Genesis::dev().header.hash;
    let dev_key = || SigningKey::from_bytes(&DEV_SIGNER_KEY).expect("the well-known key is a key");
    if is_dev
        && run
            .validator
            .is_none_or(|named| named == dev_key().address())
    {
        log::warn!(
            "Sealing with the development chain's key, which EVERYBODY knows: never use this chain for anything of value"
        );
        return Ok(dev_key());
    }
    let account = match run.validator {
        Some(address) => keystore.find(address).map_err(|error| match error {
            KeyError::NoSuch { .. } if is_dev => usage(format!(
                "--validator {address}: {error}; the development chain's one signer is {}, which needs no key file",
                dev_key().address()
            )),
            error => error.into(),
        })?,
        None => {
            let mut accounts = keystore.list()?;
            match accounts.len() {
                0 => {
                    return Err(usage(format!(
                        "--enable-consensus needs the signer's key, and there is none in {}; make one with `cairn account new` or take \
                         one in with `cairn account import`, or pass --signer-key FILE (64 hex digits, mode 600) or --signer unix:PATH",
                        keystore.path().display()
                    )));
                }
                1 => accounts.remove(0),
                _ => {
                    let there: Vec<String> = accounts
                        .iter()
                        .map(|there| there.address.to_string())
                        .collect();
                    return Err(usage(format!(
                        "--enable-consensus: which key? pass --validator with one of those in {}: {}",
                        keystore.path().display(),
                        there.join(", ")
                    )));
                }
            }
        }
    };
    let key = unlock(&account, run.password.as_deref())?;
    log::info!(
        "Unlocked the signer's key address={} file={}",
        account.address,
        account.file.display()
    );
    Ok(key)
}

/// Decrypts a key of the keystore.
///
/// # Errors
/// `Usage` where there is no password, `Key` for a wrong one.
pub fn unlock(account: &Account, file: Option<&Path>) -> Result<SigningKey, ConfigError> {
    let whose = format!("the key of {}", account.address);
    Ok(account.unlock(&password(file, &whose, false)?)?)
}

pub(crate) fn usage(what: impl Into<String>) -> ConfigError {
    ConfigError::Usage(what.into())
}

impl From<DataDirError> for ConfigError {
    fn from(error: DataDirError) -> ConfigError {
        ConfigError::Folder(error)
    }
}

impl From<KeyError> for ConfigError {
    fn from(error: KeyError) -> ConfigError {
        ConfigError::Key(error)
    }
}

impl ConfigError {
    /// Was something typed that makes no sense?
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            ConfigError::Usage(_) | ConfigError::Key(KeyError::NoSuch { .. })
        )
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Usage(what) => f.write_str(what),
            ConfigError::Folder(error) => error.fmt(f),
            ConfigError::Key(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signing_key_is_not_shown_with_the_configuration() {
        let key = SigningKey::from_bytes(&[0x17; 32]).expect("a key");
        let address = key.address();
        let sealer = Some(SealerConfig {
            signer: Signer::Key(key),
            pace_s: 7,
        });
        let shown = format!("{sealer:?} {sealer:#?}");
        assert!(shown.contains(&format!("{address:?}")) && shown.contains("pace_s: 7"));
        assert!(
            !shown.contains("1717") && !shown.contains("23, 23"),
            "{shown}"
        );
    }

    #[test]
    fn the_versions_of_eth_that_were_typed_are_spoken_and_unknown_ones_are_wrong_usage() {
        assert_eq!(eth_versions(&[]).ok(), Some(VERSIONS.to_vec()));
        // In our order of preference, whatever was typed first.
        assert_eq!(eth_versions(&[68, 69]).ok(), Some(vec![69, 68]));
        assert_eq!(eth_versions(&[68]).ok(), Some(vec![68]));
        let refused = eth_versions(&[69, 67]);
        assert!(
            matches!(refused, Err(ConfigError::Usage(why)) if why.contains("67: the versions"))
        );
    }
}
