//! `verify`: every record's checksum, then what only the blocks themselves can say: links, total difficulty, roots; and with
//! `--deep` the rules of the chain.
//!
//! The records are read first, without maps, so that a sector that cannot be read is told and kept away from. Then the eras are
//! shared among threads. What each is judged by begins at the block before it, so that they need nothing of each other.

mod era;
mod notes;
mod problem;

use std::{collections::BTreeSet, ops::ControlFlow, path::Path, time::Instant};

use alloy_primitives::B256;
use cairn::chain::Rules;
use cairn_store::{
    Error, Snapshot,
    check::{self, Finding, Report},
};
use serde_json::{Value, json};

use crate::{
    chain,
    crew::{self, Done, UNIT_BLOCKS},
    failure::Failure,
    follow::{self, Follow},
    output::Output,
    people,
    progress::Progress,
    request::{Store, Verify},
    view,
};
use era::Checked;
use notes::Notes;
use problem::Problem;

/// Problems that are printed for people; JSON has more.
const PROBLEMS_SHOWN: usize = 20;

/// Problems that are kept: a store that has more needs no longer list.
const PROBLEMS_KEPT: usize = 10_000;

pub(crate) fn run(store: &Store, verify: &Verify) -> Result<(), Failure> {
    let begin = Instant::now();
    let mut outcome = Outcome::default();
    let follow = match Follow::open(&store.folder) {
        Ok(follow) => Some(follow),
        // What cannot be opened has nothing to be resumed, but its records can be read.
        Err(error @ Error::Damaged { .. }) if verify.resume.is_none() => {
            outcome.add(Problem::of_error(error)?);
            None
        }
        Err(error) => return Err(error.into()),
    };
    let rules = match &follow {
        Some(follow) if verify.deep => {
            let hash = follow.snapshot().genesis_hash();
            match chain::genesis(&store.folder, verify.genesis.as_deref(), hash)? {
                Ok(genesis) => Some(Rules::new(&genesis)),
                Err(why) => {
                    outcome
                        .not_checked
                        .push(format!("rules of the chain: {why}"));
                    None
                }
            }
        }
        _ => None,
    };
    let mut notes = match (&verify.resume, &follow) {
        (Some(path), Some(follow)) => Some(Notes::open(
            path,
            &store.folder,
            follow.snapshot(),
            verify.deep,
        )?),
        _ => None,
    };

    let report = if notes.as_ref().is_some_and(Notes::has_records) {
        outcome.resumed_records = true;
        None
    } else {
        Some(records(&store.folder)?)
    };
    let mut damaged = BTreeSet::new();
    if let Some(report) = &report {
        for finding in &report.problems {
            damaged.extend(damaged_era(&store.folder, finding));
            outcome.add(Problem::of_record(finding));
        }
        if let Some(notes) = notes.as_mut().filter(|_| report.is_sound()) {
            notes.records_are_sound()?;
        }
    }
    if let Some(follow) = &follow {
        let snapshot = follow.snapshot();
        blocks(
            store,
            verify,
            snapshot,
            rules.as_ref(),
            &damaged,
            &mut notes,
            &mut outcome,
        )?;
        outcome.say_what_was_checked(snapshot, rules.as_ref(), verify.deep);
    }
    if let Some(notes) = notes {
        match outcome.problems.is_empty() {
            true => notes.remove()?,
            false => notes.finish()?,
        }
    }

    let seconds = begin.elapsed().as_secs_f64();
    let mut out = Output::new(store.json);
    if out.is_json() {
        out.value(&outcome.value(store, verify, report.as_ref(), seconds))?;
    } else {
        for notice in report.iter().flat_map(|report| &report.notices) {
            out.line(&format!("note: {}", Problem::of_record(notice)))?;
        }
        if outcome.problems.is_empty() {
            out.line(&outcome.sound(report.as_ref(), seconds))?;
        }
        if verify.deep {
            for what in &outcome.checked {
                out.line(&format!("checked: {what}"))?;
            }
        }
        for what in &outcome.not_checked {
            out.line(&format!("not checked: {what}"))?;
        }
    }
    out.finish()?;
    match outcome.problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::No(outcome.unsound())),
    }
}

fn records(folder: &Path) -> Result<Report, Error> {
    let mut progress = Progress::new("reading records, in bytes");
    check::verify(folder, &mut |done, of| progress.at(done, of))
}

/// The era that a damaged file holds; the tip is the era without end.
fn damaged_era(folder: &Path, finding: &Finding) -> Option<u64> {
    let within = finding.path.strip_prefix(folder).ok()?;
    let (kind, name) = match within.parent()?.to_str()? {
        "" => ("", within.to_str()?),
        kind => (kind, within.file_name()?.to_str()?),
    };
    match kind {
        "" if name.starts_with("tip.") => Some(u64::MAX),
        "headers" | "bodies" | "receipts" => name.split('.').next()?.parse().ok(),
        _ => None,
    }
}

/// Checks all blocks that are not noted as sound and whose records are not damaged.
fn blocks(
    store: &Store,
    verify: &Verify,
    snapshot: &Snapshot,
    rules: Option<&Rules>,
    damaged: &BTreeSet<u64>,
    notes: &mut Option<Notes>,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let head = snapshot.head();
    let first = snapshot.first_header();
    let of = head.number - first + 1;
    let done = Done::default();
    let mut units = Vec::new();
    for unit in crew::units(first, head.number) {
        let blocks = unit.1 - unit.0 + 1;
        let reaches_tip = unit.1 >= snapshot.first_unsettled();
        let is_damaged =
            damaged.contains(&(unit.0 / UNIT_BLOCKS)) || reaches_tip && damaged.contains(&u64::MAX);
        if is_damaged {
            let what = format!("blocks {}..{}: records there are damaged", unit.0, unit.1);
            outcome.not_checked.push(what);
            done.add(blocks);
            continue;
        }
        if let Some(sound) = match notes {
            Some(notes) => notes.sound(snapshot, unit)?,
            None => None,
        } {
            outcome.resumed_blocks += blocks;
            outcome.transactions += sound.transactions;
            outcome.receipts += sound.receipts;
            done.add(blocks);
            continue;
        }
        units.push(unit);
    }
    let mut unjudged = Vec::new();
    let mut failed = None;
    {
        let mut progress = Progress::new("checking blocks");
        crew::share(
            &units,
            verify.jobs,
            (&mut progress, &done, of),
            |&unit| {
                follow::again(&store.folder, snapshot, |snapshot| {
                    Ok(era::check(snapshot, rules, unit, &done)?)
                })
            },
            |at, checked| {
                let taken = checked.and_then(|checked| {
                    let unit = units[at];
                    unjudged.extend(checked.unjudged.clone().map(|why| (why, unit.1)));
                    outcome.take(unit, checked, notes.as_mut())
                });
                match taken {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(failure) => {
                        failed = Some(failure);
                        ControlFlow::Break(())
                    }
                }
            },
        );
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    outcome.problems.sort_by_key(|problem| problem.block);
    unjudged.sort();
    for ((from, why), to) in unjudged {
        if from <= to {
            let what = format!("rules and seals of headers {from}..{to}: {why}");
            outcome.not_checked.push(what);
        }
    }
    outcome.head = Some((head.number, head.hash, format!("{:#x}", head.td)));
    Ok(())
}

/// All that was found.
#[derive(Default)]
struct Outcome {
    problems: Vec<Problem>,
    /// How many more there were.
    more: u64,
    transactions: u64,
    /// Blocks whose receipts were checked by their header.
    receipts: u64,
    blocks: u64,
    resumed_blocks: u64,
    resumed_records: bool,
    head: Option<(u64, B256, String)>,
    checked: Vec<String>,
    not_checked: Vec<String>,
}

impl Outcome {
    /// Adds a problem, unless its place has been told.
    fn add(&mut self, problem: Problem) {
        let told = |known: &Problem| problem.place.is_some() && known.place == problem.place;
        if self.problems.iter().any(told) {
            return;
        }
        if self.problems.len() < PROBLEMS_KEPT {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    fn take(
        &mut self,
        unit: (u64, u64),
        checked: Checked,
        notes: Option<&mut Notes>,
    ) -> Result<(), Failure> {
        self.blocks += unit.1 - unit.0 + 1;
        self.transactions += checked.transactions;
        self.receipts += checked.receipts;
        self.more += checked.more;
        let is_sound = checked.problems.is_empty() && checked.unjudged.is_none();
        for problem in checked.problems {
            self.add(problem);
        }
        match notes.filter(|_| is_sound) {
            Some(notes) => notes.era_is_sound(
                unit,
                checked.last_hash,
                checked.transactions,
                checked.receipts,
            ),
            None => Ok(()),
        }
    }

    fn say_what_was_checked(&mut self, snapshot: &Snapshot, rules: Option<&Rules>, deep: bool) {
        let mut say = |what: &str| self.checked.push(what.to_owned());
        say("records: checksums, lengths, the files and what the MANIFEST says of them");
        say("headers: hashes, links, numbers, total difficulty, the hash index");
        say("bodies: transactions, ommers and withdrawals roots");
        let Some(rules) = rules else {
            return;
        };
        say("headers: every field that the chain's rules decide without state");
        if rules.seal_is_checked() {
            say("clique: seals, signers, votes, checkpoints");
        } else {
            self.not_checked
                .push("seals: proof of work and proof of stake are not verified".to_owned());
        }
        let blocks = snapshot.head().number - snapshot.first_header() + 1;
        if self.receipts > 0 {
            let count = people::count(self.receipts);
            let what = format!("receipts of {count} blocks: root, bloom, gas");
            self.checked.push(what);
        }
        if self.receipts < blocks {
            let count = people::count(blocks - self.receipts);
            let what = format!("receipts of {count} blocks: not stored");
            self.not_checked.push(what);
        }
        let mut say = |what: &str| self.checked.push(what.to_owned());
        say("bodies: ommers by the chain's rules, form, fees and least gas of transactions");
        if deep && snapshot.first_header() > 0 {
            let first = snapshot.first_header();
            let what =
                format!("headers below {first}: not stored, so block {first} is taken as it is");
            self.not_checked.push(what);
        }
        self.not_checked.push(
            "state roots: nothing is executed; signatures of transactions are not recovered"
                .to_owned(),
        );
    }

    fn value(
        &self,
        store: &Store,
        verify: &Verify,
        report: Option<&Report>,
        seconds: f64,
    ) -> Value {
        let mut value = json!({
            "sound": self.problems.is_empty(),
            "store": store.folder.display().to_string(),
            "deep": verify.deep,
        });
        if let Some(report) = report {
            let notices = report.notices.iter();
            value["sequence"] = json!(report.sequence);
            value["files"] = json!(report.files);
            value["headers"] = json!(report.headers);
            value["bodies"] = json!(report.bodies);
            value["receipts"] = json!(report.receipts);
            value["side_blocks"] = json!(report.side_blocks);
            value["raw_bytes"] = json!(report.raw_bytes);
            value["stored_bytes"] = json!(report.stored_bytes);
            value["notices"] = notices
                .map(|notice| Problem::of_record(notice).value())
                .collect();
        }
        value["problems"] = self.problems.iter().map(Problem::value).collect();
        value["more_problems"] = json!(self.more);
        if let Some((number, hash, td)) = &self.head {
            value["head"] = json!({ "number": number, "hash": view::text(hash), "td": td });
            value["blocks_checked"] = json!(self.blocks);
            value["blocks_resumed"] = json!(self.resumed_blocks);
            value["records_resumed"] = json!(self.resumed_records);
            value["receipts_checked"] = json!(self.receipts);
            value["transactions"] = json!(self.transactions);
        }
        value["checked"] = json!(self.checked);
        value["not_checked"] = json!(self.not_checked);
        value["jobs"] = json!(verify.jobs.0);
        value["seconds"] = json!(seconds);
        value
    }

    fn sound(&self, report: Option<&Report>, seconds: f64) -> String {
        let mut said = match report {
            Some(report) => format!(
                "sound: {} headers, {} bodies with {} transactions, {} receipts, {} kept in {}, {} files",
                report.headers,
                report.bodies,
                self.transactions,
                report.receipts,
                people::size(report.raw_bytes),
                people::size(report.stored_bytes),
                report.files,
            ),
            None => format!(
                "sound: {} blocks with {} transactions",
                self.blocks + self.resumed_blocks,
                self.transactions
            ),
        };
        if self.resumed_blocks > 0 || self.resumed_records {
            said.push_str(&format!(
                " ({} blocks{} were verified before)",
                self.resumed_blocks,
                if self.resumed_records {
                    " and all records"
                } else {
                    ""
                }
            ));
        }
        if let Some((number, hash, _)) = &self.head {
            said.push_str(&format!(", head {number} {hash}"));
        }
        said.push_str(&format!(", in {seconds:.1} s"));
        said
    }

    fn unsound(&self) -> String {
        let count = self.problems.len() as u64 + self.more;
        let mut said = format!(
            "not sound, {} found:",
            match count {
                1 => "1 problem".to_owned(),
                count => format!("{count} problems"),
            }
        );
        for problem in self.problems.iter().take(PROBLEMS_SHOWN) {
            said.push_str(&format!("\n  {problem}"));
        }
        if self.problems.len() > PROBLEMS_SHOWN {
            said.push_str(&format!(
                "\n  and {} more: --json has them",
                count - PROBLEMS_SHOWN as u64
            ));
        }
        said
    }
}
