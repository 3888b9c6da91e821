//! What has been verified already, noted in a file outside the store, so that a long verify can go on after the power failed.
//!
//! The file is lines of JSON. The first says of which store and how thoroughly; each other one that the records were read, or that
//! an era was found sound, with the names and lengths of its files then. A last line that a crash has cut off does not count. An
//! era whose files are others now is read again, and so are the blocks above the last whole era.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use alloy_primitives::B256;
use cairn_store::Snapshot;
use serde_json::{Value, json};

use crate::{crew::UNIT_BLOCKS, failure::Failure, follow, view};

/// Version of the lines.
const VERSION: u64 = 1;

/// Notes are made durable at most this often: an era takes a second or a minute, and a memory card wears.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// A line holds an era's files and figures. More is no notes of ours.
const FILE_LIMIT_BYTES: u64 = 1 << 30;

/// What was found of an era.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sound {
    pub(super) last_hash: B256,
    pub(super) transactions: u64,
    pub(super) receipts: u64,
    /// Names and lengths of its files.
    files: String,
}

/// The file and what it says.
pub(super) struct Notes {
    path: PathBuf,
    file: File,
    records: bool,
    eras: BTreeMap<u64, Sound>,
    /// The files of each era as they were when this run began.
    files: BTreeMap<u64, String>,
    synced: Instant,
}

impl Notes {
    /// Reads the notes in `path` about the store in `folder`, or begins them.
    pub(super) fn open(
        path: &Path,
        folder: &Path,
        snapshot: &Snapshot,
        deep: bool,
    ) -> Result<Self, Failure> {
        let refused = |error: io::Error| Failure::file("cannot keep notes in", path, &error);
        follow::refuse_inside(path, folder)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(refused)?;
        if file.try_lock().is_err() {
            return Err(Failure::Usage(format!(
                "{}: another verify keeps its notes there",
                path.display()
            )));
        }
        let mut text = Vec::new();
        (&mut file)
            .take(FILE_LIMIT_BYTES)
            .read_to_end(&mut text)
            .map_err(refused)?;
        let first = json!({
            "cairn_store_verify": VERSION,
            "store_id": view::bytes(&snapshot.store_id()),
            "genesis_hash": view::text(snapshot.genesis_hash()),
            "deep": deep,
        });
        let mut notes = Self {
            path: path.to_path_buf(),
            file,
            records: false,
            eras: BTreeMap::new(),
            files: files(folder),
            synced: Instant::now(),
        };
        let whole = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        if whole == 0 {
            // Nothing, or a first line that a crash has cut off.
            let line = format!("{first}\n");
            if !line.as_bytes().starts_with(&text) {
                return Err(notes.foreign("it holds something else"));
            }
            notes.cut(0).map_err(refused)?;
            notes.add(&first).map_err(refused)?;
            notes.sync().map_err(refused)?;
            return Ok(notes);
        }
        let mut lines = text[..whole].split(|&byte| byte == b'\n');
        let found: Option<Value> = lines
            .next()
            .and_then(|line| serde_json::from_slice(line).ok());
        match found {
            Some(found) if found == first => {}
            Some(found) if found["cairn_store_verify"].is_u64() => {
                let of = |value: &Value| {
                    let how = if value["deep"] == true { " --deep" } else { "" };
                    format!("`verify{how}` of store {}", value["store_id"])
                };
                return Err(notes.foreign(&format!(
                    "it has notes of {}, not of {}",
                    of(&found),
                    of(&first)
                )));
            }
            _ => return Err(notes.foreign("it holds something else")),
        }
        for line in lines {
            if let Ok(line) = serde_json::from_slice::<Value>(line) {
                notes.take(&line);
            }
        }
        notes.cut(whole as u64).map_err(refused)?;
        Ok(notes)
    }

    fn foreign(&self, why: &str) -> Failure {
        Failure::Usage(format!(
            "{}: {why}; give another file, or remove this one to begin anew",
            self.path.display()
        ))
    }

    fn take(&mut self, line: &Value) {
        if line["records"] == true {
            self.records = true;
        }
        let era = line["era"].as_u64();
        let files = line["files"].as_str();
        let hash = line["last_hash"]
            .as_str()
            .and_then(|hash| hash.parse().ok());
        if let (Some(era), Some(files), Some(last_hash)) = (era, files, hash) {
            let sound = Sound {
                last_hash,
                transactions: line["transactions"].as_u64().unwrap_or(0),
                receipts: line["receipts"].as_u64().unwrap_or(0),
                files: files.to_owned(),
            };
            self.eras.insert(era, sound);
        }
    }

    /// True if the records have been read and found sound.
    pub(super) fn has_records(&self) -> bool {
        self.records
    }

    /// What was found of blocks `first..=last`, if that still counts: a whole era, the same files, the same chain.
    pub(super) fn sound(
        &self,
        snapshot: &Snapshot,
        (first, last): (u64, u64),
    ) -> Result<Option<&Sound>, Failure> {
        let era = first / UNIT_BLOCKS;
        let Some(sound) = self.eras.get(&era).filter(|_| is_whole(first, last)) else {
            return Ok(None);
        };
        let same = self.files.get(&era) == Some(&sound.files);
        Ok((same && snapshot.hash(last)? == Some(sound.last_hash)).then_some(sound))
    }

    pub(super) fn records_are_sound(&mut self) -> Result<(), Failure> {
        self.records = true;
        self.add(&json!({ "records": true }))
            .and_then(|()| self.sync())
            .map_err(|error| self.lost(&error))
    }

    /// Notes that blocks `first..=last` are sound, if they are a whole era.
    pub(super) fn era_is_sound(
        &mut self,
        (first, last): (u64, u64),
        last_hash: B256,
        transactions: u64,
        receipts: u64,
    ) -> Result<(), Failure> {
        let era = first / UNIT_BLOCKS;
        let Some(files) = self.files.get(&era).filter(|_| is_whole(first, last)) else {
            return Ok(());
        };
        let line = json!({
            "era": era,
            "last_hash": view::text(last_hash),
            "transactions": transactions,
            "receipts": receipts,
            "files": files,
        });
        let mut added = self.add(&line);
        if self.synced.elapsed() >= SYNC_EVERY {
            added = added.and_then(|()| self.sync());
        }
        added.map_err(|error| self.lost(&error))
    }

    /// All is sound: there is nothing left to go on with.
    pub(super) fn remove(self) -> Result<(), Failure> {
        fs::remove_file(&self.path)
            .map_err(|error| Failure::file("cannot remove", &self.path, &error))
    }

    /// Makes what was noted durable.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.sync().map_err(|error| self.lost(&error))
    }

    fn add(&mut self, line: &Value) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.synced = Instant::now();
        self.file.sync_data()
    }

    /// Cuts off what a crash has left behind `length`, and goes there.
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.seek(SeekFrom::Start(length)).map(|_| ())
    }

    fn lost(&self, error: &io::Error) -> Failure {
        Failure::file("cannot keep notes in", &self.path, error)
    }
}

fn is_whole(first: u64, last: u64) -> bool {
    first.is_multiple_of(UNIT_BLOCKS) && last - first == UNIT_BLOCKS - 1
}

/// Names and lengths of the files of each era.
fn files(folder: &Path) -> BTreeMap<u64, String> {
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for kind in ["headers", "bodies", "receipts"] {
        for entry in fs::read_dir(folder.join(kind))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let era = name.split('.').next().and_then(|era| era.parse().ok());
            if let (Some(era), Ok(data)) = (era, entry.metadata()) {
                let said = format!("{kind}/{name}:{}", data.len());
                found.entry(era).or_default().push(said);
            }
        }
    }
    found
        .into_iter()
        .map(|(era, mut files)| {
            files.sort();
            (era, files.join(" "))
        })
        .collect()
}
