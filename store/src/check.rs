//! Verifying a store: reads every record of every file and writes nothing.

use std::path::{Path, PathBuf};

use crate::Head;
use crate::error::Error;
use crate::file::{self, names};
use crate::format::{ERA_BLOCKS, Kind, SEGMENT_KINDS};
use crate::manifest::{self, COPIES, Found};
use crate::mapped::Maps;
use crate::snapshot::{Shared, Snapshot};
use crate::tip::{TipFile, TipIndex};

#[path = "check/cold.rs"] // said, for the explorer takes this file in from elsewhere
mod cold;
#[path = "check/tip.rs"]
mod tip;

/// How often the check begins again when a writer replaced files it was about to read.
const ATTEMPTS: usize = 5;

/// Something found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in the file, in bytes from its start.
    pub offset_bytes: u64,
    /// What was expected and what was found.
    pub what: String,
}

/// What verifying a store found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The head; `None` if the tip log is too damaged to tell.
    pub head: Option<Head>,
    /// Sequence of the MANIFEST that was checked.
    pub sequence: u64,
    /// Headers read, side blocks included.
    pub headers: u64,
    /// Bodies read, side blocks included.
    pub bodies: u64,
    /// Receipts read, side blocks included.
    pub receipts: u64,
    /// Blocks of the tip that are not canonical.
    pub side_blocks: u64,
    /// Files read.
    pub files: u64,
    /// Bytes of records as they are kept.
    pub stored_bytes: u64,
    /// Bytes of records as they were given.
    pub raw_bytes: u64,
    /// What is wrong: the store is not sound. Empty if it is.
    pub problems: Vec<Finding>,
    /// What is worth knowing and harms nothing: what a crash or a running writer leaves.
    pub notices: Vec<Finding>,
}

impl Report {
    /// True if nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Reads every record of every file of the store in `dir`: checksums, lengths, the header chain by hash, numbers, total
/// difficulty, the hash index, and that the files agree with the MANIFEST. Writes nothing and takes no lock: it works
/// beside a running writer and after a crash.
///
/// `progress` is told how many bytes of how many have been read. A store that cannot be looked at at all is an error;
/// whatever is wrong inside one is in the report.
pub fn verify(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, Error> {
    for _ in 0..ATTEMPTS {
        let found = match manifest::find(dir) {
            Err(Error::Damaged {
                path,
                offset_bytes,
                what,
            }) => {
                let problems = vec![Finding {
                    path,
                    offset_bytes,
                    what,
                }];
                return Ok(Report {
                    problems,
                    ..Report::default()
                });
            }
            other => other?,
        };
        let mut check = Check {
            dir,
            report: Report::default(),
            progress,
            done: 0,
            of: 0,
            replaced: false,
        };
        check.run(&found)?;
        let replaced =
            check.replaced && manifest::find(dir)?.manifest.sequence != found.manifest.sequence;
        if !replaced {
            return Ok(check.report);
        }
    }
    Err(Error::Superseded {
        path: dir.join(COPIES[0]),
    })
}

struct Check<'a> {
    dir: &'a Path,
    report: Report,
    progress: &'a mut dyn FnMut(u64, u64),
    done: u64,
    of: u64,
    /// A file was missing: damage, unless a commit has replaced it since.
    replaced: bool,
}

impl Check<'_> {
    fn run(&mut self, found: &Found) -> Result<(), Error> {
        let manifest = &found.manifest;
        self.report.sequence = manifest.sequence;
        self.report.files = COPIES.len() as u64;
        if let Some(what) = &found.other {
            let path = self.dir.join(COPIES[1 - found.copy]);
            self.notice(&path, 0, format!("this copy does not count: {what}"));
        }
        // The tip first: its log is the one file that a running writer replaces often.
        let mut index = TipIndex::new(manifest);
        let tip_file = TipFile::open(self.dir, manifest);
        if tip_file.as_ref().is_err_and(Error::is_not_found) {
            self.replaced = true;
        }
        self.of = self.size(found);
        let tip_file = self.keep(tip_file)?;
        if let Some(tip_file) = &tip_file {
            self.tip(tip_file, &mut index)?;
        }
        let eras = manifest
            .spans
            .iter()
            .map(|span| span.end.div_ceil(ERA_BLOCKS))
            .max()
            .unwrap_or(0);
        if manifest.eras.len() as u64 + u64::from(manifest.first_era) != eras
            && !manifest.eras.is_empty()
        {
            let what = format!(
                "{} rows from era {}, blocks of {eras} eras",
                manifest.eras.len(),
                manifest.first_era
            );
            self.problem(&self.dir.join(COPIES[0]), 204, what);
        }
        for kind in SEGMENT_KINDS {
            self.cold(manifest, kind)?;
        }
        if let Some(tip_file) = tip_file {
            let shared = Shared::new(Maps::new(self.dir, manifest.store_id));
            let snapshot = Snapshot::new(
                manifest.clone().into(),
                index.into(),
                tip_file.into(),
                shared.into(),
            );
            if let Some(snapshot) = self.keep(snapshot)? {
                self.runs(&snapshot)?;
            }
        }
        self.names()?;
        (self.progress)(self.of, self.of);
        Ok(())
    }

    /// Bytes in the files that will be read.
    fn size(&self, found: &Found) -> u64 {
        let size = |path: PathBuf| file::length(&path);
        let manifest = &found.manifest;
        let mut sum = size(manifest::tip_path(self.dir, manifest.tip));
        for (row, era) in manifest.eras.iter().zip(u64::from(manifest.first_era)..) {
            for kind in SEGMENT_KINDS {
                let sequence = row[kind.column()];
                if sequence != 0 {
                    sum += size(manifest::era_path(self.dir, kind, era, sequence));
                }
            }
        }
        sum
    }

    /// Looks for files that no MANIFEST names.
    fn names(&mut self) -> Result<(), Error> {
        // A running writer has gone on meanwhile: what counts is the MANIFEST of now.
        let manifest = manifest::find(self.dir)?.manifest;
        for folder in SEGMENT_KINDS
            .into_iter()
            .chain([Kind::Run])
            .map(Kind::name)
            .chain([""])
        {
            for name in names(&self.dir.join(folder))? {
                let path = self.dir.join(folder).join(&name);
                let stem = name.strip_suffix(".new");
                let Some((_, sequence)) = manifest::parse_name(stem.unwrap_or(&name)) else {
                    continue;
                };
                if manifest::is_named(&manifest, folder, &name) {
                    continue;
                }
                if stem.is_none() && u64::from(sequence) > manifest.sequence + 1 {
                    let what = format!(
                        "the file is newer than the MANIFEST, whose sequence is {}",
                        manifest.sequence
                    );
                    self.problem(&path, 0, what);
                } else if file::exists(&path) {
                    self.notice(
                        &path,
                        0,
                        "no MANIFEST names this file: left by a change that was not finished"
                            .into(),
                    );
                }
            }
        }
        Ok(())
    }

    /// Takes a result; damage and unreadable sectors go into the report.
    fn keep<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Damaged {
                path,
                offset_bytes,
                what,
            }) => {
                self.problem(&path, offset_bytes, what);
                Ok(None)
            }
            Err(Error::Io { path, op, source }) => {
                self.problem(&path, 0, format!("{op}: {source}"));
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn problem(&mut self, path: &Path, offset_bytes: u64, what: String) {
        self.report.problems.push(Finding {
            path: path.to_path_buf(),
            offset_bytes,
            what,
        });
    }

    fn notice(&mut self, path: &Path, offset_bytes: u64, what: String) {
        self.report.notices.push(Finding {
            path: path.to_path_buf(),
            offset_bytes,
            what,
        });
    }

    fn count(&mut self, kind: Kind, stored: u64, raw: u64) {
        match kind {
            Kind::Headers => self.report.headers += 1,
            Kind::Bodies => self.report.bodies += 1,
            _ => self.report.receipts += 1,
        }
        self.report.stored_bytes += stored;
        self.report.raw_bytes += raw;
    }

    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(self.done.min(self.of), self.of);
    }
}
