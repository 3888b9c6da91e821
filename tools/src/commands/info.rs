//! `info`: which chain is stored, how far, in how many bytes of which files.

use std::{fs, io::Read, path::Path};

use alloy_consensus::Header;
use alloy_primitives::U256;
use alloy_rlp::Decodable;
use cairn_store::Reader;
use serde_json::{Map, Value, json};

use crate::{failure::Failure, output::Output, people, request::Store, view};

/// The folders of a store. Files of a kind that lie in the store's own folder are named after it.
const FOLDERS: [&str; 4] = ["headers", "bodies", "receipts", "hash"];

/// Where a MANIFEST has its versions (two u16) and its sequence (u64), little-endian.
const VERSIONS_AT: usize = 16;
const SEQUENCE_AT: usize = 24;

pub(crate) fn run(store: &Store) -> Result<(), Failure> {
    let snapshot = Reader::open(&store.folder)?.snapshot();
    let head = snapshot.head();
    let head_time_s = snapshot
        .header(head.number)?
        .and_then(|raw| Header::decode(&mut &raw[..]).ok())
        .map(|header| header.timestamp);
    let files = files(&store.folder)?;
    let total_bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let blocks = head.number - snapshot.first_header() + 1;

    let mut kinds = Map::new();
    for file in &files {
        let kind = kinds
            .entry(file.kind.clone())
            .or_insert_with(|| json!({ "files": 0, "bytes": 0 }));
        kind["files"] = json!(kind["files"].as_u64().unwrap_or(0) + 1);
        kind["bytes"] = json!(kind["bytes"].as_u64().unwrap_or(0) + file.bytes);
    }
    for kind in kinds.values_mut() {
        let each = kind["bytes"].as_u64().unwrap_or(0) as f64 / blocks as f64;
        kind["bytes_per_block"] = json!(tenths(each));
    }
    let receipts = snapshot.receipts_range();
    let version = versions(&store.folder, snapshot.sequence());
    let value = json!({
        "store": store.folder.display().to_string(),
        "chain_id": snapshot.chain_id(),
        "genesis_hash": view::text(snapshot.genesis_hash()),
        "head": {
            "number": head.number,
            "hash": view::text(head.hash),
            "td": format!("{:#x}", head.td),
            "timestamp": head_time_s,
        },
        "first_header": snapshot.first_header(),
        "first_body": snapshot.first_body(),
        "first_receipts": receipts.map(|(first, _)| first),
        "last_receipts": receipts.map(|(_, last)| last),
        "first_unsettled": snapshot.first_unsettled(),
        "sequence": snapshot.sequence(),
        "format": {
            "version_to_read": version.map(|(read, _)| read),
            "version_to_write": version.map(|(_, write)| write),
        },
        "total_bytes": total_bytes,
        "bytes_per_block": tenths(total_bytes as f64 / blocks as f64),
        "kinds": kinds,
        "files": files.iter().map(File::value).collect::<Value>(),
    });
    let mut out = Output::new(store.json);
    if out.is_json() {
        out.value(&value)?;
    } else {
        people(&value, head.td, &mut out)?;
    }
    out.finish()
}

/// A file of the store.
struct File {
    /// Below the store's folder, with `/` between folders.
    path: String,
    kind: String,
    bytes: u64,
}

impl File {
    fn value(&self) -> Value {
        json!({ "path": self.path, "kind": self.kind, "bytes": self.bytes })
    }
}

/// Every file there, by path. A file that goes away while we look is not one of them.
fn files(folder: &Path) -> Result<Vec<File>, Failure> {
    let mut files = Vec::new();
    for within in [""].into_iter().chain(FOLDERS) {
        let path = folder.join(within);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(_) if !within.is_empty() => continue, // receipts, say, that nobody stored
            Err(error) => return Err(Failure::file("cannot read", &path, &error)),
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let (path, kind) = if within.is_empty() {
                let kind = name.split('.').next().unwrap_or(&name).to_lowercase();
                (name, kind)
            } else {
                (format!("{within}/{name}"), within.to_owned())
            };
            files.push(File {
                path,
                kind,
                bytes: metadata.len(),
            });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The format versions to read and to write that the MANIFEST of `sequence` names. `None` if it was replaced meanwhile.
fn versions(folder: &Path, sequence: u64) -> Option<(u16, u16)> {
    ["MANIFEST.0", "MANIFEST.1"].iter().find_map(|name| {
        let mut start = [0; SEQUENCE_AT + 8];
        let mut file = fs::File::open(folder.join(name)).ok()?;
        file.read_exact(&mut start).ok()?;
        let found = u64::from_le_bytes(start[SEQUENCE_AT..].try_into().ok()?);
        let version = |at: usize| u16::from_le_bytes([start[at], start[at + 1]]);
        (found == sequence).then(|| (version(VERSIONS_AT), version(VERSIONS_AT + 2)))
    })
}

/// What is kept of a kind, and what is not.
fn has(first: u64, head: u64) -> String {
    match first {
        0 => format!("0 to {head}"),
        _ => format!("{first} to {head}; 0 to {} are not stored", first - 1),
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn people(value: &Value, td: U256, out: &mut Output) -> Result<(), Failure> {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let head = &value["head"];
    let time = head["timestamp"].as_u64();
    let format = &value["format"];
    for (label, said) in [
        ("store", text(&value["store"])),
        ("chain id", value["chain_id"].to_string()),
        ("genesis", text(&value["genesis_hash"])),
        (
            "head",
            format!("{} {}", head["number"], text(&head["hash"])),
        ),
        ("head time", time.map_or("unknown".to_owned(), people::date)),
        ("total difficulty", td.to_string()),
        (
            "headers",
            has(number(&value["first_header"]), number(&head["number"])),
        ),
        (
            "bodies",
            has(number(&value["first_body"]), number(&head["number"])),
        ),
        (
            "receipts",
            match (
                value["first_receipts"].as_u64(),
                value["last_receipts"].as_u64(),
            ) {
                (Some(first), Some(last)) => {
                    format!("within {first} to {last}; `gaps` says of which")
                }
                _ => "none are stored".to_owned(),
            },
        ),
        (
            "settled",
            match number(&value["first_unsettled"]) {
                0 => "nothing yet".to_owned(),
                first => format!("up to {}", first - 1),
            },
        ),
        (
            "format",
            format!(
                "version {} to read, {} to write; sequence {}",
                format["version_to_read"], format["version_to_write"], value["sequence"]
            ),
        ),
        (
            "size",
            format!(
                "{}, {} bytes a block",
                people::size(number(&value["total_bytes"])),
                value["bytes_per_block"]
            ),
        ),
    ] {
        out.line(&format!("{label:16}  {said}"))?;
    }
    out.line(&format!(
        "\n{:10}  {:>5}  {:>14}  {:>9}",
        "kind", "files", "bytes", "per block"
    ))?;
    if let Some(kinds) = value["kinds"].as_object() {
        for (name, kind) in kinds {
            out.line(&format!(
                "{name:10}  {:>5}  {:>14}  {:>9.1}",
                number(&kind["files"]),
                number(&kind["bytes"]),
                kind["bytes_per_block"].as_f64().unwrap_or(0.0)
            ))?;
        }
    }
    Ok(())
}
