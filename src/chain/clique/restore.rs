//! The snapshot of a stored chain after a restart.

use super::{Snapshot, seal};
use crate::chain::{
    error::{Fault, HeaderError},
    header::SealedHeader,
    spec::CliqueConfig,
};

/// The snapshot after block `head`, from the last checkpoint on. `read` gives the canonical headers, which were judged before.
/// Signers are only found out where they matter (votes, recent blocks), so it costs little more than reading and hashing.
pub(crate) fn restore(
    config: CliqueConfig,
    head: u64,
    read: &mut dyn FnMut(u64) -> Result<SealedHeader, HeaderError>,
) -> Result<Snapshot, HeaderError> {
    let checkpoint = head - head % config.epoch.max(1);
    let header = read(checkpoint)?;
    let of = |header: &SealedHeader| {
        let (number, hash) = (header.header.number, header.hash);
        move |error| HeaderError::from(Fault::from(error).of(number, hash))
    };
    let mut snapshot = Snapshot::genesis(&header).map_err(of(&header))?;
    // Block 0 has no seal, and no header before the checkpoint says anything that the checkpoint does not, but who sealed it.
    let first = checkpoint.saturating_sub(snapshot.limit() - 1).max(1);
    let recents = (first..=checkpoint).map(|number| (number, Default::default()));
    snapshot = Snapshot::from_checkpoint(&header, recents.collect()).map_err(of(&header))?;
    for number in checkpoint + 1..=head {
        let header = read(number)?;
        if header.header.parent_hash != snapshot.hash {
            let fault = Fault::mismatch("parentHash", snapshot.hash, header.header.parent_hash);
            return Err(fault.of(number, header.hash).into());
        }
        snapshot
            .replay(&header, config.epoch)
            .map_err(of(&header))?;
    }
    snapshot.fill_recents(|number| {
        let header = read(number)?;
        seal::signer(&header.header).map_err(of(&header))
    })?;
    Ok(snapshot)
}
