//! The library `cairn`: the rules of a chain, the generator of test chains, the node.

pub mod chain;
pub mod generate;
pub mod sync;
