//! What was signed, kept on the disk before it is signed: never two different blocks over one parent, also after a crash.
//!
//! One file for an address, of a fixed size, so that keeping a block is two writes in place and one sync. It begins with a page that says
//! what it is; then come two tables, alike, each of 256 slots of 8 KiB, used in turn: record `n` is in slot `n % 256` of both.
//!
//! ```text
//! page 0     "cairn signed 2\n", zeros
//! table 0    256 slots
//! table 1    256 slots
//!
//! slot       crc32 of the rest | n: u64 | forgotten: u64 | length: u32 | RLP of the header, its seal zeros
//! ```
//!
//! Numbers are little endian. `forgotten` is the highest block number that was overwritten so far, or will be by the next write: at it and
//! below nobody may know any more what was signed. Of two records over one parent the newer counts: there are two only of what an external
//! signer was asked to sign, and refused since it had signed the other.
//!
//! One whole slot of the two is enough for a record, so damage of one slot, be it of the newest record, loses nothing: the next start
//! writes it again from the other. Only a write that was cut short can leave neither whole. It hits the slots of the oldest record, and no
//! others, before what it was to keep is signed; what it destroys is forgotten already, whatever its number was. Any other record of which
//! neither is whole is damage. (Damage of both slots of the newest, two MiB apart, looks like such a write.)
//!
//! Files that begin with "cairn signed 1" end after the first table. Who opens one writes the second, and then the 2: until that is
//! there the first alone counts.
//!
//! The record holds only while it is the newest there is: whoever puts an older one back (a backup of it, or of the whole data folder) and
//! signs on may sign twice over one parent. So may who starts a copy of the folder on another machine.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use alloy_consensus::Header;
use alloy_primitives::B256;

use crate::chain::clique::seal_hash;
use crate::datadir::{DataDirError, io_error, write_whole};

use slot::{HEAD_BYTES, SLOT_BYTES, Signed, Slot, slot_of};

pub use slot::read_slot;

const MAGIC: &[u8] = b"cairn signed 2\n";
/// Of a file with one table.
const OLDER_MAGIC: &[u8] = b"cairn signed 1\n";
const PAGE_BYTES: usize = 4096;
/// Blocks that are remembered: a network that goes back further than a signer's last 255 or 256 blocks is not signed for until somebody
/// has looked at it.
const SLOTS: usize = 256;
const TABLE_BYTES: usize = SLOTS * SLOT_BYTES;
const TABLES: usize = 2;
const FILE_BYTES: usize = PAGE_BYTES + TABLES * TABLE_BYTES;

/// The record of one address. One process has it at a time.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    file: fs::File,
    /// The last ones, in the order in which they were signed.
    signed: Vec<Signed>,
    /// Number of the next record.
    next: u64,
    /// At this block number and below, what was signed is forgotten, or may be once the next write is cut short.
    forgotten: u64,
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
        /// Where it is kept what was signed.
        path: PathBuf,
    },
    /// A header with so many bytes cannot be kept: it lists too many signers.
    TooLong(usize),
    /// It could not be kept, or what was kept could not be read.
    NotKept(DataDirError),
}

impl Record {
    /// Opens the record at `path`, or begins one.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn open(path: &Path) -> Result<Record, RecordError> {
        let failed = |op, source| RecordError::Io(io_error(op, path, source));
        let open = || fs::OpenOptions::new().read(true).write(true).open(path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _begins = lock_folder(path).map_err(|source| failed("lock", source))?;
                match open() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        let mut bytes = vec![0; FILE_BYTES];
                        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
                        write_whole(path, &bytes, 0o600).map_err(RecordError::Io)?;
                        open()
                    }
                    opened => opened,
                }
            }
            opened => opened,
        };
        let file = file.map_err(|source| failed("open", source))?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => RecordError::InUse(path.into()),
            fs::TryLockError::Error(source) => failed("lock", source),
        })?;
        let mut record = Record {
            path: path.into(),
            file,
            signed: Vec::with_capacity(SLOTS),
            next: 0,
            forgotten: 0,
        };
        let damaged = || RecordError::Damaged(path.into());
        let told = |source| failed("read", source);
        let tables = record.tables().map_err(told)?.ok_or_else(damaged)?;
        let once = record.read(tables).map_err(told)?.ok_or_else(damaged)?;
        let mended = record.mend(tables, &once);
        mended.map_err(|source| failed("write", source))?;
        Ok(record)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header over `parent` that was to be signed, if there is one: it may have been, and nobody got it.
    ///
    /// # Errors
    /// [`Refusal::NotKept`]: it cannot be read.
    pub fn over(&self, parent: &B256) -> Result<Option<Header>, Refusal> {
        let Some(signed) = self.newest_over(parent) else {
            return Ok(None);
        };
        let place = self
            .place(signed.n, TABLES)
            .map_err(|source| self.failed("read", source))?;
        match place.slot {
            Slot::Has(kept) if kept.signed == *signed => Ok(Some(kept.header)),
            _ => {
                let damaged = io::Error::new(io::ErrorKind::InvalidData, "it has changed");
                Err(self.failed("read", damaged))
            }
        }
    }

    /// Allows `header` to be signed: the first over its parent, which is then on the disk, or that same one again.
    ///
    /// # Errors
    /// [`Refusal`]; it must then not be signed.
    pub fn allow(&mut self, header: &Header) -> Result<(), Refusal> {
        let (number, parent, seal_hash) = (header.number, header.parent_hash, seal_hash(header));
        match self.newest_over(&parent) {
            Some(signed) if signed.seal_hash == seal_hash => return Ok(()),
            Some(signed) => {
                return Err(Refusal::Other {
                    signed: signed.seal_hash,
                    parent,
                });
            }
            None if number <= self.forgotten => {
                return Err(Refusal::TooOld {
                    number,
                    forgotten: self.forgotten,
                    path: self.path.clone(),
                });
            }
            None => {}
        }
        self.keep(header)
    }

    /// Keeps `header` in the place of the one that is kept over its parent, which who has the key says it never signed, for it had signed
    /// this one: from now on this one is allowed, and that one is not.
    ///
    /// # Errors
    /// [`Refusal`]; what is kept is then as it was.
    pub fn put_right(&mut self, header: &Header) -> Result<(), Refusal> {
        debug_assert!(self.newest_over(&header.parent_hash).is_some());
        self.keep(header)
    }

    /// The one that counts over `parent`.
    fn newest_over(&self, parent: &B256) -> Option<&Signed> {
        let mut from_last = self.signed.iter().rev();
        from_last.find(|signed| signed.parent == *parent)
    }

    fn keep(&mut self, header: &Header) -> Result<(), Refusal> {
        let n = self.next;
        let oldest = self
            .signed
            .first()
            .filter(|oldest| oldest.n + SLOTS as u64 == n);
        let is_full = oldest.is_some();
        // What this write overwrites was counted by the one before it.
        let next_lost = (n + 1)
            .checked_sub(SLOTS as u64)
            .and_then(|lost| self.signed.iter().find(|signed| signed.n == lost));
        let forgotten = next_lost.map_or(self.forgotten, |lost| lost.number.max(self.forgotten));
        let slot = slot_of(n, forgotten, header)?;
        (0..TABLES)
            .try_for_each(|table| self.file.write_all_at(&slot, offset_bytes(n, table)))
            .and_then(|()| self.file.sync_data())
            .map_err(|source| self.failed("write", source))?;
        if is_full {
            self.signed.remove(0);
        }
        self.signed.push(Signed {
            n,
            number: header.number,
            parent: header.parent_hash,
            seal_hash: seal_hash(header),
        });
        (self.next, self.forgotten) = (n + 1, forgotten);
        Ok(())
    }

    fn failed(&self, op: &'static str, source: io::Error) -> Refusal {
        Refusal::NotKept(io_error(op, &self.path, source))
    }

    /// How many tables the file has; `None` if it is none of ours.
    fn tables(&self) -> io::Result<Option<usize>> {
        let mut magic = [0; MAGIC.len()];
        let length = self.file.metadata()?.len();
        if length < magic.len() as u64 {
            return Ok(None);
        }
        self.file.read_exact_at(&mut magic, 0)?;
        const ONE_TABLE: u64 = (PAGE_BYTES + TABLE_BYTES) as u64;
        const WHOLE: u64 = FILE_BYTES as u64;
        Ok(match (&magic[..], length) {
            (MAGIC, WHOLE) => Some(TABLES),
            // Of a second table that was begun nothing counts.
            (OLDER_MAGIC, ONE_TABLE..=WHOLE) => Some(1),
            _ => None,
        })
    }

    /// Takes up what the file has, and gives what it has in one table only; `None` if it is damaged.
    fn read(&mut self, tables: usize) -> io::Result<Option<Vec<Place>>> {
        let mut others = Vec::new();
        let mut once = Vec::new();
        for at in 0..SLOTS as u64 {
            let place = self.place(at, tables)?;
            match &place.slot {
                Slot::Has(kept) => {
                    self.forgotten = self.forgotten.max(kept.forgotten);
                    self.signed.push(kept.signed);
                    if place.lacks.is_some() {
                        once.push(place);
                    }
                }
                Slot::Empty => others.push((at, true)),
                Slot::Damaged => others.push((at, false)),
            }
        }
        self.signed.sort_unstable_by_key(|signed| signed.n);
        self.next = self
            .signed
            .last()
            .map_or(0, |last| last.n.saturating_add(1));
        let next_place = self.next % SLOTS as u64;
        // What was never written, and the slots in which a write may have been cut short.
        let is_whole = others
            .iter()
            .all(|(place, is_empty)| *place == next_place || (*is_empty && self.next <= *place));
        let in_order = self
            .signed
            .windows(2)
            .all(|pair| pair[0].n.checked_add(1) == Some(pair[1].n));
        Ok((is_whole && in_order).then_some(once))
    }

    /// Makes the tables alike, and all that was read sure to be on the disk: who wrote it may have died before that. The newest is written
    /// again: if the sync that it waited for failed, it is in the cache only, and the next sync takes it for clean. All others were
    /// synced before it was allowed.
    fn mend(&self, tables: usize, once: &[Place]) -> io::Result<()> {
        if tables == 1 {
            let mut table = vec![0; TABLE_BYTES];
            self.file.read_exact_at(&mut table, offset_bytes(0, 0))?;
            self.file.write_all_at(&table, offset_bytes(0, 1))?;
            self.file.sync_data()?;
            self.file.write_all_at(MAGIC, 0)?;
        } else if !once.is_empty() {
            log::warn!(
                "Kept in one of two places, as after a crash or by damage, and written again in the other: {} of the blocks that were signed \
                 path={}",
                once.len(),
                self.path.display()
            );
            for place in once {
                if let Some(offset) = place.lacks {
                    self.file.write_all_at(&place.bytes, offset)?;
                }
            }
        }
        if let Some(last) = self.signed.last() {
            let place = self.place(last.n, tables)?;
            for table in 0..TABLES {
                let offset = offset_bytes(last.n, table);
                self.file.write_all_at(&place.bytes, offset)?;
            }
        }
        self.file.sync_data()
    }

    /// What the tables have at the place of record `n`.
    fn place(&self, n: u64, tables: usize) -> io::Result<Place> {
        let read = |table| {
            let mut bytes = vec![0; SLOT_BYTES];
            self.file
                .read_exact_at(&mut bytes, offset_bytes(n, table))?;
            let slot = match Slot::read(&bytes) {
                Slot::Has(kept) if kept.signed.n % SLOTS as u64 != n % SLOTS as u64 => {
                    Slot::Damaged
                }
                slot => slot,
            };
            Ok::<_, io::Error>(Place {
                slot,
                bytes,
                lacks: None,
            })
        };
        let mut place = read(0)?;
        for table in 1..tables {
            place = place.with(read(table)?, [offset_bytes(n, 0), offset_bytes(n, table)]);
        }
        Ok(place)
    }
}

/// The place of a record, in both tables.
struct Place {
    slot: Slot,
    bytes: Vec<u8>,
    /// Where it is not, and should be too.
    lacks: Option<u64>,
}

impl Place {
    /// Both as one: the newer of what is whole counts.
    fn with(self, other: Place, [here, there]: [u64; 2]) -> Place {
        let lacks = |place: Place, offset| Place {
            lacks: Some(offset),
            ..place
        };
        match (&self.slot, &other.slot) {
            (Slot::Has(one), Slot::Has(two)) if one == two => self,
            (Slot::Has(one), Slot::Has(two)) if one.signed.n < two.signed.n => lacks(other, here),
            (Slot::Has(_), _) => lacks(self, there),
            (_, Slot::Has(_)) => lacks(other, here),
            (Slot::Empty, Slot::Empty) => self,
            _ => Place {
                slot: Slot::Damaged,
                ..self
            },
        }
    }
}

/// What is to be done about a record of what the same key signed in another role.
pub fn move_record(other: &Path, record: &Path) -> String {
    format!(
        "{}: this key has signed before, as that record says; move it to {}, so that no second block is signed over any parent",
        other.display(),
        record.display()
    )
}

/// Held while a record is begun: of two that begin the same one at the same time, the second finds what the first made.
fn lock_folder(path: &Path) -> io::Result<fs::File> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = fs::File::open(folder.unwrap_or(Path::new(".")))?;
    folder.lock()?;
    Ok(folder)
}

fn offset_bytes(n: u64, table: usize) -> u64 {
    (PAGE_BYTES + table * TABLE_BYTES) as u64 + n % SLOTS as u64 * SLOT_BYTES as u64
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
            Refusal::TooOld {
                number,
                forgotten,
                path,
            } => write!(
                f,
                "block {number}: what was signed at {forgotten} and below is no longer known; if the chain went back so far, or was made \
                 anew, remove {} once no block that this address may have signed can still be missing in the chain, and start again",
                path.display()
            ),
            Refusal::TooLong(bytes) => write!(
                f,
                "its header has {bytes} bytes, and no more than {} can be kept of it: there are too many signers",
                SLOT_BYTES - HEAD_BYTES
            ),
            Refusal::NotKept(error) => write!(f, "it cannot be kept that it was signed: {error}"),
        }
    }
}

impl std::error::Error for Refusal {}

mod slot;
#[cfg(test)]
mod tests;
