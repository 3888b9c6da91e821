//! One run: the node, the remotes, the links between them and virtual time.

mod turns;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use cairn_net::eth::message::{Message, Request};
use cairn_net::reactor::PeerId;
use cairn_net::scores::Subject;
use cairn_net::session::{Config, Role, Session};

use super::disk::SimDisk;
use super::link::Link;
use super::node::{Clocks, Death, Node, Outside};
use super::remote::Remote;
use super::scenario::{Fault, Scenario, Turn};
use super::trace::Trace;
use super::watch::Watch;
use crate::chain::Genesis;
use crate::sync::sim::Dice;
use crate::sync::sim::chain::{RULES, STAKE_RULES, fill, genesis, stake_genesis};
use crate::sync::sim::peer::Nature;

/// A dial that fails is tried again after this time, then after twice as long, and so on: as the reactor does.
const REDIAL_MIN_MS: u64 = cairn_net::limits::REDIAL_MIN_MS;
const REDIAL_MAX_MS: u64 = cairn_net::limits::REDIAL_MAX_MS;
const SESSION_LASTED_MS: u64 = cairn_net::limits::SESSION_LASTED_MS;
/// A process that dies for want of room is started again this often.
const RESTART_FULL_MS: u64 = 1_000;
/// Steps of a run, at the most: more, and it spins.
const STEPS_MOST: u64 = 400_000;
/// The time after the end in which the head must stay.
const AFTER_MS: u64 = 2_000;

static SEALED: LazyLock<Arc<Genesis>> = LazyLock::new(|| Arc::new(genesis()));
static STAKED: LazyLock<Arc<Genesis>> = LazyLock::new(|| Arc::new(stake_genesis()));

/// What happens at a moment.
enum Event {
    Turn(usize, Turn),
    Dial(usize),
    /// A remote answers or announces on this connection.
    Say(usize, PeerId, Message),
    Fault(Fault),
    /// The process is started.
    Start,
    /// An armed kill's patience is over.
    Kill,
    Room,
    SetClock(i64),
    Wake,
}

/// What a run came to.
pub(super) struct Outcome {
    pub(super) trace: u64,
    /// How long after the quiet the right head was there, and how long that might have taken.
    pub(super) took_ms: u64,
    pub(super) bound_ms: u64,
    pub(super) watch: Watch,
}

pub(super) struct World {
    now_ms: u64,
    scenario: Scenario,
    node: Node,
    /// What the node's monotonic clock is behind the world's.
    lag_ms: u64,
    /// What its Unix clock is wrong by.
    wrong_s: i64,
    asleep: bool,
    links: BTreeMap<PeerId, Link>,
    remotes: Vec<Remote>,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
    next_peer: u64,
    dice: Dice,
    watch: Watch,
    trace: Trace,
}

impl World {
    /// The world of this scenario, the node's data in `dir`.
    pub(super) fn new(mut scenario: Scenario, dir: &Path, shown: bool) -> World {
        let (rules, genesis) = match scenario.is_sealed {
            true => (RULES.clone(), SEALED.clone()),
            false => (STAKE_RULES.clone(), STAKED.clone()),
        };
        let dir = dir.join("blocks");
        assert_eq!(genesis.header.hash, scenario.start[0].header.hash);
        fill(&dir, &scenario.start);
        let valid = scenario.chains.iter().flatten();
        let valid = valid
            .map(|block| (block.header.hash, block.clone()))
            .collect();
        let head = scenario.start.last().unwrap().header.hash;
        let watch = Watch::new(valid, head, scenario.is_sealed);
        let node = Node {
            dir,
            disk: SimDisk::default(),
            genesis,
            rules,
            config: scenario.config.clone(),
            session: Arc::new(Config::new(
                Node::key(),
                "cairn/sim".into(),
                30303,
                vec![70, 69, 68],
            )),
            bans: Vec::new(),
            commit_ms: scenario.commit_ms,
            kill_in: None,
            run: None,
        };
        let remotes = std::mem::take(&mut scenario.remotes);
        let mut world = World {
            now_ms: 0,
            node,
            lag_ms: 0,
            wrong_s: 0,
            asleep: false,
            links: BTreeMap::new(),
            remotes,
            events: BTreeMap::new(),
            serial: 0,
            next_peer: 1,
            dice: Dice::new(scenario.seed),
            watch,
            trace: Trace::new(shown),
            scenario,
        };
        world.at(0, Event::Start);
        for (at_ms, remote, turn) in std::mem::take(&mut world.scenario.turns) {
            world.at(at_ms, Event::Turn(remote, turn));
        }
        for (at_ms, fault) in std::mem::take(&mut world.scenario.faults) {
            world.at(at_ms, Event::Fault(fault));
        }
        world
    }

    fn at(&mut self, ms: u64, event: Event) {
        self.serial += 1;
        self.events
            .insert((ms.max(self.now_ms), self.serial), event);
    }

    fn later(&mut self, ms: u64, event: Event) {
        self.at(self.now_ms + ms, event);
    }

    fn clocks(&self) -> Clocks {
        let s = self.scenario.epoch_s + self.now_ms / 1000;
        Clocks {
            ms: self.now_ms.saturating_sub(self.lag_ms), // while it sleeps nobody looks
            s: s.saturating_add_signed(self.wrong_s),
        }
    }

    /// The node, and all that it touches.
    fn split(&mut self) -> (&mut Node, Outside<'_>) {
        let clocks = self.clocks();
        let out = Outside {
            now_ms: self.now_ms,
            clocks,
            links: &mut self.links,
            remotes: &self.remotes,
            watch: &mut self.watch,
            trace: &mut self.trace,
        };
        (&mut self.node, out)
    }

    /// Runs to the end: the right head, within the bound.
    pub(super) fn run(mut self, bound_ms: u64) -> Outcome {
        let quiet_ms = self.scenario.quiet_ms;
        let last_ms = quiet_ms + bound_ms;
        let mut steps = 0u64;
        while self.now_ms < quiet_ms || !self.is_done() {
            assert!(
                self.now_ms <= last_ms,
                "not there after {} ms: {}",
                self.now_ms,
                self.state()
            );
            steps += 1;
            assert!(
                steps < STEPS_MOST,
                "it spins at {} ms: {}",
                self.now_ms,
                self.state()
            );
            self.step();
        }
        let took_ms = self.now_ms - quiet_ms;
        let end_ms = self.now_ms + AFTER_MS;
        while self.now_ms < end_ms {
            self.step();
        }
        assert!(self.is_done(), "the head is left again: {}", self.state());
        self.watch.compare_files(&self.node.dir);
        Outcome {
            trace: self.trace.hash(),
            took_ms,
            bound_ms,
            watch: self.watch,
        }
    }

    fn is_done(&self) -> bool {
        let Some(run) = &self.node.run else {
            return false;
        };
        let is_head = run.writer.head().hash == self.scenario.head_hash();
        let wants_receipts = self.scenario.config.receipts;
        is_head && (!wants_receipts || Watch::has_receipts(&run.writer.reader().snapshot()))
    }

    fn state(&self) -> String {
        let Some(run) = &self.node.run else {
            return "the node is down".into();
        };
        let head = run.writer.head();
        let stored = run.writer.reader().snapshot();
        let without = (1..=head.number).find(|number| !stored.has_receipts(*number).unwrap());
        format!(
            "head {} {}, first without receipts {without:?}, expected {} {}; {:?}",
            head.number,
            head.hash,
            self.scenario.head.number(),
            self.scenario.head_hash(),
            run.machine.status()
        )
    }

    fn step(&mut self) {
        let mut next_ms = self.events.first_key_value().map(|(&(ms, _), _)| ms);
        let mut sooner = |ms: Option<u64>| next_ms = next_ms.into_iter().chain(ms).min();
        for remote in &self.remotes {
            let link = remote.open.as_ref().map(|open| &self.links[&open.link]);
            sooner(link.and_then(|link| remote.deadline_ms(link)));
        }
        if !self.asleep {
            sooner(
                self.node
                    .deadline_ms(self.now_ms, self.clocks(), &self.links),
            );
        }
        self.now_ms = self
            .now_ms
            .max(next_ms.expect("the node looks around now and then"));
        let now_ms = self.now_ms;
        while let Some(entry) = self
            .events
            .first_entry()
            .filter(|entry| entry.key().0 <= now_ms)
        {
            let event = entry.remove();
            self.happen(event);
        }
        self.remotes_turn();
        self.node_turn();
        self.links_turn();
    }

    fn remotes_turn(&mut self) {
        for index in 0..self.remotes.len() {
            let remote = &mut self.remotes[index];
            let Some((peer, since_ms)) =
                remote.open.as_ref().map(|open| (open.link, open.since_ms))
            else {
                continue;
            };
            let link = self.links.get_mut(&peer).unwrap();
            let turn = remote.turn(
                self.now_ms,
                link,
                &self.node.genesis,
                &self.watch.valid,
                &mut self.trace,
            );
            let think_ms = remote.think_ms + remote.sim.delay_ms();
            for (id, request) in turn.requests {
                if let Some(message) = self.answer(index, id, &request) {
                    let messages = [Some(message), self.remotes[index].sim.boast()];
                    for message in messages.into_iter().flatten() {
                        self.later(think_ms, Event::Say(index, peer, message));
                    }
                }
            }
            if turn.ended.is_some() {
                self.lost(index, since_ms);
            }
        }
    }

    fn answer(&mut self, index: usize, id: u64, request: &Request) -> Option<Message> {
        let sim = &mut self.remotes[index].sim;
        let answer = match sim.nature {
            Nature::Liar(lie) => lie.answer(sim, id, request, &mut self.dice),
            _ => Some(sim.answer(id, request)),
        };
        sim.answered += 1;
        answer
    }

    /// A remote has no connection any more: it is dialled again, or dials, after a while.
    fn lost(&mut self, index: usize, since_ms: u64) {
        let remote = &mut self.remotes[index];
        if self.now_ms - since_ms >= SESSION_LASTED_MS {
            remote.backoff_ms = 0;
        }
        self.redial(index);
    }

    fn redial(&mut self, index: usize) {
        let remote = &mut self.remotes[index];
        remote.backoff_ms = (remote.backoff_ms * 2).clamp(REDIAL_MIN_MS, REDIAL_MAX_MS);
        let wait_ms = remote.backoff_ms;
        self.later(wait_ms, Event::Dial(index));
    }

    fn node_turn(&mut self) {
        if self.asleep {
            return;
        }
        let (node, mut out) = self.split();
        let Err(death) = node.turn(&mut out) else {
            return;
        };
        let (kind, restart_ms) = match &death {
            Death::Killed => (0, self.scenario.restart_ms),
            Death::Store(cairn_store::Error::Full { .. }) => (1, RESTART_FULL_MS),
            Death::Store(cairn_store::Error::Io { .. }) => (2, self.scenario.restart_ms),
            Death::Store(error) => panic!("the store fails by itself: {error}"),
        };
        self.watch.deaths[kind] += 1;
        // Without the path, which differs from run to run.
        let why = ["killed", "its disk is full", "its disk fails"][kind];
        self.trace
            .step(self.now_ms, format_args!("node dies: {why}"));
        if self.node.disk.was_killed() {
            self.node.disk.set(None);
        }
        self.die(restart_ms);
    }

    fn die(&mut self, restart_ms: u64) {
        self.node.die(self.now_ms, &mut self.links);
        self.later(restart_ms, Event::Start);
    }

    /// Lets go of links that neither end has any more.
    fn links_turn(&mut self) {
        let remotes = &self.remotes;
        let node = &self.node;
        self.links.retain(|peer, link| {
            let open = remotes[link.remote].open.as_ref();
            open.is_some_and(|open| open.link == *peer) || node.has(*peer)
        });
    }

    fn dial(&mut self, index: usize) {
        let remote = &self.remotes[index];
        if remote.open.is_some() || !remote.is_present {
            return;
        }
        let now_s = self.clocks().s;
        let subject = |remote: &Remote| -> [Subject; 2] {
            let addr: IpAddr = remote.addr();
            [Subject::Id(remote.id), Subject::Address(addr)]
        };
        let is_banned = self.node.run.as_ref().is_some_and(|run| {
            subject(remote)
                .iter()
                .any(|subject| run.scores.banned_until_s(subject, now_s).is_some())
        });
        let is_up = self.node.run.is_some() && !self.asleep && remote.held_until_ms <= self.now_ms;
        if !is_up || is_banned {
            return self.redial(index);
        }
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        let mut seed = || {
            let mut seed = [0; 32];
            seed.chunks_mut(8)
                .for_each(|part| part.copy_from_slice(&self.dice.next().to_be_bytes()));
            seed
        };
        let (ours, theirs) = (seed(), seed());
        let remote = &mut self.remotes[index];
        let (our_role, their_role) = match remote.is_dialled {
            true => (Role::Initiator(remote.id), Role::Recipient),
            false => (Role::Recipient, Role::Initiator(self.node.session.id())),
        };
        let sim = &remote.sim;
        let (latency_ms, bytes_per_ms) = (sim.latency_ms, sim.bytes_per_ms);
        let mut link = Link::new(index, latency_ms, bytes_per_ms, remote.window_bytes);
        let session = remote.session(self.now_ms, their_role, theirs);
        remote.connect(self.now_ms, peer, &mut link, session, &mut self.dice);
        self.links.insert(peer, link);
        let clocks = self.clocks();
        let session = Session::new(self.node.session.clone(), our_role, ours, clocks.ms);
        self.node
            .connect(peer, &self.remotes[index], our_role, session);
        let what = format_args!("remote {index} connects as {} role {our_role:?}", peer.0);
        self.trace.step(self.now_ms, what);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn(index, turn) => self.remote_turn(index, turn),
            Event::Dial(index) => self.dial(index),
            Event::Say(index, peer, message) => {
                if let Some(link) = self.links.get_mut(&peer) {
                    self.remotes[index].say(self.now_ms, peer, link, &message);
                }
            }
            Event::Start if self.asleep => self.later(RESTART_FULL_MS, Event::Start),
            Event::Start => self.start(),
            Event::Kill => {
                if self.node.run.is_some() && self.node.kill_in.is_some() {
                    self.trace.step(self.now_ms, format_args!("node is killed"));
                    self.watch.deaths[0] += 1;
                    self.die(self.scenario.restart_ms);
                }
            }
            Event::Room => self.node.disk.set(None),
            Event::SetClock(by_s) => {
                self.trace
                    .step(self.now_ms, format_args!("clock set by {by_s} s"));
                self.wrong_s += by_s;
            }
            Event::Wake => {
                self.trace.step(self.now_ms, format_args!("node wakes"));
                self.asleep = false;
            }
            Event::Fault(fault) => self.fault(fault),
        }
    }

    fn start(&mut self) {
        self.lag_ms = self.now_ms;
        let (node, mut out) = self.split();
        node.start(&mut out);
        for index in 0..self.remotes.len() {
            if self.remotes[index].is_dialled {
                let wait_ms = self.dice.below(50);
                self.later(wait_ms, Event::Dial(index));
            }
        }
    }
}
