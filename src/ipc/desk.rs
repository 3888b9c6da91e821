//! What can be asked of a running node, and what it can be told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use alloy_primitives::{Address, B256, U256, hex, keccak256};
use cairn_net::enode::{Enode, EnodeUrl, NodeId};
use cairn_net::limits::{MAX_STATICS, MAX_TRUSTED};
use cairn_net::reactor::{Command, ConnectedPeer, Handle};
use cairn_store::Reader;
use serde_json::{Value, json};

use super::clique::{self, Work};
use super::rpc::{Methods, RpcError};
use crate::chain::Rules;
use crate::clock::unix_s;
use crate::health::Health;
use crate::proposals::Proposals;
use crate::standing::{SignerStanding, Standing};
use crate::status::{Board, Figures};

/// What does not change while the node runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What peers see as our name.
    pub client: String,
    /// The data folder.
    pub datadir: PathBuf,
    /// Of the genesis.
    pub chain_id: U256,
    /// What peers are told.
    pub network_id: u64,
    /// Hash of block 0.
    pub genesis: B256,
    /// How this node is reached.
    pub enode: Enode,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Peers at most.
    pub max_peers: usize,
    /// Who seals, if this node does.
    pub signer: Option<Address>,
    /// When it started.
    pub started: Instant,
}

/// Answers from what the other roles share: the store, the board that sync writes on, the roll of peers.
pub struct Desk {
    /// What does not change.
    pub facts: Facts,
    /// The store.
    pub reader: Reader,
    /// The roll of peers, and the way to the reactors.
    pub net: Handle,
    /// What sync says of itself.
    pub board: Board,
    /// Of the chain.
    pub rules: Arc<Rules>,
    /// What the signer votes for.
    pub proposals: Proposals,
    /// What answers have cost.
    pub work: Work,
}

pub(super) type Method = fn(&mut Desk, &[Value]) -> Result<Value, RpcError>;

/// By name: each method, and what it does.
const METHODS: &[(&str, Method)] = &[
    ("admin_addPeer", |desk, params| desk.add_peer(params)),
    ("admin_addTrustedPeer", |desk, params| {
        let node = enode(params)?;
        match desk.net.has_room_for_trusted(&node.id) {
            true => desk.tell(Command::Trust(node)),
            false => Err(RpcError::failed(format!(
                "{MAX_TRUSTED} nodes are trusted already"
            ))),
        }
    }),
    ("admin_datadir", |desk, _| {
        Ok(json!(desk.facts.datadir.display().to_string()))
    }),
    ("admin_nodeInfo", |desk, _| Ok(desk.node_info())),
    ("admin_peers", |desk, _| Ok(desk.peers())),
    ("admin_removePeer", |desk, params| {
        desk.tell(Command::Remove(url(params)?.id))
    }),
    ("admin_removeTrustedPeer", |desk, params| {
        desk.tell(Command::Distrust(url(params)?.id))
    }),
    ("cairn_status", |desk, _| Ok(desk.status())),
    ("eth_blockNumber", |desk, _| {
        Ok(json!(quantity(desk.reader.snapshot().head().number)))
    }),
    ("eth_chainId", |desk, _| {
        Ok(json!(format!("{:#x}", desk.facts.chain_id)))
    }),
    ("eth_syncing", |desk, _| Ok(desk.syncing())),
    ("net_listening", |_, _| Ok(json!(true))),
    ("net_peerCount", |desk, _| {
        Ok(json!(quantity(desk.net.peer_count() as u64)))
    }),
    ("net_version", |desk, _| {
        Ok(json!(desk.facts.network_id.to_string()))
    }),
    ("rpc_modules", |_, _| {
        let names = ["admin", "cairn", "clique", "eth", "net", "web3"];
        Ok(names.map(|name| (name, json!("1.0"))).into_iter().collect())
    }),
    ("web3_clientVersion", |desk, _| Ok(json!(desk.facts.client))),
];

impl Methods for Desk {
    fn call(&mut self, method: &str, params: &[Value]) -> Result<Value, RpcError> {
        let mut all = METHODS.iter().chain(clique::METHODS);
        match all.find(|(name, _)| *name == method) {
            Some((_, answer)) => answer(self, params),
            None => Err(RpcError::no_method(method)),
        }
    }

    fn take_work(&mut self) -> u64 {
        self.work.take()
    }
}

impl Desk {
    fn add_peer(&self, params: &[Value]) -> Result<Value, RpcError> {
        let node = enode(params)?;
        if node.id == self.facts.enode.id {
            return Err(RpcError::params("this is the node itself"));
        }
        match self.net.has_room_for_static(&node.id) {
            true => self.tell(Command::AddStatic(node)),
            false => Err(RpcError::failed(format!(
                "{MAX_STATICS} nodes are dialled already"
            ))),
        }
    }

    fn tell(&self, command: Command) -> Result<Value, RpcError> {
        self.net
            .send(command)
            .map_err(|error| RpcError::failed(error.to_string()))?;
        Ok(json!(true))
    }

    fn syncing(&self) -> Value {
        let figures = self.board.read();
        match figures.target_number {
            Some(highest) => json!({
                "startingBlock": quantity(figures.started_at),
                "currentBlock": quantity(figures.number),
                "highestBlock": quantity(highest),
            }),
            None => json!(false),
        }
    }

    fn node_info(&self) -> Value {
        let facts = &self.facts;
        let head = self.reader.snapshot().head();
        json!({
            "id": geth_id(&facts.enode.id),
            "name": facts.client,
            "enode": facts.enode.to_string(),
            "ip": facts.enode.ip,
            "ports": { "discovery": facts.enode.udp, "listener": facts.enode.tcp },
            "listenAddr": facts.listen.to_string(),
            "protocols": { "eth": {
                "network": facts.network_id,
                "genesis": facts.genesis.to_string(),
                "difficulty": head.td.to_string().parse::<serde_json::Number>().ok(),
                "head": head.hash.to_string(),
            } },
        })
    }

    fn peers(&self) -> Value {
        let peer = |peer: &ConnectedPeer| {
            let info = &peer.info;
            json!({
                "enode": format!("enode://{}@{}", info.id, peer.addr),
                "id": geth_id(&info.id),
                "name": info.client,
                "caps": [format!("eth/{}", info.eth)],
                "network": {
                    "remoteAddress": peer.addr.to_string(),
                    "inbound": info.inbound,
                    "trusted": peer.is_trusted,
                    "static": peer.is_static,
                },
                "protocols": { "eth": { "version": info.eth } },
            })
        };
        self.net.connected().iter().map(peer).collect()
    }

    fn status(&self) -> Value {
        let facts = &self.facts;
        let figures = self.board.read();
        let peer = |peer: &ConnectedPeer| {
            json!({
                "id": peer.info.id.to_string(),
                "address": peer.addr.to_string(),
                "client": peer.info.client,
                "eth": peer.info.eth,
                "inbound": peer.info.inbound,
                "trusted": peer.is_trusted,
                "static": peer.is_static,
                "connected_s": peer.connected_for.as_secs(),
            })
        };
        let peers: Vec<Value> = self.net.connected().iter().map(peer).collect();
        let now_s = unix_s();
        json!({
            "client": facts.client,
            "pid": std::process::id(),
            "uptime_s": facts.started.elapsed().as_secs(),
            "datadir": facts.datadir.display().to_string(),
            "chain_id": facts.chain_id.to_string(),
            "network_id": facts.network_id,
            "genesis": facts.genesis.to_string(),
            "enode": facts.enode.to_string(),
            "signer": facts.signer.map(|signer| signer.to_string()),
            "head": {
                "number": figures.number,
                "hash": figures.hash.to_string(),
                "td": figures.td.to_string(),
                "timestamp": figures.timestamp_s,
            },
            "sync": {
                "phase": figures.phase.name(),
                "started_at": figures.started_at,
                "reached": figures.reached,
                "target": figures.target_number,
                "headers_fetched": figures.falling.map(|falling| falling.fetched),
                "headers_of": figures.falling.and_then(|falling| falling.all),
                "headers_per_s": figures.headers_per_s,
                "headers_waiting": figures.headers,
                "requests_in_flight": figures.in_flight,
                "blocks_per_s": figures.blocks_per_s,
                "bytes_per_s": figures.bytes_per_s,
                "left_s": figures.left_s(),
                "overdue_s": figures.overdue_s,
            },
            "health": Health::of(&figures, now_s),
            "signers": figures.standing.as_ref().map(|standing| signers(standing, &figures, now_s)),
            "max_peers": facts.max_peers,
            "peers": peers,
        })
    }
}

fn signers(standing: &Standing, figures: &Figures, now_s: u64) -> Value {
    let missed = &figures.missed;
    let signer = |signer: &SignerStanding| {
        let since_start = missed.get(&signer.address).copied().unwrap_or_default();
        json!({
            "address": signer.address.to_string(),
            "last_block": signer.last.map(|made| made.number),
            "last_block_timestamp": signer.last.map(|made| made.timestamp_s),
            "age_s": signer.last.map(|made| now_s.saturating_sub(made.timestamp_s)),
            "turns_missed": signer.turns_missed,
            "in_turn_next": signer.in_turn,
            "may_seal_next": signer.may_seal,
            "missing": signer.is_missing,
            "missed_since_start": since_start.sum(),
            "missed_by_cause": since_start,
        })
    };
    json!({
        "next_block": standing.head.number.saturating_add(1),
        "stands_still": standing.stands_still,
        "needed": standing.needed,
        "missing": standing.missing().count(),
        "cannot_go_on": standing.cannot_go_on(),
        "looked_at_from": standing.first,
        "all": standing.signers.iter().map(signer).collect::<Value>(),
    })
}

fn url(params: &[Value]) -> Result<EnodeUrl, RpcError> {
    let [Value::String(text)] = params else {
        return Err(RpcError::params("expected one parameter, an enode URL"));
    };
    text.parse()
        .map_err(|error| RpcError::params(format!("{text:?} is no enode URL: {error}")))
}

/// Names are not looked up here: that may take as long as the system's resolver likes, and others wait for their answers.
fn enode(params: &[Value]) -> Result<Enode, RpcError> {
    let url = url(params)?;
    url.enode().ok_or_else(|| {
        RpcError::params(format!(
            "{:?} is a host name, which is not looked up here: give the IP address, or start the node with this URL in --bootnodes or --trusted",
            url.host
        ))
    })
}

/// As EIP-1474 writes numbers.
fn quantity(number: u64) -> String {
    format!("{number:#x}")
}

/// What geth calls a node's id (EIP-778, identity scheme v4).
fn geth_id(id: &NodeId) -> String {
    hex::encode(keccak256(id.0))
}
