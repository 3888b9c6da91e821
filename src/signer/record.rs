//! What was signed, kept on the disk before a signature goes out: never two different blocks over one parent, also after a crash.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use alloy_consensus::Header;
use alloy_primitives::B256;

use crate::chain::clique::seal_hash;
use crate::datadir::{DataDirError, io_error, read_limited, write_whole};

/// Blocks that are remembered: one below all of them is not signed, so a network that goes back further than a signer's last 256
/// blocks is not signed for until somebody has looked at it. The whole file, some 40 KiB, is written for each block.
const SIGNED_LIMIT: usize = 256;
/// More than the file can have.
const FILE_LIMIT_BYTES: usize = 256 << 10;

/// The record of one address. One process has it at a time.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    state: State,
    _lock: fs::File,
}

/// The file: `forgotten NUMBER`, and a line `NUMBER PARENT SEAL_HASH` for each block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    /// At this number and below, what was signed is forgotten.
    forgotten: u64,
    signed: Vec<Signed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signed {
    number: u64,
    parent: B256,
    seal_hash: B256,
}

/// Why a record cannot be used.
#[derive(Debug)]
pub enum RecordError {
    /// The system refused.
    Io(DataDirError),
    /// Another process has it.
    InUse(PathBuf),
    /// It is not as it was written.
    Damaged(PathBuf),
}

/// Why a block must not be signed.
#[derive(Debug)]
pub enum Refusal {
    /// Another one over this parent was.
    Other {
        /// The seal hash of that one.
        signed: B256,
        /// The parent.
        parent: B256,
    },
    /// It is as old as what is forgotten.
    TooOld {
        /// Its number.
        number: u64,
        /// The highest number that is.
        forgotten: u64,
    },
    /// It could not be kept.
    NotKept(DataDirError),
}

impl Record {
    /// Opens the record at `path`, or begins one.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn open(path: &Path) -> Result<Record, RecordError> {
        let lock_path = path.with_extension("lock");
        let opened = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path);
        let lock =
            opened.map_err(|source| RecordError::Io(io_error("open", &lock_path, source)))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => RecordError::InUse(path.into()),
            fs::TryLockError::Error(source) => {
                RecordError::Io(io_error("lock", &lock_path, source))
            }
        })?;
        let state = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(source) => return Err(RecordError::Io(io_error("open", path, source))),
            Ok(file) => {
                let text = read_limited(file, path, FILE_LIMIT_BYTES).map_err(RecordError::Io)?;
                let text = std::str::from_utf8(&text).ok();
                text.and_then(State::read)
                    .ok_or_else(|| RecordError::Damaged(path.into()))?
            }
        };
        Ok(Record {
            path: path.into(),
            state,
            _lock: lock,
        })
    }

    /// Allows `header` to be signed: the first over its parent, which is then on the disk, or that same one again.
    ///
    /// # Errors
    /// [`Refusal`]; it must then not be signed.
    pub fn allow(&mut self, header: &Header) -> Result<(), Refusal> {
        let (number, parent, seal_hash) = (header.number, header.parent_hash, seal_hash(header));
        match self
            .state
            .signed
            .iter()
            .find(|signed| signed.parent == parent)
        {
            Some(signed) if signed.seal_hash == seal_hash => return Ok(()),
            Some(signed) => {
                return Err(Refusal::Other {
                    signed: signed.seal_hash,
                    parent,
                });
            }
            None if number <= self.state.forgotten => {
                return Err(Refusal::TooOld {
                    number,
                    forgotten: self.state.forgotten,
                });
            }
            None => {}
        }
        let mut next = self.state.clone();
        next.signed.push(Signed {
            number,
            parent,
            seal_hash,
        });
        if next.signed.len() > SIGNED_LIMIT {
            next.signed.sort_by_key(|signed| signed.number);
            next.forgotten = next.signed.remove(0).number;
        }
        write_whole(&self.path, next.to_string().as_bytes(), 0o600).map_err(Refusal::NotKept)?;
        self.state = next;
        Ok(())
    }
}

impl State {
    fn read(text: &str) -> Option<State> {
        let mut lines = text.lines();
        let forgotten = lines.next()?.strip_prefix("forgotten ")?.parse().ok()?;
        let signed = lines.map(|line| {
            let mut parts = line.split(' ');
            let signed = Signed {
                number: parts.next()?.parse().ok()?,
                parent: parts.next()?.parse().ok()?,
                seal_hash: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(signed)
        });
        Some(State {
            forgotten,
            signed: signed.collect::<Option<_>>()?,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "forgotten {}", self.forgotten)?;
        self.signed.iter().try_for_each(|signed| {
            let Signed {
                number,
                parent,
                seal_hash,
            } = signed;
            writeln!(f, "{number} {parent} {seal_hash}")
        })
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Io(error) => error.fmt(f),
            RecordError::InUse(path) => {
                write!(
                    f,
                    "{}: another process signs for this address",
                    path.display()
                )
            }
            RecordError::Damaged(path) => write!(
                f,
                "{}: it is damaged, so nobody knows what was signed; remove it once no block that this address may have signed can \
                 still be missing in the chain",
                path.display()
            ),
        }
    }
}

impl std::error::Error for RecordError {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Other { signed, parent } => write!(
                f,
                "another block over {parent} was signed before, that with the seal hash {signed}"
            ),
            Refusal::TooOld { number, forgotten } => write!(
                f,
                "block {number}: what was signed at {forgotten} and below is no longer known"
            ),
            Refusal::NotKept(error) => write!(f, "it cannot be kept that it was signed: {error}"),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloy_primitives::Bytes;

    fn header(number: u64, parent: u8, time_s: u64) -> Header {
        Header {
            number,
            parent_hash: B256::repeat_byte(parent),
            timestamp: time_s,
            extra_data: Bytes::from(vec![0; 97]),
            ..Header::default()
        }
    }

    #[test]
    fn a_second_block_over_one_parent_is_refused_also_after_a_restart_and_the_same_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signed-x");
        let mut record = Record::open(&path).unwrap();
        record.allow(&header(5, 1, 100)).unwrap();
        assert!(matches!(Record::open(&path), Err(RecordError::InUse(_))));
        drop(record);
        let mut record = Record::open(&path).unwrap();
        record.allow(&header(5, 1, 100)).unwrap();
        let refused = record.allow(&header(5, 1, 101));
        assert!(matches!(refused, Err(Refusal::Other { .. })), "{refused:?}");
        // At the same height over another parent: or a network that was reorganised could stop.
        record.allow(&header(5, 2, 101)).unwrap();
        drop(record);
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [
            "",
            "forgotten",
            &text[..text.len() - 2],
            &text.replace(' ', "  "),
        ] {
            fs::write(&path, damaged).unwrap();
            assert!(
                matches!(Record::open(&path), Err(RecordError::Damaged(_))),
                "{damaged}"
            );
        }
    }

    #[test]
    fn what_is_forgotten_is_never_signed_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::open(&dir.path().join("r")).unwrap();
        let over = |number: u64| Header {
            parent_hash: B256::left_padding_from(&number.to_be_bytes()),
            ..header(number, 0, 7)
        };
        let last = SIGNED_LIMIT as u64 + 10;
        for number in 1..=last {
            record.allow(&over(number)).unwrap();
        }
        assert_eq!(record.state.signed.len(), SIGNED_LIMIT);
        assert!(fs::metadata(&record.path).unwrap().len() < FILE_LIMIT_BYTES as u64 / 2);
        for number in 1..=10 {
            assert!(matches!(
                record.allow(&over(number)),
                Err(Refusal::TooOld { .. })
            ));
        }
        record.allow(&over(11)).unwrap();
    }

    #[test]
    fn what_cannot_be_kept_is_not_signed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("gone");
        fs::create_dir(&folder).unwrap();
        let mut record = Record::open(&folder.join("r")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let refused = record.allow(&header(5, 1, 100));
        assert!(matches!(refused, Err(Refusal::NotKept(_))), "{refused:?}");
        fs::create_dir(&folder).unwrap();
        record.allow(&header(5, 1, 101)).unwrap();
    }
}
