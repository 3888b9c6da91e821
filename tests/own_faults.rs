//! Faults of our own side: each ends with a clear error and status 1 or 2, and nothing is lost.
#![allow(clippy::unwrap_used)]
mod common;

use std::os::unix::fs::PermissionsExt as _;

use cairn::generate::Params;
use common::*;

#[test]
fn a_data_folder_of_another_genesis_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    run_ok(&["init", "--datadir", text(&data), "--sepolia"]);
    fails(
        &["init", "--datadir", text(&data), "--mainnet"],
        1,
        &[
            "was made for the chain with genesis",
            "0x25a5cc10",
            "0xd4e56740",
        ],
    );
    let chain = chain_file(dir.path(), &small());
    fails(
        &["init", "--datadir", text(&data), text(&chain.genesis)],
        1,
        &["0x25a5cc10"],
    );
    fails(
        &["--datadir", text(&data), "--mainnet"],
        1,
        &["was made for"],
    );
    // The same again is no fault.
    run_ok(&["init", "--datadir", text(&data), "--sepolia"]);
}

#[test]
fn a_data_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    let node = Node::start(&data, &[]);
    fails(
        &["--datadir", text(&data), "--port", "0"],
        1,
        &["another process"],
    );
    let file = dir.path().join("empty.rlp");
    std::fs::write(&file, b"").unwrap();
    fails(
        &["import", "--datadir", text(&data), text(&file)],
        1,
        &["another process"],
    );
    node.stop();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = dir.path().join("d");
    fails(
        &[
            "--datadir",
            text(&data),
            "--listen-addr",
            "127.0.0.1",
            "--port",
            &port,
        ],
        1,
        &[&port, "in use"],
    );
}

#[test]
fn wrong_usage_exits_with_two_and_says_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    let data = text(&data);
    fails(
        &[
            "--datadir",
            data,
            "--bootnodes",
            "enode://abcd@127.0.0.1:30303",
        ],
        2,
        &["--bootnodes", "128"],
    );
    fails(
        &["--datadir", data, "--bootnodes", "http://example.org"],
        2,
        &["--bootnodes", "enode://"],
    );
    fails(
        &[
            "--datadir",
            data,
            "--block-interval-ms",
            "1500",
            "--enable-consensus",
        ],
        2,
        &["whole seconds"],
    );
    fails(
        &[
            "--datadir",
            data,
            "--block-interval-ms",
            "0",
            "--enable-consensus",
        ],
        2,
        &["whole seconds"],
    );
    fails(&["--datadir", data, "--maxpeers", "0"], 2, &["--maxpeers"]);
    for threads in ["0", "65", "some"] {
        fails(
            &["--datadir", data, "--net-threads", threads],
            2,
            &["--net-threads"],
        );
    }
    fails(
        &["--datadir", data, "--trusted", "enode://abcd@127.0.0.1:1"],
        2,
        &["--trusted", "128"],
    );
    fails(&["--datadir", data, "--nonsense"], 2, &["--nonsense"]);
    fails(
        &[
            "--datadir",
            data,
            "--validator",
            "0x12",
            "--enable-consensus",
        ],
        2,
        &["--validator"],
    );
    fails(&["init", "--datadir", data], 2, &["which genesis"]);
    let wrong = "0x0000000000000000000000000000000000000001";
    fails(
        &[
            "--datadir",
            data,
            "--enable-consensus",
            "--validator",
            wrong,
        ],
        2,
        &[wrong, DEV_SIGNER],
    );
    assert!(!std::path::Path::new(data).exists(), "nothing was made");
}

#[test]
fn a_validator_needs_a_key_that_nobody_else_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    let chain = chain_file(
        dir.path(),
        &Params {
            signer_key: [7; 32],
            ..small()
        },
    );
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    fails(
        &["--datadir", text(&data), "--enable-consensus"],
        2,
        &["--signer-key"],
    );
    let key = dir.path().join("signer.key");
    fails(
        &[
            "--datadir",
            text(&data),
            "--enable-consensus",
            "--signer-key",
            text(&key),
        ],
        1,
        &["signer.key"],
    );
    std::fs::write(&key, "07".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    fails(
        &[
            "--datadir",
            text(&data),
            "--enable-consensus",
            "--signer-key",
            text(&key),
        ],
        1,
        &["chmod 600"],
    );
    std::fs::write(&key, "07".repeat(31)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    fails(
        &[
            "--datadir",
            text(&data),
            "--enable-consensus",
            "--signer-key",
            text(&key),
        ],
        1,
        &["64 hex digits"],
    );
    std::fs::write(&key, "07".repeat(32)).unwrap();
    let mut node = Node::start(
        &data,
        &[
            "--enable-consensus",
            "--signer-key",
            text(&key),
            "--block-interval-ms",
            "1000",
        ],
    );
    node.wait_head(1);
    node.stop();
}

#[test]
fn a_chain_without_clique_cannot_be_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    fails(
        &["--datadir", text(&data), "--sepolia", "--enable-consensus"],
        2,
        &["not a clique chain"],
    );
}

#[test]
fn a_node_key_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    run_ok(&["init", "--datadir", text(&data), "--sepolia"]);
    std::fs::write(data.join("nodekey"), "nonsense").unwrap();
    fails(
        &["--datadir", text(&data), "--port", "0"],
        1,
        &["nodekey", "64 hex digits"],
    );
    fails(
        &[
            "--datadir",
            text(&data),
            "--port",
            "0",
            "--nodekey",
            "/nonexistent/key",
        ],
        1,
        &["/nonexistent/key"],
    );
}

#[test]
fn a_genesis_that_cannot_be_used_is_refused_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    let file = dir.path().join("g.json");
    for bad in [
        "",
        "{",
        "[]",
        "{\"config\": 7}",
        "{\"config\":{\"chainId\":\"x\"}}",
    ] {
        std::fs::write(&file, bad).unwrap();
        fails(
            &["init", "--datadir", text(&data), text(&file)],
            1,
            &["g.json"],
        );
        assert!(!data.exists(), "{bad:?} made a folder");
    }
    fails(
        &["init", "--datadir", text(&data), "/nonexistent.json"],
        1,
        &["/nonexistent.json"],
    );
}

#[test]
fn the_data_folder_of_a_missing_genesis_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    let chain = chain_file(
        dir.path(),
        &Params {
            signer_key: [7; 32],
            ..small()
        },
    );
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    std::fs::remove_file(data.join("genesis.json")).unwrap();
    fails(
        &["--datadir", text(&data), "--port", "0"],
        1,
        &["genesis.json is missing"],
    );
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    Node::start(&data, &[]).stop();
}

#[test]
fn a_folder_whose_making_was_cut_short_is_made_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain_file(dir.path(), &small());
    let data = dir.path().join("d");
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    // As a power cut leaves it before the first manifest is whole.
    std::fs::write(data.join("blocks/MANIFEST.0"), b"").unwrap();
    std::fs::remove_file(data.join("blocks/MANIFEST.1")).unwrap();
    std::fs::remove_file(data.join("genesis.json")).unwrap();
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
    // Where there was a whole store, its damage is told and nothing is made over it.
    for name in ["MANIFEST.0", "MANIFEST.1"] {
        std::fs::write(data.join("blocks").join(name), b"").unwrap();
    }
    fails(
        &["init", "--datadir", text(&data), text(&chain.genesis)],
        1,
        &["MANIFEST"],
    );
    fails(&["--datadir", text(&data), "--port", "0"], 1, &["MANIFEST"]);
    assert!(
        data.join("blocks/headers").exists()
            || std::fs::read_dir(data.join("blocks")).unwrap().count() > 3
    );
}

/// Half-alive is worse than dead: who asks for a block that is damaged must not be told for ever that there is none.
#[test]
fn a_node_that_finds_its_blocks_damaged_stops_with_status_one_and_the_place() {
    let dir = tempfile::tempdir().unwrap();
    // Large enough to be settled into segments.
    let params = Params {
        blocks: 300,
        txs_per_block: 10,
        body_bytes: Some(40_000),
        ..small()
    };
    let chain = chain_file(dir.path(), &params);
    let (data, fresh) = (dir.path().join("d"), dir.path().join("fresh"));
    for folder in [&data, &fresh] {
        run_ok(&["init", "--datadir", text(folder), text(&chain.genesis)]);
    }
    run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
    let bodies = std::fs::read_dir(data.join("blocks/bodies"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = std::fs::read(&bodies).unwrap();
    bytes[1_000_000] ^= 1;
    std::fs::write(&bodies, &bytes).unwrap();
    let mut serving = Node::start(&data, &[]);
    let following = Node::start(&fresh, &["--bootnodes", &serving.enode]);
    let status = serving.child.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{}", serving.log());
    let log = serving.log();
    let last = log.lines().last().unwrap();
    assert!(
        last.contains("bodies/") && last.contains("the net thread ended the node"),
        "{last}"
    );
    following.stop();
    // What it got before is whole.
    assert_same_chain(&data, &fresh, 0);
}

/// Blocks that were acknowledged must not vanish silently because a bit of the only frame that holds them flipped.
#[test]
fn a_flipped_bit_in_the_first_frame_of_the_tip_is_damage_and_no_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain_file(dir.path(), &small());
    let data = dir.path().join("d");
    run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
    run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
    let tip = std::fs::read_dir(data.join("blocks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| text(path).contains("tip."))
        .unwrap();
    let whole = std::fs::read(&tip).unwrap();
    for at in [4096, 4104, 4200, 6000] {
        let mut bytes = whole.clone();
        bytes[at] ^= 8;
        std::fs::write(&tip, &bytes).unwrap();
        fails(
            &["--datadir", text(&data), "--port", "0"],
            1,
            &["tip.", "frame 0 does not verify"],
        );
    }
    std::fs::write(&tip, &whole).unwrap();
    assert_eq!(head(&data), 30);
}

#[test]
fn a_folder_with_a_genesis_file_and_no_store_is_made_for_that_genesis() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain_file(
        dir.path(),
        &Params {
            signer_key: [7; 32],
            ..small()
        },
    );
    let data = dir.path().join("d");
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(&chain.genesis, data.join("genesis.json")).unwrap();
    run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
    assert_eq!(head(&data), 30);
}
