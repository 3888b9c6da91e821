//! `repair`: mends what is damaged, or says what that would do.

use cairn_store::{check::Finding, repair};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    output::Output,
    request::{DryRun, Store},
};

pub(crate) fn run(store: &Store, DryRun(dry_run): DryRun) -> Result<(), Failure> {
    let repair = repair::repair(&store.folder, dry_run)?;
    let is_done = repair.left.is_empty() && (!dry_run || repair.actions.is_empty());
    let mut out = Output::new(store.json);
    if out.is_json() {
        let actions = repair.actions.iter().map(|action| {
            json!({
                "file": action.path.display().to_string(),
                "what": action.what,
                "why": action.why,
            })
        });
        let left = repair.left.iter().map(|finding| {
            json!({
                "file": finding.path.display().to_string(),
                "offset_bytes": finding.offset_bytes,
                "what": finding.what,
            })
        });
        out.value(&json!({
            "sound": is_done,
            "store": store.folder.display().to_string(),
            "dry_run": dry_run,
            "actions": actions.collect::<Value>(),
            "left": left.collect::<Value>(),
        }))?;
    } else {
        for action in &repair.actions {
            let would = if dry_run { "would be done" } else { "done" };
            out.line(&format!("{would}: {action}"))?;
        }
        if repair.actions.is_empty() && is_done {
            out.line("nothing to repair")?;
        }
    }
    out.finish()?;
    if is_done {
        return Ok(());
    }
    Err(Failure::No(match repair.left.is_empty() {
        true => "there is something to repair; run it without --dry-run".to_owned(),
        false => format!(
            "not sound, and this cannot be repaired here. `cairn-store export` gives the blocks before the damage; import them into a new \
             data folder, and let it fetch the rest:\n  {}",
            repair
                .left
                .iter()
                .map(said)
                .collect::<Vec<_>>()
                .join("\n  ")
        ),
    }))
}

fn said(finding: &Finding) -> String {
    format!(
        "{}: at byte {}: {}",
        finding.path.display(),
        finding.offset_bytes,
        finding.what
    )
}
