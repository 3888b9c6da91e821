//! The generator's only source of chance: ChaCha from a seed, the same on every machine.

use alloy_primitives::{Address, B256};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A stream of random values that depends on a seed and a label, and on nothing else.
#[derive(Clone)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream for `label`. Streams of different labels do not move each other: more senders do not change the blocks'
    /// call data. The key is laid out here by hand, so that no other crate's idea of "seed from a number" is in the bytes.
    pub(super) fn new(seed: u64, label: &[u8; 8]) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(label);
        Self(ChaCha8Rng::from_seed(key))
    }

    /// An even choice from `0..n`; 0 for `n` = 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(n);
        u64::try_from(wide >> 64).expect("64 bits are left")
    }

    /// An even choice from `low..=high`; `low` if the range is empty.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True in `percent` of a hundred cases.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// An index of `0..len`.
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// An index of `0..len` that is small more often than large, as the popular contracts of a chain are called.
    pub(super) fn skewed_index(&mut self, len: usize) -> usize {
        self.index(len).min(self.index(len)).min(self.index(len))
    }

    pub(super) fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    pub(super) fn hash(&mut self) -> B256 {
        let mut hash = B256::ZERO;
        self.fill(hash.as_mut_slice());
        hash
    }

    pub(super) fn address(&mut self) -> Address {
        let mut address = Address::ZERO;
        self.fill(address.as_mut_slice());
        address
    }
}
