//! The peer: a store with a chain, a key, and sessions with cairn that it dialled or took.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ethrex_blockchain::Blockchain;
use ethrex_common::H256;
use ethrex_common::types::{Block, BlockBody, BlockHeader, Genesis};
use ethrex_p2p::network::P2PContext;
use ethrex_p2p::peer_table::{PeerTable, PeerTableServer, PeerTableServerProtocol as _};
use ethrex_p2p::rlpx::Message;
use ethrex_p2p::rlpx::connection::server::PeerConnection;
use ethrex_p2p::rlpx::message::EthCapVersion;
use ethrex_p2p::rlpx::utils::snappy_decompress;
use ethrex_p2p::types::{NetworkConfig, Node};
use ethrex_p2p::utils::public_key_from_signing_key;
use ethrex_p2p::{DiscoveryConfig, start_network};
use ethrex_rlp::decode::RLPDecode as _;
use ethrex_storage::{EngineType, Store};
use secp256k1::SecretKey;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::cairn::free_port;
use crate::chain::Chain;

/// What anything that must happen may take.
const WAIT: Duration = Duration::from_secs(15);
/// Peers that it looks for: never reached, so that it takes every one.
const TARGET_PEERS: usize = 10;
const BROADCAST_MS: u64 = 1000;
const LOOKUP_MS: f64 = 1000.0;

/// A node of ethrex's.
pub struct Peer {
    context: P2PContext,
    table: PeerTable,
    node: Node,
    store: Store,
}

impl Peer {
    /// A peer that has the genesis block alone. `key` tells it from others of the same test.
    pub async fn new(genesis: &Path, key: u8) -> Peer {
        let genesis = std::fs::read(genesis).expect("the genesis was made");
        let mut genesis: Value = serde_json::from_slice(&genesis).expect("genesis.json");
        // Asked for by this client, whatever the chain.
        genesis["config"]["depositContractAddress"] =
            json!("0x0000000000000000000000000000000000000000");
        let genesis: Genesis =
            serde_json::from_value(genesis).expect("a genesis that this client takes");
        let mut store = Store::new("", EngineType::InMemory).expect("memory");
        store.add_initial_state(genesis).await.expect("its state");

        let signer = SecretKey::from_byte_array(&[key; 32]).expect("not zero");
        let port = free_port();
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let node = Node::new(localhost, port, port, public_key_from_signing_key(&signer));
        let table = PeerTableServer::spawn(node.node_id(), TARGET_PEERS, store.clone());
        let context = P2PContext::new(
            node.clone(),
            NetworkConfig::from_node(&node),
            TaskTracker::new(),
            signer,
            table.clone(),
            store.clone(),
            Arc::new(Blockchain::default_with_store(store.clone())),
            "ethrex-interop".to_owned(),
            None,
            BROADCAST_MS,
            LOOKUP_MS,
        )
        .expect("a context");
        Peer {
            context,
            table,
            node,
            store,
        }
    }

    /// Takes the whole chain as its own, unexecuted.
    pub async fn take(&self, chain: &Chain) {
        let blocks = chain.blocks[1..].iter().map(|block| {
            let header = BlockHeader::decode(&block.header).expect("a header");
            Block::new(header, BlockBody::decode(&block.body).expect("a body"))
        });
        self.store
            .add_blocks(blocks.collect())
            .await
            .expect("memory");
        let numbered = (0..)
            .zip(&chain.blocks)
            .map(|(number, block)| (number, block.hash));
        let head = &chain.blocks[chain.blocks.len() - 1];
        self.store
            .forkchoice_update(numbered.collect(), chain.head(), head.hash, None, None)
            .await
            .expect("memory");
    }

    /// Listens, for peers and for discovery, and gives its enode.
    pub async fn listen(&self) -> String {
        let config = DiscoveryConfig {
            discv5_enabled: false,
            ..DiscoveryConfig::default()
        };
        start_network(self.context.clone(), Vec::new(), config)
            .await
            .expect("it listens");
        self.node.enode_url()
    }

    /// Dials and comes back when both Statuses are exchanged.
    pub async fn dial(&self, enode: &str) -> Session {
        let node = Node::from_str(enode).expect("an enode");
        PeerConnection::spawn_as_initiator(self.context.clone(), &node);
        self.session(enode).await
    }

    /// The session with that node, whoever dialled.
    pub async fn session(&self, enode: &str) -> Session {
        let id: H256 = Node::from_str(enode).expect("an enode").node_id();
        let begin = Instant::now();
        loop {
            let peers = self
                .table
                .get_peers_with_capabilities()
                .await
                .expect("the table is there");
            if let Some((_, connection, capabilities)) = peers.into_iter().find(|peer| peer.0 == id)
            {
                let announced = capabilities.iter().filter(|c| c.protocol() == "eth");
                let versions: Vec<u8> = announced.map(|c| c.version).collect();
                return Session {
                    connection,
                    versions,
                };
            }
            assert!(begin.elapsed() < WAIT, "no session with {enode}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A connection past Status.
pub struct Session {
    connection: PeerConnection,
    /// The versions of eth that the other side announced: this client always announces 68 to 71.
    pub versions: Vec<u8>,
}

impl Session {
    /// Asks, and gives the answer as this client understood it: encoded again, without code and snappy.
    pub async fn ask(&mut self, request: Message) -> Vec<u8> {
        let what = format!("{request:?}");
        let answer = self.connection.outgoing_request(request, WAIT).await;
        let answer = answer.unwrap_or_else(|why| panic!("{why}: {what:.200}"));
        let mut bytes = Vec::new();
        // The code is one byte, whatever the version.
        answer
            .encode(&mut bytes, EthCapVersion::V71)
            .expect("it was decoded");
        snappy_decompress(&bytes[1..]).expect("it was compressed")
    }

    /// Sends what has no answer that this client would hand on.
    pub async fn tell(&mut self, message: Message) {
        self.connection
            .outgoing_message(message)
            .await
            .expect("the session is there");
    }
}
