//! Files that are not whole, not true or not what their name says, and files of ours read back.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use alloy_primitives::{B256, U256};

use super::*;
use crate::chain::receipts::{Form, NO_RECEIPTS, convert};
use crate::generate::{self, Params};

/// A block as it goes into a file and comes out of it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Plain {
    number: u64,
    hash: B256,
    header: Vec<u8>,
    body: Vec<u8>,
    receipts: Vec<u8>,
    td: U256,
}

/// The first blocks of a generated chain.
fn chain(blocks: u64) -> Vec<Plain> {
    let params = Params {
        blocks: blocks - 1,
        txs_per_block: 2,
        ..Params::default()
    };
    let (generated, blocks) = generate::blocks(&params);
    let genesis = generated.genesis;
    let mut chain = vec![Plain {
        number: 0,
        hash: genesis.header.hash,
        header: genesis.header.raw.to_vec(),
        body: genesis.body.to_vec(),
        receipts: NO_RECEIPTS.to_vec(),
        td: genesis.header.header.difficulty,
    }];
    chain.extend(blocks.map(|block| Plain {
        number: block.header.number(),
        hash: block.header.hash,
        header: block.header.raw.to_vec(),
        receipts: convert(Form::Eth69, Form::Eth68, &block.receipts).unwrap(),
        body: block.body,
        td: block.td,
    }));
    chain
}

fn write(blocks: &[Plain]) -> (Vec<u8>, Summary) {
    let mut writer = EraWriter::new(Vec::new()).unwrap();
    for block in blocks {
        let id = (block.number, block.hash);
        writer
            .block(id, &block.header, &block.body, &block.receipts, block.td)
            .unwrap();
    }
    let (file, summary) = writer.finish().unwrap();
    assert_eq!(summary.bytes, file.len() as u64);
    (file, summary)
}

fn read(file: &[u8], name: Option<EraName>) -> Result<(Vec<Plain>, Summary), Era1Error> {
    let mut reader = EraReader::new(file, "some.era1", name);
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block()? {
        blocks.push(Plain {
            number: block.header.number(),
            hash: block.header.hash,
            header: block.header.raw.to_vec(),
            body: block.body.to_vec(),
            receipts: block.receipts.to_vec(),
            td: block.td,
        });
    }
    assert!(reader.next_block().unwrap().is_none());
    Ok((blocks, reader.summary().unwrap().clone()))
}

fn fault(file: &[u8], name: Option<EraName>) -> Era1Error {
    read(file, name).err().unwrap()
}

/// Where the entries of a file begin, their type and their length.
fn entries(file: &[u8]) -> Vec<(usize, Kind, usize)> {
    let mut at = 0;
    let mut entries = Vec::new();
    while at < file.len() {
        let kind = Kind::of(u16::from_le_bytes([file[at], file[at + 1]]));
        let length = u32::from_le_bytes(file[at + 2..at + 6].try_into().unwrap()) as usize;
        entries.push((at, kind, length));
        at += 8 + length;
    }
    entries
}

#[test]
fn a_file_of_ours_is_read_back_as_it_was_written() {
    let blocks = chain(20);
    let (file, summary) = write(&blocks);
    assert_eq!(file[..8], MAGIC);
    let name = summary.name("dev");
    let (found, read) = read(&file, Some(name)).unwrap();
    assert_eq!((found, read), (blocks, summary));
}

#[test]
fn every_flipped_byte_is_found_or_changes_nothing() {
    let blocks = chain(3);
    let (file, summary) = write(&blocks);
    let name = summary.name("dev");
    let entries = entries(&file);
    const MASKS: [u8; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 255];
    let mut harmless = 0;
    for at in 0..file.len() {
        for mask in MASKS {
            let mut flipped = file.clone();
            flipped[at] ^= mask;
            match read(&flipped, Some(name.clone())) {
                // A copy of a run of equal bytes may come from another place in it.
                Ok((found, read)) => {
                    assert!(found == blocks && read == summary, "byte {at}");
                    harmless += 1;
                }
                Err(error) => {
                    let said = error.to_string();
                    assert!(said.starts_with("some.era1: byte "), "{said}");
                    // Told where it is: in the entry that holds the byte, or if its length or type is wrong, behind it at the latest.
                    let index = entries.partition_point(|(start, ..)| *start <= at) - 1;
                    let (start, ..) = entries[index];
                    let in_header = at < start + 8;
                    let is_there = error.offset_bytes == start as u64;
                    assert!(is_there || in_header, "byte {at}: {said}");
                    assert!(error.offset_bytes >= start as u64, "byte {at}: {said}");
                }
            }
        }
    }
    let all = file.len() * MASKS.len();
    assert!(harmless < all / 50, "{harmless} of {all} change nothing");
}

#[test]
fn a_file_cut_anywhere_is_truncated_at_the_entry_that_was_cut() {
    let (file, _) = write(&chain(2));
    let entries = entries(&file);
    for end in 0..file.len() {
        let error = fault(&file[..end], None);
        let index = entries.partition_point(|(start, _, length)| start + 8 + length <= end);
        let (start, kind, length) = entries[index];
        assert_eq!(
            (error.offset_bytes, error.entry),
            match index {
                // Without its first bytes nobody knows what it would have been.
                _ if end < start + 8 => (start as u64, error.entry),
                _ => (start as u64, kind),
            }
        );
        let Problem::Truncated {
            expected_bytes,
            found_bytes,
        } = *error.problem
        else {
            panic!("{end}: {error}");
        };
        assert_eq!(found_bytes, (end - start) as u64);
        let whole = if end < start + 8 { 8 } else { 8 + length };
        assert_eq!(expected_bytes, whole as u64);
        assert!(error.to_string().ends_with("truncated"), "{error}");
    }
}

#[test]
fn bodies_of_many_chunks_come_back_and_a_chunk_that_is_passed_over_is_missed() {
    let mut blocks = chain(1);
    let noise: Vec<u8> = (0..200_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut strings = Vec::new();
    alloy_rlp::Encodable::encode(&noise[..], &mut strings);
    let mut body = Vec::new();
    alloy_rlp::Header {
        list: true,
        payload_length: strings.len(),
    }
    .encode(&mut body);
    body.extend(strings);
    blocks[0].body = body;
    let (file, _) = write(&blocks);
    assert!(read(&file, None).unwrap().0 == blocks);
    let (at, kind, length) = entries(&file)[2];
    assert_eq!(kind, Kind::Body);
    let mut chunks = 0;
    let mut chunk = at + 8 + 10;
    while chunk < at + 8 + length {
        let mut flipped = file.clone();
        flipped[chunk] |= 0x80; // a type that may be skipped
        let error = fault(&flipped, None);
        assert_eq!(error.offset_bytes, at as u64, "{error}");
        assert!(error.to_string().contains("no RLP list"), "{error}");
        chunks += 1;
        let bytes = [file[chunk + 1], file[chunk + 2], file[chunk + 3], 0];
        chunk += 4 + u32::from_le_bytes(bytes) as usize;
    }
    assert_eq!(chunks, 4);
}

#[test]
fn what_the_name_says_must_be_inside() {
    let (file, summary) = write(&chain(2));
    let name = summary.name("dev");
    let said = |name| fault(&file, Some(name)).to_string();
    let other_era = EraName {
        era: 1,
        ..name.clone()
    };
    assert_eq!(
        said(other_era),
        "some.era1: byte 8, CompressedHeader: number: expected the first of era 1, as the file's name says, found 0"
    );
    let other_root = EraName {
        root: [1, 2, 3, 4],
        ..name
    };
    let said = said(other_root);
    assert!(
        said.contains(
            ", Accumulator: root: expected 0x01020304…, as the file's name says, found 0x"
        ),
        "{said}"
    );
}

#[test]
fn entries_of_other_types_have_room_before_the_accumulator_and_nowhere_else() {
    let blocks = chain(2);
    let (file, _) = write(&blocks);
    let other = [&Kind::Other(0x80).header(3)[..], b"abc"].concat();
    let with = |at: usize| [&file[..at], &other, &file[at..]].concat();
    for (at, kind, _) in entries(&file) {
        let file = with(at);
        match kind {
            Kind::Accumulator => {
                // The places in the index are those of a shorter file.
                let error = fault(&file, None);
                assert_eq!(error.entry, Kind::BlockIndex, "{error}");
                let mut moved = file.clone();
                let index = entries(&file).last().unwrap().0 + 16;
                for place in moved[index..].chunks_exact_mut(8).take(2) {
                    let before = i64::from_le_bytes(place.try_into().unwrap());
                    place.copy_from_slice(&(before - other.len() as i64).to_le_bytes());
                }
                assert_eq!(read(&moved, None).unwrap().0, blocks);
            }
            _ => {
                let error = fault(&file, None);
                assert_eq!(error.offset_bytes, at as u64, "{error}");
                assert!(
                    error.to_string().contains("entry of type 0x0080"),
                    "{error}"
                );
            }
        }
    }
    let error = fault(&with(file.len()), None);
    assert!(
        error.to_string().contains("what follows: expected the end"),
        "{error}"
    );
}

/// A file of these entries.
fn file(entries: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for (kind, data) in entries {
        file.extend(kind.header(data.len() as u32));
        file.extend(data);
    }
    file
}

fn packed(raw: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(raw).unwrap();
    encoder.into_inner().unwrap()
}

#[test]
fn blocks_that_do_not_hang_together_are_refused() {
    let chain = chain(4);
    let said = |blocks: &[&Plain], td: U256| {
        let mut list = vec![(Kind::Version, vec![])];
        for block in blocks {
            list.push((Kind::Header, packed(&block.header)));
            list.push((Kind::Body, packed(&block.body)));
            list.push((Kind::Receipts, packed(&block.receipts)));
            list.push((
                Kind::TotalDifficulty,
                (block.td + td).to_le_bytes::<32>().to_vec(),
            ));
        }
        fault(&file(&list), None).to_string()
    };
    let zero = U256::ZERO;
    let of = |what: &str, said: String| assert!(said.contains(what), "{what}: {said}");
    of(
        "number: expected the first of an era, a multiple of 8192, found 1",
        said(&[&chain[1]], zero),
    );
    of(
        "CompressedHeader of block 1: number: expected 1, found 2",
        said(&[&chain[0], &chain[2]], zero),
    );
    let mut stranger = chain[1].clone();
    let mut header = crate::chain::SealedHeader::decode(stranger.header.clone().into())
        .unwrap()
        .header;
    header.parent_hash = B256::repeat_byte(7);
    stranger.header = crate::chain::SealedHeader::from_header(header).raw.to_vec();
    of(
        "CompressedHeader of block 1: parentHash: expected 0x",
        said(&[&chain[0], &stranger], zero),
    );
    of(
        "TotalDifficulty of block 0: total difficulty: expected 1, found 2",
        said(&[&chain[0]], U256::from(1)),
    );
    let mut heavier = chain[1].clone();
    heavier.td += U256::from(5);
    of(
        "TotalDifficulty of block 1: total difficulty: expected 3, found 8",
        said(&[&chain[0], &heavier], zero),
    );
    of(
        "Accumulator: expected 8 bytes, found the end of the file",
        said(&[&chain[0]], zero),
    );
}

#[test]
fn lengths_that_are_only_claimed_are_neither_allocated_nor_believed() {
    let version = (Kind::Version, vec![]);
    let claim = [
        &file(std::slice::from_ref(&version))[..],
        &Kind::Header.header(u32::MAX),
        &packed(b"x"),
    ]
    .concat();
    let error = fault(&claim, None);
    assert!(
        matches!(*error.problem, Problem::Truncated { expected_bytes, .. } if expected_bytes > 1 << 31),
        "{error}"
    );
    // Zeros pack 21 times: a header that would be longer than any is not read on.
    let bomb = packed(&vec![0; HEADER_LIMIT_BYTES as usize + 1]);
    let error = fault(&file(&[version.clone(), (Kind::Header, bomb)]), None);
    assert!(
        error
            .to_string()
            .contains("length uncompressed: expected at most 1048576 bytes, found more"),
        "{error}"
    );
    let error = fault(&file(&[version, (Kind::Header, vec![0xff; 9])]), None);
    assert!(
        error
            .to_string()
            .contains("snappy stream identifier: expected ff0600"),
        "{error}"
    );
    let error = fault(b"\xf9\x02\x00 no era file", None);
    assert!(
        error
            .to_string()
            .starts_with("some.era1: byte 0, Version: "),
        "{error}"
    );
}

#[test]
fn the_name_of_a_file_is_made_of_its_content() {
    let (_, summary) = write(&chain(2));
    let name = summary.name("dev");
    assert_eq!((&name.network[..], name.era), ("dev", 0));
    assert_eq!(name.root, summary.root[..4]);
    let written = name.to_string();
    assert_eq!(EraName::of(Path::new(&written)), Some(name));
}
