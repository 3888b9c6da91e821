//! What a seed means: the chains there are, who has which, how far and how slow everybody is, what goes wrong when, and within which
//! time the node must have the right head all the same.

use std::fmt;
use std::sync::Arc;

use alloy_primitives::B256;

use super::disk::Trouble;
use super::link::Cut;
use super::remote::{Remote, Wire};
use crate::sync::MachineConfig;
use crate::sync::limits::RECEIPTS_REWIND_MS;
use crate::sync::sim::Dice;
use crate::sync::sim::chain::{CHAIN, Chain, GENESIS_S, PERIOD_S, STAKE, SimBlock, grow, seal};
use crate::sync::sim::liars::Lie;
use crate::sync::sim::peer::Nature;
use crate::sync::sim::runs::{config, peer};

/// An hour, for which a machine sleeps or its clock is wrong.
const HOUR_MS: u64 = 3_600_000;
/// Everything that goes wrong begins within this time: a catch-up with a short chain takes some seconds.
const FAULTS_WITHIN_MS: u64 = 6_000;

/// A kill that meets no action, and trouble of the disk that meets no change, are over after this time.
pub(super) const PATIENCE_MS: u64 = 3_000;

/// What goes wrong with the node or its network.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The process is killed after so many more actions of its machine, and started again later.
    Kill { actions: u64 },
    /// The disk makes trouble, and has room again after this time.
    Disk {
        trouble: Trouble,
        room_after_ms: u64,
    },
    /// Every connection is reset; nobody can be reached for so long.
    LoseAll { for_ms: u64 },
    /// Nothing goes between the node and these remotes for so long.
    Partition { remotes: Vec<usize>, for_ms: u64 },
    /// This remote's next connection, or the one it has, is cut.
    Cut { remote: usize, cut: Cut },
    /// The node's Unix clock leaps, and is set right after a time.
    Clock { by_s: i64, for_ms: u64 },
    /// The node's machine sleeps. Its monotonic clock goes on, or not.
    Suspend { for_ms: u64, clock_goes_on: bool },
}

/// What happens to the others.
#[derive(Clone, Debug)]
pub(super) enum Turn {
    Come,
    Leave,
    /// It gets a block in place of those from its number on.
    Grow(Arc<SimBlock>),
}

/// A whole run, before it begins.
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) is_sealed: bool,
    pub(super) config: MachineConfig,
    /// What the node has at first.
    pub(super) start: Chain,
    pub(super) remotes: Vec<Remote>,
    pub(super) turns: Vec<(u64, usize, Turn)>,
    pub(super) faults: Vec<(u64, Fault)>,
    pub(super) epoch_s: u64,
    pub(super) commit_ms: u64,
    pub(super) restart_ms: u64,
    /// The right head.
    pub(super) head: Arc<SimBlock>,
    /// From then on nothing goes wrong any more and the right head is to be had.
    pub(super) quiet_ms: u64,
    /// All valid blocks.
    pub(super) chains: Vec<Chain>,
}

impl Scenario {
    pub(super) fn draw(seed: u64) -> Scenario {
        let mut dice = Dice::new(seed ^ 0x0b5e_55ed);
        let is_sealed = !dice.once_in(8);
        let base: &Chain = if is_sealed { &CHAIN } else { &STAKE };
        let height = 30 + dice.below(120);
        let growth = if is_sealed { dice.below(10) } else { 0 };
        let top = height + growth;
        let main: Chain = base[..=usize::try_from(height).unwrap()].to_vec();
        let head = base[usize::try_from(top).unwrap()].clone();
        let mut scenario = Scenario {
            seed,
            is_sealed,
            config: config(),
            start: main[..=usize::try_from(dice.below(height / 2)).unwrap()].to_vec(),
            remotes: Vec::new(),
            turns: Vec::new(),
            faults: Vec::new(),
            epoch_s: GENESIS_S + 100_000,
            commit_ms: if dice.once_in(4) { dice.below(200) } else { 0 },
            restart_ms: 10 + dice.below(3_000),
            head: head.clone(),
            quiet_ms: 0,
            chains: vec![base[..=usize::try_from(top).unwrap()].to_vec()],
        };
        scenario.config.receipts = dice.once_in(5);
        if !is_sealed {
            scenario.config.sync_target = Some(head.header.hash);
        }
        if is_sealed && dice.once_in(4) {
            // It has sealed on its own, on a branch that is lighter than the chain.
            let at = height / 2 + dice.below(height / 4);
            scenario.start = scenario.branch(&main, at, 1 + dice.below(height - at), &mut dice);
        }
        scenario.draw_remotes(&main, &mut dice);
        scenario.draw_growth(base, height, growth, &mut dice);
        scenario.draw_faults(&mut dice);
        scenario
    }

    /// A branch that leaves `main` after block `at` and is lighter: fewer blocks, or the last one out of turn.
    fn branch(&mut self, main: &Chain, at: u64, blocks: u64, dice: &mut Dice) -> Chain {
        let top = main.len() as u64 - 1;
        let to = (at + blocks).min(top - 1);
        let mut chain = grow(main, at, to, dice.next());
        if to == top - 1 && dice.once_in(2) {
            let time_s = GENESIS_S + top * PERIOD_S;
            chain.push(seal(chain.last().unwrap(), time_s, false, dice));
        }
        self.chains.push(chain.clone());
        chain
    }

    fn draw_remotes(&mut self, main: &Chain, dice: &mut Dice) {
        let others = match dice.below(24) {
            0 => 15 + dice.below(20),
            _ => dice.below(9),
        };
        for id in 0..=others {
            let nature = match (id, dice.below(12)) {
                (0, _) | (_, 0 | 1) => Nature::Honest,
                (_, 2) => Nature::Flighty,
                (_, 3..=5) => Nature::Poor,
                _ => Nature::Liar(self.lie(dice)),
            };
            let eth = 68 + u8::try_from(dice.below(3)).unwrap();
            let mut sim = peer(id, nature, main, eth, dice);
            sim.client = match dice.below(4) {
                0 => "cairn",
                1 => "hashes",
                2 => "ranges",
                _ => "geth",
            };
            if id == 0 && self.config.receipts {
                // Of a peer that tells of no new block it is not known that it has the block's receipts.
                sim.client = "cairn";
            }
            if nature == Nature::Poor {
                let top = main.len() as u64 - 1;
                match dice.below(6) {
                    0 => sim
                        .chain
                        .truncate(1 + usize::try_from(dice.below(top)).unwrap()),
                    1 => sim.most = 1 + usize::try_from(dice.below(20)).unwrap(),
                    2 => sim.bytes_per_ms = 2,
                    3 => sim.earliest = dice.below(top),
                    4 => sim.receipts_from = dice.below(top),
                    _ if self.is_sealed => {
                        let at = dice.below(top);
                        sim.chain = self.branch(main, at, 1 + dice.below(20), dice);
                    }
                    _ => sim.latency_ms = 400,
                }
            }
            if matches!(nature, Nature::Liar(_)) && self.is_sealed && dice.once_in(4) {
                let at = dice.below(main.len() as u64 - 1);
                sim.chain = self.branch(main, at, 1 + dice.below(20), dice);
            }
            let mut remote = Remote::new(sim);
            if id > 0 && dice.once_in(10) {
                remote.wire = match dice.below(5) {
                    0 => Wire::Mute,
                    1 => Wire::Noise,
                    2 => Wire::OtherNetwork,
                    3 => Wire::Deaf,
                    _ => Wire::Spoilt(600 + dice.below(6_000)),
                };
            }
            remote.is_dialled = dice.once_in(2);
            remote.is_curious = dice.once_in(4);
            remote.think_ms = dice.below(20);
            if dice.once_in(6) {
                remote.window_bytes = 1_500 + usize::try_from(dice.below(8_000)).unwrap();
            }
            let come_ms = match dice.below(4) {
                0 => dice.below(8_000),
                _ => dice.below(300),
            };
            self.turn(come_ms, id, Turn::Come);
            if nature == Nature::Flighty || (id > 0 && dice.once_in(8)) {
                self.come_and_go(come_ms, id, dice);
            }
            self.remotes.push(remote);
        }
        // The one that is sure to have the chain may have been on another branch at first.
        if self.is_sealed && dice.once_in(6) {
            let top = main.len() as u64 - 1;
            let at = dice.below(top);
            self.remotes[0].sim.chain = self.branch(main, at, 1 + dice.below(20), dice);
            let at_ms = 500 + dice.below(5_000);
            for block in &main[usize::try_from(at + 1).unwrap()..] {
                self.turn(at_ms, 0, Turn::Grow(block.clone()));
            }
        }
    }

    fn lie(&self, dice: &mut Dice) -> Lie {
        let all = Lie::ALL.len() as u64;
        let on_receipts = match self.config.receipts {
            true => Lie::ON_RECEIPTS.len() as u64,
            false => 0,
        };
        let at = usize::try_from(dice.below(all + on_receipts)).unwrap();
        let lies = Lie::ALL.iter().chain(&Lie::ON_RECEIPTS);
        *lies.clone().nth(at).unwrap()
    }

    fn turn(&mut self, at_ms: u64, remote: u64, turn: Turn) {
        let remote = usize::try_from(remote).unwrap();
        self.turns.push((at_ms, remote, turn));
        self.quiet_ms = self.quiet_ms.max(at_ms);
    }

    fn come_and_go(&mut self, come_ms: u64, remote: u64, dice: &mut Dice) {
        let mut at_ms = come_ms;
        for _ in 0..1 + dice.below(5) {
            at_ms += 50 + dice.below(3_000);
            self.turn(at_ms, remote, Turn::Leave);
            at_ms += 500 + dice.below(2_000);
            self.turn(at_ms, remote, Turn::Come);
        }
    }

    /// The chain goes on while the node catches up with it, or after.
    fn draw_growth(&mut self, base: &Chain, height: u64, growth: u64, dice: &mut Dice) {
        if growth == 0 {
            return;
        }
        let from_ms = 500 + dice.below(8_000);
        let is_live = dice.once_in(2);
        let every_ms = match is_live {
            true => PERIOD_S * 1000,
            false => 100 + dice.below(1_500),
        };
        if is_live {
            self.epoch_s = GENESIS_S + (height + 1) * PERIOD_S - from_ms / 1000;
        }
        let at = |number: u64| usize::try_from(number).unwrap();
        let last = base[at(height)].header.hash;
        let moves_over = self.turns.iter().filter(|turn| turn.1 == 0);
        let moved_over_ms = moves_over.map(|turn| turn.0).max().unwrap_or(0) + 1;
        for id in 0..self.remotes.len() as u64 {
            let delay_ms = dice.below(50);
            if id > 0 && self.remotes[at(id)].sim.head().header.hash != last {
                continue;
            }
            for (n, block) in (0..).zip(&base[at(height + 1)..=at(height + growth)]) {
                let mut at_ms = from_ms + n * every_ms + delay_ms;
                if id == 0 {
                    at_ms = at_ms.max(moved_over_ms); // of one time they stay in order
                }
                self.turn(at_ms, id, Turn::Grow(block.clone()));
            }
        }
    }

    fn draw_faults(&mut self, dice: &mut Dice) {
        let count = match dice.below(4) {
            0 => 0,
            1 => 1,
            2 => 2,
            _ => 3 + dice.below(4),
        };
        for _ in 0..count {
            let at_ms = dice.below(FAULTS_WITHIN_MS);
            let some_ms = 100 + dice.below(9_000);
            let long_ms = if dice.once_in(3) { 45_000 } else { some_ms };
            let remote = usize::try_from(dice.below(self.remotes.len() as u64)).unwrap();
            let (fault, lasts_ms) = match dice.below(16) {
                0..=3 => (
                    Fault::Kill {
                        actions: dice.below(12),
                    },
                    PATIENCE_MS,
                ),
                4 | 5 => {
                    let trouble = Trouble::Kill {
                        changes: dice.below(40),
                    };
                    (self.disk(trouble, PATIENCE_MS), PATIENCE_MS)
                }
                6 | 7 => {
                    let room_bytes = dice.below(2 << 20);
                    (self.disk(Trouble::Full { room_bytes }, some_ms), some_ms)
                }
                8 => {
                    let trouble = Trouble::Fails {
                        changes: dice.below(40),
                    };
                    (self.disk(trouble, PATIENCE_MS), PATIENCE_MS)
                }
                9 => (Fault::LoseAll { for_ms: some_ms }, some_ms),
                10 | 11 => {
                    let all = 0..self.remotes.len();
                    let remotes = all.filter(|_| dice.once_in(2)).collect();
                    (
                        Fault::Partition {
                            remotes,
                            for_ms: long_ms,
                        },
                        long_ms,
                    )
                }
                12 | 13 => {
                    let cut = Cut {
                        at_bytes: dice.below(40_000),
                        silent: dice.once_in(3),
                    };
                    (Fault::Cut { remote, cut }, 0)
                }
                14 => {
                    let by_s = [-7_200, -60, 60, 7_200][usize::try_from(dice.below(4)).unwrap()];
                    (
                        Fault::Clock {
                            by_s,
                            for_ms: long_ms,
                        },
                        long_ms,
                    )
                }
                _ => {
                    let for_ms = if dice.once_in(2) { HOUR_MS } else { some_ms };
                    let clock_goes_on = dice.once_in(2);
                    (
                        Fault::Suspend {
                            for_ms,
                            clock_goes_on,
                        },
                        for_ms,
                    )
                }
            };
            self.quiet_ms = self.quiet_ms.max(at_ms + lasts_ms);
            self.faults.push((at_ms, fault));
        }
    }

    fn disk(&self, trouble: Trouble, room_after_ms: u64) -> Fault {
        Fault::Disk {
            trouble,
            room_after_ms,
        }
    }

    /// The time within which the node must have the right head, once nothing goes wrong any more.
    pub(super) fn bound_ms(&self) -> u64 {
        let limits = &self.config.limits;
        let anchor = &self.remotes[0].sim;
        // A lost connection is found by 30 s of silence, and dialled again after up to 30 s; it comes up in four round trips.
        let reconnect_ms = match self.faults.is_empty() {
            true => 2_000,
            false => 62_000,
        } + 8 * anchor.latency_ms;
        // Each liar may be asked for what comes next, one after the other, until it is found silent.
        let liars = self.remotes.iter().filter(|remote| !remote.is_honest());
        let liars_ms = limits.request_timeout_ms * liars.count() as u64;
        // Who announces nothing is asked in turn; and so everybody is for what was of the future, by a clock that was wrong.
        let poll_ms = limits.poll_ms * self.remotes.len() as u64;
        // What nobody had is asked for again after a while; receipts that were passed over, after a longer one.
        let stuck_ms = match self.config.receipts {
            true => RECEIPTS_REWIND_MS + 3 * limits.request_timeout_ms,
            false => limits.stuck_ms,
        };
        // The bytes and the round trips of it all, from the one that is sure to have it.
        let blocks = self.chains[0].len() as u64;
        let bytes: u64 = self.chains[0]
            .iter()
            .map(|block| 700 + block.body.len() as u64)
            .sum();
        let trips = 4 + blocks / limits.body_batch_min as u64 + blocks / limits.header_batch;
        let transfer_ms = bytes / anchor.bytes_per_ms
            + trips * (2 * anchor.latency_ms + self.remotes[0].think_ms + self.commit_ms);
        reconnect_ms + liars_ms + poll_ms + stuck_ms + transfer_ms + self.restart_ms
    }

    /// The hash of the right head.
    pub(super) fn head_hash(&self) -> B256 {
        self.head.header.hash
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.start.last().unwrap();
        writeln!(
            f,
            "seed {}: from block {} to {}, sealed={} receipts={} commit_ms={} quiet after {} ms, bound {} ms after that",
            self.seed,
            start.number(),
            self.head.number(),
            self.is_sealed,
            self.config.receipts,
            self.commit_ms,
            self.quiet_ms,
            self.bound_ms()
        )?;
        for remote in &self.remotes {
            let sim = &remote.sim;
            writeln!(
                f,
                "  remote {}: {:?} {:?} eth/{} {} head {} latency {} ms, {} bytes/ms, window {}, dialled={}",
                sim.id.0,
                sim.nature,
                remote.wire,
                sim.eth,
                sim.client,
                sim.head().number(),
                sim.latency_ms,
                sim.bytes_per_ms,
                remote.window_bytes,
                remote.is_dialled
            )?;
        }
        for (at_ms, fault) in &self.faults {
            writeln!(f, "  at {at_ms} ms: {fault:?}")?;
        }
        Ok(())
    }
}
