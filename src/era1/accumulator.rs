//! The accumulator: the SSZ hash tree root of the blocks' hashes and total difficulties.

use alloy_primitives::{B256, U256};
use sha2::{Digest, Sha256};

/// The list's limit is 8192 = 2^13 records.
const DEPTH: usize = 13;

/// Collects the records of an era.
#[derive(Default)]
pub(super) struct Accumulator {
    /// Hash tree roots of the records.
    records: Vec<B256>,
}

impl Accumulator {
    /// Adds a block: `HeaderRecord { block_hash: Bytes32, total_difficulty: uint256 }`.
    pub(super) fn push(&mut self, hash: B256, td: U256) {
        self.records.push(pair(&hash.0, &td.to_le_bytes::<32>()));
    }

    /// The hash tree root of the list: the merkle root to the depth of its limit, with its length mixed in.
    pub(super) fn root(&self) -> B256 {
        let mut level = self.records.clone();
        let mut zero = B256::ZERO;
        for _ in 0..DEPTH {
            if level.len() % 2 == 1 {
                level.push(zero);
            }
            level = level
                .chunks_exact(2)
                .map(|two| pair(&two[0].0, &two[1].0))
                .collect();
            zero = pair(&zero.0, &zero.0);
        }
        let root = level.first().unwrap_or(&zero);
        let length = U256::from(self.records.len());
        pair(&root.0, &length.to_le_bytes::<32>())
    }
}

fn pair(left: &[u8; 32], right: &[u8; 32]) -> B256 {
    let mut hasher = Sha256::new();
    hasher.update(left);
    hasher.update(right);
    B256::from_slice(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The same by the definition: every leaf of the tree is there.
    fn plain(records: &[B256]) -> B256 {
        let mut level = records.to_vec();
        level.resize(1 << DEPTH, B256::ZERO);
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|two| pair(&two[0].0, &two[1].0))
                .collect();
        }
        let mut length = [0; 32];
        length[..8].copy_from_slice(&(records.len() as u64).to_le_bytes());
        pair(&level[0].0, &length)
    }

    #[test]
    fn eras_of_any_length_have_the_root_of_the_definition() {
        for count in [0, 1, 2, 3, 5, 8, 1000, 8191, 8192_u64] {
            let mut accumulator = Accumulator::default();
            for number in 0..count {
                accumulator.push(
                    B256::left_padding_from(&number.to_be_bytes()),
                    U256::from(number * 7),
                );
            }
            assert_eq!(accumulator.root(), plain(&accumulator.records), "{count}");
        }
    }
}
