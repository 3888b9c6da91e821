//! Whole networks of machines that seal, serve and follow each other, cut apart and joined again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use alloy_eip2124::{ForkHash, ForkId};
use alloy_primitives::B256;
use cairn_net::enode::NodeId;
use cairn_net::eth::message::{Message, Request, Start};
use cairn_net::eth::status::Status;
use cairn_net::reactor::{NetEvent, OwnedOutgoing, PeerId};
use cairn_net::session::{Close, PeerInfo};

use super::chain::{GENESIS_S, PERIOD_S, RULES, SimBlock, genesis_block, keys, seal_with};
use super::world::Store;
use super::{Dice, seeds};
use crate::chain::clique;
use crate::sync::{Action, Machine, MachineConfig, SealedBlock};

struct Node {
    machine: Machine,
    store: Store,
    /// Its place among the signers.
    signer: Option<usize>,
    /// Out of turn it waits: for which parent, and until when.
    wait: Option<(B256, u64)>,
    reorgs: usize,
}

/// A connection between two nodes, each with the id under which it knows the other.
#[derive(Clone, Copy)]
struct Link {
    ends: [(usize, PeerId); 2],
    latency_ms: u64,
}

struct Network {
    now_ms: u64,
    nodes: Vec<Node>,
    links: Vec<Link>,
    events: BTreeMap<(u64, u64), (usize, NetEvent)>,
    serial: u64,
    dice: Dice,
    eth: u8,
    punished: Vec<String>,
}

impl Network {
    fn new(seed: u64, signers: usize, others: usize, eth: u8) -> Network {
        let node = |place: usize| {
            let genesis = genesis_block();
            let stored = (genesis.header.hash, genesis.header.raw.clone());
            Node {
                machine: Machine::new(RULES.clone(), RULES.genesis_tip(), MachineConfig::default()),
                store: Store(
                    vec![(stored.0, stored.1, genesis.body.clone(), genesis.td)],
                    0,
                    Cell::default(),
                    BTreeMap::new(),
                ),
                signer: (place < signers).then_some(place),
                wait: None,
                reorgs: 0,
            }
        };
        Network {
            now_ms: 0,
            nodes: (0..signers + others).map(node).collect(),
            links: Vec::new(),
            events: BTreeMap::new(),
            serial: 1,
            dice: Dice::new(seed),
            eth,
            punished: Vec::new(),
        }
    }

    fn now_s(&self) -> u64 {
        GENESIS_S + self.now_ms / 1000
    }

    fn later(&mut self, latency_ms: u64, node: usize, event: NetEvent) {
        self.serial += 1;
        self.events
            .insert((self.now_ms + latency_ms, self.serial), (node, event));
    }

    fn info(&self, node: usize, to: usize) -> Arc<PeerInfo> {
        let told_head = self.nodes[to].machine.tip().header.header.number;
        let tip = self.nodes[node].machine.tip();
        let mut id = [0; 64];
        id[0] = node as u8;
        Arc::new(PeerInfo {
            id: NodeId(id),
            client: "cairn/sim".into(),
            eth: self.eth,
            status: Status {
                version: self.eth,
                network_id: 1,
                genesis: self.nodes[node].store.0[0].0,
                fork_id: ForkId {
                    hash: ForkHash([0; 4]),
                    next: 0,
                },
                td: (self.eth == 68).then_some(tip.td),
                head: tip.header.hash,
                earliest: (self.eth > 68).then_some(0),
                latest: (self.eth > 68).then_some(tip.header.header.number),
            },
            inbound: false,
            told_head,
        })
    }

    fn connect(&mut self, a: usize, b: usize) {
        self.serial += 2;
        let ends = [(a, PeerId(self.serial)), (b, PeerId(self.serial + 1))];
        let latency_ms = 1 + self.dice.below(100);
        self.links.push(Link { ends, latency_ms });
        for ((node, peer), (other, _)) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            let info = self.info(other, node);
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            self.input(node, NetEvent::Connected { peer, addr, info });
        }
    }

    /// Cuts every link between these nodes and the others.
    fn cut(&mut self, some: &[usize]) {
        let across = |link: &Link| some.contains(&link.ends[0].0) != some.contains(&link.ends[1].0);
        let cut: Vec<Link> = self.links.iter().copied().filter(across).collect();
        self.links.retain(|link| !across(link));
        for (node, peer) in cut.into_iter().flat_map(|link| link.ends) {
            self.input(
                node,
                NetEvent::Gone {
                    peer,
                    close: Close::Io("cut".into()),
                },
            );
        }
    }

    fn connect_all(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                let joined = |link: &Link| link.ends.map(|end| end.0) == [a, b];
                if !self.links.iter().any(joined) {
                    self.connect(a, b);
                }
            }
        }
    }

    fn input(&mut self, node: usize, event: NetEvent) {
        let (ms, s) = (self.now_ms, self.now_s());
        let Node { machine, store, .. } = &mut self.nodes[node];
        machine.handle_event(ms, s, event, store);
        self.carry_out(node);
    }

    fn carry_out(&mut self, node: usize) {
        while self.carry_out_some(node) {
            let (ms, s) = (self.now_ms, self.now_s());
            let Node { machine, store, .. } = &mut self.nodes[node];
            machine.handle_timeout(ms, s, store);
        }
    }

    /// What there is now, done at once. True if blocks were stored, which the machine waits for.
    fn carry_out_some(&mut self, node: usize) -> bool {
        let mut is_stored = false;
        while let Some(action) = self.nodes[node].machine.poll_action() {
            match action {
                Action::Commit { blocks, .. } => {
                    let Node {
                        machine,
                        store,
                        reorgs,
                        ..
                    } = &mut self.nodes[node];
                    machine.stored();
                    is_stored = true;
                    let first = usize::try_from(blocks[0].header.header.number).unwrap();
                    *reorgs += usize::from(first < store.0.len());
                    store.0.truncate(first);
                    for block in blocks {
                        assert_eq!(block.header.header.parent_hash, store.0.last().unwrap().0);
                        let raw = block.header.raw.clone();
                        store.0.push((block.header.hash, raw, block.body, block.td));
                    }
                }
                Action::Stage(_) => panic!("these branches fit into the memory"),
                Action::Keep { .. } => panic!("receipts are not wanted"),
                Action::Punish { peer, fault } => {
                    self.punished
                        .push(format!("node {node} punished {}: {fault}", peer.0));
                }
                Action::Send { peer, message } => self.send(node, peer, message),
            }
        }
        is_stored
    }

    fn send(&mut self, node: usize, peer: PeerId, message: OwnedOutgoing) {
        let Some(link) = self
            .links
            .iter()
            .copied()
            .find(|link| link.ends.contains(&(node, peer)))
        else {
            return;
        };
        let (other, as_peer) = link.ends[usize::from(link.ends[0] == (node, peer))];
        match message {
            OwnedOutgoing::Request { id, request } => {
                let message = answer(&self.nodes[other].store, id, &request);
                self.later(
                    2 * link.latency_ms,
                    node,
                    NetEvent::Message { peer, message },
                );
            }
            OwnedOutgoing::NewBlockHashes(hashes) => {
                let message = Message::NewBlockHashes(hashes);
                self.later(
                    link.latency_ms,
                    other,
                    NetEvent::Message {
                        peer: as_peer,
                        message,
                    },
                );
            }
            OwnedOutgoing::NewBlock { header, body, td } => {
                let message = Message::NewBlock { header, body, td };
                self.later(
                    link.latency_ms,
                    other,
                    NetEvent::Message {
                        peer: as_peer,
                        message,
                    },
                );
            }
            OwnedOutgoing::BlockRange {
                earliest,
                latest,
                latest_hash,
            } => {
                let message = Message::BlockRange {
                    earliest,
                    latest,
                    latest_hash,
                };
                self.later(
                    link.latency_ms,
                    other,
                    NetEvent::Message {
                        peer: as_peer,
                        message,
                    },
                );
            }
        }
    }

    /// Lets a signer seal if it may: in turn at once, out of turn after a random wait (as EIP-225 has it).
    fn seal(&mut self, node: usize) {
        let Some(place) = self.nodes[node].signer else {
            return;
        };
        let tip = self.nodes[node].machine.tip().clone();
        let time_s = self.now_s();
        if time_s < tip.header.header.timestamp + PERIOD_S
            || !self.nodes[node].machine.is_caught_up()
        {
            return;
        }
        let key = keys()[place];
        let snapshot = tip.clique.as_ref().unwrap();
        let number = tip.header.header.number + 1;
        let address = clique::address_of(&key);
        if snapshot.signed_recently(number, &address) {
            return;
        }
        let in_turn = snapshot.in_turn(number, &address);
        if !in_turn {
            match self.nodes[node].wait {
                Some((parent, until)) if parent == tip.header.hash => {
                    if self.now_ms < until {
                        return;
                    }
                }
                _ => {
                    let until = self.now_ms + 200 + self.dice.below(1_000);
                    self.nodes[node].wait = Some((tip.header.hash, until));
                    return;
                }
            }
        }
        let parent = SimBlock {
            header: tip.header.clone(),
            body: bytes::Bytes::new(),
            td: tip.td,
        };
        let block = seal_with(&key, in_turn, &parent, time_s, &mut self.dice);
        let sealed = SealedBlock {
            header: block.header.clone(),
            body: block.body.clone(),
        };
        let Node { machine, store, .. } = &mut self.nodes[node];
        machine.handle_sealed(self.now_ms, sealed, store);
        self.carry_out(node);
        assert_eq!(
            self.nodes[node].store.0.last().unwrap().0,
            block.header.hash
        );
    }

    fn run(&mut self, until_ms: u64, sealing: bool) {
        while self.now_ms < until_ms {
            let tick = self.now_ms - self.now_ms % 50 + 50;
            let event = self.events.first_key_value().map(|(&(ms, _), _)| ms);
            let timer = self
                .nodes
                .iter()
                .filter_map(|node| node.machine.deadline_ms())
                .min();
            let next = event.into_iter().chain(timer).fold(tick, u64::min);
            self.now_ms = self.now_ms.max(next);
            if event.is_some_and(|ms| ms <= self.now_ms) {
                let (_, (node, event)) = self.events.pop_first().unwrap();
                self.input(node, event);
                continue;
            }
            for node in 0..self.nodes.len() {
                let due = self.nodes[node].machine.deadline_ms();
                if due.is_some_and(|due| due <= self.now_ms) {
                    let (ms, s) = (self.now_ms, self.now_s());
                    let Node { machine, store, .. } = &mut self.nodes[node];
                    machine.handle_timeout(ms, s, store);
                    self.carry_out(node);
                }
                if sealing && self.now_ms == tick {
                    self.seal(node);
                }
            }
        }
    }

    fn heads(&self) -> Vec<(usize, B256)> {
        let head = |node: &Node| (node.store.0.len() - 1, node.store.0.last().unwrap().0);
        self.nodes.iter().map(head).collect()
    }
}

fn answer(store: &Store, id: u64, request: &Request) -> Message {
    let place = |hash: &B256| store.0.iter().position(|block| block.0 == *hash);
    match request {
        Request::Headers {
            start,
            amount,
            reverse,
            ..
        } => {
            let first = match start {
                Start::Number(number) => usize::try_from(*number).ok(),
                Start::Hash(hash) => place(hash),
            };
            let mut headers = Vec::new();
            let mut next = first;
            while let Some(block) = next.and_then(|at| store.0.get(at)) {
                if headers.len() as u64 == *amount {
                    break;
                }
                headers.push(block.1.clone());
                next = next.and_then(|at| {
                    if *reverse {
                        at.checked_sub(1)
                    } else {
                        Some(at + 1)
                    }
                });
            }
            Message::Headers { id, headers }
        }
        Request::Bodies { hashes } => {
            let bodies = hashes
                .iter()
                .filter_map(place)
                .map(|at| store.0[at].2.clone())
                .collect();
            Message::Bodies { id, bodies }
        }
        Request::Receipts { .. } | Request::BlockAccessLists { .. } => panic!("never asked for"),
    }
}

#[test]
fn a_network_that_was_cut_apart_agrees_again_and_seals_on() {
    for seed in 0..seeds(6) {
        for eth in [68, 69] {
            let mut dice = Dice::new(seed);
            let mut network = Network::new(seed, 3, 2, eth);
            network.connect_all();
            network.run(20_000, true);
            for _ in 0..3 {
                let some: Vec<usize> = (0..5).filter(|_| dice.once_in(2)).collect();
                network.cut(&some);
                network.run(network.now_ms + 3_000 + dice.below(12_000), true);
                network.connect_all();
                network.run(network.now_ms + dice.below(8_000), true);
            }
            let before = network.heads()[0].0;
            network.run(network.now_ms + 20_000, true);
            network.run(network.now_ms + 2_000, false);
            let heads = network.heads();
            assert!(
                heads.iter().all(|head| *head == heads[0]),
                "seed {seed} on {eth}: {heads:?}"
            );
            assert!(
                heads[0].0 > before + 5,
                "seed {seed} on {eth}: {before}, then {heads:?}"
            );
            assert!(
                network.punished.is_empty(),
                "seed {seed}: {:?}",
                network.punished
            );
        }
    }
}

#[test]
fn nodes_that_join_late_catch_up_and_follow_through_others() {
    let mut network = Network::new(7, 3, 3, 69);
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        network.connect(a, b);
    }
    network.run(60_000, true);
    // A chain of three: only the first sees a signer.
    for (a, b) in [(0, 3), (3, 4), (4, 5)] {
        network.connect(a, b);
    }
    network.run(75_000, true);
    network.run(77_000, false);
    let heads = network.heads();
    assert!(heads.iter().all(|head| *head == heads[0]), "{heads:?}");
    assert!(heads[0].0 >= 33 && network.punished.is_empty());
}
