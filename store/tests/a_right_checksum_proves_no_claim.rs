//! What a file says of itself under a right checksum is still only a claim: numbers that cannot be are found, and cost neither
//! time nor memory. Found by the fuzz targets `store_*`.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use cairn_store::check;
use cairn_store::{Error, Reader};
use common::{assert_stored, chain, commit, create};

/// Overwrites bytes of a copy of the MANIFEST and makes its checksum right again.
fn claim(dir: &Path, copy: &str, at: usize, bytes: &[u8]) {
    let path = dir.join(copy);
    let mut manifest = fs::read(&path).unwrap();
    manifest[at..at + bytes.len()].copy_from_slice(bytes);
    let length = u32::from_le_bytes(manifest[12..16].try_into().unwrap()) as usize;
    let crc = crc32fast::hash(&manifest[12..length]);
    manifest[8..12].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, manifest).unwrap();
}

const HEADERS_END: usize = 160;

#[test]
fn a_manifest_of_more_blocks_than_it_has_eras_for_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(2_200, 0);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..2_000]).unwrap();
    commit(&mut writer, &blocks[2_000..]).unwrap();
    drop(writer);
    assert!(
        Reader::open(dir.path())
            .unwrap()
            .snapshot()
            .first_unsettled()
            > 0
    );
    for end in [8_193_u64, 1 << 40, u64::MAX] {
        let found = fs::read(dir.path().join("MANIFEST.0")).unwrap();
        claim(dir.path(), "MANIFEST.0", HEADERS_END, &end.to_le_bytes());
        assert_stored(dir.path(), &blocks); // by the other copy
        claim(dir.path(), "MANIFEST.1", HEADERS_END, &end.to_le_bytes());
        match Reader::open(dir.path()) {
            Err(Error::Damaged { what, .. }) => assert!(what.contains("eras"), "{what}"),
            other => panic!("{:?}", other.map(|_| ())),
        }
        let report = check::verify(dir.path(), &mut |_, _| {}).unwrap();
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
        for copy in ["MANIFEST.0", "MANIFEST.1"] {
            fs::write(dir.path().join(copy), &found).unwrap();
        }
    }
    assert_stored(dir.path(), &blocks);
}
