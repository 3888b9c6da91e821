//! The chains that are fetched: generated once and kept beside the build, since sealing and signing them takes minutes.

use std::path::{Path, PathBuf};

use cairn::datadir::DataDir;
use cairn::generate::{self, GeneratedBlock, Params};
use cairn_store::{NewBlock, Reader, Writer};

use crate::program::{run_ok, text};

/// Transactions in a block that has any.
const TRANSACTIONS: u32 = 100;
/// Uncompressed bytes of its body.
const BODY_BYTES: usize = 60_000;
/// What is committed at once while a chain is made.
const BATCH_BYTES: usize = 16 << 20;
const BATCH_BLOCKS: usize = 8_192;
/// Blocks of mainnet's first era.
const ERA_BLOCKS: u64 = 8_192;

/// A data folder that holds a chain and that nobody writes to any more.
pub(crate) struct Chain {
    pub(crate) dir: PathBuf,
    /// Number of the last block.
    pub(crate) last: u64,
    /// What a node is told that is to follow it, beside its peers.
    pub(crate) args: Vec<String>,
}

impl Chain {
    /// A clique chain of blocks with transactions, their bodies of about 60 kB as compressible as real ones.
    pub(crate) fn full(root: &Path, blocks: u64) -> Chain {
        let params = Params {
            blocks,
            txs_per_block: TRANSACTIONS,
            body_bytes: Some(BODY_BYTES),
            seed: 1,
            ..Params::default()
        };
        generated(root, &format!("full-{blocks}"), &params)
    }

    /// A clique chain of empty blocks: their bodies need not be asked for.
    pub(crate) fn empty(root: &Path, blocks: u64) -> Chain {
        let params = Params {
            blocks,
            txs_per_block: 0,
            seed: 1,
            ..Params::default()
        };
        generated(root, &format!("empty-{blocks}"), &params)
    }

    /// Mainnet's first era, which links to its genesis block: 1,410 ommers and no transactions yet. Of the folder's later
    /// blocks no more than some ten link, and a chain begins at genesis or at an era.
    pub(crate) fn mainnet(root: &Path, data: &Path) -> Chain {
        let dir = root.join("mainnet");
        if !dir.exists() {
            let file = data.join("era1/mainnet-00000-5ec1ffb8.era1");
            let making = root.join("mainnet.making");
            let _ = std::fs::remove_dir_all(&making);
            run_ok(&[
                "import",
                "--mainnet",
                "--datadir",
                text(&making),
                text(&file),
            ]);
            std::fs::rename(&making, &dir).unwrap();
        }
        let last = ERA_BLOCKS - 1;
        let chain = reader(&dir).snapshot();
        let target = chain.hash(last).unwrap().unwrap();
        Chain {
            dir,
            last,
            args: ["--mainnet", "--synctarget", &target.to_string()]
                .map(Into::into)
                .to_vec(),
        }
    }

    /// Bytes of the headers and bodies from block 1 to `last`.
    pub(crate) fn bytes(&self, last: u64) -> usize {
        let chain = reader(&self.dir).snapshot();
        let of = |number| {
            let header = chain.header(number).unwrap().unwrap().len();
            header + chain.body_stream(number).unwrap().unwrap().raw_len
        };
        (1..=last).map(of).sum()
    }

    /// The same folder again for another node: its settled files are linked, what a writer holds or writes over is copied.
    pub(crate) fn linked(&self, to: &Path) {
        link(&self.dir.join("blocks"), &to.join("blocks"));
    }
}

pub(crate) fn reader(dir: &Path) -> Reader {
    Reader::open(&DataDir::new(dir).blocks()).unwrap()
}

fn link(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            link(&entry.path(), &to);
        } else if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(char::is_numeric))
        {
            std::fs::hard_link(entry.path(), to).unwrap();
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn generated(root: &Path, name: &str, params: &Params) -> Chain {
    let dir = root.join(name);
    if !dir.exists() {
        let making = root.join(format!("{name}.making"));
        let _ = std::fs::remove_dir_all(&making);
        make(&making, params);
        std::fs::rename(&making, &dir).unwrap();
    }
    Chain {
        dir,
        last: params.blocks,
        args: Vec::new(),
    }
}

/// Stores the blocks as they are made: that they are valid is what the follower finds.
fn make(dir: &Path, params: &Params) {
    let (generated, blocks) = generate::blocks(params);
    let folder = DataDir::new(dir);
    folder.init(&generated.genesis, None).unwrap();
    let mut writer = Writer::open(&folder.blocks()).unwrap();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for block in blocks {
        bytes += block.header.raw.len() + block.body.len();
        batch.push(block);
        if bytes >= BATCH_BYTES || batch.len() == BATCH_BLOCKS {
            commit(&mut writer, &batch);
            let made = batch.last().map_or(0, |block| block.header.number());
            eprintln!("generated {made} of {} blocks", params.blocks);
            batch.clear();
            bytes = 0;
        }
    }
    commit(&mut writer, &batch);
}

fn commit(writer: &mut Writer, blocks: &[GeneratedBlock]) {
    let Some(head) = blocks.last().map(|block| block.header.hash) else {
        return;
    };
    let new: Vec<NewBlock<'_>> = blocks
        .iter()
        .map(|block| NewBlock {
            number: block.header.number(),
            hash: block.header.hash,
            td: block.td,
            header: &block.header.raw,
            body: &block.body,
            receipts: None,
        })
        .collect();
    writer.commit(&new, head).unwrap();
}
