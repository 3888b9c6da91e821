//! The control socket of a running node: what can be asked and told over it, who may, and what hostile or slow clients cost.
#![allow(clippy::unwrap_used)]
mod common;

use std::io::{BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn::ipc::{self, CallError};
use common::*;
use serde_json::{Value, json};

fn socket(node: &Node) -> PathBuf {
    node.datadir.join("cairn.ipc")
}

fn ask(node: &Node, method: &str, params: Value) -> Value {
    ipc::call(&socket(node), method, &params).unwrap()
}

fn connect(node: &Node) -> UnixStream {
    let stream = UnixStream::connect(socket(node)).unwrap();
    stream.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
    stream
}

fn line(reader: &mut impl std::io::BufRead) -> Value {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

#[test]
fn a_running_node_is_asked_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let validator = Node::start(&dir.path().join("validator"), &SEALING);
    let mut follower = Node::start(
        &dir.path().join("follower"),
        &["--bootnodes", &validator.enode],
    );
    follower.wait_head(2);

    wait_until("it says so", || {
        ask(&follower, "eth_blockNumber", json!([])) != "0x0"
    });
    assert_eq!(ask(&follower, "eth_chainId", json!([])), "0x539");
    assert_eq!(ask(&follower, "net_version", json!([])), "1337");
    assert_eq!(ask(&follower, "net_peerCount", json!([])), "0x1");
    wait_until("it follows", || {
        ask(&follower, "eth_syncing", json!([])) == json!(false)
    });
    let info = ask(&follower, "admin_nodeInfo", json!([]));
    assert_eq!(info["enode"], json!(follower.enode));
    assert_eq!(info["protocols"]["eth"]["network"], 1337);

    let peers = ask(&follower, "admin_peers", json!([]));
    let [peer] = &peers.as_array().unwrap()[..] else {
        panic!("{peers}");
    };
    assert_eq!(peer["enode"], json!(validator.enode));
    assert_eq!(
        peer["id"],
        ask(&validator, "admin_nodeInfo", json!([]))["id"]
    );
    assert_eq!(peer["network"]["static"], true);
    assert_eq!(peer["network"]["inbound"], false);
    let peers = ask(&validator, "admin_peers", json!([]));
    assert_eq!(peers[0]["network"]["inbound"], true);

    let mut shown = String::new();
    // With each block there is something to catch up with for a moment.
    wait_until("it is shown to follow", || {
        let output = run_ok(&["status", "--datadir", text(&follower.datadir)]);
        shown = String::from_utf8(output.stdout).unwrap();
        shown.contains("following")
    });
    for part in [&follower.enode, "Peers    1 of 50", "eth/71 dialled"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let shown = run_ok(&["status", "--json", "--datadir", text(&validator.datadir)]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["signer"], DEV_SIGNER);
    assert_eq!(shown["sync"]["phase"], "following");
    assert_eq!(shown["peers"].as_array().unwrap().len(), 1);

    let socket = socket(&validator);
    validator.stop();
    assert!(!socket.exists(), "its name goes with the node");
    wait_until("it is alone", || {
        ask(&follower, "cairn_status", json!([]))["sync"]["phase"] == "alone"
    });
    follower.stop();
}

#[test]
fn peers_are_added_trusted_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let left = Node::start(&dir.path().join("left"), &["--net-threads", "3"]);
    let right = Node::start(&dir.path().join("right"), &["--maxpeers", "1"]);
    let other = Node::start(&dir.path().join("other"), &[]);
    let count = |node: &Node| {
        ask(node, "admin_peers", json!([]))
            .as_array()
            .unwrap()
            .len()
    };

    assert_eq!(ask(&other, "admin_addPeer", json!([right.enode])), true);
    wait_until("the only place is taken", || count(&right) == 1);
    assert_eq!(
        ask(&right, "admin_addTrustedPeer", json!([left.enode])),
        true
    );
    assert_eq!(ask(&left, "admin_addPeer", json!([right.enode])), true);
    wait_until("the trusted one is in", || count(&right) == 2);
    let peers = ask(&right, "admin_peers", json!([]));
    let of_left = |peer: &&Value| peer["network"]["trusted"] == true;
    assert_eq!(peers.as_array().unwrap().iter().filter(of_left).count(), 1);

    assert_eq!(
        ask(&right, "admin_removeTrustedPeer", json!([left.enode])),
        true
    );
    assert_eq!(ask(&left, "admin_removePeer", json!([right.enode])), true);
    wait_until("it is let go", || count(&left) == 0 && count(&right) == 1);
    std::thread::sleep(Duration::from_millis(1500)); // it would be dialled again after one second
    assert_eq!(count(&left), 0);
    assert_eq!(ask(&other, "admin_removePeer", json!([right.enode])), true);
    wait_until("there is room", || count(&right) == 0);
    assert_eq!(ask(&left, "admin_addPeer", json!([right.enode])), true);
    wait_until("it is dialled anew", || count(&left) == 1);

    for wrong in [
        json!([]),
        json!(["enode://00@1.2.3.4:5"]),
        json!([7]),
        json!([left.enode]),
    ] {
        let error = ipc::call(&socket(&left), "admin_addPeer", &wrong).unwrap_err();
        assert!(matches!(error, CallError::Refused(_)), "{wrong}: {error}");
    }
    // A host's name stands for no address here, and says who it is all the same.
    let (id, address) = right.enode.split_once('@').unwrap();
    let (_, port) = address.rsplit_once(':').unwrap();
    let named = json!([format!("{id}@localhost:{port}")]);
    for method in ["admin_addPeer", "admin_addTrustedPeer"] {
        let error = ipc::call(&socket(&left), method, &named).unwrap_err();
        let said = error.to_string();
        for what in ["localhost", "host name", "IP address", "--bootnodes"] {
            assert!(said.contains(what), "{what:?} in: {said}");
        }
    }
    assert_eq!(ask(&left, "admin_removePeer", named), true);
    wait_until("it is let go by its name", || count(&left) == 0);
    for node in [left, right, other] {
        node.stop();
    }
}

#[test]
fn nobody_else_may_open_it_and_a_dead_nodes_socket_is_no_obstacle() {
    // A path that no socket's address has room for.
    let dir = tempfile::tempdir().unwrap();
    let datadir = dir.path().join("d".repeat(120)).join("e".repeat(120));
    std::fs::create_dir_all(&datadir).unwrap();
    let node = Node::start(&datadir, &[]);
    let found = std::fs::symlink_metadata(socket(&node)).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.mode() & 0o777, 0o600);
    node.kill();
    assert!(datadir.join("cairn.ipc").exists());
    let output = run(&["status", "--datadir", text(&datadir)]);
    assert_eq!(status(&output), 1);
    assert!(
        stderr(&output).contains("no node is running"),
        "{}",
        stderr(&output)
    );
    let node = Node::start(&datadir, &[]);
    assert_eq!(ask(&node, "eth_blockNumber", json!([])), "0x0");
    node.stop();
    let left = std::fs::read_dir(&datadir).unwrap();
    for entry in left {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("ipc"), "{name} is left behind");
    }

    let node = Node::start(&datadir, &["--ipcdisable"]);
    assert!(!datadir.join("cairn.ipc").exists());
    node.stop();
    let node = Node::start(&datadir, &["--ipcpath", "other.sock"]);
    run_ok(&[
        "status",
        "--datadir",
        text(&datadir),
        "--ipcpath",
        "other.sock",
    ]);
    node.stop();
    // Where none can be made the node does its work without.
    let mut node = Node::start(&datadir, &["--ipcpath", "/proc/none/cairn.ipc"]);
    node.wait_log("No control socket");
    node.stop();
}

#[test]
fn garbage_floods_and_idle_clients_cost_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir.path().join("node"), &[]);
    let memory = |node: &Node| anonymous_kib(node.child.id());
    let before = memory(&node);

    let mut garbage = connect(&node);
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut reader = BufReader::new(garbage);
    assert_eq!(line(&mut reader)["error"]["code"], -32700);
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "and it ends");

    let mut old = connect(&node);
    old.write_all(br#"{"id":1,"method":"eth_blockNumber"}"#)
        .unwrap();
    assert_eq!(line(&mut BufReader::new(old))["error"]["code"], -32600);

    // A request without an end is cut off.
    let mut endless = connect(&node);
    let piece = [b'['; 1000];
    while endless.write_all(&piece).is_ok() {}
    let mut string = connect(&node);
    string.write_all(b"\"").unwrap();
    while string.write_all(&[b'x'; 10_000]).is_ok() {}

    // Requests whose answers nobody reads wait unread.
    let flood = connect(&node);
    flood
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let request = br#"{"jsonrpc":"2.0","id":1,"method":"admin_nodeInfo"}"#.repeat(1000);
    while (&flood).write_all(&request).is_ok() {}

    // In pieces, in a batch, and without a reason to answer.
    let mut slow = connect(&node);
    let batch = br#" [{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"},{"jsonrpc":"2.0","method":"eth_blockNumber"}] "#;
    for byte in batch {
        slow.write_all(&[*byte]).unwrap();
    }
    let answers = line(&mut BufReader::new(slow));
    assert_eq!(
        answers,
        json!([{"jsonrpc": "2.0", "id": 1, "result": "0x0"}])
    );

    let idle: Vec<UnixStream> = (0..200).map(|_| connect(&node)).collect();
    for _ in 0..20 {
        assert_eq!(ask(&node, "eth_blockNumber", json!([])), "0x0");
    }
    let grown = memory(&node).saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB more");
    drop((flood, idle));
    assert_eq!(ask(&node, "net_listening", json!([])), true);
    node.stop();
}

#[test]
fn a_client_that_asks_without_pause_holds_up_neither_others_nor_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir.path().join("node"), &[]);
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let stream = connect(&node);
            let mut writing = stream.try_clone().unwrap();
            std::thread::spawn(move || {
                let requests =
                    br#"{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"}"#.repeat(500);
                while writing.write_all(&requests).is_ok() {}
            });
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut buffer = vec![0; 1 << 16];
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ask(&node, "eth_blockNumber", json!([])), "0x0");
    let took = node.stop();
    assert!(took < Duration::from_secs(20), "{took:?}");
    for thread in busy {
        thread.join().unwrap();
    }
}

#[test]
fn a_removed_peer_is_let_go_however_far_it_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir.path().join("node"), &[]);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // A point on the curve that nobody has the key of at hand: secp256k1's generator, doubled.
    let key = concat!(
        "c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
        "1ae168fea63dc339a3c58419466ceaeef7f632653266d0e1236431a950cfe52a"
    );
    let url = format!("enode://{key}@{}", silent.local_addr().unwrap());
    assert_eq!(ask(&node, "admin_addPeer", json!([url])), true);
    let (mut dialled, _) = silent.accept().unwrap();
    dialled.set_read_timeout(Some(STEP_TIMEOUT)).unwrap();
    assert_eq!(ask(&node, "admin_removePeer", json!([url])), true);
    let mut auth = Vec::new();
    dialled.read_to_end(&mut auth).unwrap();
    let log = node.log();
    let why = "the handshake's own time is over";
    assert!(!log.contains("reason=Timeout"), "{why}: {log}");
    node.stop();
}

#[test]
fn nothing_is_destroyed_for_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("left");
    let mut node = Node::start(&left, &["--ipcpath", "nodekey"]);
    node.wait_log("what is there is no socket");
    node.stop();
    assert_eq!(std::fs::read(left.join("nodekey")).unwrap().len(), 64);

    let shared = dir.path().join("shared.ipc");
    let first = Node::start(&left, &["--ipcpath", text(&shared)]);
    let mut second = Node::start(&dir.path().join("right"), &["--ipcpath", text(&shared)]);
    second.wait_log("another program listens there");
    let shown = run_ok(&["status", "--json", "--ipcpath", text(&shared)]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["enode"], json!(first.enode));
    second.stop();
    first.stop();
}

fn anonymous_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let text = text.unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
