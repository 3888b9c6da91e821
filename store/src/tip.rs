//! The tip: an index of the unsettled blocks, forks among them, and the log file their bytes are in.
//!
//! Only places are kept in memory (about 200 bytes a block), never the blocks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{B256, U256};
use parking_lot::RwLock;

use crate::Head;
use crate::error::Error;
use crate::file::{InFile, Map};
use crate::format::{Kind, PAGE_BYTES, Page, RecordHead, record_crc};
use crate::manifest::{Manifest, tip_path};

/// Stands for the last cold block where a block of the tip is meant.
pub(crate) const ANCHOR: u32 = u32::MAX;

/// Where a record's stored bytes are in the tip log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) stored: u32,
    pub(crate) raw: u32,
    pub(crate) crc: u32,
}

/// One block of the tip.
#[derive(Clone, Debug)]
pub(crate) struct TipBlock {
    pub(crate) number: u64,
    pub(crate) hash: B256,
    /// Its parent's place in the index, or [`ANCHOR`].
    pub(crate) parent: u32,
    pub(crate) td: U256,
    pub(crate) header: Place,
    pub(crate) body: Option<Place>,
    pub(crate) receipts: Option<Place>,
}

impl TipBlock {
    pub(crate) fn place(&self, kind: Kind) -> Option<Place> {
        match kind {
            Kind::Headers => Some(self.header),
            Kind::Bodies => self.body,
            _ => self.receipts,
        }
    }

    /// Bytes kept of the block in all its records.
    pub(crate) fn stored(&self) -> u64 {
        [Some(self.header), self.body, self.receipts]
            .iter()
            .flatten()
            .map(|place| u64::from(place.stored))
            .sum()
    }
}

/// A record of a frame, as read from it or as just put into one.
#[derive(Clone, Debug)]
pub(crate) struct TipRecord {
    pub(crate) head: RecordHead,
    /// Of headers: the parent's hash and the total difficulty.
    pub(crate) link: Option<(B256, U256)>,
    /// Where its stored bytes are in the file.
    pub(crate) offset: u64,
}

/// What the tip log holds, by hash and, for the canonical chain, by number.
#[derive(Clone, Debug)]
pub(crate) struct TipIndex {
    /// The number of the first block above the cold ones.
    base: u64,
    /// Hash and total difficulty of the last cold block.
    anchor: B256,
    anchor_td: U256,
    blocks: Vec<TipBlock>,
    by_hash: HashMap<B256, u32>,
    /// The canonical chain: block `base + i` is `blocks[canonical[i]]`.
    canonical: Vec<u32>,
    /// Frames seen, so the number of the next.
    pub(crate) frames: u64,
    /// Where the next frame goes.
    pub(crate) end: u64,
}

impl TipIndex {
    pub(crate) fn new(manifest: &Manifest) -> TipIndex {
        TipIndex {
            base: manifest.headers().end,
            anchor: manifest.cold_hash,
            anchor_td: manifest.cold_td,
            blocks: Vec::new(),
            by_hash: HashMap::new(),
            canonical: Vec::new(),
            frames: 0,
            end: PAGE_BYTES,
        }
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn anchor(&self) -> (B256, U256) {
        (self.anchor, self.anchor_td)
    }

    pub(crate) fn blocks(&self) -> &[TipBlock] {
        &self.blocks
    }

    pub(crate) fn find(&self, hash: &B256) -> Option<u32> {
        self.by_hash.get(hash).copied()
    }

    pub(crate) fn block(&self, at: u32) -> &TipBlock {
        &self.blocks[at as usize]
    }

    /// The canonical block of a number.
    pub(crate) fn at(&self, number: u64) -> Option<&TipBlock> {
        let i = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.canonical.get(i).map(|&at| self.block(at))
    }

    /// The head; `None` if it is the last cold block.
    pub(crate) fn head(&self) -> Option<&TipBlock> {
        self.canonical.last().map(|&at| self.block(at))
    }

    /// The head's number and hash. Nothing if there is no block at all: a store without its genesis block.
    pub(crate) fn whole_head(&self) -> Option<Head> {
        match self.head() {
            Some(block) => Some(Head {
                number: block.number,
                hash: block.hash,
                td: block.td,
            }),
            None => Some(Head {
                number: self.base.checked_sub(1)?,
                hash: self.anchor,
                td: self.anchor_td,
            }),
        }
    }

    /// Adds a record; what it says wrong otherwise.
    pub(crate) fn add(&mut self, record: &TipRecord) -> Result<(), String> {
        let RecordHead {
            number,
            kind,
            raw,
            stored,
            crc,
            hash,
        } = record.head;
        let place = Place {
            offset: record.offset,
            stored,
            raw,
            crc,
        };
        if kind == Kind::Headers {
            let (parent, td) = record
                .link
                .ok_or_else(|| format!("header {number} has no parent hash"))?;
            if self.by_hash.contains_key(&hash) {
                return Err(format!("header {number} ({hash}) is there twice"));
            }
            let parent = self.parent(number, &parent).ok_or_else(|| {
                format!("header {number} ({hash}) hangs on {parent}, which is not there")
            })?;
            let at = self.blocks.len() as u32;
            self.blocks.push(TipBlock {
                number,
                hash,
                parent,
                td,
                header: place,
                body: None,
                receipts: None,
            });
            self.by_hash.insert(hash, at);
            return Ok(());
        }
        let block = self
            .by_hash
            .get(&hash)
            .map(|&at| &mut self.blocks[at as usize])
            .filter(|block| block.number == number)
            .ok_or_else(|| {
                format!("a record of block {number} ({hash}), whose header is not there")
            })?;
        match kind {
            Kind::Bodies => block.body = Some(place),
            _ => block.receipts = Some(place),
        }
        Ok(())
    }

    /// The hash of a block's parent.
    pub(crate) fn parent_hash(&self, block: &TipBlock) -> B256 {
        if block.parent == ANCHOR {
            self.anchor
        } else {
            self.block(block.parent).hash
        }
    }

    /// Total difficulty up to and with a block's parent.
    pub(crate) fn td_before(&self, block: &TipBlock) -> U256 {
        if block.parent == ANCHOR {
            self.anchor_td
        } else {
            self.block(block.parent).td
        }
    }

    /// Where block `number` with this parent hash hangs.
    pub(crate) fn parent(&self, number: u64, parent: &B256) -> Option<u32> {
        if number == self.base {
            return (*parent == self.anchor).then_some(ANCHOR);
        }
        self.find(parent)
            .filter(|&at| self.block(at).number + 1 == number)
    }

    /// Makes a block the head, and what it hangs on the canonical chain.
    pub(crate) fn set_head(&mut self, number: u64, hash: B256) -> Result<(), String> {
        let mut at = match self.find(&hash) {
            Some(at) if self.block(at).number == number => at,
            _ if number.checked_add(1) == Some(self.base) && hash == self.anchor => {
                self.canonical.clear();
                return Ok(());
            }
            _ => return Err(format!("head {number} ({hash}) is not there")),
        };
        // Down to the first block that is canonical already: one step for a block on the head.
        let mut branch = Vec::new();
        let mut keep = 0;
        while at != ANCHOR {
            let block = self.block(at);
            if block.body.is_none() {
                return Err(format!(
                    "block {} ({}) has no body",
                    block.number, block.hash
                ));
            }
            let i = (block.number - self.base) as usize;
            if self.canonical.get(i) == Some(&at) {
                keep = i + 1;
                break;
            }
            branch.push(at);
            at = block.parent;
        }
        self.canonical.truncate(keep);
        self.canonical.extend(branch.into_iter().rev());
        Ok(())
    }
}

/// The tip log of a manifest, open for reading: its name may be gone, the file is not.
pub(crate) struct TipFile {
    pub(crate) file: InFile,
    pub(crate) salt: u64,
    /// The latest map and how far the log was committed when it was made.
    map: RwLock<Option<(Arc<Map>, u64)>>,
}

impl TipFile {
    pub(crate) fn open(dir: &Path, manifest: &Manifest) -> Result<TipFile, Error> {
        let path = tip_path(dir, manifest.tip);
        let file = InFile::open(&path)?;
        let mut page = vec![0; PAGE_BYTES as usize];
        let read = file.read_at(0, &mut page)?;
        let page = Page::decode(&page[..read]).map_err(|what| Error::damaged(&path, 0, what))?;
        if page.kind != Kind::Tip || page.sequence != manifest.tip {
            return Err(Error::damaged(
                &path,
                12,
                "the first page is of another file",
            ));
        }
        if page.store_id != manifest.store_id {
            return Err(Error::damaged(&path, 16, "the file is of another store"));
        }
        Ok(TipFile {
            file,
            salt: page.salt,
            map: RwLock::default(),
        })
    }

    /// The bytes of a record, their checksum checked, of a log committed up to `end`.
    pub(crate) fn record(
        &self,
        number: u64,
        kind: Kind,
        place: Place,
        end: u64,
    ) -> Result<(Arc<Map>, usize, usize), Error> {
        let to = place.offset + u64::from(place.stored);
        debug_assert!(to <= end);
        let held = self
            .map
            .read()
            .as_ref()
            .filter(|(_, covers)| *covers >= to)
            .map(|(map, _)| map.clone());
        let map = match held {
            Some(map) => map,
            None => {
                let map = Arc::new(self.file.map()?);
                let mut kept = self.map.write();
                if kept.as_ref().is_none_or(|(_, covers)| *covers < end) {
                    *kept = Some((map.clone(), end));
                }
                map
            }
        };
        let (from, to) = (place.offset as usize, to as usize);
        let Some(bytes) = map.get(from..to) else {
            return Err(Error::damaged(
                map.path(),
                place.offset,
                format!("the file ends inside block {number}"),
            ));
        };
        map.populate(from, to)?;
        let crc = record_crc(number, kind, place.raw, bytes);
        if crc != place.crc {
            return Err(Error::damaged(
                map.path(),
                place.offset,
                format!(
                    "checksum of block {number}: expected {:08x}, found {crc:08x}",
                    place.crc
                ),
            ));
        }
        Ok((map, from, to))
    }
}
