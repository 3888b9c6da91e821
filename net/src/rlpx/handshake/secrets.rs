//! What both sides derive from the handshake: the keys of the link, and the states of its MACs.
//!
//! Source: devp2p `rlpx.md`, "Initial Handshake".

use super::Link;
use crate::enode::NodeId;
use crate::keccak::{Keccak256, keccak256};
use crate::rlpx::frame::{FrameReader, FrameWriter};
use crate::rlpx::mac::MacState;
use crate::rlpx::xor;

/// What both sides derive from the handshake.
pub(super) struct Secrets {
    pub(super) aes: [u8; 32],
    pub(super) mac: [u8; 32],
}

impl Secrets {
    /// From the shared secret of the ephemeral keys, and the nonces.
    pub(super) fn derive(
        ephemeral_shared: &[u8; 32],
        initiator_nonce: &[u8; 32],
        recipient_nonce: &[u8; 32],
    ) -> Secrets {
        let hash =
            |a: &[u8; 32], b: &[u8; 32]| -> [u8; 32] { keccak256([*a, *b].as_flattened()).0 };
        let shared = hash(ephemeral_shared, &hash(recipient_nonce, initiator_nonce));
        let aes = hash(ephemeral_shared, &shared);
        Secrets {
            aes,
            mac: hash(ephemeral_shared, &aes),
        }
    }

    /// The states of what the initiator sends and of what the recipient sends.
    pub(super) fn mac_states(
        &self,
        initiator_nonce: &[u8; 32],
        recipient_nonce: &[u8; 32],
        auth: &[u8],
        ack: &[u8],
    ) -> [Keccak256; 2] {
        let state = |nonce, packet: &[u8]| {
            let mut state = Keccak256::new();
            state.update(xor(&self.mac, nonce));
            state.update(packet);
            state
        };
        [state(recipient_nonce, auth), state(initiator_nonce, ack)]
    }

    /// A side's link, with what it sends and what it receives.
    pub(super) fn link(&self, remote: NodeId, egress: Keccak256, ingress: Keccak256) -> Link {
        Link {
            remote,
            reader: FrameReader::new(&self.aes, MacState::new(&self.mac, ingress)),
            writer: FrameWriter::new(&self.aes, MacState::new(&self.mac, egress)),
        }
    }
}
