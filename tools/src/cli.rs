//! What was typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Looks into the block store of cairn, mends and prunes it, and makes test chains.
///
/// What looks never writes: it can be used while a node runs, and after a crash. What writes (import, prune, rebuild-index, repair)
/// takes the store's lock, so it is refused while a node runs.
#[derive(Parser, Debug)]
#[command(name = "cairn-store", version, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 all is well, 1 not sound or not found, 2 wrong usage or nothing to look at."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Say what chain is stored, how far, and in how many bytes
    Info {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Print a line for each block
    List {
        /// Blocks to list: N (that one), FROM..TO (both included), FROM.. (up to the head) or ..TO (from block 0). The last 20 if
        /// not given
        #[arg(value_name = "FROM[..TO]")]
        range: Option<String>,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Print a block, its header, its body or its receipts
    Get {
        /// A number, a hash (0x and 64 hex digits), or `head`
        block: String,
        /// What of it
        #[arg(value_enum, default_value_t = Part::Block)]
        part: Part,
        /// Write its bytes (RLP) as they are, not to a terminal
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Print blocks, one JSON object a line, or their RLP
    Dump {
        /// Blocks to print: N (that one), FROM..TO (both included), FROM.. (up to the head) or ..TO (from block 0)
        #[arg(value_name = "FROM[..TO]")]
        range: String,
        /// Write RLP as `geth export` does, blocks back to back, not to a terminal
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Say which headers, bodies and receipts are there and which are missing, and whether headers link
    ///
    /// Reads every header and every stored body and receipts, but does not decompress them. Bodies that were pruned and receipts that
    /// nobody stored are missing and sound; a missing header, a missing body above the first and a broken link are not.
    Gaps {
        #[command(flatten)]
        store: StoreArgs,
        #[command(flatten)]
        jobs: JobsArg,
    },
    /// Read every record, and check that headers link and bodies have the roots their headers say
    ///
    /// With --deep also all rules of the chain that need no state: every field of every header, clique's seals, ommers,
    /// transactions, receipts. The chain's rules are those of the genesis.json beside the store, or built in.
    Verify(VerifyArgs),
    /// Count: bytes, transactions by type, gas, times between blocks, signers
    Stats(StatsArgs),
    /// Measure how fast this store is read on this machine
    ///
    /// Reads only, on one thread, for about as long as asked. What lies in the system's cache is read from there: the first run on a
    /// store that was not read before tells what the disk gives.
    Bench {
        /// About how long all of it may take
        #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
        seconds: f64,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Write stored blocks to a file, in RLP back to back as `geth export` does, or as era1
    Export {
        /// The file to write; `-` is standard output. With era1 also a folder, for a file each era
        file: PathBuf,
        /// Blocks to write, as for `list`. All if not given; with era1 all whole eras
        #[arg(value_name = "FROM[..TO]")]
        range: Option<String>,
        /// What to write. era1 if FILE ends in .era1, else rlp
        #[arg(long, value_enum)]
        format: Option<Format>,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Check the blocks of a file by the chain's rules and store them: RLP back to back, or era1 with its receipts
    ///
    /// The store must be there: `cairn init` makes one.
    Import {
        /// The file to read
        file: PathBuf,
        /// The chain's genesis.json, if it is neither beside the store nor built in
        #[arg(long, value_name = "FILE")]
        genesis: Option<PathBuf>,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Forget the bodies and receipts of old blocks, by whole eras of 8192. Headers stay
    Prune {
        /// Forget those below block N, rounded down to a whole era
        #[arg(long, value_name = "N")]
        before: u64,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Make the hash index anew from the headers
    RebuildIndex {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Mend what is damaged, as far as the store can by itself
    ///
    /// Nothing is deleted: what is replaced stays beside its replacement as *.damaged, and files that are newer than the MANIFEST get the
    /// ending .aside. Damaged bodies and receipts become absent; importing a file that has those blocks
    /// puts them back.
    Repair {
        /// Only say what would be done, and why
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Write a test chain that a seed decides, and its genesis.json
    ///
    /// Signatures, seals, and the roots of transactions, ommers and withdrawals are real. State roots are not: nothing is executed, and
    /// each header repeats the genesis block's state root, so a client that executes blocks refuses them. Clique chains (london) are
    /// sealed by the well-known development key.
    Generate(GenerateArgs),
}

#[derive(Args, Debug)]
pub(crate) struct StoreArgs {
    /// A node's data folder (its store is in `blocks` there), or a store's own folder
    #[arg(long, value_name = "DIR")]
    pub(crate) datadir: PathBuf,
    /// Print JSON: snake_case keys, 256-bit values and hashes as 0x strings
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct JobsArg {
    /// Threads that work at the same time. As many as there are cores if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) jobs: Option<u16>,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Check all rules that need no state, seals and receipts too
    #[arg(long)]
    pub(crate) deep: bool,
    /// Keep note in FILE of what has been verified, and go on from there if it has notes already
    ///
    /// A line is added for each era of 8192 blocks, so that little is lost when the power fails. FILE is removed when all has been
    /// found sound. Eras whose files have changed since are read again.
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,
    /// The chain's genesis.json, if it is neither beside the store nor built in
    #[arg(long, value_name = "FILE", requires = "deep")]
    pub(crate) genesis: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) jobs: JobsArg,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    /// Blocks to look at, as for `list`. All if not given
    #[arg(value_name = "FROM[..TO]")]
    pub(crate) range: Option<String>,
    /// Count for each N blocks too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) by: Option<u64>,
    /// Draw it in FILE, for each N blocks of --by or about 120 parts
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Overwrite FILE if it exists
    #[arg(long, requires = "svg")]
    pub(crate) force: bool,
    /// The chain's genesis.json, if it is neither beside the store nor built in: it says how far apart clique's blocks are
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) jobs: JobsArg,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Args, Debug)]
pub(crate) struct GenerateArgs {
    /// Blocks after the genesis block
    #[arg(long, value_name = "N")]
    pub(crate) blocks: u64,
    /// Transactions of each block
    #[arg(long, value_name = "M")]
    pub(crate) txs: u32,
    /// The same seed gives the same bytes
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// The block file to write: blocks from 1 on, in RLP, back to back, as `geth export` does. A name that ends in .era1 gives an era1
    /// file from block 0 on with receipts: fork london, 8191 blocks at most
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The genesis.json to write
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: PathBuf,
    /// The rules to live by
    #[arg(long, value_enum, default_value_t = Fork::London)]
    pub(crate) fork: Fork,
    /// Bytes of each body. If not given bodies differ, at about 420 bytes a transaction (prague: 600, and some blocks are large)
    #[arg(long, value_name = "B")]
    pub(crate) body_bytes: Option<usize>,
    /// Overwrite files that exist
    #[arg(long)]
    pub(crate) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// The header
    Header,
    /// The transactions, ommers and withdrawals
    Body,
    /// Header and body
    Block,
    /// The receipts, in the form of eth/69 (without blooms)
    Receipts,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// Blocks in RLP, back to back
    Rlp,
    /// Whole eras with receipts and total difficulty
    Era1,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fork {
    /// Clique, sealed by the development key, transactions of types 0 to 2
    London,
    /// Unsealed proof of stake, types 0 to 4, withdrawals, some large blocks
    Prague,
}
