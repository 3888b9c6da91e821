//! Curve operations alone: the floor under a handshake.

use std::hint::black_box;
use std::time::Duration;

use cairn_net::rlpx;
use cairn_net::rlpx::entropy::Entropy;
use cairn_net::rlpx::handshake::{AwaitingAck, AwaitingAuth, Step};
use secp256k1::ecdh::shared_secret_point;
use secp256k1::{Message, PublicKey, Secp256k1};

use crate::machine::thread_cpu;

/// What a recipient cannot do without, of each handshake: it agrees with the ephemeral key of the auth's encryption, with the
/// initiator's static key, with its own ephemeral key for the ack's encryption, and on the session's secret; it recovers the
/// initiator's ephemeral key; and it makes two ephemeral keys of its own.
pub(crate) const AGREEMENTS: usize = 4;
pub(crate) const RECOVERIES: usize = 1;
pub(crate) const KEYS: usize = 2;

/// CPU time of the curve operations of one handshake.
pub(crate) fn operations(count: u32) -> Duration {
    let curve = Secp256k1::new();
    let mut entropy = Entropy::new([3; 32]);
    let secret = entropy.secret_key();
    let public: PublicKey = entropy.secret_key().public_key(&curve);
    let message = Message::from_digest(entropy.bytes());
    let signature = curve.sign_ecdsa_recoverable(&message, &secret);
    let before = thread_cpu();
    for _ in 0..count {
        for _ in 0..AGREEMENTS {
            black_box(shared_secret_point(black_box(&public), &secret));
        }
        for _ in 0..RECOVERIES {
            black_box(
                curve
                    .recover_ecdsa(black_box(&message), &signature)
                    .unwrap(),
            );
        }
        for _ in 0..KEYS {
            black_box(black_box(&secret).public_key(&curve));
        }
    }
    (thread_cpu() - before) / count
}

/// CPU time of a recipient's part in auth and ack, without a socket.
pub(crate) fn recipient(count: u32) -> Duration {
    let mut entropy = Entropy::new([4; 32]);
    let secret = entropy.secret_key();
    let node = rlpx::node_id(&secret);
    let auths: Vec<Vec<u8>> = (0..count)
        .map(|_| {
            let mut auth = Vec::new();
            AwaitingAck::start(entropy.secret_key(), node, &mut entropy, &mut auth).unwrap();
            auth
        })
        .collect();
    let before = thread_cpu();
    for mut auth in auths {
        let mut ack = Vec::new();
        let state = AwaitingAuth::new(secret);
        let step = state.read(&mut auth, &mut entropy, &mut ack).unwrap();
        assert!(matches!(black_box(step), Step::Done(_)));
    }
    (thread_cpu() - before) / count
}
