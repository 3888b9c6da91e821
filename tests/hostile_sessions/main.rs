//! A whole node and peers that mean harm: what they ask, what they answer and how many they are. Its memory is measured from outside,
//! and an honest peer is served all the while.
#![allow(clippy::unwrap_used, missing_docs)]

mod answers;
#[path = "../common/mod.rs"]
mod common;
mod floods;
#[path = "../../net/tests/common/mod.rs"]
mod peer;
mod requests;

use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn::generate::{self, GeneratedBlock, Params};
use cairn_net::enode::Enode;
use cairn_net::eth::message::{Request, Start};
use common::{Node, chain_file, run_ok, text};
use peer::puppet::{Honest, Target};

const BLOCKS: u64 = 120;
const MIB: u64 = 1 << 20;

/// The memory of nodes is measured: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn params() -> Params {
    Params {
        blocks: BLOCKS,
        txs_per_block: 2,
        seed: 4,
        body_bytes: Some(60_000),
        ..Params::default()
    }
}

/// The chain that the node serves.
static CHAIN: LazyLock<Vec<GeneratedBlock>> =
    LazyLock::new(|| generate::blocks(&params()).1.collect());

/// A node that holds the chain (or only its genesis) and has one honest peer.
struct Watched {
    node: Node,
    target: Target,
    honest: Honest,
}

impl Watched {
    fn start(dir: &Path, is_full: bool) -> Watched {
        Watched::start_with(dir, is_full, &[])
    }

    /// The same with more arguments.
    fn start_with(dir: &Path, is_full: bool, args: &[&str]) -> Watched {
        let data = dir.join("node");
        let chain = chain_file(dir, &params());
        run_ok(&["init", "--datadir", text(&data), text(&chain.genesis)]);
        if is_full {
            run_ok(&["import", "--datadir", text(&data), text(&chain.blocks)]);
        }
        let node = Node::start(&data, &[&["--maxpeers", "200"][..], args].concat());
        let enode: Enode = node.enode.parse().unwrap();
        let target = (enode.tcp_addr(), enode.id);
        let count = if is_full { 3 } else { 1 };
        let request = Request::Headers {
            start: Start::Number(0),
            amount: count,
            skip: 0,
            reverse: false,
        };
        let honest = Honest::start(9, target, request, count as usize);
        Watched {
            node,
            target,
            honest,
        }
    }

    /// Anonymous memory of the node's process, in bytes.
    fn memory(&self) -> u64 {
        self.status("RssAnon:")
    }

    /// A figure of proc(5), status, in bytes.
    fn status(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.node.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with(name));
        let kib: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib * 1024
    }

    /// How much more memory there is than `before`, which must stay below the bound. Waits until it is, or patience ends.
    #[track_caller]
    fn assert_memory(&self, what: &str, before: u64, most: u64) {
        let start = Instant::now();
        loop {
            let more = self.memory().saturating_sub(before);
            if more <= most || start.elapsed() > Duration::from_secs(10) {
                println!(
                    "{what}: {} KiB more than before, at most {} KiB",
                    more / 1024,
                    most / 1024
                );
                assert!(more <= most, "{what}: {more} bytes more, at most {most}");
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn over(self, what: &str) {
        self.honest.finish(what);
        self.node.stop();
    }
}
