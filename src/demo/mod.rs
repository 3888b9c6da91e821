//! `cairn demo`: a validator and a full node as two processes on this machine, and a table of what they did.

mod outcome;
mod process;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_store::{Snapshot, Writer};

use crate::chain::body::transactions;
use crate::chain::clique::address_of;
use crate::chain::{DEV_SIGNER_KEY, Genesis};
use crate::clock::unix_s;
use crate::datadir::DataDir;
use crate::generate::{self, Params};
use crate::import::Importer;
use crate::progress::Progress;

use process::Node;

pub use outcome::{NodeEnd, Outcome};

const SEED: u64 = 1;
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
    /// Set when the demo is to end early.
    pub stop: Arc<AtomicBool>,
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
        &options.stop,
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
    let mut fullnode = Node::start(
        "full node",
        &fullnode_dir,
        &options.stop,
        &["--bootnodes", &enode],
    )?;
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
        body_snappy_ratio: 0.0,
        catch_up_seconds,
        live_blocks: right.head().number.saturating_sub(options.blocks),
        validator: NodeEnd::new(&left, validator_peak, anonymous[0], validator_cpu),
        fullnode: NodeEnd::new(&right, fullnode_peak, anonymous[1], fullnode_cpu),
        same: left.head() == right.head(),
        folder: kept.map(|folder| folder.display().to_string()),
    };
    compare(&left, &right, options.blocks, &mut outcome).map_err(step("compare the two stores"))?;
    Ok(outcome)
}

/// Fills the validator's folder with a generated chain that ends now, checked like any other.
fn make_chain(dir: &Path, options: &DemoOptions) -> Result<(), DemoError> {
    let now_s = unix_s();
    let params = Params {
        blocks: options.blocks,
        txs_per_block: options.txs_per_block,
        body_bytes: options.body_bytes,
        seed: SEED,
        end_time_s: Some(now_s),
        ..Params::default()
    };
    params.check().map_err(step(
        "make a chain that ends now (is this machine's clock right?)",
    ))?;
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
    let (mut raw, mut stored) = (0, 0);
    for number in 0..=left.head().number.max(right.head().number) {
        let (one, other) = (read(left, number)?, read(right, number)?);
        if one != other {
            log::error!("The two nodes differ at block number={number}");
            outcome.same = false;
        }
        if let Some(body) = right.body_stream(number).map_err(|e| e.to_string())? {
            (raw, stored) = (raw + body.raw_len, stored + body.stream.len());
        }
        if let Some((header, body)) = other.filter(|_| (1..=blocks).contains(&number)) {
            outcome.catch_up_bytes += (header.len() + body.len()) as u64;
            outcome.catch_up_transactions += transactions(&body).count() as u64;
        }
    }
    outcome.body_snappy_ratio = stored as f64 / (raw as f64).max(1.0);
    Ok(())
}

type HeaderAndBody = (Vec<u8>, Vec<u8>);

fn read(chain: &Snapshot, number: u64) -> Result<Option<HeaderAndBody>, String> {
    let header = chain.header(number).map_err(|e| e.to_string())?;
    let body = chain.body(number).map_err(|e| e.to_string())?;
    Ok(header.map(|header| header.to_vec()).zip(body))
}

fn step<E: ToString>(what: &'static str) -> impl Fn(E) -> DemoError {
    move |error| DemoError(format!("cannot {what}: {}", error.to_string()))
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DemoError {}
