//! The snapshot of a stored chain after a restart.

use super::{CliqueError, Snapshot, seal};
use crate::chain::{
    error::{Fault, HeaderError},
    header::SealedHeader,
    spec::CliqueConfig,
};

/// The snapshot after block `head`, which goes on from `kept`, one of this chain at `head` or below, or else from the last checkpoint.
/// `read` gives the canonical headers, which were judged before.
/// Signers are only found out where they matter (votes, recent blocks), so it costs little more than reading and hashing.
pub(crate) fn restore(
    config: CliqueConfig,
    head: u64,
    kept: Option<&Snapshot>,
    read: &mut dyn FnMut(u64) -> Result<SealedHeader, HeaderError>,
) -> Result<Snapshot, HeaderError> {
    // Who sealed the blocks up to this one needs no finding out.
    let known = kept.map_or(0, |kept| kept.number);
    assert!(known <= head, "nobody goes on from {known} to {head}");
    let mut snapshot = match kept {
        Some(kept) => kept.clone(),
        None => at_checkpoint(head - head % config.epoch.max(1), read)?,
    };
    for number in snapshot.number + 1..=head {
        let header = read(number)?;
        if header.header.parent_hash != snapshot.hash {
            let fault = Fault::mismatch("parentHash", snapshot.hash, header.header.parent_hash);
            return Err(fault.of(number, header.hash).into());
        }
        snapshot
            .replay(&header, config.epoch)
            .map_err(of(&header))?;
    }
    snapshot.fill_recents(known, |number| {
        let header = read(number)?;
        seal::signer(&header.header).map_err(of(&header))
    })?;
    Ok(snapshot)
}

/// The snapshot at a checkpoint, without those who sealed up to it.
fn at_checkpoint(
    number: u64,
    read: &mut dyn FnMut(u64) -> Result<SealedHeader, HeaderError>,
) -> Result<Snapshot, HeaderError> {
    let header = read(number)?;
    let snapshot = Snapshot::genesis(&header).map_err(of(&header))?;
    // Block 0 has no seal, and no header before the checkpoint says anything that the checkpoint does not, but who sealed it.
    let first = number.saturating_sub(snapshot.limit() - 1).max(1);
    let recents = (first..=number).map(|number| (number, Default::default()));
    Snapshot::from_checkpoint(&header, recents.collect()).map_err(of(&header))
}

fn of(header: &SealedHeader) -> impl FnOnce(CliqueError) -> HeaderError {
    let (number, hash) = (header.header.number, header.hash);
    move |error| Fault::from(error).of(number, hash).into()
}
