//! era1 files: the bytes as they are, or entries that are compressed and indexed here so that what is inside them is reached.
#![no_main]

use std::io::Write;
use std::path::Path;

use alloy_primitives::U256;
use cairn::era1::{EraName, EraReader, EraWriter, MAGIC};
use cairn_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let form = input.byte() % 3;
    let file = match form {
        0 => input.0.to_vec(),
        1 => entries(&mut input),
        _ => blocks(&mut input),
    };
    let mut reader = EraReader::new(&file[..], "fuzz", None);
    let mut read = Vec::new();
    loop {
        match reader.next_block() {
            Ok(Some(block)) => read.push(block),
            Ok(None) => break,
            Err(error) => {
                assert!(form != 2, "what was written as a file is one: {error}");
                assert!(error.offset_bytes <= file.len() as u64);
                assert!(reader.summary().is_none() && !error.to_string().is_empty());
                return;
            }
        }
    }
    let summary = reader.summary().expect("read to its end");
    assert_eq!(
        (summary.blocks, summary.bytes),
        (read.len() as u64, file.len() as u64)
    );
    // Written again it is the same file, but for how it was compressed.
    let mut writer = EraWriter::new(Vec::new()).expect("memory");
    for block in &read {
        let of = (block.header.number(), block.header.hash);
        writer
            .block(
                of,
                &block.header.raw,
                &block.body,
                &block.receipts,
                block.td,
            )
            .expect("memory");
    }
    let (_, again) = writer.finish().expect("memory");
    assert_eq!(
        (again.root, again.first, again.blocks),
        (summary.root, summary.first, summary.blocks)
    );
    let name = summary.name("some-net");
    assert_eq!(EraName::of(Path::new(&name.to_string())), Some(name));
});

/// Entries of any type, each raw or as a framed snappy stream.
fn entries(input: &mut Input<'_>) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    while !input.is_empty() {
        let kind = input.of(&[3, 4, 5, 6, 7, 0x3266, 0x3265, 99_u16]);
        let packed = input.byte() % 4 != 0;
        let data = input.chunk();
        let data = if packed { pack(data) } else { data.to_vec() };
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&(data.len() as u32).to_le_bytes());
        file.extend_from_slice(&[0, 0]);
        file.extend_from_slice(&data);
    }
    file
}

fn pack(data: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(data).expect("memory");
    encoder.into_inner().expect("memory")
}

/// A whole file of blocks with these bodies and receipts.
fn blocks(input: &mut Input<'_>) -> Vec<u8> {
    let mut writer = EraWriter::new(Vec::new()).expect("memory");
    let mut parent = alloy_primitives::B256::ZERO;
    let mut td = U256::ZERO;
    for number in 0..1 + u64::from(input.byte() % 4) {
        let difficulty = U256::from(input.u16());
        let header = cairn::chain::SealedHeader::from_header(alloy_consensus::Header {
            number,
            parent_hash: parent,
            difficulty,
            extra_data: input.chunk().to_vec().into(),
            ..Default::default()
        });
        td += difficulty;
        parent = header.hash;
        let list =
            |bytes: &[u8]| alloy_rlp::encode(vec![alloy_primitives::Bytes::copy_from_slice(bytes)]);
        let (body, receipts) = (list(input.chunk()), list(input.chunk()));
        writer
            .block((number, header.hash), &header.raw, &body, &receipts, td)
            .expect("memory");
    }
    writer.finish().expect("memory").0
}
