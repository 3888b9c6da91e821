//! The vectors of `net/vectors/eth.txt` by name.
#![allow(clippy::unwrap_used)]

use alloy_primitives::hex;
use bytes::Bytes;

const TEXT: &str = include_str!("../../vectors/eth.txt");

/// Each name with its bytes.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Bytes)> {
    let lines = TEXT
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let (name, digits) = line.split_once(' ').unwrap();
        (name, hex::decode(digits).unwrap().into())
    })
}

pub(super) fn vector(name: &str) -> Bytes {
    let found = all().find(|(found, _)| *found == name);
    found.unwrap_or_else(|| panic!("no vector named {name}")).1
}
