//! Keccak-256, one wide and several wide: what the frame MACs, the node ids and the tries' nodes are hashed with.
//!
//! One wide it is the assembly that [`keccak256`] is made of too. Several wide, on a machine that has AVX2, four states go through
//! the permutation side by side in little more time than one takes; elsewhere one goes after the other. (With AVX-512
//! it could be eight, in a module beside `avx2`, once there is a machine to test it on.)
//!
//! Source: FIPS 202 for the permutation and the sponge; keccak pads with 0x01 where SHA-3 has 0x06.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(test)]
mod tests;

use alloy_primitives::B256;
pub use alloy_primitives::keccak256;
use sha3_asm::sha3_absorb;

#[cfg(target_arch = "x86_64")]
use self::avx2::Avx2;

/// Bytes taken between two permutations: 1600 bits less twice the 256 of the hash.
const BLOCK_BYTES: usize = 136;

type Block = [u8; BLOCK_BYTES];

/// The state: lane (x, y) at `x + 5 y`.
type Lanes = [u64; 25];

/// A hash under way.
#[derive(Clone)]
pub struct Keccak256 {
    /// What is taken of the block under way is in it already.
    lanes: Lanes,
    /// Bytes taken of that block, below [`BLOCK_BYTES`].
    taken_bytes: usize,
}

impl Keccak256 {
    /// The hash of nothing yet.
    #[allow(clippy::new_without_default)] // beside `update` and `finalize`, as everybody knows them
    pub fn new() -> Keccak256 {
        Keccak256 {
            lanes: [0; 25],
            taken_bytes: 0,
        }
    }

    /// Takes bytes.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        let mut bytes = bytes.as_ref();
        if self.taken_bytes > 0 {
            bytes = self.fill(bytes);
            if self.taken_bytes < BLOCK_BYTES {
                return;
            }
            self.permute();
        }
        let (blocks, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK_BYTES);
        sha3_absorb(&mut self.lanes, blocks, BLOCK_BYTES);
        self.fill(rest);
    }

    /// The hash of what was taken.
    pub fn finalize(mut self) -> B256 {
        xor_at(&mut self.lanes, self.taken_bytes, &[0x01]);
        xor_at(&mut self.lanes, BLOCK_BYTES - 1, &[0x80]);
        self.permute();
        hash_of(&self.lanes)
    }

    /// Takes bytes up to the end of the block under way, and gives the rest. A block that is full awaits its permutation.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (now, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.taken_bytes));
        xor_at(&mut self.lanes, self.taken_bytes, now);
        self.taken_bytes += now.len();
        rest
    }

    fn permute(&mut self) {
        // to absorb zeros is to permute
        sha3_absorb(&mut self.lanes, &[0; BLOCK_BYTES], BLOCK_BYTES);
        self.taken_bytes = 0;
    }
}

/// Takes to each of several states its own bytes, side by side where that is faster: the result is that of
/// [`Keccak256::update`] on each. It gains most when four neighbours have the same length.
pub fn update_each(streams: &mut [(&mut Keccak256, &[u8])]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = Avx2::find() {
        avx2.update_each(streams);
    }
    update_one_by_one(streams);
}

fn update_one_by_one(streams: &mut [(&mut Keccak256, &[u8])]) {
    for (state, bytes) in streams {
        state.update(std::mem::take(bytes));
    }
}

/// The hash of each message, side by side where that is faster. Their lengths may differ: a place that has become free is taken
/// by the next message.
///
/// # Panics
///
/// If `hashes` is not as long as `messages`.
pub fn hash_each(messages: &[&[u8]], hashes: &mut [B256]) {
    assert_eq!(messages.len(), hashes.len(), "a hash for each message");
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = Avx2::find()
        && messages.len() > 1
    {
        return avx2.hash_each(messages, hashes);
    }
    hash_one_by_one(messages, hashes);
}

fn hash_one_by_one(messages: &[&[u8]], hashes: &mut [B256]) {
    for (message, hash) in messages.iter().zip(hashes) {
        *hash = keccak256(message);
    }
}

// The assembly of some 32-bit processors keeps the bits of a lane in another order.
#[cfg(not(target_pointer_width = "64"))]
compile_error!("cairn-net reads keccak's state as 64-bit processors keep it");

/// Takes bytes that do not go past the end of the block into the state, from `offset_bytes` of the block on.
fn xor_at(lanes: &mut Lanes, offset_bytes: usize, bytes: &[u8]) {
    let mut block = [0; BLOCK_BYTES];
    block[offset_bytes..offset_bytes + bytes.len()].copy_from_slice(bytes);
    for (lane, part) in lanes.iter_mut().zip(block.as_chunks().0) {
        *lane ^= u64::from_le_bytes(*part);
    }
}

fn hash_of(lanes: &Lanes) -> B256 {
    let mut hash = B256::ZERO;
    for (part, lane) in hash.0.as_chunks_mut().0.iter_mut().zip(lanes) {
        *part = lane.to_le_bytes();
    }
    hash
}
