//! Promise: a body's kept bytes are snappy elements that can be laid end to end in one wire message.
#![allow(clippy::unwrap_used)]

mod common;

use cairn_store::snappy;
use common::{chain, commit, create, extend};

#[test]
fn streams_laid_end_to_end_are_one_snappy_block() {
    let dir = tempfile::tempdir().unwrap();
    let mut blocks = chain(5, 0);
    extend(&mut blocks, 150, 0, 70_000);
    extend(&mut blocks, 20, 0, 50);
    extend(&mut blocks, 5, 0, 0);
    let mut writer = create(dir.path(), &blocks);
    // Some are cold and some are in the tip.
    commit(&mut writer, &blocks[1..156]).unwrap();
    commit(&mut writer, &blocks[156..]).unwrap();
    let snapshot = writer.reader().snapshot();
    assert!(snapshot.first_unsettled() > 5);
    let prefix = b"a message's prefix";
    let streams: Vec<_> = blocks
        .iter()
        .map(|block| snapshot.body_stream(block.number).unwrap().unwrap())
        .collect();
    let total = prefix.len() + streams.iter().map(|body| body.raw_len).sum::<usize>();
    let mut message = Vec::new();
    snappy::varint(&mut message, total as u64);
    snappy::literal(&mut message, prefix);
    for body in &streams {
        message.extend_from_slice(&body.stream);
    }
    let mut raw = prefix.to_vec();
    for (block, body) in blocks.iter().zip(&streams) {
        assert_eq!(body.raw_len, block.body.len());
        assert_eq!(
            snappy::decompress(body.raw_len, &body.stream).unwrap(),
            block.body
        );
        raw.extend_from_slice(&block.body);
    }
    assert_eq!(
        snap::raw::Decoder::new().decompress_vec(&message).unwrap(),
        raw
    );
    assert!(
        message.len() < raw.len() * 7 / 10,
        "{} of {}",
        message.len(),
        raw.len()
    );
    // What was handed out stays, whatever is committed since.
    let mut more = blocks.clone();
    extend(&mut more, 200, 0, 70_000);
    commit(&mut writer, &more[blocks.len()..]).unwrap();
    for (block, body) in blocks.iter().zip(&streams) {
        assert_eq!(
            snappy::decompress(body.raw_len, &body.stream).unwrap(),
            block.body
        );
    }
}

#[test]
fn empty_bodies_take_no_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = chain(3000, 0);
    let mut writer = create(dir.path(), &blocks);
    commit(&mut writer, &blocks[1..2000]).unwrap();
    commit(&mut writer, &blocks[2000..]).unwrap();
    assert!(writer.reader().snapshot().first_unsettled() > 1000);
    for entry in std::fs::read_dir(dir.path().join("bodies")).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().len(), 4096 + 16 * 8192);
    }
}
