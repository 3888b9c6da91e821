//! Exporting whole eras as era1 files.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use alloy_primitives::U256;
use alloy_trie::EMPTY_ROOT_HASH;
use bytes::Bytes;
use cairn_store::{Reader, Snapshot};

use super::{ExportError, Exported, ExportedEra, WRITE_BUFFER_BYTES, in_place, whole};
use crate::chain::receipts::{Form, NO_RECEIPTS, convert};
use crate::chain::{Genesis, SealedHeader};
use crate::era1::{self, ERA_BLOCKS, EraName, EraWriter, Summary};
use crate::progress::Progress;

/// Writes the eras from block `first` to block `last` (by default all whole ones) as era1 files: one era to the file
/// `target`, any number into the folder `target`, named as others look for them. Each appears whole or not at all; `-` is
/// standard output.
///
/// # Errors
/// `Range` if these are no whole eras before the merge, or if the file's name says that something else is in it;
/// `NoReceipts` where receipts are not stored.
pub fn export_era1(
    reader: &Reader,
    genesis: &Genesis,
    target: &Path,
    first: Option<u64>,
    last: Option<u64>,
    quiet: bool,
) -> Result<Exported, ExportError> {
    let chain = reader.snapshot();
    let (first, last) = range(&chain, first, last)?;
    let eras = (first / ERA_BLOCKS)..=(last / ERA_BLOCKS);
    let is_folder = target.is_dir();
    let count = eras.clone().count();
    if !is_folder && count != 1 {
        return Err(ExportError::Range(format!(
            "blocks {first} to {last} are {count} eras, and a file holds one: name a folder that exists, or one era"
        )));
    }
    let network = era1::network(genesis);
    let is_stdout = target == Path::new("-");
    let mut progress = Progress::new("Exporting", "blocks", last - first + 1, quiet || is_stdout);
    let mut exported = Exported {
        blocks: 0,
        first,
        last,
        bytes: 0,
        eras: Vec::new(),
    };
    for era in eras {
        let from = era * ERA_BLOCKS;
        let to = last.min(from + ERA_BLOCKS - 1);
        let mut written = |number: u64| progress.set(number - first + 1);
        let (path, summary) = match (is_folder, is_stdout) {
            (true, _) => into_folder(&chain, target, &network, (from, to), &mut written)?,
            (false, true) => {
                let out = io::stdout().lock();
                let error = io_error(target);
                let summary = write(&chain, out, (from, to), &mut written, &error)?;
                (target.into(), summary)
            }
            (false, false) => {
                let summary = to_file(&chain, target, &network, (from, to), &mut written)?;
                (target.into(), summary)
            }
        };
        exported.blocks += summary.blocks;
        exported.bytes += summary.bytes;
        exported.eras.push(ExportedEra {
            file: path.display().to_string(),
            name: summary.name(&network).to_string(),
            accumulator: summary.root.to_string(),
        });
    }
    Ok(exported)
}

/// First and last block of the eras that are asked for, which must be whole ones before the merge.
fn range(
    chain: &Snapshot,
    first: Option<u64>,
    last: Option<u64>,
) -> Result<(u64, u64), ExportError> {
    let bad = |what: String| Err(ExportError::Range(what));
    let first = first.unwrap_or(chain.first_body().next_multiple_of(ERA_BLOCKS));
    let end = match last_before_merge(chain)? {
        Some(end) => end,
        None => {
            return bad(
                "there are no blocks before the merge, and era1 files hold no others".into(),
            );
        }
    };
    if !first.is_multiple_of(ERA_BLOCKS) {
        return bad(format!(
            "FIRST {first} begins no era: eras begin at multiples of {ERA_BLOCKS}"
        ));
    }
    let ends_era = |number: u64| (number + 1).is_multiple_of(ERA_BLOCKS);
    // The last era before the merge is the only one that may be shorter.
    let is_merge = end < chain.head().number;
    let last = match last {
        Some(last) if last > end => {
            return bad(format!(
                "LAST {last} is above block {end}, the {}",
                if is_merge {
                    "last before the merge"
                } else {
                    "head"
                }
            ));
        }
        Some(last) => last,
        None if is_merge || ends_era(end) => end,
        None => match (end + 1 - (end + 1) % ERA_BLOCKS).checked_sub(1) {
            Some(last) => last,
            None => return bad(not_whole(end)),
        },
    };
    if last < first {
        return bad(match end < first + ERA_BLOCKS {
            true => not_whole(end),
            false => format!("FIRST {first} is above LAST {last}"),
        });
    }
    let is_whole = ends_era(last) || is_merge && last == end;
    if !is_whole {
        return bad(format!(
            "LAST {last} ends no era: eras of {ERA_BLOCKS} blocks end at {}",
            last - last % ERA_BLOCKS + ERA_BLOCKS - 1
        ));
    }
    Ok((first, last))
}

fn not_whole(end: u64) -> String {
    let era_end = end - end % ERA_BLOCKS + ERA_BLOCKS - 1;
    format!(
        "the era of block {end}, the last one, is not whole before block {era_end}, and era1 files hold whole eras"
    )
}

/// The last canonical block that has difficulty; `None` if none has.
fn last_before_merge(chain: &Snapshot) -> Result<Option<u64>, ExportError> {
    let has_difficulty = |number: u64| -> Result<bool, ExportError> {
        Ok(!header(chain, number)?.header.difficulty.is_zero())
    };
    let (mut low, mut high) = (chain.first_header(), chain.head().number);
    if has_difficulty(high)? {
        return Ok(Some(high));
    }
    if !has_difficulty(low)? {
        return Ok(None);
    }
    // What is found is in low..high: low has difficulty, high has none.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match has_difficulty(middle)? {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(Some(low))
}

fn header(chain: &Snapshot, number: u64) -> Result<SealedHeader, ExportError> {
    let record = chain.header(number).map_err(ExportError::Store)?;
    let record = record.ok_or(ExportError::Missing { number })?;
    let header = SealedHeader::decode(Bytes::copy_from_slice(&record));
    header.map_err(|error| ExportError::Header { number, error })
}

/// Writes an era to a file of its right name. Until its root is known it has another.
fn into_folder(
    chain: &Snapshot,
    folder: &Path,
    network: &str,
    range: (u64, u64),
    written: &mut dyn FnMut(u64),
) -> Result<(PathBuf, Summary), ExportError> {
    let nameless = folder.join(format!("{network}-{:05}", range.0 / ERA_BLOCKS));
    let error = io_error(&nameless);
    whole(&nameless, &error, |out| {
        let summary = write(chain, out, range, written, &error)?;
        let path = folder.join(summary.name(network).to_string());
        Ok((path.clone(), (path, summary)))
    })
}

fn to_file(
    chain: &Snapshot,
    file: &Path,
    network: &str,
    range: (u64, u64),
    written: &mut dyn FnMut(u64),
) -> Result<Summary, ExportError> {
    let error = io_error(file);
    if let Some(out) = in_place(file, &error)? {
        return write(chain, out, range, written, &error);
    }
    whole(file, &error, |out| {
        let summary = write(chain, out, range, written, &error)?;
        let name = summary.name(network);
        match EraName::of(file) {
            Some(asked) if asked != name => Err(ExportError::Range(format!(
                "{}: its name does not say what is in it: expected {name}",
                file.display()
            ))),
            Some(_) => Ok((file.into(), summary)),
            None => {
                log::info!("Other programs look for this file by the name {name}");
                Ok((file.into(), summary))
            }
        }
    })
}

fn write(
    chain: &Snapshot,
    out: impl Write,
    (first, last): (u64, u64),
    written: &mut dyn FnMut(u64),
    io_error: &dyn Fn(io::Error) -> ExportError,
) -> Result<Summary, ExportError> {
    let out = BufWriter::with_capacity(WRITE_BUFFER_BYTES, out);
    let mut writer = EraWriter::new(out).map_err(io_error)?;
    let mut td: Option<U256> = None;
    for number in first..=last {
        let header = header(chain, number)?;
        let missing = ExportError::Missing { number };
        let Some(body) = chain.body(number).map_err(ExportError::Store)? else {
            return Err(missing);
        };
        let sum = match td {
            Some(before) => before + header.header.difficulty,
            None => chain
                .td(number)
                .map_err(ExportError::Store)?
                .ok_or(missing)?,
        };
        td = Some(sum);
        let receipts = receipts(chain, &header)?;
        writer
            .block((number, header.hash), &header.raw, &body, &receipts, sum)
            .map_err(io_error)?;
        written(number);
    }
    let (_, summary) = writer.finish().map_err(io_error)?;
    Ok(summary)
}

/// The receipts of a block in eth/68's form. Where the header says that there are none they need not be stored.
fn receipts(chain: &Snapshot, header: &SealedHeader) -> Result<Vec<u8>, ExportError> {
    let number = header.number();
    match chain.receipts(number).map_err(ExportError::Store)? {
        Some(kept) => convert(Form::Eth69, Form::Eth68, &kept)
            .map_err(|error| ExportError::Receipts { number, error }),
        None if header.header.receipts_root == EMPTY_ROOT_HASH => Ok(NO_RECEIPTS.into()),
        None => Err(ExportError::NoReceipts { number }),
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> ExportError {
    move |source| ExportError::Io {
        path: path.into(),
        source,
    }
}
