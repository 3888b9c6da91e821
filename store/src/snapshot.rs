//! One consistent view of the store: everything a reader can ask.

use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{B256, U256};
use parking_lot::RwLock;

use crate::Head;
use crate::cold::not_a_header;
use crate::error::Error;
use crate::format::{ERA_BLOCKS, Kind, constant_stream, slot_of};
use crate::frame;
use crate::manifest::{self, Found, Manifest};
use crate::mapped::Maps;
use crate::record::{BodyStream, Record};
use crate::rlp;
use crate::runs;
use crate::segment;
use crate::snappy;
use crate::tip::{TipBlock, TipFile, TipIndex};

/// How often a reader follows a manifest whose files a writer has just replaced.
const ATTEMPTS: usize = 20;

/// What the snapshots of one process share: the maps, and the hash table of the era that is not finished.
pub(crate) struct Shared {
    pub(crate) maps: Maps,
    pub(crate) unfinished: RwLock<runs::Unfinished>,
}

impl Shared {
    pub(crate) fn new(maps: Maps) -> Shared {
        Shared {
            maps,
            unfinished: RwLock::default(),
        }
    }
}

/// One consistent view of the store. It does not change; take another to see later commits.
pub struct Snapshot {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) tip: Arc<TipIndex>,
    pub(crate) tip_file: Arc<TipFile>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) head: Head,
}

impl Snapshot {
    /// Opens what is on the disk and writes nothing. Also says where the MANIFEST was found.
    pub(crate) fn open(dir: &Path) -> Result<(Snapshot, Found), Error> {
        let mut found = manifest::find(dir)?;
        for _ in 0..ATTEMPTS {
            match Snapshot::open_found(dir, &found, true) {
                Ok(snapshot) => return Ok((snapshot, found)),
                Err(e) if e.is_not_found() => {
                    let again = manifest::find(dir)?;
                    if again.manifest.sequence == found.manifest.sequence {
                        let path = manifest::tip_path(dir, found.manifest.tip);
                        return Err(Error::damaged(
                            &path,
                            0,
                            "the MANIFEST names this file and it is missing",
                        ));
                    }
                    found = again;
                }
                Err(e) => return Err(e),
            }
        }
        Err(Error::Superseded {
            path: manifest::tip_path(dir, found.manifest.tip),
        })
    }

    /// Opens what a MANIFEST names. With `look_behind` damage inside the tip log is an error, else the log ends there.
    pub(crate) fn open_found(
        dir: &Path,
        found: &Found,
        look_behind: bool,
    ) -> Result<Snapshot, Error> {
        let tip_file = TipFile::open(dir, &found.manifest)?;
        let shared = Arc::new(Shared::new(Maps::new(dir, found.manifest.store_id)));
        let manifest = Arc::new(found.manifest.clone());
        let mut tip = TipIndex::new(&manifest);
        frame::scan(&tip_file, &mut tip, look_behind)?;
        Snapshot::new(manifest, Arc::new(tip), Arc::new(tip_file), shared)
    }

    pub(crate) fn new(
        manifest: Arc<Manifest>,
        tip: Arc<TipIndex>,
        tip_file: Arc<TipFile>,
        shared: Arc<Shared>,
    ) -> Result<Snapshot, Error> {
        let head = tip.whole_head().ok_or_else(|| {
            let what = "the genesis block is not there: the first frame does not verify";
            Error::damaged(tip_file.file.path(), tip.end, what)
        })?;
        Ok(Snapshot {
            manifest,
            tip,
            tip_file,
            shared,
            head,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.shared.maps.dir()
    }

    /// A later view of the same store, read from the disk; `None` if nothing was committed since.
    pub(crate) fn later(&self) -> Result<Option<Snapshot>, Error> {
        let dir = self.dir();
        let found = manifest::find(dir)?;
        if found.manifest.sequence != self.manifest.sequence {
            let (snapshot, _) = Snapshot::open(dir)?;
            if snapshot.manifest.store_id != self.manifest.store_id {
                return Ok(Some(snapshot)); // another store was put in the folder
            }
            // The maps of before serve on.
            let snapshot = Snapshot {
                shared: self.shared.clone(),
                ..snapshot
            };
            return Ok(Some(snapshot));
        }
        self.with_later_frames()
    }

    /// A later view of the same manifest; `None` if its tip log did not grow.
    pub(crate) fn with_later_frames(&self) -> Result<Option<Snapshot>, Error> {
        if !frame::may_follow(&self.tip_file, &self.tip)? {
            return Ok(None);
        }
        let mut tip = (*self.tip).clone();
        frame::scan(&self.tip_file, &mut tip, false)?;
        if tip.frames == self.tip.frames {
            return Ok(None);
        }
        Snapshot::new(
            self.manifest.clone(),
            Arc::new(tip),
            self.tip_file.clone(),
            self.shared.clone(),
        )
        .map(Some)
    }

    /// Whether there is no block yet but the genesis block, or what the history is to begin above.
    pub fn is_blank(&self) -> bool {
        let head = self.head().number;
        head == 0 || head < self.first_header()
    }

    /// The head of the canonical chain.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Hash of block 0.
    pub fn genesis_hash(&self) -> B256 {
        self.manifest.genesis
    }

    /// The chain id's low 64 bits.
    pub fn chain_id(&self) -> u64 {
        self.manifest.chain_id
    }

    /// Random bytes that tell this store from every other, copies of it excepted.
    pub fn store_id(&self) -> [u8; 16] {
        self.manifest.store_id
    }

    /// Sequence of the last manifest commit.
    pub fn sequence(&self) -> u64 {
        self.manifest.sequence
    }

    /// The number of the first block above the settled ones: what is below can no longer be reorganised cheaply.
    pub fn first_unsettled(&self) -> u64 {
        self.tip.base()
    }

    /// The first block whose header is kept.
    pub fn first_header(&self) -> u64 {
        self.manifest.headers().first
    }

    /// The first block whose body is kept: eth/69's `earliest`.
    pub fn first_body(&self) -> u64 {
        self.manifest.span(Kind::Bodies).first
    }

    /// The first and the last block that have receipts, if any has; of those between, single ones may have none.
    pub fn receipts_range(&self) -> Option<(u64, u64)> {
        let span = self.manifest.span(Kind::Receipts);
        let settled = (span.first < span.end).then(|| (span.first, span.end - 1));
        let has = |number: &u64| {
            let block = self.canonical(*number);
            block.is_some_and(|block| block.place(Kind::Receipts).is_some())
        };
        let mut tip = (self.tip.base()..=self.head.number).filter(has);
        let first = tip.next();
        let in_tip = first.map(|first| (first, tip.next_back().unwrap_or(first)));
        match (settled, in_tip) {
            (Some((first, _)), Some((_, last))) => Some((first, last)),
            (settled, in_tip) => settled.or(in_tip),
        }
    }

    /// The number of the canonical block with this hash.
    ///
    /// A snapshot that was kept while runs of the index were merged may answer [`Error::Superseded`]: a newer one knows.
    pub fn number(&self, hash: &B256) -> Result<Option<u64>, Error> {
        if let Some(at) = self.tip.find(hash) {
            let block = self.tip.block(at);
            let canonical = self
                .tip
                .at(block.number)
                .is_some_and(|other| other.hash == *hash);
            return Ok(canonical.then_some(block.number));
        }
        let cold = self.manifest.headers();
        if cold.first == cold.end {
            return Ok(None);
        }
        if *hash == self.manifest.cold_hash {
            return Ok(Some(cold.end - 1));
        }
        runs::find(self, hash)
    }

    /// As [`Snapshot::number`], but finds side blocks of the tip too.
    pub fn block_by_hash(&self, hash: &B256) -> Result<Option<u64>, Error> {
        match self.tip.find(hash) {
            Some(at) => Ok(Some(self.tip.block(at).number)),
            None => self.number(hash),
        }
    }

    /// The hash of a canonical block. Of a settled one it is the parent hash that the next header names.
    pub fn hash(&self, number: u64) -> Result<Option<B256>, Error> {
        if let Some(block) = self.canonical(number) {
            return Ok(Some(block.hash));
        }
        let cold = self.manifest.headers();
        if !cold.contains(number) {
            return Ok(None);
        }
        if number + 1 == cold.end {
            return Ok(Some(self.manifest.cold_hash));
        }
        let (segment, found) = self
            .cold(Kind::Headers, number + 1)?
            .expect("the number is inside the span");
        let parent = rlp::parent(&segment.map[found.start..found.end]);
        parent
            .map(Some)
            .ok_or_else(|| not_a_header(&segment, found.start, number + 1))
    }

    /// The total difficulty up to and with a canonical block.
    ///
    /// Of a settled block it is summed up from the start of its file: up to 8,191 headers.
    pub fn td(&self, number: u64) -> Result<Option<U256>, Error> {
        if let Some(block) = self.canonical(number) {
            return Ok(Some(block.td));
        }
        let cold = self.manifest.headers();
        if !cold.contains(number) {
            return Ok(None);
        }
        if number + 1 == cold.end {
            return Ok(Some(self.manifest.cold_td));
        }
        let first = (number - slot_of(number)).max(cold.first);
        let segment = self.segment(Kind::Headers, number / ERA_BLOCKS, slot_of(number) + 1)?;
        let Some(mut td) = segment.page.td else {
            return Ok(None);
        };
        segment::records(
            &segment,
            first,
            number + 1 - first,
            |number, found, header| {
                let fields = rlp::fields(header)
                    .ok_or_else(|| not_a_header(&segment, found.start, number))?;
                td += fields.difficulty;
                Ok(())
            },
        )?;
        Ok(Some(td))
    }

    /// The raw header of a canonical block.
    pub fn header(&self, number: u64) -> Result<Option<Record<'_>>, Error> {
        if let Some(block) = self.canonical(number) {
            return self.in_tip(block, Kind::Headers);
        }
        Ok(self
            .cold(Kind::Headers, number)?
            .map(|(segment, found)| Record::mapped(segment.map.clone(), found.start, found.end)))
    }

    /// Up to `max` headers in a row from block `first`: calls `each` with slices that hold whole headers laid end to
    /// end (zero copy, checksums checked before), and returns how many headers that were. Fewer than `max` only at the
    /// head.
    pub fn headers(
        &self,
        first: u64,
        max: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, Error> {
        let (count, runs) = self.header_runs(first, max)?;
        runs.iter().for_each(|run| each(run));
        Ok(count)
    }

    /// As [`Snapshot::headers`], with slices that can be held: one for each era, and above the settled blocks one for each
    /// header.
    pub fn header_runs(&self, first: u64, max: usize) -> Result<(usize, Vec<Record<'_>>), Error> {
        let cold = self.manifest.headers();
        let mut runs = Vec::new();
        let mut next = first;
        let end = first.saturating_add(max as u64);
        while next < end && cold.contains(next) {
            let count = (ERA_BLOCKS - slot_of(next)).min(cold.end.min(end) - next);
            let segment = self.segment(Kind::Headers, next / ERA_BLOCKS, slot_of(next) + count)?;
            let (mut from, mut to) = (usize::MAX, 0);
            segment::records(&segment, next, count, |_, found, _| {
                from = from.min(found.start);
                to = found.end;
                Ok(())
            })?;
            runs.push(Record::mapped(segment.map.clone(), from, to));
            next += count;
        }
        while next < end
            && let Some(block) = self.canonical(next)
            && let Some(header) = self.in_tip(block, Kind::Headers)?
        {
            runs.push(header);
            next += 1;
        }
        Ok(((next - first) as usize, runs))
    }

    /// The raw body of a canonical block, decompressed.
    pub fn body(&self, number: u64) -> Result<Option<Vec<u8>>, Error> {
        self.decompressed(number, Kind::Bodies)
    }

    /// The body of a canonical block as it is kept, ready for a wire message.
    pub fn body_stream(&self, number: u64) -> Result<Option<BodyStream<'_>>, Error> {
        self.stream(number, Kind::Bodies)
    }

    /// The receipts of a canonical block in eth/69's form, decompressed; `None` if they were never given.
    pub fn receipts(&self, number: u64) -> Result<Option<Vec<u8>>, Error> {
        self.decompressed(number, Kind::Receipts)
    }

    /// The receipts of a canonical block as they are kept, ready for a wire message.
    pub fn receipts_stream(&self, number: u64) -> Result<Option<BodyStream<'_>>, Error> {
        self.stream(number, Kind::Receipts)
    }

    /// Whether the receipts of a canonical block were given. Nothing of them is read but their place.
    pub fn has_receipts(&self, number: u64) -> Result<bool, Error> {
        self.has(Kind::Receipts, number)
    }

    /// Whether the body of a canonical block is kept. Nothing of it is read but its place.
    pub fn has_body(&self, number: u64) -> Result<bool, Error> {
        self.has(Kind::Bodies, number)
    }

    fn has(&self, kind: Kind, number: u64) -> Result<bool, Error> {
        if let Some(block) = self.canonical(number) {
            return Ok(block.place(kind).is_some());
        }
        if !self.manifest.span(kind).contains(number) {
            return Ok(false);
        }
        let slot = slot_of(number);
        let segment = self.segment(kind, number / ERA_BLOCKS, slot + 1)?;
        Ok(segment::entry(&segment, slot)?.raw > 0)
    }

    fn decompressed(&self, number: u64, kind: Kind) -> Result<Option<Vec<u8>>, Error> {
        self.stream(number, kind)?
            .map(|kept| unpack(number, &kept))
            .transpose()
    }

    /// The receipts of a block of the tip, of side blocks too, decompressed.
    pub(crate) fn receipts_in_tip(&self, hash: &B256) -> Result<Option<Vec<u8>>, Error> {
        let Some(at) = self.tip.find(hash) else {
            return Ok(None);
        };
        let block = self.tip.block(at);
        self.tip_stream(block, Kind::Receipts)?
            .map(|kept| unpack(block.number, &kept))
            .transpose()
    }

    fn stream(&self, number: u64, kind: Kind) -> Result<Option<BodyStream<'_>>, Error> {
        if let Some(block) = self.canonical(number) {
            return self.tip_stream(block, kind);
        }
        let Some((segment, found)) = self.cold(kind, number)? else {
            return Ok(None);
        };
        let stream = Record::mapped(segment.map.clone(), found.start, found.end);
        Ok(body_stream(found.raw, stream))
    }

    fn tip_stream(&self, block: &TipBlock, kind: Kind) -> Result<Option<BodyStream<'_>>, Error> {
        let (Some(place), Some(stream)) = (block.place(kind), self.in_tip(block, kind)?) else {
            return Ok(None);
        };
        Ok(body_stream(place.raw, stream))
    }

    /// The block of the tip that is canonical for a number.
    fn canonical(&self, number: u64) -> Option<&TipBlock> {
        self.tip.at(number)
    }

    /// A record of the tip, its checksum checked.
    pub(crate) fn in_tip(&self, block: &TipBlock, kind: Kind) -> Result<Option<Record<'_>>, Error> {
        let Some(place) = block.place(kind) else {
            return Ok(None);
        };
        let (map, start, end) = self
            .tip_file
            .record(block.number, kind, place, self.tip.end)?;
        Ok(Some(Record::mapped(map, start, end)))
    }
}

/// What is kept as a stream; `None` if nothing is.
fn body_stream(raw: u32, stream: Record<'_>) -> Option<BodyStream<'_>> {
    if raw == 0 {
        return None;
    }
    // Bytes were kept, or the length says which constant it is. Nothing else has a length and no bytes: its checksum
    // would not have been ours.
    let stream = match constant_stream(raw).filter(|_| stream.is_empty()) {
        Some(constant) => Record::constant(constant),
        None => stream,
    };
    Some(BodyStream {
        raw_len: raw as usize,
        stream,
    })
}

/// The bytes of a stream, decompressed.
fn unpack(number: u64, kept: &BodyStream<'_>) -> Result<Vec<u8>, Error> {
    snappy::decompress(kept.raw_len, &kept.stream).map_err(|e| {
        let (path, at) = kept
            .stream
            .place()
            .expect("the constants are whole streams");
        Error::damaged(path, at, format!("block {number}: {e}"))
    })
}
