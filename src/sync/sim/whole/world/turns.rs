//! What happens to a world: remotes come, leave and get blocks; things go wrong.

use std::sync::Arc;

use alloy_primitives::U256;
use bytes::Bytes;
use cairn_net::eth::message::Message;

use super::{Event, World};
use crate::chain::SealedHeader;
use crate::sync::sim::chain::SimBlock;
use crate::sync::sim::liars::Lie;
use crate::sync::sim::peer::Nature;
use crate::sync::sim::whole::link::{Cut, Side};
use crate::sync::sim::whole::scenario::{Fault, PATIENCE_MS, Turn};

impl World {
    pub(super) fn remote_turn(&mut self, index: usize, turn: Turn) {
        match turn {
            Turn::Come => {
                let remote = &mut self.remotes[index];
                remote.is_present = true;
                remote.backoff_ms = 0;
                self.later(0, Event::Dial(index));
            }
            Turn::Leave => {
                let remote = &mut self.remotes[index];
                remote.is_present = false;
                if let Some(open) = remote.open.take() {
                    self.trace
                        .step(self.now_ms, format_args!("remote {index} leaves"));
                    let link = self.links.get_mut(&open.link).unwrap();
                    link.close(self.now_ms, Side::Remote);
                }
            }
            Turn::Grow(block) => self.grow(index, &block),
        }
    }

    /// A remote gets a block, and tells of it in the way of its kind.
    fn grow(&mut self, index: usize, block: &Arc<SimBlock>) {
        let number = block.number();
        let remote = &mut self.remotes[index];
        remote.has_moved |= number < remote.sim.chain.len() as u64;
        let sim = &mut remote.sim;
        sim.chain.truncate(usize::try_from(number).unwrap());
        sim.chain.push(block.clone());
        let mut header = block.header.raw.clone();
        let mut body = block.body.clone();
        let (mut hash, mut td) = (block.header.hash, block.td);
        match sim.nature {
            Nature::Liar(Lie::BadSeal) => {
                let mut lie = block.header.header.clone();
                lie.state_root.0[0] ^= 1;
                header = SealedHeader::from_header(lie).raw;
            }
            Nature::Liar(Lie::CutBody | Lie::OtherBody) => {
                body = Bytes::from_static(&[0xc2, 0xc0, 0xc0]);
            }
            Nature::Liar(lie) if lie.boasts() => {
                hash.0[0] ^= 0xff;
                td += U256::from(100);
            }
            _ => {}
        }
        let message = match sim.client {
            "cairn" => Message::NewBlock { header, body, td },
            "hashes" => Message::NewBlockHashes(vec![(hash, number)]),
            "ranges" => Message::BlockRange {
                earliest: sim.earliest,
                latest: number,
                latest_hash: hash,
            },
            _ => return,
        };
        if let Some(peer) = self.remotes[index].open.as_ref().map(|open| open.link) {
            self.later(0, Event::Say(index, peer, message));
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.trace
            .step(self.now_ms, format_args!("fault {fault:?}"));
        let now_ms = self.now_ms;
        match fault {
            Fault::Kill { actions } => {
                self.node.kill_in = Some(actions);
                self.later(PATIENCE_MS, Event::Kill);
            }
            Fault::Disk {
                trouble,
                room_after_ms,
            } => {
                self.node.disk.set(Some(trouble));
                self.later(room_after_ms, Event::Room);
            }
            Fault::LoseAll { for_ms } => {
                for link in self.links.values_mut() {
                    link.reset(now_ms, false);
                }
                for remote in &mut self.remotes {
                    remote.held_until_ms = remote.held_until_ms.max(now_ms + for_ms);
                }
            }
            Fault::Partition { remotes, for_ms } => {
                let until_ms = now_ms + for_ms;
                for index in remotes {
                    let remote = &mut self.remotes[index];
                    remote.is_disturbed = true;
                    remote.held_until_ms = remote.held_until_ms.max(until_ms);
                    if let Some(open) = &remote.open {
                        self.links.get_mut(&open.link).unwrap().hold(until_ms);
                    }
                }
            }
            Fault::Cut { remote, cut } => {
                let remote = &mut self.remotes[remote];
                remote.is_disturbed |= cut.silent;
                let open = remote.open.as_ref();
                match open.and_then(|open| self.links.get_mut(&open.link)) {
                    Some(link) => {
                        let at_bytes = link.sent_bytes(Side::Remote) + cut.at_bytes;
                        link.cut = Some(Cut { at_bytes, ..cut });
                    }
                    None => remote.cuts.push_back(cut),
                }
            }
            Fault::Clock { by_s, for_ms } => {
                self.wrong_s += by_s;
                self.later(for_ms, Event::SetClock(-by_s));
            }
            Fault::Suspend {
                for_ms,
                clock_goes_on,
            } => {
                if !self.asleep {
                    self.asleep = true;
                    if !clock_goes_on {
                        self.lag_ms += for_ms; // looked at again only after it wakes
                    }
                    self.later(for_ms, Event::Wake);
                }
            }
        }
    }
}
