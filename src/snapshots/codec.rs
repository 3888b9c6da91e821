//! Kept snapshots as bytes: `[version, genesis hash, [snapshot, ...]]` in RLP, the snapshots in rising order.
//!
//! ```text
//! snapshot   [number, hash, [signer, ...], [recent, ...], [vote, ...]]
//! recent     [number, signer]
//! vote       [signer, block, target, 1 to let in or 0 to put out]
//! ```

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use alloy_rlp::Encodable as _;

use super::KEPT_MOST;
use crate::chain::clique::{Snapshot, Vote};
use crate::chain::rlp;

/// Another one is another form: what was kept in it is made anew.
const VERSION: u64 = 1;

/// The bytes of these snapshots of the chain that begins with `genesis`.
pub fn encode(genesis: &B256, kept: &[Arc<Snapshot>]) -> Vec<u8> {
    let mut out = Vec::new();
    list(&mut out, |out| {
        VERSION.encode(out);
        genesis.encode(out);
        list(out, |out| {
            for snapshot in kept {
                list(out, |out| encode_snapshot(out, snapshot));
            }
        });
    });
    out
}

/// The snapshots in `bytes`, which nobody has checked. They take no more memory than some times the bytes.
///
/// # Errors
/// What is wrong with the bytes: they are not of this form, of another chain, or say what can never be.
pub fn decode(mut bytes: &[u8], genesis: &B256) -> Result<Vec<Arc<Snapshot>>, &'static str> {
    let mut whole = rlp::list(&mut bytes).map_err(no_rlp)?;
    if rlp::number(&mut whole).map_err(no_rlp)? != VERSION {
        return Err("it is of another version of cairn");
    }
    if rlp::hash(&mut whole).map_err(no_rlp)? != *genesis {
        return Err("it is of another chain");
    }
    let mut items = rlp::list(&mut whole).map_err(no_rlp)?;
    if !bytes.is_empty() || !whole.is_empty() {
        return Err("something stands behind its end");
    }
    let mut kept: Vec<Arc<Snapshot>> = Vec::new();
    while !items.is_empty() {
        let snapshot = decode_snapshot(&mut items)
            .map_err(no_rlp)?
            .ok_or("it has a snapshot that can be none")?;
        let is_in_order = kept.last().is_none_or(|last| last.number < snapshot.number);
        if !is_in_order || kept.len() == KEPT_MOST {
            return Err("its snapshots are too many or not in order");
        }
        kept.push(Arc::new(snapshot));
    }
    Ok(kept)
}

fn no_rlp(_: alloy_rlp::Error) -> &'static str {
    "it is no RLP of the right form"
}

fn encode_snapshot(out: &mut Vec<u8>, snapshot: &Snapshot) {
    snapshot.number.encode(out);
    snapshot.hash.encode(out);
    list(out, |out| {
        for signer in snapshot.signers() {
            signer.encode(out);
        }
    });
    list(out, |out| {
        for (number, signer) in snapshot.recents() {
            list(out, |out| {
                number.encode(out);
                signer.encode(out);
            });
        }
    });
    list(out, |out| {
        for vote in snapshot.votes() {
            list(out, |out| {
                vote.signer.encode(out);
                vote.block.encode(out);
                vote.target.encode(out);
                vote.authorise.encode(out);
            });
        }
    });
}

/// `None`: no chain has such a snapshot.
fn decode_snapshot(input: &mut &[u8]) -> Result<Option<Snapshot>, alloy_rlp::Error> {
    let mut input = rlp::list(input)?;
    let (number, hash) = (rlp::number(&mut input)?, rlp::hash(&mut input)?);
    let mut signers = Vec::new();
    let mut items = rlp::list(&mut input)?;
    while !items.is_empty() {
        signers.push(address(&mut items)?);
    }
    let mut recents = Vec::new();
    let mut items = rlp::list(&mut input)?;
    while !items.is_empty() {
        let mut item = rlp::list(&mut items)?;
        recents.push((rlp::number(&mut item)?, address(&mut item)?));
        ends(item)?;
    }
    let mut votes = Vec::new();
    let mut items = rlp::list(&mut input)?;
    while !items.is_empty() {
        let mut item = rlp::list(&mut items)?;
        votes.push(Vote {
            signer: address(&mut item)?,
            block: rlp::number(&mut item)?,
            target: address(&mut item)?,
            authorise: match rlp::number(&mut item)? {
                0 => false,
                1 => true,
                _ => return Err(alloy_rlp::Error::Custom("neither 0 nor 1")),
            },
        });
        ends(item)?;
    }
    ends(input)?;
    Ok(Snapshot::from_parts(number, hash, signers, recents, votes))
}

fn address(input: &mut &[u8]) -> Result<Address, alloy_rlp::Error> {
    rlp::array(input).map(Address::from)
}

fn ends(rest: &[u8]) -> Result<(), alloy_rlp::Error> {
    match rest.is_empty() {
        true => Ok(()),
        false => Err(alloy_rlp::Error::ListLengthMismatch {
            expected: 0,
            got: rest.len(),
        }),
    }
}

/// Appends a list of what `fill` appends.
fn list(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut payload = Vec::new();
    fill(&mut payload);
    rlp::list_prefix(out, payload.len());
    out.extend_from_slice(&payload);
}
