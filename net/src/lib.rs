//! cairn-net: bytes to messages to sessions. Knows no store and no chain rules.

pub mod dial;
pub mod enode;
pub mod eth;
pub mod limits;
