//! Which blocks are asked of whom, and what is made of the answers. Pure: no socket, no clock.
//!
//! First the headers, falling from the hash that is trusted, each named by the one above it; then the bodies, rising. It is a few answers, so
//! one peer is asked at a time, and the next one when it has none.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::U256;
use bytes::Bytes;
use cairn_net::eth::message::{Message, Request, Start};
use cairn_net::limits::MAX_ITEMS;
use cairn_net::reactor::PeerId;
use cairn_store::Head;

use super::Checkpoint;
use crate::chain::clique::Snapshot;
use crate::chain::{BodyError, HeaderError, Rules, SealedHeader, body};
use crate::era1::ERA_BLOCKS;
use crate::sync::{Block, Fault};

/// A short answer that takes longer will not come: as long as sync waits.
const ANSWER_MS: u64 = 15_000;
/// A peer that lacked what was asked is asked again after so long: it may be catching up itself.
const LACKED_MS: u64 = 5_000;
/// A peer that said nothing to so many requests is dropped, as sync does: its place is another's.
const SILENT_MOST: u32 = 2;
/// Fewer headers, of some 600 bytes, and fewer bodies are never asked for at once: or those who say nothing would have others give little.
const HEADERS_LEAST: usize = 64;
/// The same of bodies, of which an answer has 2 MiB at the most.
const BODIES_LEAST: usize = 8;
/// Signers at the most; no network has so many. It bounds the headers, and what each of them is long.
const SIGNERS_MOST: usize = 1024;
/// Headers that are held, of some 1.5 KB each where epochs are longer than a few blocks: down to the beginning of an era, and those that say
/// who sealed recently.
pub(super) const HEADERS_MOST: u64 = ERA_BLOCKS + SIGNERS_MOST as u64;

/// What is to be done now.
#[derive(Debug)]
pub(super) enum Next {
    /// Ask this of a peer.
    Ask {
        peer: PeerId,
        id: u64,
        request: Request,
    },
    /// Have the store begin above this block. Given once.
    Begin(Head),
    /// Store these blocks, which are the next. Not empty.
    Keep(Vec<Block>),
    /// Drop this peer, of which nothing more is heard here.
    Drop { peer: PeerId, fault: Fault },
    /// Nothing until something is heard, or until then.
    Wait { until_ms: Option<u64> },
    /// All is stored.
    Done,
}

/// Why an answer is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The peer lies.
    Peer(Fault),
    /// No peer can help: what is trusted, or what is stored, is not what it should be.
    Checkpoint(String),
}

/// The fetching of the blocks up to the checkpoint.
#[derive(Debug)]
pub(super) struct Fetch {
    rules: Arc<Rules>,
    checkpoint: Checkpoint,
    /// What is stored already; the genesis block, if nothing is.
    stored: Head,
    /// The lowest block that is needed, once the checkpoint's header has said how many signers there are.
    lowest: Option<u64>,
    /// Falling: those whose bodies are missing, or all so far.
    headers: Vec<Arc<SealedHeader>>,
    phase: Phase,
    /// The last block that is stored, or was given out to be.
    last: Head,
    peers: BTreeMap<PeerId, Asking>,
    asked: Option<Asked>,
    /// The last request's. It is also how often anybody was asked.
    last_id: u64,
    /// Items asked for at once: fewer where an answer did not come in time.
    at_once: usize,
}

#[derive(Debug)]
enum Phase {
    Headers,
    /// They are here; the store is to begin above this.
    Begins(Head),
    Bodies,
    /// These came, and are to be stored.
    Keeps(Vec<Block>),
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug, Default)]
struct Asking {
    /// How often it had nothing to give.
    failed: u32,
    /// How often it said nothing.
    silent: u32,
    not_before_ms: u64,
    /// The last request to it; of a newcomer the last one to anybody, so that it is not before those who wait.
    asked_id: u64,
}

/// The request in flight.
#[derive(Clone, Copy, Debug)]
struct Asked {
    peer: PeerId,
    id: u64,
    due_ms: u64,
}

impl Fetch {
    /// For a store that ends with `stored`: the genesis block, or the last block of a beginning that was cut short.
    pub(super) fn new(rules: Arc<Rules>, checkpoint: Checkpoint, stored: Head) -> Fetch {
        Fetch {
            rules,
            checkpoint,
            stored,
            lowest: None,
            headers: Vec::new(),
            phase: Phase::Headers,
            last: stored,
            peers: BTreeMap::new(),
            asked: None,
            last_id: 0,
            at_once: MAX_ITEMS,
        }
    }

    /// A peer is there.
    pub(super) fn connected(&mut self, peer: PeerId) {
        let failed = self.peers.values().map(|peer| peer.failed).min();
        let newcomer = Asking {
            failed: failed.unwrap_or(0),
            asked_id: self.last_id,
            ..Asking::default()
        };
        self.peers.insert(peer, newcomer);
    }

    /// It is gone.
    pub(super) fn gone(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
        self.asked = self.asked.filter(|asked| asked.peer != peer);
    }

    /// What is looked for.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// How many peers there are.
    pub(super) fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Whether all peers were asked for the checkpoint itself, and none has it.
    pub(super) fn is_unknown(&self) -> bool {
        let nothing = matches!(self.phase, Phase::Headers) && self.headers.is_empty();
        let all_lack = self.peers.values().all(|peer| peer.failed > 0);
        nothing && all_lack && !self.peers.is_empty()
    }

    /// How far it is, for the log.
    pub(super) fn reached(&self) -> String {
        let number = self.expected().0;
        match (&self.phase, self.lowest) {
            (Phase::Headers, None) => "headers=0".to_owned(),
            (Phase::Headers, Some(lowest)) => {
                let missing = (number + 1).saturating_sub(lowest);
                format!("headers={} missing={missing}", self.headers.len())
            }
            _ => format!("stored={} missing={}", self.last.number, self.headers.len()),
        }
    }

    /// What to do now. What is to be done is given once.
    pub(super) fn next(&mut self, now_ms: u64) -> Next {
        match std::mem::replace(&mut self.phase, Phase::Bodies) {
            Phase::Headers => self.phase = Phase::Headers,
            Phase::Bodies if self.headers.is_empty() => return Next::Done,
            Phase::Bodies => {}
            Phase::Begins(below) => return Next::Begin(below),
            Phase::Keeps(blocks) => return Next::Keep(blocks),
        }
        if let Some(asked) = self.asked {
            if now_ms < asked.due_ms {
                return Next::Wait {
                    until_ms: Some(asked.due_ms),
                };
            }
            if let Some(drop) = self.said_nothing(asked.peer, now_ms) {
                return drop;
            }
        }
        let ready = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.not_before_ms <= now_ms);
        // In turn, so that one that gives little costs only its turns.
        let order = |(id, peer): &(&PeerId, &Asking)| (peer.failed, peer.asked_id, **id);
        let Some(peer) = ready.min_by_key(order).map(|(id, _)| *id) else {
            return Next::Wait {
                until_ms: self.peers.values().map(|peer| peer.not_before_ms).min(),
            };
        };
        self.last_id += 1;
        let id = self.last_id;
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.asked_id = id;
        }
        self.asked = Some(Asked {
            peer,
            id,
            due_ms: now_ms.saturating_add(ANSWER_MS),
        });
        Next::Ask {
            peer,
            id,
            request: self.request(),
        }
    }

    /// Takes a message of a peer's at `now_ms`; what was not asked for is let go.
    ///
    /// # Errors
    /// `Wrong` says whose fault it is.
    pub(super) fn message(
        &mut self,
        peer: PeerId,
        message: Message,
        now_ms: u64,
    ) -> Result<(), Wrong> {
        let is_asked = |id| {
            self.asked
                .is_some_and(|asked| asked.peer == peer && asked.id == id)
        };
        let more = match (message, &self.phase) {
            (Message::Headers { id, headers }, Phase::Headers) if is_asked(id) => {
                self.take_headers(headers)?
            }
            (Message::Bodies { id, bodies }, Phase::Bodies) if is_asked(id) => {
                self.take_bodies(&bodies)?
            }
            _ => return Ok(()), // announcements, and answers that came too late
        };
        self.at_once = (2 * self.at_once).min(MAX_ITEMS);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.silent = 0;
        }
        match more {
            true => self.asked = None,
            false => self.lacked(peer, now_ms),
        }
        Ok(())
    }

    /// The peer did not answer in time: perhaps the answer was too long for its line.
    fn said_nothing(&mut self, id: PeerId, now_ms: u64) -> Option<Next> {
        let least = match self.phase {
            Phase::Headers => HEADERS_LEAST,
            _ => BODIES_LEAST,
        };
        self.at_once = (self.at_once / 2).max(least);
        self.lacked(id, now_ms);
        let peer = self.peers.get_mut(&id)?;
        peer.silent += 1;
        if peer.silent < SILENT_MOST {
            return None;
        }
        self.gone(id);
        let waited_ms = ANSWER_MS;
        Some(Next::Drop {
            peer: id,
            fault: Fault::Stalled { waited_ms },
        })
    }

    fn lacked(&mut self, peer: PeerId, now_ms: u64) {
        self.asked = None;
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.failed = peer.failed.saturating_add(1);
            peer.not_before_ms = now_ms.saturating_add(LACKED_MS);
        }
    }

    fn request(&self) -> Request {
        match self.phase {
            Phase::Headers => Request::Headers {
                start: Start::Hash(self.expected().1),
                amount: self.missing() as u64,
                skip: 0,
                reverse: true,
            },
            _ => Request::Bodies {
                hashes: self.wanted().map(|header| header.hash).collect(),
            },
        }
    }

    /// Number and hash of the next header, going down.
    fn expected(&self) -> (u64, alloy_primitives::B256) {
        match self.headers.last() {
            Some(above) => (above.header.number - 1, above.header.parent_hash),
            None => (self.checkpoint.number, self.checkpoint.hash),
        }
    }

    /// Headers that one answer may have.
    fn missing(&self) -> usize {
        match self.lowest {
            None => 1,
            Some(lowest) => {
                let missing = (self.expected().0 + 1).saturating_sub(lowest);
                usize::try_from(missing).map_or(self.at_once, |missing| missing.min(self.at_once))
            }
        }
    }

    /// Headers whose bodies one answer may have, rising.
    fn wanted(&self) -> impl Iterator<Item = &Arc<SealedHeader>> {
        self.headers.iter().rev().take(self.at_once)
    }

    /// Whether there were any.
    fn take_headers(&mut self, headers: Vec<Bytes>) -> Result<bool, Wrong> {
        let allowed = self.missing();
        if headers.len() > allowed {
            return Err(Wrong::Peer(Fault::TooManyItems {
                allowed,
                found: headers.len(),
            }));
        }
        let any = !headers.is_empty();
        for raw in headers {
            let (number, hash) = self.expected();
            let header = SealedHeader::decode(raw).map_err(|error| {
                Wrong::Peer(Fault::BadHeader {
                    number,
                    why: error.to_string(),
                })
            })?;
            if header.hash != hash {
                let why = format!("expected {hash}, found {}", header.hash);
                return Err(Wrong::Peer(Fault::WrongOrder { why }));
            }
            // The hash is the one that is trusted, or that a trusted header names: what it says is so.
            if header.header.number != number {
                return Err(Wrong::Checkpoint(format!(
                    "the block with the hash {hash} is block {}, not {number}",
                    header.header.number
                )));
            }
            if self.lowest.is_none() {
                self.lowest = Some(self.lowest_for(&header)?);
            }
            self.headers.push(Arc::new(header));
        }
        if self.lowest.is_some() && self.missing() == 0 {
            let below = self.below()?;
            self.check_snapshot()?;
            self.last = below;
            self.phase = match below == self.stored {
                true => Phase::Bodies,
                false => Phase::Begins(below),
            };
        }
        Ok(any)
    }

    /// The lowest block that is needed to begin at this one.
    fn lowest_for(&self, checkpoint: &SealedHeader) -> Result<u64, Wrong> {
        let snapshot = Snapshot::genesis(checkpoint)
            .map_err(|error| Wrong::Checkpoint(format!("it lists no signers: {error}")))?;
        let signers = snapshot.signers().len();
        if signers > SIGNERS_MOST {
            return Err(Wrong::Checkpoint(format!(
                "it lists {signers} signers, and at most {SIGNERS_MOST} are dealt with"
            )));
        }
        let number = checkpoint.header.number;
        // With the N/2 before it: who sealed one of them must wait.
        let needed = (number + 1).saturating_sub(snapshot.limit());
        let lowest = match self.stored.number {
            0 => (needed - needed % ERA_BLOCKS).max(1), // a store begins with an era
            stored => stored + 1,
        };
        match number - lowest < HEADERS_MOST {
            true => Ok(lowest),
            false => Err(Wrong::Checkpoint(format!(
                "the data folder ends with block {}, which is more than {HEADERS_MOST} blocks below it; give the checkpoint that it was to \
                 begin at, or a new --datadir",
                self.stored.number
            ))),
        }
    }

    /// What the lowest header hangs on.
    fn below(&self) -> Result<Head, Wrong> {
        let lowest = &self
            .headers
            .last()
            .expect("the checkpoint's is there")
            .header;
        let weights = self.headers.iter().map(|header| header.header.difficulty);
        let weight: U256 = weights.sum();
        let below = Head {
            number: lowest.number - 1, // the lowest is above the genesis block
            hash: lowest.parent_hash,
            td: self.checkpoint.td.checked_sub(weight).ok_or_else(|| {
                Wrong::Checkpoint(format!(
                    "the last blocks up to it weigh {weight}, more than the {} of the whole chain",
                    self.checkpoint.td
                ))
            })?,
        };
        if below.number != self.stored.number || below == self.stored {
            return Ok(below);
        }
        Err(Wrong::Checkpoint(match below.hash == self.stored.hash {
            true => format!(
                "by its total difficulty block {} would have {}, and it has {}",
                below.number, below.td, self.stored.td
            ),
            false => format!(
                "it leads down to {} as block {}, and in this data folder that is {}: it is of another chain",
                below.hash, below.number, self.stored.hash
            ),
        }))
    }

    /// What the node does at each start will succeed. Where some of the blocks are stored already it was seen to before.
    fn check_snapshot(&self) -> Result<(), Wrong> {
        let Checkpoint { number, td, .. } = self.checkpoint;
        let mut header = |at: u64| {
            let place = usize::try_from(number.checked_sub(at)?).ok()?;
            Some(self.headers.get(place)?.raw.clone())
        };
        match self.rules.restore(number, td, None, &mut header) {
            Ok(_) => Ok(()),
            Err(HeaderError::Missing { number }) if number <= self.stored.number => Ok(()),
            Err(error) => Err(Wrong::Checkpoint(error.to_string())),
        }
    }

    /// Whether there were any.
    fn take_bodies(&mut self, bodies: &[Bytes]) -> Result<bool, Wrong> {
        let allowed = self.wanted().count();
        if bodies.len() > allowed {
            return Err(Wrong::Peer(Fault::TooManyItems {
                allowed,
                found: bodies.len(),
            }));
        }
        let mut blocks = Vec::with_capacity(bodies.len());
        let mut wrong = None;
        for body in bodies {
            let header = self.headers.last().expect("no more came than are wanted");
            let number = header.header.number;
            match self.rules.check_body(header, body) {
                Ok(()) => {}
                Err(BodyError::Invalid(fault)) => {
                    let why = format!("block {number} below it is not valid: {fault}");
                    wrong = Some(Wrong::Checkpoint(why));
                    break;
                }
                // A peer may leave out what it lacks: then this is the body of one further up.
                Err(BodyError::NotOfHeader(_)) if self.is_of_another(body) => break,
                Err(error) => {
                    let why = error.to_string();
                    wrong = Some(Wrong::Peer(Fault::BadBody { number, why }));
                    break;
                }
            }
            let header = self.headers.pop().expect("it was there");
            self.last = Head {
                number,
                hash: header.hash,
                td: self.last.td + header.header.difficulty,
            };
            blocks.push(Block {
                header,
                body: body.clone(),
                receipts: None,
                td: self.last.td,
            });
        }
        let any = !blocks.is_empty();
        if any {
            self.phase = Phase::Keeps(blocks);
        }
        wrong.map_or(Ok(any), Err)
    }

    fn is_of_another(&self, body: &[u8]) -> bool {
        // Its roots are taken once, however many are wanted.
        body::roots(body).is_ok_and(|roots| self.wanted().any(|header| roots.are_of(header)))
    }
}
