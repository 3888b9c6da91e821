//! What can go wrong in a store: whose fault it is, where, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use alloy_primitives::B256;

/// Everything a store can refuse or fail with. Each prints what is wrong, where, and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no store in the folder.
    NoStore {
        /// The folder that was looked at.
        dir: PathBuf,
    },
    /// A store is there already and [`Writer::create`](crate::Writer::create) never overwrites one.
    Exists {
        /// The folder of the store.
        dir: PathBuf,
    },
    /// Another writer holds the store.
    Locked {
        /// The folder of the store.
        dir: PathBuf,
    },
    /// The operating system refused.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as a verb: `write`, `sync`, `open`.
        op: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The disk (or the quota) is full. The store opens again as it was after the last commit.
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Bytes on the disk are not what was committed.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes from its start.
        offset_bytes: u64,
        /// What was expected and what was found.
        what: String,
    },
    /// The store was written by a newer version of its format.
    Newer {
        /// The MANIFEST that says so.
        path: PathBuf,
        /// The version it asks for.
        found: u16,
        /// The version this program knows.
        supported: u16,
        /// False: not even reading is possible. True: reading is, writing is not.
        readable: bool,
    },
    /// The folder holds files newer than its MANIFEST: one of them was restored from a backup, or the folder was copied
    /// while a node wrote to it. The store can be read, not written.
    Ahead {
        /// The newer file.
        path: PathBuf,
        /// The MANIFEST's sequence.
        sequence: u64,
    },
    /// Somebody else changed the MANIFEST under a running writer.
    Changed {
        /// The folder of the store.
        dir: PathBuf,
        /// The sequence this writer wrote last.
        ours: u64,
        /// The sequence found.
        found: u64,
    },
    /// A commit replaced files of this snapshot before it had opened them: take a newer snapshot.
    Superseded {
        /// The file that is gone.
        path: PathBuf,
    },
    /// A block hangs on a block that is neither stored nor among those given.
    NotLinked {
        /// The block's number.
        number: u64,
        /// The parent that is not known.
        parent: B256,
    },
    /// The head asked for is neither stored nor among the blocks given.
    UnknownHead {
        /// Its hash.
        hash: B256,
    },
    /// A block contradicts itself or what is stored: its maker's fault, found before anything was written.
    BadBlock {
        /// The block's number, as given.
        number: u64,
        /// What was expected and what was found.
        what: String,
    },
    /// A commit failed before: nothing more is written until the store is opened again.
    Poisoned,
}

impl Error {
    pub(crate) fn io(path: &Path, op: &'static str, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full {
                path: path.to_path_buf(),
            },
            _ => Error::Io {
                path: path.to_path_buf(),
                op,
                source,
            },
        }
    }

    pub(crate) fn damaged(path: &Path, offset_bytes: u64, what: impl Into<String>) -> Error {
        Error::Damaged {
            path: path.to_path_buf(),
            offset_bytes,
            what: what.into(),
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoStore { dir } => {
                write!(
                    f,
                    "{}: there is no block store here (no MANIFEST); create one first",
                    dir.display()
                )
            }
            Error::Exists { dir } => {
                write!(
                    f,
                    "{}: a block store is here already; open it, or choose another folder",
                    dir.display()
                )
            }
            Error::Locked { dir } => write!(
                f,
                "{}: another process is writing to this block store (it holds LOCK); stop it, or only read",
                dir.display()
            ),
            Error::Io { path, op, source } => {
                write!(f, "{}: {op}: {source}", path.display())?;
                // Only what changes a store leaves it in a state to say something of.
                match *op {
                    "create" | "write" | "sync" | "sync folder" | "rename" | "link" | "remove" => f
                        .write_str(
                            "; see to the disk and open the store again, nothing committed is lost",
                        ),
                    _ => Ok(()),
                }
            }
            Error::Full { path } => write!(
                f,
                "{}: the disk is full; make room and open the store again, nothing committed is lost",
                path.display()
            ),
            Error::Damaged {
                path,
                offset_bytes,
                what,
            } => write!(
                f,
                "{}: damaged at byte {offset_bytes}: {what}; run verify to see how much of the store is sound",
                path.display()
            ),
            Error::Newer {
                path,
                found,
                supported,
                readable,
            } => write!(
                f,
                "{}: this store needs format version {found} to {}, this program knows {supported}; use a newer program{}",
                path.display(),
                if *readable { "write" } else { "read" },
                if *readable { ", or only read" } else { "" },
            ),
            Error::Ahead { path, sequence } => write!(
                f,
                "{}: newer than the MANIFEST (sequence {sequence}), which was restored or copied from a live store; \
                 the store can be read but not written until it is repaired",
                path.display()
            ),
            Error::Changed { dir, ours, found } => write!(
                f,
                "{}: the MANIFEST changed under the writer (sequence {ours} was written, {found} is there); \
                 see who else writes to the folder, then open it again",
                dir.display()
            ),
            Error::Superseded { path } => {
                write!(
                    f,
                    "{}: replaced by a later commit; take a newer snapshot",
                    path.display()
                )
            }
            Error::NotLinked { number, parent } => write!(
                f,
                "block {number}: its parent {parent} is not stored; give the blocks before it first"
            ),
            Error::UnknownHead { hash } => {
                write!(
                    f,
                    "head {hash} is neither stored nor among the blocks given; give the block with it"
                )
            }
            Error::BadBlock { number, what } => {
                write!(f, "block {number}: {what}; nothing was written")
            }
            Error::Poisoned => write!(
                f,
                "an earlier commit failed, so what is on the disk is not certain; open the store again"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_about_the_disk_is_said_where_a_store_was_being_changed() {
        let said = |op| {
            let denied = io::Error::from(io::ErrorKind::PermissionDenied);
            Error::io(Path::new("data/blocks"), op, denied).to_string()
        };
        for op in ["write", "sync", "sync folder", "rename", "remove"] {
            let said = said(op);
            assert!(said.contains("open the store again"), "{said}");
        }
        for op in ["make folder", "get a random salt", "read", "lock"] {
            assert_eq!(said(op), format!("data/blocks: {op}: permission denied"));
        }
    }
}
