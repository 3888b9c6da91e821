//! Frames of the tip log: how one is put together, and how the log is scanned for them.

use alloy_primitives::{B256, U256};

use crate::Head;
use crate::error::Error;
use crate::file::InFile;
use crate::format::{
    FRAME_HEAD_BYTES, FrameHead, Kind, MAX_FRAME_BYTES, MAX_RECORD_BYTES, PAGE_BYTES,
    RECORD_HEAD_BYTES, RecordHead, TD_BYTES, align_page, array, is_constant, record_crc, td_at,
    u32_at,
};
use crate::rlp;
use crate::snappy::{Buffer, Compressor};
use crate::tip::{TipFile, TipIndex, TipRecord};

/// How much of a frame is read at once, in bytes: scanning needs no more memory than this.
const CHUNK_BYTES: usize = 64 << 10;

/// A frame being put together.
pub(crate) struct FrameBuilder {
    bytes: Buffer,
    /// With offsets from the frame's start until it is placed.
    records: Vec<TipRecord>,
}

impl FrameBuilder {
    pub(crate) fn new() -> FrameBuilder {
        let mut frame = FrameBuilder {
            bytes: Buffer::new(),
            records: Vec::new(),
        };
        frame.clear();
        frame
    }

    /// Begins a new frame.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear(MAX_FRAME_BYTES as usize / 4);
        self.bytes.push_zeros(FRAME_HEAD_BYTES);
        self.records.clear();
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn records(&self) -> usize {
        self.records.len()
    }

    /// Adds a header.
    pub(crate) fn header(&mut self, number: u64, hash: B256, link: (B256, U256), header: &[u8]) {
        let raw = header.len() as u32;
        let crc = record_crc(number, Kind::Headers, raw, header);
        self.stored(
            RecordHead {
                number,
                kind: Kind::Headers,
                raw,
                stored: raw,
                crc,
                hash,
            },
            Some(link),
            header,
        );
    }

    /// Adds a body or receipts, compressed here.
    pub(crate) fn compress(
        &mut self,
        number: u64,
        kind: Kind,
        hash: B256,
        raw: &[u8],
        compressor: &mut Compressor,
    ) {
        let at = self.bytes.len();
        self.bytes.push_zeros(RECORD_HEAD_BYTES);
        let start = self.bytes.len();
        if !is_constant(raw) {
            compressor.append(raw, &mut self.bytes);
        }
        let stored = &self.bytes.as_slice()[start..];
        let crc = record_crc(number, kind, raw.len() as u32, stored);
        let head = RecordHead {
            number,
            kind,
            raw: raw.len() as u32,
            stored: stored.len() as u32,
            crc,
            hash,
        };
        self.bytes.as_mut_slice()[at..start].copy_from_slice(&head.encode());
        self.records.push(TipRecord {
            head,
            link: None,
            offset: start as u64,
        });
    }

    /// Adds a record whose stored bytes and checksum are known.
    pub(crate) fn stored(&mut self, head: RecordHead, link: Option<(B256, U256)>, stored: &[u8]) {
        self.bytes.push(&head.encode());
        if let Some((_, td)) = link {
            self.bytes.push(&td.to_le_bytes::<TD_BYTES>());
        }
        let offset = self.bytes.len() as u64;
        self.bytes.push(stored);
        self.records.push(TipRecord { head, link, offset });
    }

    /// Names the head, seals the frame for its place in the log and pads it to whole pages.
    pub(crate) fn finish(
        &mut self,
        index: &TipIndex,
        salt: u64,
        head_number: u64,
        head: B256,
    ) -> &[u8] {
        let length = self.bytes.len();
        FrameHead {
            records: self.records.len() as u32,
            length: length as u64,
            salt,
            frame: index.frames,
            head_number,
            head,
        }
        .seal(self.bytes.as_mut_slice());
        self.bytes
            .push_zeros((align_page(length as u64) as usize) - length);
        self.bytes.as_slice()
    }

    /// Enters the finished frame into the index, as scanning it would.
    pub(crate) fn enter(
        &self,
        index: &mut TipIndex,
        head_number: u64,
        head: B256,
    ) -> Result<(), String> {
        let at = index.end;
        enter(index, &self.records, at, head_number, head)?;
        index.frames += 1;
        index.end = align_page(at + self.len());
        Ok(())
    }
}

fn enter(
    index: &mut TipIndex,
    records: &[TipRecord],
    at: u64,
    head_number: u64,
    head: B256,
) -> Result<(), String> {
    for record in records {
        index.add(&TipRecord {
            offset: at + record.offset,
            ..record.clone()
        })?;
    }
    index.set_head(head_number, head)
}

/// What follows the last frame that counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Tail {
    /// A closing frame: the one before it was on the disk when this was written.
    Closed,
    /// Nothing, or zeros at the least where the next frame's head would be.
    Clean,
    /// Something that does not verify, and nothing behind it: what a crash leaves of the last commit, or what damage left
    /// of it since. What can be told of it.
    Torn(String),
}

/// Enters every frame from the index's end on. Stops at a closing frame and at the first that does not verify; with
/// `look_behind`, a later one of the same salt proves damage. (A reader that only looks for news saw what is behind when
/// it opened the log.)
pub(crate) fn scan(tip: &TipFile, index: &mut TipIndex, look_behind: bool) -> Result<Tail, Error> {
    let mut chunks = Chunks::new(&tip.file);
    let is_closed = loop {
        let at = index.end;
        let found = read_frame(&mut chunks, tip.salt, Some(index.frames), at)?;
        let is_closed = match found {
            Some((head, _)) if is_closing(&head, index) => true,
            Some((head, records)) => {
                enter(index, &records, at, head.head_number, head.head).map_err(|what| {
                    Error::damaged(tip.file.path(), at, format!("frame {}: {what}", head.frame))
                })?;
                index.frames += 1;
                index.end = align_page(at + head.length);
                continue;
            }
            None => false,
        };
        if !look_behind {
            break is_closed;
        }
        let Some(later) = later_frame(&mut chunks, tip, at)? else {
            break is_closed;
        };
        // A writer may have finished the frame, and a later one, between the two looks.
        chunks.forget();
        let again = read_frame(&mut chunks, tip.salt, Some(index.frames), at)?;
        if again.is_none_or(|(head, _)| is_closing(&head, index)) {
            let what = format!(
                "frame {} does not verify, but a later one at byte {later} does",
                index.frames
            );
            return Err(Error::damaged(tip.file.path(), at, what));
        }
    };
    if index.frames == 0 && look_behind {
        // No torn tail: the MANIFEST that names a log is written when the log's first frame is on the disk.
        let what = "the first frame does not verify, though it was durable before the MANIFEST named its log";
        return Err(Error::damaged(tip.file.path(), index.end, what));
    }
    if is_closed {
        return Ok(Tail::Closed);
    }
    let mut next = [0; FRAME_HEAD_BYTES];
    let read = tip.file.read_at(index.end, &mut next)?;
    Ok(if next[..read].iter().all(|&byte| byte == 0) {
        Tail::Clean
    } else {
        Tail::Torn(torn(tip, index, &FrameHead::decode(&next)))
    })
}

/// What can be told of the frame behind the last that counts, which does not verify.
fn torn(tip: &TipFile, index: &TipIndex, head: &FrameHead) -> String {
    let either = "it was never finished, or its bytes were damaged since";
    if head.salt != tip.salt || head.frame != index.frames {
        return format!("bytes where the next commit would be: {either}; it does not count");
    }
    if is_closing(head, index) {
        return format!("the closing frame does not verify: {either}; it holds no block");
    }
    format!(
        "the last commit, of {} records and with block {} ({}) as head, does not verify: {either}; it does not count",
        head.records, head.head_number, head.head
    )
}

/// Whether a frame is a closing one: it holds nothing and names the head of before. It does not count as a frame: the next
/// is written over it.
fn is_closing(head: &FrameHead, index: &TipIndex) -> bool {
    let is_head = |now: Head| now.hash == head.head && now.number == head.head_number;
    head.records == 0 && index.frames > 0 && index.whole_head().is_some_and(is_head)
}

/// The page that closes a log whose frames are in the index.
pub(crate) fn closing(index: &TipIndex, salt: u64) -> Option<[u8; PAGE_BYTES as usize]> {
    let head = index.whole_head()?;
    let mut page = [0; PAGE_BYTES as usize];
    FrameHead {
        records: 0,
        length: FRAME_HEAD_BYTES as u64,
        salt,
        frame: index.frames,
        head_number: head.number,
        head: head.hash,
    }
    .seal(&mut page[..FRAME_HEAD_BYTES]);
    Some(page)
}

/// True if the head of a next frame is there: worth a scan.
pub(crate) fn may_follow(tip: &TipFile, index: &TipIndex) -> Result<bool, Error> {
    let mut head = [0; FRAME_HEAD_BYTES];
    let read = tip.file.read_at(index.end, &mut head)?;
    let head = FrameHead::decode(&head[..]);
    Ok(read == FRAME_HEAD_BYTES && head.salt == tip.salt && !is_closing(&head, index))
}

/// The place of a whole frame of this log behind `at`, if there is one.
fn later_frame(chunks: &mut Chunks<'_>, tip: &TipFile, at: u64) -> Result<Option<u64>, Error> {
    let length = tip.file.len()?;
    let mut at = at + PAGE_BYTES;
    while at + FRAME_HEAD_BYTES as u64 <= length {
        if read_frame(chunks, tip.salt, None, at)?.is_some() {
            return Ok(Some(at));
        }
        at += PAGE_BYTES;
    }
    Ok(None)
}

/// The frame at `at`, if one of this salt (and number, if given) is there and whole.
fn read_frame(
    chunks: &mut Chunks<'_>,
    salt: u64,
    frame: Option<u64>,
    at: u64,
) -> Result<Option<(FrameHead, Vec<TipRecord>)>, Error> {
    chunks.seek(at);
    let Some(bytes) = chunks.take(FRAME_HEAD_BYTES)? else {
        return Ok(None);
    };
    let bytes: [u8; FRAME_HEAD_BYTES] = array(bytes, 0);
    let head = FrameHead::decode(&bytes);
    let expected = u32_at(&bytes, 0);
    let fits = (FRAME_HEAD_BYTES as u64..=MAX_FRAME_BYTES).contains(&head.length);
    if head.salt != salt || !fits || frame.is_some_and(|frame| frame != head.frame) {
        return Ok(None);
    }
    // The checksum is of everything behind itself.
    chunks.crc = crc32fast::Hasher::new();
    chunks.crc.update(&bytes[4..]);
    let end = at + head.length;
    let mut records = Vec::new();
    while (records.len() as u64) < u64::from(head.records) && chunks.at < end {
        let Some(record) = read_record(chunks, at, end)? else {
            return Ok(None);
        };
        records.push(record);
    }
    let whole = chunks.at == end && records.len() as u64 == u64::from(head.records);
    Ok((whole && chunks.crc.clone().finalize() == expected).then_some((head, records)))
}

fn read_record(chunks: &mut Chunks<'_>, frame: u64, end: u64) -> Result<Option<TipRecord>, Error> {
    let Some(head) = chunks.take(RECORD_HEAD_BYTES)?.and_then(RecordHead::decode) else {
        return Ok(None);
    };
    let mut td = None;
    if head.kind == Kind::Headers {
        let Some(bytes) = chunks.take(TD_BYTES)? else {
            return Ok(None);
        };
        td = Some(td_at(bytes, 0));
    }
    let offset = chunks.at;
    let stored = head.stored as usize;
    if head.raw as usize > MAX_RECORD_BYTES || offset + stored as u64 > end {
        return Ok(None);
    }
    let mut link = None;
    let mut rest = stored;
    if let Some(td) = td {
        let prefix = stored.min(rlp::PARENT_PREFIX_BYTES);
        let Some(bytes) = chunks.take(prefix)? else {
            return Ok(None);
        };
        link = rlp::parent(bytes).map(|parent| (parent, td));
        rest -= prefix;
    }
    Ok(chunks.skip(rest)?.then_some(TipRecord {
        head,
        link,
        offset: offset - frame,
    }))
}

/// Reads a file forward a chunk at a time, and sums up what it passes.
struct Chunks<'a> {
    file: &'a InFile,
    chunk: Vec<u8>,
    /// Where the chunk is in the file, and how much of it was there to read.
    start: u64,
    filled: usize,
    at: u64,
    crc: crc32fast::Hasher,
}

impl<'a> Chunks<'a> {
    fn new(file: &'a InFile) -> Chunks<'a> {
        Chunks {
            file,
            chunk: vec![0; CHUNK_BYTES],
            start: 0,
            filled: 0,
            at: 0,
            crc: crc32fast::Hasher::new(),
        }
    }

    /// Goes to a place.
    fn seek(&mut self, at: u64) {
        if (self.start..=self.start + self.filled as u64).contains(&at) {
            self.at = at;
        } else {
            (self.start, self.filled, self.at) = (at, 0, at);
        }
    }

    /// Forgets what was read, for the file may have changed.
    fn forget(&mut self) {
        (self.start, self.filled) = (self.at, 0);
    }

    /// Makes at least `n` bytes at the place available; false if the file ends before.
    fn fill(&mut self, n: usize) -> Result<bool, Error> {
        let from = (self.at - self.start) as usize;
        if from + n > self.filled {
            self.chunk.copy_within(from..self.filled, 0);
            self.filled -= from;
            self.start = self.at;
            self.filled += self.file.read_at(
                self.start + self.filled as u64,
                &mut self.chunk[self.filled..],
            )?;
        }
        Ok((self.at - self.start) as usize + n <= self.filled)
    }

    /// The next `n` bytes, fewer than a chunk; `None` if the file ends before.
    fn take(&mut self, n: usize) -> Result<Option<&[u8]>, Error> {
        if !self.fill(n)? {
            return Ok(None);
        }
        let from = (self.at - self.start) as usize;
        self.at += n as u64;
        self.crc.update(&self.chunk[from..from + n]);
        Ok(Some(&self.chunk[from..from + n]))
    }

    /// Passes `n` bytes; false if the file ends before.
    fn skip(&mut self, mut n: usize) -> Result<bool, Error> {
        while n > 0 {
            let step = n.min(CHUNK_BYTES / 2);
            if self.take(step)?.is_none() {
                return Ok(false);
            }
            n -= step;
        }
        Ok(true)
    }
}
