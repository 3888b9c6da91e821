//! Whole networks of machines that seal, serve and follow each other: real sync machines and real sealers, each with its own clock, its
//! own store and its own record of what it signed; cut apart, killed and started again.

mod answer;
mod storing;
mod watch;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use alloy_consensus::Header;
use alloy_eip2124::{ForkHash, ForkId};
use alloy_primitives::{Address, B256};
use bytes::Bytes;
use cairn_net::enode::NodeId;
use cairn_net::eth::message::Message;
use cairn_net::eth::status::Status;
use cairn_net::reactor::{NetEvent, OwnedOutgoing, PeerId};
use cairn_net::session::{Close, PeerInfo};
use secp256k1::SecretKey;

use self::answer::answer;
use self::storing::AtWork;
pub(super) use self::watch::Watch;
use super::Dice;
use super::chain::{GENESIS_S, genesis_of};
use super::world::Store;
use crate::chain::body::EMPTY_BODY;
use crate::chain::{Rules, SealedHeader, Tip, clique};
use crate::sealer::{Pace, Turns, unsealed};
use crate::sync::heads::Told;
use crate::sync::tasks::Tasks;
use crate::sync::{Machine, MachineConfig, SealedBlock};

/// As in `thread.rs`: a signer that was just started and has no peer yet gives its peers so long to show a better chain.
const FIRST_PEER_WAIT_MS: u64 = 5_000;
/// A connection that was lost is dialled again after this at the most.
const REDIAL_MS: u64 = 5_000;
/// The virtual time when a network begins, in Unix milliseconds.
const BEGIN_UNIX_MS: u64 = GENESIS_S * 1000;

/// A machine on the network: what a kill leaves, and what runs.
pub(super) struct Node {
    key: Option<SecretKey>,
    /// What is stored, and what is on its way there, as the machine sees it.
    store: Store,
    /// The stored head.
    tip: Tip,
    /// What it signed, by parent: as `signed.rs` keeps it.
    signed: BTreeMap<B256, Header>,
    /// How far its clock is from the right time.
    skew_ms: i64,
    /// When nothing that it signed with a wrong clock is of the future any more.
    right_at_ms: u64,
    run: Option<Run>,
    pub(super) reorgs: usize,
    pub(super) starts: usize,
}

struct Run {
    machine: Machine,
    turns: Option<Turns>,
    started_ms: u64,
    /// What the sealer was told.
    told: Told,
    /// What the machine wants done, but requests.
    tasks: Tasks,
    /// What the store is at.
    at_work: Option<AtWork>,
}

/// What the nodes' disks take: each time as long as is drawn, up to this.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Disks {
    /// To store blocks.
    pub(super) commit_ms: u64,
    /// To keep what is signed, and to sign it.
    pub(super) sign_ms: u64,
}

/// A connection between two nodes, each with the id under which it knows the other.
#[derive(Clone, Copy)]
struct Link {
    ends: [(usize, PeerId); 2],
    latency_ms: u64,
}

enum Event {
    Net(usize, NetEvent),
    /// These two connect, if nothing is in the way.
    Dial(usize, usize),
    /// The sealer has signed, in the process that was started as the so manyth.
    Sealed(usize, usize, SealedBlock),
}

/// See the file's first line.
pub(super) struct Network {
    pub(super) now_ms: u64,
    pub(super) nodes: Vec<Node>,
    rules: Arc<Rules>,
    period_s: u64,
    links: Vec<Link>,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
    pub(super) dice: Dice,
    eth: u8,
    /// The part of the network that each node is in: only those of one part reach each other.
    part: Vec<usize>,
    /// A node that signs is killed before anybody gets what it signed, once in so many times.
    pub(super) killed_signing: Option<u64>,
    pub(super) disks: Disks,
    pub(super) punished: Vec<String>,
    /// Every block that was offered, and its number, by signer and parent.
    pub(super) offered: BTreeMap<(Address, B256), (B256, u64)>,
}

impl Network {
    pub(super) fn new(seed: u64, signers: usize, others: usize, eth: u8, period_s: u64) -> Network {
        let keys = super::chain::keys_of(signers);
        let genesis = genesis_of(&keys, period_s, 30);
        let rules = Arc::new(Rules::new(&genesis));
        let first = (
            genesis.header.hash,
            genesis.header.raw.clone(),
            genesis.body.clone(),
            genesis.header.header.difficulty,
        );
        let node = |place: usize| Node {
            key: keys.get(place).copied(),
            store: Store(vec![first.clone()], 0, Cell::default(), BTreeMap::new()),
            tip: rules.genesis_tip(),
            signed: BTreeMap::new(),
            skew_ms: 0,
            right_at_ms: 0,
            run: None,
            reorgs: 0,
            starts: 0,
        };
        let count = signers + others;
        Network {
            now_ms: 1_000,
            nodes: (0..count).map(node).collect(),
            rules,
            period_s,
            links: Vec::new(),
            events: BTreeMap::new(),
            serial: 1,
            dice: Dice::new(seed),
            eth,
            part: vec![0; count],
            killed_signing: None,
            disks: Disks::default(),
            punished: Vec::new(),
            offered: BTreeMap::new(),
        }
    }

    fn unix_ms(&self, node: usize) -> u64 {
        (BEGIN_UNIX_MS + self.now_ms).saturating_add_signed(self.nodes[node].skew_ms)
    }

    fn clocks(&self, node: usize) -> (u64, u64) {
        (self.now_ms, self.unix_ms(node) / 1000)
    }

    fn at(&mut self, ms: u64, event: Event) {
        self.serial += 1;
        self.events.insert((ms, self.serial), event);
    }

    fn later(&mut self, latency_ms: u64, node: usize, event: NetEvent) {
        self.at(self.now_ms + latency_ms, Event::Net(node, event));
    }

    /// Starts a node on what it has stored.
    pub(super) fn start(&mut self, node: usize) {
        let (rules, now_ms, period_s) = (self.rules.clone(), self.now_ms, self.period_s);
        let it = &mut self.nodes[node];
        if it.run.is_some() {
            return;
        }
        it.starts += 1;
        let turns = it.key.as_ref().map(|key| {
            Turns::new(Pace {
                signer: clique::address_of(key),
                pace_s: period_s,
            })
        });
        it.run = Some(Run {
            machine: Machine::new(rules, it.tip.clone(), MachineConfig::default()),
            turns,
            started_ms: now_ms,
            told: Told::default(),
            tasks: Tasks::default(),
            at_work: None,
        });
        self.carry_out(node);
        self.dial_all();
    }

    /// Kills it: what it stored and what it signed is left.
    pub(super) fn kill(&mut self, node: usize) {
        let is_lost = self.dice.once_in(2);
        let it = &mut self.nodes[node];
        if let Some(at_work) = it.run.take().and_then(|run| run.at_work) {
            it.end_commit(at_work, is_lost);
        }
        self.cut_where(|[a, b]| a == node || b == node);
    }

    pub(super) fn is_running(&self, node: usize) -> bool {
        self.nodes[node].run.is_some()
    }

    /// Only those of one part reach each other from now on; `part` gives each node's.
    pub(super) fn part(&mut self, part: Vec<usize>) {
        self.part = part;
        let part = self.part.clone();
        self.cut_where(|[a, b]| part[a] != part[b]);
        self.dial_all();
    }

    fn cut_where(&mut self, is_cut: impl Fn([usize; 2]) -> bool) {
        let is_cut = |link: &Link| is_cut(link.ends.map(|end| end.0));
        let cut: Vec<Link> = self.links.iter().copied().filter(is_cut).collect();
        self.links.retain(|link| !is_cut(link));
        for (node, peer) in cut.into_iter().flat_map(|link| link.ends) {
            let close = Close::Io("cut".into());
            self.input(node, NetEvent::Gone { peer, close });
        }
    }

    fn dial_all(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                let wait_ms = self.dice.below(REDIAL_MS);
                self.at(self.now_ms + wait_ms, Event::Dial(b, a));
            }
        }
    }

    fn info(&self, node: usize, to: usize) -> Arc<PeerInfo> {
        let told_head = self.nodes[to].tip.header.header.number;
        let tip = &self.nodes[node].tip;
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

    fn dial(&mut self, a: usize, b: usize) {
        let joined = |link: &Link| link.ends.map(|end| end.0) == [a, b];
        let apart = self.part[a] != self.part[b];
        if apart || !self.is_running(a) || !self.is_running(b) || self.links.iter().any(joined) {
            return;
        }
        self.serial += 2;
        let ends = [(a, PeerId(self.serial)), (b, PeerId(self.serial + 1))];
        let latency_ms = 1 + self.dice.below(100);
        self.links.push(Link { ends, latency_ms });
        let told = [(ends[0], b, a), (ends[1], a, b)];
        let told = told.map(|((node, peer), from, to)| (node, peer, self.info(from, to)));
        for (node, peer, info) in told {
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            self.input(node, NetEvent::Connected { peer, addr, info });
        }
    }

    fn input(&mut self, node: usize, event: NetEvent) {
        let (ms, s) = self.clocks(node);
        let Node { run, store, .. } = &mut self.nodes[node];
        let Some(run) = run else { return };
        run.machine.handle_event(ms, s, event, store);
        self.carry_out(node);
    }

    /// Does what the machine wants done, and hands its head to the sealer, as `thread.rs` does.
    fn carry_out(&mut self, node: usize) {
        self.act(node);
        while self.store_turn(node) {
            self.act(node);
            let (ms, s) = self.clocks(node);
            let Node { run, store, .. } = &mut self.nodes[node];
            let Some(run) = run else { return };
            run.machine.handle_timeout(ms, s, store);
            self.act(node);
        }
        let (now_ms, unix_ms, draw) = (self.now_ms, self.unix_ms(node), self.dice.next());
        let Node { run, tip, .. } = &mut self.nodes[node];
        let Some(run) = run else { return };
        let Some(turns) = &mut run.turns else { return };
        let is_alone = run.machine.status().peers == 0;
        let waits = is_alone && now_ms - run.started_ms < FIRST_PEER_WAIT_MS;
        match run.told.news(&run.machine, tip, waits) {
            Some(Some(head)) => turns.handle_head(unix_ms, head, draw),
            Some(None) => turns.handle_behind(),
            None => {}
        }
    }

    fn send(&mut self, node: usize, peer: PeerId, message: OwnedOutgoing) {
        let link = self
            .links
            .iter()
            .copied()
            .find(|link| link.ends.contains(&(node, peer)));
        let Some(link) = link else { return };
        let (other, as_peer) = link.ends[usize::from(link.ends[0] == (node, peer))];
        let message = match message {
            OwnedOutgoing::Request { id, request } => {
                let message = answer(&self.nodes[other].store, id, &request);
                let event = NetEvent::Message { peer, message };
                return self.later(2 * link.latency_ms, node, event);
            }
            OwnedOutgoing::NewBlockHashes(hashes) => Message::NewBlockHashes(hashes),
            OwnedOutgoing::NewBlock { header, body, td } => Message::NewBlock { header, body, td },
            OwnedOutgoing::BlockRange {
                earliest,
                latest,
                latest_hash,
            } => Message::BlockRange {
                earliest,
                latest,
                latest_hash,
            },
        };
        let event = NetEvent::Message {
            peer: as_peer,
            message,
        };
        self.later(link.latency_ms, other, event);
    }

    /// Lets the sealer act, as `sealer::run` does it.
    fn seal(&mut self, node: usize) {
        let (unix_ms, draw) = (self.unix_ms(node), self.dice.next());
        let it = &mut self.nodes[node];
        let (Some(run), Some(key)) = (&mut it.run, it.key) else {
            return;
        };
        let Some(turns) = &mut run.turns else { return };
        let Some((parent, slot)) = turns.handle_timeout(unix_ms, draw) else {
            return;
        };
        // Here, where all happens one after the other, nobody signs who knows of anything better; a block out of turn beside our own in turn is
        // none.
        let head = &run.machine.tip().header;
        let is_on_head = head.hash == parent.header.hash
            || (slot.in_turn && head.header.parent_hash == parent.header.hash);
        assert!(
            run.machine.is_caught_up() && is_on_head,
            "node {node} seals block {} and knows of a better chain",
            parent.header.number() + 1
        );
        let make = || unsealed(&self.rules, &parent, slot, None);
        let header = it.signed.entry(parent.header.hash).or_insert_with(make);
        if unix_ms < header.timestamp * 1000 {
            turns.handle_unsigned(unix_ms, slot);
            return;
        }
        let mut header = header.clone();
        if self
            .killed_signing
            .is_some_and(|times| self.dice.once_in(times))
        {
            return self.kill(node);
        }
        clique::seal(&mut header, &key);
        let header = Arc::new(SealedHeader::from_header(header));
        let by = (clique::address_of(&key), parent.header.hash);
        let new = (header.hash, header.number());
        let one = *self.offered.entry(by).or_insert(new);
        assert_eq!(one, new, "two blocks of one signer over one parent");
        let body = Bytes::from_static(EMPTY_BODY);
        let starts = self.nodes[node].starts;
        let sign_ms = self.dice.below(self.disks.sign_ms + 1);
        let sealed = Event::Sealed(node, starts, SealedBlock { header, body });
        self.at(self.now_ms + sign_ms, sealed);
    }

    fn sealed(&mut self, node: usize, starts: usize, block: SealedBlock) {
        let it = &mut self.nodes[node];
        let Some(run) = &mut it.run else { return };
        if it.starts == starts {
            let store = &it.store;
            run.machine.handle_sealed(self.now_ms, block, store);
            self.carry_out(node);
        }
    }

    fn next_ms(&self) -> u64 {
        let event = self.events.first_key_value().map(|(&(ms, _), _)| ms);
        let timers = (0..self.nodes.len()).filter_map(|node| {
            let run = self.nodes[node].run.as_ref()?;
            let machine = run.machine.deadline_ms();
            let store = run.at_work.as_ref().map(|at_work| at_work.until_ms);
            let unix_ms = self.unix_ms(node);
            let turns = run.turns.as_ref().and_then(Turns::deadline_ms);
            let turns = turns.map(|at_ms| self.now_ms + at_ms.saturating_sub(unix_ms));
            machine.into_iter().chain(store).chain(turns).min()
        });
        let next = event.into_iter().chain(timers).min();
        next.unwrap_or(u64::MAX).max(self.now_ms)
    }

    pub(super) fn run(&mut self, until_ms: u64) {
        let mut steps = 0u64;
        loop {
            let next_ms = self.next_ms();
            if next_ms > until_ms {
                self.now_ms = until_ms;
                return;
            }
            steps += 1;
            assert!(steps < 10_000_000, "it spins at {next_ms} ms");
            self.now_ms = next_ms;
            while let Some(entry) = self
                .events
                .first_entry()
                .filter(|entry| entry.key().0 <= next_ms)
            {
                match entry.remove() {
                    Event::Net(node, event) => self.input(node, event),
                    Event::Dial(a, b) => self.dial(a, b),
                    Event::Sealed(node, starts, block) => self.sealed(node, starts, block),
                }
            }
            for node in 0..self.nodes.len() {
                let (ms, s) = self.clocks(node);
                let Node { run, store, .. } = &mut self.nodes[node];
                let Some(run) = run else { continue };
                if run.machine.deadline_ms().is_some_and(|due| due <= ms) {
                    run.machine.handle_timeout(ms, s, store);
                    self.carry_out(node);
                } else if run.at_work.as_ref().is_some_and(|it| it.until_ms <= ms) {
                    self.carry_out(node);
                }
                self.seal(node);
            }
        }
    }

    /// The highest head of the running nodes.
    pub(super) fn top(&self) -> u64 {
        let running = self.nodes.iter().filter(|node| node.run.is_some());
        running
            .map(|node| node.tip.header.header.number)
            .max()
            .unwrap_or(0)
    }

    /// The head's age, if this node says that it stands still.
    pub(super) fn overdue_s(&self, node: usize) -> Option<u64> {
        let machine = &self.nodes[node].run.as_ref()?.machine;
        machine.overdue_s(self.unix_ms(node) / 1000)
    }

    /// Whether all running nodes have the same blocks but for the last `but`.
    pub(super) fn agree(&self, but: usize) -> bool {
        let running: Vec<&Node> = self
            .nodes
            .iter()
            .filter(|node| node.run.is_some())
            .collect();
        let shortest = running.iter().map(|node| node.store.0.len()).min();
        let Some(last) = shortest.unwrap_or(0).checked_sub(but + 1) else {
            return true;
        };
        let first = running[0].store.0[last].0;
        running.iter().all(|node| node.store.0[last].0 == first)
    }

    /// The headers of a node's chain, without block 0.
    pub(super) fn chain(&self, node: usize) -> impl Iterator<Item = SealedHeader> {
        let blocks = self.nodes[node].store.0.iter().skip(1);
        blocks.map(|block| SealedHeader::decode(block.1.clone()).unwrap())
    }

    /// In words, for a run that failed.
    pub(super) fn state(&self) -> String {
        let node = |(place, node): (usize, &Node)| {
            let tip = &node.tip;
            format!(
                "\n  {place}: {} head {} td {} {} part {} skew {} ms caught up {:?}",
                if node.run.is_some() { "up" } else { "down" },
                tip.header.header.number,
                tip.td,
                tip.header.hash,
                self.part[place],
                node.skew_ms,
                node.run.as_ref().map(|run| run.machine.is_caught_up()),
            )
        };
        self.nodes.iter().enumerate().map(node).collect()
    }
}
