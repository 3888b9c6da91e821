//! What a file says of itself under a right checksum is still only a claim: numbers that cannot be are found, and cost neither
//! time nor memory. Found by the fuzz targets `store_*`.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use cairn_store::check;
use cairn_store::{Error, Reader};
use common::{Block, assert_stored, chain, commit, create};

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

/// Makes a store that has settled blocks, and gives all of its blocks.
fn settled(dir: &Path) -> Vec<Block> {
    let blocks = chain(2_200, 0);
    let mut writer = create(dir, &blocks);
    commit(&mut writer, &blocks[1..2_000]).unwrap();
    commit(&mut writer, &blocks[2_000..]).unwrap();
    blocks
}

fn put_back(dir: &Path, found: &[u8]) {
    for copy in ["MANIFEST.0", "MANIFEST.1"] {
        fs::write(dir.join(copy), found).unwrap();
    }
}

const SEQUENCE: usize = 24;
const HEADERS_END: usize = 160;

#[test]
fn a_manifest_of_more_blocks_than_it_has_eras_for_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = settled(dir.path());
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
        put_back(dir.path(), &found);
    }
    assert_stored(dir.path(), &blocks);
}

#[test]
fn a_manifest_whose_sequence_no_file_can_be_named_by_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(3, 0);
    drop(create(dir.path(), &blocks));
    for sequence in [1 << 32, u64::MAX] {
        let found = fs::read(dir.path().join("MANIFEST.0")).unwrap();
        for copy in ["MANIFEST.0", "MANIFEST.1"] {
            claim(dir.path(), copy, SEQUENCE, &sequence.to_le_bytes());
        }
        let report = check::verify(dir.path(), &mut |_, _| {}).unwrap();
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
        assert!(report.problems[0].what.contains("out of names"));
        assert!(Reader::open(dir.path()).is_err());
        put_back(dir.path(), &found);
    }
    assert_stored(dir.path(), &blocks[..1]);
}

const TABLE_START: usize = 4096;
const ENTRY_BYTES: usize = 16;
const DATA_START: usize = TABLE_START + 8192 * ENTRY_BYTES;

/// A reader gives no such header, so a store that has one is not sound.
#[test]
fn a_header_of_another_length_than_is_claimed_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = settled(dir.path());
    let mut files = fs::read_dir(dir.path().join("headers")).unwrap();
    let path = files.next().unwrap().unwrap().path();
    let found = fs::read(&path).unwrap();
    let kind = u32::from_le_bytes(found[12..16].try_into().unwrap());
    for claim in [0, 1, 1_000_000, u32::MAX] {
        let mut bytes = found.clone();
        let at = TABLE_START + 5 * ENTRY_BYTES;
        let end = |entry: usize| {
            DATA_START + u64::from_le_bytes(found[entry..entry + 8].try_into().unwrap()) as usize
        };
        let header = &found[end(at - ENTRY_BYTES)..end(at)];
        assert_eq!(header, &blocks[5].header[..]);
        let mut of = 5_u64.to_le_bytes().to_vec();
        of.extend(kind.to_le_bytes());
        of.extend(claim.to_le_bytes());
        of.extend(header);
        bytes[at + 8..at + 12].copy_from_slice(&claim.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&crc32fast::hash(&of).to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let report = check::verify(dir.path(), &mut |_, _| {}).unwrap();
        let what = format!(
            "block 5: {} bytes are kept of a record of {claim}",
            header.len()
        );
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
        assert_eq!(report.problems[0].what, what);
        let snapshot = Reader::open(dir.path()).unwrap().snapshot();
        assert!(snapshot.header(5).is_err());
    }
    fs::write(&path, found).unwrap();
    assert_stored(dir.path(), &blocks);
}

/// Bodies and receipts may be absent, headers not.
#[test]
fn a_header_of_no_bytes_is_found() {
    let dir = tempfile::tempdir().unwrap();
    settled(dir.path());
    let snapshot = Reader::open(dir.path()).unwrap().snapshot();
    let last = snapshot.first_unsettled() - 1;
    let mut files = fs::read_dir(dir.path().join("headers")).unwrap();
    let path = files.next().unwrap().unwrap().path();
    let mut bytes = fs::read(&path).unwrap();
    let kind = bytes[12..16].to_vec();
    let at = TABLE_START + last as usize * ENTRY_BYTES;
    let before: [u8; 8] = bytes[at - ENTRY_BYTES..][..8].try_into().unwrap();
    let mut of = last.to_le_bytes().to_vec();
    of.extend(kind);
    of.extend([0; 4]);
    bytes[at..at + 8].copy_from_slice(&before);
    bytes[at + 8..at + 12].fill(0);
    bytes[at + 12..at + 16].copy_from_slice(&crc32fast::hash(&of).to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let snapshot = Reader::open(dir.path()).unwrap().snapshot();
    assert!(snapshot.header(last).is_err());
    assert!(
        snapshot.hash(last - 1).is_err(),
        "it is what the header names"
    );
    let report = check::verify(dir.path(), &mut |_, _| {}).unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    let what = &report.problems[0].what;
    assert!(what.contains("not the RLP of a header"), "{what}");
}
