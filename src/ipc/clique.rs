//! Geth's `clique_` methods: who may seal after a block, who has sealed, and what this node's signer votes for.
//!
//! Parameters and answers have the shapes of go-ethereum 1.13.15 (`consensus/clique/api.go`), with these differences: block numbers may be
//! JSON numbers too; `votes` is an empty list where geth has none or `null`; `clique_status` counts the head and never the first block, which
//! nobody sealed; what cannot be done is an error that says so.
//!
//! What holds after the head is at hand, on the board. After an older block it is found by reading the stored headers from the last
//! checkpoint on, on the ipc thread: [`Work`] bounds how many a caller makes it read.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256, hex};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::desk::{Desk, Method};
use super::rpc::RpcError;
use crate::chain::clique::{DIFFICULTY_IN_TURN, Snapshot};
use crate::chain::{SealedHeader, rlp};
use crate::era1::ERA_BLOCKS;

/// Headers read for one request, or for a batch of them together: two epochs of the usual length, some 0.2 s. Were each of them a vote it would be
/// 3 s, which is still an answer in time.
const MAX_WORK: u64 = 60_000;
/// What to find out who sealed a block costs, in headers read.
const SIGNER_WORK: u64 = 15;
/// Blocks that `clique_status` looks back on, as in geth.
const STATUS_BLOCKS: u64 = 64;

/// What answers have cost since it was last asked, in headers read.
#[derive(Debug, Default)]
pub struct Work(u64);

impl Work {
    /// Counts anew from here on: what it was.
    pub(super) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.0)
    }

    /// Before so much more is done.
    fn spend(&mut self, headers: u64) -> Result<(), RpcError> {
        let sum = self.0.saturating_add(headers);
        if sum > MAX_WORK {
            return Err(RpcError::limit(format!(
                "this takes the reading of {sum} headers, and one request, or one batch, may take {MAX_WORK}; \
                 ask for fewer blocks at once, or for blocks nearer after a checkpoint"
            )));
        }
        self.0 = sum;
        Ok(())
    }
}

/// By name: each method, and what it does.
pub(super) const METHODS: &[(&str, Method)] = &[
    ("cairn_checkpoint", |desk, _| desk.checkpoint()),
    ("clique_discard", |desk, params| {
        let address = address(params)?;
        desk.seals()?;
        desk.proposals.discard(&address);
        log::info!("Voting no more target={address}");
        Ok(Value::Null)
    }),
    ("clique_getSigner", |desk, params| {
        desk.is_clique()?;
        desk.signer_of(params.first())
    }),
    ("clique_getSigners", |desk, params| {
        let at = desk.voting_at(number(params.first())?)?;
        Ok(signers(&at))
    }),
    ("clique_getSignersAtHash", |desk, params| {
        let at = desk.voting_after(&hash(params)?)?;
        Ok(signers(&at))
    }),
    ("clique_getSnapshot", |desk, params| {
        let at = desk.voting_at(number(params.first())?)?;
        Ok(snapshot(&at))
    }),
    ("clique_getSnapshotAtHash", |desk, params| {
        let at = desk.voting_after(&hash(params)?)?;
        Ok(snapshot(&at))
    }),
    ("clique_proposals", |desk, _| {
        desk.is_clique()?;
        let all = desk.proposals.all();
        Ok(all.iter().map(|(of, to)| (text(of), json!(to))).collect())
    }),
    ("clique_propose", |desk, params| {
        let (target, authorise) = match params {
            [target, Value::Bool(authorise)] => {
                (address(std::slice::from_ref(target))?, *authorise)
            }
            _ => {
                return Err(RpcError::params(
                    "expected two parameters, an address and true (to let it in) or false (to put it out)",
                ));
            }
        };
        desk.seals()?;
        let done = desk.proposals.propose(target, authorise);
        done.map_err(|why| RpcError::failed(why.to_string()))?;
        log::info!("Voting from now on target={target} authorise={authorise}");
        Ok(Value::Null)
    }),
    ("clique_status", |desk, _| desk.sealing_status()),
];

impl Desk {
    /// Is the chain sealed by clique?
    fn is_clique(&self) -> Result<(), RpcError> {
        match self.rules.spec.clique {
            Some(_) => Ok(()),
            None => Err(RpcError::failed(
                "this is no clique chain: its genesis has no config.clique, so it has no signers and no votes",
            )),
        }
    }

    /// Does this node seal, so that it has a vote?
    fn seals(&self) -> Result<(), RpcError> {
        self.is_clique()?;
        match self.facts.signer {
            Some(_) => Ok(()),
            None => Err(RpcError::failed(
                "this node does not seal, so it has no vote: ask the node of a signer, or run this one with \
                 --enable-consensus and the signer's key",
            )),
        }
    }

    /// Who may seal after block `number`, or after the head.
    fn voting_at(&mut self, number: Option<u64>) -> Result<Arc<Snapshot>, RpcError> {
        self.is_clique()?;
        let figures = self.board.read();
        if let (None, Some(at)) = (number, figures.clique) {
            return Ok(at);
        }
        let number = number.unwrap_or(figures.number);
        let stored = self.reader.snapshot();
        let head = stored.head().number;
        if number > head {
            return Err(unknown(number, head));
        }
        let epoch = self.rules.spec.clique.map_or(1, |clique| clique.epoch);
        self.work.spend(number % epoch.max(1) + 1)?;
        let mut failed = None;
        // Total difficulty is nothing that is asked for here.
        let tip = self.rules.restore(
            number,
            U256::ZERO,
            &mut |number| match stored.header(number) {
                Ok(record) => record.map(|raw| Bytes::copy_from_slice(&raw)),
                Err(error) => {
                    failed = Some(error);
                    None
                }
            },
        );
        let tip = match (failed, tip) {
            (Some(error), _) => return Err(RpcError::failed(error.to_string())),
            (None, Err(error)) => return Err(RpcError::failed(error.to_string())),
            (None, Ok(tip)) => tip,
        };
        tip.clique.ok_or_else(|| {
            RpcError::failed(format!(
                "block {number} was made by proof of stake: there are no signers after it"
            ))
        })
    }

    /// The last checkpoint that more than half of the signers have sealed on: from there a new node can begin.
    fn checkpoint(&mut self) -> Result<Value, RpcError> {
        let at = self.voting_at(None)?;
        // Its total difficulty is summed up from the beginning of its era.
        self.work.spend(ERA_BLOCKS)?;
        let stored = self.reader.snapshot();
        let epoch = self
            .rules
            .spec
            .clique
            .map_or(1, |clique| clique.epoch.max(1));
        let settled = at.number.saturating_sub(at.limit());
        let number = settled - settled % epoch;
        let failed = |error: cairn_store::Error| RpcError::failed(error.to_string());
        let (hash, td) = (
            stored.hash(number).map_err(failed)?,
            stored.td(number).map_err(failed)?,
        );
        match (hash, td) {
            (Some(hash), Some(td)) if number > 0 => Ok(json!({
                "number": number,
                "hash": hash.to_string(),
                "td": td.to_string(),
            })),
            _ => Err(RpcError::failed(format!(
                "there is no checkpoint to begin at yet: this chain has one every {epoch} blocks, its head is block {}, and this node has blocks \
                 from {} on",
                at.number,
                stored.first_header().max(1)
            ))),
        }
    }

    /// Who may seal after the canonical block with this hash.
    fn voting_after(&mut self, hash: &B256) -> Result<Arc<Snapshot>, RpcError> {
        self.is_clique()?;
        let number = self.number_of(hash)?;
        let at = self.voting_at(Some(number))?;
        // Between two looks at the store the chain may have been reorganised.
        match at.hash == *hash {
            true => Ok(at),
            false => Err(unknown_hash(hash)),
        }
    }

    fn number_of(&self, hash: &B256) -> Result<u64, RpcError> {
        let found = self.reader.snapshot().number(hash);
        let found = found.map_err(|error| RpcError::failed(error.to_string()))?;
        found.ok_or_else(|| unknown_hash(hash))
    }

    fn header(&self, number: u64) -> Result<SealedHeader, RpcError> {
        let stored = self.reader.snapshot();
        let raw = stored.header(number);
        let raw = raw.map_err(|error| RpcError::failed(error.to_string()))?;
        let raw = raw.ok_or_else(|| unknown(number, stored.head().number))?;
        let header = SealedHeader::decode(Bytes::copy_from_slice(&raw));
        header.map_err(|error| RpcError::failed(error.to_string()))
    }

    fn sealer_of(&mut self, header: &SealedHeader) -> Result<Address, RpcError> {
        if header.number() == 0 {
            return Err(RpcError::failed("block 0 was sealed by nobody"));
        }
        self.work.spend(SIGNER_WORK)?;
        let signer = header.signer();
        signer.map_err(|error| RpcError::failed(format!("block {}: {error}", header.number())))
    }

    /// Of a block by number, by hash or of the RLP of itself or of its header.
    fn signer_of(&mut self, what: Option<&Value>) -> Result<Value, RpcError> {
        let what = match what {
            // An object that names one thing, as EIP-1898 has it.
            Some(Value::Object(named)) => {
                let named = named.get("blockNumber").or(named.get("blockHash"));
                Some(named.ok_or_else(|| RpcError::params("expected blockNumber or blockHash"))?)
            }
            what => what,
        };
        let header = match what.and_then(Value::as_str).map(hex::decode) {
            Some(Ok(bytes)) if bytes.len() == 32 => {
                self.header(self.number_of(&B256::from_slice(&bytes))?)?
            }
            Some(Ok(bytes)) if bytes.len() > 32 => header_of(&bytes)?,
            _ => {
                let number = number(what)?.unwrap_or_else(|| self.board.read().number);
                self.header(number)?
            }
        };
        self.sealer_of(&header).map(|signer| json!(text(&signer)))
    }

    /// The last blocks: how many of them their signers sealed, and how many in turn.
    fn sealing_status(&mut self) -> Result<Value, RpcError> {
        let at = self.voting_at(None)?;
        let kept = self.reader.snapshot().first_header();
        let first = at.number.saturating_sub(STATUS_BLOCKS - 1).max(kept.max(1));
        let signers = at.signers().iter();
        let mut sealed: BTreeMap<Address, u64> = signers.map(|signer| (*signer, 0)).collect();
        let (mut blocks, mut in_turn) = (0_u64, 0_u64);
        for number in first..=at.number {
            let header = self.header(number)?;
            *sealed.entry(self.sealer_of(&header)?).or_default() += 1;
            blocks += 1;
            in_turn += u64::from(header.header.difficulty == U256::from(DIFFICULTY_IN_TURN));
        }
        let percent = match blocks {
            0 => 0.0,
            blocks => 100.0 * in_turn as f64 / blocks as f64,
        };
        let activity: Map<String, Value> = sealed
            .iter()
            .map(|(signer, blocks)| (text(signer), json!(blocks)))
            .collect();
        Ok(json!({
            "inturnPercent": percent,
            "sealerActivity": activity,
            "numBlocks": blocks,
        }))
    }
}

/// The header in the RLP of a block or of a header.
fn header_of(bytes: &[u8]) -> Result<SealedHeader, RpcError> {
    let malformed =
        |what: String| RpcError::params(format!("neither a block nor a header: {what}"));
    let mut rest = bytes;
    let mut items = rlp::list(&mut rest).map_err(|error| malformed(error.to_string()))?;
    let first = rlp::item(&mut items).map_err(|error| malformed(error.to_string()))?;
    let raw = if first.list { first.raw } else { bytes };
    let header = SealedHeader::decode(Bytes::copy_from_slice(raw));
    header.map_err(|error| malformed(error.to_string()))
}

fn signers(at: &Snapshot) -> Value {
    at.signers().iter().map(text).collect()
}

fn snapshot(at: &Snapshot) -> Value {
    let signers: Map<String, Value> = at
        .signers()
        .iter()
        .map(|signer| (text(signer), json!({})))
        .collect();
    let recents: Map<String, Value> = at
        .recents()
        .iter()
        .map(|(number, signer)| (number.to_string(), json!(text(signer))))
        .collect();
    let votes: Vec<Value> = at
        .votes()
        .iter()
        .map(|vote| {
            json!({
                "signer": text(&vote.signer),
                "block": vote.block,
                "address": text(&vote.target),
                "authorize": vote.authorise,
            })
        })
        .collect();
    // All open votes on one address are of one kind.
    let mut counts: BTreeMap<Address, (bool, usize)> = BTreeMap::new();
    for vote in at.votes() {
        let (authorise, count) = counts.entry(vote.target).or_default();
        (*authorise, *count) = (vote.authorise, *count + 1);
    }
    let tally: Map<String, Value> = counts
        .iter()
        .map(|(target, (authorise, count))| {
            let entry = json!({ "authorize": authorise, "votes": count });
            (text(target), entry)
        })
        .collect();
    json!({
        "number": at.number,
        "hash": at.hash.to_string(),
        "signers": signers,
        "recents": recents,
        "votes": votes,
        "tally": tally,
    })
}

/// As geth writes addresses in answers: without the letters' case that checks them.
fn text(address: &Address) -> String {
    format!("{address:#x}")
}

fn address(params: &[Value]) -> Result<Address, RpcError> {
    let [Value::String(text)] = params else {
        return Err(RpcError::params("expected one parameter, an address"));
    };
    text.parse()
        .map_err(|error| RpcError::params(format!("{text:?} is no address: {error}")))
}

fn hash(params: &[Value]) -> Result<B256, RpcError> {
    let [Value::String(text)] = params else {
        return Err(RpcError::params("expected one parameter, a block's hash"));
    };
    text.parse()
        .map_err(|error| RpcError::params(format!("{text:?} is no hash: {error}")))
}

/// A block's number; none is the head's.
fn number(param: Option<&Value>) -> Result<Option<u64>, RpcError> {
    let bad = || {
        RpcError::params(format!(
            "expected a block's number such as \"0x10\", \"latest\" or \"earliest\", found {}",
            param.unwrap_or(&Value::Null)
        ))
    };
    match param {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_u64().map(Some).ok_or_else(bad),
        Some(Value::String(text)) => match (text.as_str(), text.strip_prefix("0x")) {
            ("latest", _) => Ok(None),
            ("earliest", _) => Ok(Some(0)),
            (_, Some(digits)) if !digits.starts_with('+') => {
                u64::from_str_radix(digits, 16).map(Some).map_err(|_| bad())
            }
            _ => Err(bad()),
        },
        Some(_) => Err(bad()),
    }
}

fn unknown(number: u64, head: u64) -> RpcError {
    RpcError::failed(format!("unknown block {number}: the head is {head}"))
}

fn unknown_hash(hash: &B256) -> RpcError {
    RpcError::failed(format!("unknown block {hash}: it is none of this chain"))
}
