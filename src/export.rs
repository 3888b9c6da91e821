//! `cairn export`: writes stored blocks to a file, byte for byte as they were imported.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use alloy_rlp::Header as RlpHeader;
use cairn_store::{Reader, Snapshot};
use serde::Serialize;

use crate::logging::size;
use crate::progress::Progress;

const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// Why an export failed.
#[derive(Debug)]
pub enum ExportError {
    /// A range that makes no sense (exit status 2).
    Range(String),
    /// The store cannot be read.
    Store(cairn_store::Error),
    /// A block of the range is not stored.
    Missing {
        /// Its number.
        number: u64,
    },
    /// The file cannot be written.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What an export did.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// Blocks written.
    pub blocks: u64,
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// Writes blocks `first` to `last` (by default 0 to the head) to `file`. A regular file appears whole or not at all;
/// `-` is standard output.
///
/// # Errors
/// `ExportError`. A file of that name that was there before is untouched then.
pub fn export(
    reader: &Reader,
    file: &Path,
    first: Option<u64>,
    last: Option<u64>,
    quiet: bool,
) -> Result<Exported, ExportError> {
    let chain = reader.snapshot();
    let head = chain.head().number;
    let (first, last) = (first.unwrap_or(0), last.unwrap_or(head));
    if first > last {
        return Err(ExportError::Range(format!(
            "FIRST {first} is above LAST {last}"
        )));
    }
    if last > head {
        return Err(ExportError::Range(format!(
            "LAST {last} is above the head, block {head}"
        )));
    }
    let io_error = |source| ExportError::Io {
        path: file.into(),
        source,
    };
    if file == Path::new("-") {
        return write_blocks(&chain, io::stdout().lock(), first, last, true, &io_error);
    }
    // A pipe or a device is written as it is: it cannot be renamed onto.
    if file.metadata().is_ok_and(|meta| !meta.is_file()) {
        let out = File::options().write(true).open(file).map_err(io_error)?;
        return write_blocks(&chain, out, first, last, quiet, &io_error);
    }
    // Written beside it under a name of its own, which is gone if this fails: half an export looks like a whole one.
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let out = tempfile::Builder::new()
        .prefix(".cairn-export-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(io_error)?;
    let exported = write_blocks(&chain, out.as_file(), first, last, quiet, &io_error)?;
    out.as_file().sync_all().map_err(io_error)?;
    out.persist(file).map_err(|error| io_error(error.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error)?;
    Ok(exported)
}

fn write_blocks(
    chain: &Snapshot,
    out: impl Write,
    first: u64,
    last: u64,
    quiet: bool,
    io_error: &dyn Fn(io::Error) -> ExportError,
) -> Result<Exported, ExportError> {
    let mut out = BufWriter::with_capacity(WRITE_BUFFER_BYTES, out);
    let mut progress = Progress::new("Exporting", "blocks", last - first + 1, quiet);
    let mut bytes = 0;
    let mut prefix = Vec::with_capacity(9);
    for number in first..=last {
        let missing = ExportError::Missing { number };
        let Some(header) = chain.header(number).map_err(ExportError::Store)? else {
            return Err(missing);
        };
        let Some(body) = chain.body(number).map_err(ExportError::Store)? else {
            return Err(missing);
        };
        let items = list_payload(&body);
        prefix.clear();
        RlpHeader {
            list: true,
            payload_length: header.len() + items.len(),
        }
        .encode(&mut prefix);
        for part in [&prefix[..], &header, items] {
            out.write_all(part).map_err(io_error)?;
            bytes += part.len() as u64;
        }
        progress.set(number - first + 1);
    }
    out.flush().map_err(io_error)?;
    Ok(Exported {
        blocks: last - first + 1,
        first,
        last,
        bytes,
    })
}

/// The items of a stored body, without the list's prefix.
fn list_payload(mut body: &[u8]) -> &[u8] {
    RlpHeader::decode_bytes(&mut body, true)
        .expect("a body is checked before it is stored, and its checksum when read")
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Exported {} blocks, {} to {}, {}",
            self.blocks,
            self.first,
            self.last,
            size(self.bytes)
        )
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Range(why) => f.write_str(why),
            ExportError::Store(error) => error.fmt(f),
            ExportError::Missing { number } => write!(
                f,
                "block {number} is not stored whole; see what is with `cairn-store info`"
            ),
            ExportError::Io { path, source } => {
                write!(f, "cannot write {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for ExportError {}
