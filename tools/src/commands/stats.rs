//! `stats`: counts of blocks in a row, in parts if wanted, as text, JSON and a picture.

mod figures;
mod picture;

use std::{
    fs,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
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
    request::{Stats, Store},
    view,
};
use figures::{Figures, Kind, TYPES};

/// Parts that are counted at most: each is kept in memory and printed.
const PARTS_LIMIT: u64 = 20_000;

/// Parts of a picture, about: a few pixels each.
const PARTS_DRAWN: u64 = 120;

/// Signers that are printed for people; JSON has them all.
const SIGNERS_SHOWN: usize = 20;

pub(crate) fn run(store: &Store, stats: &Stats) -> Result<(), Failure> {
    if let Some(file) = &stats.svg {
        refuse_file(file, &store.folder, stats.force)?;
    }
    let follow = Follow::open(&store.folder)?;
    let snapshot = follow.snapshot();
    let (from, to) = stats.range.within(snapshot.head().number, 1)?;
    let from = from.max(snapshot.first_header()).min(to);
    let count = to - from + 1;
    let by = match (stats.by, &stats.svg) {
        (Some(by), _) => by,
        (None, Some(_)) => nice(count.div_ceil(PARTS_DRAWN)),
        (None, None) => count,
    };
    if count.div_ceil(by) > PARTS_LIMIT {
        return Err(Failure::Usage(format!(
            "--by {by} makes {} parts of {count} blocks: at most {PARTS_LIMIT} are counted, give --by {} or more",
            count.div_ceil(by),
            count.div_ceil(PARTS_LIMIT)
        )));
    }
    let hash = snapshot.genesis_hash();
    let spec = chain::genesis(&store.folder, stats.genesis.as_deref(), hash)?
        .ok()
        .map(|genesis| genesis.spec);
    let kind = Kind {
        // Without its genesis file a chain is told by the look of its first block.
        clique: match &spec {
            Some(spec) => spec.clique.is_some(),
            None => chain::is_clique(snapshot)?,
        },
        period_s: spec
            .and_then(|spec| spec.clique)
            .map(|clique| clique.period_s)
            .filter(|period_s| *period_s > 0),
    };

    let units = units((from, to), by);
    let mut counted: Vec<Option<Figures>> = units.iter().map(|_| None).collect();
    let mut failed = None;
    let done = Done::default();
    {
        let mut progress = Progress::new("counting blocks");
        crew::share(
            &units,
            stats.jobs,
            (&mut progress, &done, count),
            |&unit| {
                follow::again(&store.folder, snapshot, |snapshot| {
                    Figures::of(snapshot, unit, kind, &done)
                })
            },
            |at, figures| match figures {
                Ok(figures) => {
                    counted[at] = Some(figures);
                    ControlFlow::Continue(())
                }
                Err(failure) => {
                    failed = Some(failure);
                    ControlFlow::Break(())
                }
            },
        );
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    let mut total: Option<Figures> = None;
    let mut parts: Vec<Figures> = Vec::new();
    for figures in counted.into_iter().flatten() {
        match &mut total {
            Some(total) => total.add(&figures),
            None => total = Some(figures.clone()),
        }
        match parts.last_mut() {
            Some(part) if (figures.first - from) / by == (part.first - from) / by => {
                part.add(&figures);
            }
            _ => parts.push(figures),
        }
    }
    let total = total.unwrap_or_default();
    if let Some(file) = &stats.svg {
        let chain = format!("chain {}", snapshot.chain_id());
        let picture = picture::draw(&chain, &total, &drawn(&parts), kind);
        write(file, picture.as_bytes())?;
    }

    let mut out = Output::new(store.json);
    if out.is_json() {
        let mut value = json!({
            "store": store.folder.display().to_string(),
            "chain_id": snapshot.chain_id(),
            "genesis_hash": view::text(hash),
            "period_s": kind.period_s,
            "total": total.value(kind),
        });
        if stats.by.is_some() {
            value["by"] = json!(by);
            let parts = parts.iter().map(|part| part.value(kind));
            value["parts"] = parts.collect::<Value>();
        }
        if let Some(file) = &stats.svg {
            value["svg"] = json!(file.display().to_string());
        }
        out.value(&value)?;
    } else {
        people(&total, kind, &mut out)?;
        if stats.by.is_some() {
            table(&parts, &mut out)?;
        }
        if let Some(file) = &stats.svg {
            out.line(&format!("picture           {}", file.display()))?;
        }
    }
    out.finish()
}

/// Blocks `from..=to` cut where parts begin, and within one where eras do.
fn units((from, to): (u64, u64), by: u64) -> Vec<(u64, u64)> {
    let mut units = Vec::new();
    let mut first = from;
    while first <= to {
        let last = first.saturating_add(by - 1).min(to);
        if by > UNIT_BLOCKS {
            units.extend(crew::units(first, last));
        } else {
            units.push((first, last));
        }
        first = last + 1;
    }
    units
}

/// The parts as they are drawn: a last one of a few blocks would be a spike, so it goes with the one before.
fn drawn(parts: &[Figures]) -> Vec<Figures> {
    let mut drawn = parts.to_vec();
    if let [.., before, last] = &mut drawn[..]
        && last.blocks() * 2 < before.blocks()
    {
        before.add(last);
        drawn.pop();
    }
    drawn
}

/// The least of 1, 2, 5, 10, 20 ... that is not less than `number`.
fn nice(number: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for step in [1, 2, 5] {
            if power.saturating_mul(step) >= number {
                return power * step;
            }
        }
        power = power.saturating_mul(10);
    }
}

fn people(total: &Figures, kind: Kind, out: &mut Output) -> Result<(), Failure> {
    let (begin, end) = total.times_s();
    let blocks = total.blocks();
    let percent = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
    let each = |count: u64| count as f64 / blocks as f64;
    let mut lines = vec![
        (
            "blocks".to_owned(),
            format!(
                "{}, {} to {}",
                people::count(blocks),
                total.first,
                total.last
            ),
        ),
        (
            "times".to_owned(),
            format!("{} to {}", people::date(begin), people::date(end)),
        ),
    ];
    for (name, count, raw, stored) in total.bytes() {
        let said = match count {
            0 => "none".to_owned(),
            count => format!(
                "{} of {}, kept in {} ({:.1} %), {:.0} B each",
                people::count(count),
                people::size(raw),
                people::size(stored),
                percent(stored, raw),
                raw as f64 / count as f64
            ),
        };
        lines.push((name.to_owned(), said));
    }
    lines.push((
        "transactions".to_owned(),
        format!(
            "{}, {:.1} a block; blocks without any: {}",
            people::count(total.transactions()),
            each(total.transactions()),
            people::count(total.empty())
        ),
    ));
    for (kind, count) in &total.types {
        let name = TYPES.get(usize::from(*kind)).unwrap_or(&"unknown");
        lines.push((
            format!("  type {kind}"),
            format!(
                "{} ({name}), {:.1} %",
                people::count(*count),
                percent(*count, total.transactions())
            ),
        ));
    }
    lines.push((
        "gas".to_owned(),
        format!(
            "{} used, {} a block, {:.1} % of the limit",
            people::count(total.gas_used),
            people::count(each(total.gas_used) as u64),
            percent(total.gas_used, total.gas_limit)
        ),
    ));
    if let Some((least, most)) = total.base_fee() {
        let said = format!("{} to {} wei", people::count(least), people::count(most));
        lines.push(("base fee".to_owned(), said));
    }
    if let [Some(least), Some(median), Some(p95), Some(most)] =
        [0, 50, 95, 100].map(|percent| total.interval_s(percent))
    {
        let mut said = format!(
            "{least} s at least, median {median} s, 95 % at most {p95} s, longest {most} s"
        );
        if let Some(period_s) = kind.period_s {
            said.push_str(&format!(
                "; {} slots of {period_s} s missed",
                people::count(total.missed())
            ));
        }
        lines.push(("intervals".to_owned(), said));
    }
    let signers = total.busiest();
    if kind.clique {
        lines.push(("signers".to_owned(), signers.len().to_string()));
    }
    for (label, said) in lines {
        out.line(&format!("{label:16}  {said}"))?;
    }
    for (signer, sealed) in signers.iter().take(SIGNERS_SHOWN) {
        out.line(&format!(
            "  {signer}  {} blocks, {:.1} %, {:.1} % in turn",
            people::count(sealed.blocks),
            percent(sealed.blocks, blocks),
            percent(sealed.in_turn, sealed.blocks)
        ))?;
    }
    if signers.len() > SIGNERS_SHOWN {
        let more = signers.len() - SIGNERS_SHOWN;
        out.line(&format!("  and {more} more: --json has them all"))?;
    }
    Ok(())
}

fn table(parts: &[Figures], out: &mut Output) -> Result<(), Failure> {
    out.line(&format!(
        "\n{:>10} {:>10} {:>10} {:>9} {:>10} {:>10} {:>6} {:>7} {:>7} {:>7} {:>7}",
        "first",
        "last",
        "txs",
        "a block",
        "raw",
        "stored",
        "gas %",
        "median",
        "95 %",
        "longest",
        "empty"
    ))?;
    let seconds = |interval: Option<u64>| interval.map_or("-".to_owned(), |s| format!("{s} s"));
    for part in parts {
        out.line(&format!(
            "{:>10} {:>10} {:>10} {:>9.1} {:>10} {:>10} {:>6.1} {:>7} {:>7} {:>7} {:>7}",
            part.first,
            part.last,
            part.transactions(),
            part.transactions() as f64 / part.blocks() as f64,
            people::size(part.raw_bytes()),
            people::size(part.stored_bytes()),
            100.0 * part.gas_used as f64 / part.gas_limit.max(1) as f64,
            seconds(part.interval_s(50)),
            seconds(part.interval_s(95)),
            seconds(part.interval_s(100)),
            part.empty(),
        ))?;
    }
    Ok(())
}

/// A picture is no part of a store, and overwrites nothing unasked.
fn refuse_file(file: &Path, folder: &Path, force: bool) -> Result<(), Failure> {
    follow::refuse_inside(file, folder)?;
    if file.exists() && !force {
        return Err(Failure::Usage(format!(
            "{} exists: give --force to overwrite it, or another name",
            file.display()
        )));
    }
    Ok(())
}

/// Writes a file that appears whole or not at all. A pipe or a device is written as it is: it cannot be renamed onto.
fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let is_regular = file.metadata().map_or(true, |meta| meta.is_file());
    let written = if is_regular {
        let mut name = file.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, file));
        if written.is_err() {
            // Half a picture is of no use; if it cannot be removed either, the first error is the one to tell.
            let _ = fs::remove_file(&new);
        }
        written
    } else {
        fs::OpenOptions::new()
            .write(true)
            .open(file)
            .and_then(|mut out| out.write_all(bytes))
    };
    written.map_err(|error| Failure::file("cannot write", file, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_round_numbers_of_blocks() {
        for (number, expected) in [(0, 1), (1, 1), (3, 5), (11, 20), (50, 50), (51, 100)] {
            assert_eq!(nice(number), expected);
        }
    }

    #[test]
    fn units_are_parts_and_large_parts_are_cut_where_eras_begin() {
        assert_eq!(units((10, 34), 10), [(10, 19), (20, 29), (30, 34)]);
        assert_eq!(
            units((0, 19_999), 10_000),
            [(0, 8191), (8192, 9999), (10_000, 16_383), (16_384, 19_999)]
        );
        assert_eq!(units((0, 5), u64::MAX), [(0, 5)]);
    }
}
