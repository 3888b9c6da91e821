//! The figures by which people see how far a catch-up is: `cairn status`, its `--json`, the log, and the bar on a terminal. The follower
//! is behind a slow line, so that there is time to look; no machine is too slow for that.
#![allow(clippy::unwrap_used)]
mod common;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn::generate::{Fork, Params};
use cairn::ipc;
use common::home::json_of;
use common::slow::SlowLine;
use common::terminal::terminal;
use common::*;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const BLOCKS: u64 = 2_000;
const BODY_BYTES: usize = 10_000;
/// What a header and the rest of a body that is no longer than it must be may add.
const MORE_BYTES: usize = 1_500;

/// A node that has the chain, and the folder of one that has its genesis block alone.
fn chain(dir: &Path, params: &Params) -> (Node, PathBuf, String) {
    let chain = chain_file(dir, params);
    let [has, follows] = ["has", "follows"].map(|name| dir.join(name));
    for data in [&has, &follows] {
        run_ok(&["init", "--datadir", text(data), text(&chain.genesis)]);
    }
    run_ok(&["import", "--datadir", text(&has), text(&chain.blocks)]);
    (Node::start(&has, &[]), follows, chain.head_hash)
}

/// Blocks that take the line a minute and a half.
fn blocks() -> Params {
    Params {
        blocks: BLOCKS,
        txs_per_block: 2,
        body_bytes: Some(BODY_BYTES),
        seed: 31,
        ..Params::default()
    }
}

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

fn status(data: &Path) -> Value {
    std::thread::sleep(PAUSE);
    json_of(&["status", "--json", "--datadir", text(data)])
}

fn sync_line(data: &Path) -> String {
    let output = run_ok(&["status", "--datadir", text(data)]);
    let shown = String::from_utf8(output.stdout).unwrap();
    let line = shown
        .lines()
        .find_map(|line| line.strip_prefix("Sync     "));
    line.unwrap_or_else(|| panic!("{shown}")).into()
}

/// The number that stands before this unit in the line.
#[track_caller]
fn before(line: &str, unit: &str) -> f64 {
    let (front, _) = line.split_once(unit).unwrap_or_else(|| panic!("{line}"));
    let number = front.rsplit([' ', '=']).next().unwrap();
    number
        .parse()
        .unwrap_or_else(|_| panic!("{unit:?}: {line}"))
}

/// The number after this name in a line of the log.
#[track_caller]
fn after(line: &str, name: &str) -> f64 {
    let (_, rest) = line.split_once(name).unwrap_or_else(|| panic!("{line}"));
    let number = rest.split(' ').next().unwrap();
    number
        .parse()
        .unwrap_or_else(|_| panic!("{name:?}: {line}"))
}

fn left(count: u64, per_s: f64) -> Option<u64> {
    (per_s > 0.0).then(|| (count as f64 / per_s).ceil() as u64)
}

/// Blocks and their megabytes in a second are of the same blocks.
#[track_caller]
fn agree(blocks_per_s: f64, mb_per_s: f64, rounded_by: f64) {
    let least = blocks_per_s * BODY_BYTES as f64 / 1e6;
    let most = blocks_per_s * (BODY_BYTES + MORE_BYTES) as f64 / 1e6;
    assert!(
        least - rounded_by <= mb_per_s && mb_per_s <= most + rounded_by,
        "{blocks_per_s} blocks/s, {mb_per_s} MB/s"
    );
}

#[test]
fn a_catch_up_is_shown_by_phase_rates_peers_and_time_left_and_they_agree() {
    let dir = tempfile::tempdir().unwrap();
    let (source, data, _) = chain(dir.path(), &blocks());
    let line = SlowLine::to(&source, 250_000);
    let mut node = Node::start(&data, &["--bootnodes", &line.enode]);

    let is_right = |status: &Value| {
        let sync = &status["sync"];
        let per_s = sync["blocks_per_s"].as_f64().unwrap();
        let mb_per_s = sync["bytes_per_s"].as_f64().unwrap() / 1e6;
        agree(per_s, mb_per_s, 1e-9);
        if let Some(target) = sync["target"].as_u64() {
            let reached = sync["reached"].as_u64().unwrap();
            assert_eq!((target, reached <= target), (BLOCKS, true), "{sync}");
            assert_eq!(
                sync["left_s"].as_u64(),
                left(target - reached, per_s),
                "{sync}"
            );
        }
        sync["phase"] == "bodies" && !sync["left_s"].is_null()
    };
    let percent =
        |status: &Value| 100.0 * status["sync"]["reached"].as_u64().unwrap() as f64 / BLOCKS as f64;
    let mut shown = String::new();
    wait_until("all figures are there", || {
        let first = status(&data);
        shown = sync_line(&data);
        let last = status(&data);
        let is_shown = [" blocks/s", " MB/s", " left"].map(|what| shown.contains(what));
        if !(is_right(&first) & is_right(&last)) || is_shown.contains(&false) {
            return false;
        }
        assert_eq!(first["peers"].as_array().unwrap().len(), 1);
        let part = before(&shown, " % since the start");
        assert!(
            percent(&first) - 0.1 <= part && part <= percent(&last) + 0.1,
            "{shown}"
        );
        true
    });
    assert!(
        shown.starts_with(&format!("bodies to {BLOCKS}, ")),
        "{shown}"
    );
    agree(before(&shown, " blocks/s"), before(&shown, " MB/s"), 0.06);

    let told = node.wait_log(" left=\"");
    assert_eq!(after(&told, " target="), BLOCKS as f64, "{told}");
    assert_eq!(after(&told, " peers="), 1.0, "{told}");
    agree(
        after(&told, " blocks_per_s="),
        after(&told, " mb_per_s="),
        0.06,
    );

    line.open();
    node.wait_head(BLOCKS);
    wait_until("it follows", || {
        let status = status(&data);
        is_right(&status);
        status["sync"]["phase"] == "following"
    });
    let sync = &status(&data)["sync"];
    assert_eq!(
        (&sync["target"], &sync["left_s"]),
        (&Value::Null, &Value::Null)
    );
    let shown = sync_line(&data);
    assert!(shown.starts_with("following"), "{shown}");
    node.stop();
    source.stop();
}

#[test]
fn headers_that_fall_from_a_sync_target_are_shown_as_they_come() {
    const HEADERS: u64 = 12_000;
    let dir = tempfile::tempdir().unwrap();
    let params = Params {
        blocks: HEADERS,
        txs_per_block: 0,
        fork: Fork::Prague,
        seed: 32,
        ..Params::default()
    };
    let (source, data, head) = chain(dir.path(), &params);
    let line = SlowLine::to(&source, 35_000);
    let args = ["--bootnodes", &line.enode, "--synctarget", &head];
    let mut node = Node::start(&data, &args);

    let fetched = |status: &Value| {
        let sync = &status["sync"];
        let count = sync["headers_fetched"].as_u64()?;
        let per_s = sync["headers_per_s"].as_f64().unwrap();
        assert_eq!(sync["headers_of"], HEADERS, "{sync}");
        assert_eq!(
            sync["left_s"].as_u64(),
            left(HEADERS - count, per_s),
            "{sync}"
        );
        assert_eq!(
            (&sync["target"], &sync["reached"]),
            (&json!(HEADERS), &json!(0))
        );
        (sync["phase"] == "falling_headers" && per_s > 0.0).then_some(count)
    };
    let mut shown = String::new();
    let mut seen = 0;
    wait_until("all figures are there", || {
        let first = fetched(&status(&data));
        shown = sync_line(&data);
        let last = fetched(&status(&data));
        let (Some(first), Some(last)) = (first, last) else {
            return false;
        };
        let count = before(&shown, &format!(" of {HEADERS}"));
        assert!(first as f64 <= count && count <= last as f64, "{shown}");
        assert!(
            shown.starts_with("falling headers to our chain, "),
            "{shown}"
        );
        assert!(before(&shown, " headers/s") >= 0.0, "{shown}");
        seen = last;
        shown.ends_with(" left")
    });
    let syncing = ipc::call(&data.join("cairn.ipc"), "eth_syncing", &json!([])).unwrap();
    assert_eq!(
        syncing,
        json!({ "startingBlock": "0x0", "currentBlock": "0x0", "highestBlock": format!("{HEADERS:#x}") })
    );
    let told = node.wait_log(" headers_per_s=");
    assert!(
        told.contains("Syncing phase=falling_headers number=0 "),
        "{told}"
    );
    assert!(after(&told, " headers=") > 0.0, "{told}");
    for (name, expected) in [(" of=", HEADERS), (" target=", HEADERS), (" peers=", 1)] {
        assert_eq!(after(&told, name), expected as f64, "{told}");
    }
    wait_until("more have come", || {
        fetched(&status(&data)).is_some_and(|count| count > seen)
    });

    line.open();
    node.wait_head(HEADERS);
    wait_until("none fall any more", || {
        let status = status(&data);
        assert_eq!(fetched(&status), None);
        status["sync"]["phase"] == "following"
    });
    node.stop();
    source.stop();
}

/// The lines of a terminal, one after the other, as they were drawn.
fn drawn(written: &Mutex<Vec<u8>>) -> Vec<String> {
    let written = String::from_utf8_lossy(&written.lock().unwrap()).into_owned();
    written.split(['\r', '\n']).map(without_escapes).collect()
}

fn read_on(mut person: File, written: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    loop {
        match person.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return, // the node has ended
            Ok(count) => written.lock().unwrap().extend(&buffer[..count]),
        }
    }
}

/// Without what moves the cursor and sets colours: ESC, [, parameters and a letter.
fn without_escapes(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic());
        plain.push_str(&part[end.map_or(0, |end| end + 1)..]);
    }
    plain
}

#[test]
fn on_a_terminal_a_catch_up_has_a_bar_with_all_figures_which_goes_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (source, data, _) = chain(dir.path(), &blocks());
    let line = SlowLine::to(&source, 250_000);
    let (person, terminal) = terminal();
    let child = cairn()
        .args(["--datadir", text(&data), "--bootnodes", &line.enode])
        .args(["--listen-addr", "127.0.0.1", "--p2p-port", "0"])
        .env("TERM", "xterm")
        .stderr(terminal)
        .spawn()
        .unwrap();
    let mut node = Node {
        child,
        log: PathBuf::new(),
        datadir: data.clone(),
        enode: String::new(),
    };
    let written = Arc::new(Mutex::new(Vec::new()));
    let of_thread = written.clone();
    let reading = std::thread::spawn(move || read_on(person, &of_thread));
    let is_whole = |line: &String| {
        ["bodies ", "/2,000 ", " blocks/s, ", " MB/s, 1 peer, "]
            .iter()
            .all(|what| line.contains(what))
            && line.trim_end().ends_with(" left")
    };
    wait_until("the bar is there, whole", || {
        drawn(&written).iter().any(is_whole)
    });
    for line in drawn(&written).iter().filter(|line| is_whole(line)) {
        assert!(line.chars().count() <= 80, "{line:?}");
        agree(before(line, " blocks/s"), before(line, " MB/s"), 0.06);
    }

    line.open();
    // The phase changes when the last blocks are on their way into the store.
    wait_until("it has all", || node.head() == BLOCKS);
    wait_until("it follows", || {
        status(&data)["sync"]["phase"] == "following"
    });
    let is_bar = |line: &String| line.contains("blocks/s");
    wait_until("the bar is gone", || {
        !drawn(&written).last().is_some_and(is_bar)
    });
    kill_process(Pid::from_child(&node.child), Signal::INT).unwrap();
    assert!(node.child.wait().unwrap().success());
    reading.join().unwrap();
    let lines = drawn(&written);
    let stopping = lines.iter().position(|line| line.contains("Stopping"));
    let after = &lines[stopping.unwrap()..];
    assert!(!after.iter().any(is_bar), "{after:?}");
    source.stop();
}
