//! Where the store is: a node's data folder holds it in `blocks`.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The folder in a node's data folder that holds its store.
const STORE_FOLDER: &str = "blocks";

/// Either copy of it makes a folder a store.
const MANIFESTS: [&str; 2] = ["MANIFEST.0", "MANIFEST.1"];

/// The store's folder for what was given: itself, or `blocks` within.
pub(crate) fn store(datadir: &Path) -> Result<PathBuf, Failure> {
    let within = datadir.join(STORE_FOLDER);
    for folder in [within.as_path(), datadir] {
        if MANIFESTS.iter().any(|name| folder.join(name).is_file()) {
            return Ok(folder.to_path_buf());
        }
    }
    let why = match std::fs::read_dir(datadir) {
        Ok(_) => "neither holds a MANIFEST".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::Usage(format!(
        "no block store in {} nor in {}: {why}. Give a node's data folder or a store's own with --datadir",
        datadir.display(),
        within.display()
    )))
}
