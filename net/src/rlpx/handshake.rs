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

mod packet;
mod secrets;
#[cfg(test)]
mod tests;

use std::fmt;

use secp256k1::SecretKey;

use self::packet::{Auth, Fields, Ours, open, read_ack, write_ack, write_auth};
use self::secrets::Secrets;
use super::agree;
use super::ecies::{self, EciesError};
use super::entropy::Entropy;
use super::frame::{FrameReader, FrameWriter};
use crate::enode::NodeId;

/// Most bytes an auth or ack may have. Real ones have up to 600 (three fields, up to 300 bytes of padding); the limit leaves
/// room for what EIP-8 lets later versions add, and is all that is ever held for a peer that has proven nothing.
pub const PACKET_LIMIT_BYTES: usize = 2048;

/// Bytes of an auth before EIP-8: signature, hash of the ephemeral key, public key, nonce and a flag, encrypted.
pub const PLAIN_AUTH_BYTES: usize = 65 + 32 + 64 + 32 + 1 + ecies::OVERHEAD_BYTES;

/// Bytes of an ack before EIP-8: ephemeral key, nonce and a flag, encrypted.
pub const PLAIN_ACK_BYTES: usize = 64 + 32 + 1 + ecies::OVERHEAD_BYTES;

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
