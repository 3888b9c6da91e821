//! Maps of segments and runs: opened when first needed, at most so many at once, made anew when a file grew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::error::Error;
use crate::file::{InFile, Map};
use crate::format::{Kind, PAGE_BYTES, Page};
use crate::manifest::{Manifest, era_path};

/// Bytes mapped at once. Boards have 39 bits of addresses: this is an eighth of them, and every header of mainnet.
const MAX_MAPPED_BYTES: u64 = 64 << 30;
/// Maps kept at once: a small part of what Linux gives a process, and some MiB of memory. Mainnet's headers are 3,100
/// files, and asking for any header must not map its file anew.
const MAX_MAPPED: usize = 4096;

/// Which file: everything its name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileId {
    pub(crate) kind: Kind,
    pub(crate) era: u64,
    pub(crate) sequence: u32,
}

/// A mapped file whose first page was checked.
pub(crate) struct Mapped {
    pub(crate) map: Arc<Map>,
    pub(crate) page: Page,
    /// How many entries were committed when the map was made. Later ones are read through a later map.
    covers: u64,
}

impl Mapped {
    fn open(path: &Path, id: FileId, store_id: &[u8; 16], covers: u64) -> Result<Mapped, Error> {
        let map = InFile::open(path)?.map()?;
        map.populate(0, PAGE_BYTES as usize)?;
        let page = Page::decode(&map).map_err(|what| Error::damaged(path, 0, what))?;
        if (page.kind, u64::from(page.era), page.sequence) != (id.kind, id.era, id.sequence) {
            return Err(Error::damaged(
                path,
                12,
                "the first page is of another file",
            ));
        }
        if page.store_id != *store_id {
            return Err(Error::damaged(path, 16, "the file is of another store"));
        }
        if id.kind == Kind::Run {
            map.advise_random();
        }
        Ok(Mapped {
            map: Arc::new(map),
            page,
            covers,
        })
    }
}

impl FileId {
    /// What maps are sorted by.
    fn key(self) -> (u32, u64, u32) {
        (self.kind.code(), self.era, self.sequence)
    }

    fn is_named(self, manifest: &Manifest) -> bool {
        match self.kind {
            Kind::Run => manifest
                .runs
                .iter()
                .any(|run| (u64::from(run.era), run.sequence) == (self.era, self.sequence)),
            kind => manifest.segment(kind, self.era) == Some(self.sequence),
        }
    }
}

struct Kept {
    id: FileId,
    mapped: Arc<Mapped>,
    used: AtomicU64,
}

impl Kept {
    fn bytes(&self) -> u64 {
        self.mapped.map.len() as u64
    }
}

/// The maps of one store in one process. No lock is held over a system call.
pub(crate) struct Maps {
    dir: PathBuf,
    store_id: [u8; 16],
    /// In the order of their keys.
    kept: RwLock<Vec<Kept>>,
    clock: AtomicU64,
}

impl Maps {
    pub(crate) fn new(dir: &Path, store_id: [u8; 16]) -> Maps {
        Maps {
            dir: dir.to_path_buf(),
            store_id,
            kept: RwLock::default(),
            clock: AtomicU64::new(0),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The map of a file of which `need` entries are looked at and `committed` may be.
    pub(crate) fn get(&self, id: FileId, need: u64, committed: u64) -> Result<Arc<Mapped>, Error> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let find = |kept: &[Kept]| kept.binary_search_by_key(&id.key(), |kept| kept.id.key());
        {
            let kept = self.kept.read();
            if let Ok(at) = find(&kept)
                && kept[at].mapped.covers >= need
            {
                kept[at].used.store(now, Ordering::Relaxed);
                return Ok(kept[at].mapped.clone());
            }
        }
        let path = era_path(&self.dir, id.kind, id.era, id.sequence);
        let mapped = Arc::new(Mapped::open(&path, id, &self.store_id, committed)?);
        let new = Kept {
            id,
            mapped: mapped.clone(),
            used: AtomicU64::new(now),
        };
        let mut kept = self.kept.write();
        match find(&kept) {
            Ok(at) if kept[at].mapped.covers > committed => return Ok(mapped), // another thread's is as good
            Ok(at) => kept[at] = new,
            Err(at) => kept.insert(at, new),
        }
        let is_newest = |kept: &Kept| kept.used.load(Ordering::Relaxed) >= now;
        let mut bytes: u64 = kept.iter().map(Kept::bytes).sum();
        while kept.len() > MAX_MAPPED || bytes > MAX_MAPPED_BYTES {
            let used = |&i: &usize| kept[i].used.load(Ordering::Relaxed);
            let Some(oldest) = (0..kept.len())
                .filter(|&i| !is_newest(&kept[i]))
                .min_by_key(used)
            else {
                break;
            };
            bytes -= kept.remove(oldest).bytes();
        }
        Ok(mapped)
    }

    /// Lets go of the files that a MANIFEST does not name: their room on the disk is free once nobody else has them.
    pub(crate) fn keep_named(&self, manifest: &Manifest) {
        self.kept.write().retain(|kept| kept.id.is_named(manifest));
    }
}
