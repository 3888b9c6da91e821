//! What is known of each peer: what it claims to have, what it owes us, how fast it is, which blocks it knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use alloy_primitives::{B256, U256};
use cairn_net::session::{AnswerKind, PeerInfo};

use super::limits::{ANSWER_MS, KNOWN_PER_PEER, OPEN_PER_PEER};
use crate::chain::clique::DIFFICULTY_IN_TURN;
use crate::chain::{SealedHeader, Tip};

/// What a request was for: with it the answer is judged, and given to another when it does not come.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The header of the peer's own head (eth/68 names only its hash).
    Head { hash: B256 },
    /// Headers rising by number, for the line of this epoch.
    Rising { epoch: u64, first: u64, count: u64 },
    /// Bodies of these blocks.
    Bodies { wanted: Vec<Arc<SealedHeader>> },
    /// Receipts of these blocks, of whose first a part may be here.
    Receipts {
        wanted: Vec<Arc<SealedHeader>>,
        part: Part,
    },
    /// An announced block's header.
    FetchHeader { hash: B256 },
    /// An announced block's body.
    FetchBody { header: Arc<SealedHeader> },
    /// Whether there is anything new.
    Poll { number: u64, count: u64 },
    /// Headers falling by number, to find where a peer's chain leaves ours.
    Ancestor { top: u64, count: u64 },
    /// Headers falling from a hash that is known to be right.
    Falling { hash: B256, count: u64 },
}

impl What {
    /// The kind of answer that is awaited.
    pub(super) fn answer_kind(&self) -> AnswerKind {
        match self {
            What::Bodies { .. } | What::FetchBody { .. } => AnswerKind::Bodies,
            What::Receipts { .. } => AnswerKind::Receipts,
            _ => AnswerKind::Headers,
        }
    }

    /// Whether it is for the announced block `hash`.
    pub(super) fn fetches(&self, hash: &B256) -> bool {
        match self {
            What::FetchHeader { hash: of } => of == hash,
            What::FetchBody { header } => header.hash == *hash,
            _ => false,
        }
    }

    fn is_receipts(&self) -> bool {
        self.answer_kind() == AnswerKind::Receipts
    }
}

/// The first receipts of a block, from answers that were cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// Their RLP, end to end.
    pub(super) items: Vec<u8>,
    /// How many there are.
    pub(super) count: u64,
    /// Answers that they came in.
    pub(super) answers: usize,
}

/// A request in flight.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) what: What,
    pub(super) sent_ms: u64,
    /// Bytes that the answer is expected to take, counted against the memory limit.
    pub(super) expected_bytes: usize,
    /// It took too long and its work was given to others; the answer is still owed.
    pub(super) given_up: bool,
}

/// The head that a peer claims.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) number: Option<u64>,
    pub(super) hash: B256,
    pub(super) td: Option<U256>,
}

/// One connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) info: Arc<PeerInfo>,
    pub(super) connected_ms: u64,
    pub(super) head: Claim,
    /// The first block whose body it has (eth/69).
    pub(super) earliest: u64,
    /// The lowest block of which it has a header, once it has shown that it has not all of them.
    pub(super) first_header: u64,
    /// It answered empty from this number on; forgotten when it claims a new head.
    pub(super) lacks_from: Option<u64>,
    /// The log has a line about a block of this peer's that is far ahead of our clock.
    is_clock_told: bool,
    /// It does not answer when it is asked for receipts: there are clients that never do.
    pub(super) is_mute_on_receipts: bool,
    /// Its headers did not link to ours: it follows another branch, or lies.
    pub(super) off_chain: bool,
    /// The claimed head that was found to be no better than ours.
    pub(super) judged: Option<B256>,
    pub(super) empty_claims: u32,
    /// When the last of them was counted.
    pub(super) empty_ms: u64,
    /// Where branches of its that were refused leave our chain: each is told of once.
    pub(super) refused: BTreeSet<u64>,
    /// When a state of our chain was last rebuilt for its branch.
    pub(super) restored_ms: Option<u64>,
    /// Until then no branch of its is looked for.
    pub(super) no_branch_before_ms: u64,
    /// When a branch of its was looked for last.
    pub(super) searched_ms: u64,
    /// The total difficulty of block 0.
    genesis_td: U256,
    pub(super) asked: BTreeMap<u64, Asked>,
    pub(super) stalls: u32,
    pub(super) good_answers: u32,
    /// When it last answered, or was asked while it owed nothing.
    pub(super) heard_ms: u64,
    /// Bytes a second in its body answers; 0 until known.
    pub(super) rate: u64,
    /// Headers a second in its answers to requests for many; `u64::MAX` until known, so that everyone is tried.
    pub(super) header_rate: u64,
    /// The same of blocks whose receipts it was asked for.
    pub(super) receipt_rate: u64,
    /// Headers and bodies that it gives in one answer, learnt from answers cut short.
    pub(super) header_cap: u64,
    pub(super) body_cap: usize,
    pub(super) known: Known,
    /// Our head's number and the time when it was last told of our range.
    pub(super) range_told: (u64, u64),
    /// When it was last sent an announced block or hash.
    pub(super) announced_ms: Option<u64>,
}

impl Peer {
    /// Says, once for each peer, that one of the two clocks is wrong: nothing else would tell why we stand still.
    pub(super) fn tell_clock(&mut self, number: u64, due_s: u64, now_s: u64) {
        if !std::mem::replace(&mut self.is_clock_told, true) {
            log::warn!(
                "Block {number} of a peer is {} s ahead of this machine's clock, and is not taken before; is the clock right?",
                due_s.saturating_sub(now_s)
            );
        }
    }

    /// A peer as its Status describes it.
    pub(super) fn new(info: Arc<PeerInfo>, now_ms: u64, genesis_td: U256) -> Peer {
        let told_head = info.told_head;
        let status = &info.status;
        let head = Claim {
            number: status.latest,
            hash: status.head,
            td: status.td,
        };
        let earliest = status.earliest.unwrap_or(0);
        let mut known = Known::default();
        known.insert(head.hash);
        Peer {
            info,
            connected_ms: now_ms,
            head,
            earliest,
            first_header: 0,
            lacks_from: None,
            is_clock_told: false,
            is_mute_on_receipts: false,
            off_chain: false,
            judged: None,
            empty_claims: 0,
            empty_ms: now_ms,
            refused: BTreeSet::new(),
            restored_ms: None,
            no_branch_before_ms: 0,
            searched_ms: 0,
            genesis_td,
            asked: BTreeMap::new(),
            stalls: 0,
            good_answers: 0,
            heard_ms: now_ms,
            rate: 0,
            header_rate: u64::MAX,
            receipt_rate: u64::MAX,
            header_cap: u64::MAX,
            body_cap: usize::MAX,
            known,
            range_told: (told_head, now_ms),
            announced_ms: None,
        }
    }

    /// Its chain is better than one that ends in `tip`, as it claims, or as good: which of equals is preferred is seen when
    /// both are here, but never the longer one of two clique chains (`choice.rs`), which its own peer will not keep. Without a total difficulty the number decides; but not on clique chains, of which a shorter one may be the better:
    /// there every head is looked at that is not known to be ours and can be as heavy.
    pub(super) fn claims_better(&self, tip: &Tip) -> bool {
        if self.judged == Some(self.head.hash) || self.head.hash == tip.header.hash {
            return false;
        }
        match (self.head.td, self.head.number) {
            (Some(td), Some(number)) if td == tip.td && tip.clique.is_some() => {
                number <= tip.header.header.number
            }
            (Some(td), _) => td >= tip.td,
            (None, Some(number)) if tip.clique.is_some() => {
                let heaviest = U256::from(number) * U256::from(DIFFICULTY_IN_TURN);
                self.genesis_td.saturating_add(heaviest) >= tip.td
            }
            (None, Some(number)) => number >= tip.header.header.number,
            (None, None) => false,
        }
    }

    /// It gave no header of block `number`. One whose chain begins above (a clique chain from a checkpoint on) has told so, and is asked
    /// for none below from now on; one that only forgot old bodies has all headers.
    pub(super) fn begins_above(&mut self, number: u64) -> bool {
        if number < self.earliest {
            self.first_header = self.earliest;
        }
        number < self.first_header
    }

    /// The highest number it may be asked for, if that is known.
    pub(super) fn top(&self) -> Option<u64> {
        let top = self.head.number?;
        Some(
            self.lacks_from
                .map_or(top, |lacks| top.min(lacks.saturating_sub(1))),
        )
    }

    /// A new head that it claims.
    pub(super) fn claim(&mut self, number: u64, hash: B256, td: Option<U256>) {
        if self.head.hash == hash {
            self.head.number = Some(number);
            self.head.td = td.or(self.head.td);
            return;
        }
        self.head = Claim {
            number: Some(number),
            hash,
            td,
        };
        self.lacks_from = None;
    }

    /// It may be asked for more: it owes nothing that was given up. Receipts do not count, since what it may lack is no reason
    /// to go without the rest.
    pub(super) fn is_usable(&self) -> bool {
        let owes = |asked: &Asked| asked.given_up && !asked.what.is_receipts();
        self.asked.len() < OPEN_PER_PEER && !self.asked.values().any(owes)
    }

    /// Whether it may have the receipts of block `number`, for all that is known.
    pub(super) fn may_have_receipts(&self, number: u64) -> bool {
        let (earliest, top) = self.receipt_range();
        !self.off_chain && !self.is_mute_on_receipts && (earliest..=top).contains(&number)
    }

    /// The blocks whose receipts it may have. eth/68 does not say how many blocks a peer has.
    pub(super) fn receipt_range(&self) -> (u64, u64) {
        (self.earliest, self.top().unwrap_or(u64::MAX))
    }

    /// When the oldest of its requests was sent that it is held to.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        let held_to = self
            .asked
            .values()
            .filter(|asked| !asked.what.is_receipts());
        held_to.map(|asked| asked.sent_ms).min()
    }

    /// When the oldest request for receipts was sent that is awaited.
    pub(super) fn oldest_receipts_ms(&self) -> Option<u64> {
        let awaited = self
            .asked
            .values()
            .filter(|asked| asked.what.is_receipts() && !asked.given_up);
        awaited.map(|asked| asked.sent_ms).min()
    }

    /// Requests in flight that `wanted` counts.
    pub(super) fn count(&self, wanted: impl Fn(&What) -> bool) -> usize {
        self.asked
            .values()
            .filter(|asked| wanted(&asked.what))
            .count()
    }

    /// Learns from a body answer how fast the peer is.
    pub(super) fn learn_rate(&mut self, bytes: usize, took_ms: u64) {
        let known = (self.rate > 0).then_some(self.rate);
        self.rate = averaged(known, bytes, took_ms).max(1);
    }

    /// Bytes that it can answer in good time; no limit until its rate is known.
    pub(super) fn bytes_in_time(&self) -> usize {
        if self.rate == 0 {
            return usize::MAX;
        }
        usize::try_from(self.rate.saturating_mul(ANSWER_MS) / 1000).unwrap_or(usize::MAX)
    }
}

/// Learns from an answer how many things a second a peer gives.
pub(super) fn learn_pace(pace: &mut u64, things: usize, took_ms: u64) {
    let known = Some(*pace).filter(|pace| *pace != u64::MAX);
    *pace = averaged(known, things, took_ms);
}

/// A rate a second, a quarter of which is of the last answer.
fn averaged(known: Option<u64>, things: usize, took_ms: u64) -> u64 {
    let last = (things as u64).saturating_mul(1000) / took_ms.max(1);
    known.map_or(last, |known| {
        known.saturating_mul(3).saturating_add(last) / 4
    })
}

/// The last hashes that a peer is known to know.
#[derive(Debug, Default)]
pub(super) struct Known {
    set: BTreeSet<B256>,
    order: VecDeque<B256>,
}

impl Known {
    /// Remembers `hash`; false if it was remembered already.
    pub(super) fn insert(&mut self, hash: B256) -> bool {
        if !self.set.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > KNOWN_PER_PEER
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        true
    }

    /// Whether it is remembered.
    pub(super) fn contains(&self, hash: &B256) -> bool {
        self.set.contains(hash)
    }
}

#[cfg(test)]
mod tests {
    use alloy_consensus::Header;
    use alloy_eip2124::{ForkHash, ForkId};
    use cairn_net::enode::NodeId;
    use cairn_net::eth::status::Status;

    use super::*;
    use crate::chain::{Genesis, Rules};

    #[test]
    fn a_claim_is_looked_at_unless_it_cannot_be_better() {
        let clique = Rules::new(&Genesis::dev()).genesis_tip();
        let other = Tip {
            clique: None,
            ..clique.clone()
        };
        let at = |tip: &Tip, number: u64| {
            let header = Header {
                number,
                ..tip.header.header.clone()
            };
            Tip {
                header: Arc::new(SealedHeader::from_header(header)),
                td: U256::from(100),
                ..tip.clone()
            }
        };
        let (clique, other) = (at(&clique, 50), at(&other, 50));
        let claims = |ours: &Tip, td: Option<u64>, number: Option<u64>| {
            let info = PeerInfo {
                id: NodeId([1; 64]),
                client: String::new(),
                eth: 68,
                status: Status {
                    version: 68,
                    network_id: 1,
                    genesis: B256::ZERO,
                    fork_id: ForkId {
                        hash: ForkHash([0; 4]),
                        next: 0,
                    },
                    td: td.map(U256::from),
                    head: B256::repeat_byte(7),
                    earliest: None,
                    latest: number,
                },
                inbound: false,
                told_head: 0,
            };
            Peer::new(Arc::new(info), 0, U256::from(2)).claims_better(ours)
        };
        for (td, number, of_clique, of_other) in [
            (Some(101), Some(40), true, true),
            (Some(99), Some(60), false, false),
            (Some(100), None, true, true),
            // Of two clique chains of one weight the shorter is preferred: both have to look at it, and nobody keeps the longer.
            (Some(100), Some(50), true, true),
            (Some(100), Some(49), true, true),
            (Some(100), Some(51), false, true),
            // eth/69 says no weight: signers that waited for each other on equal branches of 48 and 49 blocks stood still for ever.
            (None, Some(49), true, false),
            (None, Some(50), true, true),
            (None, Some(51), true, true),
            (None, Some(48), false, false), // 2 + 48 * 2 < 100
            (None, None, false, false),
        ] {
            let found = (claims(&clique, td, number), claims(&other, td, number));
            assert_eq!(found, (of_clique, of_other), "{td:?} {number:?}");
        }
    }

    #[test]
    fn the_blocks_known_of_a_peer_are_bounded_and_the_oldest_go() {
        let mut known = Known::default();
        let hash = |n: usize| B256::left_padding_from(&n.to_be_bytes());
        for n in 0..KNOWN_PER_PEER + 10 {
            assert!(known.insert(hash(n)));
            assert!(!known.insert(hash(n)));
        }
        assert_eq!(known.set.len(), KNOWN_PER_PEER);
        assert!(!known.contains(&hash(9)));
        assert!(known.contains(&hash(10)));
    }
}
