//! `prune`: forgets the bodies and receipts of old blocks.

use std::{fs, path::Path};

use cairn_store::{Reader, Writer};
use serde_json::json;

use crate::{
    crew::UNIT_BLOCKS,
    failure::Failure,
    output::Output,
    people,
    request::{DryRun, Prune, Store},
};

pub(crate) fn run(store: &Store, prune: &Prune) -> Result<(), Failure> {
    let DryRun(dry_run) = prune.dry_run;
    // The lock first: what is told must be what is done.
    let writer = match dry_run {
        true => None,
        false => Some(Writer::open(&store.folder)?),
    };
    let snapshot = match &writer {
        Some(writer) => writer.reader().snapshot(),
        None => Reader::open(&store.folder)?.snapshot(),
    };
    let (head, first) = (snapshot.head().number, snapshot.first_body());
    if prune.before > head {
        return Err(Failure::No(format!(
            "block {} is above the head, block {head}: nothing was pruned",
            prune.before
        )));
    }
    // Only settled blocks are pruned, by whole eras.
    let end = prune.before.min(snapshot.first_unsettled()) / UNIT_BLOCKS * UNIT_BLOCKS;
    let freed_bytes = bytes_below(&store.folder, end / UNIT_BLOCKS);
    let first_after = match writer {
        Some(mut writer) => writer.expire(prune.before)?,
        None => end.max(first),
    };
    let blocks = first_after - first;
    let mut out = Output::new(store.json);
    if out.is_json() {
        out.value(&json!({
            "store": store.folder.display().to_string(),
            "dry_run": dry_run,
            "before": prune.before,
            "blocks": blocks,
            "first_body_before": first,
            "first_body": first_after,
            "freed_bytes": freed_bytes,
        }))?;
    } else {
        let would = if dry_run { "would be pruned" } else { "pruned" };
        let said = match blocks {
            0 => format!(
                "nothing to prune: bodies begin at block {first}, and eras of {UNIT_BLOCKS} settled blocks are pruned whole"
            ),
            _ => format!(
                "bodies and receipts of {} blocks {would}, {}; bodies begin at block {first_after}, headers stay",
                people::count(blocks),
                people::size(freed_bytes)
            ),
        };
        out.line(&said)?;
    }
    out.finish()
}

/// Bytes of the bodies and receipts of eras below `end`.
fn bytes_below(folder: &Path, end: u64) -> u64 {
    ["bodies", "receipts"]
        .into_iter()
        .flat_map(|kind| fs::read_dir(folder.join(kind)).into_iter().flatten())
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let era = name.split('.').next().and_then(|era| era.parse().ok());
            era.is_some_and(|era: u64| era < end)
        })
        .filter_map(|entry| entry.metadata().ok())
        .map(|data| data.len())
        .sum()
}
