//! Promise: a store of a newer format is not read if it says so, else only read; both versions are named.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use cairn_store::{Error, Reader, Writer, check};
use common::{assert_chain, chain, commit, create};

fn set_versions(dir: &Path, read: u16, write: u16) {
    for name in ["MANIFEST.0", "MANIFEST.1"] {
        let mut bytes = fs::read(dir.join(name)).unwrap();
        bytes[16..18].copy_from_slice(&read.to_le_bytes());
        bytes[18..20].copy_from_slice(&write.to_le_bytes());
        let crc = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        fs::write(dir.join(name), bytes).unwrap();
    }
}

#[test]
fn to_read_and_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(3, 100);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..]).unwrap();
    drop(writer);

    set_versions(dir.path(), 1, 7);
    assert_chain(&Reader::open(dir.path()).unwrap().snapshot(), &blocks);
    let error = Writer::open(dir.path()).err().unwrap();
    assert!(
        matches!(
            error,
            Error::Newer {
                found: 7,
                supported: 1,
                readable: true,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("version 7 to write, this program knows 1"),
        "{error}"
    );

    set_versions(dir.path(), 2, 7);
    let error = Reader::open(dir.path()).err().unwrap();
    assert!(
        matches!(
            error,
            Error::Newer {
                found: 2,
                supported: 1,
                readable: false,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        Writer::open(dir.path()).err().unwrap(),
        Error::Newer {
            readable: false,
            ..
        }
    ));
    assert!(matches!(
        check::verify(dir.path(), &mut |_, _| ()).unwrap_err(),
        Error::Newer { .. }
    ));
    let other = Writer::create(dir.path(), &blocks[0].genesis())
        .err()
        .unwrap();
    assert!(matches!(other, Error::Exists { .. }), "{other}");

    set_versions(dir.path(), 1, 1);
    Writer::open(dir.path()).unwrap();
}
