//! Static nodes: dialled when due, again when lost.

use std::io;

use mio::Interest;
use mio::net::TcpStream;

use super::connection::{Connection, Dial, Entry, Name, State};
use super::{PeerId, Reactor, entropy, unix_s};
use crate::dial::Redial;
use crate::enode::{Enode, NodeId};
use crate::limits::{DIAL_TIMEOUT_MS, MAX_DIALS};
use crate::session::{Role, Session};

/// The static nodes and their schedules.
pub(super) struct Dialer {
    statics: Vec<Static>,
    seed: u64,
    /// Dials whose TCP connection is not up yet.
    under_way: usize,
}

struct Static {
    enode: Enode,
    redial: Redial,
    /// Not to be dialled any more. It keeps its place: a connection knows it by that.
    is_removed: bool,
}

impl Dialer {
    pub(super) fn new(seed: u64) -> Dialer {
        Dialer {
            statics: Vec::new(),
            seed,
            under_way: 0,
        }
    }

    pub(super) fn add(&mut self, enode: Enode, now_ms: u64) {
        let is_same = |known: &&mut Static| {
            known.enode.id == enode.id && known.enode.tcp_addr() == enode.tcp_addr()
        };
        if let Some(known) = self.statics.iter_mut().find(is_same) {
            if std::mem::take(&mut known.is_removed) && !known.redial.is_under_way() {
                known.redial.restart(now_ms);
            }
            return;
        }
        // Any odd step gives each node another seed.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.statics.push(Static {
            enode,
            redial: Redial::new(enode.ip, self.seed, now_ms),
            is_removed: false,
        });
    }

    /// It is dialled no more, at whatever address.
    pub(super) fn remove(&mut self, id: &NodeId) {
        for known in self.statics.iter_mut().filter(|s| s.enode.id == *id) {
            known.is_removed = true;
        }
    }

    /// When the next dial is due, if there is room for one.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        if self.under_way >= MAX_DIALS {
            return None;
        }
        self.statics
            .iter()
            .filter(|node| !node.is_removed)
            .filter_map(|node| node.redial.due_ms())
            .min()
    }

    /// The dial or its session is over.
    pub(super) fn ended(&mut self, index: usize, now_ms: u64) {
        self.statics[index].redial.ended(now_ms);
    }
}

impl Reactor {
    /// Dials the static nodes that are due.
    pub(super) fn dial(&mut self) {
        let now_ms = self.now_ms();
        for index in 0..self.dialer.statics.len() {
            if self.dialer.under_way >= MAX_DIALS {
                return;
            }
            let Static {
                enode,
                redial,
                is_removed,
            } = &mut self.dialer.statics[index];
            if *is_removed || redial.due_ms().is_none_or(|due_ms| due_ms > now_ms) {
                continue;
            }
            let enode = *enode;
            if !self.shared.book().may_dial(&enode, unix_s()) {
                redial.postpone(now_ms);
                continue;
            }
            redial.started();
            log::debug!("Dialling {}", Name(Some(enode.id), enode.tcp_addr()));
            if let Err(error) = self.start_dial(enode, index, now_ms) {
                self.dial_failed(enode, index, &error.to_string());
            }
        }
    }

    fn start_dial(&mut self, enode: Enode, index: usize, now_ms: u64) -> io::Result<()> {
        let addr = enode.tcp_addr();
        let mut stream = TcpStream::connect(addr)?;
        let token = self.slots.next_token();
        self.poll.registry().register(
            &mut stream,
            token,
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let peer = self.slots.next_peer();
        let deadline_ms = now_ms + DIAL_TIMEOUT_MS;
        self.slots.insert(
            peer,
            State::Dial(Dial {
                stream,
                addr,
                id: enode.id,
                index,
                deadline_ms,
            }),
        );
        self.slots.arm(peer, deadline_ms);
        self.dialer.under_way += 1;
        Ok(())
    }

    /// Looks whether the TCP connection is up; then its session begins.
    pub(super) fn dial_turn(&mut self, peer: PeerId, dial: Dial) {
        let now_ms = self.now_ms();
        let up = match dial.stream.take_error() {
            Ok(None) => match dial.stream.peer_addr() {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
                Err(error) => Err(error),
            },
            Ok(Some(error)) | Err(error) => Err(error),
        };
        let failure = match up {
            Ok(false) if now_ms < dial.deadline_ms => {
                let deadline_ms = dial.deadline_ms;
                self.slots.put_back(Entry {
                    peer,
                    armed_ms: u64::MAX,
                    is_queued: false,
                    state: State::Dial(dial),
                });
                self.slots.arm(peer, deadline_ms);
                return;
            }
            Ok(false) => "no answer".to_owned(),
            Err(error) => error.to_string(),
            Ok(true) => match dial.stream.set_nodelay(true).and_then(|()| entropy()) {
                Ok(seed) => {
                    self.dialer.under_way -= 1;
                    self.dialer.statics[dial.index].redial.reached(now_ms);
                    let session =
                        Session::new(self.session.clone(), Role::Initiator(dial.id), seed, now_ms);
                    let connection = Connection::new(dial.stream, session, dial.addr)
                        .dialled(dial.id, dial.index);
                    let state = State::Open(Box::new(connection));
                    self.slots.put_back(Entry {
                        peer,
                        armed_ms: u64::MAX,
                        is_queued: false,
                        state,
                    });
                    self.arm(peer);
                    self.slots.queue(peer);
                    return;
                }
                Err(error) => error.to_string(),
            },
        };
        self.dialer.under_way -= 1;
        self.slots.release(peer);
        let enode = self.dialer.statics[dial.index].enode;
        self.dial_failed(enode, dial.index, &failure);
    }

    fn dial_failed(&mut self, enode: Enode, index: usize, why: &str) {
        let now_ms = self.now_ms();
        self.dialer.ended(index, now_ms);
        let wait_ms = self.dialer.statics[index].redial.due_ms().unwrap_or(now_ms) - now_ms;
        let name = Name(Some(enode.id), enode.tcp_addr());
        log::info!("Dial failed {name}: {why}; again in {} s", Seconds(wait_ms));
    }
}

/// Milliseconds, printed as seconds.
pub(super) struct Seconds(pub(super) u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 100)
    }
}
