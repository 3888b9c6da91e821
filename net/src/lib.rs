//! cairn-net.
