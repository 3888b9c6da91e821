//! `list`: a line for each block.

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, keccak256};
use alloy_rlp::Decodable;
use cairn_store::{Reader, Snapshot};
use serde_json::{Value, json};

use crate::{
    block, chain,
    failure::Failure,
    output::Output,
    people,
    request::{Range, Store},
    view,
};

/// Blocks listed if none are named.
const LAST: u64 = 20;

pub(crate) fn run(store: &Store, range: Range) -> Result<(), Failure> {
    let snapshot = Reader::open(&store.folder)?.snapshot();
    let head = snapshot.head().number;
    let (from, to) = match range {
        // A list may ask for more than there is yet.
        Range::Numbers(from, Some(to)) if from <= head => (from, to.min(head)),
        range => range.within(head, LAST)?,
    };
    let clique = chain::is_clique(&snapshot)?;
    let mut out = Output::new(store.json);
    if !out.is_json() {
        out.line(&heading(clique))?;
    }
    for number in from..=to {
        let row = Row::read(&snapshot, number, clique)?;
        if out.is_json() {
            out.line(&row.json().to_string())?;
        } else {
            out.line(&row.text())?;
        }
    }
    out.finish()
}

/// What is said of a block.
struct Row {
    number: u64,
    hash: B256,
    time_s: Option<u64>,
    transactions: Option<usize>,
    /// Header and body as RLP, and what the store keeps of them; the body's are missing if it has expired.
    raw_bytes: u64,
    stored_bytes: u64,
    signer: Option<Address>,
}

impl Row {
    fn read(snapshot: &Snapshot, number: u64, clique: bool) -> Result<Self, Failure> {
        let header = snapshot
            .header(number)?
            .ok_or_else(|| Failure::No(format!("block {number}: the store has no header of it")))?;
        let raw: &[u8] = &header;
        let decoded = Header::decode(&mut &raw[..]).ok();
        let mut raw_bytes = raw.len() as u64;
        let mut stored_bytes = raw_bytes;
        if let Some(stream) = snapshot.body_stream(number)? {
            raw_bytes += stream.raw_len as u64;
            stored_bytes += block::stored_bytes(&stream);
        }
        Ok(Self {
            number,
            hash: keccak256(raw),
            time_s: decoded.as_ref().map(|header| header.timestamp),
            transactions: snapshot
                .body(number)?
                .as_deref()
                .and_then(view::transaction_count),
            raw_bytes,
            stored_bytes,
            signer: decoded
                .filter(|_| clique)
                .and_then(|header| chain::signer(&header)),
        })
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "number": self.number,
            "hash": view::text(self.hash),
            "timestamp": self.time_s,
            "transactions": self.transactions,
            "raw_bytes": self.raw_bytes,
            "stored_bytes": self.stored_bytes,
        });
        if let (Some(signer), Some(map)) = (self.signer, value.as_object_mut()) {
            map.insert("signer".to_owned(), view::text(signer));
        }
        value
    }

    fn text(&self) -> String {
        let unknown = || "-".to_owned();
        let line = format!(
            "{:>9}  {}  {:23}  {:>5}  {:>9}  {:>9}",
            self.number,
            self.hash,
            self.time_s.map_or_else(unknown, people::date),
            self.transactions
                .map_or_else(unknown, |count| count.to_string()),
            self.raw_bytes,
            self.stored_bytes,
        );
        match self.signer {
            Some(signer) => format!("{line}  {signer}"),
            None => line,
        }
    }
}

fn heading(clique: bool) -> String {
    let line = format!(
        "{:>9}  {:66}  {:23}  {:>5}  {:>9}  {:>9}",
        "number", "hash", "time", "txs", "raw", "stored"
    );
    if clique { line + "  signer" } else { line }
}
