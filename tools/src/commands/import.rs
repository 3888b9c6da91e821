//! `import`: checked blocks of a file into the store.

use std::sync::atomic::AtomicBool;

use cairn::import::{self, Found, ImportError};
use cairn_store::{Reader, Writer};

use crate::{
    chain,
    failure::Failure,
    output::Output,
    request::{Import, Store},
};

pub(crate) fn run(store: &Store, import: &Import) -> Result<(), Failure> {
    let told = |error: ImportError| match error {
        ImportError::Open(why) => Failure::Usage(why),
        ImportError::Store(error) => Failure::Store(error),
        error if error.wants_file_name() => {
            Failure::No(format!("{}: {error}", import.file.display()))
        }
        error => Failure::No(error.to_string()),
    };
    let hash = Reader::open(&store.folder)?.snapshot().genesis_hash();
    let genesis =
        chain::genesis(&store.folder, import.genesis.as_deref(), hash)?.map_err(Failure::Usage)?;
    // The lock before the file: a node that runs is told of at once, not after an era1 file was read.
    let writer = Writer::open(&store.folder)?;
    // Ctrl-C ends this process: what was committed is there, and the same command goes on from it.
    let never = AtomicBool::new(false);
    let found = Found::open(&import.file, false, &never).map_err(told)?;
    let imported = import::import_found(&genesis, writer, found, false, &never).map_err(told)?;
    let mut out = Output::new(store.json);
    out.report(&imported)?;
    out.finish()
}
