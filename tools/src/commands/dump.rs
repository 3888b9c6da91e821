//! `dump`: blocks, one JSON object a line, or their RLP back to back.

use alloy_consensus::Header;
use alloy_primitives::{U256, keccak256};
use alloy_rlp::Decodable;
use cairn_store::Snapshot;

use crate::{
    block,
    failure::Failure,
    follow::Follow,
    output::Output,
    request::{Dump, Store},
};

pub(crate) fn run(store: &Store, dump: &Dump) -> Result<(), Failure> {
    let mut out = Output::new(store.json);
    out.refuse_terminal(dump.raw)?;
    let mut follow = Follow::open(&store.folder)?;
    let (from, to) = dump.range.within(follow.snapshot().head().number, 1)?;
    let mut before = None;
    for number in from..=to {
        let (header, body) = follow.ask(|snapshot| {
            Ok((
                block::header(snapshot, number)?,
                block::body(snapshot, number)?,
            ))
        })?;
        if dump.raw {
            out.bytes(&block::rlp(&header, &body)?)?;
            continue;
        }
        let td = follow.ask(|snapshot| td(snapshot, number, before, &header))?;
        let hash = keccak256(&header);
        out.line(&block::value(number, Some(hash), td, &header, &body).to_string())?;
        before = td;
    }
    out.finish()
}

/// The total difficulty with a block. The store sums it up from the start of an era, so it is asked once.
fn td(
    snapshot: &Snapshot,
    number: u64,
    before: Option<U256>,
    header: &[u8],
) -> Result<Option<U256>, Failure> {
    let difficulty = || Header::decode(&mut &header[..]).ok().map(|h| h.difficulty);
    match before.zip(difficulty()) {
        Some((before, difficulty)) => Ok(Some(before.saturating_add(difficulty))),
        None => Ok(snapshot.td(number)?),
    }
}
