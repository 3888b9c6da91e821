//! Maps of segments and runs: opened when first needed, at most so many at once, made anew when a file grew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::error::Error;
use crate::file::{InFile, Map};
use crate::format::{Kind, PAGE_BYTES, Page};
use crate::manifest::era_path;

/// Maps kept at once. Boards have 39 bits of addresses and an era of bodies is up to a gigabyte: 64 stay below a quarter.
const MAX_MAPPED: usize = 64;

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

struct Kept {
    id: FileId,
    mapped: Arc<Mapped>,
    used: AtomicU64,
}

/// The maps of one store in one process. No lock is held over a system call.
pub(crate) struct Maps {
    dir: PathBuf,
    store_id: [u8; 16],
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
        if let Some(kept) = self
            .kept
            .read()
            .iter()
            .find(|kept| kept.id == id && kept.mapped.covers >= need)
        {
            kept.used.store(now, Ordering::Relaxed);
            return Ok(kept.mapped.clone());
        }
        let path = era_path(&self.dir, id.kind, id.era, id.sequence);
        let mapped = Arc::new(Mapped::open(&path, id, &self.store_id, committed)?);
        let mut kept = self.kept.write();
        kept.retain(|old| old.id != id || old.mapped.covers > committed);
        if kept.len() >= MAX_MAPPED
            && let Some(oldest) =
                (0..kept.len()).min_by_key(|&i| kept[i].used.load(Ordering::Relaxed))
        {
            kept.swap_remove(oldest);
        }
        kept.push(Kept {
            id,
            mapped: mapped.clone(),
            used: AtomicU64::new(now),
        });
        Ok(mapped)
    }
}
