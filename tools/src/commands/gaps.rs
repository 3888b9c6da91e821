//! `gaps`: which ranges of headers, bodies and receipts are there, which are missing, and whether headers link.

use std::ops::ControlFlow;

use alloy_primitives::{B256, keccak256};
use alloy_rlp::Header as Prefix;
use cairn_store::{Error, Snapshot};
use serde_json::{Value, json};

use crate::{
    crew::{self, Done},
    failure::Failure,
    follow::{self, Follow},
    output::Output,
    progress::Progress,
    request::{Jobs, Store},
    view,
};

/// Ranges that are printed for people; JSON has them all.
const RANGES_SHOWN: usize = 10;

/// The kinds of records, as they are called.
const KINDS: [&str; 3] = ["headers", "bodies", "receipts"];

/// What there is of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Is {
    There,
    Missing,
    Damaged,
}

/// Blocks in a row of which the same is true: the first, the last.
type Span = (u64, u64);

/// What was found in blocks in a row.
#[derive(Default)]
struct Found {
    /// Of each kind, in rising order.
    kinds: [Vec<(Span, Is)>; 3],
    /// Blocks whose parent hash is not the hash of the block before.
    unlinked: Vec<u64>,
}

pub(crate) fn run(store: &Store, jobs: Jobs) -> Result<(), Failure> {
    let follow = Follow::open(&store.folder)?;
    let snapshot = follow.snapshot();
    let head = snapshot.head();
    let units = crew::units(0, head.number);
    let done = Done::default();
    let mut parts: Vec<Option<Found>> = units.iter().map(|_| None).collect();
    let mut failed = None;
    {
        let mut progress = Progress::new("reading blocks");
        crew::share(
            &units,
            jobs,
            (&mut progress, &done, head.number + 1),
            |&(first, last)| {
                follow::again(&store.folder, snapshot, |snapshot| {
                    look(snapshot, first, last, &done)
                })
            },
            |at, found| match found {
                Ok(found) => {
                    parts[at] = Some(found);
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
    let mut found = Found::default();
    for part in parts.into_iter().flatten() {
        for (kind, spans) in found.kinds.iter_mut().zip(part.kinds) {
            for (span, is) in spans {
                put(kind, span, is);
            }
        }
        found.unlinked.extend(part.unlinked);
    }
    let faults = faults(&found, snapshot);

    let mut out = Output::new(store.json);
    if out.is_json() {
        let mut value = json!({
            "sound": faults.is_empty(),
            "store": store.folder.display().to_string(),
            "head": { "number": head.number, "hash": view::text(head.hash) },
        });
        for (name, spans) in KINDS.iter().zip(&found.kinds) {
            let of = |is: Is| -> Value {
                let ranges = spans.iter().filter(|(_, found)| *found == is);
                ranges
                    .map(|((first, last), _)| json!([first, last]))
                    .collect()
            };
            value[*name] = json!({
                "there": of(Is::There),
                "missing": of(Is::Missing),
                "damaged": of(Is::Damaged),
            });
        }
        value["unlinked"] = json!(found.unlinked);
        value["problems"] = json!(faults);
        out.value(&value)?;
    } else {
        people(&found, head.number, &mut out)?;
    }
    out.finish()?;
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Failure::No(format!(
            "not sound:\n  {}",
            faults.join("\n  ")
        ))),
    }
}

/// Adds a span to those before it.
fn put(spans: &mut Vec<(Span, Is)>, (first, last): Span, is: Is) {
    match spans.last_mut() {
        Some(((_, end), found)) if *found == is && *end + 1 == first => *end = last,
        _ => spans.push(((first, last), is)),
    }
}

/// Looks at blocks `first..=last`.
fn look(snapshot: &Snapshot, first: u64, last: u64, done: &Done) -> Result<Found, Failure> {
    let mut found = Found::default();
    let mut before = match first.checked_sub(1) {
        Some(number) => header(snapshot, number)?.1.map(|(hash, _)| hash),
        None => None,
    };
    for number in first..=last {
        let (is, hashes) = header(snapshot, number)?;
        put(&mut found.kinds[0], (number, number), is);
        if let (Some(before), Some((_, parent))) = (before, hashes)
            && before != parent
        {
            found.unlinked.push(number);
        }
        before = hashes.map(|(hash, _)| hash);
        let body = is_there(snapshot.body_stream(number).map(|stream| stream.is_some()))?;
        put(&mut found.kinds[1], (number, number), body);
        let receipts = is_there(
            snapshot
                .receipts_stream(number)
                .map(|stream| stream.is_some()),
        )?;
        put(&mut found.kinds[2], (number, number), receipts);
        done.add(1);
    }
    Ok(found)
}

/// What there is of a header, its hash and the parent hash that it names.
fn header(snapshot: &Snapshot, number: u64) -> Result<(Is, Option<(B256, B256)>), Failure> {
    let header = snapshot.header(number);
    let hashes = match &header {
        Ok(Some(raw)) => parent(raw).map(|parent| (keccak256(&raw[..]), parent)),
        _ => None,
    };
    let is = is_there(header.map(|header| header.is_some()))?;
    Ok(match (is, hashes) {
        (Is::There, None) => (Is::Damaged, None),
        other => other,
    })
}

/// The first field of a header.
fn parent(header: &[u8]) -> Option<B256> {
    let mut rest = header;
    let list = Prefix::decode(&mut rest).ok().filter(|list| list.list)?;
    let payload = rest.get(..list.payload_length)?;
    match payload.split_first() {
        Some((0xa0, hash)) => Some(B256::from_slice(hash.get(..32)?)),
        _ => None,
    }
}

/// What the store's answer says of a record. A fault that is not the record's own stays one.
fn is_there(answer: Result<bool, Error>) -> Result<Is, Failure> {
    match answer {
        Ok(true) => Ok(Is::There),
        Ok(false) => Ok(Is::Missing),
        Err(Error::Damaged { .. }) => Ok(Is::Damaged),
        Err(error) => Err(Failure::Store(error)),
    }
}

/// What keeps the store from being sound.
fn faults(found: &Found, snapshot: &Snapshot) -> Vec<String> {
    let mut faults = Vec::new();
    // What lies below the first header or body was never there or has been pruned; receipts may be absent anywhere.
    let begins = [snapshot.first_header(), snapshot.first_body(), u64::MAX];
    for ((name, spans), begin) in KINDS.iter().zip(&found.kinds).zip(begins) {
        for &((first, last), is) in spans {
            match is {
                Is::Damaged => faults.push(format!("{name} of blocks {first}..{last} are damaged")),
                Is::Missing if last >= begin => faults.push(format!(
                    "{name} of blocks {}..{last} are missing",
                    first.max(begin)
                )),
                Is::Missing | Is::There => {}
            }
        }
    }
    for number in &found.unlinked {
        faults.push(format!(
            "block {number} names another parent than the block before it"
        ));
    }
    faults
}

fn people(found: &Found, head: u64, out: &mut Output) -> Result<(), Failure> {
    out.line(&format!("head      {head}"))?;
    for (name, spans) in KINDS.iter().zip(&found.kinds) {
        for (label, is) in [
            ("there", Is::There),
            ("missing", Is::Missing),
            ("damaged", Is::Damaged),
        ] {
            let ranges: Vec<String> = spans
                .iter()
                .filter(|(_, found)| *found == is)
                .map(|((first, last), _)| match first == last {
                    true => first.to_string(),
                    false => format!("{first}..{last}"),
                })
                .collect();
            if ranges.is_empty() && is != Is::There {
                continue;
            }
            let mut said = match ranges.is_empty() {
                true => "none".to_owned(),
                false => ranges[..ranges.len().min(RANGES_SHOWN)].join(" "),
            };
            if ranges.len() > RANGES_SHOWN {
                said.push_str(&format!(
                    " and {} more ranges: --json has them all",
                    ranges.len() - RANGES_SHOWN
                ));
            }
            out.line(&format!("{name:8}  {label:7}  {said}"))?;
        }
    }
    let links = match found.unlinked.len() {
        0 => "every header names the one before it".to_owned(),
        count => format!("broken at {count} blocks"),
    };
    out.line(&format!("links     {links}"))
}
