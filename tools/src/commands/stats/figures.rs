//! What is counted of blocks in a row, and how two counts become one.

use std::collections::BTreeMap;

use alloy_consensus::Header;
use alloy_primitives::Address;
use alloy_rlp::Decodable;
use cairn_store::Snapshot;
use serde_json::{Value, json};

use crate::{block, chain, crew::Done, failure::Failure, view};

/// The types of transactions that have names; others are counted by their number.
pub(super) const TYPES: [&str; 5] = ["legacy", "access list", "dynamic fee", "blob", "set code"];

/// How the chain is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) clique: bool,
    /// Least seconds between blocks of a clique chain, if they are known and not 0.
    pub(super) period_s: Option<u64>,
}

/// What one signer did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Sealed {
    pub(super) blocks: u64,
    pub(super) in_turn: u64,
}

/// Counts of blocks in a row.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Figures {
    pub(super) first: u64,
    pub(super) last: u64,
    first_time_s: u64,
    last_time_s: u64,
    header_bytes: u64,
    body_bytes: u64,
    body_stored_bytes: u64,
    receipts_bytes: u64,
    receipts_stored_bytes: u64,
    /// Blocks whose body or receipts are there.
    bodies: u64,
    receipts: u64,
    pub(super) types: BTreeMap<u8, u64>,
    empty: u64,
    pub(super) gas_used: u64,
    pub(super) gas_limit: u64,
    blob_gas_used: u64,
    base_fee: Option<(u64, u64)>,
    /// How often so many seconds lay between a block and its parent.
    pub(super) intervals: BTreeMap<u64, u64>,
    missed: u64,
    pub(super) signers: BTreeMap<Address, Sealed>,
}

impl Figures {
    /// Counts blocks `first..=last`.
    pub(super) fn of(
        snapshot: &Snapshot,
        (first, last): (u64, u64),
        kind: Kind,
        done: &Done,
    ) -> Result<Self, Failure> {
        let mut figures = Self {
            first,
            last,
            ..Self::default()
        };
        // The interval to the first block's parent is its own, if that is stored. Block 0 has no time to speak of.
        let mut before = match first.checked_sub(1) {
            Some(number) if number > 0 && number >= snapshot.first_header() => {
                Some(decode(&block::header(snapshot, number)?, number)?.timestamp)
            }
            _ => None,
        };
        for number in first..=last {
            let raw = block::header(snapshot, number)?;
            let header = decode(&raw, number)?;
            figures.header(&header, raw.len(), before, kind);
            before = (number > 0).then_some(header.timestamp);
            if let Some(stream) = snapshot.body_stream(number)? {
                figures.bodies += 1;
                figures.body_bytes += stream.raw_len as u64;
                figures.body_stored_bytes += block::stored_bytes(&stream);
                figures.body(&block::body(snapshot, number)?);
            }
            if let Some(stream) = snapshot.receipts_stream(number)? {
                figures.receipts += 1;
                figures.receipts_bytes += stream.raw_len as u64;
                figures.receipts_stored_bytes += block::stored_bytes(&stream);
            }
            done.add(1);
        }
        Ok(figures)
    }

    fn header(&mut self, header: &Header, bytes: usize, before: Option<u64>, kind: Kind) {
        // Many a genesis block says that it is of 1970.
        if header.number == self.first || (header.number == 1 && self.first_time_s == 0) {
            self.first_time_s = header.timestamp;
        }
        self.last_time_s = header.timestamp;
        self.header_bytes += bytes as u64;
        self.gas_used += header.gas_used;
        self.gas_limit += header.gas_limit;
        self.blob_gas_used += header.blob_gas_used.unwrap_or(0);
        if let Some(fee) = header.base_fee_per_gas {
            let (least, most) = self.base_fee.unwrap_or((fee, fee));
            self.base_fee = Some((least.min(fee), most.max(fee)));
        }
        if let Some(before) = before {
            let interval_s = header.timestamp.saturating_sub(before);
            *self.intervals.entry(interval_s).or_default() += 1;
            if let Some(period_s) = kind.period_s {
                self.missed += (interval_s / period_s).saturating_sub(1);
            }
        }
        if kind.clique
            && let Some(signer) = chain::signer(header)
        {
            let sealed = self.signers.entry(signer).or_default();
            sealed.blocks += 1;
            // Clique gives a block in turn the difficulty 2.
            sealed.in_turn += u64::from(header.difficulty.to::<u64>() == 2);
        }
    }

    fn body(&mut self, body: &[u8]) {
        let mut count = 0;
        for transaction in cairn::chain::body::transactions(body) {
            let kind = match transaction.first() {
                Some(&kind) if kind < 0x80 => kind,
                _ => 0,
            };
            *self.types.entry(kind).or_default() += 1;
            count += 1;
        }
        self.empty += u64::from(count == 0);
    }

    /// Adds the counts of the blocks that follow.
    pub(super) fn add(&mut self, later: &Self) {
        self.last = later.last;
        self.last_time_s = later.last_time_s;
        self.header_bytes += later.header_bytes;
        self.body_bytes += later.body_bytes;
        self.body_stored_bytes += later.body_stored_bytes;
        self.receipts_bytes += later.receipts_bytes;
        self.receipts_stored_bytes += later.receipts_stored_bytes;
        self.bodies += later.bodies;
        self.receipts += later.receipts;
        self.empty += later.empty;
        self.gas_used += later.gas_used;
        self.gas_limit += later.gas_limit;
        self.blob_gas_used += later.blob_gas_used;
        self.missed += later.missed;
        if let Some((least, most)) = later.base_fee {
            let (so_far, most_so_far) = self.base_fee.unwrap_or((least, most));
            self.base_fee = Some((so_far.min(least), most_so_far.max(most)));
        }
        for (kind, count) in &later.types {
            *self.types.entry(*kind).or_default() += count;
        }
        for (interval_s, count) in &later.intervals {
            *self.intervals.entry(*interval_s).or_default() += count;
        }
        for (signer, sealed) in &later.signers {
            let all = self.signers.entry(*signer).or_default();
            all.blocks += sealed.blocks;
            all.in_turn += sealed.in_turn;
        }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.last - self.first + 1
    }

    pub(super) fn transactions(&self) -> u64 {
        self.types.values().sum()
    }

    pub(super) fn raw_bytes(&self) -> u64 {
        self.header_bytes + self.body_bytes + self.receipts_bytes
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        self.header_bytes + self.body_stored_bytes + self.receipts_stored_bytes
    }

    pub(super) fn empty(&self) -> u64 {
        self.empty
    }

    pub(super) fn missed(&self) -> u64 {
        self.missed
    }

    pub(super) fn times_s(&self) -> (u64, u64) {
        (self.first_time_s, self.last_time_s)
    }

    /// The least number of seconds that at least `percent` of the intervals do not exceed: 0 the least, 100 the greatest.
    pub(super) fn interval_s(&self, percent: u64) -> Option<u64> {
        let all: u64 = self.intervals.values().sum();
        let wanted = (all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.intervals.iter().find_map(|(interval_s, count)| {
            seen += count;
            (seen >= wanted).then_some(*interval_s)
        })
    }

    /// Signers with what they sealed, the busiest first.
    pub(super) fn busiest(&self) -> Vec<(Address, Sealed)> {
        let mut signers: Vec<_> = self
            .signers
            .iter()
            .map(|(who, what)| (*who, *what))
            .collect();
        signers.sort_by_key(|(who, what)| (std::cmp::Reverse(what.blocks), *who));
        signers
    }

    pub(super) fn value(&self, kind: Kind) -> Value {
        let interval = |percent| json!(self.interval_s(percent));
        let types: serde_json::Map<String, Value> = self
            .types
            .iter()
            .map(|(kind, count)| (kind.to_string(), json!(count)))
            .collect();
        let mut value = json!({
            "first": self.first,
            "last": self.last,
            "blocks": self.blocks(),
            "first_timestamp": self.first_time_s,
            "last_timestamp": self.last_time_s,
            "header_bytes": self.header_bytes,
            "bodies": self.bodies,
            "body_bytes": self.body_bytes,
            "body_stored_bytes": self.body_stored_bytes,
            "receipts": self.receipts,
            "receipts_bytes": self.receipts_bytes,
            "receipts_stored_bytes": self.receipts_stored_bytes,
            "transactions": self.transactions(),
            "transactions_by_type": types,
            "empty_blocks": self.empty,
            "gas_used": self.gas_used,
            "gas_limit": self.gas_limit,
            "blob_gas_used": self.blob_gas_used,
            "base_fee_per_gas": self.base_fee.map(|(min, max)| json!({ "min": min, "max": max })),
            "interval_s": {
                "min": interval(0),
                "median": interval(50),
                "p95": interval(95),
                "max": interval(100),
            },
        });
        if kind.clique {
            value["missed_slots"] = json!(kind.period_s.map(|_| self.missed));
            value["signers"] = self
                .busiest()
                .iter()
                .map(|(signer, sealed)| {
                    json!({
                        "signer": view::text(signer),
                        "blocks": sealed.blocks,
                        "in_turn": sealed.in_turn,
                    })
                })
                .collect();
        }
        value
    }

    pub(super) fn base_fee(&self) -> Option<(u64, u64)> {
        self.base_fee
    }

    /// Headers, bodies and receipts: raw and stored bytes, and how many there are.
    pub(super) fn bytes(&self) -> [(&'static str, u64, u64, u64); 3] {
        [
            (
                "headers",
                self.blocks(),
                self.header_bytes,
                self.header_bytes,
            ),
            (
                "bodies",
                self.bodies,
                self.body_bytes,
                self.body_stored_bytes,
            ),
            (
                "receipts",
                self.receipts,
                self.receipts_bytes,
                self.receipts_stored_bytes,
            ),
        ]
    }
}

fn decode(raw: &[u8], number: u64) -> Result<Header, Failure> {
    Header::decode(&mut &raw[..])
        .map_err(|error| Failure::No(format!("block {number}: its header is none: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let mut figures = Figures::default();
        assert_eq!(figures.interval_s(50), None);
        for interval_s in 1..=100 {
            figures.intervals.insert(interval_s, 1);
        }
        for (percent, expected) in [(0, 1), (50, 50), (95, 95), (100, 100)] {
            assert_eq!(figures.interval_s(percent), Some(expected));
        }
        figures.intervals.insert(7, 10_000);
        assert_eq!(figures.interval_s(95), Some(7));
    }
}
