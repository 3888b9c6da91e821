//! What events lead to: peers that come and go, messages by their kind, and work that is given back.

use std::sync::Arc;

use cairn_net::eth::message::Message;
use cairn_net::p2p::DisconnectReason;
use cairn_net::reactor::PeerId;
use cairn_net::session::{Close, PeerInfo};

use super::boundary::{Action, ChainView, Now};
use super::branch::Branch;
use super::fault::Fault;
use super::machine::Machine;
use super::peers::{Asked, Peer, What};
use super::pipe::Pipe;
use crate::chain::SealedHeader;

impl Machine {
    /// A peer that may be asked.
    pub(super) fn connected(&mut self, now: Now, id: PeerId, info: Arc<PeerInfo>) {
        let is_untold = info.told_head < self.tip.header.header.number;
        let mut peer = Peer::new(info, now.ms, self.rules.genesis_td());
        if peer.head.hash == self.tip.header.hash {
            peer.head.number = Some(self.tip.header.header.number);
        }
        if self.peers.is_empty() {
            self.news_ms = now.ms;
        }
        // Our Status was said a while ago: of what was stored since, nobody has told this one.
        self.untold |= is_untold;
        self.peers.insert(id, peer);
        self.receipts_newcomer();
    }

    /// A peer's connection has ended.
    pub(super) fn gone(&mut self, now: Now, id: PeerId, close: &Close) {
        if let Close::Remote {
            reason: DisconnectReason::Subprotocol | DisconnectReason::ProtocolBreach,
        } = close
        {
            self.shies(now, id);
        }
        self.remove(id);
    }

    /// A peer's message.
    pub(super) fn message(
        &mut self,
        now: Now,
        peer: PeerId,
        message: Message,
        chain: &dyn ChainView,
    ) -> Result<(), Fault> {
        match message {
            Message::Headers { id, headers } => self.headers_answer(now, peer, id, headers, chain),
            Message::Bodies { id, bodies } => self.bodies_answer(now, peer, id, bodies, chain),
            Message::Receipts {
                id,
                blocks,
                last_is_cut,
            } => self.receipts_answer(now, peer, id, blocks, last_is_cut),
            Message::BlockAccessLists { id, .. } | Message::PooledTransactions { id } => {
                Err(Fault::UnaskedAnswer { id })
            }
            Message::NewBlock { header, body, td } => {
                self.new_block(now, peer, header, body, td, chain)
            }
            Message::NewBlockHashes(hashes) => self.new_block_hashes(peer, &hashes, chain),
            Message::BlockRange {
                earliest,
                latest,
                latest_hash,
            } => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.earliest = earliest;
                    peer.claim(latest, latest_hash, None);
                    peer.known.insert(latest_hash);
                }
                self.receipts_newcomer(); // it may have what was passed over
                Ok(())
            }
            Message::Request { .. } | Message::Ignored { .. } => Ok(()),
        }
    }

    /// Drops a peer for its fault; what it owed goes to the others.
    pub(super) fn punish(&mut self, id: PeerId, fault: Fault) {
        if self.peers.contains_key(&id) {
            self.remove(id);
            self.actions.push_back(Action::Punish { peer: id, fault });
        }
    }

    fn remove(&mut self, id: PeerId) {
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        for (_, asked) in peer.asked {
            self.release(asked);
        }
        self.live.forget_orphans_of(id);
        if self.branch.as_ref().is_some_and(|branch| branch.peer == id) {
            self.branch = None;
        }
    }

    /// Gives the work of a request that ended without an answer back.
    pub(super) fn release(&mut self, asked: Asked) {
        if asked.given_up {
            return;
        }
        match asked.what {
            What::Rising {
                epoch,
                first,
                count,
            } => {
                if let Some(pipe) = self.pipe(epoch) {
                    pipe.headers.give_back(first, count);
                }
            }
            What::Bodies { wanted } => {
                for header in &wanted {
                    self.release_body(header);
                }
            }
            What::Receipts { wanted, .. } => self.release_receipts(&wanted),
            What::FetchHeader { hash } => self.live.fetch_failed(&hash),
            What::FetchBody { header } => self.live.fetch_failed(&header.hash),
            What::Ancestor { .. } => self.branch = None,
            What::Falling { hash, .. } => {
                if let Some(target) = &mut self.target {
                    target.release(&hash);
                }
            }
            What::Head { .. } | What::Poll { .. } => {}
        }
    }

    /// The line of that epoch, unless it was given up.
    pub(super) fn pipe(&mut self, epoch: u64) -> Option<&mut Pipe> {
        if self.main.epoch == epoch {
            return Some(&mut self.main);
        }
        self.branch
            .as_mut()
            .and_then(Branch::pipe_mut)
            .filter(|pipe| pipe.epoch == epoch)
    }

    pub(super) fn release_body(&mut self, header: &SealedHeader) {
        self.main.bodies.release(header);
        if let Some(pipe) = self.branch.as_mut().and_then(Branch::pipe_mut) {
            pipe.bodies.release(header);
        }
    }
}
