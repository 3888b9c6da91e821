//! `cairn network new`, and what the README that it writes says to do with it: the nodes start, seal in turn, stop and go on.
#![allow(clippy::unwrap_used)]
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use alloy_primitives::Address;
use cairn::chain::SealedHeader;
use cairn::keystore::KeyFile;
use cairn::secret::SigningKey;
use common::started::{Started, free_ports, new_network as new};
use common::*;

/// Who sealed the stored blocks from `first` on.
fn sealers(data: &Path, first: u64) -> BTreeSet<Address> {
    let chain = reader(data).snapshot();
    (first..=chain.head().number)
        .map(|number| {
            let raw = chain.header(number).unwrap().unwrap();
            let raw = bytes::Bytes::copy_from_slice(&raw);
            SealedHeader::decode(raw).unwrap().signer().unwrap()
        })
        .collect()
}

#[test]
fn a_new_network_starts_by_its_scripts_seals_in_turn_and_goes_on_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("network");
    let base_port = free_ports(4).to_string();
    let made = new(
        &out,
        &[
            "--signers",
            "3",
            "--followers",
            "1",
            "--period",
            "2",
            "--base-port",
            &base_port,
        ],
    );
    let nodes = made["nodes"].as_array().unwrap();
    let names: Vec<&str> = nodes.iter().map(|n| n["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["signer1", "signer2", "signer3", "follower1"]);
    let signers: BTreeSet<Address> = nodes
        .iter()
        .filter_map(|node| node["signer"].as_str()?.parse().ok())
        .collect();
    assert_eq!(signers.len(), 3);

    let mut least = 0;
    for run in 0..2 {
        let start = |name: &&str| Started::by_script(&out.join(name), run);
        let mut running: Vec<Started> = names.iter().map(start).collect();
        for node in &mut running {
            node.wait_head(least + 6);
        }
        let datadirs: Vec<PathBuf> = running.iter().map(Started::data).collect();
        // One that starts late leaves the first turns to the others.
        wait_until("each has sealed", || {
            sealers(&datadirs[3], least + 1) == signers
        });
        if run == 0 {
            let status = run_ok(&["clique", "status", "--datadir", text(&datadirs[3])]);
            let status = String::from_utf8(status.stdout).unwrap();
            assert!(status.contains("Signers   3, of which 2"), "{status}");
        }
        for node in running {
            node.stop();
        }
        for other in &datadirs[1..] {
            assert_same_chain(&datadirs[0], other, least + 5);
        }
        let chain = reader(&datadirs[3]).snapshot();
        assert_eq!(
            chain.genesis_hash().to_string(),
            made["genesis"].as_str().unwrap()
        );
        least = datadirs.iter().map(|data| head(data)).max().unwrap();
    }

    // Nobody seals within the hour, so they come to one head, whatever each had not heard of when it was stopped.
    let rest = ["--block-interval-ms", "3600000"];
    let start = |name: &&str| {
        let args = if *name == "follower1" { &[][..] } else { &rest };
        Started::by_script_with(&out.join(name), 2, args)
    };
    let resting: Vec<Started> = names.iter().map(start).collect();
    let datadirs: Vec<PathBuf> = resting.iter().map(Started::data).collect();
    let heads = || datadirs.iter().map(|data| reader(data).snapshot().head());
    let are_one = || heads().all(|head| head == heads().next().unwrap());
    let runs = |node: &Started| node.log().contains("self=enode://");
    wait_until("all run", || resting.iter().all(runs));
    wait_until("all have one head", are_one);
    for node in resting {
        node.stop();
    }
    assert!(are_one(), "{:?}", heads().collect::<Vec<_>>());
    for other in &datadirs[1..] {
        assert_same_chain(&datadirs[0], other, least - 1);
    }
}

#[test]
fn a_start_script_runs_the_program_that_made_it_where_there_is_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("network");
    let port = free_ports(1).to_string();
    new(&out, &["--signers", "1", "--base-port", &port]);
    let help = |more: &[(&str, &Path)]| {
        let mut command = std::process::Command::new("sh");
        let script = out.join("signer1/start.sh");
        command.arg(script).arg("--help").env_remove("CAIRN");
        more.iter().for_each(|(name, value)| {
            command.env(name, value);
        });
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(help(&[]).contains("--enable-consensus"));
    // One on the path goes first, and one that is named before all.
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for (name, says) in [("cairn", "on the path"), ("other", "named")] {
        let program = bin.join(name);
        fs::write(&program, format!("#!/bin/sh\necho {says}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", text(&bin), std::env::var("PATH").unwrap());
    let path = Path::new(&path);
    assert!(help(&[("PATH", path)]).contains("on the path"));
    let other = bin.join("other");
    assert!(help(&[("PATH", path), ("CAIRN", &other)]).contains("named"));
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// The one file in a node's keystore.
fn stored_key(folder: &Path) -> PathBuf {
    let files = files_below(&folder.join("data/keystore"));
    let [file] = &files[..] else {
        panic!("{files:?}");
    };
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("UTC--"), "{name}");
    file.clone()
}

/// A node's key, opened with the password beside it.
fn open(folder: &Path) -> SigningKey {
    let file = KeyFile::from_json(&fs::read(stored_key(folder)).unwrap()).unwrap();
    let password = fs::read(folder.join("password")).unwrap();
    file.unlock(&password).unwrap()
}

#[test]
fn a_raw_key_is_written_for_clients_that_take_no_keystore_and_its_node_seals_too() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("network");
    let port = free_ports(1).to_string();
    let made = new(
        &out,
        &[
            "--signers",
            "1",
            "--period",
            "1",
            "--raw-keys",
            "--base-port",
            &port,
        ],
    );
    let key = out.join("signer1/signer.key");
    assert_eq!((mode(&key), fs::read(&key).unwrap().len()), (0o600, 64));
    assert!(!out.join("signer1/password").exists());
    assert!(!out.join("signer1/data").exists());
    let readme = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(readme.contains("`signer.key` are secrets"), "{readme}");
    let mut node = Started::by_script(&out.join("signer1"), 0);
    node.wait_head(1);
    let data = node.data();
    node.stop();
    let signer = made["nodes"][0]["signer"].as_str().unwrap();
    assert_eq!(sealers(&data, 1), BTreeSet::from([signer.parse().unwrap()]));
}

#[test]
fn keys_are_their_owners_alone_and_no_two_networks_have_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = BTreeSet::new();
    for name in ["one", "two"] {
        let out = dir.path().join(name);
        let output = run_ok(&[
            "network",
            "new",
            "--signers",
            "2",
            "--followers",
            "1",
            "--out",
            text(&out),
        ]);
        let mut told =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        let readme = fs::read_to_string(out.join("README.md")).unwrap();
        // A second time it would land inside the folder of the first.
        assert!(readme.contains("cp -rT signer1 /var/lib/"), "{readme}");
        told += &readme;
        assert_eq!(mode(&out), 0o700);
        for node in ["signer1", "signer2", "follower1"] {
            let folder = out.join(node);
            assert_eq!(mode(&folder), 0o700);
            let genesis = fs::read(folder.join("genesis.json")).unwrap();
            assert_eq!(genesis, fs::read(out.join("genesis.json")).unwrap());
            let mut secrets = vec![(folder.join("nodekey"), 64)];
            let mut files = files_below(&folder);
            if node == "follower1" {
                assert!(!folder.join("data").exists() && !folder.join("password").exists());
            } else {
                let stored = stored_key(&folder);
                assert_eq!(mode(&stored), 0o600);
                assert_eq!(mode(&folder.join("data/keystore")), 0o700);
                secrets.push((folder.join("password"), 32));
                let opened = open(&folder);
                let script = fs::read_to_string(folder.join("start.sh")).unwrap();
                let flags = format!("--validator {} --password password", opened.address());
                assert!(script.contains(&flags), "{script}");
                assert!(seen.insert(opened.address().to_string()));
                assert!(files.contains(&stored));
            }
            for (key, digits) in secrets {
                assert_eq!(mode(&key), 0o600);
                let secret = fs::read_to_string(&key).unwrap();
                assert_eq!(secret.len(), digits);
                assert!(!told.contains(&secret));
                files.retain(|file| *file != key);
                for other in &files {
                    let holds = fs::read_to_string(other).unwrap().contains(&secret);
                    assert!(!holds, "{}", other.display());
                }
                assert!(seen.insert(secret), "a key that there was before");
            }
            let peers = fs::read_to_string(folder.join("peers")).unwrap();
            assert_eq!(peers.lines().count(), 2, "the others");
        }
    }
}

#[test]
fn a_folder_with_something_in_it_is_left_alone_and_a_run_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("network");
    fs::create_dir(&out).unwrap();
    new(&out, &["--signers", "1"]); // an empty one is taken
    let before = fs::read_to_string(out.join("signer1/password")).unwrap();
    fails(
        &["network", "new", "--out", text(&out)],
        1,
        &["there is something in it", "name another folder"],
    );
    assert_eq!(
        fs::read_to_string(out.join("signer1/password")).unwrap(),
        before
    );
    assert!(!out.join("signer2").exists());

    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    fails(
        &["network", "new", "--out", text(&file)],
        1,
        &["it is no folder"],
    );
    fails(
        &["network", "new", "--out", text(&file.join("below"))],
        1,
        &["file"],
    );
    let below = dir.path().join("below");
    fails(
        &["network", "new", "--signers", "0", "--out", text(&below)],
        2,
        &["--signers 0"],
    );
    fails(
        &["network", "new", "--hosts", "a b", "--out", text(&below)],
        2,
        &["--hosts"],
    );
    fails(&["network", "new", "--out", ".."], 2, &["--out .."]);
    let left: BTreeSet<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, BTreeSet::from(["file".into(), "network".into()]));
}

#[test]
fn nodes_on_machines_of_their_own_listen_there_and_know_each_other_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("network");
    let hosts = [
        "--hosts",
        "10.0.0.1,fd00::2,c.example",
        "--chain-id",
        "4242",
        "--epoch",
        "100",
    ];
    let made = new(&out, &hosts);
    assert_eq!(made["chain_id"], 4242);
    let peers = fs::read_to_string(out.join("signer1/peers")).unwrap();
    let peers: Vec<&str> = peers.lines().collect();
    assert!(peers[0].ends_with("@[fd00::2]:30303"), "{peers:?}");
    assert!(peers[1].ends_with("@c.example:30303"), "{peers:?}");
    for (name, listen) in [("signer1", "0.0.0.0"), ("signer2", "::")] {
        let script = fs::read_to_string(out.join(name).join("start.sh")).unwrap();
        assert!(
            script.contains(&format!("--listen-addr {listen} --port 30303")),
            "{script}"
        );
    }
    let unit = fs::read_to_string(out.join("signer3/cairn-4242-signer3.service")).unwrap();
    for line in [
        "DynamicUser=yes",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "Restart=on-failure",
        "MemoryMax=512M",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}: {unit}");
    }
    let genesis = genesis_of(&out.join("genesis.json"));
    assert!(genesis.warnings.is_empty(), "{:?}", genesis.warnings);
    let clique = genesis.spec.clique.unwrap();
    assert_eq!((clique.period_s, clique.epoch), (2, 100));
}
