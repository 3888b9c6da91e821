//! What the sync thread tells people: log lines, no more of them than can be read, and a bar on a terminal.

use std::time::{Duration, Instant};

use cairn_net::eth::message::{Message, Request};
use cairn_net::reactor::{NetEvent, OwnedOutgoing};

use super::boundary::{Falling, SyncStatus};
use super::missing::Missing;
use super::storing::Kept;
use crate::chain::SealedHeader;
use crate::clock::unix_s;
use crate::health::{Health, State};
use crate::logging::{elapsed, short};
use crate::progress::CatchUp;
use crate::status::{Figures, Span};

/// What takes no longer is no catch-up that is shown.
const SHORT_MS: u64 = 1_000;
/// In a catch-up a line comes this often at the most.
const LINE_INTERVAL_MS: u64 = 5_000;
/// What was asked of peers is told this often at the most.
const REQUESTED_LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Announcements told in the log in a second: a busy network makes a few.
const ANNOUNCED_LINES_PER_S: u32 = 10;
/// A head that stays stale is told of again after so long.
const STALE_LINE_INTERVAL_MS: u64 = 3_600_000;
/// And after so long if it is for another reason: peers may come and go.
const STALE_OTHER_INTERVAL_MS: u64 = 60_000;

/// What has been told, and what is to be told next.
#[derive(Default)]
pub(super) struct Told {
    asked: Asked,
    announced: Announced,
    stored: Stored,
    bar: CatchUp,
    /// That there are receipts which cannot be kept.
    receipts_refused: bool,
    /// When it was told that the head is stale, which, and of what that was a sign.
    stale: Option<(u64, u64, State)>,
    /// Since when there is something to catch up with.
    behind_since_ms: Option<u64>,
    /// The signers that are missing while the chain goes on.
    missing: Missing,
}

/// How blocks came to be stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Announced or sealed just now.
    Live,
    /// Caught up with.
    CaughtUp,
    /// As a part of a branch that is not our chain yet.
    Staged,
}

/// Blocks stored in catch-up since the last line.
#[derive(Default)]
struct Stored {
    blocks: usize,
    bytes: usize,
    took: Duration,
    line_ms: Option<u64>,
    last: Option<String>,
    /// They are those of a branch that is not our chain yet.
    is_staged: bool,
}

/// Announcements in the log, at most so many a second: any stranger can send them.
#[derive(Default)]
struct Announced {
    second: u64,
    lines: u32,
}

/// What was asked of peers since the last line in the log.
#[derive(Default)]
struct Asked {
    headers: u64,
    bodies: u64,
    receipts: u64,
    last_line: Option<Instant>,
}

impl Told {
    /// Tells of an announcement. Of connecting and leaving the net thread has told, with the peer's name.
    pub(super) fn announced(&mut self, event: &NetEvent, now_ms: u64) {
        let NetEvent::Message { peer, message } = event else {
            return;
        };
        let what = match message {
            Message::NewBlock { header, .. } => {
                format!("block hash={}", short(&alloy_primitives::keccak256(header)))
            }
            Message::NewBlockHashes(hashes) => match hashes.last() {
                Some((hash, number)) => format!(
                    "hashes count={} number={number} hash={}",
                    hashes.len(),
                    short(hash)
                ),
                None => return,
            },
            Message::BlockRange {
                latest,
                latest_hash,
                ..
            } => format!("range latest={latest} hash={}", short(latest_hash)),
            _ => return,
        };
        let (second, announced) = (now_ms / 1000, &mut self.announced);
        if announced.second != second {
            (announced.second, announced.lines) = (second, 0);
        }
        announced.lines += 1;
        if announced.lines <= ANNOUNCED_LINES_PER_S {
            log::info!("Announced {what} peer={}", peer.0);
        }
    }

    /// Counts what is asked; gives 1 for an announcement of a block.
    pub(super) fn sent(&mut self, message: &OwnedOutgoing) -> u64 {
        let request = match message {
            OwnedOutgoing::Request { request, .. } => request,
            OwnedOutgoing::BlockRange { .. } => return 0,
            OwnedOutgoing::NewBlock { .. } | OwnedOutgoing::NewBlockHashes(_) => return 1,
        };
        match request {
            Request::Headers { amount, .. } => self.asked.headers += amount,
            Request::Bodies { hashes } => self.asked.bodies += hashes.len() as u64,
            Request::Receipts { hashes, .. } => self.asked.receipts += hashes.len() as u64,
            Request::BlockAccessLists { .. } => {}
        }
        0
    }

    /// Tells of what was asked.
    pub(super) fn requested(&mut self) {
        let Asked {
            headers,
            bodies,
            receipts,
            last_line,
        } = &self.asked;
        let is_due = last_line.is_none_or(|at| at.elapsed() >= REQUESTED_LINE_INTERVAL);
        if is_due && headers + bodies + receipts > 0 {
            log::info!("Requested headers={headers} bodies={bodies} receipts={receipts}");
            self.asked = Asked {
                last_line: Some(Instant::now()),
                ..Asked::default()
            };
        }
    }

    /// Tells of blocks (how many, and their bytes) that were stored: at once of live ones, of others now and then.
    pub(super) fn stored(
        &mut self,
        now_ms: u64,
        head: &SealedHeader,
        (blocks, bytes): (usize, usize),
        kind: Kind,
        took: Duration,
    ) {
        let is_staged = kind == Kind::Staged;
        if self.stored.is_staged != is_staged {
            self.tell_stored(now_ms, None);
        }
        let stored = &mut self.stored;
        stored.is_staged = is_staged;
        stored.blocks += blocks;
        stored.bytes += bytes;
        stored.took += took;
        stored.last = Some(format!(
            "number={} hash={}",
            head.header.number,
            short(&head.hash)
        ));
        if kind == Kind::Live {
            self.tell_stored(now_ms, None);
        }
    }

    fn tell_stored(&mut self, now_ms: u64, figures: Option<(&Figures, &SyncStatus)>) {
        let Some(last) = self.stored.last.take() else {
            return;
        };
        let Stored {
            blocks,
            bytes,
            took,
            ..
        } = self.stored;
        let took = elapsed(took);
        let rest = figures.map_or_else(String::new, |(figures, status)| told(figures, status));
        let what = match self.stored.is_staged {
            true => "Fetched a part of a branch",
            false => "Imported new chain segment",
        };
        log::info!("{what} {last} blocks={blocks} bytes={bytes} elapsed={took}{rest}");
        self.stored = Stored {
            line_ms: Some(now_ms),
            ..Stored::default()
        };
    }

    /// Shows how things are: the bar, the line that is due, whether the head is stale. Gives whether there is a catch-up of more than
    /// a moment.
    pub(super) fn show(&mut self, now_ms: u64, figures: &Figures, status: &SyncStatus) -> bool {
        let since_ms = match figures.phase.catches_up() {
            true => Some(*self.behind_since_ms.get_or_insert(now_ms)),
            false => self.behind_since_ms.take().and(None),
        };
        // A block that was announced and is being fetched is no catch-up worth telling of.
        let is_catching_up = since_ms.is_some_and(|at| now_ms.saturating_sub(at) >= SHORT_MS);
        self.bar
            .show(is_catching_up.then_some(figures), status.peers);
        let line_ms = *self.stored.line_ms.get_or_insert(now_ms);
        let is_due = now_ms.saturating_sub(line_ms) >= LINE_INTERVAL_MS;
        if self.stored.last.is_some() && (is_due || !is_catching_up) {
            self.tell_stored(now_ms, Some((figures, status)));
        } else if is_due && is_catching_up {
            let headers = match &figures.falling {
                Some(Falling { fetched, all }) => {
                    let of = all.map_or_else(String::new, |all| format!(" of={all}"));
                    format!("{fetched}{of}")
                }
                None => figures.headers.to_string(),
            };
            log::info!(
                "Syncing phase={} number={} headers={headers}{}",
                figures.phase.name(),
                figures.reached,
                told(figures, status)
            );
            self.stored.line_ms = Some(now_ms);
        }
        match (figures.overdue_s, self.stale) {
            (Some(_), told) => {
                let health = Health::of(figures, unix_s());
                let is_due = told.is_none_or(|(at_ms, _, state)| {
                    let passed_ms = now_ms.saturating_sub(at_ms);
                    passed_ms >= STALE_LINE_INTERVAL_MS
                        || (state != health.state && passed_ms >= STALE_OTHER_INTERVAL_MS)
                });
                if is_due {
                    let Health { cause, advice, .. } = health;
                    let peers = status.peers;
                    log::warn!("The head is stale: {cause}. {advice} peers={peers}");
                    self.stale = Some((now_ms, figures.number, health.state));
                }
            }
            // One that is caught up with is not fresh yet.
            (None, Some((_, number, _))) if number != figures.number && !is_catching_up => {
                log::info!("The head is fresh again: number={}", figures.number);
                self.stale = None;
            }
            _ => {}
        }
        if let Some(standing) = figures.standing.as_deref().filter(|_| !is_catching_up) {
            let is_new = figures.number != figures.started_at;
            self.missing.show(standing, is_new, unix_s());
        }
        is_catching_up
    }

    /// Tells of receipts that were kept, or were not.
    pub(super) fn kept(&mut self, kept: &Kept, took: Duration) {
        match kept {
            Kept::None => {}
            Kept::Stored {
                first,
                last,
                blocks,
                bytes,
            } => log::info!(
                "Kept receipts first={first} last={last} blocks={blocks} bytes={bytes} elapsed={}",
                elapsed(took)
            ),
            // They are fetched again after a restart. So may be those of many blocks to come, which it is enough to warn of once.
            Kept::Refused { first, last, error } => {
                let level = match std::mem::replace(&mut self.receipts_refused, true) {
                    false => log::Level::Warn,
                    true => log::Level::Debug,
                };
                log::log!(
                    level,
                    "Receipts are not kept first={first} last={last}: {error}"
                );
            }
        }
    }
}

/// How far a catch-up is, as the end of a line.
fn told(figures: &Figures, status: &SyncStatus) -> String {
    let target = figures
        .target_number
        .map_or_else(String::new, |target| format!(" target={target}"));
    let pace = match (&figures.falling, figures.target_number) {
        (Some(_), _) => format!(" headers_per_s={:.0}", figures.headers_per_s),
        (None, Some(_)) => format!(
            " blocks_per_s={:.0} mb_per_s={:.1}",
            figures.blocks_per_s,
            figures.bytes_per_s / 1e6
        ),
        (None, None) => String::new(),
    };
    let left = figures
        .left_s()
        .map_or_else(String::new, |left_s| format!(" left=\"{}\"", Span(left_s)));
    format!("{target} peers={}{pace}{left}", status.peers)
}
