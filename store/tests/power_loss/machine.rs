//! A machine with a disk: what the cache shows, what the disk has, what goes wrong, and what a power loss leaves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::format::{FRAME_HEAD_BYTES, FrameHead, PAGE_BYTES, align_page, u64_at};
use crate::random::Random;
use crate::wrong::Wrong;

/// Where the store of a history is.
pub(crate) const STORE: &str = "/store";

/// What is to go wrong in a session, and at which of its changes to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    /// The power goes.
    Power(u64),
    /// The n-th sync of a file or a folder fails.
    Sync(u64),
    /// The n-th sync of a copy of the MANIFEST fails.
    ManifestSync(u64),
    /// The n-th write of bytes or names fails; of bytes some are written.
    Write(u64),
}

pub(crate) struct Pending {
    /// Start of the first sector.
    start: usize,
    /// The sectors as the cache had them after the write.
    bytes: Vec<u8>,
    /// The file's length then.
    length: usize,
}

#[derive(Default)]
pub(crate) struct FileNode {
    pub(crate) cache: Vec<u8>,
    pub(crate) disk: Vec<u8>,
    pub(crate) pending: Vec<Pending>,
}

pub(crate) type FileRef = Rc<RefCell<FileNode>>;

#[derive(Clone)]
pub(crate) enum DirChange {
    Add(String, FileRef),
    Remove(String),
    Rename(String, String),
}

#[derive(Clone, Default)]
pub(crate) struct Dir {
    pub(crate) cache: BTreeMap<String, FileRef>,
    pub(crate) disk: BTreeMap<String, FileRef>,
    pub(crate) pending: Vec<DirChange>,
    /// Whether the folder's own name is durable in the one above.
    pub(crate) is_durable: bool,
}

impl DirChange {
    pub(crate) fn apply(&self, names: &mut BTreeMap<String, FileRef>) {
        match self {
            DirChange::Add(name, file) => {
                names.insert(name.clone(), file.clone());
            }
            DirChange::Remove(name) => {
                names.remove(name);
            }
            DirChange::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }

    fn touches(&self, name: &str) -> bool {
        match self {
            DirChange::Add(a, _) | DirChange::Remove(a) => a == name,
            DirChange::Rename(a, b) => a == name || b == name,
        }
    }

    fn shares(&self, other: &DirChange) -> bool {
        match other {
            DirChange::Add(a, _) | DirChange::Remove(a) => self.touches(a),
            DirChange::Rename(a, b) => self.touches(a) || self.touches(b),
        }
    }
}

pub(crate) struct Machine {
    pub(crate) random: Random,
    pub(crate) dirs: BTreeMap<PathBuf, Dir>,
    pub(crate) sector: usize,
    pub(crate) fault: Fault,
    syncs: u64,
    pub(crate) manifest_syncs: u64,
    writes: u64,
    changes: u64,
    /// The power is gone: nothing succeeds any more.
    pub(crate) dead: bool,
    pub(crate) hit: bool,
    pub(crate) wrong: Option<Wrong>,
    /// Bytes of files that were removed: what may show up where nothing was written yet.
    stale: Vec<Vec<u8>>,
}

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

pub(crate) fn with<T>(f: impl FnOnce(&mut Machine) -> T) -> T {
    MACHINE.with_borrow_mut(|machine| f(machine.as_mut().expect("a disk was made")))
}

/// An empty disk.
pub(crate) fn start(seed: u64, wrong: Option<Wrong>) {
    let mut random = Random(seed);
    let sector = if random.one_in(2) { 512 } else { 4096 };
    let machine = Machine {
        random,
        dirs: BTreeMap::new(),
        sector,
        fault: Fault::None,
        syncs: 0,
        manifest_syncs: 0,
        writes: 0,
        changes: 0,
        dead: false,
        hit: false,
        wrong,
        stale: Vec::new(),
    };
    MACHINE.set(Some(machine));
}

/// A session begins, in which this is to go wrong.
pub(crate) fn set_fault(fault: Fault) {
    with(|m| {
        m.fault = fault;
        (m.syncs, m.manifest_syncs, m.writes) = (0, 0, 0);
        (m.changes, m.hit) = (0, false);
    });
}

/// Whether it went wrong.
pub(crate) fn fault_hit() -> bool {
    with(|m| m.hit)
}

pub(crate) fn is_dead() -> bool {
    with(|m| m.dead)
}

/// Changes to the disk since the session began.
pub(crate) fn changes() -> u64 {
    with(|m| m.changes)
}

/// The store's files.
pub(crate) fn files() -> Vec<PathBuf> {
    with(|m| {
        let names = m
            .dirs
            .iter()
            .flat_map(|(folder, dir)| dir.cache.keys().map(|name| folder.join(name)));
        names.collect()
    })
}

/// What a file holds.
pub(crate) fn bytes(path: &Path) -> Option<Vec<u8>> {
    with(|m| Some(m.file(path).ok()?.borrow().cache.clone()))
}

/// Damages a file whose bytes and name are durable: these are its bytes now, or it is gone.
pub(crate) fn put_bytes(path: &Path, bytes: Option<Vec<u8>>) {
    with(|m| {
        let (folder, name) = split(path);
        let Ok(dir) = m.dir(folder) else { return };
        let file = bytes.map(|bytes| {
            Rc::new(RefCell::new(FileNode {
                cache: bytes.clone(),
                disk: bytes,
                pending: Vec::new(),
            }))
        });
        for names in [&mut dir.cache, &mut dir.disk] {
            match &file {
                Some(file) => drop(names.insert(name.to_owned(), file.clone())),
                None => drop(names.remove(name)),
            }
        }
    });
}

/// The power goes and comes back: the cache is what the disk had.
pub(crate) fn lose_power() {
    with(Machine::lose_power);
}

pub(crate) enum Do {
    Go,
    /// The power goes before this or, if true, behind it.
    Die(bool),
    Fail,
}

impl Machine {
    pub(crate) fn ask(&mut self, is_sync: bool, is_write: bool) -> Result<Do, io::Error> {
        if self.dead {
            return Err(eio());
        }
        let (change, sync, write) = (self.changes, self.syncs, self.writes);
        self.changes += 1;
        self.syncs += u64::from(is_sync);
        self.writes += u64::from(is_write);
        let go = match self.fault {
            Fault::Power(n) if n == change => {
                self.dead = true;
                Do::Die(self.random.one_in(2))
            }
            Fault::Sync(n) if is_sync && n == sync => Do::Fail,
            Fault::Write(n) if is_write && n == write => Do::Fail,
            _ => return Ok(Do::Go),
        };
        self.hit = true;
        Ok(go)
    }

    pub(crate) fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs
            .get_mut(path)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(crate) fn file(&mut self, path: &Path) -> io::Result<FileRef> {
        let (folder, name) = split(path);
        self.dir(folder)?
            .cache
            .get(name)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(crate) fn names(&mut self, path: &Path, change: &DirChange) -> io::Result<()> {
        let go = self.ask(false, true)?;
        if matches!(go, Do::Go | Do::Die(true)) {
            let dir = self.dir(path)?;
            let gone = match change {
                DirChange::Remove(name) => dir.cache.get(name).cloned(),
                _ => None,
            };
            change.apply(&mut dir.cache);
            dir.pending.push(change.clone());
            // What shows up in a new tip log is likely to be an old one: the same blocks of the disk are used again.
            let is_tip = matches!(change, DirChange::Remove(name) if name.starts_with("tip."));
            if let Some(gone) = gone.filter(|_| is_tip) {
                if self.stale.len() > 3 {
                    self.stale.remove(0);
                }
                self.stale.push(gone.borrow().cache.clone());
            }
        }
        match go {
            Do::Go => Ok(()),
            _ => Err(eio()),
        }
    }

    fn lose_power(&mut self) {
        // Some power losses are mild: nothing, or everything, that was not synced is lost.
        let mood = self.random.below(8);
        let mut dirs = std::mem::take(&mut self.dirs);
        dirs.retain(|_, dir| dir.is_durable || (mood != 0 && self.random.one_in(2)));
        if !dirs.contains_key(Path::new(STORE)) {
            dirs.clear();
        }
        for dir in dirs.values_mut() {
            let mut kept: Vec<bool> = Vec::new();
            for (i, change) in dir.pending.iter().enumerate() {
                let mut keep = match mood {
                    0 => false,
                    1 => true,
                    _ => self.random.one_in(2),
                };
                for (earlier, kept) in dir.pending[..i].iter().zip(&kept) {
                    keep &= *kept || !earlier.shares(change);
                }
                kept.push(keep);
                if keep {
                    change.apply(&mut dir.disk);
                }
            }
            dir.pending.clear();
            dir.is_durable = true;
            for file in dir.disk.values_mut() {
                // Old handles keep the old file: they are of a kernel that is gone.
                let bytes = self.survivor(&file.borrow(), mood);
                *file = Rc::new(RefCell::new(FileNode {
                    cache: bytes.clone(),
                    disk: bytes,
                    pending: Vec::new(),
                }));
            }
            dir.cache = dir.disk.clone();
        }
        self.dirs = dirs;
        self.dead = false;
        self.fault = Fault::None;
    }

    /// What the disk may have of a file after a power loss.
    pub(crate) fn survivor(&mut self, file: &FileNode, mood: u64) -> Vec<u8> {
        if file.pending.is_empty() || mood == 0 {
            return file.disk.clone();
        }
        if mood == 1 {
            let mut bytes = file.disk.clone();
            for pending in &file.pending {
                put(&mut bytes, pending);
            }
            return bytes;
        }
        let sector = self.sector;
        let mut lengths: Vec<usize> = file.pending.iter().map(|pending| pending.length).collect();
        lengths.push(file.disk.len());
        let mut length = lengths[self.random.below(lengths.len() as u64) as usize];
        length = length.max(file.disk.len());
        let mut bytes = file.disk.clone();
        // Where a length came without its data: zeros, random bytes, or what another file had there.
        let filling = self.random.below(3);
        let from = bytes.len();
        bytes.resize(length, 0);
        if filling == 1 {
            for byte in &mut bytes[from..] {
                *byte = self.random.0 as u8 ^ (self.random.0 >> 32) as u8;
                self.random.0 = self.random.0.wrapping_mul(0x5851_f42d_4c95_7f2d) | 1;
            }
        } else if filling == 2 && !self.stale.is_empty() {
            let any = &self.stale[self.random.below(self.stale.len() as u64) as usize];
            let longest = self.stale.iter().max_by_key(|stale| stale.len()).unwrap();
            let stale = if self.random.one_in(2) { any } else { longest };
            let to = length.min(stale.len());
            if from < to {
                bytes[from..to].copy_from_slice(&stale[from..to]);
            }
        }
        // Each sector as it was, or as it was after any of the writes to it. Half of the time writes are kept or lost as
        // a whole, all of a sort in a row: what a real disk mostly does.
        let (up_to, is_whole) = (
            self.random.below(file.pending.len() as u64 + 1) as usize,
            self.random.one_in(2),
        );
        for (i, pending) in file.pending.iter().enumerate() {
            if is_whole && i >= up_to {
                break;
            }
            for (k, part) in pending.bytes.chunks(sector).enumerate() {
                if !is_whole && self.random.one_in(2) {
                    continue;
                }
                let at = pending.start + k * sector;
                let end = (at + part.len()).min(length);
                if at < end {
                    bytes[at..end].copy_from_slice(&part[..end - at]);
                }
            }
        }
        bytes
    }
}

pub(crate) fn put(bytes: &mut Vec<u8>, pending: &Pending) {
    let end = pending.start + pending.bytes.len();
    bytes.resize(bytes.len().max(end), 0);
    bytes[pending.start..end].copy_from_slice(&pending.bytes);
}

pub(crate) fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

pub(crate) fn split(path: &Path) -> (&Path, &str) {
    let name = path.file_name().and_then(|name| name.to_str());
    (path.parent().unwrap(), name.unwrap())
}

pub(crate) fn name(path: &Path) -> &str {
    split(path).1
}

pub(crate) fn is_manifest(path: &Path) -> bool {
    name(path).starts_with("MANIFEST")
}

pub(crate) fn is_tip(path: &Path) -> bool {
    name(path).starts_with("tip.")
}

pub(crate) fn is_run(path: &Path) -> bool {
    name(split(path).0) == "hash"
}

/// The head of the frame that a write to a tip log is, if it is one.
fn frame_of(salt: u64, bytes: &[u8]) -> Option<FrameHead> {
    let head = FrameHead::decode(bytes.get(..FRAME_HEAD_BYTES)?);
    (head.salt == salt).then_some(head)
}

impl FileNode {
    /// A sync that goes well.
    pub(crate) fn flush(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            put(&mut self.disk, &pending);
        }
    }

    fn salt(&self) -> u64 {
        self.cache.get(40..48).map_or(0, |salt| u64_at(salt, 0))
    }

    /// Of a tip log: where the last frame that is not synced begins, and its head.
    pub(crate) fn last_frame(&self) -> Option<(usize, FrameHead)> {
        let frames = self.pending.iter().rev();
        frames
            .filter(|pending| pending.start > 0)
            .find_map(|pending| {
                let head = frame_of(self.salt(), &pending.bytes)?;
                Some((pending.start, head))
            })
    }

    /// Of a tip log: whether what was written last, and is not synced, is a closing frame.
    pub(crate) fn is_closed(&self) -> bool {
        let last = self.pending.last();
        let head = last.and_then(|pending| frame_of(self.salt(), &pending.bytes));
        head.is_some_and(|head| head.records == 0)
    }

    /// Writes a closing frame behind a frame.
    pub(crate) fn close(&mut self, last: Option<(usize, FrameHead)>, sector: usize) {
        if let Some((at, head)) = last.filter(|(_, head)| head.records > 0) {
            let mut page = vec![0; PAGE_BYTES as usize];
            let (end, length) = (align_page(at as u64 + head.length), FRAME_HEAD_BYTES as u64);
            let closing = FrameHead {
                records: 0,
                length,
                frame: head.frame + 1,
                ..head
            };
            closing.seal(&mut page[..FRAME_HEAD_BYTES]);
            self.write(end as usize, &page, sector);
        }
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8], sector: usize) {
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        let start = offset / sector * sector;
        let stop = end.next_multiple_of(sector).min(self.cache.len());
        self.pending.push(Pending {
            start,
            bytes: self.cache[start..stop].to_vec(),
            length: self.cache.len(),
        });
    }
}
