//! The RLPx transport: a handshake that turns two static keys into a stream of encrypted, authenticated frames.
//!
//! No socket, clock or entropy source in here: bytes and a seed are handed in. The states are types: an
//! [`handshake::AwaitingAuth`] or [`handshake::AwaitingAck`] is consumed to make a [`handshake::Link`], and only a link
//! can read and write frames.
//!
//! Sources: devp2p `rlpx.md`, EIP-8.

pub mod ecies;
pub mod entropy;
pub mod frame;
pub mod handshake;
pub mod mac;
#[cfg(test)]
pub(crate) mod vectors;

use std::sync::LazyLock;

use secp256k1::{All, PublicKey, Secp256k1, SecretKey};

use crate::enode::NodeId;

/// The curve's tables, made once: they are read only and the same for everybody.
static CURVE: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// The node id of a static key: its public key without the leading 0x04.
pub fn node_id(secret: &SecretKey) -> NodeId {
    NodeId::from_public_key(&secret.public_key(&CURVE))
}

/// Elliptic-curve Diffie-Hellman as RLPx has it: the x coordinate of the shared point, not hashed.
fn agree(secret: &SecretKey, remote: &PublicKey) -> [u8; 32] {
    let point = secp256k1::ecdh::shared_secret_point(remote, secret);
    let mut x = [0; 32];
    x.copy_from_slice(&point[..32]);
    x
}

fn xor<const N: usize>(a: &[u8; N], b: &[u8; N]) -> [u8; N] {
    std::array::from_fn(|at| a[at] ^ b[at])
}
