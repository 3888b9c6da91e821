//! The library `cairn`: the rules of a chain, the generator of test chains, the node and its roles.
//!
//! Where a byte goes: a socket in `cairn_net::reactor`, a session, an event to [`sync`], a check by [`chain`], a commit
//! to `cairn_store`; and back out through [`serve`], from the mapped file to the cipher. [`node`] wires the threads.

pub mod account;
pub mod bans;
pub mod blockfile;
pub mod chain;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod datadir;
pub mod demo;
pub mod era1;
pub mod export;
pub mod generate;
pub mod health;
pub mod import;
pub mod ipc;
pub mod keystore;
pub mod logging;
pub mod memory;
pub mod names;
pub mod network;
pub mod node;
pub mod password;
pub mod progress;
pub mod proposals;
pub mod sealer;
pub mod secret;
pub mod serve;
pub mod signed;
pub mod signer;
pub mod snapshots;
pub mod standing;
pub mod status;
pub mod stored;
pub mod sync;
pub mod voting;
