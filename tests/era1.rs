//! era1 files of real networks, where CAIRN_DATA names them.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod chain_data;

use std::fs;

use cairn::chain::body;
use cairn::chain::receipts::{self, Form, Receipts};
use cairn::chain::{Genesis, Rules};
use cairn::era1::{Era1Error, EraName, EraReader, EraWriter, Summary};
use chain_data::data;

/// The real files, their genesis, and how many transactions they hold.
fn files() -> [(&'static str, Genesis, usize); 3] {
    [
        ("mainnet-00000-5ec1ffb8.era1", Genesis::mainnet(), 0),
        ("sepolia-00000-643a00f7.era1", Genesis::sepolia(), 0),
        ("sepolia-00021-b8814b14.era1", Genesis::sepolia(), 93),
    ]
}

#[test]
fn real_files_are_whole_and_come_out_as_they_were() {
    for (name, genesis, transactions) in files() {
        let Some(path) = data(&format!("era1/{name}")) else {
            return;
        };
        let rules = Rules::new(&genesis);
        let mut reader = EraReader::open(&path).unwrap();
        let mut writer = EraWriter::new(Vec::new()).unwrap();
        let mut found = 0;
        while let Some(block) = reader.next_block().unwrap() {
            let number = block.header.number();
            rules.check_body(&block.header, &block.body).unwrap();
            let list = Receipts::decode(Form::Eth68, &block.receipts).unwrap();
            rules.check_receipts(&block.header, &list).unwrap();
            let eth69 = list.encode(Form::Eth69);
            let again = receipts::convert(Form::Eth69, Form::Eth68, &eth69).unwrap();
            assert_eq!(again, block.receipts, "{name}: block {number}");
            found += body::transactions(&block.body).count();
            let id = (number, block.header.hash);
            writer
                .block(id, &block.header.raw, &block.body, &again, block.td)
                .unwrap();
        }
        let summary = reader.summary().unwrap().clone();
        assert_eq!(found, transactions, "{name}");
        assert_eq!(summary.blocks, 8192);
        let network = name.split('-').next().unwrap();
        assert_eq!(summary.name(network).to_string(), name);
        let (file, written) = writer.finish().unwrap();
        assert_eq!(
            written,
            Summary {
                bytes: written.bytes,
                ..summary
            }
        );
        // The compressor is not the one that made them, but of the same design.
        assert!(file == fs::read(&path).unwrap(), "{name} came back changed");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_real_file_is_found_or_changes_nothing() {
    const FLIPS: usize = 24;
    let (name, ..) = files()[2];
    let Some(path) = data(&format!("era1/{name}")) else {
        return;
    };
    let bytes = fs::read(&path).unwrap();
    let headers = |bytes: &[u8]| {
        let mut reader = EraReader::new(bytes, name, EraName::of(&path));
        let mut all = Vec::new();
        while let Some(block) = reader.next_block()? {
            all.push((block.header.raw, block.body, block.receipts, block.td));
        }
        Ok::<_, Era1Error>(all)
    };
    let expected = headers(&bytes).unwrap();
    let mut found = 0;
    for flip in 0..FLIPS {
        let mut flipped = bytes.clone();
        // Spread by the golden ratio.
        let at = (flip + 1) * 2_654_435_769 % bytes.len();
        flipped[at] ^= 1 << (flip % 8);
        match headers(&flipped) {
            Ok(same) => assert!(same == expected, "byte {at}"),
            Err(error) => {
                let start = error.offset_bytes as usize;
                assert!(start <= at && at - start < 70_000, "byte {at}: {error}");
                found += 1;
            }
        }
    }
    assert!(found > FLIPS / 2, "{found}");
}
