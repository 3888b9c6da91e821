//! `cairn clique`: what was typed.

use alloy_primitives::Address;
use clap::{ArgGroup, Subcommand};

use super::address;

/// What to ask or tell the running node of a clique chain.
#[derive(Debug, Subcommand)]
pub enum CliqueCommand {
    /// Show who seals, who has sealed of late, and which votes are open
    Status,
    /// Show the signers
    Signers,
    /// Show the last checkpoint that is settled, for a new node's --checkpoint: number, hash and total difficulty
    Checkpoint,
    /// Show what this node's signer votes for
    Proposals,
    /// Vote to let an address in among the signers, or to put it out, from the next block on that this node seals
    #[command(group = ArgGroup::new("vote").required(true))]
    Propose {
        /// Whom the vote is about
        #[arg(value_parser = address)]
        address: Address,
        /// Let it in
        #[arg(long, group = "vote")]
        auth: bool,
        /// Put it out
        #[arg(long, group = "vote")]
        drop: bool,
    },
    /// Cast no more votes on an address; those that were sealed stand
    Discard {
        /// Whom the votes were about
        #[arg(value_parser = address)]
        address: Address,
    },
}
