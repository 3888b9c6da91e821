//! Keccak-256, one wide: what the frame MACs and node ids hash with.

pub use alloy_primitives::{Keccak256, keccak256};
