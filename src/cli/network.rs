//! `cairn network`: what was typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::chain::clique::DEFAULT_EPOCH;

/// What to do with a network of one's own.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Make a new clique network: genesis, keys, and for each node a folder to start it from
    New(NewNetwork),
}

/// A network to be made.
#[derive(Clone, Debug, Args)]
pub struct NewNetwork {
    /// The folder to make; it must not be there, or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Nodes that seal
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub signers: usize,
    /// Nodes that follow and do not seal
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub followers: usize,
    /// Seconds from one block to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub period: u64,
    /// Blocks from one checkpoint to the next: open votes lapse there
    #[arg(long, value_name = "BLOCKS", default_value_t = DEFAULT_EPOCH)]
    pub epoch: u64,
    /// The chain id [default: drawn at random]
    #[arg(long, value_name = "ID")]
    pub chain_id: Option<u64>,
    /// The nodes' machines, addresses or names with commas between; the nodes are dealt to them in turn
    #[arg(
        long,
        value_name = "HOSTS",
        value_delimiter = ',',
        default_value = "127.0.0.1"
    )]
    pub hosts: Vec<String>,
    /// TCP port of the first node on each machine; the others there have the ports after it
    #[arg(long, value_name = "PORT", default_value_t = 30303)]
    pub base_port: u16,
    /// Write the signers' keys as 64 hex digits (signer.key), for clients that take no keystore
    #[arg(long)]
    pub raw_keys: bool,
}
