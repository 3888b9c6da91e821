//! Random bytes from a seed that is handed in, so that a failure replays.

use aes::Aes256Enc;
use ctr::Ctr64BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use secp256k1::SecretKey;

/// A generator of random bytes, as unpredictable as its seed: the AES-256-CTR key stream under it.
///
/// Seeds must not be used twice; the reactor draws each from the operating system.
pub struct Entropy(Ctr64BE<Aes256Enc>);

impl Entropy {
    /// Starts the stream of a seed.
    pub fn new(seed: [u8; 32]) -> Entropy {
        Entropy(Ctr64BE::new(&seed.into(), &[0; 16].into()))
    }

    /// The next bytes of the stream.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.apply_keystream(&mut bytes);
        bytes
    }

    /// A number below `bound`, which is at most 256 (so that the bias of the remainder is below 1/256).
    pub fn below(&mut self, bound: u16) -> usize {
        usize::from(u16::from_be_bytes(self.bytes()) % bound)
    }

    /// A secret key of the curve.
    pub fn secret_key(&mut self) -> SecretKey {
        loop {
            // all but 2^-127 of the 32-byte numbers are keys
            if let Ok(key) = SecretKey::from_slice(&self.bytes::<32>()) {
                return key;
            }
        }
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy(..)")
    }
}
