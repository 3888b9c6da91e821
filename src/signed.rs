//! What was signed, kept on the disk before it is signed: never two different blocks over one parent, also after a crash.
//!
//! One file for an address, of a fixed size, so that keeping a block is one write in place and one sync. It begins with a page that says
//! what it is; then come 256 slots of 8 KiB, used in turn: record `n` is in slot `n % 256`.
//!
//! ```text
//! page 0     "cairn signed 1\n", zeros
//! slot       crc32 of the rest | n: u64 | forgotten: u64 | length: u32 | RLP of the header, its seal zeros
//! ```
//!
//! Numbers are little endian. `forgotten` is the highest block number that was overwritten so far, or will be by the next write: at it and
//! below nobody may know any more what was signed. Of two records over one parent the newer counts: there are two only of what an external
//! signer was asked to sign, and refused since it had signed the other. A write that was cut short hits the slot of the oldest record, and no other: any other
//! slot that is not as it was written is damage. What such a write destroys is thus forgotten already, whatever its number was.
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
use alloy_rlp::{Decodable as _, Encodable as _};

use crate::chain::clique::{SEAL_BYTES, seal_hash};
use crate::datadir::{DataDirError, io_error, write_whole};

const MAGIC: &[u8] = b"cairn signed 1\n";
const PAGE_BYTES: usize = 4096;
/// Blocks that are remembered: a network that goes back further than a signer's last 255 or 256 blocks is not signed for until somebody
/// has looked at it.
const SLOTS: usize = 256;
/// A checkpoint's header has 20 bytes for each signer: this is room for some 370.
const SLOT_BYTES: usize = 8192;
const FILE_BYTES: usize = PAGE_BYTES + SLOTS * SLOT_BYTES;
/// crc32, n, forgotten, length.
const HEAD_BYTES: usize = 4 + 8 + 8 + 4;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signed {
    n: u64,
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
        match record.read() {
            Ok(true) => Ok(record),
            Ok(false) => Err(RecordError::Damaged(path.into())),
            Err(source) => Err(failed("read", source)),
        }
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
        let slot = self
            .slot(signed.n)
            .map_err(|source| self.failed("read", source))?;
        match slot {
            Slot::Has(_, _, header) => Ok(Some(*header)),
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
        self.file
            .write_all_at(&slot, offset_bytes(n))
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

    /// Takes up what the file has; false if it is damaged.
    fn read(&mut self) -> io::Result<bool> {
        let mut magic = [0; MAGIC.len()];
        if self.file.metadata()?.len() != FILE_BYTES as u64 {
            return Ok(false);
        }
        self.file.read_exact_at(&mut magic, 0)?;
        if magic != MAGIC {
            return Ok(false);
        }
        let mut others = Vec::new();
        for place in 0..SLOTS as u64 {
            match self.slot(place)? {
                Slot::Has(signed, forgotten, _) if signed.n % SLOTS as u64 == place => {
                    self.forgotten = self.forgotten.max(forgotten);
                    self.signed.push(signed);
                }
                Slot::Empty => others.push((place, true)),
                _ => others.push((place, false)),
            }
        }
        self.signed.sort_unstable_by_key(|signed| signed.n);
        self.next = self.signed.last().map_or(0, |last| last.n + 1);
        let next_place = self.next % SLOTS as u64;
        // What was never written, and the slot in which a write may have been cut short.
        let is_whole = others
            .iter()
            .all(|(place, is_empty)| *place == next_place || (*is_empty && self.next <= *place));
        let in_order = self
            .signed
            .windows(2)
            .all(|pair| pair[0].n + 1 == pair[1].n);
        Ok(is_whole && in_order)
    }

    fn slot(&self, n: u64) -> io::Result<Slot> {
        let mut bytes = vec![0; SLOT_BYTES];
        self.file.read_exact_at(&mut bytes, offset_bytes(n))?;
        Ok(Slot::read(&bytes))
    }
}

enum Slot {
    /// A record, with what was forgotten when it was written, and its header.
    Has(Signed, u64, Box<Header>),
    Empty,
    Damaged,
}

impl Slot {
    fn read(bytes: &[u8]) -> Slot {
        if bytes.iter().all(|byte| *byte == 0) {
            return Slot::Empty;
        }
        Slot::read_record(bytes).unwrap_or(Slot::Damaged)
    }

    fn read_record(bytes: &[u8]) -> Option<Slot> {
        let (crc, rest) = bytes.split_first_chunk::<4>()?;
        let is_whole = |written: &[u8]| crc32fast::hash(written) == u32::from_le_bytes(*crc);
        Slot::read_rest(rest, is_whole)
    }

    /// What follows the checksum.
    fn read_rest(rest: &[u8], is_whole: impl FnOnce(&[u8]) -> bool) -> Option<Slot> {
        let (n, after) = rest.split_first_chunk::<8>()?;
        let (forgotten, after) = after.split_first_chunk::<8>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let mut rlp = after.get(..length)?;
        if !is_whole(&rest[..HEAD_BYTES - 4 + length]) {
            return None;
        }
        let header = Header::decode(&mut rlp).ok().filter(|_| rlp.is_empty())?;
        if header.extra_data.len() < SEAL_BYTES {
            return None;
        }
        let signed = Signed {
            n: u64::from_le_bytes(*n),
            number: header.number,
            parent: header.parent_hash,
            seal_hash: seal_hash(&header),
        };
        let forgotten = u64::from_le_bytes(*forgotten);
        Some(Slot::Has(signed, forgotten, Box::new(header)))
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

/// The header in what a slot has after its checksum, if it has one: what a fuzzer tries.
pub fn read_slot(rest: &[u8]) -> Option<Header> {
    match Slot::read_rest(rest, |_| true)? {
        Slot::Has(_, _, header) => Some(*header),
        Slot::Empty | Slot::Damaged => None,
    }
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

fn offset_bytes(n: u64) -> u64 {
    PAGE_BYTES as u64 + n % SLOTS as u64 * SLOT_BYTES as u64
}

/// A record as it is written. What an older one leaves behind its end does not count.
fn slot_of(n: u64, forgotten: u64, header: &Header) -> Result<Vec<u8>, Refusal> {
    let length = header.length();
    if length > SLOT_BYTES - HEAD_BYTES {
        return Err(Refusal::TooLong(length));
    }
    let mut slot = vec![0; 4];
    slot.extend_from_slice(&n.to_le_bytes());
    slot.extend_from_slice(&forgotten.to_le_bytes());
    slot.extend_from_slice(&(length as u32).to_le_bytes());
    header.encode(&mut slot);
    let crc = crc32fast::hash(&slot[4..]);
    slot[..4].copy_from_slice(&crc.to_le_bytes());
    Ok(slot)
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

#[cfg(test)]
mod tests;
