//! Promise: a store whose files were deleted while it was open takes no more blocks: they would be gone with the process.
#![allow(clippy::unwrap_used)]

mod common;

use cairn_store::Error;
use common::{chain, commit, create, extend};

#[test]
fn after_its_folder_was_deleted_a_commit_fails_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocks");
    let mut blocks = chain(3, 100);
    let mut writer = create(&path, &blocks);
    extend(&mut blocks, 2, 1, 100);
    commit(&mut writer, &blocks[1..5]).unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    let error = commit(&mut writer, &blocks[5..6]).unwrap_err();
    assert!(error.to_string().contains("it was deleted"), "{error}");
    assert!(matches!(
        commit(&mut writer, &blocks[5..6]),
        Err(Error::Poisoned)
    ));
}
