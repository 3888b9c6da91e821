//! era1 files through the whole program: imported, served to a peer in both forms of receipts, exported, refused.
#![allow(clippy::unwrap_used)]
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use alloy_primitives::B256;
use bytes::Bytes;
use cairn::chain::receipts::{Form, NO_RECEIPTS, Receipts, convert};
use cairn::chain::{Genesis, Rules};
use cairn::datadir::DataDir;
use cairn::era1::{EraName, EraReader, EraWriter, network};
use cairn::generate::{self, Params};
use cairn_net::eth::message::{Message, Request};
use cairn_store::{Head, Writer};
use common::peer::Peer;
use common::*;

const ERA: u64 = 8192;
/// Blocks above the era: enough for the store to settle all of it.
const MORE: u64 = 1100;

/// A generated chain of one era and a little more: its genesis file, its era1 file, and a file of all its blocks in RLP.
struct Generated {
    genesis: PathBuf,
    era: PathBuf,
    blocks: PathBuf,
}

fn generated(dir: &Path) -> Generated {
    let params = Params {
        blocks: ERA + MORE,
        txs_per_block: 1,
        body_bytes: Some(120),
        ..Params::default()
    };
    let (generated, blocks) = generate::blocks(&params);
    let genesis = &generated.genesis;
    let mut writer = EraWriter::new(Vec::new()).unwrap();
    let header = &genesis.header;
    let difficulty = header.header.difficulty;
    writer
        .block(
            (0, header.hash),
            &header.raw,
            &genesis.body,
            NO_RECEIPTS,
            difficulty,
        )
        .unwrap();
    let mut rlp = Vec::new();
    for block in blocks {
        let header = &block.header;
        rlp.extend(cairn::chain::body::join_block(&header.raw, &block.body).unwrap());
        if header.number() < ERA {
            let receipts = convert(Form::Eth69, Form::Eth68, &block.receipts).unwrap();
            let id = (header.number(), header.hash);
            writer
                .block(id, &header.raw, &block.body, &receipts, block.td)
                .unwrap();
        }
    }
    let (bytes, summary) = writer.finish().unwrap();
    let era = dir.join(summary.name(&network(genesis)).to_string());
    fs::write(&era, bytes).unwrap();
    let genesis = dir.join("genesis.json");
    fs::write(&genesis, &generated.genesis_json).unwrap();
    let blocks = dir.join("chain.rlp");
    fs::write(&blocks, rlp).unwrap();
    Generated {
        genesis,
        era,
        blocks,
    }
}

fn json(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn import(folder: &Path, file: &Path) -> serde_json::Value {
    json(&run_ok(&[
        "import",
        "--json",
        "--datadir",
        text(folder),
        text(file),
    ]))
}

fn refused(folder: &Path, file: &Path) -> String {
    let output = run(&[
        "import",
        "--verbosity",
        "1",
        "--datadir",
        text(folder),
        text(file),
    ]);
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    stderr(&output)
}

fn receipts(peer: &mut Peer, hashes: Vec<B256>) -> Vec<Bytes> {
    match peer.ask(&Request::Receipts {
        hashes,
        first_index: 0,
    }) {
        Message::Receipts { blocks, .. } => blocks,
        other => panic!("{other:?}"),
    }
}

/// Asks the node for the receipts of every block of the file, in all forms, and checks all that come.
fn ask_for_all(node: &Node, genesis: &Genesis, era: &Path) {
    let mut file = EraReader::open(era).unwrap();
    let mut blocks = Vec::new();
    while let Some(block) = file.next_block().unwrap() {
        blocks.push((block.header, block.receipts));
    }
    let rules = Rules::new(genesis);
    for (eth, form) in [(68, Form::Eth68), (69, Form::Eth69), (71, Form::Eth69)] {
        let mut peer = Peer::dial(node, genesis, eth);
        let mut next = 0;
        while next < blocks.len() {
            let asked = &blocks[next..blocks.len().min(next + 1024)];
            let hashes = asked.iter().map(|(header, _)| header.hash).collect();
            let answer = receipts(&mut peer, hashes);
            assert!(!answer.is_empty());
            for ((header, expected), found) in asked.iter().zip(&answer) {
                let receipts = Receipts::decode(form, found).unwrap();
                rules.check_receipts(header, &receipts).unwrap();
                assert_eq!(receipts.encode(Form::Eth68), *expected);
            }
            next += answer.len();
        }
        // What is not there ends the answer.
        let known = blocks[1].0.hash;
        let answer = receipts(&mut peer, vec![known, B256::repeat_byte(3), known]);
        assert_eq!(answer.len(), 1);
    }
}

#[test]
fn an_era_is_imported_served_with_its_receipts_and_exported_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let Generated {
        genesis,
        era,
        blocks,
    } = generated(dir.path());
    let folder = dir.path().join("node");
    run_ok(&["init", "--datadir", text(&folder), text(&genesis)]);
    let report = import(&folder, &era);
    assert_eq!(report["blocks"], 8191);
    assert_eq!(report["receipts"], 8192);
    let summary_root = report["accumulator"].as_str().unwrap();
    assert!(text(&era).contains(&summary_root[2..10]));
    // Once more changes nothing; the rest of the chain comes without receipts.
    let again = import(&folder, &era);
    assert_eq!(
        (again["blocks"].as_u64(), again["known"].as_u64()),
        (Some(0), Some(8192))
    );
    assert_eq!(import(&folder, &blocks)["blocks"], MORE + 1);

    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    run_ok(&[
        "export",
        "--format",
        "era1",
        "--datadir",
        text(&folder),
        text(&out),
    ]);
    let exported = out.join(era.file_name().unwrap());
    assert!(fs::read(&exported).unwrap() == fs::read(&era).unwrap());
    let one = dir.path().join("one.era1");
    run_ok(&[
        "export",
        "--datadir",
        text(&folder),
        text(&one),
        "0",
        "8191",
    ]);
    assert!(fs::read(&one).unwrap() == fs::read(&era).unwrap());

    let genesis = genesis_of(&genesis);
    let node = Node::start(&folder, &[]);
    ask_for_all(&node, &genesis, &era);
    // Blocks above the era have none stored.
    let snapshot = reader(&folder).snapshot();
    let hashes = (ERA - 2..ERA + 3).map(|n| snapshot.hash(n).unwrap().unwrap());
    let answer = receipts(&mut Peer::dial(&node, &genesis, 69), hashes.collect());
    assert_eq!(answer.len(), 2);
    node.stop();
}

#[test]
fn receipts_come_late_where_the_blocks_are_there_without() {
    let dir = tempfile::tempdir().unwrap();
    let Generated {
        genesis,
        era,
        blocks,
    } = generated(dir.path());
    let folder = dir.path().join("node");
    run_ok(&["init", "--datadir", text(&folder), text(&genesis)]);
    assert_eq!(import(&folder, &blocks)["receipts"], 0);
    let out = dir.path().join("out.era1");
    let export = ["export", "--datadir", text(&folder), text(&out)];
    let output = run(&export);
    assert_eq!(status(&output), 1);
    assert!(
        stderr(&output).contains("the receipts of block 1 are not stored"),
        "{}",
        stderr(&output)
    );
    assert!(!out.exists());
    let report = import(&folder, &era);
    assert_eq!(
        (report["known"].as_u64(), report["receipts"].as_u64()),
        (Some(8192), Some(8192))
    );
    run_ok(&export);
    assert!(fs::read(&out).unwrap() == fs::read(&era).unwrap());
}

#[test]
fn an_era_that_leaves_a_lighter_chain_takes_its_place_with_its_receipts() {
    let dir = tempfile::tempdir().unwrap();
    let Generated { genesis, era, .. } = generated(dir.path());
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let params = Params {
        blocks: 300,
        seed: 9,
        ..Params::default()
    };
    let lighter = chain_file(&other, &params);
    let folder = dir.path().join("node");
    run_ok(&["init", "--datadir", text(&folder), text(&genesis)]);
    import(&folder, &lighter.blocks);
    // Its name is right, its end is missing: nothing of it is looked at.
    let bad = dir.path().join("bad").join(era.file_name().unwrap());
    fs::create_dir(bad.parent().unwrap()).unwrap();
    let bytes = fs::read(&era).unwrap();
    fs::write(&bad, &bytes[..bytes.len() - 9]).unwrap();
    refused(&folder, &bad);
    assert_eq!(head(&folder), 300);

    let report = import(&folder, &era);
    assert_eq!(report["branch"]["canonical"], true);
    assert_eq!(report["branch"]["stored"]["blocks"], 300);
    // Genesis is in both, and gets its receipts too.
    assert_eq!(
        (&report["known"], &report["receipts"]),
        (&1.into(), &8192.into())
    );
    let out = dir.path().join("out.era1");
    run_ok(&["export", "--datadir", text(&folder), text(&out)]);
    assert!(fs::read(&out).unwrap() == bytes);
    let verified = cairn_store::check::verify(&folder.join("blocks"), &mut |_, _| {}).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    let report = import(&folder, &lighter.blocks);
    assert_eq!(report["branch"]["canonical"], false);
    assert_eq!(head(&folder), ERA - 1);
}

#[test]
fn what_is_cut_flipped_or_misnamed_is_refused_with_its_place_and_nothing_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let Generated { genesis, era, .. } = generated(dir.path());
    let folder = dir.path().join("node");
    run_ok(&["init", "--datadir", text(&folder), text(&genesis)]);
    let bytes = fs::read(&era).unwrap();
    let name = EraName::of(&era).unwrap();
    let bad = |name: &EraName, bytes: &[u8]| {
        let path = dir.path().join("bad").join(name.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let said = refused(&folder, &path);
        fs::remove_file(&path).unwrap();
        assert_eq!(head(&folder), 0, "{said}");
        assert!(said.contains(&name.to_string()), "{said}");
        said
    };
    let said = bad(&name, &bytes[..bytes.len() / 2]);
    assert!(
        said.contains(": byte ") && said.contains("truncated"),
        "{said}"
    );
    let mut flipped = bytes.clone();
    let middle = bytes.len() / 2;
    flipped[middle] ^= 4;
    let said = bad(&name, &flipped);
    assert!(
        said.contains(": byte ") && said.contains(" of block "),
        "{said}"
    );
    let said = bad(
        &EraName {
            era: 3,
            ..name.clone()
        },
        &bytes,
    );
    assert!(
        said.contains("byte 8, CompressedHeader: number: expected the first of era 3"),
        "{said}"
    );
    let said = bad(
        &EraName {
            root: [0; 4],
            ..name.clone()
        },
        &bytes,
    );
    assert!(
        said.contains("Accumulator: root: expected 0x00000000…"),
        "{said}"
    );
    let said = bad(
        &EraName {
            network: "mainnet".into(),
            ..name
        },
        &bytes,
    );
    assert!(
        said.contains("the file's name says mainnet, but the data folder is of chain1337"),
        "{said}"
    );
}

#[test]
fn wishes_that_era1_cannot_fulfil_are_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let params = Params {
        blocks: 20,
        ..Params::default()
    };
    let chain = chain_file(dir.path(), &params);
    let folder = dir.path().join("node");
    run_ok(&["init", "--datadir", text(&folder), text(&chain.genesis)]);
    import(&folder, &chain.blocks);
    let file = dir.path().join("x.era1");
    for (range, expected) in [
        (&[][..], "is not whole before block 8191"),
        (&["5"], "FIRST 5 begins no era"),
        (
            &["0", "19"],
            "LAST 19 ends no era: eras of 8192 blocks end at 8191",
        ),
        (&["0", "8191"], "LAST 8191 is above block 20, the head"),
    ] {
        let mut args = vec!["export", "--datadir", text(&folder), text(&file)];
        args.extend(range);
        let output = run(&args);
        assert_eq!(status(&output), 2, "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(!file.exists());
    }
}

#[test]
fn what_was_pruned_comes_back_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let Generated {
        genesis,
        era,
        blocks,
    } = generated(dir.path());
    let folder = dir.path().join("node");
    run_ok(&["init", "--datadir", text(&folder), text(&genesis)]);
    import(&folder, &era);
    import(&folder, &blocks);
    let mut writer = Writer::open(&folder.join("blocks")).unwrap();
    assert_eq!(writer.expire(ERA).unwrap(), ERA);
    drop(writer);
    assert!(reader(&folder).snapshot().body(5).unwrap().is_none());
    // The blocks alone are known by their headers, and do not come back.
    assert_eq!(import(&folder, &blocks)["blocks"], 0);
    let report = import(&folder, &era);
    assert_eq!(
        (&report["blocks"], &report["receipts"]),
        (&8192.into(), &8192.into())
    );
    assert_eq!(reader(&folder).snapshot().first_body(), 0);
    let out = dir.path().join("out.era1");
    run_ok(&["export", "--datadir", text(&folder), text(&out)]);
    assert!(fs::read(&out).unwrap() == fs::read(&era).unwrap());
}

#[test]
fn a_folder_that_begins_above_genesis_takes_older_files_below() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("node");
    let era = data.join("era1/sepolia-00000-643a00f7.era1");
    let mut file = EraReader::open(&era).unwrap();
    let mut last = None;
    while let Some(block) = file.next_block().unwrap() {
        last = Some(block);
    }
    let last = last.unwrap();
    let head = Head {
        number: last.header.number(),
        hash: last.header.hash,
        td: last.td,
    };
    let other = Head {
        td: last.td + last.td,
        ..head
    };
    let wrong = dir.path().join("wrong");
    let above = |folder: &Path, head| DataDir::new(folder).init_above(&Genesis::sepolia(), head);
    above(&wrong, other).unwrap();
    let said = refused(&wrong, &era);
    assert!(said.contains("of total difficulty"), "{said}");
    above(&folder, head).unwrap();
    let said = refused(&folder, &data.join("era1/mainnet-00000-5ec1ffb8.era1"));
    assert!(said.contains("says mainnet"), "{said}");
    assert_eq!(import(&folder, &era)["receipts"], 8192);
    run_ok(&[
        "export",
        "--format",
        "era1",
        "--datadir",
        text(&folder),
        text(dir.path()),
    ]);
    let out = dir.path().join("sepolia-00000-643a00f7.era1");
    assert!(fs::read(&out).unwrap() == fs::read(&era).unwrap());
}

#[test]
fn real_files_are_imported_served_and_exported_byte_for_byte() {
    let Some(data) = data() else { return };
    for (name, flag, genesis) in [
        (
            "mainnet-00000-5ec1ffb8.era1",
            "--mainnet",
            Genesis::mainnet(),
        ),
        (
            "sepolia-00000-643a00f7.era1",
            "--sepolia",
            Genesis::sepolia(),
        ),
        (
            "sepolia-00021-b8814b14.era1",
            "--sepolia",
            Genesis::sepolia(),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let era = data.join("era1").join(name);
        let folder = dir.path().join("node");
        run_ok(&["import", flag, "--datadir", text(&folder), text(&era)]);
        let verified = cairn_store::check::verify(&folder.join("blocks"), &mut |_, _| {}).unwrap();
        assert!(verified.is_sound());
        assert_eq!(verified.receipts, 8192);
        run_ok(&[
            "export",
            "--format",
            "era1",
            "--datadir",
            text(&folder),
            text(dir.path()),
        ]);
        assert!(
            fs::read(dir.path().join(name)).unwrap() == fs::read(&era).unwrap(),
            "{name}"
        );
        let node = Node::start(&folder, &[]);
        ask_for_all(&node, &genesis, &era);
        node.stop();
    }
}
