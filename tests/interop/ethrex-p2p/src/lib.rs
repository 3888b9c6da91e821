//! A peer on the crate ethrex-p2p, and what it needs beside it: cairn as a child process, and a chain file to compare with.

pub mod cairn;
pub mod chain;
pub mod peer;
