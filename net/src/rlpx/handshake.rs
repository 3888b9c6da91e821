//! The RLPx handshake in both roles: auth and ack, in EIP-8's form and in the plain one before it.
//!
//! ```text
//! initiator                              recipient
//! AwaitingAck::start   -- auth -->       AwaitingAuth::read
//! AwaitingAck::read    <-- ack --
//! Link                                   Link
//! ```
//!
//! Sources: devp2p `rlpx.md`, "Initial Handshake"; EIP-8.

use std::fmt;

use alloy_primitives::B256;
use alloy_rlp::{Encodable, Header};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SecretKey};

use super::ecies::{self, EciesError};
use super::entropy::Entropy;
use super::frame::{FrameReader, FrameWriter};
use super::mac::MacState;
use super::{CURVE, agree, node_id, xor};
use crate::enode::NodeId;
use crate::keccak::{Keccak256, keccak256};

/// Most bytes an auth or ack may have. Real ones have up to 600 (three fields, up to 300 bytes of padding); the limit leaves
/// room for what EIP-8 lets later versions add, and is all that is ever held for a peer that has proven nothing.
pub const PACKET_LIMIT_BYTES: usize = 2048;

/// Bytes of an auth before EIP-8: signature, hash of the ephemeral key, public key, nonce and a flag, encrypted.
pub const PLAIN_AUTH_BYTES: usize = 65 + 32 + 64 + 32 + 1 + ecies::OVERHEAD_BYTES;

/// Bytes of an ack before EIP-8: ephemeral key, nonce and a flag, encrypted.
pub const PLAIN_ACK_BYTES: usize = 64 + 32 + 1 + ecies::OVERHEAD_BYTES;

/// The version that auth and ack carry.
const VERSION: u8 = 4;

/// How much padding a packet gets at least, and how much more at random. EIP-8 asks for 100 to 300 bytes, so that an auth is
/// longer than a plain one (307): some listeners wait for that many bytes before they look.
const PADDING_BYTES: usize = 100;
const PADDING_MORE_BYTES: u16 = 201;

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// Ours: the id that was dialled is no public key.
    DialledId,
    /// The peer's: the size prefix is outside what a packet can have.
    Size {
        /// "auth" or "ack".
        packet: &'static str,
        /// What the prefix claims, prefix included.
        claimed_bytes: usize,
    },
    /// The peer's: it cannot be decrypted, so it was changed, or meant for another node.
    Ecies {
        /// "auth" or "ack".
        packet: &'static str,
        /// Why.
        source: EciesError,
    },
    /// The peer's: a field is missing, of another length, or not a value that it can have.
    Field {
        /// "auth" or "ack".
        packet: &'static str,
        /// The field, as in rlpx.md.
        field: &'static str,
    },
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::DialledId => f.write_str("the node id dialled is not a public key"),
            HandshakeError::Size {
                packet,
                claimed_bytes,
            } => write!(
                f,
                "{packet}: size {claimed_bytes} is outside {} to {PACKET_LIMIT_BYTES}",
                ecies::OVERHEAD_BYTES + 2
            ),
            HandshakeError::Ecies { packet, source } => write!(f, "{packet}: {source}"),
            HandshakeError::Field { packet, field } => write!(f, "{packet}: invalid {field}"),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// What reading a packet led to.
#[derive(Debug)]
pub enum Step<S> {
    /// The packet is longer: call again with this many bytes of it.
    More {
        /// The state to go on with.
        state: S,
        /// Bytes from the packet's first on.
        needed_bytes: usize,
    },
    /// Both sides have the same secrets, if the peer is who it says; the first frame shows it.
    Done(Box<Link>),
}

/// An encrypted connection with a peer.
#[derive(Debug)]
pub struct Link {
    /// The peer's id.
    pub remote: NodeId,
    /// What it sends.
    pub reader: FrameReader,
    /// What it is sent.
    pub writer: FrameWriter,
}

/// How many bytes the first look at a packet needs: its size prefix, or what stands in its place.
pub const PREFIX_BYTES: usize = 2;

/// The recipient, before the auth.
#[derive(Debug)]
pub struct AwaitingAuth {
    secret: SecretKey,
    form: Form,
}

/// The initiator, whose auth is sent, before the ack.
#[derive(Debug)]
pub struct AwaitingAck {
    secret: SecretKey,
    remote: NodeId,
    ours: Ours,
    auth: Vec<u8>,
    form: Form,
}

/// The secrets that a side makes up for one handshake.
#[derive(Debug)]
struct Ours {
    ephemeral: SecretKey,
    nonce: [u8; 32],
}

impl Ours {
    fn draw(entropy: &mut Entropy) -> Ours {
        Ours {
            ephemeral: entropy.secret_key(),
            nonce: entropy.bytes(),
        }
    }
}

/// Which form the packet being received has. A plain packet begins with a public key, so with 4; one of EIP-8 begins with its
/// size, whose first byte may be 4 as well: then the tag decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Unknown,
    PlainOrEip8,
    Eip8,
}

impl Form {
    /// Looks at the bytes received. `Ok(None)`: the packet is complete; `Ok(Some(n))`: n bytes are needed.
    fn look(
        &mut self,
        received: &[u8],
        plain_bytes: usize,
        packet: &'static str,
    ) -> Result<Option<usize>, HandshakeError> {
        let Some(prefix) = received.first_chunk::<PREFIX_BYTES>() else {
            return Ok(Some(PREFIX_BYTES));
        };
        if *self == Form::Unknown {
            *self = if prefix[0] == 4 {
                Form::PlainOrEip8
            } else {
                Form::Eip8
            };
        }
        let needed_bytes = match self {
            Form::PlainOrEip8 => plain_bytes,
            _ => PREFIX_BYTES + usize::from(u16::from_be_bytes(*prefix)),
        };
        const SMALLEST_BYTES: usize = PREFIX_BYTES + ecies::OVERHEAD_BYTES;
        if !(SMALLEST_BYTES..=PACKET_LIMIT_BYTES).contains(&needed_bytes) {
            return Err(HandshakeError::Size {
                packet,
                claimed_bytes: needed_bytes,
            });
        }
        Ok((received.len() < needed_bytes).then_some(needed_bytes))
    }
}

impl AwaitingAuth {
    /// Waits for the auth of whoever connected.
    pub fn new(secret: SecretKey) -> AwaitingAuth {
        AwaitingAuth {
            secret,
            form: Form::Unknown,
        }
    }

    /// Reads the auth from the bytes received so far, of which there must be no more than were asked for
    /// ([`PREFIX_BYTES`] at first), and appends the ack to `out` when it is complete and right.
    pub fn read(
        mut self,
        received: &mut [u8],
        entropy: &mut Entropy,
        out: &mut Vec<u8>,
    ) -> Result<Step<AwaitingAuth>, HandshakeError> {
        const PACKET: &str = "auth";
        if let Some(needed_bytes) = self.form.look(received, PLAIN_AUTH_BYTES, PACKET)? {
            return Ok(Step::More {
                state: self,
                needed_bytes,
            });
        }
        let original = received.to_vec(); // the MACs take it as it was sent
        let plain = self.form == Form::PlainOrEip8;
        let auth = if plain {
            match ecies::decrypt(&self.secret, received, &[]) {
                Ok(text) => Auth::read_plain(text)?,
                Err(_) => {
                    // not a plain auth after all: then these bytes begin a longer one of EIP-8
                    self.form = Form::Eip8;
                    return self.read(received, entropy, out);
                }
            }
        } else {
            Auth::read_eip8(open(&self.secret, received, PACKET)?)?
        };
        let remote = NodeId(auth.id).public_key().ok_or(HandshakeError::Field {
            packet: PACKET,
            field: "initiator-pubk",
        })?;
        let remote_ephemeral = auth.ephemeral_key(&agree(&self.secret, &remote))?;

        let ours = Ours::draw(entropy);
        let ack = write_ack(&ours, &remote, plain, entropy);
        out.extend_from_slice(&ack);
        let secrets = Secrets::derive(
            &agree(&ours.ephemeral, &remote_ephemeral),
            &auth.nonce,
            &ours.nonce,
        );
        let [initiator, recipient] = secrets.mac_states(&auth.nonce, &ours.nonce, &original, &ack);
        Ok(Step::Done(Box::new(secrets.link(
            NodeId(auth.id),
            recipient,
            initiator,
        ))))
    }
}

impl AwaitingAck {
    /// Appends the auth for the node `remote` to `out`, and waits for its ack.
    pub fn start(
        secret: SecretKey,
        remote: NodeId,
        entropy: &mut Entropy,
        out: &mut Vec<u8>,
    ) -> Result<AwaitingAck, HandshakeError> {
        let remote_key = remote.public_key().ok_or(HandshakeError::DialledId)?;
        let ours = Ours::draw(entropy);
        let auth = write_auth(&secret, &ours, &remote_key, entropy);
        out.extend_from_slice(&auth);
        Ok(AwaitingAck {
            secret,
            remote,
            ours,
            auth,
            form: Form::Unknown,
        })
    }

    /// Reads the ack from the bytes received so far, of which there must be no more than were asked for
    /// ([`PREFIX_BYTES`] at first).
    pub fn read(mut self, received: &mut [u8]) -> Result<Step<AwaitingAck>, HandshakeError> {
        const PACKET: &str = "ack";
        if let Some(needed_bytes) = self.form.look(received, PLAIN_ACK_BYTES, PACKET)? {
            return Ok(Step::More {
                state: self,
                needed_bytes,
            });
        }
        let original = received.to_vec(); // the MACs take it as it was sent
        let (remote_ephemeral, nonce) = if self.form == Form::PlainOrEip8 {
            match ecies::decrypt(&self.secret, received, &[]) {
                Ok(text) => read_ack(&mut Fields::Plain(text))?,
                Err(_) => {
                    self.form = Form::Eip8;
                    return self.read(received);
                }
            }
        } else {
            read_ack(&mut Fields::eip8(
                open(&self.secret, received, PACKET)?,
                PACKET,
            )?)?
        };
        let ours = &self.ours;
        let secrets = Secrets::derive(
            &agree(&ours.ephemeral, &remote_ephemeral),
            &ours.nonce,
            &nonce,
        );
        let [initiator, recipient] = secrets.mac_states(&ours.nonce, &nonce, &self.auth, &original);
        Ok(Step::Done(Box::new(secrets.link(
            self.remote,
            initiator,
            recipient,
        ))))
    }
}

/// Decrypts a packet of EIP-8: the prefix is the associated data.
fn open<'a>(
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

fn write_auth(
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

fn write_ack(ours: &Ours, remote: &PublicKey, plain: bool, entropy: &mut Entropy) -> Vec<u8> {
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
struct Auth {
    signature: [u8; 65],
    id: [u8; 64],
    nonce: [u8; 32],
    /// Only in a plain one.
    ephemeral_hash: Option<[u8; 32]>,
}

impl Auth {
    fn read_plain(text: &[u8]) -> Result<Auth, HandshakeError> {
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

    fn read_eip8(text: &[u8]) -> Result<Auth, HandshakeError> {
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
    fn ephemeral_key(&self, static_shared: &[u8; 32]) -> Result<PublicKey, HandshakeError> {
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

fn read_ack(fields: &mut Fields<'_>) -> Result<(PublicKey, [u8; 32]), HandshakeError> {
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
enum Fields<'a> {
    /// Laid end to end.
    Plain(&'a [u8]),
    /// The payload of an RLP list.
    Rlp(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn eip8(mut text: &'a [u8], packet: &'static str) -> Result<Fields<'a>, HandshakeError> {
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

/// What both sides derive from the handshake.
struct Secrets {
    aes: [u8; 32],
    mac: [u8; 32],
}

impl Secrets {
    fn derive(
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
    fn mac_states(
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

    fn link(&self, remote: NodeId, egress: Keccak256, ingress: Keccak256) -> Link {
        Link {
            remote,
            reader: FrameReader::new(&self.aes, MacState::new(&self.mac, ingress)),
            writer: FrameWriter::new(&self.aes, MacState::new(&self.mac, egress)),
        }
    }
}

#[cfg(test)]
mod tests;
