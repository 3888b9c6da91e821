//! The file of kept snapshots: crc32 of the rest in little endian, then what [`encode`](super::encode) makes of them.
//!
//! It is only a cache. What cannot be used of it is as if it were not there, and is made anew from the headers. So it is replaced whole and
//! nobody waits for the disk: after a power cut it is the old one, the new one or damaged, and the checksum tells.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use alloy_primitives::B256;

use super::{Kept, decode, encode};
use crate::chain::{Genesis, Tip};
use crate::datadir::{read_limited, write_cache};
use crate::logging::elapsed;

/// A longer file is not read, and none is written: room for four snapshots with 1024 signers each, the most that a peer's checkpoint may
/// list, and some thousand open votes.
const FILE_LIMIT_BYTES: usize = 1 << 20;
/// Of its checksum.
const CRC_BYTES: usize = 4;

/// The file, and what is kept in it.
#[derive(Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    genesis: B256,
    epoch: u64,
    kept: Kept,
    /// It could not be written when it was last tried.
    failed: bool,
}

impl SnapshotFile {
    /// The file at `path`, which need not be there, with those of its snapshots that are of the `stored` chain. Writes nothing.
    pub fn open(path: PathBuf, genesis: &Genesis, stored: &cairn_store::Snapshot) -> SnapshotFile {
        let mut file = SnapshotFile {
            path,
            genesis: genesis.header.hash,
            epoch: genesis.spec.clique_epoch(),
            kept: Kept::default(),
            failed: false,
        };
        if genesis.spec.clique.is_none() {
            return file;
        }
        match read(&file.path, &file.genesis) {
            Ok(kept) => {
                let head = stored.head().number;
                file.kept = kept;
                // The chain may have gone back since, or be an older copy. A store that cannot be read is told of by who needs it more.
                file.kept.0.retain(|kept| {
                    let hash = || stored.hash(kept.number).ok().flatten();
                    kept.number <= head && hash() == Some(kept.hash)
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::info!(
                "The kept snapshots of the signers cannot be used, and are made anew from the headers: {}: {error}",
                file.path.display()
            ),
        }
        file
    }

    /// The snapshots.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The stored head has moved, as [`Kept::moved`] has it: writes the file if there is something new to keep.
    pub fn moved(&mut self, ancestor: u64, tip: &Tip) {
        if !self.kept.moved(ancestor, tip.clique.as_ref(), self.epoch) {
            return;
        }
        let (number, start) = (tip.header.number(), Instant::now());
        match write_cache(&self.path, &self.bytes(), 0o644) {
            Ok(()) => {
                self.failed = false;
                let took = elapsed(start.elapsed());
                log::debug!("Kept the snapshot of the signers number={number} elapsed={took}");
            }
            Err(error) if self.failed => {
                log::debug!("The snapshot of the signers is not kept either: {error}");
            }
            Err(error) => {
                self.failed = true;
                log::warn!(
                    "The snapshot of the signers after block {number} is not kept, so the next start reads more headers: {error}"
                );
            }
        }
    }

    /// As many as there is room for, the newest first of all.
    fn bytes(&self) -> Vec<u8> {
        let mut kept = &self.kept.0[..];
        loop {
            let rest = encode(&self.genesis, kept);
            match kept.split_first() {
                Some((_, newer)) if CRC_BYTES + rest.len() > FILE_LIMIT_BYTES => kept = newer,
                _ => return [&crc32fast::hash(&rest).to_le_bytes(), &rest[..]].concat(),
            }
        }
    }
}

fn read(path: &Path, genesis: &B256) -> io::Result<Kept> {
    let wrong = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let file = File::open(path)?;
    let bytes = read_limited(file, path, FILE_LIMIT_BYTES).map_err(io::Error::other)?;
    if bytes.len() > FILE_LIMIT_BYTES {
        return Err(wrong("it is longer than any that cairn writes"));
    }
    let whole = bytes.split_first_chunk::<CRC_BYTES>();
    let whole = whole.filter(|(crc, rest)| crc32fast::hash(rest) == u32::from_le_bytes(**crc));
    let (_, rest) = whole.ok_or_else(|| wrong("it is damaged"))?;
    decode(rest, genesis).map(Kept).map_err(wrong)
}
