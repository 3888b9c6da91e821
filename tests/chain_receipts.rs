//! Receipts of mainnet blocks of every fork in both forms. Needs the data folder that CAIRN_DATA names.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod chain_data;

use std::fs;

use cairn::chain::{Genesis, Rules, body, receipts};
use chain_data::{blocks, data};
use receipts::{Form, Receipts};

/// Checks every block's receipts in both forms, however the file has them, and gives how many receipts that were.
fn check(name: &str, form: Form) -> Option<usize> {
    let eth = match form {
        Form::Eth68 => "eth68",
        Form::Eth69 => "eth69",
    };
    let lists = fs::read(data(&format!("mainnet/{name}.receipts-{eth}.rlp"))?).unwrap();
    let blocks = blocks(&data(&format!("mainnet/{name}.blocks.rlp"))?);
    let rules = Rules::new(&Genesis::mainnet());
    let mut rest = &lists[..];
    let mut count = 0;
    for block in &blocks {
        let raw = body::next_block(&mut rest).unwrap().unwrap();
        let found = Receipts::decode(form, raw).unwrap();
        rules.check_receipts(&block.header, &found).unwrap();
        assert_eq!(found.len(), body::transactions(&block.body).count());
        count += found.len();
        for other in [Form::Eth68, Form::Eth69] {
            let encoded = found.encode(other);
            let again = Receipts::decode(other, &encoded).unwrap();
            rules.check_receipts(&block.header, &again).unwrap();
            assert_eq!(again.encode(form), raw, "block {}", block.header.number());
        }
    }
    assert!(rest.is_empty(), "a list of receipts for each block");
    Some(count)
}

#[test]
fn the_receipts_of_every_mainnet_file_have_their_headers_roots_in_both_forms() {
    let files = [
        ("firehose-17686110-17686312", Form::Eth68, 4637),
        ("fluffy-mainnet", Form::Eth68, 116),
        ("mainnet-fork-blocks", Form::Eth68, 1686),
        ("mainnet-fork-blocks", Form::Eth69, 1686),
    ];
    for (name, form, receipts) in files {
        let Some(count) = check(name, form) else {
            return;
        };
        assert_eq!(count, receipts, "{name} {form:?}");
    }
}

#[test]
fn the_two_files_of_the_same_blocks_are_made_of_each_other() {
    let read = |eth: &str| {
        let path = data(&format!("mainnet/mainnet-fork-blocks.receipts-{eth}.rlp"))?;
        Some(fs::read(path).unwrap())
    };
    let (Some(eth68), Some(eth69)) = (read("eth68"), read("eth69")) else {
        return;
    };
    let convert = |from, to, file: &[u8]| {
        let (mut rest, mut out) = (file, Vec::new());
        while let Some(list) = body::next_block(&mut rest).unwrap() {
            out.extend(receipts::convert(from, to, list).unwrap());
        }
        out
    };
    assert!(convert(Form::Eth68, Form::Eth69, &eth68) == eth69);
    assert!(convert(Form::Eth69, Form::Eth68, &eth69) == eth68);
}
