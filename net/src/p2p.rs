//! The "p2p" capability: Hello, Ping, Pong, Disconnect, and which version of eth two peers share.
//!
//! Sources: devp2p `rlpx.md` ("p2p" capability, message ids), EIP-8 (tolerance), EIP-706 (snappy from version 5).
//! Bytes to values and back; when they may be sent is the session's affair.

#[cfg(test)]
mod tests;

use std::fmt;

use alloy_rlp::{Encodable, Header};

use crate::enode::NodeId;
use crate::eth;

/// The version of the p2p capability that is spoken: 5, the one that brought snappy.
pub const VERSION: u64 = 5;

/// Message id of Hello.
pub const HELLO: u8 = 0x00;
/// Message id of Disconnect.
pub const DISCONNECT: u8 = 0x01;
/// Message id of Ping.
pub const PING: u8 = 0x02;
/// Message id of Pong.
pub const PONG: u8 = 0x03;

/// The first message id of the shared capabilities: those below are p2p's own, used or not.
pub const FIRST_CAPABILITY_ID: u8 = 0x10;

/// Payload of Ping and Pong: an empty list.
pub const EMPTY_LIST: [u8; 1] = [0xc0];

/// Why a connection is ended, as the Disconnect message says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// 0x00: it was asked for, or no reason was given.
    Requested,
    /// 0x01: trouble with TCP.
    TcpError,
    /// 0x02: a message that is against the protocol.
    ProtocolBreach,
    /// 0x03: nothing in common, or nothing to gain.
    UselessPeer,
    /// 0x04: no room.
    TooManyPeers,
    /// 0x05: there is a connection to this node already.
    AlreadyConnected,
    /// 0x06: a version of p2p that cannot be spoken.
    IncompatibleVersion,
    /// 0x07: no identity was given.
    NullIdentity,
    /// 0x08: the node stops.
    Quitting,
    /// 0x09: not the node that was dialled, or not the one its Hello names.
    UnexpectedIdentity,
    /// 0x0a: the node reached itself.
    SelfConnect,
    /// 0x0b: no answer in time.
    Timeout,
    /// 0x10: a reason of the capability: another chain, a malformed message of eth.
    Subprotocol,
    /// Any other byte.
    Unknown(u8),
}

impl DisconnectReason {
    /// The byte on the wire.
    pub fn code(self) -> u8 {
        match self {
            DisconnectReason::Requested => 0x00,
            DisconnectReason::TcpError => 0x01,
            DisconnectReason::ProtocolBreach => 0x02,
            DisconnectReason::UselessPeer => 0x03,
            DisconnectReason::TooManyPeers => 0x04,
            DisconnectReason::AlreadyConnected => 0x05,
            DisconnectReason::IncompatibleVersion => 0x06,
            DisconnectReason::NullIdentity => 0x07,
            DisconnectReason::Quitting => 0x08,
            DisconnectReason::UnexpectedIdentity => 0x09,
            DisconnectReason::SelfConnect => 0x0a,
            DisconnectReason::Timeout => 0x0b,
            DisconnectReason::Subprotocol => 0x10,
            DisconnectReason::Unknown(code) => code,
        }
    }

    /// The reason a byte stands for; every byte stands for one.
    pub fn from_code(code: u8) -> DisconnectReason {
        match code {
            0x00 => DisconnectReason::Requested,
            0x01 => DisconnectReason::TcpError,
            0x02 => DisconnectReason::ProtocolBreach,
            0x03 => DisconnectReason::UselessPeer,
            0x04 => DisconnectReason::TooManyPeers,
            0x05 => DisconnectReason::AlreadyConnected,
            0x06 => DisconnectReason::IncompatibleVersion,
            0x07 => DisconnectReason::NullIdentity,
            0x08 => DisconnectReason::Quitting,
            0x09 => DisconnectReason::UnexpectedIdentity,
            0x0a => DisconnectReason::SelfConnect,
            0x0b => DisconnectReason::Timeout,
            0x10 => DisconnectReason::Subprotocol,
            code => DisconnectReason::Unknown(code),
        }
    }

    /// The payload of a Disconnect: the list form, which every client reads.
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(3);
        let code = self.code();
        Header {
            list: true,
            payload_length: code.length(),
        }
        .encode(&mut out);
        code.encode(&mut out);
        out
    }

    /// Reads the payload of a Disconnect in any form seen in the wild: `[reason, ...]`, a bare byte string, an empty
    /// list, nothing at all. `None` if it is none of these.
    pub fn decode(payload: &[u8]) -> Option<DisconnectReason> {
        if payload.is_empty() {
            return Some(DisconnectReason::Requested);
        }
        let mut rest = payload;
        let header = Header::decode(&mut rest).ok()?;
        if !header.list {
            // a bare reason; nothing may follow it, so that compressed bytes are not taken for one
            return (rest.len() == header.payload_length)
                .then(|| reason_of(rest))
                .flatten();
        }
        if header.payload_length != rest.len() {
            return None;
        }
        if rest.is_empty() {
            return Some(DisconnectReason::Requested);
        }
        reason_of(Header::decode_bytes(&mut rest, false).ok()?)
    }
}

/// The reason in the content of an RLP string: no byte is zero.
fn reason_of(content: &[u8]) -> Option<DisconnectReason> {
    match content {
        [] => Some(DisconnectReason::Requested),
        [code] => Some(DisconnectReason::from_code(*code)),
        _ => None,
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DisconnectReason::Requested => "disconnect requested",
            DisconnectReason::TcpError => "TCP error",
            DisconnectReason::ProtocolBreach => "breach of protocol",
            DisconnectReason::UselessPeer => "useless peer",
            DisconnectReason::TooManyPeers => "too many peers",
            DisconnectReason::AlreadyConnected => "already connected",
            DisconnectReason::IncompatibleVersion => "incompatible p2p version",
            DisconnectReason::NullIdentity => "null node identity",
            DisconnectReason::Quitting => "client quitting",
            DisconnectReason::UnexpectedIdentity => "unexpected identity",
            DisconnectReason::SelfConnect => "connected to itself",
            DisconnectReason::Timeout => "timeout",
            DisconnectReason::Subprotocol => "subprotocol error",
            DisconnectReason::Unknown(code) => return write!(f, "unknown reason 0x{code:02x}"),
        })
    }
}

/// A name and a version that Hello announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The short name, "eth" for instance. Case counts.
    pub name: String,
    /// The version.
    pub version: u64,
}

/// What each side says of itself first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Version of the p2p capability.
    pub version: u64,
    /// The client's name for itself. Control characters of a received one are replaced, so that it may be logged.
    pub client: String,
    /// Everything the side can speak.
    pub capabilities: Vec<Capability>,
    /// The port it listens on; 0 if it does not. Legacy, not to be trusted.
    pub port: u16,
    /// Its static public key.
    pub id: NodeId,
}

/// A Hello that cannot be read: the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloError {
    /// The field, as in rlpx.md.
    pub field: &'static str,
    /// What is wrong with it.
    pub what: alloy_rlp::Error,
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hello: {}: {}", self.field, self.what)
    }
}

impl std::error::Error for HelloError {}

impl Hello {
    /// Appends the RLP of the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut capabilities = Vec::new();
        for Capability { name, version } in &self.capabilities {
            let payload_length = name.length() + version.length();
            Header {
                list: true,
                payload_length,
            }
            .encode(&mut capabilities);
            name.encode(&mut capabilities);
            version.encode(&mut capabilities);
        }
        let mut fields = Vec::with_capacity(160);
        self.version.encode(&mut fields);
        self.client.encode(&mut fields);
        Header {
            list: true,
            payload_length: capabilities.len(),
        }
        .encode(&mut fields);
        fields.extend_from_slice(&capabilities);
        self.port.encode(&mut fields);
        self.id.0.as_slice().encode(&mut fields);
        Header {
            list: true,
            payload_length: fields.len(),
        }
        .encode(out);
        out.extend_from_slice(&fields);
    }

    /// Reads a Hello as EIP-8 asks: any version, more elements at the end, bytes after the list.
    ///
    /// The caller has held `payload` to [`MAX_HELLO_BYTES`](crate::limits::MAX_HELLO_BYTES), which bounds the capabilities.
    pub fn decode(payload: &[u8]) -> Result<Hello, HelloError> {
        let mut rest = payload;
        let fields = &mut bytes_of(&mut rest, true, "message")?;
        let version = number(fields, "protocolVersion")?;
        let client = bytes_of(fields, false, "clientId")?;
        let mut list = bytes_of(fields, true, "capabilities")?;
        let mut capabilities = Vec::new();
        while !list.is_empty() {
            let capability = &mut bytes_of(&mut list, true, "capability")?;
            let name = bytes_of(capability, false, "capability name")?;
            let version = number(capability, "capability version")?;
            capabilities.push(Capability {
                name: printable(name),
                version,
            });
        }
        // legacy, and of any size in the wild: what does not fit is as good as no port
        let port = bytes_of(fields, false, "listenPort")?;
        let port = match port {
            [] => 0,
            [low] => u16::from(*low),
            [high, low] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        };
        let id = bytes_of(fields, false, "nodeId")?;
        let id = NodeId(id.try_into().map_err(|_| HelloError {
            field: "nodeId",
            what: alloy_rlp::Error::ListLengthMismatch {
                expected: 64,
                got: id.len(),
            },
        })?);
        Ok(Hello {
            version,
            client: printable(client),
            capabilities,
            port,
            id,
        })
    }

    /// The highest version of eth that is in `ours` and announced here.
    pub fn highest_eth(&self, ours: &[u8]) -> Option<u8> {
        self.capabilities
            .iter()
            .filter(|capability| capability.name == "eth")
            .filter_map(|capability| u8::try_from(capability.version).ok())
            .filter(|version| ours.contains(version) && eth::message_count(*version).is_some())
            .max()
    }
}

fn bytes_of<'a>(
    rest: &mut &'a [u8],
    list: bool,
    field: &'static str,
) -> Result<&'a [u8], HelloError> {
    Header::decode_bytes(rest, list).map_err(|what| HelloError { field, what })
}

/// A number of any length: what is above 64 bits is only ever compared, and counts as the greatest.
fn number(rest: &mut &[u8], field: &'static str) -> Result<u64, HelloError> {
    let bytes = bytes_of(rest, false, field)?;
    if bytes.first() == Some(&0) {
        return Err(HelloError {
            field,
            what: alloy_rlp::Error::LeadingZero,
        });
    }
    if bytes.len() > 8 {
        return Ok(u64::MAX);
    }
    Ok(bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Text that may be shown: a peer's control characters must not reach a terminal or a log.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}
