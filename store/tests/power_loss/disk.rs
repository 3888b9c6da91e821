//! A disk in memory in the place of `src/file.rs`, of the machine that a history runs on.

use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::machine::{
    Dir, DirChange, Do, Fault, FileRef, Machine, STORE, eio, is_manifest, is_run, is_tip, name,
    split, with,
};
use crate::manifest::Manifest;
use crate::wrong::Wrong;

/// The seam of the real file; here the disk itself is one.
pub trait Hook: Send + Sync {}

/// The disk as a writer sees it.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    in_memory: (),
}

impl Disk {
    pub(crate) fn with_hook(_: Arc<dyn Hook>) -> Disk {
        Disk::default()
    }

    pub(crate) fn make_dir(&self, path: &Path) -> Result<(), Error> {
        let result = with(|m| {
            if m.dirs.contains_key(path) {
                return Ok(());
            }
            match m.ask(false, true)? {
                Do::Go => {
                    m.dirs.insert(path.to_path_buf(), Dir::default());
                    Ok(())
                }
                _ => Err(eio()),
            }
        });
        result.map_err(|e| Error::io(path, "make folder", e))
    }

    pub(crate) fn create(&self, path: &Path) -> Result<OutFile, Error> {
        let result = with(|m| {
            let (folder, name) = split(path);
            if m.dir(folder)?.cache.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = FileRef::default();
            m.names(folder, &DirChange::Add(name.to_owned(), file.clone()))?;
            Ok(file)
        });
        let file = result.map_err(|e| Error::io(path, "create", e))?;
        Ok(OutFile {
            file,
            path: path.to_path_buf(),
        })
    }

    pub(crate) fn open(&self, path: &Path) -> Result<OutFile, Error> {
        let file = with(|m| m.file(path)).map_err(|e| Error::io(path, "open", e))?;
        Ok(OutFile {
            file,
            path: path.to_path_buf(),
        })
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let change = DirChange::Rename(name(from).to_owned(), name(to).to_owned());
        with(|m| m.names(split(from).0, &change)).map_err(|e| Error::io(from, "rename", e))
    }

    pub(crate) fn link(&self, from: &Path, to: &Path) -> Result<bool, Error> {
        with(|m| {
            if m.wrong == Some(Wrong::KeptLate) {
                return Ok(false);
            }
            let file = m.file(from)?;
            if m.file(to).is_err() {
                let change = DirChange::Add(name(to).to_owned(), file);
                m.names(split(to).0, &change)?;
            }
            Ok(true)
        })
        .map_err(|e| Error::io(to, "link", e))
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        with(|m| {
            if m.wrong == Some(Wrong::UnlinkFirst) && m.file(path).is_err() {
                return Ok(());
            }
            m.file(path)?;
            m.names(split(path).0, &DirChange::Remove(name(path).to_owned()))
        })
        .map_err(|e| Error::io(path, "remove", e))
    }

    pub(crate) fn sync_all(&self, files: &[&OutFile], folders: &[PathBuf]) -> Result<(), Error> {
        files.iter().try_for_each(|file| file.sync())?;
        folders.iter().try_for_each(|path| self.sync_dir(path))
    }

    pub(crate) fn sync_dir(&self, path: &Path) -> Result<(), Error> {
        with(|m| {
            let is_store = path == Path::new(STORE);
            let skip = match m.wrong {
                Some(Wrong::StoreFolderUnsynced) => is_store,
                Some(Wrong::FoldersUnsynced) => !is_store,
                _ => false,
            };
            // A folder whose sync fails keeps its names unsynced: the next sync has them again.
            let go = m.ask(true, false)?;
            if skip && matches!(go, Do::Go) {
                return Ok(());
            }
            if matches!(go, Do::Go | Do::Die(true)) {
                let named_late = m.wrong == Some(Wrong::NamedLate);
                for (folder, dir) in &mut m.dirs {
                    if folder == path {
                        for change in std::mem::take(&mut dir.pending) {
                            if named_late && matches!(change, DirChange::Rename(..)) {
                                dir.pending.push(change);
                            } else {
                                change.apply(&mut dir.disk);
                            }
                        }
                    }
                    if folder.parent() == Some(path) {
                        dir.is_durable = true;
                    }
                }
            }
            match go {
                Do::Go => Ok(()),
                _ => Err(eio()),
            }
        })
        .map_err(|e| Error::io(path, "sync folder", e))
    }
}

pub(crate) struct OutFile {
    file: FileRef,
    path: PathBuf,
}

impl OutFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Nobody deletes files of this disk but the store.
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    pub(crate) fn refuse_deleted(&self) -> Result<(), Error> {
        Ok(())
    }

    pub(crate) fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), Error> {
        with(|m| {
            if is_manifest(&self.path) && self.misplace(m, bytes)? {
                return Ok(());
            }
            let go = m.ask(false, true)?;
            let part = match go {
                Do::Go => bytes,
                Do::Die(true) | Do::Fail => {
                    &bytes[..m.random.below(bytes.len() as u64 + 1) as usize]
                }
                Do::Die(false) => &[],
            };
            if !part.is_empty() {
                let mut file = self.file.borrow_mut();
                file.write(offset_bytes as usize, part, m.sector);
                if m.wrong == Some(Wrong::ClosedEarly) && matches!(go, Do::Go) && file.is_closed() {
                    file.flush();
                }
            }
            match go {
                Do::Go => Ok(()),
                Do::Fail if m.random.one_in(2) => Err(io::Error::from_raw_os_error(28)),
                _ => Err(eio()),
            }
        })
        .map_err(|e| Error::io(&self.path, "write", e))
    }

    /// What the wrong orders do where a MANIFEST is written. True: it is not.
    fn misplace(&self, m: &mut Machine, bytes: &[u8]) -> io::Result<bool> {
        let found = self.file.borrow().cache.clone();
        let is_same = found == bytes;
        match m.wrong {
            Some(Wrong::FoundNotRewritten) => Ok(is_same),
            Some(Wrong::SecondCopyLeft) => {
                Ok(name(&self.path) == "MANIFEST.1" && !found.is_empty())
            }
            Some(Wrong::UnlinkFirst) => {
                if let (Ok(old), Ok(new)) = (Manifest::decode(&found), Manifest::decode(bytes))
                    && old.tip != new.tip
                    && name(&self.path) == "MANIFEST.0"
                {
                    let path = crate::manifest::tip_path(Path::new(STORE), old.tip);
                    if m.file(&path).is_ok() {
                        m.names(split(&path).0, &DirChange::Remove(name(&path).to_owned()))?;
                    }
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Unsynced bytes may be on the disk at any time: this changes nothing.
    pub(crate) fn begin_writeback(&self, _bytes: Range<u64>) {}

    pub(crate) fn sync(&self) -> Result<(), Error> {
        with(|m| {
            let mut go = m.ask(true, false)?;
            if is_manifest(&self.path) && matches!(go, Do::Go) {
                if m.fault == Fault::ManifestSync(m.manifest_syncs) {
                    (go, m.hit) = (Do::Fail, true);
                }
                m.manifest_syncs += 1;
            }
            let name = name(&self.path);
            let skip = match m.wrong {
                Some(Wrong::DataUnsynced) => !is_tip(&self.path) && !is_manifest(&self.path),
                Some(Wrong::TipUnsynced) => is_tip(&self.path),
                Some(Wrong::FirstCopyUnsynced) => name == "MANIFEST.0",
                Some(Wrong::SecondCopyUnsynced) => name == "MANIFEST.1",
                Some(Wrong::MergeUnsynced) => name.ends_with(".new") && is_run(&self.path),
                Some(Wrong::BranchUnsynced) => name.ends_with(".new") && !is_run(&self.path),
                // The closing frame that comes next brings the sync with it.
                Some(Wrong::ClosedEarly) => is_tip(&self.path) && !self.file.borrow().is_closed(),
                _ => false,
            };
            if skip && matches!(go, Do::Go) {
                return Ok(());
            }
            let mut file = self.file.borrow_mut();
            match go {
                Do::Go | Do::Die(true) => {
                    file.flush();
                }
                Do::Die(false) => {}
                Do::Fail => {
                    let last = file.last_frame();
                    // Some of it is on the disk. The rest never will be, and the cache goes on showing it.
                    let mood = m.random.below(4);
                    let disk = m.survivor(&file, mood);
                    file.disk = disk;
                    file.pending.clear();
                    if m.wrong == Some(Wrong::ClosedAfterFailure) && is_tip(&self.path) {
                        file.close(last, m.sector);
                    }
                }
            }
            match go {
                Do::Go => Ok(()),
                _ => Err(eio()),
            }
        })
        .map_err(|e| Error::io(&self.path, "sync", e))
    }
}

pub(crate) struct InFile {
    file: FileRef,
    path: PathBuf,
}

// One history is one thread's; the store's types are shared between threads and so ask for it.
#[allow(unsafe_code)]
// SAFETY: no test of this crate moves a handle to another thread.
unsafe impl Send for InFile {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Sync for InFile {}

impl InFile {
    pub(crate) fn open(path: &Path) -> Result<InFile, Error> {
        let file = with(|m| m.file(path)).map_err(|e| Error::io(path, "open", e))?;
        Ok(InFile {
            file,
            path: path.to_path_buf(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> Result<u64, Error> {
        Ok(self.file.borrow().cache.len() as u64)
    }

    pub(crate) fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> Result<usize, Error> {
        let file = self.file.borrow();
        let from = (offset_bytes as usize).min(file.cache.len());
        let read = out.len().min(file.cache.len() - from);
        out[..read].copy_from_slice(&file.cache[from..from + read]);
        Ok(read)
    }

    pub(crate) fn map(&self) -> Result<Map, Error> {
        Ok(Map {
            bytes: self.file.borrow().cache.clone(),
            path: self.path.clone(),
        })
    }
}

/// A map as the worst one is: it shows what was there when it was made.
pub(crate) struct Map {
    bytes: Vec<u8>,
    path: PathBuf,
}

impl Map {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn advise_random(&self) {}

    pub(crate) fn populate(&self, _from: usize, _to: usize) -> Result<(), Error> {
        Ok(())
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

pub(crate) struct Lock;

impl Lock {
    pub(crate) fn take(_dir: &Path, _path: &Path) -> Result<Lock, Error> {
        Ok(Lock)
    }
}

pub(crate) fn exists(path: &Path) -> bool {
    with(|m| m.file(path).is_ok())
}

pub(crate) fn length(path: &Path) -> u64 {
    with(|m| {
        m.file(path)
            .map_or(0, |file| file.borrow().cache.len() as u64)
    })
}

pub(crate) fn pause() {}

pub(crate) fn fill_random(out: &mut [u8]) -> io::Result<()> {
    with(|m| {
        let is_salt = out.len() == 8;
        for byte in out.iter_mut() {
            *byte = m.random.next() as u8;
        }
        if is_salt && m.wrong == Some(Wrong::SaltReused) {
            out.fill(7);
        }
    });
    Ok(())
}

pub(crate) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    with(|m| {
        Ok(m.dir(dir)
            .map(|dir| dir.cache.keys().cloned().collect())
            .unwrap_or_default())
    })
}
