//! How the node is doing: the board that sync writes on and others read.

mod rate;
mod report;

use std::fmt;
use std::sync::Arc;

use alloy_primitives::{B256, U256};
use cairn_store::Snapshot as Stored;
use parking_lot::Mutex;

use crate::chain::clique::Snapshot;
use crate::chain::{Rules, Tip};
use crate::clock::unix_s;
use crate::sealer::{Own, OwnBoard};
use crate::standing::{self, LastBlocks, MissedBySigner, Standing};
use crate::sync::{Block, Falling, STALE_AFTER_START_MS, SyncStatus, still_after_s};
use rate::Rate;
pub use report::{Report, health_line};

/// The figures, shared: one thread writes, any may read.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Figures>>);

impl Board {
    /// A copy of the figures.
    pub fn read(&self) -> Figures {
        self.0.lock().clone()
    }

    /// Replaces the figures.
    pub fn write(&self, figures: Figures) {
        *self.0.lock() = figures;
    }
}

/// What sync is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nobody is connected, and this node does not seal.
    #[default]
    Alone,
    /// Headers are fetched from a trusted hash down to a block of ours.
    FallingHeaders,
    /// Headers are fetched, no bodies yet.
    Headers,
    /// Bodies are fetched.
    Bodies,
    /// There is nothing to catch up with.
    Following,
}

impl Phase {
    /// Whether there is something to catch up with.
    pub fn catches_up(self) -> bool {
        matches!(self, Phase::FallingHeaders | Phase::Headers | Phase::Bodies)
    }

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Alone => "alone",
            Phase::FallingHeaders => "falling_headers",
            Phase::Headers => "headers",
            Phase::Bodies => "bodies",
            Phase::Following => "following",
        }
    }
}

/// How far sync is.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// What it is at.
    pub phase: Phase,
    /// The head when the node started.
    pub started_at: u64,
    /// The head.
    pub number: u64,
    /// The last block that is stored: the head, or that of a branch on its way in.
    pub reached: u64,
    /// The head's hash.
    pub hash: B256,
    /// The total difficulty up to it.
    pub td: U256,
    /// The head's timestamp, in Unix seconds.
    pub timestamp_s: u64,
    /// The signers after it and their votes, on a clique chain.
    pub clique: Option<Arc<Snapshot>>,
    /// The highest number claimed, if it is above the head.
    pub target_number: Option<u64>,
    /// Headers verified and not yet stored.
    pub headers: u64,
    /// How many headers have come of those that fall from a trusted hash, while they do.
    pub falling: Option<Falling>,
    /// The first block that any peer with a better chain has, if all of them begin above the next one of ours.
    pub begins_above: Option<u64>,
    /// And so many come in a second, of late.
    pub headers_per_s: f64,
    /// Requests in flight.
    pub in_flight: usize,
    /// Blocks stored a second, of late.
    pub blocks_per_s: f64,
    /// Their bytes.
    pub bytes_per_s: f64,
    /// The head's age, if nothing is being caught up with and a newer one should be here: it is stale.
    pub overdue_s: Option<u64>,
    /// How long ago the node started, if its head is the one of then, on a clique chain, and so old that a newer one should be there: whether
    /// there is one it may not have had the time to hear.
    pub starting_s: Option<u64>,
    /// Connected peers.
    pub peers: usize,
    /// For how long nobody has been connected, after somebody was.
    pub alone_s: Option<u64>,
    /// For how long there has been something to catch up with.
    pub behind_s: Option<u64>,
    /// How the signers stand after the head, on a clique chain.
    pub standing: Option<Arc<Standing>>,
    /// The turns each has missed since the node started.
    pub missed: Arc<MissedBySigner>,
    /// What this node's own signer is at, if it has one.
    pub own: Option<Own>,
}

impl Figures {
    /// How long it takes to the target at this rate; while headers fall, until they have come.
    pub fn left_s(&self) -> Option<u64> {
        let (left, per_s) = match &self.falling {
            Some(falling) => (
                falling.all?.saturating_sub(falling.fetched),
                self.headers_per_s,
            ),
            None => {
                let left = self.target_number?.saturating_sub(self.reached);
                (left, self.blocks_per_s)
            }
        };
        (per_s > 0.0).then(|| (left as f64 / per_s).ceil() as u64)
    }
}

/// Writes the board: what the sync thread has stored, and how fast.
pub struct Writer {
    board: Board,
    started_at: u64,
    /// Blocks stored, and their bytes.
    blocks: Rate,
    bytes: Rate,
    /// Headers that fell, and how many had come when that was last looked at.
    headers: Rate,
    fell: u64,
    /// What the node's signer is at, if it seals, so that to be alone is nothing to wait for.
    own: Option<OwnBoard>,
    /// Since when there is something to catch up with.
    behind_since_ms: Option<u64>,
    /// When somebody was connected last.
    last_peer_ms: Option<u64>,
    /// Who sealed the last blocks.
    last: LastBlocks,
    standing: Option<Arc<Standing>>,
    /// The snapshot after the head that was told last.
    clique: Option<Arc<Snapshot>>,
    missed: Arc<MissedBySigner>,
    /// The Unix time at the start: turns missed before do not count.
    started_s: u64,
    /// Of a clique chain that has one.
    period_s: Option<u64>,
}

impl Writer {
    /// Writes on `board` from the stored head `tip` on, for a node with this signer.
    pub fn new(
        board: Board,
        rules: &Rules,
        tip: &Tip,
        stored: &Stored,
        own: Option<OwnBoard>,
    ) -> Writer {
        let last = match &tip.clique {
            Some(_) => LastBlocks::read(stored),
            None => LastBlocks::default(),
        };
        let period_s = rules.spec.clique.as_ref().map(|clique| clique.period_s);
        Writer::from_last(board, tip, last, own, period_s.filter(|s| *s > 0))
    }

    pub(crate) fn from_last(
        board: Board,
        tip: &Tip,
        last: LastBlocks,
        own: Option<OwnBoard>,
        period_s: Option<u64>,
    ) -> Writer {
        let mut writer = Writer {
            board,
            started_at: tip.header.header.number,
            blocks: Rate::default(),
            bytes: Rate::default(),
            headers: Rate::default(),
            fell: 0,
            own,
            behind_since_ms: None,
            last_peer_ms: None,
            last,
            standing: None,
            clique: None,
            missed: Arc::default(),
            started_s: unix_s(),
            period_s,
        };
        writer.set_signers(tip);
        writer.show(0, tip, &SyncStatus::default(), true, None);
        writer
    }

    /// These blocks have become the head's last ones.
    pub fn extended(&mut self, blocks: &[Block], tip: &Tip) {
        let Some(signers) = self.clique.clone().or_else(|| tip.clique.clone()) else {
            return;
        };
        if let Some(first) = blocks.first() {
            self.last.forget_from(first.header.number());
        }
        let own = self.own.as_ref().map(OwnBoard::read);
        let missed = Arc::make_mut(&mut self.missed);
        // What is further back than is looked is not worth the signer's finding out.
        for block in &blocks[blocks.len().saturating_sub(standing::LOOK_BACK)..] {
            if block.header.header.timestamp >= self.started_s {
                standing::count(missed, &block.header, &signers, &self.last, own.as_ref());
            }
            self.last.push(&block.header);
        }
        self.set_signers(tip);
    }

    /// Another branch has taken the place of blocks of ours.
    pub fn replaced(&mut self, stored: &Stored, tip: &Tip) {
        if tip.clique.is_some() {
            self.last.read_again(stored);
        }
        self.set_signers(tip);
    }

    fn set_signers(&mut self, tip: &Tip) {
        self.clique = tip.clique.clone();
        if let Some(snapshot) = &tip.clique {
            self.last.set_signers(snapshot);
            Arc::make_mut(&mut self.missed).retain(|signer, _| snapshot.is_signer(signer));
        }
        self.standing = None;
    }

    /// How the signers stand: made anew for each head, and when it is found to stand still.
    fn standing(&mut self, tip: &Tip, stands_still: bool) -> Option<Arc<Standing>> {
        let snapshot = tip.clique.as_ref()?;
        let is_so = |standing: &&Arc<Standing>| standing.stands_still == stands_still;
        if let Some(standing) = self.standing.as_ref().filter(is_so) {
            return Some(standing.clone());
        }
        let timestamp_s = tip.header.header.timestamp;
        let standing = Standing::new(snapshot, timestamp_s, &self.last, stands_still);
        self.standing = Some(Arc::new(standing));
        self.standing.clone()
    }

    /// How long ago the node started, if the head is still that of then and older than the rule for a stall allows.
    fn starting_s(&self, now_ms: u64, tip: &Tip) -> Option<u64> {
        let period_s = self.period_s.filter(|_| tip.clique.is_some())?;
        let number = tip.header.number();
        let took_s = self.last.took_s(number);
        let allowed_s = still_after_s(period_s, took_s);
        let age_s = unix_s().saturating_sub(tip.header.header.timestamp);
        // Sync says within this time that it stands still, or has a reason of its own not to.
        let said_ms = allowed_s
            .saturating_mul(1000)
            .max(STALE_AFTER_START_MS)
            .saturating_mul(2);
        let is_so = age_s > allowed_s && number == self.started_at && now_ms < said_ms;
        is_so.then_some(now_ms / 1000)
    }

    /// Blocks have been stored.
    pub fn stored(&mut self, now_ms: u64, blocks: u64, bytes: u64) {
        self.blocks.count(now_ms, blocks);
        self.bytes.count(now_ms, bytes);
    }

    /// Shows how things are. `overdue_s` is the head's age if a newer one should be here.
    pub fn show(
        &mut self,
        now_ms: u64,
        tip: &Tip,
        status: &SyncStatus,
        is_caught_up: bool,
        overdue_s: Option<u64>,
    ) -> Figures {
        let fell = status.falling.map_or(0, |falling| falling.fetched);
        let before = std::mem::replace(&mut self.fell, fell);
        self.headers.count(now_ms, fell.saturating_sub(before));
        // Past a clique chain's terminal total difficulty it is never caught up, and there is nothing to fetch.
        let is_idle =
            status.target_number.is_none() && status.headers == 0 && status.in_flight == 0;
        let phase = match status {
            _ if status.peers == 0 && self.own.is_none() => Phase::Alone,
            _ if is_caught_up || is_idle => Phase::Following,
            _ if status.falling.is_some() => Phase::FallingHeaders,
            _ if status.headers > 0 => Phase::Bodies,
            _ => Phase::Headers,
        };
        let behind_since_ms = match phase.catches_up() {
            true => Some(*self.behind_since_ms.get_or_insert(now_ms)),
            false => self.behind_since_ms.take().and(None),
        };
        let overdue_s = overdue_s.filter(|_| !phase.catches_up());
        let starting_s = self.starting_s(now_ms, tip).filter(|_| overdue_s.is_none());
        if status.peers > 0 {
            self.last_peer_ms = Some(now_ms);
        }
        let alone_ms = self.last_peer_ms.map(|at| now_ms.saturating_sub(at));
        let figures = Figures {
            phase,
            started_at: self.started_at,
            number: tip.header.header.number,
            reached: status.reached,
            hash: tip.header.hash,
            td: tip.td,
            timestamp_s: tip.header.header.timestamp,
            clique: tip.clique.clone(),
            target_number: status.target_number,
            headers: status.headers,
            falling: status.falling,
            begins_above: status.begins_above,
            headers_per_s: self.headers.per_s(now_ms),
            in_flight: status.in_flight,
            blocks_per_s: self.blocks.per_s(now_ms),
            bytes_per_s: self.bytes.per_s(now_ms),
            overdue_s,
            starting_s,
            peers: status.peers,
            alone_s: alone_ms.filter(|_| status.peers == 0).map(|ms| ms / 1000),
            behind_s: behind_since_ms.map(|at| now_ms.saturating_sub(at) / 1000),
            standing: self.standing(tip, overdue_s.is_some()),
            missed: self.missed.clone(),
            own: self.own.as_ref().map(OwnBoard::read),
        };
        self.board.write(figures.clone());
        figures
    }
}

/// Seconds, as people say them.
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s @ 0..60 => write!(f, "{s} s"),
            s @ 60..3600 => write!(f, "{} min {} s", s / 60, s % 60),
            s @ 3600..86_400 => write!(f, "{} h {} min", s / 3600, s / 60 % 60),
            s => write!(f, "{} d {} h", s / 86_400, s / 3600 % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Genesis;

    fn writer(seals: bool) -> Writer {
        Writer::from_last(
            Board::default(),
            &Rules::new(&Genesis::dev()).genesis_tip(),
            LastBlocks::default(),
            seals.then(OwnBoard::default),
            None,
        )
    }

    fn shown(writer: &mut Writer, now_ms: u64, target: Option<u64>) -> Figures {
        let tip = Rules::new(&Genesis::dev()).genesis_tip();
        let status = SyncStatus {
            reached: 0,
            target_number: target,
            headers: 1,
            falling: None,
            begins_above: None,
            in_flight: 2,
            peers: 1,
        };
        writer.show(now_ms, &tip, &status, target.is_none(), None)
    }

    #[test]
    fn the_rate_is_of_the_last_seconds_and_says_how_long_it_takes() {
        let mut writer = writer(false);
        for second in 0..30 {
            writer.stored(second * 1000 + 500, 100, 1_000_000);
        }
        let figures = shown(&mut writer, 29_999, Some(5_000));
        assert!((figures.blocks_per_s - 100.0).abs() < 1.0, "{figures:?}");
        assert!((figures.bytes_per_s - 1e6).abs() < 1e4, "{figures:?}");
        assert_eq!(figures.left_s(), Some(50));
        let later = shown(&mut writer, 60_000, Some(5_000));
        assert_eq!((later.blocks_per_s, later.left_s()), (0.0, None));
    }

    #[test]
    fn while_headers_fall_their_own_rate_says_how_long_it_takes() {
        let mut writer = writer(false);
        let tip = Rules::new(&Genesis::dev()).genesis_tip();
        let mut show = |now_ms: u64, falling: Option<(u64, Option<u64>)>| {
            let status = SyncStatus {
                target_number: Some(5_000),
                falling: falling.map(|(fetched, all)| Falling { fetched, all }),
                in_flight: 1,
                peers: 1,
                ..SyncStatus::default()
            };
            writer.show(now_ms, &tip, &status, false, None)
        };
        for second in 0..20 {
            show(second * 1000 + 500, Some((100 * (second + 1), Some(5_000))));
        }
        let figures = show(19_999, Some((2_000, Some(5_000))));
        assert_eq!(figures.phase, Phase::FallingHeaders);
        assert!((figures.headers_per_s - 100.0).abs() < 0.1, "{figures:?}");
        assert_eq!((figures.blocks_per_s, figures.left_s()), (0.0, Some(30)));
        // It hangs on a block below our head, nobody knows how far.
        let figures = show(19_999, Some((2_000, None)));
        assert_eq!(figures.left_s(), None);
        // They stand still, and say so.
        let figures = show(40_000, Some((2_000, Some(5_000))));
        assert_eq!((figures.headers_per_s, figures.left_s()), (0.0, None));
        // What was fetched counts once, also when something else falls later.
        let figures = show(41_000, None);
        assert_eq!(figures.phase, Phase::Headers);
        let figures = show(50_000, Some((300, Some(600))));
        assert!((figures.headers_per_s - 30.0).abs() < 4.0, "{figures:?}");
    }

    #[test]
    fn the_phase_says_what_is_waited_for() {
        let mut writer = writer(false);
        assert_eq!(shown(&mut writer, 0, Some(9)).phase, Phase::Bodies);
        assert_eq!(shown(&mut writer, 0, None).phase, Phase::Following);
        let tip = Rules::new(&Genesis::dev()).genesis_tip();
        let status = SyncStatus::default();
        writer.show(0, &tip, &status, true, None);
        assert_eq!(writer.board.read().phase, Phase::Alone);
        writer.own = Some(OwnBoard::default());
        writer.show(0, &tip, &status, true, None);
        assert_eq!(writer.board.read().phase, Phase::Following);
    }

    #[test]
    fn how_long_nobody_is_connected_counts_from_the_last_who_was() {
        let mut writer = writer(true);
        let tip = Rules::new(&Genesis::dev()).genesis_tip();
        let mut alone_s = |now_ms: u64, peers: usize| {
            let status = SyncStatus {
                peers,
                ..SyncStatus::default()
            };
            writer.show(now_ms, &tip, &status, true, None).alone_s
        };
        let of = [
            (5_000, 0),
            (6_000, 2),
            (9_000, 1),
            (9_500, 0),
            (14_000, 0),
            (15_000, 1),
        ];
        let shown = of.map(|(now_ms, peers)| alone_s(now_ms, peers));
        assert_eq!(shown, [None, None, None, Some(0), Some(5), None]);
    }

    #[test]
    fn who_has_just_started_on_an_old_head_says_so_until_one_has_come_or_it_stands_still() {
        let tip = Rules::new(&Genesis::dev()).genesis_tip(); // made years ago
        let mut writer = writer(false);
        let status = SyncStatus {
            peers: 1,
            ..SyncStatus::default()
        };
        let starting_s = |writer: &mut Writer, now_ms, overdue_s| {
            let figures = writer.show(now_ms, &tip, &status, true, overdue_s);
            figures.starting_s
        };
        assert_eq!(starting_s(&mut writer, 5_000, None), None, "no period");
        writer.period_s = Some(2);
        assert_eq!(starting_s(&mut writer, 5_000, None), Some(5));
        assert_eq!(starting_s(&mut writer, 60_500, None), Some(60));
        assert_eq!(starting_s(&mut writer, 61_000, Some(900)), None);
        let end_ms = 2 * STALE_AFTER_START_MS;
        assert_eq!(starting_s(&mut writer, end_ms, None), None);
        writer.period_s = Some(1 << 40);
        assert_eq!(starting_s(&mut writer, 5_000, None), None, "not old");
        writer.period_s = Some(2);
        writer.started_at = 7;
        assert_eq!(starting_s(&mut writer, 5_000, None), None, "another head");
    }
}
