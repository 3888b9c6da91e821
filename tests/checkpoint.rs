//! Beginning at a trusted checkpoint, with real processes: what one node prints another begins at, follows from there, seals on, and is cut
//! short without harm.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "network/chain.rs"]
#[allow(dead_code, unreachable_pub)]
mod chain;
mod common;

use std::path::Path;
use std::time::Duration;

use cairn::chain::Genesis;
use cairn::datadir::DataDir;
use cairn::generate::{self, Generated, Params};
use cairn_store::{Head, NewBlock, Reader, Writer};
use common::*;
use rustix::process::{Pid, Signal, kill_process};

const ERA: u64 = 8192;
/// Past a checkpoint (every 200 blocks) in the second era, and some blocks that are settled on it.
const LAST: u64 = 8420;
const CHECKPOINT: u64 = 8400;

struct Given {
    dir: tempfile::TempDir,
    source: Node,
    /// What it prints.
    checkpoint: String,
    chain: chain::Chain,
}

impl Given {
    /// What has a node begin there.
    fn args(&self) -> [&str; 4] {
        let (source, checkpoint) = (&self.source.enode, &self.checkpoint);
        ["--bootnodes", source, "--checkpoint", checkpoint]
    }
}

/// A node of three signers' chain.
fn given() -> Given {
    let dir = tempfile::tempdir().unwrap();
    let params = Params {
        blocks: LAST,
        txs_per_block: 1,
        ..Params::default()
    };
    let chain = chain::write(dir.path(), 3, &params);
    let source = dir.path().join("source");
    init(&source, &chain);
    run_ok(&["import", text(&chain.blocks), "--datadir", text(&source)]);
    let source = Node::start(&source, &[]);
    let printed = run_ok(&["clique", "checkpoint", "--datadir", text(&source.datadir)]);
    let checkpoint = String::from_utf8(printed.stdout).unwrap().trim().to_owned();
    let hash = reader(&source.datadir)
        .snapshot()
        .hash(CHECKPOINT)
        .unwrap()
        .unwrap();
    assert_eq!(
        checkpoint,
        format!("{CHECKPOINT}:{hash}:{}", 1 + 2 * CHECKPOINT)
    );
    Given {
        dir,
        source,
        checkpoint,
        chain,
    }
}

fn init(datadir: &Path, chain: &chain::Chain) {
    run_ok(&["init", text(&chain.genesis), "--datadir", text(datadir)]);
}

/// It has what the source has, from the second era on.
fn assert_begun(given: &Given, datadir: &Path) {
    let (left, right) = (reader(&given.source.datadir), reader(datadir));
    let (left, right) = (left.snapshot(), right.snapshot());
    assert_eq!((right.first_header(), right.head()), (ERA, left.head()));
    for number in ERA..=LAST {
        assert_eq!(left.hash(number).unwrap(), right.hash(number).unwrap());
        assert_eq!(left.td(number).unwrap(), right.td(number).unwrap());
        assert_eq!(left.body(number).unwrap(), right.body(number).unwrap());
    }
}

#[test]
fn a_node_begins_at_the_checkpoint_that_another_prints_and_follows_from_there() {
    let given = given();
    let datadir = given.dir.path().join("new");
    init(&datadir, &given.chain);
    let args = given.args();
    let mut node = Node::start(&datadir, &args);
    node.wait_log("Begun at the trusted checkpoint");
    node.wait_head(LAST);
    assert_begun(&given, &datadir);
    node.stop();
    // The next start needs nobody, with the checkpoint or without.
    for args in [&["--checkpoint", &given.checkpoint][..], &[]] {
        let node = Node::start(&datadir, args);
        assert!(!node.log().contains("Beginning"), "{}", node.log());
        let printed = run_ok(&["clique", "checkpoint", "--datadir", text(&datadir)]);
        assert_eq!(
            String::from_utf8_lossy(&printed.stdout).trim(),
            given.checkpoint
        );
        let signers = |datadir| run_ok(&["clique", "signers", "--datadir", text(datadir)]).stdout;
        assert_eq!(signers(&datadir), signers(&given.source.datadir));
        node.stop();
    }
    // Another chain's, and one that the folder contradicts.
    let (_, of) = given.checkpoint.split_once(':').unwrap();
    let other = format!("8200:{of}");
    let td_is_wrong = ["--datadir", text(&datadir), "--checkpoint", &other];
    fails(
        &td_is_wrong,
        2,
        &[
            "--checkpoint 8200:",
            "total difficulty of block 8200 is between",
        ],
    );
    let (_, td) = of.split_once(':').unwrap();
    let other = format!("{CHECKPOINT}:0x{}:{td}", "ab".repeat(32));
    let of_another = ["--datadir", text(&datadir), "--checkpoint", &other];
    fails(
        &of_another,
        1,
        &["it follows another chain than the one that you trust"],
    );

    // One that no peer has is told of, and does not end the waiting: they may be catching up themselves.
    let nowhere = given.dir.path().join("nowhere");
    init(&nowhere, &given.chain);
    let args = ["--bootnodes", &given.source.enode, "--checkpoint", &other];
    let mut node = Node::spawn(&nowhere, 0, &args);
    node.wait_log("check NUMBER and HASH of --checkpoint");
    drop(node);

    // A signer can begin so, and the others follow what it seals.
    let sealing = given.dir.path().join("signer");
    init(&sealing, &given.chain);
    let keys: Vec<_> = (0..3)
        .map(|place| chain::signer_file(given.dir.path(), place))
        .collect();
    let args = |place: usize| {
        let mut args = vec!["--enable-consensus", "--signer-key", text(&keys[place])];
        args.extend(given.args());
        args
    };
    let first = Node::start(&sealing, &args(0));
    let second = Node::start(&datadir, &args(1));
    let mut source = given.source;
    source.wait_head(LAST + 3);
    first.stop();
    second.stop();
}

/// A store that has the source's blocks from the second era up to this one.
fn begun_up_to(given: &Given, datadir: &Path, last: u64) {
    init(datadir, &given.chain);
    let source = reader(&given.source.datadir).snapshot();
    let genesis = Genesis::from_json(&std::fs::read(&given.chain.genesis).unwrap()).unwrap();
    let folder = DataDir::new(datadir);
    Writer::open(&folder.blocks()).unwrap().unmake().unwrap();
    let head = |number| Head {
        number,
        hash: source.hash(number).unwrap().unwrap(),
        td: source.td(number).unwrap().unwrap(),
    };
    let mut writer = folder.create_above(&genesis, head(ERA - 1)).unwrap();
    for number in ERA..=last {
        let Head { hash, td, .. } = head(number);
        let header = source.header(number).unwrap().unwrap();
        let body = source.body(number).unwrap().unwrap();
        let block = NewBlock {
            number,
            hash,
            td,
            header: &header,
            body: &body,
            receipts: None,
        };
        writer.commit(&[block], hash).unwrap();
    }
}

#[test]
fn a_beginning_that_is_cut_short_is_gone_on_with() {
    let given = given();
    // Nothing yet; some blocks, but not enough to know who may seal after the last.
    for last in [ERA - 1, ERA + 5] {
        let datadir = given.dir.path().join(format!("cut-{last}"));
        begun_up_to(&given, &datadir, last);
        let without = [
            "--datadir",
            text(&datadir),
            "--port",
            "0",
            "--listen-addr",
            "127.0.0.1",
        ];
        fails(
            &without,
            1,
            &["was cut short", "the same --checkpoint again"],
        );
        let args = given.args();
        let mut node = Node::start(&datadir, &args);
        node.wait_head(LAST);
        assert_begun(&given, &datadir);
        node.stop();
    }
    // It has a checkpoint already, and goes on to the one that is trusted, if it is told which.
    let datadir = given.dir.path().join("farther");
    begun_up_to(&given, &datadir, ERA + 60);
    let args = given.args();
    let mut node = Node::start(&datadir, &args);
    node.wait_log("Begun at the trusted checkpoint");
    node.wait_head(LAST);
    assert_begun(&given, &datadir);
    node.stop();
    // Without, it judges what comes by what it has.
    let datadir = given.dir.path().join("late");
    begun_up_to(&given, &datadir, ERA + 60);
    let mut node = Node::start(&datadir, &["--bootnodes", &given.source.enode]);
    node.wait_head(LAST);
    assert_begun(&given, &datadir);
    run_ok(&["clique", "status", "--datadir", text(&datadir)]);
    node.stop();
}

#[test]
fn a_node_that_is_killed_while_it_begins_begins_at_its_next_start() {
    let given = given();
    let datadir = given.dir.path().join("new");
    init(&datadir, &given.chain);
    let args = given.args();
    for ms in [30, 60, 90, 120, 160, 200, 300] {
        let left = Reader::open(&datadir.join("blocks")); // none, if it was just giving way to another
        if left.is_ok_and(|left| left.snapshot().head().number >= CHECKPOINT) {
            // On a busy machine the one before may have come through.
            std::fs::remove_dir_all(&datadir).unwrap();
            init(&datadir, &given.chain);
        }
        let mut child = cairn()
            .args([
                "--datadir",
                text(&datadir),
                "--listen-addr",
                "127.0.0.1",
                "--port",
                "0",
            ])
            .args(args)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(ms));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut node = Node::start(&datadir, &args);
    node.wait_head(LAST);
    assert_begun(&given, &datadir);
    node.stop();
}

#[test]
fn what_is_older_is_imported_as_era1() {
    let dir = tempfile::tempdir().unwrap();
    let mut json: serde_json::Value = serde_json::from_str(Genesis::dev_json()).unwrap();
    json["config"]["clique"]["epoch"] = 200.into();
    let genesis_json = json.to_string();
    let genesis = Genesis::from_json(genesis_json.as_bytes()).unwrap();
    let params = Params {
        blocks: LAST,
        txs_per_block: 1,
        genesis: Some(Generated {
            genesis: genesis.clone(),
            genesis_json,
        }),
        ..Params::default()
    };
    let file = chain_file(dir.path(), &params);
    let era = dir.path().join("0.era1");
    let (_, blocks) = generate::blocks(&params);
    let first = blocks.take(ERA as usize - 1);
    let mut out = std::fs::File::create(&era).unwrap();
    generate::write_era1(&mut out, &genesis, first, &mut |_| ()).unwrap();
    let source = dir.path().join("source");
    run_ok(&["init", text(&file.genesis), "--datadir", text(&source)]);
    run_ok(&["import", text(&file.blocks), "--datadir", text(&source)]);
    let source = Node::start(&source, &[]);
    let printed = run_ok(&["clique", "checkpoint", "--datadir", text(&source.datadir)]).stdout;
    let checkpoint = String::from_utf8(printed).unwrap().trim().to_owned();
    let datadir = dir.path().join("new");
    run_ok(&["init", text(&file.genesis), "--datadir", text(&datadir)]);
    let args = ["--bootnodes", &source.enode, "--checkpoint", &checkpoint];
    let mut node = Node::start(&datadir, &args);
    node.wait_head(LAST);
    node.stop();
    run_ok(&["import", "--datadir", text(&datadir), text(&era)]);
    assert_same_chain(&source.datadir, &datadir, LAST);
    Node::start(&datadir, &[]).stop();
}

#[test]
fn a_node_that_waits_for_its_checkpoint_says_so_and_stops_when_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let network = clique_network(dir.path(), &[1, 2, 3], 3, 200);
    let datadir = dir.path().join("new");
    run_ok(&["init", text(&network.genesis), "--datadir", text(&datadir)]);
    let log = dir.path().join("log");
    let typed = format!("200:0x{}:401", "ab".repeat(32));
    let mut child = cairn()
        .args([
            "--datadir",
            text(&datadir),
            "--listen-addr",
            "127.0.0.1",
            "--port",
            "0",
        ])
        .args(["--checkpoint", &typed])
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    while !std::fs::read_to_string(&log)
        .unwrap()
        .contains("asking peers for it")
    {
        assert!(
            start.elapsed() < STEP_TIMEOUT,
            "{:?}",
            std::fs::read_to_string(&log)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    let snapshot = reader(&datadir).snapshot();
    assert!(snapshot.is_blank() && snapshot.first_header() == 0);
}

#[test]
fn a_store_that_was_about_to_begin_elsewhere_begins_at_the_checkpoint() {
    let given = given();
    let datadir = given.dir.path().join("new");
    begun_up_to(&given, &datadir, ERA - 1);
    let source = reader(&given.source.datadir).snapshot();
    // One of the first era.
    let number = 400;
    let (hash, td) = (
        source.hash(number).unwrap().unwrap(),
        source.td(number).unwrap().unwrap(),
    );
    let checkpoint = format!("{number}:{hash}:{td}");
    let args = [
        "--bootnodes",
        &given.source.enode,
        "--checkpoint",
        &checkpoint,
    ];
    let mut node = Node::start(&datadir, &args);
    node.wait_head(LAST);
    node.stop();
    assert_same_chain(&given.source.datadir, &datadir, LAST);
}

#[test]
fn on_a_chain_without_signers_there_is_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let typed = format!("200:0x{}:400", "ab".repeat(32));
    let args = [
        "--sepolia",
        "--datadir",
        text(dir.path()),
        "--checkpoint",
        &typed,
    ];
    fails(&args, 2, &["this is no clique chain"]);
    let args = ["--datadir", text(dir.path()), "--checkpoint", "200"];
    fails(&args, 2, &["NUMBER:HASH:TOTALDIFFICULTY"]);
}

#[test]
fn the_sealers_thread_has_the_key_before_a_peer_is_asked_for_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let network = clique_network(dir.path(), &[3], 1, 200);
    let datadir = dir.path().join("d");
    run_ok(&["init", text(&network.genesis), "--datadir", text(&datadir)]);
    let checkpoint = format!("200:0x{}:401", "ab".repeat(32));
    let mut child = cairn()
        .args(["--datadir", text(&datadir), "--checkpoint", &checkpoint])
        .args(["--listen-addr", "127.0.0.1", "--port", "0"])
        .args(["--enable-consensus", "--signer-key", text(&network.keys[0])])
        .spawn()
        .unwrap();
    let threads = format!("/proc/{}/task", child.id());
    let names = || {
        let threads = std::fs::read_dir(&threads).unwrap();
        let name = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm"));
        threads
            .filter_map(|thread| Some(name(thread.ok()?).ok()?.trim().to_owned()))
            .collect::<Vec<_>>()
    };
    // A thread names itself when it first runs, which may be later than it was started.
    wait_until("a socket is open, and the sealer's thread is there", || {
        let found = names();
        ["net", "sealer"]
            .iter()
            .all(|name| found.iter().any(|found| found == name))
    });
    let found = names();
    assert!(!found.iter().any(|name| name == "sync"), "{found:?}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
}
