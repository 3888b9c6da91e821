//! The virtual world around one machine: time, messages under way, and the store that it fills.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use alloy_primitives::{B256, U256, keccak256};
use bytes::Bytes;
use cairn_net::eth::message::Message;
use cairn_net::reactor::{NetEvent, OwnedOutgoing, PeerId};
use cairn_net::session::Close;

use super::Dice;
use super::chain::{Chain, GENESIS_S, SimBlock, receipts_of};
use super::peer::{Nature, SimPeer};
use crate::chain::receipts::{Form, Receipts};
use crate::chain::{Rules, SealedHeader};
use crate::sync::{Action, Block, ChainView, Fault, Found, Machine, MachineConfig, Staging};

/// The stored chain: what the machine commits, and nothing that is not right.
pub(super) struct Store(
    pub(super) Vec<(B256, Bytes, Bytes, U256)>,
    /// The lowest block that a branch may hang on.
    pub(super) u64,
    /// Headers read so far.
    pub(super) Cell<u64>,
    /// Receipts by number, with their block's hash.
    pub(super) BTreeMap<u64, (B256, Bytes)>,
);

impl Store {
    fn at(&self, number: u64) -> Option<&(B256, Bytes, Bytes, U256)> {
        self.0.get(usize::try_from(number).ok()?)
    }
}

impl ChainView for Store {
    fn header(&self, number: u64) -> Option<Bytes> {
        self.2.set(self.2.get() + 1);
        self.at(number).map(|block| block.1.clone())
    }
    fn hash(&self, number: u64) -> Option<B256> {
        self.at(number).map(|block| block.0)
    }
    fn td(&self, number: u64) -> Option<U256> {
        self.at(number).map(|block| block.3)
    }
    fn has_receipts(&self, number: u64) -> bool {
        let hash = self.hash(number);
        self.3.get(&number).is_some_and(|(of, _)| Some(*of) == hash)
    }
    fn lowest_fork(&self) -> u64 {
        self.1
    }
}

/// What happens at a moment.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Net(NetEvent),
    /// A peer (not us) gets a block, by its place, and tells of it if it is of the kind that does.
    Grow(PeerId, Arc<SimBlock>),
    Leave(PeerId),
    Return(PeerId),
}

pub(super) struct World {
    pub(super) now_ms: u64,
    /// Unix time at 0 ms.
    pub(super) epoch_s: u64,
    pub(super) machine: Machine,
    pub(super) store: Store,
    pub(super) peers: BTreeMap<PeerId, SimPeer>,
    pub(super) dice: Dice,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
    rules: Arc<Rules>,
    /// Every valid block there is.
    valid: BTreeSet<B256>,
    /// Every block that was ever stored: as in the real store, what comes with it a second time is passed over.
    ever: BTreeSet<B256>,
    pub(super) punished: Vec<(PeerId, Fault)>,
    pub(super) commits: Vec<(u64, usize, bool)>,
    pub(super) reorgs: usize,
    /// The branch that is on its way in, and the block it hangs on.
    pub(super) staged: Option<(u64, Vec<Block>)>,
    /// How often one was begun with.
    pub(super) stagings: usize,
    /// Announcements that the machine sent.
    pub(super) told: Vec<(PeerId, OwnedOutgoing)>,
    pub(super) requests: Vec<(PeerId, OwnedOutgoing)>,
    pub(super) most_memory: usize,
    pub(super) most_receipts: usize,
    trace: String,
    /// By how many blocks the Status that a newcomer has had is older than the head.
    pub(super) status_is_behind: u64,
}

impl World {
    /// A node that has the blocks of `chain` up to `number`.
    pub(super) fn new(
        seed: u64,
        rules: Arc<Rules>,
        chain: &Chain,
        number: u64,
        config: MachineConfig,
    ) -> World {
        let have = &chain[..=usize::try_from(number).unwrap()];
        let stored = have
            .iter()
            .map(|b| (b.header.hash, b.header.raw.clone(), b.body.clone(), b.td))
            .collect();
        let store = Store(stored, 0, Cell::default(), BTreeMap::new());
        let last = have.last().unwrap();
        let tip = match number {
            0 => rules.genesis_tip(),
            _ => rules
                .restore(number, last.td, None, &mut |number| store.header(number))
                .unwrap(),
        };
        assert_eq!(tip.header.hash, last.header.hash);
        World {
            now_ms: 0,
            epoch_s: GENESIS_S + 100_000,
            machine: Machine::new(rules.clone(), tip, config),
            store,
            peers: BTreeMap::new(),
            dice: Dice::new(seed),
            events: BTreeMap::new(),
            serial: 0,
            rules,
            valid: BTreeSet::new(),
            ever: have.iter().map(|block| block.header.hash).collect(),
            punished: Vec::new(),
            commits: Vec::new(),
            reorgs: 0,
            staged: None,
            stagings: 0,
            told: Vec::new(),
            requests: Vec::new(),
            most_memory: 0,
            most_receipts: 0,
            trace: String::new(),
            status_is_behind: 0,
        }
    }

    pub(super) fn now_s(&self) -> u64 {
        self.epoch_s + self.now_ms / 1000
    }

    pub(super) fn at(&mut self, ms: u64, event: Event) {
        self.serial += 1;
        self.events
            .insert((ms.max(self.now_ms), self.serial), event);
    }

    /// Blocks that may be stored.
    pub(super) fn allow(&mut self, chain: &Chain) {
        self.valid
            .extend(chain.iter().map(|block| block.header.hash));
    }

    /// The head that a Status of ours tells of now; less by what is stored while it is on its way.
    pub(super) fn told_head(&self) -> u64 {
        let number = self.machine.tip().header.header.number;
        number.saturating_sub(self.status_is_behind)
    }

    pub(super) fn join(&mut self, ms: u64, peer: SimPeer) {
        self.allow(&peer.chain.clone());
        let id = peer.id;
        self.peers.insert(id, peer);
        self.at(ms, Event::Return(id));
    }

    /// Runs until `done`, or to `until_ms`. True if done.
    pub(super) fn run(&mut self, until_ms: u64, done: impl Fn(&World) -> bool) -> bool {
        let mut steps = 0u64;
        loop {
            if done(self) {
                return true;
            }
            steps += 1;
            assert!(steps < 200_000, "the machine spins at {} ms", self.now_ms);
            let event = self.events.first_key_value().map(|(&(ms, _), _)| ms);
            let timer = self.machine.deadline_ms();
            let next = event.into_iter().chain(timer).min().unwrap_or(u64::MAX);
            if next > until_ms {
                self.now_ms = until_ms;
                return done(self);
            }
            self.now_ms = self.now_ms.max(next);
            if event == Some(next) {
                let (_, event) = self.events.pop_first().unwrap();
                self.happen(event);
            } else {
                let (ms, s) = (self.now_ms, self.now_s());
                self.machine.handle_timeout(ms, s, &self.store);
            }
            self.carry_out();
        }
    }

    fn net(&mut self, event: NetEvent) {
        let (ms, s) = (self.now_ms, self.now_s());
        self.machine.handle_event(ms, s, event, &self.store);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Net(event) => {
                let (NetEvent::Message { peer, .. }
                | NetEvent::Gone { peer, .. }
                | NetEvent::Connected { peer, .. }) = &event;
                if self.peers.get(peer).is_some_and(|peer| peer.connected) {
                    self.net(event);
                }
            }
            Event::Grow(id, block) => self.grow(id, &block),
            Event::Leave(id) => {
                if self.peers[&id].connected {
                    self.net(NetEvent::Gone {
                        peer: id,
                        close: Close::Io("gone".into()),
                    });
                    self.peers.get_mut(&id).unwrap().connected = false;
                }
            }
            Event::Return(id) => {
                // A connection's id is never used again: the same node comes back as another peer.
                let mut peer = self.peers[&id].clone();
                if peer.answered > 0 || peer.connected {
                    peer.id = PeerId(id.0 + 1000);
                }
                peer.connected = true;
                peer.busy_until_ms = 0;
                let (peer_id, info) = (peer.id, peer.info(self.told_head()));
                let flighty = peer.nature == Nature::Flighty;
                self.peers.insert(peer_id, peer);
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
                self.net(NetEvent::Connected {
                    peer: peer_id,
                    addr,
                    info,
                });
                if flighty {
                    let stay = 50 + self.dice.below(3_000);
                    self.at(self.now_ms + stay, Event::Leave(peer_id));
                    if peer_id.0 < 20_000 {
                        self.at(self.now_ms + stay + 500, Event::Return(peer_id));
                    }
                }
            }
        }
    }

    fn grow(&mut self, id: PeerId, block: &Arc<SimBlock>) {
        self.valid.insert(block.header.hash);
        let latency = {
            let peer = self.peers.get_mut(&id).unwrap();
            let number = usize::try_from(block.number()).unwrap();
            peer.chain.truncate(number);
            peer.chain.push(block.clone());
            peer.latency_ms
        };
        let peer = &self.peers[&id];
        if !peer.connected {
            return;
        }
        let (hash, number) = (block.header.hash, block.number());
        let message = match peer.client {
            "cairn" => Some(Message::NewBlock {
                header: block.header.raw.clone(),
                body: block.body.clone(),
                td: block.td,
            }),
            "hashes" => Some(Message::NewBlockHashes(vec![(hash, number)])),
            "ranges" => Some(Message::BlockRange {
                earliest: peer.earliest,
                latest: number,
                latest_hash: hash,
            }),
            _ => None,
        };
        if let Some(message) = message {
            self.at(
                self.now_ms + latency,
                Event::Net(NetEvent::Message { peer: id, message }),
            );
        }
    }

    /// Does what the machine wants done, and checks that it may be wanted.
    pub(super) fn carry_out(&mut self) {
        while self.carry_out_some() {
            let (ms, s) = (self.now_ms, self.now_s());
            self.machine.handle_timeout(ms, s, &self.store);
        }
    }

    /// What there is now, done at once. True if blocks were stored, which the machine waits for.
    fn carry_out_some(&mut self) -> bool {
        let mut is_stored = false;
        self.most_memory = self.most_memory.max(self.machine.memory_bytes());
        self.most_receipts = self.most_receipts.max(self.machine.receipt_bytes());
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Keep { receipts } => {
                    let _ = writeln!(self.trace, "{} keep {}", self.now_ms, receipts.len());
                    self.keep(&receipts);
                    self.machine.kept();
                    is_stored = true;
                }
                Action::Commit { blocks, tip, live } => {
                    let _ = writeln!(
                        self.trace,
                        "{} commit {} {live}",
                        self.now_ms, tip.header.hash
                    );
                    self.commit(&blocks, live);
                    self.machine.stored();
                    is_stored = true;
                    let last = self.store.0.last().unwrap();
                    assert_eq!((last.0, last.3), (tip.header.hash, tip.td));
                }
                Action::Stage(staging) => {
                    let _ = writeln!(self.trace, "{} {staging:?}", self.now_ms);
                    is_stored |= matches!(staging, Staging::Add { .. });
                    self.stage(staging);
                }
                Action::Punish { peer, fault } => {
                    let _ = writeln!(self.trace, "{} punish {} {fault}", self.now_ms, peer.0);
                    self.punished.push((peer, fault));
                    self.peers.get_mut(&peer).unwrap().connected = false;
                }
                Action::Send { peer, message } => {
                    let _ = writeln!(self.trace, "{} send {} {message:?}", self.now_ms, peer.0);
                    self.sent(peer, message);
                }
            }
        }
        is_stored
    }

    fn stage(&mut self, staging: Staging) {
        match staging {
            Staging::Begin { fork } => {
                assert!(self.staged.is_none() && fork < self.store.0.len() as u64);
                self.staged = Some((fork, Vec::new()));
                self.stagings += 1;
            }
            Staging::Add { blocks } => {
                self.staged.as_mut().unwrap().1.extend(blocks);
                self.machine.stored();
            }
            Staging::Publish { tip } => {
                let (fork, blocks) = self.staged.take().unwrap();
                assert_eq!(blocks[0].header.header.number, fork + 1);
                self.commit(&blocks, false);
                let last = self.store.0.last().unwrap();
                assert_eq!((last.0, last.3), (tip.header.hash, tip.td));
            }
            Staging::Leave => assert!(self.staged.take().is_some()),
        }
    }

    fn commit(&mut self, blocks: &[Block], live: bool) {
        assert!(
            self.staged.is_none(),
            "a branch on its way in is in the way of all else"
        );
        self.commits
            .push((blocks[0].header.header.number, blocks.len(), live));
        let old = self.store.0.last().unwrap().3;
        let first = usize::try_from(blocks[0].header.header.number).unwrap();
        if first < self.store.0.len() {
            self.reorgs += 1;
        }
        self.store.0.truncate(first);
        for block in blocks {
            let header = &block.header.header;
            let parent = self.store.0.last().unwrap();
            assert_eq!(
                header.number,
                self.store.0.len() as u64,
                "numbers rise by one"
            );
            assert_eq!(
                header.parent_hash, parent.0,
                "every block hangs on a stored one"
            );
            assert_eq!(keccak256(&block.header.raw), block.header.hash);
            assert!(
                self.valid.contains(&block.header.hash),
                "only valid blocks are stored"
            );
            self.rules.check_body(&block.header, &block.body).unwrap();
            assert_eq!(block.td, parent.3 + header.difficulty);
            let (hash, raw) = (block.header.hash, block.header.raw.clone());
            let is_new = self.ever.insert(hash);
            if let Some(receipts) = block.receipts.as_ref().filter(|_| is_new) {
                assert_eq!(**receipts, receipts_of(&block.body));
                self.store.3.insert(header.number, (hash, receipts.clone()));
            }
            self.store.0.push((hash, raw, block.body.clone(), block.td));
        }
        let new = self.store.0.last().unwrap().3;
        if self.rules.seal_is_checked() {
            assert!(new >= old, "the head never becomes lighter");
        }
    }

    fn keep(&mut self, found: &[Found]) {
        assert!(self.staged.is_none());
        assert!(found.windows(2).all(|pair| pair[0].number < pair[1].number));
        for Found {
            number,
            hash,
            receipts,
        } in found
        {
            if self.store.hash(*number) != Some(*hash) {
                continue; // replaced since
            }
            assert!(
                !self.store.has_receipts(*number),
                "what is stored is not wanted"
            );
            let (_, header, body, _) = self.store.at(*number).unwrap();
            let header = SealedHeader::decode(header.clone()).unwrap();
            let list = Receipts::decode(Form::Eth69, receipts).unwrap();
            self.rules.check_receipts(&header, &list).unwrap();
            assert_eq!(**receipts, receipts_of(body));
            self.store.3.insert(*number, (*hash, receipts.clone()));
        }
    }

    /// The first stored block from `first` on that is without receipts.
    pub(super) fn first_without_receipts(&self, first: u64) -> Option<u64> {
        (first..self.store.0.len() as u64).find(|number| !self.store.has_receipts(*number))
    }

    fn sent(&mut self, id: PeerId, message: OwnedOutgoing) {
        let OwnedOutgoing::Request {
            id: request_id,
            request,
        } = &message
        else {
            self.told.push((id, message));
            return;
        };
        self.requests.push((id, message.clone()));
        let mut dice = self.dice.clone();
        self.dice.next();
        let now_ms = self.now_ms;
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.connected) else {
            return;
        };
        let answer = match peer.nature {
            Nature::Liar(lie) => lie.answer(peer, *request_id, request, &mut dice),
            _ => Some(peer.answer(*request_id, request)),
        };
        peer.answered += 1;
        if let Some(message) = answer {
            let arrival = peer.arrival_ms(now_ms, &message);
            let messages = [Some(message), peer.boast()];
            for message in messages.into_iter().flatten() {
                self.at(arrival, Event::Net(NetEvent::Message { peer: id, message }));
            }
        }
    }

    pub(super) fn head(&self) -> B256 {
        self.store.0.last().unwrap().0
    }

    /// What tells two runs apart.
    pub(super) fn trace_hash(&self) -> B256 {
        keccak256(self.trace.as_bytes())
    }
}
