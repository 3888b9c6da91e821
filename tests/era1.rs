//! era1 files of real networks, where CAIRN_DATA names them.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod chain_data;

use std::fs;

use cairn::chain::body;
use cairn::chain::receipts::{self, Form, Receipts};
use cairn::chain::{Genesis, Rules};
use cairn::era1::{EraReader, EraWriter, Summary};
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
        eprintln!(
            "{name}: {} bytes, ours {}, the same bytes: {}",
            summary.bytes,
            file.len(),
            file == fs::read(&path).unwrap()
        );
    }
}
