//! The only system calls, maps and `unsafe` of the store, and the seam where tests inject faults.
#![allow(unsafe_code)] // a file map is unsafe by its nature: see `Map::new`

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::{Deref, Range};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::error::Error;

/// One change the store is about to make to the disk, as a [`Hook`] sees it.
#[derive(Debug)]
pub enum Change<'a> {
    /// A folder is made.
    MakeDir(&'a Path),
    /// A file is made; it must not be there.
    Create(&'a Path),
    /// Bytes are written.
    Write {
        /// The file.
        path: &'a Path,
        /// Where, in bytes from the file's start.
        offset_bytes: u64,
        /// What.
        bytes: &'a [u8],
    },
    /// A file's bytes and length are made durable.
    Sync(&'a Path),
    /// The names in a folder are made durable.
    SyncDir(&'a Path),
    /// A file is unlinked.
    Remove(&'a Path),
    /// A file is given a second name in its folder, which must not be there.
    Link {
        /// The name it has.
        from: &'a Path,
        /// The name it gets besides.
        to: &'a Path,
    },
    /// A file is given another name in its folder, which must not be there.
    Rename {
        /// The name it has.
        from: &'a Path,
        /// The name it gets.
        to: &'a Path,
    },
}

/// What a [`Hook`] says to a change.
#[derive(Debug)]
pub enum Verdict {
    /// Make it.
    Go,
    /// Do not make it: this is the error.
    Fail(io::Error),
    /// Write only so many of the bytes, then this is the error. For [`Change::Write`].
    Short(usize, io::Error),
}

/// Asked before each change to the disk: the seam for tests that record, refuse or tear what a writer does.
pub trait Hook: Send + Sync {
    /// Called in the order of the changes, from the thread that makes them.
    fn before(&self, change: &Change<'_>) -> Verdict;
}

/// Syncs at once at most: a batch has three segments, a tip log and one or two folders; a change that makes many eras has
/// more.
const SYNC_LANES: usize = 6;

/// The disk as a writer sees it. Everything that changes a file or a folder goes through here.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    hook: Option<Arc<dyn Hook>>,
}

impl Disk {
    pub(crate) fn with_hook(hook: Arc<dyn Hook>) -> Disk {
        Disk { hook: Some(hook) }
    }

    fn ask(&self, change: &Change<'_>) -> Result<(), (usize, io::Error)> {
        match self
            .hook
            .as_ref()
            .map_or(Verdict::Go, |hook| hook.before(change))
        {
            Verdict::Go => Ok(()),
            Verdict::Fail(error) => Err((0, error)),
            Verdict::Short(bytes, error) => Err((bytes, error)),
        }
    }

    fn run<T>(
        &self,
        change: &Change<'_>,
        path: &Path,
        op: &'static str,
        call: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, Error> {
        self.ask(change)
            .map_err(|(_, error)| error)
            .and_then(|()| call())
            .map_err(|e| Error::io(path, op, e))
    }

    /// Makes a folder and those above it; it may be there already.
    pub(crate) fn make_dir(&self, path: &Path) -> Result<(), Error> {
        self.run(&Change::MakeDir(path), path, "make folder", || {
            fs::create_dir_all(path)
        })
    }

    /// Makes a file that must not be there.
    pub(crate) fn create(&self, path: &Path) -> Result<OutFile, Error> {
        let file = self.run(&Change::Create(path), path, "create", || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(path)
        })?;
        Ok(OutFile {
            file,
            path: path.to_path_buf(),
            disk: self.clone(),
        })
    }

    /// Opens a file to be written to. Changes nothing.
    pub(crate) fn open(&self, path: &Path) -> Result<OutFile, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| Error::io(path, "open", e))?;
        Ok(OutFile {
            file,
            path: path.to_path_buf(),
            disk: self.clone(),
        })
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        self.run(&Change::Remove(path), path, "remove", || {
            fs::remove_file(path)
        })
    }

    /// Gives a file another name in the same folder.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.run(&Change::Rename { from, to }, from, "rename", || {
            fs::rename(from, to)
        })
    }

    /// Makes files' bytes and the names in folders durable, several at once: the disk then flushes once or twice, not once
    /// for each.
    pub(crate) fn sync_all(&self, files: &[&OutFile], folders: &[PathBuf]) -> Result<(), Error> {
        let allowed = |change: &Change<'_>, path| self.run(change, path, "sync", || Ok(()));
        for file in files {
            allowed(&Change::Sync(&file.path), &file.path)?;
        }
        for path in folders {
            allowed(&Change::SyncDir(path), path)?;
        }
        let file =
            |file: &OutFile| (file.file.sync_data()).map_err(|e| Error::io(&file.path, "sync", e));
        let folder = |path: &Path| {
            let synced = File::open(path).and_then(|folder| folder.sync_all());
            synced.map_err(|e| Error::io(path, "sync folder", e))
        };
        let sync = |i: usize| match files.get(i) {
            Some(one) => file(one),
            None => folder(&folders[i - files.len()]),
        };
        let count = files.len() + folders.len();
        let lanes = count.clamp(1, SYNC_LANES);
        let lane = |from: usize| (from..count).step_by(lanes).try_for_each(sync);
        thread::scope(|scope| {
            let others: Vec<_> = (1..lanes)
                .map(|from| thread::Builder::new().spawn_scoped(scope, move || lane(from)))
                .collect();
            let mut result = lane(0);
            for (from, other) in (1..).zip(others) {
                let other = match other {
                    Ok(thread) => thread.join().expect("a sync does not panic"),
                    Err(_) => lane(from), // the system has no thread to give
                };
                result = result.and(other);
            }
            result
        })
    }

    /// Gives a file a second name in the same folder; it may have it already. False: the file system knows no such thing.
    pub(crate) fn link(&self, from: &Path, to: &Path) -> Result<bool, Error> {
        let linked = self.run(
            &Change::Link { from, to },
            to,
            "link",
            || match fs::hard_link(from, to).map_err(|e| (e.kind(), e)) {
                Ok(()) => Ok(true),
                Err((io::ErrorKind::AlreadyExists, e)) => {
                    let (one, other) = (fs::metadata(from)?, fs::metadata(to)?);
                    match (one.dev(), one.ino()) == (other.dev(), other.ino()) {
                        true => Ok(true),
                        false => Err(e), // it is another file, and must not stand for this one
                    }
                }
                Err((io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied, _)) => Ok(false),
                Err((_, e)) => Err(e),
            },
        )?;
        Ok(linked)
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync_dir(&self, path: &Path) -> Result<(), Error> {
        self.run(&Change::SyncDir(path), path, "sync folder", || {
            File::open(path)?.sync_all()
        })
    }
}

/// A file that is written at given places, never shortened.
pub(crate) struct OutFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

impl OutFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), Error> {
        let change = Change::Write {
            path: &self.path,
            offset_bytes,
            bytes,
        };
        let result = match self.disk.ask(&change) {
            Ok(()) => self.file.write_all_at(bytes, offset_bytes),
            Err((short, error)) => {
                let part = &bytes[..short.min(bytes.len())];
                self.file.write_all_at(part, offset_bytes).and(Err(error))
            }
        };
        result.map_err(|e| Error::io(&self.path, "write", e))
    }

    /// Tells the kernel to begin writing these bytes to the disk, and does not wait. Nothing is durable by it: what goes
    /// wrong is an error of the sync.
    pub(crate) fn begin_writeback(&self, bytes: Range<u64>) {
        #[cfg(target_os = "linux")]
        {
            let offset = bytes.start.cast_signed();
            let length = (bytes.end - bytes.start).cast_signed();
            let flags = libc::SYNC_FILE_RANGE_WRITE;
            // SAFETY: a call with numbers alone, of a file that is open as long as `self` is. Its result is that of a
            // hint: where it is not taken the sync does all.
            let _ = unsafe { libc::sync_file_range(self.file.as_raw_fd(), offset, length, flags) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
    }

    /// Refuses to go on if the file has no name any more: what is written to it is gone when it is closed.
    pub(crate) fn refuse_deleted(&self) -> Result<(), Error> {
        use std::os::unix::fs::MetadataExt as _;
        let found = self.file.metadata();
        let links = found.map_err(|e| Error::io(&self.path, "look at", e))?;
        if links.nlink() == 0 {
            let why = "it was deleted while the store was open, and nothing written from now on would last";
            return Err(Error::io(&self.path, "write", io::Error::other(why)));
        }
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.disk
            .run(&Change::Sync(&self.path), &self.path, "sync", || {
                self.file.sync_data()
            })
    }
}

/// A file that is only read, at given places.
pub(crate) struct InFile {
    file: File,
    path: PathBuf,
}

impl InFile {
    pub(crate) fn open(path: &Path) -> Result<InFile, Error> {
        let file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
        Ok(InFile {
            file,
            path: path.to_path_buf(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> Result<u64, Error> {
        Ok(self
            .file
            .metadata()
            .map_err(|e| Error::io(&self.path, "stat", e))?
            .len())
    }

    /// Reads up to `out.len()` bytes; fewer only at the file's end.
    pub(crate) fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> Result<usize, Error> {
        let mut done = 0;
        while done < out.len() {
            match self
                .file
                .read_at(&mut out[done..], offset_bytes + done as u64)
            {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(&self.path, "read", e)),
            }
        }
        Ok(done)
    }

    /// Maps the file as long as it is now.
    pub(crate) fn map(&self) -> Result<Map, Error> {
        Map::new(&self.file, &self.path)
    }
}

/// How much of a map is asked for at once before it is looked at, in bytes: half of what the kernel reads ahead anyway.
const WINDOW_BYTES: usize = 64 << 10;

/// A read-only map of a whole file.
pub(crate) struct Map {
    map: Option<memmap2::Mmap>,
    path: PathBuf,
    /// A bit for each window that was asked for.
    asked: Box<[AtomicU64]>,
}

impl Map {
    fn new(file: &File, path: &Path) -> Result<Map, Error> {
        let length = file
            .metadata()
            .map_err(|e| Error::io(path, "stat", e))?
            .len();
        if length == 0 {
            return Ok(Map {
                map: None,
                path: path.to_path_buf(),
                asked: Box::default(),
            }); // the kernel refuses an empty map
        }
        // SAFETY: A map is sound while the bytes under it do not change and the file does not shrink. The store's laws
        // say so of its files: only bytes that were committed before the map was made are looked at, a committed byte
        // never changes, and no file is ever shortened; what is replaced is a new file. Somebody else who writes into
        // the folder breaks that for any map, as for every other store of this kind; the checksums find what he did.
        let map = unsafe { memmap2::MmapOptions::new().map(file) }
            .map_err(|e| Error::io(path, "map", e))?;
        let windows = map.len().div_ceil(WINDOW_BYTES).div_ceil(64);
        Ok(Map {
            map: Some(map),
            path: path.to_path_buf(),
            asked: (0..windows).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// Asks for bytes before they are looked at, so that a sector that cannot be read is an error and no signal. Asked
    /// once for each window: a page that the kernel gave up since and then cannot read again is a signal all the same.
    pub(crate) fn populate(&self, from: usize, to: usize) -> Result<(), Error> {
        let Some(map) = self.map.as_ref().filter(|_| from < to) else {
            return Ok(());
        };
        for window in from / WINDOW_BYTES..=(to - 1).min(map.len() - 1) / WINDOW_BYTES {
            let (word, bit) = (&self.asked[window / 64], 1 << (window % 64));
            if word.load(Ordering::Relaxed) & bit != 0 {
                continue;
            }
            populate(map, window * WINDOW_BYTES).map_err(|e| Error::io(&self.path, "read", e))?;
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the kernel that reads will jump about: for runs only, never for data.
    pub(crate) fn advise_random(&self) {
        if let Some(map) = &self.map {
            // A hint: where it is not taken nothing is lost.
            let _ = map.advise(memmap2::Advice::Random);
        }
    }
}

#[cfg(target_os = "linux")]
fn populate(map: &memmap2::Mmap, at: usize) -> io::Result<()> {
    const EFAULT: i32 = 14;
    let length = WINDOW_BYTES.min(map.len() - at);
    match map.advise_range(memmap2::Advice::PopulateRead, at, length) {
        Err(e) if e.raw_os_error() == Some(EFAULT) => Err(io::Error::other(
            "the bytes cannot be read: a bad sector, or the file was cut short",
        )),
        _ => Ok(()), // kernels before 5.14 do not know it
    }
}

#[cfg(not(target_os = "linux"))]
fn populate(_: &memmap2::Mmap, _: usize) -> io::Result<()> {
    Ok(())
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

/// The writer's lock, held until it is dropped.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path` without waiting. Writes nothing if the file is there.
    pub(crate) fn take(dir: &Path, path: &Path) -> Result<Lock, Error> {
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path),
            other => other,
        }
        .map_err(|e| Error::io(path, "open", e))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked {
                dir: dir.to_path_buf(),
            }),
            Err(TryLockError::Error(e)) => Err(Error::io(path, "lock", e)),
        }
    }
}

/// Whether a file is there.
pub(crate) fn exists(path: &Path) -> bool {
    path.exists()
}

/// A file's length in bytes; 0 if it cannot be told.
pub(crate) fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |data| data.len())
}

/// Waits a little, for a writer that is between two writes.
pub(crate) fn pause() {
    thread::sleep(std::time::Duration::from_millis(2));
}

/// Random bytes that nobody can guess.
pub(crate) fn fill_random(out: &mut [u8]) -> io::Result<()> {
    getrandom::fill(out).map_err(io::Error::other)
}

/// The names in a folder; none if the folder is not there.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| Error::io(dir, "list", e))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(dir, "list", e))?;
        // Names of ours are ASCII; others are none of our business.
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn bytes_that_cannot_be_read_are_an_error_and_no_signal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, vec![7; 3 * WINDOW_BYTES]).unwrap();
        let map = InFile::open(&path).unwrap().map().unwrap();
        map.populate(5, 5).unwrap();
        map.populate(0, 9).unwrap();
        // What a bad sector does to a map, a file that was cut short does too.
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(WINDOW_BYTES as u64).unwrap();
        map.populate(0, WINDOW_BYTES).unwrap();
        let error = map
            .populate(WINDOW_BYTES - 1, WINDOW_BYTES + 1)
            .unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}
