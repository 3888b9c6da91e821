//! Every limit of the sync machine, by name, with its reason.

/// What sync may hold and expect together, unless it is told otherwise: headers, bodies, receipts. The rest of a full node takes some
/// 10 MiB more.
pub const MEMORY_LIMIT_BYTES: usize = 32 << 20;

/// The limits that a test shrinks so that a short chain meets them all.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Headers in one request by number. Every client serves 512 (geth and reth up to 1024); checking one such
    /// answer's seals takes about 25 ms, so that bodies are asked for early.
    pub header_batch: u64,
    /// What a verified header takes in memory, its raw bytes and its clique snapshot with it. A quarter of the memory is for
    /// those ahead of the stored head.
    pub header_bytes: usize,
    /// Header requests in flight to one peer: one is answered while the next travels.
    pub headers_per_peer: usize,
    /// Body requests in flight to one peer: enough to keep a link busy over its round trip and while the store commits.
    pub bodies_per_peer: usize,
    /// Bodies in a peer's first request, which is the only one until it is answered: neither their size nor the peer's rate is known.
    pub body_batch_start: usize,
    /// Bodies in one request at the least. Smaller ones cost more in round trips than they gain.
    pub body_batch_min: usize,
    /// Bodies in one request at the most. No client answers more than 1024, and most stop at 2 MiB.
    pub body_batch_max: usize,
    /// What an answer should weigh: under the 2 MiB at which the other clients cut an answer.
    pub answer_bytes: usize,
    /// Stored blocks looked at ahead of the first one that is without its receipts: each header takes about 1 KiB.
    pub receipt_window: u64,
    /// Receipt requests in flight to one peer: one is answered while the next travels.
    pub receipts_per_peer: usize,
    /// Blocks in the first request for receipts, before their size is known.
    pub receipt_batch_start: usize,
    /// Blocks in one request for receipts at the most: they are asked for behind the bodies, which must not wait for long.
    pub receipt_batch_max: usize,
    /// A run of complete blocks of this size is stored, or of three eighths of the memory if that is less: a large append, and as
    /// much again on its way.
    pub commit_bytes: usize,
    /// A run of this many complete blocks is stored however small they are.
    pub commit_blocks: usize,
    /// Complete blocks do not wait longer than this for more to be stored with them: what a kill may cost.
    pub flush_ms: u64,
    /// A peer that owes an answer and has given none for so long has stalled: its ranges go to others.
    pub request_timeout_ms: u64,
    /// When the next block to be stored has been awaited for so long, an idle peer is asked for it too.
    pub urgent_ms: u64,
    /// Headers between two remembered hashes of a chain fetched falling, and headers in one such request: 32 bytes kept
    /// for each 1024, and no client answers more than 1024.
    pub anchor_every: u64,
    /// After this time without progress, and with nothing in flight, what the peers were known to lack is forgotten.
    pub stuck_ms: u64,
    /// A chain that stands still is polled no more often than this, or two clique periods if that is longer.
    pub poll_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_batch: 512,
            header_bytes: 2 << 10,
            headers_per_peer: 2,
            bodies_per_peer: 8,
            body_batch_start: 16,
            body_batch_min: 16,
            body_batch_max: 512,
            receipt_window: 1024,
            receipts_per_peer: 2,
            receipt_batch_start: 16,
            receipt_batch_max: 256,
            answer_bytes: 3 << 19,
            commit_bytes: 16 << 20,
            commit_blocks: 1024,
            flush_ms: 2_000,
            request_timeout_ms: 10_000,
            urgent_ms: 500,
            anchor_every: 1024,
            stuck_ms: 10_000,
            poll_ms: 15_000,
        }
    }
}

/// A better chain that is claimed, of which nothing old is verified or stored for so long, no longer keeps our sealer waiting:
/// three timeouts of a request, in which whoever has the chain has shown some of it.
pub(super) const CATCH_UP_PATIENCE_MS: u64 = 30_000;
/// The same in seconds, as blocks count them.
pub(super) const CATCH_UP_PATIENCE_S: u64 = CATCH_UP_PATIENCE_MS / 1000;
/// Timeouts in a row (that is, without eight good answers between) before a peer is dropped: one may be the line's fault.
pub(super) const STALLS_ALLOWED: u32 = 2;
/// What a peer that stalled is taken to bring, until it shows otherwise.
pub(super) const SLOW_BYTES_PER_S: u64 = 8 << 10;
/// A peer that is so slow that its part is not even one body is asked for one no more often than this.
pub(super) const SLOW_AGAIN_MS: u64 = 5_000;
/// When the machine is called so much later than it asked for, the time in between is not counted against the peers.
pub(super) const PAUSE_MS: u64 = 1_000;
/// A peer that has just connected is not polled: test suites read the very next message.
pub(super) const POLL_AFTER_MS: u64 = 5_000;
/// Good answers that make up for a stall.
pub(super) const STALL_FORGIVEN_AFTER: u32 = 8;
/// Claims of a better chain that came to nothing before a peer is dropped as useless.
pub(super) const EMPTY_CLAIMS_ALLOWED: u32 = 8;
/// One of them is forgiven after so long: where signers disagree about the last block, honest peers have left what they claimed.
pub(super) const EMPTY_CLAIM_MS: u64 = 10_000;
/// Requests open with one peer, whatever they are for: far more than the schedule gives, a net under it.
pub(super) const OPEN_PER_PEER: usize = 32;
/// How far ahead of our clock a block may be and still be held until it is due: clocks differ.
pub(super) const FUTURE_S: u64 = 15;
/// Blocks held because they are of the near future: one for each signer of a large network.
pub(super) const HELD_BLOCKS: usize = 64;
/// Remembered hashes of a branch that is weighed: some 4 MiB, for a branch of 67 million blocks.
pub(super) const ANCHORS_LIMIT: usize = 1 << 16;
/// What a branch that goes into the store part by part holds there: what sync itself may hold is less by that.
pub(super) const STAGED_BYTES: usize = 12 << 20;
/// What must come of such a branch in [`CATCH_UP_PATIENCE_MS`] lest it is let go: so many blocks ...
pub(super) const STAGED_PACE_BLOCKS: u64 = 32;
/// ... or so many bytes, which is a slow line's.
pub(super) const STAGED_PACE_BYTES: usize = 1 << 20;
/// What must come of a branch that one peer alone is asked for, in three timeouts of a request, lest it is let go: so many headers ...
pub(super) const BRANCH_PACE_BLOCKS: u64 = 32;
/// ... or so many bytes of bodies, which is a very slow line's.
pub(super) const BRANCH_PACE_BYTES: usize = 128 << 10;
/// Of these, from one peer: one that sends nothing but the future leaves room for the others.
pub(super) const HELD_PER_PEER: usize = 8;
/// Blocks beside our chain that are kept, because their children may make them the better branch.
pub(super) const SIDE_BLOCKS: usize = 64;
/// Bytes of bodies in held and side blocks together.
pub(super) const SIDE_BYTES: usize = 8 << 20;
/// Announced hashes that are being fetched at once.
pub(super) const FETCHES: usize = 64;
/// Announcements in one NewBlockHashes: geth's own is far below; more is a breach.
pub(super) const ANNOUNCED_HASHES: usize = 4096;
/// Announced numbers so far below our head are not fetched: they cannot matter any more.
pub(super) const FETCH_BELOW: u64 = 8;
/// Hashes that a peer is known to know.
pub(super) const KNOWN_PER_PEER: usize = 256;
/// Tips of our last blocks that are kept to judge blocks beside them without reading the store.
pub(super) const RECENT_TIPS: usize = 128;
/// Up to so many peers all get a new block whole; of more only the square root, and the others its hash.
pub(super) const WHOLE_BLOCK_TO_ALL: usize = 16;
/// A peer is told our range of blocks after so many new ones (as geth does) ...
pub(super) const RANGE_EVERY_BLOCKS: u64 = 32;
/// ... but not more often than this while we catch up ...
pub(super) const RANGE_MIN_MS: u64 = 1_000;
/// ... and after so long if there is anything new at all (EIP-7642: about two minutes).
pub(super) const RANGE_EVERY_MS: u64 = 120_000;
/// A peer's answers should take it no longer than this: slow ones are asked for less.
pub(super) const ANSWER_MS: u64 = 2_000;
/// A future block is looked at again so often once its second is near: the two clocks do not turn together.
pub(super) const DUE_STEP_MS: u64 = 25;
/// Headers in the first look for a common ancestor: forks are short. Deeper ones are found by single headers, each halving the rest.
pub(super) const ANCESTOR_FIRST: u64 = 64;
/// A peer that leaves with a protocol error so soon after an announcement left because of it ...
pub(super) const SHY_MS: u64 = 3_000;
/// ... and so many such peers are remembered, 64 bytes each.
pub(super) const SHY_PEERS: usize = 1024;
/// Refused branches of one peer that are warned of: more are worth a debug line only.
pub(super) const REFUSALS_TOLD: usize = 4;
/// The state at a block below the recent tips is rebuilt for one peer no more often: reading an epoch of headers takes about
/// 0.1 s.
pub(super) const RESTORE_MIN_MS: u64 = 60_000;
/// Headers asked for at once of a peer that was slow or cut an answer short, at the least: fewer cost a round trip for next to
/// nothing.
pub(super) const HEADERS_LEAST: u64 = 16;
/// Request timeouts that one answer may take while others come: a slow line brings one after the other.
pub(super) const SLOW_TIMEOUTS: u64 = 3;
/// Stored blocks looked at in one go for want of receipts: some milliseconds.
pub(super) const RECEIPTS_LOOK: usize = 1024;
/// A peer that comes may have receipts that were passed over, but they are not looked for again more often than this.
pub(super) const RECEIPTS_REWIND_MS: u64 = 60_000;
/// Receipts of a block of which only a part is here are shorter than this many gas for each byte allow: a byte of a log costs 8
/// gas (yellow paper, appendix G), and what stands around it no more than as much again.
pub(super) const GAS_PER_RECEIPT_BYTE: u64 = 4;
/// Answers that one block's receipts may come in: at 2 MiB each twice as many as would fill the memory for them.
pub(super) const PARTS_OF_BLOCK: usize = 32;
/// Periods of a clique chain without a new block before it is asked for: in one the block may just be late.
pub(super) const POLL_PERIODS: u64 = 2;
/// A clique chain stands still when so many periods, or as many times what the head itself took, have passed without a newer block: one
/// or two signers may be missing, and the others wait before they seal in their place.
pub(super) const STILL_PERIODS: u64 = 4;
/// No clique chain stands still whose head is younger: a signer's clock may be as far ahead, and its block is held until it is due.
pub(super) const STILL_LEAST_S: u64 = 15;
/// No head of another chain is stale that is younger: of 12 seconds each, several slots in a row may stay empty.
pub(super) const STALE_LEAST_S: u64 = 60;
/// Who has just started says nothing of the head's age: signers that start together dial each other again and again, with up to half a
/// minute between.
pub(crate) const STALE_AFTER_START_MS: u64 = 60_000;

/// The age of its head from which a clique chain stands still, if its period and the time that the head itself took are these.
pub(crate) fn still_after_s(period_s: u64, took_s: u64) -> u64 {
    let periods_s = period_s.max(took_s).saturating_mul(STILL_PERIODS);
    periods_s.max(STILL_LEAST_S)
}
