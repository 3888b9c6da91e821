//! Repairing a store: only when asked, and it can be tried dry. What may be valid is never deleted: what is replaced stays
//! beside its replacement.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_primitives::{B256, U256};

use crate::append::Appender;
use crate::change::{Edit, with_ending};
use crate::check::{self, Finding};
use crate::error::Error;
use crate::file::{Disk, Hook, InFile, Lock};
use crate::format::{
    DATA_START, ENTRY_BYTES, ERA_BLOCKS, Entry, Kind, MAX_RECORD_BYTES, PAGE_BYTES, Page,
    SEGMENT_KINDS, record_crc, slot_of,
};
use crate::frame;
use crate::manifest::{self, COPIES, Found};
use crate::plan::Plan;
use crate::rlp;
use crate::runs;
use crate::session;
use crate::snapshot::Snapshot;
use crate::tip::TipIndex;
use crate::writer::Writer;

/// One thing that is done, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The file it is done to.
    pub path: PathBuf,
    /// What is done.
    pub what: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}, for {}",
            self.path.display(),
            self.what,
            self.why
        )
    }
}

/// What a repair did, or would do.
#[derive(Debug, Clone, Default)]
pub struct Repair {
    /// What is done, in this order.
    pub actions: Vec<Action>,
    /// What is wrong and cannot be repaired here.
    pub left: Vec<Finding>,
}

/// Repairs the store in `dir`, or with `dry_run` says what that would do and changes nothing. Takes the writer's lock: no
/// node may run.
///
/// - A copy of the MANIFEST that is torn or older is written again.
/// - A segment whose records are damaged is replaced by one with those that verify; damaged bodies and receipts become
///   absent. A damaged header is left: a chain without it is none.
/// - A tip log with damage between whole frames ends before it: its later blocks must be fetched again.
/// - A damaged or missing run of the hash index: the index is rebuilt, if all headers are whole.
/// - Files newer than the MANIFEST (it was restored, or the folder copied from a live store) get the ending `.aside`.
///
/// What is replaced stays, with the ending `.damaged`.
pub fn repair(dir: &Path, dry_run: bool) -> Result<Repair, Error> {
    repair_on(Disk::default(), dir, dry_run)
}

/// As [`repair`], with a hook that is asked before each change to the disk: for tests.
pub fn repair_with(dir: &Path, dry_run: bool, hook: Arc<dyn Hook>) -> Result<Repair, Error> {
    repair_on(Disk::with_hook(hook), dir, dry_run)
}

fn repair_on(disk: Disk, dir: &Path, dry_run: bool) -> Result<Repair, Error> {
    let lock = lock(dir)?;
    let found = match manifest::find(dir) {
        Err(Error::Damaged {
            path,
            offset_bytes,
            what,
        }) => {
            let left = vec![Finding {
                path,
                offset_bytes,
                what,
            }];
            return Ok(Repair {
                actions: Vec::new(),
                left,
            });
        }
        other => other?,
    };
    session::refuse_newer(dir, &found)?;
    let report = check::verify(dir, &mut |_, _| {})?;
    let damaged = |path: &Path| report.problems.iter().find(|problem| problem.path == path);
    let mut repair = Repair::default();

    let (_, ahead) = session::unnamed(dir, &found.manifest)?;
    for path in &ahead {
        repair.action(
            path,
            format!("named {}", with_ending(path, ".aside").display()),
            format!(
                "it is newer than the MANIFEST (sequence {})",
                found.manifest.sequence
            ),
        );
    }
    if let Some(why) = &found.other {
        let path = dir.join(COPIES[1 - found.copy]);
        repair.action(
            &path,
            "written again".into(),
            format!("this copy does not count: {why}"),
        );
    }
    let snapshot = match open_before_damage(dir, &found) {
        Ok(snapshot) => snapshot,
        Err(e) if matches!(e, Error::Damaged { .. }) || e.is_not_found() => {
            repair.left = report.problems;
            repair.actions.clear(); // nothing is touched where the whole cannot be read
            return Ok(repair);
        }
        Err(e) => return Err(e),
    };
    let tip_path = manifest::tip_path(dir, found.manifest.tip);
    let tip_damage = tip_damage(&snapshot)?;
    if let Some(why) = &tip_damage {
        let what = format!(
            "ended at byte {}, with head {}; what follows is to be fetched again",
            snapshot.tip.end, snapshot.head.number
        );
        repair.action(&tip_path, what, why.clone());
    }
    let mut salvages: Vec<Salvage> = Vec::new();
    for kind in SEGMENT_KINDS {
        let span = found.manifest.span(kind);
        for era in span.first / ERA_BLOCKS..span.end.div_ceil(ERA_BLOCKS) {
            let Some(sequence) = found.manifest.segment(kind, era) else {
                continue;
            };
            let path = manifest::era_path(dir, kind, era, sequence);
            let Some(problem) = damaged(&path) else {
                continue;
            };
            let Some(salvage) = Salvage::read(&snapshot, kind, era, &path, salvages.last())? else {
                continue; // nothing of it can be read: it stays as it is
            };
            if kind == Kind::Headers && salvage.lost > 0 {
                continue;
            }
            let what = match salvage.lost {
                0 => "replaced by a whole one: every record verifies".to_owned(),
                1 => "replaced by one without the damaged record".to_owned(),
                n => format!("replaced by one without {n} damaged records"),
            };
            let why = format!("byte {}: {}", problem.offset_bytes, problem.what);
            repair.action(&path, what, why);
            salvages.push(salvage);
        }
    }
    for i in (0..salvages.len()).rev() {
        let (these, above) = salvages.split_at_mut(i + 1);
        if these[i].td.is_none() {
            these[i].td = these[i].td_above(&snapshot, above.first())?;
        }
    }
    // The index is made from the headers: it waits for those that are damaged and stay so.
    let headers = dir.join(Kind::Headers.name());
    let is_left = |problem: &&Finding| {
        let is_whole = |salvage: &Salvage| salvage.path == problem.path;
        problem.path.starts_with(&headers) && !salvages.iter().any(is_whole)
    };
    let index = dir.join(Kind::Run.name());
    let index_problem = match report.problems.iter().find(is_left) {
        Some(_) => None,
        None => report
            .problems
            .iter()
            .find(|problem| problem.path.starts_with(&index)),
    };
    if let Some(problem) = index_problem {
        repair.action(&index, "rebuilt".into(), problem.what.clone());
    }
    let addressed = |path: &Path| {
        let is_index = index_problem.is_some() && path.starts_with(&index);
        is_index || repair.actions.iter().any(|action| action.path == path)
    };
    repair.left = report
        .problems
        .iter()
        .filter(|problem| !addressed(&problem.path))
        .cloned()
        .collect();
    if dry_run || repair.actions.is_empty() {
        return Ok(repair);
    }

    for path in &ahead {
        disk.rename(path, &with_ending(path, ".aside"))?;
    }
    let mut writer = Writer::new(disk, lock, snapshot, None, Some(found));
    if tip_damage.is_some() || !salvages.is_empty() || index_problem.is_none() {
        let snapshot = writer.idle()?;
        let plan = Plan::make(&snapshot, &[], snapshot.head().hash)?;
        writer.change(|writer, old| {
            writer.begin()?;
            let mut edit = Edit::new(&writer.disk, old, &mut writer.work)?;
            if tip_damage.is_some() {
                edit.keep_damaged(tip_path)?;
            }
            for salvage in &salvages {
                salvage.write(&mut edit)?;
            }
            let (next, log) = edit.publish(&plan)?;
            writer.log = Some(log);
            Ok(next)
        })?;
    }
    if index_problem.is_some() {
        rebuild(&mut writer)?;
    }
    repair.left = check::verify(dir, &mut |_, _| {})?.problems;
    Ok(repair)
}

/// Makes the hash index of the store in `dir` anew from its headers, and returns how many blocks it lists. Takes the
/// writer's lock: no node may run.
pub fn rebuild_index(dir: &Path) -> Result<u64, Error> {
    rebuild(&mut Writer::open(dir)?)
}

/// As [`rebuild_index`], with a hook that is asked before each change to the disk: for tests.
pub fn rebuild_index_with(dir: &Path, hook: Arc<dyn Hook>) -> Result<u64, Error> {
    rebuild(&mut Writer::open_with(dir, hook)?)
}

pub(crate) fn rebuild(writer: &mut Writer) -> Result<u64, Error> {
    let snapshot = writer.idle()?;
    let plan = Plan::make(&snapshot, &[], snapshot.head().hash)?;
    let mut listed = 0;
    writer.change(|writer, old| {
        writer.begin()?;
        let mut edit = Edit::new(&writer.disk, old, &mut writer.work)?;
        edit.next.runs.clear();
        let headers = old.manifest.headers();
        let (mut era, end) = (headers.first.div_ceil(ERA_BLOCKS), headers.end / ERA_BLOCKS);
        while era < end {
            // As large as a few megabytes of memory allow; larger ones are merged as ever.
            let fits = |level: &u32| {
                let eras = u64::from(runs::eras(*level));
                era.is_multiple_of(eras) && era + eras <= end
            };
            let level = (0..=2).rev().find(fits).unwrap_or(0);
            let to = era + u64::from(runs::eras(level));
            let mut blocks: Vec<(u64, B256)> = Vec::new();
            old.each_cold_hash(era * ERA_BLOCKS, to * ERA_BLOCKS, |number, hash| {
                blocks.push((number, hash));
            })?;
            edit.write_run(era, level, &blocks)?;
            listed += blocks.len() as u64;
            era = to;
        }
        let (next, log) = edit.publish(&plan)?;
        writer.log = Some(log);
        Ok(next)
    })?;
    Ok(listed)
}

fn lock(dir: &Path) -> Result<Lock, Error> {
    match manifest::find(dir) {
        Err(e @ Error::NoStore { .. }) => Err(e), // no store, no LOCK
        _ => Lock::take(dir, &dir.join("LOCK")),
    }
}

/// The store as it is up to the first damage of its tip log.
fn open_before_damage(dir: &Path, found: &Found) -> Result<Snapshot, Error> {
    Snapshot::open_found(dir, found, false)
}

/// Why the tip log does not end where it should.
fn tip_damage(snapshot: &Snapshot) -> Result<Option<String>, Error> {
    let mut index = TipIndex::new(&snapshot.manifest);
    match frame::scan(&snapshot.tip_file, &mut index, true) {
        Ok(_) => Ok(None),
        Err(Error::Damaged { what, .. }) => Ok(Some(what)),
        Err(e) => Err(e),
    }
}

impl Repair {
    fn action(&mut self, path: &Path, what: String, why: String) {
        self.actions.push(Action {
            path: path.to_path_buf(),
            what,
            why,
        });
    }
}

/// What is known, unless it is damaged.
fn if_whole<T>(known: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match known {
        Err(Error::Damaged { .. }) => Ok(None),
        other => other,
    }
}

/// A segment of which not everything verifies, and what of it does.
struct Salvage {
    kind: Kind,
    first: u64,
    path: PathBuf,
    file: Arc<InFile>,
    td: Option<U256>,
    /// For each block from `first` on where its record is; `None`: it does not verify.
    records: Vec<Option<(u64, u32, Entry)>>,
    lost: u64,
}

impl Salvage {
    /// Looks at every record. `None` if the file cannot be read at all.
    fn read(
        snapshot: &Snapshot,
        kind: Kind,
        era: u64,
        path: &Path,
        before: Option<&Salvage>,
    ) -> Result<Option<Salvage>, Error> {
        let span = snapshot.manifest.span(kind);
        let first = span.first.max(era * ERA_BLOCKS);
        let end = span.end.min((era + 1) * ERA_BLOCKS);
        let Ok(file) = InFile::open(path) else {
            return Ok(None);
        };
        let length = file.len()?;
        let mut start = vec![0; DATA_START as usize];
        if length < DATA_START || file.read_at(0, &mut start).is_err() {
            return Ok(None);
        }
        // A page that does not verify says nothing that is not known otherwise.
        let page = match Page::decode(&start) {
            Ok(page) if page.kind != kind || u64::from(page.era) != era => return Ok(None),
            page => page.ok(),
        };
        let entry_at = |slot: u64| {
            let at = (PAGE_BYTES + slot * ENTRY_BYTES) as usize;
            Entry::decode(&start[at..at + ENTRY_BYTES as usize])
        };
        let mut from = match slot_of(first) {
            0 => 0,
            slot => entry_at(slot - 1).end,
        };
        let mut records = Vec::new();
        let mut bytes = Vec::new();
        for number in first..end {
            let entry = entry_at(slot_of(number));
            // Headers are kept as they are, so that where one ends is known twice.
            let other_end = from.saturating_add(u64::from(entry.raw));
            let ends = [entry.end, other_end];
            let tries = if kind == Kind::Headers {
                &ends[..]
            } else {
                &ends[..1]
            };
            let found = tries.iter().find_map(|&end| {
                let stored = end.checked_sub(from)?;
                if stored > 2 * MAX_RECORD_BYTES as u64 || DATA_START.checked_add(end)? > length {
                    return None;
                }
                bytes.resize(stored as usize, 0);
                let read = file.read_at(DATA_START + from, &mut bytes).ok()?;
                let verifies =
                    read == bytes.len() && record_crc(number, kind, entry.raw, &bytes) == entry.crc;
                verifies.then_some((DATA_START + from, stored as u32, Entry { end, ..entry }))
            });
            from = found.map_or(entry.end, |(_, _, entry)| entry.end);
            records.push(found);
        }
        let lost = records.iter().filter(|record| record.is_none()).count() as u64;
        let mut salvage = Salvage {
            kind,
            first,
            path: path.to_path_buf(),
            file: Arc::new(file),
            td: page.as_ref().map_or(Some(U256::ZERO), |page| page.td),
            records,
            lost,
        };
        if page.is_none() && kind == Kind::Headers && first > 0 {
            salvage.td = salvage.td_below(snapshot, before)?;
        }
        Ok(Some(salvage))
    }

    /// The total difficulty before the segment's headers, by what is below them.
    fn td_below(
        &self,
        snapshot: &Snapshot,
        before: Option<&Salvage>,
    ) -> Result<Option<U256>, Error> {
        let is_next = |below: &&Salvage| below.kind == self.kind && below.era() + 1 == self.era();
        match before.filter(is_next) {
            Some(below) => below.td_after(),
            None => if_whole(snapshot.td(self.first - 1)),
        }
    }

    /// The same, by what is above them.
    fn td_above(
        &self,
        snapshot: &Snapshot,
        above: Option<&Salvage>,
    ) -> Result<Option<U256>, Error> {
        let is_next = |above: &&Salvage| above.kind == self.kind && above.era() == self.era() + 1;
        let td = match above.filter(is_next) {
            Some(above) => above.td,
            None if (self.era() + 1) * ERA_BLOCKS < snapshot.manifest.headers().end => {
                let above = snapshot.segment(Kind::Headers, self.era() + 1, 0);
                if_whole(above.map(|above| above.page.td))?
            }
            None => Some(snapshot.manifest.cold_td),
        };
        let difficulty = self.difficulty()?;
        Ok(td.and_then(|td| td.checked_sub(difficulty)))
    }

    /// Difficulty of all its headers.
    fn difficulty(&self) -> Result<U256, Error> {
        let mut sum = U256::ZERO;
        let mut bytes = Vec::new();
        for (at, stored, _) in self.records.iter().flatten() {
            bytes.resize(*stored as usize, 0);
            self.file.read_at(*at, &mut bytes)?;
            let fields = rlp::fields(&bytes);
            sum = sum.saturating_add(fields.map_or(U256::ZERO, |fields| fields.difficulty));
        }
        Ok(sum)
    }

    fn era(&self) -> u64 {
        self.first / ERA_BLOCKS
    }

    /// The total difficulty after the segment's headers, none of which is lost.
    fn td_after(&self) -> Result<Option<U256>, Error> {
        let difficulty = self.difficulty()?;
        Ok(self.td.map(|td| td.saturating_add(difficulty)))
    }

    /// Writes the replacement.
    fn write(&self, edit: &mut Edit<'_>) -> Result<(), Error> {
        let mut out = Appender::make(edit, self.kind, self.first, self.td)?;
        let mut bytes = Vec::new();
        for record in &self.records {
            let Some((at, stored, entry)) = record else {
                out.absent()?;
                continue;
            };
            bytes.resize(*stored as usize, 0);
            self.file.read_at(*at, &mut bytes)?;
            out.stored(entry.raw, entry.crc, &bytes)?;
        }
        edit.work.buffer = out.finish()?;
        edit.keep_damaged(self.path.clone())
    }
}
