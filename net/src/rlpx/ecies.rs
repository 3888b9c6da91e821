//! ECIES as RLPx uses it: encrypts one message to the holder of a public key.
//!
//! `R || iv || c || d`: an ephemeral public key (65 bytes), an initialization vector (16), the message under AES-128-CTR, and
//! an HMAC-SHA256 (32) over iv, c and associated data that is not sent. Source: devp2p `rlpx.md`, "ECIES Encryption".

use std::fmt;

use aes::Aes128Enc;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use secp256k1::{PublicKey, SecretKey};
use sha2::{Digest, Sha256};

use super::entropy::Entropy;
use super::{CURVE, agree};

const KEY_BYTES: usize = 65;
const IV_BYTES: usize = 16;
const TAG_BYTES: usize = 32;

/// How much longer an encrypted message is than its text.
pub const OVERHEAD_BYTES: usize = KEY_BYTES + IV_BYTES + TAG_BYTES;

/// A message that cannot be decrypted: it was not meant for this key, or is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EciesError {
    /// Shorter than the parts that every message has.
    Short,
    /// The ephemeral public key is no point of the curve.
    NotAPoint,
    /// The tag does not fit: another key, or changed bytes.
    Tag,
}

impl fmt::Display for EciesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EciesError::Short => "too short for ECIES",
            EciesError::NotAPoint => "the ephemeral key is no point of the curve",
            EciesError::Tag => "the tag does not fit (changed, or meant for another node)",
        })
    }
}

impl std::error::Error for EciesError {}

/// Appends `text` encrypted to `remote`, bound to `associated`.
pub fn encrypt(
    remote: &PublicKey,
    text: &[u8],
    associated: &[u8],
    entropy: &mut Entropy,
    out: &mut Vec<u8>,
) {
    let ephemeral = entropy.secret_key();
    let iv: [u8; IV_BYTES] = entropy.bytes();
    let keys = Keys::derive(&agree(&ephemeral, remote));
    out.reserve(text.len() + OVERHEAD_BYTES);
    out.extend_from_slice(&ephemeral.public_key(&CURVE).serialize_uncompressed());
    let authenticated = out.len();
    out.extend_from_slice(&iv);
    let encrypted = out.len();
    out.extend_from_slice(text);
    keys.cipher(&iv).apply_keystream(&mut out[encrypted..]);
    let tag = keys.tag(&out[authenticated..], associated).finalize();
    out.extend_from_slice(&tag.into_bytes());
}

/// Decrypts a message in place and returns its text. If it fails, `message` is unchanged.
pub fn decrypt<'a>(
    secret: &SecretKey,
    message: &'a mut [u8],
    associated: &[u8],
) -> Result<&'a mut [u8], EciesError> {
    if message.len() < OVERHEAD_BYTES {
        return Err(EciesError::Short);
    }
    let (key, rest) = message.split_at_mut(KEY_BYTES);
    if key[0] != 4 {
        return Err(EciesError::NotAPoint);
    }
    let remote = PublicKey::from_slice(key).map_err(|_| EciesError::NotAPoint)?;
    let keys = Keys::derive(&agree(secret, &remote));
    let (authenticated, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
    // compares in constant time
    keys.tag(authenticated, associated)
        .verify_slice(tag)
        .map_err(|_| EciesError::Tag)?;
    let (iv, text) = authenticated.split_at_mut(IV_BYTES);
    let iv: &[u8; IV_BYTES] = (&*iv).try_into().expect("split at its length");
    keys.cipher(iv).apply_keystream(text);
    Ok(text)
}

struct Keys {
    encryption: [u8; 16],
    authentication: [u8; 32],
}

impl Keys {
    /// NIST SP 800-56 concatenation KDF for 32 bytes, which is one round of SHA-256.
    fn derive(shared: &[u8; 32]) -> Keys {
        let material = Sha256::new()
            .chain_update(1u32.to_be_bytes())
            .chain_update(shared)
            .finalize();
        let mut encryption = [0; 16];
        encryption.copy_from_slice(&material[..16]);
        Keys {
            encryption,
            authentication: Sha256::digest(&material[16..]).into(),
        }
    }

    fn cipher(&self, iv: &[u8; IV_BYTES]) -> Ctr128BE<Aes128Enc> {
        Ctr128BE::new(&self.encryption.into(), iv.into())
    }

    fn tag(&self, message: &[u8], associated: &[u8]) -> Hmac<Sha256> {
        let mut tag = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.authentication)
            .expect("HMAC takes a key of any length");
        tag.update(message);
        tag.update(associated);
        tag
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pair(text: &[u8]) -> (SecretKey, Vec<u8>) {
        let mut entropy = Entropy::new([7; 32]);
        let secret = entropy.secret_key();
        let mut message = Vec::new();
        encrypt(
            &secret.public_key(&CURVE),
            text,
            b"size",
            &mut entropy,
            &mut message,
        );
        (secret, message)
    }

    #[test]
    fn what_is_encrypted_to_a_key_is_decrypted_with_it() {
        for len in [0, 1, 16, 194, 1000] {
            let text: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let (secret, mut message) = pair(&text);
            assert_eq!(message.len(), len + OVERHEAD_BYTES);
            assert_eq!(decrypt(&secret, &mut message, b"size").unwrap(), text);
        }
    }

    #[test]
    fn any_changed_byte_is_refused_and_the_message_left_as_it_was() {
        let (secret, message) = pair(b"the text");
        for at in 0..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 1;
            let before = changed.clone();
            assert!(
                decrypt(&secret, &mut changed, b"size").is_err(),
                "byte {at}"
            );
            assert_eq!(changed, before);
        }
        let mut same = message.clone();
        assert_eq!(decrypt(&secret, &mut same, b"siz_"), Err(EciesError::Tag));
        let other = Entropy::new([8; 32]).secret_key();
        assert_eq!(decrypt(&other, &mut same, b"size"), Err(EciesError::Tag));
        for len in 0..message.len() {
            assert!(decrypt(&secret, &mut message.clone()[..len], b"size").is_err());
        }
    }
}
