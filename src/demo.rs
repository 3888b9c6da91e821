//! `cairn demo`: a validator and a full node as two processes on this machine, and a table of what they did.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cairn_store::{Reader, Snapshot, Writer};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::chain::body::transactions;
use crate::chain::clique::address_of;
use crate::chain::{DEV_SIGNER_KEY, Genesis};
use crate::datadir::DataDir;
use crate::generate::{self, Params};
use crate::import::Importer;
use crate::logging::size;
use crate::progress::Progress;

const SEED: u64 = 1;
/// A step that makes no progress for so long has failed, and the demo says which.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the two are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What the demo is asked to do.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Leave the folders.
    pub keep: bool,
    /// Blocks the validator has when the full node starts.
    pub blocks: u64,
    /// Blocks to follow live.
    pub live: u64,
    /// Transactions in each block that the validator has at the start.
    pub txs_per_block: u32,
    /// The size that the bodies of those blocks are filled up to, if any.
    pub body_bytes: Option<usize>,
    /// No progress.
    pub quiet: bool,
}

/// One node at the end.
#[derive(Clone, Debug, Serialize)]
pub struct NodeEnd {
    /// Its head's number.
    pub head_number: u64,
    /// Its head's hash.
    pub head_hash: String,
    /// The most memory it held, in bytes, mapped files included.
    pub peak_memory_bytes: u64,
    /// The most memory of its own (RssAnon) that was seen during the catch-up, in bytes.
    pub peak_anonymous_bytes: u64,
    /// Processor seconds it spent on the catch-up.
    pub catch_up_cpu_seconds: f64,
}

/// What the demo saw.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Blocks the full node caught up on.
    pub catch_up_blocks: u64,
    /// Transactions in them.
    pub catch_up_transactions: u64,
    /// Bytes of their headers and bodies.
    pub catch_up_bytes: u64,
    /// Seconds from the full node's start to the last of them stored.
    pub catch_up_seconds: f64,
    /// Blocks that were sealed and followed live.
    pub live_blocks: u64,
    /// The validator.
    pub validator: NodeEnd,
    /// The full node.
    pub fullnode: NodeEnd,
    /// Do both hold the same blocks, byte for byte?
    pub same: bool,
    /// Where the folders are, if they were kept.
    pub folder: Option<String>,
}

/// Why the demo could not be shown.
#[derive(Debug)]
pub struct DemoError(String);

/// Runs the demo with the program that is running.
///
/// # Errors
/// The step that failed and why. The two processes are gone then.
pub fn run(options: &DemoOptions) -> Result<Outcome, DemoError> {
    let folder = tempfile::Builder::new()
        .prefix("cairn-demo-")
        .tempdir()
        .map_err(step("make a folder"))?;
    let root = folder.path().to_path_buf();
    // Dropped at the end of this function, the folder goes; kept, it stays.
    let (_folder, kept) = match options.keep {
        true => (None, Some(folder.keep())),
        false => (Some(folder), None),
    };
    if let Some(folder) = &kept {
        log::info!("Demo folder={}", folder.display());
    }
    let (validator_dir, fullnode_dir) = (root.join("validator"), root.join("fullnode"));
    make_chain(&validator_dir, options)?;

    let signer = address_of(
        &secp256k1::SecretKey::from_byte_array(&DEV_SIGNER_KEY)
            .expect("the well-known key is a key"),
    );
    let mut validator = Node::start(
        "validator",
        &validator_dir,
        &[
            "--enable-consensus",
            "--validator",
            &signer.to_string(),
            "--block-interval-ms",
            "1000",
        ],
    )?;
    let enode = validator.enode()?;
    log::info!("Validator runs self={enode}");

    let validator_cpu_before = validator.usage().cpu_seconds;
    let started = Instant::now();
    let mut fullnode = Node::start("full node", &fullnode_dir, &["--bootnodes", &enode])?;
    fullnode.enode()?;
    let mut progress = Progress::new("Catching up", "blocks", options.blocks, options.quiet);
    fullnode.wait_for(&mut validator, options.blocks, &mut |number| {
        progress.set(number.min(options.blocks));
    })?;
    let catch_up_seconds = started.elapsed().as_secs_f64();
    drop(progress);
    let validator_cpu = validator.usage().cpu_seconds - validator_cpu_before;
    let fullnode_cpu = fullnode.usage().cpu_seconds;
    let anonymous = [
        validator.peak_anonymous_bytes,
        fullnode.peak_anonymous_bytes,
    ];
    let from = validator.head()?.max(options.blocks);
    log::info!(
        "Caught up blocks={} seconds={catch_up_seconds:.2}; following live",
        options.blocks
    );
    let mut progress = Progress::new("Following", "blocks", options.live, options.quiet);
    fullnode.wait_for(&mut validator, from + options.live, &mut |number| {
        progress.set(number.saturating_sub(from));
    })?;
    drop(progress);

    // The validator stops first; what it had announced by then must still reach the full node.
    let validator_peak = validator.usage().peak_bytes;
    validator.stop()?;
    let last = validator.head()?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while fullnode.head()? < last && Instant::now() < deadline {
        std::thread::sleep(LOOK_INTERVAL);
    }
    let fullnode_peak = fullnode.usage().peak_bytes;
    fullnode.stop()?;

    let (left, right) = (validator.chain()?, fullnode.chain()?);
    let (left, right) = (left.snapshot(), right.snapshot());
    let mut outcome = Outcome {
        catch_up_blocks: options.blocks,
        catch_up_transactions: 0,
        catch_up_bytes: 0,
        catch_up_seconds,
        live_blocks: right.head().number.saturating_sub(options.blocks),
        validator: end(&left, validator_peak, anonymous[0], validator_cpu),
        fullnode: end(&right, fullnode_peak, anonymous[1], fullnode_cpu),
        same: left.head() == right.head(),
        folder: kept.map(|folder| folder.display().to_string()),
    };
    compare(&left, &right, options.blocks, &mut outcome).map_err(step("compare the two stores"))?;
    Ok(outcome)
}

/// Fills the validator's folder with a generated chain that ends now, checked like any other.
fn make_chain(dir: &Path, options: &DemoOptions) -> Result<(), DemoError> {
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let params = Params {
        blocks: options.blocks,
        txs_per_block: options.txs_per_block,
        body_bytes: options.body_bytes,
        seed: SEED,
        end_time_s: Some(now_s),
        ..Params::default()
    };
    let (generated, blocks) = generate::blocks(&params);
    let genesis: &Genesis = &generated.genesis;
    let datadir = DataDir::new(dir);
    datadir
        .init(genesis, None)
        .map_err(step("make the validator's folder"))?;
    let writer = Writer::open(&datadir.blocks()).map_err(step("open the validator's store"))?;
    let mut importer =
        Importer::new(genesis, writer).map_err(step("open the validator's store"))?;
    let mut progress = Progress::new("Generating", "blocks", options.blocks, options.quiet);
    for block in blocks {
        let number = block.header.header.number;
        importer
            .add(block.header, Bytes::from(block.body), None, 0, now_s)
            .map_err(step("check a generated block"))?;
        progress.set(number);
    }
    importer
        .store()
        .map_err(step("store the generated blocks"))?;
    Ok(())
}

/// Compares every block, and counts what the catch-up carried.
fn compare(
    left: &Snapshot,
    right: &Snapshot,
    blocks: u64,
    outcome: &mut Outcome,
) -> Result<(), String> {
    for number in 0..=left.head().number.max(right.head().number) {
        let (one, other) = (read(left, number)?, read(right, number)?);
        if one != other {
            log::error!("The two nodes differ at block number={number}");
            outcome.same = false;
        }
        if let Some((header, body)) = other.filter(|_| (1..=blocks).contains(&number)) {
            outcome.catch_up_bytes += (header.len() + body.len()) as u64;
            outcome.catch_up_transactions += transactions(&body).count() as u64;
        }
    }
    Ok(())
}

type HeaderAndBody = (Vec<u8>, Vec<u8>);

fn read(chain: &Snapshot, number: u64) -> Result<Option<HeaderAndBody>, String> {
    let header = chain.header(number).map_err(|e| e.to_string())?;
    let body = chain.body(number).map_err(|e| e.to_string())?;
    Ok(header.map(|header| header.to_vec()).zip(body))
}

fn end(
    chain: &Snapshot,
    peak_memory_bytes: u64,
    peak_anonymous_bytes: u64,
    catch_up_cpu_seconds: f64,
) -> NodeEnd {
    let head = chain.head();
    NodeEnd {
        head_number: head.number,
        head_hash: head.hash.to_string(),
        peak_memory_bytes,
        peak_anonymous_bytes,
        catch_up_cpu_seconds,
    }
}

/// What Linux counts for a process; zeros where it cannot be read.
#[derive(Default)]
struct Usage {
    peak_bytes: u64,
    anonymous_bytes: u64,
    cpu_seconds: f64,
}

/// One of the two processes. It is killed when it is dropped.
struct Node {
    name: &'static str,
    child: Child,
    datadir: DataDir,
    log: PathBuf,
    reader: Option<Reader>,
    peak_anonymous_bytes: u64,
}

impl Node {
    fn start(name: &'static str, dir: &Path, args: &[&str]) -> Result<Node, DemoError> {
        let log = dir.with_extension("log");
        let out = File::create(&log).map_err(step("make a log file"))?;
        let program = std::env::current_exe().map_err(step("find this program"))?;
        let child = Command::new(program)
            .arg("--datadir")
            .arg(dir)
            .args(["--listen-addr", "127.0.0.1", "--port", "0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .map_err(step("start a node"))?;
        Ok(Node {
            name,
            child,
            datadir: DataDir::new(dir),
            log,
            reader: None,
            peak_anonymous_bytes: 0,
        })
    }

    /// Waits for the enode that the node logs when it listens.
    fn enode(&mut self) -> Result<String, DemoError> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        while Instant::now() < deadline {
            let text = std::fs::read_to_string(&self.log).map_err(step("read a node's log"))?;
            let found = text
                .lines()
                .filter_map(|line| line.split_once("self=enode://"))
                .find_map(|(_, rest)| rest.split_once(' '));
            if let Some((enode, _)) = found {
                return Ok(format!("enode://{enode}"));
            }
            self.must_run()?;
            std::thread::sleep(LOOK_INTERVAL);
        }
        Err(self.failed("did not listen in time"))
    }

    fn chain(&mut self) -> Result<Reader, DemoError> {
        if self.reader.is_none() {
            self.reader =
                Some(Reader::open(&self.datadir.blocks()).map_err(step("open a node's store"))?);
        }
        let reader = self.reader.clone().expect("it was opened above");
        reader.refresh().map_err(step("read a node's store"))?;
        Ok(reader)
    }

    fn head(&mut self) -> Result<u64, DemoError> {
        Ok(self.chain()?.snapshot().head().number)
    }

    /// Waits until this node's head is `number`; `other` must run meanwhile.
    fn wait_for(
        &mut self,
        other: &mut Node,
        number: u64,
        seen: &mut dyn FnMut(u64),
    ) -> Result<(), DemoError> {
        let (mut deadline, mut highest) = (Instant::now() + STEP_TIMEOUT, 0);
        while Instant::now() < deadline {
            let head = self.head()?;
            seen(head);
            self.usage();
            other.usage();
            if head >= number {
                return Ok(());
            }
            if head > highest {
                (deadline, highest) = (Instant::now() + STEP_TIMEOUT, head);
            }
            self.must_run()?;
            other.must_run()?;
            std::thread::sleep(LOOK_INTERVAL);
        }
        Err(self.failed(&format!("did not reach block {number} in time")))
    }

    fn must_run(&mut self) -> Result<(), DemoError> {
        match self.child.try_wait().map_err(step("look at a node"))? {
            None => Ok(()),
            Some(status) => Err(self.failed(&format!("ended by itself ({status})"))),
        }
    }

    fn usage(&mut self) -> Usage {
        /// Linux gives these times in hundredths of a second, whatever its own tick is.
        const TICKS_PER_SECOND: f64 = 100.0;
        let folder = format!("/proc/{}", self.child.id());
        let read =
            |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
        let status = read("status");
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let kib = line.and_then(|rest| {
                rest.trim()
                    .trim_end_matches("kB")
                    .trim()
                    .parse::<u64>()
                    .ok()
            });
            kib.unwrap_or(0) * 1024
        };
        // The fields after the name in parentheses begin with the third; utime and stime are the 14th and 15th.
        let stat = read("stat");
        let fields = stat
            .rsplit_once(") ")
            .map_or("", |(_, rest)| rest)
            .split(' ');
        let ticks: f64 = fields
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        let usage = Usage {
            peak_bytes: bytes("VmHWM:"),
            anonymous_bytes: bytes("RssAnon:"),
            cpu_seconds: ticks / TICKS_PER_SECOND,
        };
        self.peak_anonymous_bytes = self.peak_anonymous_bytes.max(usage.anonymous_bytes);
        usage
    }

    fn stop(&mut self) -> Result<(), DemoError> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)
            .map_err(|e| DemoError(format!("cannot stop the {}: {e}", self.name)))?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().map_err(step("wait for a node"))? {
                return match status.success() {
                    true => Ok(()),
                    false => Err(self.failed(&format!("ended with {status}"))),
                };
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Err(self.failed("did not stop in time"))
    }

    /// An error about this node, with the end of its log, since the folder may be gone when it is read.
    fn failed(&self, what: &str) -> DemoError {
        const TAIL_LINES: usize = 8;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ");
        DemoError(format!(
            "the {} {what}; the end of its log:\n  {tail}",
            self.name
        ))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Harmless where it has ended already; and a demo that failed leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn step<E: ToString>(what: &'static str) -> impl Fn(E) -> DemoError {
    move |error| DemoError(format!("cannot {what}: {}", error.to_string()))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.catch_up_blocks as f64 / self.catch_up_seconds.max(1e-9);
        writeln!(f, "{:<24}{:>16}", "Blocks caught up", self.catch_up_blocks)?;
        writeln!(
            f,
            "{:<24}{:>16}",
            "Transactions", self.catch_up_transactions
        )?;
        writeln!(f, "{:<24}{:>16}", "Bytes", size(self.catch_up_bytes))?;
        writeln!(f, "{:<24}{:>16.2}", "Seconds", self.catch_up_seconds)?;
        writeln!(f, "{:<24}{:>16.0}", "Blocks/s", rate)?;
        let megabytes = self.catch_up_bytes as f64 / 1e6;
        writeln!(
            f,
            "{:<24}{:>16.1}",
            "MB/s",
            megabytes / self.catch_up_seconds.max(1e-9)
        )?;
        writeln!(f, "{:<24}{:>16}", "Blocks followed live", self.live_blocks)?;
        for (name, node) in [
            ("Validator", &self.validator),
            ("Full node", &self.fullnode),
        ] {
            let head = format!("{name}'s head");
            let memory = format!("{name}'s peak memory");
            writeln!(f, "{head:<24}{:>16} {}", node.head_number, node.head_hash)?;
            writeln!(
                f,
                "{memory:<24}{:>16} ({} of its own in the catch-up)",
                size(node.peak_memory_bytes),
                size(node.peak_anonymous_bytes)
            )?;
            let cpu = format!("{name}'s CPU seconds");
            let per_gigabyte = node.catch_up_cpu_seconds * 1000.0 / megabytes.max(1e-9);
            writeln!(
                f,
                "{cpu:<24}{:>16.2} ({per_gigabyte:.2} a GB)",
                node.catch_up_cpu_seconds
            )?;
        }
        writeln!(
            f,
            "{:<24}{:>16}",
            "Same, byte for byte",
            if self.same { "yes" } else { "NO" }
        )?;
        if let Some(folder) = &self.folder {
            writeln!(f, "Folders kept in {folder}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DemoError {}
