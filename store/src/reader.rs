//! A reader: hands out snapshots, and in other processes looks for what was committed since.

use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::error::Error;
use crate::manifest::{self, Peek};
use crate::snapshot::Snapshot;

/// Reads a store, in the writer's process or in another. Takes no lock that a writer or another process could hold.
#[derive(Clone)]
pub struct Reader {
    inner: Arc<Inner>,
}

struct Inner {
    current: RwLock<Arc<Snapshot>>,
    /// In another process than the writer's: the MANIFEST's copies as last seen, and one refresh at a time. `None`: the
    /// writer puts its snapshots here.
    follow: Option<Mutex<Peek>>,
}

impl Reader {
    /// Opens a store for reading. Takes no lock and writes nothing.
    pub fn open(dir: &Path) -> Result<Reader, Error> {
        let seen = manifest::peek(dir);
        let (snapshot, _) = Snapshot::open(dir)?;
        let current = RwLock::new(Arc::new(snapshot));
        Ok(Reader {
            inner: Arc::new(Inner {
                current,
                follow: Some(Mutex::new(seen)),
            }),
        })
    }

    pub(crate) fn of_writer(snapshot: Snapshot) -> Reader {
        Reader {
            inner: Arc::new(Inner {
                current: RwLock::new(Arc::new(snapshot)),
                follow: None,
            }),
        }
    }

    /// Looks for newer commits. Of a writer's own reader there is nothing to look for: it sees each at once.
    ///
    /// A commit may be seen one `fdatasync` before the writer knows it to be durable.
    pub fn refresh(&self) -> Result<(), Error> {
        let Some(follow) = &self.inner.follow else {
            return Ok(());
        };
        let mut seen = follow.lock();
        let snapshot = self.snapshot();
        let now = manifest::peek(snapshot.dir());
        let later = if now == *seen {
            snapshot.with_later_frames()?
        } else {
            snapshot.later()?
        };
        if let Some(later) = later {
            self.publish(later);
        }
        *seen = now;
        Ok(())
    }

    /// The latest view this reader knows. Cheap: a reference is counted.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.current.read().clone()
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let before = std::mem::replace(&mut *self.inner.current.write(), snapshot.clone());
        if before.sequence() != snapshot.sequence() {
            let maps = &snapshot.shared.maps;
            maps.keep_named(&snapshot.manifest);
        }
    }
}
