//! Auth and ack as bytes: their fields in both forms, encrypted and decrypted.
//!
//! Sources: devp2p `rlpx.md`, "Initial Handshake"; EIP-8.

use alloy_primitives::B256;
use alloy_rlp::{Encodable, Header};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SecretKey};

use super::{HandshakeError, PACKET_LIMIT_BYTES, PLAIN_ACK_BYTES, PREFIX_BYTES};
use crate::enode::NodeId;
use crate::keccak::keccak256;
use crate::rlpx::entropy::Entropy;
use crate::rlpx::{CURVE, agree, ecies, node_id, xor};

/// The version that auth and ack carry.
const VERSION: u8 = 4;

/// How much padding a packet gets at least, and how much more at random. EIP-8 asks for 100 to 300 bytes, so that an auth is
/// longer than a plain one (307): some listeners wait for that many bytes before they look.
const PADDING_BYTES: usize = 100;
const PADDING_MORE_BYTES: u16 = 201;

/// The secrets that a side makes up for one handshake.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) ephemeral: SecretKey,
    pub(super) nonce: [u8; 32],
}

impl Ours {
    /// New ones.
    pub(super) fn draw(entropy: &mut Entropy) -> Ours {
        Ours {
            ephemeral: entropy.secret_key(),
            nonce: entropy.bytes(),
        }
    }
}

/// Decrypts a packet of EIP-8: the prefix is the associated data.
pub(super) fn open<'a>(
    secret: &SecretKey,
    received: &'a mut [u8],
    packet: &'static str,
) -> Result<&'a mut [u8], HandshakeError> {
    let (prefix, message) = received.split_at_mut(PREFIX_BYTES);
    ecies::decrypt(secret, message, prefix)
        .map_err(|source| HandshakeError::Ecies { packet, source })
}

/// Encrypts a packet of EIP-8: `body` is the payload of its list.
fn seal(remote: &PublicKey, body: &[u8], entropy: &mut Entropy) -> Vec<u8> {
    let mut text = Vec::with_capacity(PACKET_LIMIT_BYTES / 2);
    Header {
        list: true,
        payload_length: body.len(),
    }
    .encode(&mut text);
    text.extend_from_slice(body);
    let padding = PADDING_BYTES + entropy.below(PADDING_MORE_BYTES);
    let noise: [u8; PADDING_BYTES + PADDING_MORE_BYTES as usize] = entropy.bytes();
    text.extend_from_slice(&noise[..padding]);
    let size = ((text.len() + ecies::OVERHEAD_BYTES) as u16).to_be_bytes();
    let mut packet = size.to_vec();
    ecies::encrypt(remote, &text, &size, entropy, &mut packet);
    packet
}

/// The auth for the node with this key.
pub(super) fn write_auth(
    secret: &SecretKey,
    ours: &Ours,
    remote: &PublicKey,
    entropy: &mut Entropy,
) -> Vec<u8> {
    let signed = xor(&agree(secret, remote), &ours.nonce);
    let signature = CURVE.sign_ecdsa_recoverable(&Message::from_digest(signed), &ours.ephemeral);
    let (recovery, compact) = signature.serialize_compact();
    let mut signature = [0; 65];
    signature[..64].copy_from_slice(&compact);
    signature[64] = i32::from(recovery) as u8; // 0 to 3
    let mut body = Vec::with_capacity(256);
    signature.encode(&mut body);
    node_id(secret).0.encode(&mut body);
    ours.nonce.encode(&mut body);
    VERSION.encode(&mut body);
    seal(remote, &body, entropy)
}

/// The ack for the node with this key, in the form of its auth.
pub(super) fn write_ack(
    ours: &Ours,
    remote: &PublicKey,
    plain: bool,
    entropy: &mut Entropy,
) -> Vec<u8> {
    let ephemeral = node_id(&ours.ephemeral).0;
    if plain {
        let mut text = ephemeral.to_vec();
        text.extend_from_slice(&ours.nonce);
        text.push(0); // no token of an earlier session
        let mut packet = Vec::with_capacity(PLAIN_ACK_BYTES);
        ecies::encrypt(remote, &text, &[], entropy, &mut packet);
        return packet;
    }
    let mut body = Vec::with_capacity(128);
    ephemeral.encode(&mut body);
    ours.nonce.encode(&mut body);
    VERSION.encode(&mut body);
    seal(remote, &body, entropy)
}

/// What an auth says.
pub(super) struct Auth {
    signature: [u8; 65],
    pub(super) id: [u8; 64],
    pub(super) nonce: [u8; 32],
    /// Only in a plain one.
    ephemeral_hash: Option<[u8; 32]>,
}

impl Auth {
    pub(super) fn read_plain(text: &[u8]) -> Result<Auth, HandshakeError> {
        let mut fields = Fields::Plain(text);
        let signature = fields.take("auth", "signature")?;
        let ephemeral_hash = Some(fields.take("auth", "hash of the ephemeral key")?);
        let id = fields.take("auth", "initiator-pubk")?;
        let nonce = fields.take("auth", "initiator-nonce")?;
        Ok(Auth {
            signature,
            id,
            nonce,
            ephemeral_hash,
        })
    }

    pub(super) fn read_eip8(text: &[u8]) -> Result<Auth, HandshakeError> {
        // version, further elements and what follows the list are ignored (EIP-8)
        let mut fields = Fields::eip8(text, "auth")?;
        let signature = fields.take("auth", "sig")?;
        let id = fields.take("auth", "initiator-pubk")?;
        let nonce = fields.take("auth", "initiator-nonce")?;
        Ok(Auth {
            signature,
            id,
            nonce,
            ephemeral_hash: None,
        })
    }

    /// The ephemeral public key of the initiator, which the signature shows; only the holder of the static key can have
    /// made one for this recipient.
    pub(super) fn ephemeral_key(
        &self,
        static_shared: &[u8; 32],
    ) -> Result<PublicKey, HandshakeError> {
        let invalid = HandshakeError::Field {
            packet: "auth",
            field: "sig",
        };
        let recovery = RecoveryId::try_from(i32::from(self.signature[64])).map_err(|_| invalid)?;
        let signature = RecoverableSignature::from_compact(&self.signature[..64], recovery)
            .map_err(|_| invalid)?;
        let signed = Message::from_digest(xor(static_shared, &self.nonce));
        let key = CURVE
            .recover_ecdsa(&signed, &signature)
            .map_err(|_| invalid)?;
        match self.ephemeral_hash {
            Some(hash) if keccak256(NodeId::from_public_key(&key).0) != B256::from(hash) => {
                Err(invalid)
            }
            _ => Ok(key),
        }
    }
}

/// The ephemeral key and the nonce of an ack.
pub(super) fn read_ack(fields: &mut Fields<'_>) -> Result<(PublicKey, [u8; 32]), HandshakeError> {
    const FIELD: &str = "recipient-ephemeral-pubk";
    let key = NodeId(fields.take("ack", FIELD)?)
        .public_key()
        .ok_or(HandshakeError::Field {
            packet: "ack",
            field: FIELD,
        })?;
    Ok((key, fields.take("ack", "recipient-nonce")?))
}

/// A packet's fields, which all have fixed lengths, one after the other.
pub(super) enum Fields<'a> {
    /// Laid end to end.
    Plain(&'a [u8]),
    /// The payload of an RLP list.
    Rlp(&'a [u8]),
}

impl<'a> Fields<'a> {
    pub(super) fn eip8(
        mut text: &'a [u8],
        packet: &'static str,
    ) -> Result<Fields<'a>, HandshakeError> {
        Header::decode_bytes(&mut text, true)
            .map(Fields::Rlp)
            .map_err(|_| HandshakeError::Field {
                packet,
                field: "list",
            })
    }

    fn take<const N: usize>(
        &mut self,
        packet: &'static str,
        field: &'static str,
    ) -> Result<[u8; N], HandshakeError> {
        let bytes = match self {
            Fields::Plain(rest) => rest.split_off(..N),
            Fields::Rlp(rest) => Header::decode_bytes(rest, false).ok(),
        };
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(HandshakeError::Field { packet, field })
    }
}
