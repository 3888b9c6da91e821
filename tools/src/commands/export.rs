//! `export`: stored blocks to a file, as RLP or as era1.

use std::path::Path;

use cairn::export::{self, ExportError};
use cairn_store::Reader;

use crate::{
    chain,
    failure::Failure,
    follow,
    output::Output,
    request::{Export, Range, Store},
};

pub(crate) fn run(store: &Store, export: &Export) -> Result<(), Failure> {
    let to_output = export.file == Path::new("-");
    let mut out = Output::new(store.json);
    out.refuse_terminal(to_output)?;
    if to_output && store.json {
        return Err(Failure::Usage(
            "- is standard output, where --json would print its report: name a file".to_owned(),
        ));
    }
    if !to_output {
        follow::refuse_inside(&export.file, &store.folder)?;
    }
    let reader = Reader::open(&store.folder)?;
    let (first, last) = match export.range {
        Some(Range::Numbers(first, last)) => (Some(first), last),
        Some(Range::Last) | None => (None, None),
    };
    if to_output {
        // The library writes to standard output itself, and holds it meanwhile.
        drop(out);
        write(store, export, &reader, (first, last))?;
        return Ok(());
    }
    let exported = write(store, export, &reader, (first, last))?;
    out.report(&exported)?;
    out.finish()
}

fn write(
    store: &Store,
    export: &Export,
    reader: &Reader,
    (first, last): (Option<u64>, Option<u64>),
) -> Result<export::Exported, Failure> {
    let exported = if export.era1 {
        let hash = reader.snapshot().genesis_hash();
        let genesis = chain::genesis(&store.folder, None, hash)?.map_err(Failure::Usage)?;
        export::export_era1(reader, &genesis, &export.file, first, last, false)
    } else {
        export::export(reader, &export.file, first, last, false)
    };
    exported.map_err(|error| match error {
        ExportError::Range(why) => Failure::Usage(why),
        ExportError::Store(error) => Failure::Store(error),
        ExportError::Io { ref source, .. } => Failure::of_file(source, error.to_string()),
        error => Failure::No(error.to_string()),
    })
}
