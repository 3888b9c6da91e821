//! A disk in memory in the place of `src/file.rs`: what the cache shows, what the disk has, and what a power loss leaves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::error::Error;
use crate::manifest::Manifest;

/// Orders of writes that are wrong, each of which the explorer must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wrong {
    /// Segments and runs are not synced before the MANIFEST names them.
    DataUnsynced,
    /// A frame is acknowledged before it is synced.
    TipUnsynced,
    /// MANIFEST.1 is written while MANIFEST.0 is not synced.
    FirstCopyUnsynced,
    /// The change goes on while MANIFEST.1 is not synced.
    SecondCopyUnsynced,
    /// MANIFEST.1 is left as it was.
    SecondCopyLeft,
    /// The store's folder is not synced where the tip log was made.
    StoreFolderUnsynced,
    /// The folders of segments and runs are not synced.
    FoldersUnsynced,
    /// A merged run is renamed without a sync of its bytes.
    MergeUnsynced,
    /// The old tip log is removed before the MANIFEST is written.
    UnlinkFirst,
    /// Every tip log has the same salt.
    SaltReused,
    /// A session's first change does not write the MANIFEST it found again.
    FoundNotRewritten,
    /// It does, but the copy it was not found in first.
    FoundRewrittenBackwards,
    /// A session appends to the tip log it found.
    TipResumed,
}

impl Wrong {
    pub(crate) const ALL: [Wrong; 13] = [
        Wrong::DataUnsynced,
        Wrong::TipUnsynced,
        Wrong::FirstCopyUnsynced,
        Wrong::SecondCopyUnsynced,
        Wrong::SecondCopyLeft,
        Wrong::StoreFolderUnsynced,
        Wrong::FoldersUnsynced,
        Wrong::MergeUnsynced,
        Wrong::UnlinkFirst,
        Wrong::SaltReused,
        Wrong::FoundNotRewritten,
        Wrong::FoundRewrittenBackwards,
        Wrong::TipResumed,
    ];
}

/// A small generator of numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

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

struct Pending {
    /// Start of the first sector.
    start: usize,
    /// The sectors as the cache had them after the write.
    bytes: Vec<u8>,
    /// The file's length then.
    length: usize,
}

#[derive(Default)]
struct FileNode {
    cache: Vec<u8>,
    disk: Vec<u8>,
    pending: Vec<Pending>,
}

type FileRef = Rc<RefCell<FileNode>>;

#[derive(Clone)]
enum DirChange {
    Add(String, FileRef),
    Remove(String),
    Rename(String, String),
}

#[derive(Clone, Default)]
struct Dir {
    cache: BTreeMap<String, FileRef>,
    disk: BTreeMap<String, FileRef>,
    pending: Vec<DirChange>,
    /// Whether the folder's own name is durable in the one above.
    is_durable: bool,
}

impl DirChange {
    fn apply(&self, names: &mut BTreeMap<String, FileRef>) {
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

struct Machine {
    random: Random,
    dirs: BTreeMap<PathBuf, Dir>,
    sector: usize,
    fault: Fault,
    syncs: u64,
    manifest_syncs: u64,
    writes: u64,
    changes: u64,
    /// The power is gone: nothing succeeds any more.
    dead: bool,
    hit: bool,
    wrong: Option<Wrong>,
    /// Bytes of files that were removed: what may show up where nothing was written yet.
    stale: Vec<Vec<u8>>,
}

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut Machine) -> T) -> T {
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

/// The power goes and comes back: the cache is what the disk had.
pub(crate) fn lose_power() {
    with(Machine::lose_power);
}

enum Do {
    Go,
    /// The power goes before this or, if true, behind it.
    Die(bool),
    Fail,
}

impl Machine {
    fn ask(&mut self, is_sync: bool, is_write: bool) -> Result<Do, io::Error> {
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

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs
            .get_mut(path)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, path: &Path) -> io::Result<FileRef> {
        let (folder, name) = split(path);
        self.dir(folder)?
            .cache
            .get(name)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&mut self, path: &Path, change: &DirChange) -> io::Result<()> {
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
    fn survivor(&mut self, file: &FileNode, mood: u64) -> Vec<u8> {
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

fn put(bytes: &mut Vec<u8>, pending: &Pending) {
    let end = pending.start + pending.bytes.len();
    bytes.resize(bytes.len().max(end), 0);
    bytes[pending.start..end].copy_from_slice(&pending.bytes);
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn split(path: &Path) -> (&Path, &str) {
    let name = path.file_name().and_then(|name| name.to_str());
    (path.parent().unwrap(), name.unwrap())
}

fn name(path: &Path) -> &str {
    split(path).1
}

fn is_manifest(path: &Path) -> bool {
    name(path).starts_with("MANIFEST")
}

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
                for (folder, dir) in &mut m.dirs {
                    if folder == path {
                        for change in std::mem::take(&mut dir.pending) {
                            change.apply(&mut dir.disk);
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

/// Where the store of a history is.
pub(crate) const STORE: &str = "/store";

pub(crate) struct OutFile {
    file: FileRef,
    path: PathBuf,
}

impl OutFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
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
                self.file
                    .borrow_mut()
                    .write(offset_bytes as usize, part, m.sector);
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
                Some(Wrong::DataUnsynced) => !name.starts_with("tip.") && !is_manifest(&self.path),
                Some(Wrong::TipUnsynced) => name.starts_with("tip."),
                Some(Wrong::FirstCopyUnsynced) => name == "MANIFEST.0",
                Some(Wrong::SecondCopyUnsynced) => name == "MANIFEST.1",
                Some(Wrong::MergeUnsynced) => name.ends_with(".new"),
                _ => false,
            };
            if skip && matches!(go, Do::Go) {
                return Ok(());
            }
            let mut file = self.file.borrow_mut();
            match go {
                Do::Go | Do::Die(true) => {
                    for pending in std::mem::take(&mut file.pending) {
                        put(&mut file.disk, &pending);
                    }
                }
                Do::Die(false) => {}
                Do::Fail => {
                    // Some of it is on the disk. The rest never will be, and the cache goes on showing it.
                    let mood = m.random.below(4);
                    let disk = m.survivor(&file, mood);
                    file.disk = disk;
                    file.pending.clear();
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

impl FileNode {
    fn write(&mut self, offset: usize, bytes: &[u8], sector: usize) {
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
