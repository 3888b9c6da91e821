//! `generate`: writes a test chain and its genesis.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    time::Instant,
};

use cairn::{
    era1::ERA_BLOCKS,
    generate::{self, Params},
};
use serde_json::json;

use crate::{
    cli::{Fork, GenerateArgs},
    failure::Failure,
    output::Output,
    people,
    progress::Progress,
    view,
};

/// Bytes collected before they are written.
const BUFFER_BYTES: usize = 1024 * 1024;

pub(crate) fn run(args: &GenerateArgs) -> Result<(), Failure> {
    let params = Params {
        blocks: args.blocks,
        txs_per_block: args.txs,
        seed: args.seed,
        fork: match args.fork {
            Fork::London => generate::Fork::London,
            Fork::Prague => generate::Fork::Prague,
        },
        body_bytes: args.body_bytes,
        ..Params::default()
    };
    params
        .check()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    if args.out == args.genesis {
        return Err(Failure::Usage(
            "--out and --genesis name the same file: give two".to_owned(),
        ));
    }
    let era1 = args.out.extension().is_some_and(|end| end == "era1");
    if era1 && (args.blocks >= ERA_BLOCKS || args.fork != Fork::London) {
        return Err(Failure::Usage(format!(
            "{}: an era1 file ends before the merge and holds {} blocks above the genesis block at most: give fewer --blocks, \
             --fork london, or a name that does not end in .era1",
            args.out.display(),
            ERA_BLOCKS - 1
        )));
    }
    // Before the first of them is made, so that a refusal leaves nothing behind.
    refuse_existing(&[&args.out, &args.genesis], args.force)?;
    let mut genesis_file = make(&args.genesis, args.force)?;
    let block_file = make(&args.out, args.force)?;

    let begin = Instant::now();
    let (generated, blocks) = generate::blocks(&params);
    genesis_file
        .write_all(generated.genesis_json.as_bytes())
        .map_err(|error| incomplete(&args.genesis, &error))?;

    let mut progress = Progress::new("generating");
    let genesis_header = &generated.genesis.header;
    let mut head = (0, genesis_header.hash, genesis_header.header.difficulty);
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, block_file);
    let blocks = blocks.inspect(|block| {
        head = (block.header.header.number, block.header.hash, block.td);
    });
    let mut each = |sizes: &generate::Sizes| progress.at(sizes.blocks, args.blocks);
    let sizes = if era1 {
        generate::write_era1(&mut file, &generated.genesis, blocks, &mut each)
    } else {
        generate::write_blocks(&mut file, blocks, &mut each)
    }
    .map_err(|error| incomplete(&args.out, &error))?;
    drop(progress);
    let seconds = begin.elapsed().as_secs_f64();

    let transactions = sizes.blocks * u64::from(args.txs);
    let mut out = Output::new(args.json);
    if out.is_json() {
        out.value(&json!({
            "blocks": sizes.blocks,
            "transactions": transactions,
            "chain_id": chain_id(&generated.genesis),
            "genesis_hash": view::text(genesis_header.hash),
            "head": {
                "number": head.0,
                "hash": view::text(head.1),
                "td": format!("{:#x}", head.2),
            },
            "block_bytes": sizes.block_bytes,
            "header_bytes": sizes.header_bytes,
            "body_bytes": sizes.body_bytes,
            "body_snappy_bytes": sizes.body_snappy_bytes,
            "snappy_ratio": sizes.ratio(),
            "seconds": seconds,
            "state_roots_executed": false,
            "out": args.out.display().to_string(),
            "genesis": args.genesis.display().to_string(),
        }))?;
    } else {
        let rate = sizes.blocks as f64 / seconds.max(1e-9);
        out.line(&format!(
            "{}: {} blocks, {transactions} transactions, {} ({} bytes)",
            args.out.display(),
            sizes.blocks,
            people::size(sizes.block_bytes),
            sizes.block_bytes
        ))?;
        out.line(&format!(
            "{}: chain {}, genesis {}",
            args.genesis.display(),
            chain_id(&generated.genesis),
            genesis_header.hash
        ))?;
        out.line(&format!("head {} {} td {}", head.0, head.1, head.2))?;
        out.line(&format!(
            "bodies: {}, {} each, {:.3} of that when snappy compresses each",
            people::size(sizes.body_bytes),
            people::size(sizes.body_bytes / sizes.blocks.max(1)),
            sizes.ratio()
        ))?;
        out.line(&format!("{seconds:.1} s, {rate:.0} blocks/s"))?;
        out.line(
            "State roots are not executed: each header repeats the genesis block's, gas used and receipts roots are made up. A client \
             that executes blocks refuses those with transactions.",
        )?;
    }
    out.finish()
}

fn chain_id(genesis: &cairn::chain::Genesis) -> u64 {
    genesis.spec.network_id()
}

fn refuse_existing(files: &[&Path], force: bool) -> Result<(), Failure> {
    match files.iter().find(|file| !force && file.exists()) {
        Some(file) => Err(Failure::Usage(format!(
            "{} exists: give --force to overwrite it, or another name",
            file.display()
        ))),
        None => Ok(()),
    }
}

/// Makes the file; unless forced, only if there is none, whatever happened since it was looked for.
fn make(path: &Path, force: bool) -> Result<File, Failure> {
    let mut options = File::options();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options
        .open(path)
        .map_err(|error| Failure::file("cannot make", path, &error))
}

fn incomplete(path: &Path, error: &std::io::Error) -> Failure {
    let why = format!(
        "cannot write {}: {error}; what is there is not complete, remove it",
        path.display()
    );
    Failure::of_file(error, why)
}
