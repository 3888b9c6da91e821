//! A session whose handshake is done: frames to messages, and the order in which they may come (Hello, Status, the rest).

use std::collections::VecDeque;
use std::sync::Arc;

use super::buffers::{Buffer, Buffers};
use super::codec::{self, SnappyError};
use super::output::Output;
use super::timers::Timers;
use super::workspace::{Packer, Workspace};
use super::{Close, Config, NotReady, PeerInfo, SessionEvent};
use crate::enode::NodeId;
use crate::eth;
use crate::eth::message::{self, Message, Outgoing, code};
use crate::eth::status::{LocalChain, Status, StatusError};
use crate::fault::Cause;
use crate::limits::{
    HELLO_TIMEOUT_MS, MAX_FRAME_BYTES, MAX_HELLO_BYTES, MAX_MESSAGE_BYTES, STATUS_TIMEOUT_MS,
    message_limit_bytes,
};
use crate::p2p::{self, Capability, DisconnectReason, Hello};
use crate::rlpx::frame::{FrameReader, FrameWriter, HEADER_BYTES};
use crate::rlpx::handshake::Link;

/// Most bytes of a frame's body before the session is ready. Hello has a limit of its own; Status, Ping and Disconnect are far
/// shorter.
const EARLY_FRAME_BYTES: usize = 1 + MAX_HELLO_BYTES;

/// Most bytes of a frame's body later: the longest message as snappy's worst compression leaves it (snap's
/// `max_compress_len`), and the message id. Below [`MAX_FRAME_BYTES`].
const FRAME_BYTES: usize = 1 + 32 + MAX_MESSAGE_BYTES + MAX_MESSAGE_BYTES / 6;
const _: () = assert!(FRAME_BYTES <= MAX_FRAME_BYTES);

/// Snappy compresses so many bytes at a time, each block alone.
const SNAPPY_BLOCK_BYTES: usize = 64 << 10;

/// What is known of the peer, and so what it may send.
#[derive(Debug)]
enum Phase {
    /// Nothing: Hello or Disconnect.
    Hello,
    /// The version of eth that is shared: Status, and what is p2p's.
    Status { client: String, eth: u8 },
    /// All of it: anything of that version.
    Ready { eth: u8 },
}

/// The encrypted half of a session's life.
#[derive(Debug)]
pub(super) struct Linked {
    remote: NodeId,
    reader: FrameReader,
    writer: FrameWriter,
    /// Body of the frame whose header was read.
    body_bytes: Option<usize>,
    /// A frame of the peer was authentic, which shows that it holds its key.
    proven: bool,
    phase: Phase,
    /// Our Status, held back until the owner has seen who the peer is.
    unsaid_status: Option<Vec<u8>>,
    /// Number of the head in it.
    told_head: u64,
}

/// What handling a frame needs beside the link.
pub(super) struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) inbound: bool,
    pub(super) chain: &'a LocalChain,
    pub(super) now_ms: u64,
    pub(super) out: &'a mut Output,
    pub(super) events: &'a mut VecDeque<SessionEvent>,
    pub(super) timers: &'a mut Timers,
    /// What was lent for long messages.
    pub(super) buffers: Option<&'a Buffers>,
}

impl Context<'_> {
    /// Memory for a message that comes in.
    fn buffer(&self, bytes: usize) -> Buffer {
        match self.buffers {
            Some(buffers) => buffers.take(bytes, self.now_ms),
            None => Buffer::alone(bytes),
        }
    }
}

impl Linked {
    /// Goes on from the handshake, and says Hello at once: some peers never do before they are greeted.
    pub(super) fn start(link: Link, our_id: NodeId, cx: &mut Context<'_>) -> Linked {
        let Link {
            remote,
            reader,
            writer,
        } = link;
        let capabilities = cx.config.eth_versions.iter().map(|version| Capability {
            name: "eth".to_owned(),
            version: u64::from(*version),
        });
        let hello = Hello {
            version: p2p::VERSION,
            client: cx.config.client.clone(),
            capabilities: capabilities.collect(),
            port: cx.config.port,
            id: our_id,
        };
        let mut payload = Vec::with_capacity(160);
        hello.encode(&mut payload);
        codec::write_plain(p2p::HELLO, &payload, cx.out.end());
        *cx.timers = Timers::awaiting("Hello", cx.now_ms + HELLO_TIMEOUT_MS);
        Linked {
            remote,
            reader,
            writer,
            body_bytes: None,
            proven: false,
            phase: Phase::Hello,
            unsaid_status: None,
            told_head: 0,
        }
    }

    /// How many bytes the next part of a frame has.
    pub(super) fn needed_bytes(&self) -> usize {
        match self.body_bytes {
            None => HEADER_BYTES,
            Some(body_bytes) => crate::rlpx::frame::rest_bytes(body_bytes),
        }
    }

    /// Takes the next part of a frame, of just the length asked for.
    pub(super) fn take(&mut self, part: &mut [u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let Some(body_bytes) = self.body_bytes.take() else {
            let header = part.try_into().expect("cut to the length of a header");
            return self.take_header(header, cx);
        };
        let body = self
            .reader
            .body(part, body_bytes)
            .map_err(|error| breach(error.to_string()))?;
        cx.timers.heard(cx.now_ms);
        let Some((id, payload)) = codec::split(body) else {
            return Err(breach("frame: no message id, or not a canonical one"));
        };
        self.take_message(id, payload, cx)
    }

    fn take_header(
        &mut self,
        header: &mut [u8; HEADER_BYTES],
        cx: &mut Context<'_>,
    ) -> Result<(), Close> {
        let body_bytes = self
            .reader
            .header(header)
            .map_err(|error| breach(error.to_string()))?;
        if !self.proven {
            self.proven = true;
            cx.events
                .push_back(SessionEvent::Authenticated { id: self.remote });
        }
        let (limit, phase) = match self.phase {
            Phase::Hello => (EARLY_FRAME_BYTES, "before Hello"),
            Phase::Status { .. } => (EARLY_FRAME_BYTES, "before Status"),
            Phase::Ready { .. } => (FRAME_BYTES, "at any time"),
        };
        if body_bytes > limit {
            return Err(breach(format!(
                "frame: {body_bytes} bytes, more than the {limit} allowed {phase}"
            )));
        }
        self.body_bytes = Some(body_bytes);
        Ok(())
    }

    fn take_message(&mut self, id: u8, payload: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        match (&mut self.phase, id) {
            (phase, p2p::DISCONNECT) => {
                let compressed = !matches!(phase, Phase::Hello);
                Err(match read_disconnect(payload, compressed) {
                    Some(reason) => Close::Remote { reason },
                    None => breach("Disconnect: unreadable"),
                })
            }
            (Phase::Hello, p2p::HELLO) => self.take_hello(payload, cx),
            (Phase::Hello, id) => Err(breach(format!("message id 0x{id:02x} before Hello"))),
            (_, p2p::HELLO) => Err(breach("Hello: a second one")),
            (_, id) if id < p2p::FIRST_CAPABILITY_ID => {
                // no message of p2p is longer; what a Ping holds is of no interest, nor are ids that nothing uses
                if payload.len() > MAX_HELLO_BYTES {
                    return Err(breach(format!(
                        "message id 0x{id:02x}: {} bytes, more than {MAX_HELLO_BYTES}",
                        payload.len()
                    )));
                }
                if id == p2p::PING {
                    write_small(p2p::PONG, &p2p::EMPTY_LIST, cx.out.end());
                }
                Ok(())
            }
            (Phase::Status { client, eth }, id) => {
                let eth = *eth;
                let client = std::mem::take(client);
                self.take_status(eth, client, eth_code(id, eth)?, payload, cx)
            }
            (Phase::Ready { eth }, id) => {
                let (eth, code) = (*eth, eth_code(id, *eth)?);
                let text = decompress(code, payload, cx)?;
                let message = message::decode(eth, code, text)
                    .map_err(|error| bad_message(error.to_string()))?;
                match message {
                    Message::Ignored { .. } => {
                        if let Some(answer) = message.empty_answer() {
                            write(eth, answer, &mut Workspace::default(), cx.out.end())
                                .expect("an empty answer is short");
                        }
                    }
                    message => cx.events.push_back(SessionEvent::Message(message)),
                }
                Ok(())
            }
        }
    }

    fn take_hello(&mut self, payload: &[u8], cx: &mut Context<'_>) -> Result<(), Close> {
        let hello = Hello::decode(payload).map_err(|error| breach(error.to_string()))?;
        if hello.version < p2p::VERSION {
            return Err(Close::Local {
                cause: Cause::OldP2p,
                why: format!(
                    "p2p version {}: expected {} or later",
                    hello.version,
                    p2p::VERSION
                ),
            });
        }
        if hello.id != self.remote {
            return Err(Close::Local {
                cause: Cause::FalseIdentity,
                why: format!(
                    "Hello: nodeId {}.. is not that of the handshake, {}..",
                    hello.id.short(),
                    self.remote.short()
                ),
            });
        }
        let ours = &cx.config.eth_versions;
        let Some(eth) = hello.highest_eth(ours) else {
            return Err(Close::Local {
                cause: Cause::NoCommonEth,
                why: format!(
                    "no version of eth in common: ours {ours:?}, its {}",
                    Listed(&hello)
                ),
            });
        };
        let mut status = Vec::with_capacity(128);
        Status::of(cx.chain, eth).encode(&mut status);
        self.unsaid_status = Some(status);
        self.told_head = cx.chain.head_number;
        self.phase = Phase::Status {
            client: hello.client,
            eth,
        };
        *cx.timers = Timers::awaiting("Status", cx.now_ms + STATUS_TIMEOUT_MS);
        Ok(())
    }

    fn take_status(
        &mut self,
        eth: u8,
        client: String,
        code: u8,
        payload: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<(), Close> {
        if code != code::STATUS {
            return Err(bad_message(format!(
                "eth message 0x{code:02x} before Status"
            )));
        }
        let text = decompress(code, payload, cx)?;
        let status = Status::decode(eth, &text).map_err(|error| bad_message(error.to_string()))?;
        if let Err(error) = status.check(cx.chain) {
            self.say_status(cx.out.end()); // so that the peer can see for itself what differs
            return Err(Close::Local {
                cause: match error {
                    StatusError::BlockRange { .. } | StatusError::NoLatestHash => Cause::BadMessage,
                    _ => Cause::OtherChain,
                },
                why: format!("Status: {error}"),
            });
        }
        let info = PeerInfo {
            id: self.remote,
            client,
            eth,
            status,
            inbound: cx.inbound,
            told_head: self.told_head,
        };
        self.phase = Phase::Ready { eth };
        *cx.timers = Timers::ready(cx.now_ms);
        cx.events.push_back(SessionEvent::Ready(Arc::new(info)));
        Ok(())
    }

    /// Says our Status if it is due.
    pub(super) fn say_status(&mut self, out: &mut Vec<u8>) {
        if let Some(status) = self.unsaid_status.take() {
            write_small(eth_id(code::STATUS), &status, out);
        }
    }

    /// Writes a message of eth.
    pub(super) fn send(
        &mut self,
        message: Outgoing<'_>,
        workspace: &mut Workspace,
        out: &mut Vec<u8>,
    ) -> Result<(), NotReady> {
        match self.phase {
            Phase::Ready { eth } => write(eth, message, workspace, out),
            _ => Err(NotReady::Handshaking),
        }
    }

    /// The writer of its frames, to seal them with.
    pub(super) fn writer(&mut self) -> &mut FrameWriter {
        &mut self.writer
    }

    /// Writes a Ping.
    pub(super) fn ping(&mut self, out: &mut Vec<u8>) {
        write_small(p2p::PING, &p2p::EMPTY_LIST, out);
    }

    /// Writes a Disconnect. It is compressed like everything after our Hello, which has told the peer that we are of version 5; only
    /// a peer that is too old for snappy gets it plain.
    pub(super) fn disconnect(&mut self, reason: DisconnectReason, out: &mut Vec<u8>) {
        let payload = reason.encode();
        if reason == DisconnectReason::IncompatibleVersion {
            codec::write_plain(p2p::DISCONNECT, &payload, out);
        } else {
            write_small(p2p::DISCONNECT, &payload, out);
        }
    }
}

/// Writes a message of eth that this version has.
fn write(
    eth: u8,
    message: Outgoing<'_>,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<(), NotReady> {
    let Workspace { text, packer, .. } = workspace;
    match message {
        Outgoing::ReadyAnswer {
            raw_len, streams, ..
        } => write_streams(eth, message, raw_len, streams, text, out),
        Outgoing::Answer { kind, id, items } if are_long(items) => {
            let raw_len = items.iter().map(|item| item.len()).sum();
            if raw_len > MAX_MESSAGE_BYTES {
                return Err(NotReady::TooLarge);
            }
            let streams = &packer.streams(items);
            let ready = Outgoing::ReadyAnswer {
                kind,
                id,
                raw_len,
                streams,
            };
            write_streams(eth, ready, raw_len, streams, text, out)
        }
        _ => {
            let code = encode(eth, message, text)?;
            if text.len() > MAX_MESSAGE_BYTES {
                return Err(NotReady::TooLarge);
            }
            codec::write(eth_id(code), text, packer, out);
            Ok(())
        }
    }
}

/// Writes an answer whose items are compressed.
fn write_streams(
    eth: u8,
    message: Outgoing<'_>,
    raw_len: usize,
    streams: &[&[u8]],
    text: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), NotReady> {
    let code = encode(eth, message, text)?;
    let streams_bytes: usize = streams.iter().map(|stream| stream.len()).sum();
    if text.len() + raw_len > MAX_MESSAGE_BYTES
        || codec::READY_HEAD_BYTES + streams_bytes > FRAME_BYTES
    {
        return Err(NotReady::TooLarge);
    }
    codec::write_ready(eth_id(code), text, raw_len, streams, out);
    Ok(())
}

/// Writes a short message, which is rare.
fn write_small(id: u8, payload: &[u8], out: &mut Vec<u8>) {
    codec::write(id, payload, &mut Packer::default(), out);
}

/// Encodes a message that this version has, alone in `text`; gives its code.
fn encode(eth: u8, message: Outgoing<'_>, text: &mut Vec<u8>) -> Result<u8, NotReady> {
    text.clear();
    let code = message.encode(eth, text);
    match eth::message_count(eth) {
        Some(count) if code < count => Ok(code),
        _ => Err(NotReady::NotOfVersion),
    }
}

/// Whether each of the items is compressed where it lies: laid end to end they would be no shorter, only copied once more.
fn are_long(items: &[&[u8]]) -> bool {
    !items.is_empty() && items.iter().all(|item| item.len() >= SNAPPY_BLOCK_BYTES)
}

/// Reads a Disconnect, which clients send compressed or not at every step.
fn read_disconnect(payload: &[u8], compressed: bool) -> Option<DisconnectReason> {
    let unpacked = || {
        let text = codec::decompress(payload, MAX_HELLO_BYTES, Buffer::alone).ok()?;
        DisconnectReason::decode(&text)
    };
    let plain = || DisconnectReason::decode(payload);
    if compressed {
        unpacked().or_else(plain)
    } else {
        plain().or_else(unpacked)
    }
}

/// The shared id of a code of eth, our only capability.
fn eth_id(code: u8) -> u8 {
    p2p::FIRST_CAPABILITY_ID + code
}

/// The code of eth that a shared id of 0x10 or above stands for.
fn eth_code(id: u8, eth: u8) -> Result<u8, Close> {
    let code = id - p2p::FIRST_CAPABILITY_ID;
    match eth::message_count(eth) {
        Some(count) if code < count => Ok(code),
        _ if id == 0x80 => Err(breach(format!(
            "message id 0x80 or above: not of p2p or eth/{eth}"
        ))),
        _ => Err(breach(format!(
            "message id 0x{id:02x}: not of p2p or eth/{eth}"
        ))),
    }
}

fn decompress(code: u8, payload: &[u8], cx: &Context<'_>) -> Result<bytes::Bytes, Close> {
    let limit_bytes = message_limit_bytes(code);
    codec::decompress(payload, limit_bytes, |bytes| cx.buffer(bytes)).map_err(|error| match error {
        SnappyError::TooLong { .. } => bad_message(format!("eth message 0x{code:02x}: {error}")),
        SnappyError::Corrupt => breach(format!("eth message 0x{code:02x}: {error}")),
    })
}

/// The peer broke RLPx or p2p.
fn breach(why: impl Into<String>) -> Close {
    Close::Local {
        cause: Cause::BrokenLink,
        why: why.into(),
    }
}

/// The peer broke eth.
fn bad_message(why: impl Into<String>) -> Close {
    Close::Local {
        cause: Cause::BadMessage,
        why: why.into(),
    }
}

/// The capabilities of a Hello, the first few of them.
struct Listed<'a>(&'a Hello);

impl std::fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 8;
        const NAME_CHARS: usize = 16; // the specification allows eight
        let capabilities = &self.0.capabilities;
        let shown: Vec<String> = capabilities
            .iter()
            .take(SHOWN)
            .map(|Capability { name, version }| format!("{name:.NAME_CHARS$}/{version}"))
            .collect();
        f.write_str(&shown.join(" "))?;
        if capabilities.len() > SHOWN {
            write!(f, " and {} more", capabilities.len() - SHOWN)?;
        }
        Ok(())
    }
}
