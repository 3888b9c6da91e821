//! `rebuild-index`: the hash index anew from the headers.

use cairn_store::repair;
use serde_json::json;

use crate::{failure::Failure, output::Output, people, request::Store};

pub(crate) fn run(store: &Store) -> Result<(), Failure> {
    let listed = repair::rebuild_index(&store.folder)?;
    let mut out = Output::new(store.json);
    if out.is_json() {
        out.value(&json!({
            "store": store.folder.display().to_string(),
            "blocks_listed": listed,
        }))?;
    } else {
        out.line(&format!(
            "index rebuilt: it lists {} blocks of whole eras",
            people::count(listed)
        ))?;
    }
    out.finish()
}
