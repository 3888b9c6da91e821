//! What the command line means: one checked `Config`, and a small one for each role.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256};
use cairn_net::enode::Enode;
use secp256k1::SecretKey;

use crate::chain::clique::address_of;
use crate::chain::{DEV_SIGNER_KEY, Genesis};
use crate::cli::{Common, Run};
use crate::datadir::{self, DataDir, DataDirError};

/// More peers than this would need more file descriptors than a system gives by default (1024).
const PEERS_LIMIT: usize = 1000;
/// Bootnodes are dialled for ever, each with its own schedule.
const BOOTNODES_LIMIT: usize = 256;

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
    /// Peers at the most.
    pub max_peers: usize,
    /// Peers that are dialled, and dialled again.
    pub bootnodes: Vec<Enode>,
    /// The head to trust where no seal can be checked.
    pub sync_target: Option<B256>,
    /// How to seal, if asked to.
    pub sealer: Option<SealerConfig>,
}

/// How the sealer works.
#[derive(Clone)]
pub struct SealerConfig {
    /// The signing key.
    pub key: SecretKey,
    /// Its address.
    pub address: Address,
    /// Seconds from one block to the next; 0: nothing is sealed (period 0 and no interval).
    pub pace_s: u64,
}

impl fmt::Debug for SealerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of every log.
        f.debug_struct("SealerConfig")
            .field("address", &self.address)
            .field("pace_s", &self.pace_s)
            .finish_non_exhaustive()
    }
}

/// Why a command cannot start.
#[derive(Debug)]
pub enum ConfigError {
    /// What was typed makes no sense (exit status 2).
    Usage(String),
    /// Something on this machine is not as it must be (exit status 1).
    Folder(DataDirError),
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

/// The genesis of the data folder, which is made if it is new: for the chosen network, else for the development chain.
/// Says so in the log when it makes one.
///
/// # Errors
/// Whatever is wrong with the folder.
pub fn open_genesis(common: &Common, datadir: &DataDir) -> Result<Genesis, ConfigError> {
    if let Some(genesis) = chosen_genesis(common) {
        datadir.init(&genesis, None)?;
        return Ok(genesis);
    }
    if datadir.is_made()? {
        return Ok(datadir.genesis()?);
    }
    let genesis = Genesis::dev();
    datadir.init(&genesis, None)?;
    log::warn!(
        "New data folder for the built-in DEVELOPMENT chain datadir={} genesis={} (for your own chain: cairn init)",
        datadir.path().display(),
        genesis.header.hash
    );
    Ok(genesis)
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
        let interval_s = match run.block_interval_ms {
            None => None,
            Some(ms) if ms > 0 && ms % 1000 == 0 => Some(ms / 1000),
            Some(ms) => {
                return Err(usage(format!(
                    "--block-interval-ms {ms}: expected whole seconds (1000, 2000, ...), since block times are seconds"
                )));
            }
        };
        let bootnodes = bootnodes(&run.bootnodes)?;
        let datadir = datadir(common)?;
        let genesis = open_genesis(common, &datadir)?;
        for warning in &genesis.warnings {
            log::warn!("Genesis: {warning}");
        }
        let sealer = match run.enable_consensus {
            true => Some(sealer(
                &genesis,
                run.validator,
                run.signer_key.as_deref(),
                interval_s,
            )?),
            false => None,
        };
        let node_key = datadir.node_key(run.nodekey.as_deref())?;
        Ok(Config {
            listen: SocketAddr::new(run.listen_addr, run.port),
            network_id: run.networkid.unwrap_or_else(|| genesis.spec.network_id()),
            max_peers: run.maxpeers,
            sync_target: run.synctarget,
            datadir,
            genesis,
            node_key,
            bootnodes,
            sealer,
        })
    }
}

/// `--bootnodes`, each an enode URL; a host name is resolved once, now.
fn bootnodes(typed: &[String]) -> Result<Vec<Enode>, ConfigError> {
    let urls = typed.iter().map(|url| url.trim()).filter(|url| !url.is_empty());
    let nodes: Vec<Enode> = urls
        .map(|url| enode(url).map_err(|why| usage(format!("--bootnodes {url}: {why}"))))
        .collect::<Result<_, _>>()?;
    if nodes.len() > BOOTNODES_LIMIT {
        return Err(usage(format!(
            "--bootnodes: {} were given, at most {BOOTNODES_LIMIT} are dialled",
            nodes.len()
        )));
    }
    Ok(nodes)
}

fn enode(url: &str) -> Result<Enode, String> {
    match url.parse::<Enode>() {
        Ok(enode) => Ok(enode),
        Err(error) => {
            // Only a host name is worth a look-up: geth takes them in enode URLs too.
            let Some((user, host_port)) = url.rsplit_once('@') else {
                return Err(error.to_string());
            };
            let (host_port, query) = host_port
                .split_once('?')
                .map_or((host_port, String::new()), |(h, q)| (h, format!("?{q}")));
            let is_name = host_port
                .rsplit_once(':')
                .is_some_and(|(host, port)| is_host_name(host) && port.parse::<u16>().is_ok());
            if !is_name {
                return Err(error.to_string());
            }
            let address = host_port
                .to_socket_addrs()
                .map_err(|why| format!("its host cannot be resolved: {why}"))?
                .next()
                .ok_or("its host has no address")?;
            format!("{user}@{address}{query}")
                .parse()
                .map_err(|error: cairn_net::enode::EnodeError| error.to_string())
        }
    }
}

/// Letters, digits, dots and hyphens, and not a number: what may be a host's name, by RFC 1123.
fn is_host_name(host: &str) -> bool {
    host.chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
        && host.chars().any(|c| c.is_ascii_alphabetic())
}

fn sealer(
    genesis: &Genesis,
    validator: Option<Address>,
    key_file: Option<&Path>,
    interval_s: Option<u64>,
) -> Result<SealerConfig, ConfigError> {
    let Some(clique) = &genesis.spec.clique else {
        return Err(usage(
            "--enable-consensus: this data folder's chain is not a clique chain, so there is nothing to seal; \
             run without it, or make a folder for a genesis with config.clique",
        ));
    };
    let is_dev = genesis.header.hash == Genesis::dev().header.hash;
    let key = match key_file {
        Some(path) => datadir::read_signer_key(path)?,
        None if is_dev => {
            log::warn!(
                "Sealing with the development chain's key, which EVERYBODY knows: never use this chain for anything of value"
            );
            SecretKey::from_byte_array(&DEV_SIGNER_KEY).expect("the well-known key is a key")
        }
        None => {
            return Err(usage(
                "--enable-consensus needs the signer's key: pass --signer-key FILE (64 hex digits, mode 600)",
            ));
        }
    };
    let address = address_of(&key);
    if let Some(named) = validator.filter(|named| *named != address) {
        let whose = match key_file {
            Some(path) => format!("the key in {}", path.display()),
            None => "the development chain's one signer".into(),
        };
        return Err(usage(format!(
            "--validator {named}: {whose} has the address {address}; pass that one, or the --signer-key of yours"
        )));
    }
    if clique.period_s == 0 && interval_s.is_none() {
        log::warn!(
            "The genesis period is 0 and no --block-interval-ms was given: nothing will be sealed, since there are no transactions to seal"
        );
    }
    Ok(SealerConfig {
        key,
        address,
        pace_s: clique.period_s.max(interval_s.unwrap_or(0)),
    })
}

fn usage(what: impl Into<String>) -> ConfigError {
    ConfigError::Usage(what.into())
}

impl From<DataDirError> for ConfigError {
    fn from(error: DataDirError) -> ConfigError {
        ConfigError::Folder(error)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Usage(what) => f.write_str(what),
            ConfigError::Folder(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}
