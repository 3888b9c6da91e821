//! `verify`: every record's checksum, then what only the blocks themselves can say: links, total difficulty, roots.

use std::{fmt, time::Instant};

use alloy_primitives::{B256, U256, bytes::Bytes};
use cairn::chain::{self, SealedHeader};
use cairn_store::{
    Error, Reader, Snapshot,
    check::{self, Finding, Report},
};
use serde_json::{Map, Value, json};

use crate::{failure::Failure, output::Output, people, progress::Progress, request::Store, view};

/// Problems that are printed for people; JSON has them all.
const PROBLEMS_SHOWN: usize = 20;

pub(crate) fn run(store: &Store) -> Result<(), Failure> {
    let begin = Instant::now();
    let report = {
        let mut progress = Progress::new("reading records");
        check::verify(&store.folder, &mut |done, of| progress.at(done, of))?
    };
    let mut problems: Vec<Problem> = report.problems.iter().map(Problem::of_record).collect();
    // Where records are damaged the blocks in them say nothing new.
    let blocks = if problems.is_empty() {
        let checked = Reader::open(&store.folder)
            .map_err(Broken::Store)
            .and_then(|reader| links(&reader.snapshot()));
        match checked {
            Ok(blocks) => Some(blocks),
            Err(broken) => {
                problems.push(broken.into_problem()?);
                None
            }
        }
    } else {
        None
    };
    let seconds = begin.elapsed().as_secs_f64();

    let mut out = Output::new(store.json);
    if out.is_json() {
        let mut value = json!({
            "sound": problems.is_empty(),
            "store": store.folder.display().to_string(),
            "sequence": report.sequence,
            "files": report.files,
            "headers": report.headers,
            "bodies": report.bodies,
            "receipts": report.receipts,
            "side_blocks": report.side_blocks,
            "raw_bytes": report.raw_bytes,
            "stored_bytes": report.stored_bytes,
            "problems": problems.iter().map(Problem::value).collect::<Value>(),
            "notices": report.notices.iter().map(|notice| Problem::of_record(notice).value()).collect::<Value>(),
            "seconds": seconds,
        });
        if let (Some(blocks), Some(map)) = (&blocks, value.as_object_mut()) {
            map.insert("transactions".to_owned(), json!(blocks.transactions));
            map.insert(
                "head".to_owned(),
                json!({
                    "number": blocks.head_number,
                    "hash": view::text(blocks.head_hash),
                    "td": format!("{:#x}", blocks.td),
                }),
            );
        }
        out.value(&value)?;
    } else {
        for notice in &report.notices {
            out.line(&format!("note: {}", Problem::of_record(notice)))?;
        }
        if let Some(blocks) = &blocks {
            out.line(&sound(&report, blocks, seconds))?;
        }
    }
    out.finish()?;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::No(unsound(&problems)))
    }
}

fn sound(report: &Report, blocks: &Blocks, seconds: f64) -> String {
    format!(
        "sound: {} headers, {} bodies with {} transactions, {} kept in {}, {} files, head {} {}, in {seconds:.1} s",
        report.headers,
        report.bodies,
        blocks.transactions,
        people::size(report.raw_bytes),
        people::size(report.stored_bytes),
        report.files,
        blocks.head_number,
        blocks.head_hash
    )
}

fn unsound(problems: &[Problem]) -> String {
    let mut said = format!(
        "not sound, {} found:",
        match problems.len() {
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        }
    );
    for problem in problems.iter().take(PROBLEMS_SHOWN) {
        said.push_str(&format!("\n  {problem}"));
    }
    if problems.len() > PROBLEMS_SHOWN {
        said.push_str(&format!(
            "\n  and {} more: --json has them all",
            problems.len() - PROBLEMS_SHOWN
        ));
    }
    said
}

/// Something wrong, in a place of a file or in a block.
struct Problem {
    place: Option<(String, u64)>,
    block: Option<u64>,
    what: String,
}

impl Problem {
    fn of_record(finding: &Finding) -> Self {
        Self {
            place: Some((finding.path.display().to_string(), finding.offset_bytes)),
            block: None,
            what: finding.what.clone(),
        }
    }

    fn value(&self) -> Value {
        let mut map = Map::new();
        if let Some((file, offset_bytes)) = &self.place {
            map.insert("file".to_owned(), json!(file));
            map.insert("offset_bytes".to_owned(), json!(offset_bytes));
        }
        if let Some(block) = self.block {
            map.insert("block".to_owned(), json!(block));
        }
        map.insert("what".to_owned(), json!(self.what));
        Value::Object(map)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, offset_bytes)) = &self.place {
            write!(f, "{file}: at byte {offset_bytes}: ")?;
        }
        if let Some(block) = self.block {
            write!(f, "block {block}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// Why blocks could not all be checked.
enum Broken {
    /// A block is not what it should be.
    Block(u64, String),
    /// The store could not give one.
    Store(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Broken {
    /// What this says against the store, unless it is no fault of the store's.
    fn into_problem(self) -> Result<Problem, Failure> {
        match self {
            Self::Block(number, what) => Ok(Problem {
                place: None,
                block: Some(number),
                what,
            }),
            Self::Store(Error::Damaged {
                path,
                offset_bytes,
                what,
            }) => Ok(Problem {
                place: Some((path.display().to_string(), offset_bytes)),
                block: None,
                what,
            }),
            Self::Store(error) => Err(Failure::Store(error)),
        }
    }
}

/// What the blocks of a sound store are.
struct Blocks {
    transactions: u64,
    head_number: u64,
    head_hash: B256,
    td: U256,
}

/// Checks each canonical block against its parent and its body, from the first stored to the head.
fn links(snapshot: &Snapshot) -> Result<Blocks, Broken> {
    let head = snapshot.head();
    let mut progress = Progress::new("checking blocks");
    let mut found = Blocks {
        transactions: 0,
        head_number: head.number,
        head_hash: head.hash,
        td: U256::ZERO,
    };
    let first = snapshot.first_header();
    let mut parent: Option<SealedHeader> = None;
    for number in first..=head.number {
        let header = snapshot
            .header(number)?
            .ok_or_else(|| broken(number, "the header is missing"))?;
        let header = SealedHeader::decode(Bytes::copy_from_slice(&header))
            .map_err(|error| broken(number, error.to_string()))?;
        if header.header.number != number {
            let what = format!("number: expected {number}, found {}", header.header.number);
            return Err(broken(number, what));
        }
        let td = snapshot.td(number)?;
        if let Some(parent) = &parent {
            if header.header.parent_hash != parent.hash {
                let what = format!(
                    "parentHash: expected {}, found {}",
                    parent.hash, header.header.parent_hash
                );
                return Err(broken(number, what));
            }
            found.td += header.header.difficulty;
        } else if number == 0 {
            if header.hash != snapshot.genesis_hash() {
                let what = format!(
                    "hash: expected the chain's genesis {}, found {}",
                    snapshot.genesis_hash(),
                    header.hash
                );
                return Err(broken(number, what));
            }
            found.td = header.header.difficulty;
        } else {
            // What is below is not here: its total difficulty is taken as it is.
            found.td = td.unwrap_or_default();
        }
        if let Some(td) = td
            && td != found.td
        {
            let what = format!("total difficulty: expected {}, found {td}", found.td);
            return Err(broken(number, what));
        }
        match snapshot.body(number)? {
            Some(body) => {
                roots(&header, &body)?;
                found.transactions += view::transaction_count(&body).unwrap_or(0) as u64;
            }
            None if number >= snapshot.first_body() => {
                return Err(broken(number, "the body is missing"));
            }
            None => {} // expired
        }
        parent = Some(header);
        progress.at(number - first + 1, head.number - first + 1);
    }
    let last = parent.map_or(B256::ZERO, |header| header.hash);
    if last != head.hash {
        let what = format!("hash: the head is said to be {}, found {last}", head.hash);
        return Err(broken(head.number, what));
    }
    Ok(found)
}

fn roots(header: &SealedHeader, body: &[u8]) -> Result<(), Broken> {
    let number = header.header.number;
    let roots = chain::body::roots(body).map_err(|error| broken(number, error.to_string()))?;
    let header = &header.header;
    for (field, expected, found) in [
        (
            "transactionsRoot",
            Some(header.transactions_root),
            Some(roots.transactions),
        ),
        ("sha3Uncles", Some(header.ommers_hash), Some(roots.ommers)),
        (
            "withdrawalsRoot",
            header.withdrawals_root,
            roots.withdrawals,
        ),
    ] {
        if expected != found {
            let say = |root: Option<B256>| root.map_or("none".to_owned(), |root| root.to_string());
            let what = format!("{field}: expected {}, found {}", say(expected), say(found));
            return Err(broken(number, what));
        }
    }
    Ok(())
}

fn broken(number: u64, what: impl Into<String>) -> Broken {
    Broken::Block(number, what.into())
}
