//! The one writer of a store: makes it, opens it, and commits.

use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{B256, U256};

use crate::change::{self, BATCH_BYTES, Change, TIP_BLOCKS, TIP_BYTES};
use crate::error::Error;
use crate::file::{Disk, Hook, Lock, names};
use crate::format::{Kind, SEGMENT_KINDS};
use crate::frame::FrameBuilder;
use crate::manifest::{self, COPIES, Found, Manifest, Span, VERSION};
use crate::mapped::Maps;
use crate::plan::Plan;
use crate::reader::Reader;
use crate::rlp;
use crate::snappy::{Buffer, Compressor};
use crate::snapshot::{Shared, Snapshot};
use crate::tip::TipFile;
use crate::tiplog::{TipLog, TipWriter};
use crate::{Genesis, Head, NewBlock};

/// The one writer of a store. It holds the lock until it is dropped.
pub struct Writer {
    disk: Disk,
    reader: Reader,
    /// The tip log, once this session has started its own.
    log: Option<TipLog>,
    /// The MANIFEST as it was found; until the first change.
    found: Option<Found>,
    poisoned: bool,
    compressor: Compressor,
    frame: FrameBuilder,
    buffer: Buffer,
    _lock: Lock,
}

impl Writer {
    /// Makes a store in `dir`, which is made too, with the genesis block as its first.
    pub fn create(dir: &Path, genesis: &Genesis<'_>) -> Result<Writer, Error> {
        Writer::create_on(Disk::default(), dir, genesis)
    }

    /// As [`Writer::create`], with a hook that is asked before each change to the disk: for tests.
    pub fn create_with(
        dir: &Path,
        genesis: &Genesis<'_>,
        hook: Arc<dyn Hook>,
    ) -> Result<Writer, Error> {
        Writer::create_on(Disk::with_hook(hook), dir, genesis)
    }

    /// Opens the store in `dir`. Writes nothing: the first commit does.
    pub fn open(dir: &Path) -> Result<Writer, Error> {
        Writer::open_on(Disk::default(), dir)
    }

    /// As [`Writer::open`], with a hook that is asked before each change to the disk: for tests.
    pub fn open_with(dir: &Path, hook: Arc<dyn Hook>) -> Result<Writer, Error> {
        Writer::open_on(Disk::with_hook(hook), dir)
    }

    /// The head of the canonical chain.
    pub fn head(&self) -> Head {
        self.reader.snapshot().head()
    }

    /// Hash of block 0.
    pub fn genesis_hash(&self) -> B256 {
        self.reader.snapshot().genesis_hash()
    }

    /// A reader that sees each commit as soon as [`Writer::commit`] has returned.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// One durable change: stores `blocks` and makes `head` the head.
    ///
    /// The blocks are in rising order; each hangs on a stored block that has not settled, on the last settled one, or on
    /// an earlier one of the slice. What is stored already is passed over. `head` is any of these: to append, to rewind
    /// and to reorganise is the same. Few blocks cost one write and one `fdatasync`; many are written once, behind what
    /// has settled. When this returns `Ok` all of it is on the disk.
    ///
    /// A block that does not fit is refused before anything is written. After any other error the store must be opened
    /// again.
    pub fn commit(&mut self, blocks: &[NewBlock<'_>], head: B256) -> Result<Head, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let snapshot = self.reader.snapshot();
        let plan = Plan::make(&snapshot, blocks, head)?;
        if plan.is_nothing(&snapshot) {
            return Ok(snapshot.head());
        }
        // Until it has all gone well it has not: also if a panic passes through here.
        self.poisoned = true;
        let next = match self.log.as_mut().filter(|_| fits_tip(&snapshot, &plan)) {
            Some(log) => {
                let mut tip = (*snapshot.tip).clone();
                self.frame.clear();
                for fresh in &plan.fresh {
                    fresh.put(&mut self.frame, &mut self.compressor);
                }
                log.append(&mut self.frame, &mut tip, plan.head_number, plan.head_hash)?;
                log.sync()?;
                let Snapshot {
                    manifest,
                    tip_file,
                    shared,
                    ..
                } = &*snapshot;
                Snapshot::new(
                    manifest.clone(),
                    Arc::new(tip),
                    tip_file.clone(),
                    shared.clone(),
                )?
            }
            None => {
                if let Some(found) = self.found.take() {
                    change::begin(&self.disk, snapshot.dir(), &found)?;
                }
                let change = Change {
                    disk: &self.disk,
                    old: &snapshot,
                    plan: &plan,
                    compressor: &mut self.compressor,
                    frame: &mut self.frame,
                    buffer: &mut self.buffer,
                };
                let (next, log) = change.make()?;
                self.log = Some(log);
                next
            }
        };
        let head = next.head();
        self.reader.publish(next);
        self.poisoned = false;
        Ok(head)
    }

    fn open_on(disk: Disk, dir: &Path) -> Result<Writer, Error> {
        manifest::find(dir)?; // no store, no LOCK
        let lock = Lock::take(dir, &dir.join("LOCK"))?;
        let (snapshot, found) = Snapshot::open(dir)?;
        let asked = found.manifest.write_version;
        if asked > VERSION {
            let path = dir.join(COPIES[found.copy]);
            return Err(Error::Newer {
                path,
                found: asked,
                supported: VERSION,
                readable: true,
            });
        }
        Ok(Writer::new(disk, lock, snapshot, None, Some(found)))
    }

    fn new(
        disk: Disk,
        lock: Lock,
        snapshot: Snapshot,
        log: Option<TipLog>,
        found: Option<Found>,
    ) -> Writer {
        Writer {
            disk,
            reader: Reader::of_writer(snapshot),
            log,
            found,
            poisoned: false,
            compressor: Compressor::new(),
            frame: FrameBuilder::new(),
            buffer: Buffer::new(),
            _lock: lock,
        }
    }

    fn create_on(disk: Disk, dir: &Path, genesis: &Genesis<'_>) -> Result<Writer, Error> {
        let parent = rlp::parent(genesis.header).ok_or_else(|| Error::BadBlock {
            number: 0,
            what: "the genesis header is not the RLP of a header".to_owned(),
        })?;
        disk.make_dir(dir)?;
        let lock = Lock::take(dir, &dir.join("LOCK"))?;
        clear_unfinished(&disk, dir)?;
        for kind in SEGMENT_KINDS.into_iter().chain([Kind::Run]) {
            disk.make_dir(&dir.join(kind.name()))?;
        }
        let mut store_id = [0; 16];
        getrandom::fill(&mut store_id)
            .map_err(|e| Error::io(dir, "get a random store id", std::io::Error::other(e)))?;
        let manifest = Manifest {
            read_version: VERSION,
            write_version: VERSION,
            sequence: 1,
            store_id,
            chain_id: genesis.chain_id,
            genesis: genesis.hash,
            cold_hash: parent,
            cold_td: U256::ZERO,
            spans: [Span::default(); 3],
            tip: 1,
            first_era: 0,
            eras: Vec::new(),
            runs: Vec::new(),
        };
        let (mut compressor, mut frame) = (Compressor::new(), FrameBuilder::new());
        let (hash, td) = (genesis.hash, genesis.difficulty);
        let mut tip = TipWriter::create(&disk, dir, &manifest, &mut frame)?;
        tip.frame.header(0, hash, (parent, td), genesis.header);
        tip.frame
            .compress(0, Kind::Bodies, hash, genesis.body, &mut compressor);
        tip.took(0, hash, true);
        let (log, index) = tip.finish(0, hash)?;
        disk.sync_dir(dir)?;
        if let Some(above) = dir.parent() {
            // The folder above a relative name of one part is the current one.
            disk.sync_dir(if above.as_os_str().is_empty() {
                Path::new(".")
            } else {
                above
            })?;
        }
        manifest::write(&disk, dir, &manifest.encode(), 0)?;
        let tip_file = TipFile::open(dir, &manifest)?;
        let shared = Arc::new(Shared::new(Maps::new(dir, store_id)));
        let snapshot = Snapshot::new(
            Arc::new(manifest),
            Arc::new(index),
            Arc::new(tip_file),
            shared,
        )?;
        Ok(Writer::new(disk, lock, snapshot, Some(log), None))
    }
}

/// Whether a commit can be one frame of the tip log.
fn fits_tip(snapshot: &Snapshot, plan: &Plan<'_>) -> bool {
    plan.raw < BATCH_BYTES
        && snapshot.tip.blocks().len() + plan.fresh.len() <= TIP_BLOCKS
        && snapshot.tip.end + plan.raw <= TIP_BYTES
}

/// Sees that there is no store, and removes what making one left behind if that was cut short.
fn clear_unfinished(disk: &Disk, dir: &Path) -> Result<(), Error> {
    match manifest::find(dir) {
        Ok(_) | Err(Error::Newer { .. }) => {
            return Err(Error::Exists {
                dir: dir.to_path_buf(),
            });
        }
        Err(Error::NoStore { .. } | Error::Damaged { .. }) => {}
        Err(e) => return Err(e),
    }
    // The second copy is made when the first is whole and durable: with one, or with a segment, there was a store.
    let was_store = dir.join(COPIES[1]).exists()
        || SEGMENT_KINDS.into_iter().try_fold(false, |any, kind| {
            names(&dir.join(kind.name())).map(|names| {
                any || names
                    .iter()
                    .any(|name| manifest::parse_name(name).is_some())
            })
        })?;
    if was_store {
        let what = "a store was here and no MANIFEST is whole; it is not overwritten";
        return Err(Error::damaged(&dir.join(COPIES[0]), 0, what));
    }
    for name in names(dir)? {
        if name == COPIES[0]
            || manifest::parse_name(&name)
                .is_some_and(|(stem, sequence)| stem == "tip" && sequence == 1)
        {
            disk.remove(&dir.join(&name))?;
        }
    }
    Ok(())
}
