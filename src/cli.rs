//! What was typed: the command line, in the names that geth's users know. What it means is in `config`.

mod clique;
mod network;

use std::net::IpAddr;
use std::path::PathBuf;

use alloy_primitives::{Address, B256};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::clique::CliqueCommand;
pub use self::network::{NetworkCommand, NewNetwork};
use crate::checkpoint::Checkpoint;
use crate::sync::MEMORY_LIMIT_BYTES;

/// An Ethereum block node that stores first.
#[derive(Debug, Parser)]
#[command(
    name = "cairn",
    version,
    about = "An Ethereum devp2p block node that stores first: it seals, follows, keeps and serves blocks.",
    after_help = "Without a command the node runs until Ctrl-C. Exit status: 0 done, 1 failed, 2 wrong usage.",
    args_conflicts_with_subcommands = false,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// Which data folder, and how loud.
    #[command(flatten)]
    pub common: Common,
    /// How the node runs.
    #[command(flatten)]
    pub run: Run,
    /// Something else than running the node.
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Cli {
    /// Whether a signer's key will be in this process, or its password.
    pub fn has_key(&self) -> bool {
        match &self.command {
            None => self.run.enable_consensus && self.run.signer.is_none(),
            Some(Command::Account(AccountCommand::List)) => false,
            Some(Command::Account(_) | Command::Signer(_) | Command::Network(_)) => true,
            Some(_) => false,
        }
    }
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// The node's data folder [default: ~/.cairn]
    #[arg(long, value_name = "DIR", global = true)]
    pub datadir: Option<PathBuf>,
    /// How much to log: 0 nothing, 1 errors, 2 warnings, 3 info, 4 debug, 5 everything
    #[arg(long, value_name = "0-5", default_value_t = 3, global = true, value_parser = clap::value_parser!(u8).range(0..=5))]
    pub verbosity: u8,
    /// The control socket of the running node; a name alone is in the data folder [default: DATADIR/cairn.ipc]
    #[arg(long, value_name = "PATH", global = true)]
    pub ipcpath: Option<PathBuf>,
    /// Print results as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Use Ethereum's main network as genesis
    #[arg(long, global = true, conflicts_with = "sepolia")]
    pub mainnet: bool,
    /// Use the Sepolia test network as genesis
    #[arg(long, global = true)]
    pub sepolia: bool,
}

/// Options of the running node.
#[derive(Debug, Args)]
pub struct Run {
    /// TCP port for peers; 0 takes any free one
    #[arg(
        long,
        visible_alias = "p2p-port",
        value_name = "PORT",
        default_value_t = 30303
    )]
    pub port: u16,
    /// Address to listen on for peers
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub listen_addr: IpAddr,
    /// Peers to dial and to dial again, as enode URLs with commas between
    #[arg(long, value_name = "ENODES", value_delimiter = ',')]
    pub bootnodes: Vec<String>,
    /// Peers that are let in whatever the caps say and never banned, as enode URLs with commas between
    #[arg(long, value_name = "ENODES", value_delimiter = ',')]
    pub trusted: Vec<String>,
    /// Threads that peers are spread over
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub net_threads: usize,
    /// File of the node's key, 64 hex digits [default: DATADIR/nodekey, made at the first start]
    #[arg(long, value_name = "FILE")]
    pub nodekey: Option<PathBuf>,
    /// Network id told to peers [default: the chain id]
    #[arg(long, value_name = "ID")]
    pub networkid: Option<u64>,
    /// Versions of eth to speak, with commas between; fewer show which one a peer gets wrong [default: all]
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',')]
    pub eth_versions: Vec<u8>,
    /// At most this many peers
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub maxpeers: usize,
    /// Megabytes (2^20 bytes) of headers, bodies and receipts that are held and asked for while catching up
    #[arg(long, value_name = "MB", default_value_t = MEMORY_LIMIT_BYTES >> 20)]
    pub sync_memory_mb: usize,
    /// Seal blocks (clique chains)
    #[arg(long, visible_alias = "mine")]
    pub enable_consensus: bool,
    /// The signer's address: its key is taken from DATADIR/keystore [default: the only key there]
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "enable_consensus",
        value_parser = address
    )]
    pub validator: Option<Address>,
    /// File whose first line is the password of the signer's key; without it the password is asked for on a terminal
    #[arg(long, value_name = "FILE", requires = "enable_consensus")]
    pub password: Option<PathBuf>,
    /// Have blocks signed over a socket, by `cairn signer` or clef; needs --validator
    #[arg(
        long,
        value_name = "unix:PATH",
        requires = "enable_consensus",
        requires = "validator",
        conflicts_with_all = ["signer_key", "password"]
    )]
    pub signer: Option<String>,
    /// File of the signer's key, 64 hex digits, readable by its owner alone, in place of one of the keystore
    #[arg(
        long,
        value_name = "FILE",
        requires = "enable_consensus",
        conflicts_with = "password"
    )]
    pub signer_key: Option<PathBuf>,
    /// Milliseconds between blocks, whole seconds; the genesis period counts if it is longer
    #[arg(long, value_name = "MS", requires = "enable_consensus")]
    pub block_interval_ms: Option<u64>,
    /// Make no control socket
    #[arg(long, conflicts_with = "ipcpath")]
    pub ipcdisable: bool,
    /// Ask peers for receipts too, and keep them; also those of blocks that were stored without
    #[arg(long)]
    pub receipts: bool,
    /// Begin a new data folder of a clique chain at this block, a checkpoint that you trust, in place of the genesis block; it is what
    /// `cairn clique checkpoint` prints on a node of the chain
    #[arg(long, value_name = "NUMBER:HASH:TD")]
    pub checkpoint: Option<Checkpoint>,
    /// Follow the chain that ends in this block, where no seal can be checked
    #[arg(long, value_name = "HASH")]
    pub synctarget: Option<B256>,
}

/// How blocks are written to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Blocks in RLP, back to back, as `geth export` writes them
    Rlp,
    /// Eras of 8192 blocks with receipts and total difficulty, as `geth export-history` writes them
    Era1,
}

/// The commands besides running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a data folder for a genesis file (geth's or Besu's format)
    Init {
        /// The genesis file; with --mainnet or --sepolia there is none
        genesis: Option<PathBuf>,
    },
    /// Check the blocks of a file and store them
    Import {
        /// Blocks in RLP, back to back, as `geth export` writes them, or an era1 file
        file: PathBuf,
    },
    /// Write stored blocks to a file, in RLP back to back or as era1
    Export {
        /// The file to write; `-` is standard output. With era1 also a folder, for a file each era
        file: PathBuf,
        /// First block [default: the first one; era1: the first era's]
        first: Option<u64>,
        /// Last block [default: the head; era1: the last whole era's]
        last: Option<u64>,
        /// What to write [default: era1 if FILE ends in .era1, else rlp]
        #[arg(long, value_name = "FORMAT", value_enum)]
        format: Option<Format>,
    },
    /// Show how the node that runs on the data folder is doing
    Status {
        /// Say only how its health is; exit with 0 if it is `ok`, and with 1 if it is not or if no node runs
        ///
        /// ok: the head is as new as can be known (a minority of the signers may be missing; the line names them). All others exit with 1.
        /// catching_up: it has been fetching a better chain for 10 seconds. alone: nobody is connected, so it cannot know.
        /// stale: nothing newer comes from peers. stalled: the signers of a clique chain do not go on. not_sealing: the chain goes on, but
        /// this node's signer has missed its last turns.
        #[arg(long)]
        check: bool,
    },
    /// See who seals a clique chain and how they vote, and vote, by the node that runs on the data folder
    #[command(subcommand)]
    Clique(CliqueCommand),
    /// Make a clique network of your own
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Make, list and take in signing keys (DATADIR/keystore, as geth has it)
    #[command(subcommand)]
    Account(AccountCommand),
    /// Hold a key of the keystore and sign blocks with it for nodes that ask (`cairn --signer unix:PATH`), until Ctrl-C
    Signer(SignerOptions),
    /// Show a validator and a full node at work on this machine
    Demo {
        /// Leave the data folders and print where they are
        #[arg(long)]
        keep: bool,
        /// Blocks the validator has when the full node starts
        #[arg(long, value_name = "N", default_value_t = 2000)]
        blocks: u64,
        /// Blocks to follow live after catching up
        #[arg(long, value_name = "N", default_value_t = 5)]
        live: u64,
        /// Transactions in each of the validator's blocks
        #[arg(long, value_name = "N", default_value_t = 10)]
        txs: u32,
        /// Fill the bodies of those blocks up to this size
        #[arg(long, value_name = "BYTES")]
        body_bytes: Option<usize>,
    },
}

/// What is done with keys.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Make a new key
    New {
        /// How it is kept.
        #[command(flatten)]
        options: NewKey,
    },
    /// List the keys
    List,
    /// Take a key in
    Import {
        /// File of the key, 64 hex digits, readable by its owner alone
        keyfile: PathBuf,
        /// How it is kept.
        #[command(flatten)]
        options: NewKey,
    },
}

/// How a key is encrypted.
#[derive(Debug, Args)]
pub struct NewKey {
    /// File whose first line is the password; without it the password is asked for on a terminal
    #[arg(long, value_name = "FILE")]
    pub password: Option<PathBuf>,
    /// Have the password take 4 MiB and a tenth of a second to check, not 256 MiB and a second: guessing it is as much easier
    #[arg(long)]
    pub lightkdf: bool,
}

/// How the external signer works.
#[derive(Debug, Args)]
pub struct SignerOptions {
    /// Where to make the socket
    #[arg(long, value_name = "PATH")]
    pub listen: PathBuf,
    /// Whose key to sign with
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub validator: Address,
    /// File whose first line is the password of the key; without it the password is asked for on a terminal
    #[arg(long, value_name = "FILE")]
    pub password: Option<PathBuf>,
    /// Let the socket's group connect too, for a node that runs as another user (mode 660, not 600)
    #[arg(long)]
    pub group_access: bool,
}

/// An address as it is typed: 40 hex digits, whose letters' case is right (EIP-55) if it is mixed, or a digit was mistyped.
fn address(text: &str) -> Result<Address, String> {
    let address: Address = text
        .parse()
        .map_err(|_| "expected an address: 0x and 40 hex digits".to_owned())?;
    let letters = text.trim_start_matches("0x");
    let is_mixed = letters.contains(|c: char| c.is_ascii_uppercase())
        && letters.contains(|c: char| c.is_ascii_lowercase());
    if is_mixed && address.to_string().trim_start_matches("0x") != letters {
        return Err(format!(
            "its letters' case says that a digit is wrong (EIP-55); if you are sure, type it in small letters: {address:#x}"
        ));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn an_address_with_a_mistyped_digit_is_refused_where_its_case_tells() {
        let right = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        for taken in [right, &right.to_lowercase(), &right[2..]] {
            assert!(address(taken).is_ok(), "{taken}");
        }
        let wrong = right.replace("e51a", "e61a");
        assert!(address(&wrong).is_err_and(|why| why.contains("EIP-55")));
        assert!(address(&right[..40]).is_err_and(|why| why.contains("40 hex digits")));
    }
}
