//! The net thread's side of the node: answers peers' requests straight from the mapped file, and hands all else to sync.

mod receipts;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use alloy_rlp::EMPTY_STRING_CODE;
use cairn_net::eth::message::{Request, Start};
use cairn_net::limits::{MAX_ITEMS, MAX_MESSAGE_BYTES, SOFT_ANSWER_BYTES};
use cairn_net::reactor::{NetEvent, Reply, Service};
use cairn_net::session::PeerInfo;
use cairn_store::{Reader, Snapshot};
use crossbeam_channel::{Sender, TrySendError};

/// Room that is left for an answer's list prefixes and its request id (5 + 5 + 9 bytes at the most).
const PREFIX_LIMIT_BYTES: usize = 32;
/// All items of an answer are no longer than this, for a message to hold them.
const ANSWER_LIMIT_BYTES: usize = MAX_MESSAGE_BYTES - PREFIX_LIMIT_BYTES;
/// Bodies and receipts that are smaller on average are compressed together: streams compressed apart would cost the link more
/// than compressing costs the processor (store.md: tiny bodies grow by 139 %).
const READY_BODY_FLOOR_BYTES: usize = 4096;
/// Served requests, and those that the store could not answer, are told in the log this often at the most.
const SERVED_LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Serves from a store's reader and forwards events.
pub struct Server {
    reader: Reader,
    events: Sender<NetEvent>,
    /// Set while the link to sync is full, so that sync knows to wake the net thread when there is room.
    stalled: Arc<AtomicBool>,
    served: Served,
    unreadable: Unreadable,
    /// Set when the store turned out damaged: the node stops with it, since serving on would hide it.
    damage: Option<cairn_store::Error>,
}

/// What was served since the last line in the log.
#[derive(Default)]
struct Served {
    headers: usize,
    bodies: usize,
    receipts: usize,
    requests: usize,
    last_line: Option<Instant>,
}

/// Requests that the store could not answer since the last line in the log.
#[derive(Default)]
struct Unreadable {
    requests: usize,
    last_line: Option<Instant>,
}

impl Server {
    /// A server of what `reader` sees, with the link to sync.
    pub fn new(reader: Reader, events: Sender<NetEvent>, stalled: Arc<AtomicBool>) -> Server {
        Server {
            reader,
            events,
            stalled,
            served: Served::default(),
            unreadable: Unreadable::default(),
            damage: None,
        }
    }

    /// The damage that was found while serving, if any.
    pub fn damage(&mut self) -> Option<cairn_store::Error> {
        self.damage.take()
    }

    /// Answers a request whatever the store has. Where it cannot be read, the peer gets what a node without those blocks would say.
    fn serve(&mut self, eth: u8, request: &Request, reply: &mut Reply<'_>) {
        use cairn_store::Error::{Io, Superseded};
        let mut answered = self.reply(eth, request, reply);
        if let Err(Superseded { .. }) = answered {
            // A commit replaced a file between the snapshot and the look into it: the next snapshot has its successor.
            answered = self.reply(eth, request, reply);
        }
        match answered {
            Ok(()) => return,
            // A sector that cannot be read, or no descriptor or memory for now: this request's alone, others may find what they ask for.
            Err(error @ (Io { .. } | Superseded { .. })) => self.unreadable.tell(&error),
            Err(error) => {
                log::error!("Cannot serve from the store: {error}");
                self.damage = Some(error);
            }
        }
        reply.empty();
    }

    /// An error comes before anything is sent.
    fn reply(
        &mut self,
        eth: u8,
        request: &Request,
        reply: &mut Reply<'_>,
    ) -> Result<(), cairn_store::Error> {
        let chain = self.reader.snapshot();
        match request {
            Request::Headers {
                start,
                amount,
                skip,
                reverse,
            } => {
                let amount = usize::try_from(*amount).map_or(MAX_ITEMS, |n| n.min(MAX_ITEMS));
                let first = match start {
                    Start::Number(number) => Some(*number),
                    Start::Hash(hash) => chain.number(hash)?,
                };
                self.served.headers += match first {
                    None => {
                        reply.headers(&[]);
                        0
                    }
                    Some(first) => headers(&chain, first, amount, *skip, *reverse, reply)?,
                };
            }
            Request::Bodies { hashes } => self.served.bodies += bodies(&chain, hashes, reply)?,
            Request::Receipts {
                hashes,
                first_index,
            } => {
                self.served.receipts += receipts::answer(&chain, eth, hashes, *first_index, reply)?;
            }
            // None is kept: no chain that is followed here has them yet (EIP-7928).
            Request::BlockAccessLists { hashes } => {
                reply.block_access_lists(&[&vec![EMPTY_STRING_CODE; hashes.len()]]);
            }
        }
        Ok(())
    }
}

impl Service for Server {
    fn answer(&mut self, peer: &PeerInfo, id: u64, request: &Request, reply: &mut Reply<'_>) {
        let before = (
            self.served.headers,
            self.served.bodies,
            self.served.receipts,
        );
        self.serve(peer.eth, request, reply);
        log::debug!(
            "Served peer={} id={id} {} headers={} bodies={} receipts={}",
            peer.id.short(),
            Short(request),
            self.served.headers - before.0,
            self.served.bodies - before.1,
            self.served.receipts - before.2
        );
        self.served.requests += 1;
        self.served.tell();
    }

    fn has_failed(&self) -> bool {
        self.damage.is_some()
    }

    fn offer(&mut self, event: NetEvent) -> Result<(), NetEvent> {
        self.served.tell();
        match self.events.try_send(event) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(event)) => {
                self.stalled.store(true, Ordering::SeqCst);
                // Room may have been made between the two: one more try, after the flag is up.
                self.events
                    .try_send(event)
                    .map_err(TrySendError::into_inner)
            }
            // Sync is gone, so the node is stopping: there is nobody to tell.
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }
}

impl Unreadable {
    /// Tells of one more, now and then.
    fn tell(&mut self, error: &cairn_store::Error) {
        self.requests += 1;
        let due = self
            .last_line
            .is_none_or(|at| at.elapsed() >= SERVED_LINE_INTERVAL);
        if due {
            log::error!(
                "Cannot serve from the store requests={}: {error}",
                self.requests
            );
            *self = Unreadable {
                requests: 0,
                last_line: Some(Instant::now()),
            };
        }
    }
}

impl Served {
    /// Tells what was served since the last line, now and then.
    fn tell(&mut self) {
        let due = self
            .last_line
            .is_none_or(|at| at.elapsed() >= SERVED_LINE_INTERVAL);
        if due && self.headers + self.bodies + self.receipts > 0 {
            log::info!(
                "Served requests={} headers={} bodies={} receipts={}",
                self.requests,
                self.headers,
                self.bodies,
                self.receipts
            );
            *self = Served {
                last_line: Some(Instant::now()),
                ..Served::default()
            };
        }
    }
}

/// Answers with at most `amount` headers from `first` on. A run of neighbours is one slice for each era it crosses.
fn headers(
    chain: &Snapshot,
    first: u64,
    amount: usize,
    skip: u64,
    reverse: bool,
    reply: &mut Reply<'_>,
) -> Result<usize, cairn_store::Error> {
    if skip == 0 && !reverse {
        let (count, runs) = chain.header_runs(first, amount)?;
        let runs: Vec<&[u8]> = runs.iter().map(|run| &**run).collect();
        reply.headers(&runs);
        return Ok(count);
    }
    let step = skip.checked_add(1);
    let mut records = Vec::new();
    let mut number = Some(first);
    while let Some(at) = number.filter(|_| records.len() < amount) {
        let Some(record) = chain.header(at)? else {
            break;
        };
        records.push(record);
        number = step.and_then(|step| {
            if reverse {
                at.checked_sub(step)
            } else {
                at.checked_add(step)
            }
        });
    }
    let items: Vec<&[u8]> = records.iter().map(|record| &**record).collect();
    reply.headers(&items);
    Ok(items.len())
}

/// Answers with the bodies of `hashes` that are known, in their order, until the soft limit.
fn bodies(
    chain: &Snapshot,
    hashes: &[B256],
    reply: &mut Reply<'_>,
) -> Result<usize, cairn_store::Error> {
    let mut numbers = Vec::new();
    let mut streams = Vec::new();
    let mut raw_len = 0;
    let mut next = None;
    for hash in hashes.iter().take(MAX_ITEMS) {
        let Some(number) = number_of(chain, hash, &mut next)? else {
            continue;
        };
        let Some(body) = chain.body_stream(number)? else {
            continue;
        };
        // One body more may be longer than the soft limit; together they must still be a message.
        if !streams.is_empty() && raw_len + body.raw_len > ANSWER_LIMIT_BYTES {
            break;
        }
        raw_len += body.raw_len;
        numbers.push(number);
        streams.push(body.stream);
        if raw_len >= SOFT_ANSWER_BYTES {
            break;
        }
    }
    if raw_len >= READY_BODY_FLOOR_BYTES * numbers.len() {
        let streams: Vec<&[u8]> = streams.iter().map(|stream| &**stream).collect();
        reply.ready_bodies(raw_len, &streams);
        return Ok(numbers.len());
    }
    let mut raw = Vec::with_capacity(raw_len);
    for number in &numbers {
        if let Some(body) = chain.body(*number)? {
            raw.extend_from_slice(&body);
        }
    }
    reply.bodies(&[&raw]);
    Ok(numbers.len())
}

/// The number of a block. Requests name blocks in a row: the one after the last is tried before the index.
fn number_of(
    chain: &Snapshot,
    hash: &B256,
    next: &mut Option<u64>,
) -> Result<Option<u64>, cairn_store::Error> {
    let number = match *next {
        Some(number) if chain.hash(number)? == Some(*hash) => Some(number),
        _ => chain.number(hash)?,
    };
    if let Some(number) = number {
        *next = number.checked_add(1);
    }
    Ok(number)
}

/// A request on one short line of a log: thousands of hashes are counted, not listed.
struct Short<'a>(&'a Request);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Request::Headers {
                start,
                amount,
                skip,
                reverse,
            } => write!(
                f,
                "GetBlockHeaders start={start:?} amount={amount} skip={skip} reverse={reverse}"
            ),
            Request::Bodies { hashes } => write!(f, "GetBlockBodies hashes={}", hashes.len()),
            Request::Receipts {
                hashes,
                first_index,
            } => write!(
                f,
                "GetReceipts hashes={} first_index={first_index}",
                hashes.len()
            ),
            Request::BlockAccessLists { hashes } => {
                write!(f, "GetBlockAccessLists hashes={}", hashes.len())
            }
        }
    }
}
