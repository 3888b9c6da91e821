//! The MAC of RLPx frames: one running keccak-256 state a direction.
//!
//! Each MAC feeds an AES-encrypted digest of the state back into the state. Source: devp2p `rlpx.md`, "MAC".

use aes::Aes256Enc;
use ctr::cipher::{BlockCipherEncrypt, KeyInit};

use super::xor;
use crate::keccak::Keccak256;

/// Bytes of a MAC on the wire.
pub const MAC_BYTES: usize = 16;

/// The state of one direction.
pub struct MacState {
    key: Aes256Enc,
    state: Keccak256,
    /// The first half of the state's digest, kept because the next header begins with it.
    digest: [u8; MAC_BYTES],
}

impl MacState {
    /// Goes on from a keccak state that has taken the secrets and the handshake's packets.
    pub fn new(mac_secret: &[u8; 32], state: Keccak256) -> MacState {
        let digest = digest(&state);
        MacState {
            key: Aes256Enc::new(mac_secret.into()),
            state,
            digest,
        }
    }

    /// Takes an encrypted header and returns its MAC.
    pub fn header(&mut self, ciphertext: &[u8; 16]) -> [u8; MAC_BYTES] {
        self.finish(ciphertext)
    }

    /// What takes the parts of an encrypted body.
    pub fn absorbing(&mut self) -> &mut Keccak256 {
        &mut self.state
    }

    /// The MAC of the body that was taken since the header.
    pub fn body(&mut self) -> [u8; MAC_BYTES] {
        let seed = digest(&self.state);
        self.digest = seed;
        self.finish(&seed)
    }

    fn finish(&mut self, seed: &[u8; 16]) -> [u8; MAC_BYTES] {
        let mut block = self.digest.into();
        self.key.encrypt_block(&mut block);
        self.state.update(xor(&block.into(), seed));
        self.digest = digest(&self.state);
        self.digest
    }
}

impl std::fmt::Debug for MacState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacState(..)")
    }
}

/// Compares two MACs in a time that does not tell where they differ.
pub fn equal(a: &[u8; MAC_BYTES], b: &[u8; MAC_BYTES]) -> bool {
    // one wide subtraction has no early way out
    std::hint::black_box(u128::from_ne_bytes(*a) ^ u128::from_ne_bytes(*b)) == 0
}

fn digest(state: &Keccak256) -> [u8; MAC_BYTES] {
    let mut half = [0; MAC_BYTES];
    half.copy_from_slice(&state.clone().finalize()[..MAC_BYTES]);
    half
}
