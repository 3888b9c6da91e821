//! The one writer of a store: makes it, opens it, and commits.

use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{B256, U256};

use crate::change::{Edit, Work};
use crate::error::Error;
use crate::file::{self, Disk, Hook, Lock, names};
use crate::format::{ERA_BLOCKS, Kind, MAX_RECORD_BYTES, SEGMENT_KINDS, slot_of};
use crate::frame::FrameBuilder;
use crate::join::Join;
use crate::manifest::{self, COPIES, Found, Manifest, Span, VERSION};
use crate::mapped::Maps;
use crate::plan::Plan;
use crate::reader::Reader;
use crate::replace::Replace;
use crate::rlp;
use crate::scale::{ABSENT_BLOCKS, BATCH_BYTES, TIP_BLOCKS, TIP_BYTES};
use crate::session;
use crate::snappy::Compressor;
use crate::snapshot::{Shared, Snapshot};
use crate::tip::TipFile;
use crate::tiplog::{TipLog, TipWriter};
use crate::{Genesis, Head, NewBlock, NewBody, NewReceipts};

/// The one writer of a store. It holds the lock until it is dropped.
pub struct Writer {
    pub(crate) disk: Disk,
    pub(crate) reader: Reader,
    /// The tip log, once this session has started its own.
    pub(crate) log: Option<TipLog>,
    /// The MANIFEST as it was found; until the first change.
    pub(crate) found: Option<Found>,
    pub(crate) poisoned: bool,
    pub(crate) work: Work,
    _lock: Lock,
}

impl Writer {
    /// Makes a store in `dir`, which is made too, with the genesis block as its first.
    pub fn create(dir: &Path, genesis: &Genesis<'_>) -> Result<Writer, Error> {
        Writer::create_on(Disk::default(), dir, genesis, None)
    }

    /// Makes a store whose history begins above `below`, the last block of an era: headers too are kept from the block
    /// after it on. `genesis` says which chain it is; its header and body are not stored. What is older can be joined
    /// later ([`Writer::join_below`]).
    ///
    /// eth/69 takes it for granted that a node has all headers: a node that serves should join them first.
    pub fn create_at(dir: &Path, genesis: &Genesis<'_>, below: Head) -> Result<Writer, Error> {
        Writer::create_on(Disk::default(), dir, genesis, Some(below))
    }

    /// As [`Writer::create_at`], with a hook that is asked before each change to the disk: for tests.
    pub fn create_at_with(
        dir: &Path,
        genesis: &Genesis<'_>,
        below: Head,
        hook: Arc<dyn Hook>,
    ) -> Result<Writer, Error> {
        Writer::create_on(Disk::with_hook(hook), dir, genesis, Some(below))
    }

    /// As [`Writer::create`], with a hook that is asked before each change to the disk: for tests.
    pub fn create_with(
        dir: &Path,
        genesis: &Genesis<'_>,
        hook: Arc<dyn Hook>,
    ) -> Result<Writer, Error> {
        Writer::create_on(Disk::with_hook(hook), dir, genesis, None)
    }

    /// Takes away a store that has no block yet ([`Snapshot::is_blank`]), so that one which begins elsewhere can be made in its place.
    /// Cut short, it has left the store whole or none at all.
    ///
    /// # Errors
    /// [`Error::Exists`] if it has blocks, or was changed since it was made (by a prune, say).
    pub fn unmake(self) -> Result<(), Error> {
        let snapshot = self.reader.snapshot();
        let dir = snapshot.dir();
        // A making that is cut short is known by its first tip log; one that was changed since has a later one.
        if !snapshot.is_blank() || snapshot.manifest.tip != 1 {
            return Err(Error::Exists {
                dir: dir.to_path_buf(),
            });
        }
        // The first copy alone is a store; the second without the first would be a damaged one.
        for copy in [COPIES[1], COPIES[0]] {
            let path = dir.join(copy);
            if file::exists(&path) {
                self.disk.remove(&path)?;
                self.disk.sync_dir(dir)?;
            }
        }
        self.disk
            .remove(&manifest::tip_path(dir, snapshot.manifest.tip))
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
    /// The blocks are in rising order; each hangs on a canonical block, on a side block of the tip, or on
    /// an earlier one of the slice. What is stored already is passed over. `head` is any of these: to append, to rewind
    /// and to reorganise is the same. Few blocks cost one write and one `fdatasync`; many are written once, behind what
    /// has settled. When this returns `Ok` all of it is on the disk.
    ///
    /// So the first commit of a session writes even if all is there already: what was found may be in the cache only.
    ///
    /// A block that does not fit is refused before anything is written. After any other error the store must be opened
    /// again.
    pub fn commit(&mut self, blocks: &[NewBlock<'_>], head: B256) -> Result<Head, Error> {
        let snapshot = self.idle()?;
        let plan = Plan::make(&snapshot, blocks, head)?;
        if plan.is_nothing(&snapshot) && self.is_certain() {
            return Ok(snapshot.head());
        }
        let next = self.change(|writer, snapshot| {
            if let Some(log) = writer.log.as_mut().filter(|_| fits_tip(snapshot, &plan)) {
                writer.work.packer.rest();
                let frame = &mut writer.work.frame;
                frame.clear();
                for fresh in &plan.fresh {
                    fresh.put(frame, &mut writer.work.compressor);
                }
                return append_frame(log, frame, snapshot, &plan);
            }
            writer.begin()?;
            let edit = Edit::new(&writer.disk, snapshot, &mut writer.work)?;
            let (next, log) = edit.commit(&plan)?;
            writer.log = Some(log);
            Ok(next)
        })?;
        Ok(next.head())
    }

    /// Keeps receipts of canonical blocks that were stored without. In eth/69's form (no bloom). What has receipts already
    /// keeps those.
    ///
    /// They are kept beside those there are: where there were none in between, so many entries of a table say so. More than
    /// a million in a row are refused.
    pub fn add_receipts(&mut self, receipts: &[NewReceipts<'_>]) -> Result<(), Error> {
        let snapshot = self.idle()?;
        let mut plan = Plan::make(&snapshot, &[], snapshot.head().hash)?;
        let cold = late_receipts(&snapshot, receipts, &mut plan)?;
        if cold.is_empty() && plan.is_nothing(&snapshot) && self.is_certain() {
            return Ok(());
        }
        self.change(|writer, snapshot| {
            let fits = cold.is_empty() && fits_tip(snapshot, &plan);
            if let Some(log) = writer.log.as_mut().filter(|_| fits) {
                let Work {
                    frame, compressor, ..
                } = &mut writer.work;
                frame.clear();
                let mut late: Vec<_> = plan.late.iter().collect();
                late.sort_unstable();
                for (&at, receipts) in late {
                    let block = snapshot.tip.block(at);
                    let (number, hash) = (block.number, block.hash);
                    frame.compress(number, Kind::Receipts, hash, receipts, compressor);
                }
                return append_frame(log, frame, snapshot, &plan);
            }
            writer.begin()?;
            let mut edit = Edit::new(&writer.disk, snapshot, &mut writer.work)?;
            edit.add_late(Kind::Receipts, &cold)?;
            let (next, log) = edit.publish(&plan)?;
            writer.log = Some(log);
            Ok(next)
        })?;
        Ok(())
    }

    /// Puts back bodies of settled blocks that have none, where a repair left out what was damaged. What has a body keeps it;
    /// what is older than the first body is joined ([`Writer::join_below`]). Each call writes the bodies of their eras anew:
    /// give as many at once as memory allows.
    pub fn add_bodies(&mut self, bodies: &[NewBody<'_>]) -> Result<(), Error> {
        let snapshot = self.idle()?;
        let lacking = lacking_bodies(&snapshot, bodies)?;
        if lacking.is_empty() && self.is_certain() {
            return Ok(());
        }
        let plan = Plan::make(&snapshot, &[], snapshot.head().hash)?;
        self.change(|writer, snapshot| {
            writer.begin()?;
            let mut edit = Edit::new(&writer.disk, snapshot, &mut writer.work)?;
            edit.add_late(Kind::Bodies, &lacking)?;
            let (next, log) = edit.publish(&plan)?;
            writer.log = Some(log);
            Ok(next)
        })?;
        Ok(())
    }

    /// Forgets the bodies and receipts of settled blocks below `before`, by whole eras: what is asked for is rounded down
    /// to one. Headers stay. Returns the first block whose body is kept now.
    ///
    /// The room is free when the last reader lets go of the files.
    pub fn expire(&mut self, before: u64) -> Result<u64, Error> {
        let snapshot = self.idle()?;
        let span = snapshot.manifest.span(Kind::Bodies);
        let era = before.min(span.end) / ERA_BLOCKS;
        let receipts = snapshot.manifest.span(Kind::Receipts);
        let has_some = |span: Span| span.first < (era * ERA_BLOCKS).min(span.end);
        if has_some(span) || has_some(receipts) || !self.is_certain() {
            let plan = Plan::make(&snapshot, &[], snapshot.head().hash)?;
            self.change(|writer, snapshot| {
                writer.begin()?;
                let mut edit = Edit::new(&writer.disk, snapshot, &mut writer.work)?;
                edit.expire(era);
                let (next, log) = edit.publish(&plan)?;
                writer.log = Some(log);
                Ok(next)
            })?;
        }
        Ok(self.reader.snapshot().first_body())
    }

    /// Joins older history below what is kept: every block from `first`, which begins an era, up to the first whose body is
    /// kept. See [`Join`].
    pub fn join_below(&mut self, first: u64) -> Result<Join<'_>, Error> {
        Join::begin(self, first)
    }

    /// Begins to replace the chain above block `fork`, a canonical one, by a branch of any length that is given in parts:
    /// for one that is larger than memory. See [`Replace`]. What hangs on the tip is better given to [`Writer::commit`],
    /// which keeps both branches.
    pub fn replace_above(&mut self, fork: u64) -> Result<Replace<'_>, Error> {
        Replace::begin(self, fork)
    }

    /// Whether what this session shows is on the disk. Before its first change it may be in the cache only, if a sync of
    /// the session before failed: so the first change is made even if it changes nothing.
    fn is_certain(&self) -> bool {
        self.log.is_some()
    }

    /// The view a change starts from, unless an earlier one failed.
    pub(crate) fn idle(&self) -> Result<Arc<Snapshot>, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        Ok(self.reader.snapshot())
    }

    /// Makes a change: until it has all gone well it has not, also if a panic passes through here.
    pub(crate) fn change(
        &mut self,
        make: impl FnOnce(&mut Writer, &Snapshot) -> Result<Snapshot, Error>,
    ) -> Result<Arc<Snapshot>, Error> {
        let snapshot = self.idle()?;
        self.poisoned = true;
        let next = make(self, &snapshot)?;
        self.reader.publish(next);
        self.work.merge_on(&self.disk)?;
        self.poisoned = false;
        Ok(self.reader.snapshot())
    }

    /// What comes before a session's first change.
    pub(crate) fn begin(&mut self) -> Result<(), Error> {
        match self.found.take() {
            Some(found) => session::begin(&self.disk, self.reader.snapshot().dir(), &found),
            None => Ok(()),
        }
    }

    fn open_on(disk: Disk, dir: &Path) -> Result<Writer, Error> {
        manifest::find(dir)?; // no store, no LOCK
        let lock = Lock::take(dir, &dir.join("LOCK"))?;
        let (snapshot, found) = Snapshot::open(dir)?;
        session::refuse_newer(dir, &found)?;
        Ok(Writer::new(disk, lock, snapshot, None, Some(found)))
    }

    pub(crate) fn new(
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
            work: Work::new(),
            _lock: lock,
        }
    }

    fn create_on(
        disk: Disk,
        dir: &Path,
        genesis: &Genesis<'_>,
        below: Option<Head>,
    ) -> Result<Writer, Error> {
        let first = below.map_or(0, |below| below.number + 1);
        if slot_of(first) != 0 {
            return Err(Error::BadBlock {
                number: first,
                what: format!("a store begins with an era of {ERA_BLOCKS} blocks"),
            });
        }
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
        file::fill_random(&mut store_id).map_err(|e| Error::io(dir, "get a random store id", e))?;
        let manifest = Manifest {
            read_version: VERSION,
            write_version: VERSION,
            sequence: 1,
            store_id,
            chain_id: genesis.chain_id,
            genesis: genesis.hash,
            cold_hash: below.map_or(parent, |below| below.hash),
            cold_td: below.map_or(U256::ZERO, |below| below.td),
            spans: [Span { first, end: first }; 3],
            tip: 1,
            first_era: 0,
            eras: Vec::new(),
            runs: Vec::new(),
        };
        let (mut compressor, mut frame) = (Compressor::new(), FrameBuilder::new());
        let mut tip = TipWriter::create(&disk, dir, &manifest, &mut frame)?;
        let head = below.map_or((0, genesis.hash), |below| (below.number, below.hash));
        if below.is_none() {
            let (hash, td) = (genesis.hash, genesis.difficulty);
            tip.frame.header(0, hash, (parent, td), genesis.header);
            tip.frame
                .compress(0, Kind::Bodies, hash, genesis.body, &mut compressor);
            tip.took(0, hash, true);
        }
        let (log, index) = tip.finish(head.0, head.1)?;
        log.sync()?;
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
    plan.is_on_tip(&snapshot.tip)
        && plan.raw < BATCH_BYTES
        && snapshot.tip.blocks().len() + plan.fresh.len() <= TIP_BLOCKS
        && snapshot.tip.end + plan.raw <= TIP_BYTES
}

/// One frame behind the others: the whole of a small commit.
fn append_frame(
    log: &mut TipLog,
    frame: &mut FrameBuilder,
    snapshot: &Snapshot,
    plan: &Plan<'_>,
) -> Result<Snapshot, Error> {
    let mut tip = (*snapshot.tip).clone();
    log.append(frame, &mut tip, plan.head_number, plan.head_hash)?;
    log.sync()?;
    log.close(&tip)?;
    Snapshot::new(
        snapshot.manifest.clone(),
        Arc::new(tip),
        snapshot.tip_file.clone(),
        snapshot.shared.clone(),
    )
}

/// Those of the bodies that their blocks lack, in rising order.
fn lacking_bodies<'b>(
    snapshot: &Snapshot,
    bodies: &[NewBody<'b>],
) -> Result<Vec<(u64, &'b [u8])>, Error> {
    let mut lacking = Vec::new();
    for late in bodies {
        let bad = |what: String| Error::BadBlock {
            number: late.number,
            what,
        };
        let length = late.body.len();
        if length == 0 || length > MAX_RECORD_BYTES {
            return Err(bad(format!(
                "its body: {length} bytes, and 1 to {MAX_RECORD_BYTES} can be kept"
            )));
        }
        if snapshot.hash(late.number)? != Some(late.hash) {
            return Err(bad(format!("no block {} is stored", late.hash)));
        }
        if late.number < snapshot.first_body() {
            return Err(bad(format!(
                "bodies are kept from block {} on",
                snapshot.first_body()
            )));
        }
        if snapshot.body_stream(late.number)?.is_none() {
            lacking.push((late.number, late.body));
        }
    }
    lacking.sort_by_key(|late| late.0);
    lacking.dedup_by_key(|late| late.0);
    Ok(lacking)
}

/// Sorts late receipts: those of the tip's blocks go into the plan, those of settled ones are returned in rising order.
fn late_receipts<'b>(
    snapshot: &Snapshot,
    receipts: &[NewReceipts<'b>],
    plan: &mut Plan<'b>,
) -> Result<Vec<(u64, &'b [u8])>, Error> {
    let mut cold = Vec::new();
    for late in receipts {
        let bad = |what: String| Error::BadBlock {
            number: late.number,
            what,
        };
        let length = late.receipts.len();
        if length == 0 || length > MAX_RECORD_BYTES {
            return Err(bad(format!(
                "its receipts: {length} bytes, and 1 to {MAX_RECORD_BYTES} can be kept"
            )));
        }
        if let Some(at) = snapshot.tip.find(&late.hash) {
            let block = snapshot.tip.block(at);
            if block.number != late.number {
                return Err(bad(format!("it is stored as block {}", block.number)));
            }
            if block.receipts.is_none() && plan.late.insert(at, late.receipts).is_none() {
                plan.raw += length as u64;
            }
            continue;
        }
        let is_settled = late.number < snapshot.tip.base();
        if !is_settled || snapshot.hash(late.number)? != Some(late.hash) {
            return Err(bad(format!("no block {} is stored", late.hash)));
        }
        if snapshot.cold(Kind::Receipts, late.number)?.is_none() {
            cold.push((late.number, late.receipts));
        }
    }
    cold.sort_by_key(|late| late.0);
    cold.dedup_by_key(|late| late.0);
    let span = snapshot.manifest.span(Kind::Receipts);
    let mut end = match (span.first == span.end, cold.first()) {
        (false, Some(late)) if late.0 < span.first => late.0,
        (false, _) => span.first,
        (true, Some(late)) => late.0,
        (true, None) => return Ok(cold),
    };
    let ends = cold.iter().map(|late| late.0..late.0 + 1);
    let mut known: Vec<_> = ends.chain(std::iter::once(span.first..span.end)).collect();
    known.sort_by_key(|range| range.start);
    for range in known.into_iter().filter(|range| !range.is_empty()) {
        if range.start.saturating_sub(end) > ABSENT_BLOCKS {
            return Err(Error::BadBlock {
                number: range.start,
                what: format!("no receipts are kept of the blocks from {end} on: give those first"),
            });
        }
        end = end.max(range.end);
    }
    Ok(cold)
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
    let was_store = file::exists(&dir.join(COPIES[1]))
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
