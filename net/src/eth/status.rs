//! Status: the first message of each side, and whether its sender is on our chain.

use std::fmt;

use alloy_eip2124::{ForkFilter, ForkHash, ForkId, ValidationError};
use alloy_primitives::{B256, U256};
use alloy_rlp::{Encodable, Header};

use super::cursor::{Cursor, DecodeError};

/// What a node says of itself and its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Version of eth, as agreed by the Hellos.
    pub version: u8,
    /// The network, often the chain id.
    pub network_id: u64,
    /// Hash of the genesis block.
    pub genesis: B256,
    /// Fork identifier at the sender's head (EIP-2124).
    pub fork_id: ForkId,
    /// Total difficulty of the head: eth/68 only.
    pub td: Option<U256>,
    /// Hash of the head; from eth/69 on of the latest whole block.
    pub head: B256,
    /// The first block with a body: from eth/69 on.
    pub earliest: Option<u64>,
    /// The number of the latest whole block: from eth/69 on.
    pub latest: Option<u64>,
}

/// What this node says of itself, and judges peers by. Set to the current head by who moves it.
#[derive(Clone, Debug)]
pub struct LocalChain {
    /// The network.
    pub network_id: u64,
    /// Hash of the genesis block.
    pub genesis: B256,
    /// The forks of the chain, set to our head.
    pub fork_filter: ForkFilter,
    /// Number of our head.
    pub head_number: u64,
    /// Hash of our head.
    pub head: B256,
    /// Total difficulty up to and with our head, genesis included.
    pub td: U256,
    /// The first block whose body we have.
    pub earliest: u64,
}

/// Why the sender of a Status is no peer for us. Not a breach: it is on another chain, or says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusError {
    /// Another network.
    NetworkId {
        /// Our network.
        ours: u64,
        /// The peer's.
        theirs: u64,
    },
    /// Another chain.
    Genesis {
        /// Our genesis block.
        ours: B256,
        /// The peer's.
        theirs: B256,
    },
    /// Other forks (EIP-2124).
    Fork(ValidationError),
    /// Not a range of blocks (`earliest > latest`).
    BlockRange {
        /// The first block it claims.
        earliest: u64,
        /// The last one.
        latest: u64,
    },
    /// A latest block without a hash.
    NoLatestHash,
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatusError::NetworkId { ours, theirs } => {
                write!(f, "network id: expected {ours}, found {theirs}")
            }
            StatusError::Genesis { ours, theirs } => {
                write!(f, "genesis: expected {ours}, found {theirs}")
            }
            StatusError::Fork(ValidationError::RemoteStale { local, remote }) => write!(
                f,
                "fork id: the peer needs an update for our fork: ours {}, its {}",
                ForkIdText(*local),
                ForkIdText(*remote)
            ),
            StatusError::Fork(ValidationError::LocalIncompatibleOrStale { local, remote }) => {
                write!(
                    f,
                    "fork id: other forks than ours, or we need an update: ours {}, its {}",
                    ForkIdText(*local),
                    ForkIdText(*remote)
                )
            }
            StatusError::BlockRange { earliest, latest } => {
                write!(
                    f,
                    "block range: earliest {earliest} is above latest {latest}"
                )
            }
            StatusError::NoLatestHash => write!(f, "block range: the latest block's hash is zero"),
        }
    }
}

impl std::error::Error for StatusError {}

/// `hash/next`, as geth prints it.
struct ForkIdText(ForkId);

impl fmt::Display for ForkIdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:08x}/{}",
            u32::from_be_bytes(self.0.hash.0),
            self.0.next
        )
    }
}

impl Status {
    /// What this node says to a peer in `version`.
    pub fn of(local: &LocalChain, version: u8) -> Status {
        let ranged = version >= 69;
        Status {
            version,
            network_id: local.network_id,
            genesis: local.genesis,
            fork_id: local.fork_filter.current(),
            td: (!ranged).then_some(local.td),
            head: local.head,
            earliest: ranged.then_some(local.earliest),
            latest: ranged.then_some(local.head_number),
        }
    }

    /// Whether the sender of this Status can be a peer.
    pub fn check(&self, local: &LocalChain) -> Result<(), StatusError> {
        if self.network_id != local.network_id {
            return Err(StatusError::NetworkId {
                ours: local.network_id,
                theirs: self.network_id,
            });
        }
        if self.genesis != local.genesis {
            return Err(StatusError::Genesis {
                ours: local.genesis,
                theirs: self.genesis,
            });
        }
        local
            .fork_filter
            .validate(self.fork_id)
            .map_err(StatusError::Fork)?;
        if let (Some(earliest), Some(latest)) = (self.earliest, self.latest) {
            if earliest > latest {
                return Err(StatusError::BlockRange { earliest, latest });
            }
            if self.head.is_zero() {
                return Err(StatusError::NoLatestHash);
            }
        }
        Ok(())
    }

    /// Appends the RLP of the message in the layout of `self.version`:
    /// 68 `[version, networkid, td, blockhash, genesis, forkid]` (EIP-7642 shows both),
    /// 69 and later `[version, networkid, genesis, forkid, earliest, latest, latestHash]`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fork_id = self.fork_id;
        let (version, network_id) = (u64::from(self.version), self.network_id);
        let fields: [&dyn Encodable; 7] = if self.version >= 69 {
            let (earliest, latest) = (self.earliest.as_ref(), self.latest.as_ref());
            [
                &version,
                &network_id,
                &self.genesis,
                &fork_id,
                earliest.unwrap_or(&0),
                latest.unwrap_or(&0),
                &self.head,
            ]
        } else {
            let td = self.td.as_ref().unwrap_or(&U256::ZERO);
            [
                &version,
                &network_id,
                td,
                &self.head,
                &self.genesis,
                &fork_id,
                &Nothing,
            ]
        };
        let payload_length = fields.iter().map(|field| field.length()).sum();
        Header {
            list: true,
            payload_length,
        }
        .encode(out);
        fields.iter().for_each(|field| field.encode(out));
    }

    /// Reads a Status in the layout of `version`, the one agreed by the Hellos; any other version in it is an error.
    pub fn decode(version: u8, payload: &[u8]) -> Result<Status, DecodeError> {
        let mut message = Cursor::new("Status", payload);
        let mut fields = message.list("message")?;
        message.end("message")?;
        let start = fields;
        let found = fields.u64("version")?;
        if found != u64::from(version) {
            return Err(start.error("version", super::What::Value { found }));
        }
        let network_id = fields.u64("networkid")?;
        if version >= 69 {
            let genesis = fields.b256("genesis")?;
            let fork_id = decode_fork_id(&mut fields)?;
            let earliest = Some(fields.u64("earliest")?);
            let latest = Some(fields.u64("latest")?);
            let head = fields.b256("latestHash")?;
            fields.end("latestHash")?;
            Ok(Status {
                version,
                network_id,
                genesis,
                fork_id,
                td: None,
                head,
                earliest,
                latest,
            })
        } else {
            let td = Some(fields.u256("td")?);
            let head = fields.b256("blockhash")?;
            let genesis = fields.b256("genesis")?;
            let fork_id = decode_fork_id(&mut fields)?;
            fields.end("forkid")?;
            Ok(Status {
                version,
                network_id,
                genesis,
                fork_id,
                td,
                head,
                earliest: None,
                latest: None,
            })
        }
    }
}

/// `[fork-hash: B_4, fork-next: P]` (EIP-2124).
fn decode_fork_id(fields: &mut Cursor<'_>) -> Result<ForkId, DecodeError> {
    let mut list = fields.list("forkid")?;
    let hash = ForkHash(list.array("fork-hash")?);
    let next = list.u64("fork-next")?;
    list.end("fork-next")?;
    Ok(ForkId { hash, next })
}

/// Fills the place of the field that eth/68 does not have.
struct Nothing;

impl Encodable for Nothing {
    fn encode(&self, _: &mut dyn alloy_rlp::BufMut) {}
    fn length(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests;
