//! Stores of generated chains, and the binary run on them.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use cairn::{
    chain::Genesis,
    generate::{self, Fork, GeneratedBlock, Params},
};
use cairn_store::{NewBlock, Writer};
use serde_json::Value;
use tempfile::TempDir;

/// A node's data folder with a store in it, and what was put there.
pub struct Fixture {
    pub dir: TempDir,
    pub genesis: Genesis,
    pub blocks: Vec<GeneratedBlock>,
}

/// What a run of the binary gave.
pub struct Ran {
    pub status: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Fails unless the status is `status` and standard error holds `part`.
    pub fn refused(&self, status: i32, part: &str) {
        assert_eq!(self.status, status, "{}{}", self.text(), self.err);
        assert!(self.err.contains(part), "no {part:?} in: {}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }

    /// Fails unless all went well and nothing was complained of.
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{}", self.err);
        // On a busy machine there is time to tell of progress.
        let is_progress = |line: &&str| {
            let parts = line.split_once(": ").map(|(_, told)| told.split(' '));
            parts.is_some_and(|mut told| told.nth(1) == Some("of"))
        };
        assert_eq!(self.err.lines().find(|line| !is_progress(line)), None);
        self
    }
}

/// `cairn-store` with `args`.
pub fn run(args: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_cairn-store"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ran {
        status: output.status.code().unwrap(),
        out: output.stdout,
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Fixture {
    /// A clique chain of `blocks` blocks with three transactions each.
    pub fn clique(blocks: u64) -> Self {
        Self::new(&Params {
            blocks,
            txs_per_block: 3,
            seed: 1,
            ..Params::default()
        })
    }

    pub fn prague(blocks: u64) -> Self {
        Self::new(&Params {
            blocks,
            txs_per_block: 30,
            fork: Fork::Prague,
            ..Params::default()
        })
    }

    pub fn new(params: &Params) -> Self {
        let (generated, blocks) = generate::blocks(params);
        Self::of(generated.genesis, blocks.collect())
    }

    /// A chain of proof of stake with its receipts.
    pub fn with_receipts(blocks: u64) -> Self {
        let (generated, blocks) = generate::blocks(&Params {
            blocks,
            txs_per_block: 12,
            fork: Fork::Prague,
            ..Params::default()
        });
        Self::made(generated.genesis, blocks.collect(), true)
    }

    /// A store of any blocks, which may be what no chain would accept.
    pub fn of(genesis: Genesis, blocks: Vec<GeneratedBlock>) -> Self {
        Self::made(genesis, blocks, false)
    }

    pub fn made(genesis: Genesis, blocks: Vec<GeneratedBlock>, receipts: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(
            &dir.path().join("blocks"),
            &cairn_store::Genesis {
                chain_id: genesis.spec.network_id(),
                hash: genesis.header.hash,
                difficulty: genesis.header.header.difficulty,
                header: &genesis.header.raw,
                body: &genesis.body,
            },
        )
        .unwrap();
        // Small commits for small chains, so that both kinds of them are there.
        for some in blocks.chunks((blocks.len() / 100).max(10)) {
            let new: Vec<NewBlock<'_>> = some
                .iter()
                .map(|block| NewBlock {
                    number: block.header.header.number,
                    hash: block.header.hash,
                    td: block.td,
                    header: &block.header.raw,
                    body: &block.body,
                    receipts: receipts.then_some(&block.receipts[..]),
                })
                .collect();
            writer
                .commit(&new, some.last().unwrap().header.hash)
                .unwrap();
        }
        Self {
            dir,
            genesis,
            blocks,
        }
    }

    /// Puts the generator's genesis.json of `fork` beside the store, as `cairn init` does.
    pub fn write_genesis(&self, fork: Fork) {
        let (generated, _) = generate::blocks(&Params {
            blocks: 1,
            fork,
            ..Params::default()
        });
        fs::write(self.dir.path().join("genesis.json"), generated.genesis_json).unwrap();
    }

    /// The data folder, as an argument.
    pub fn datadir(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("blocks")
    }

    /// `cairn-store` with `args` and this data folder.
    pub fn run(&self, args: &[&str]) -> Ran {
        let mut all = args.to_vec();
        all.extend(["--datadir", self.datadir()]);
        run(&all)
    }
}

/// Everything below `dir`: bytes, length and time of the last change of each file.
pub fn tree(dir: &Path) -> BTreeMap<PathBuf, (Option<Vec<u8>>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        found.insert(
            folder.clone(),
            (None, fs::metadata(&folder).unwrap().modified().unwrap()),
        );
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let changed = fs::metadata(&path).unwrap().modified().unwrap();
                found.insert(path.clone(), (Some(fs::read(&path).unwrap()), changed));
            }
        }
    }
    found
}
