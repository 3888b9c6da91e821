//! Every kind of change, each on a small store of its own: what is there before it, what is there behind each commit of
//! it. For tests that let it fail at any point. Blocks are as small as the store takes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use alloy_primitives::{B256, U256, keccak256};
use alloy_rlp::{Encodable, Header};
use cairn_store::faults::Hook;
use cairn_store::repair::{rebuild_index_with, repair_with};
use cairn_store::{Error, NewBlock, NewReceipts, Reader, Writer, check};

use crate::common::Block;

pub(crate) const ERA: u64 = 8192;

/// What a store holds behind a commit.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) blocks: Vec<Block>,
    pub(crate) first_header: u64,
    pub(crate) first_body: u64,
}

impl State {
    fn of(blocks: &[Block]) -> State {
        State {
            blocks: blocks.to_vec(),
            first_header: 0,
            first_body: 0,
        }
    }

    /// What differs between this and the store; also what `verify` says of it.
    pub(crate) fn check(&self, dir: &Path) -> Result<(), String> {
        let fault = |e: Error| e.to_string();
        let snapshot = Reader::open(dir).map_err(fault)?.snapshot();
        let head = self.blocks.last().expect("a chain has blocks").head();
        let found = (
            snapshot.head(),
            snapshot.first_header(),
            snapshot.first_body(),
        );
        let expected = (head, self.first_header, self.first_body);
        if found != expected {
            return Err(format!("found {found:?}, expected {expected:?}"));
        }
        for block in &self.blocks[self.first_header as usize..] {
            let n = block.number;
            let header = snapshot.header(n).map_err(fault)?;
            let has_body = n >= self.first_body;
            let body = has_body.then_some(&block.body);
            let receipts = block.receipts.as_ref().filter(|_| has_body);
            let is_right = header.is_some_and(|header| header[..] == block.header[..])
                && snapshot.body(n).map_err(fault)?.as_ref() == body
                && snapshot.receipts(n).map_err(fault)?.as_ref() == receipts
                && (n % 97 > 0 || snapshot.number(&block.hash).map_err(fault)? == Some(n));
            if !is_right {
                return Err(format!("block {n} is not what was given"));
            }
        }
        let report = check::verify(dir, &mut |_, _| {}).map_err(fault)?;
        match report.is_sound() {
            true => Ok(()),
            false => Err(format!("{:?}", report.problems)),
        }
    }
}

type Prepare = fn(&Path) -> Result<(), Error>;
type Change = fn(&Path, Arc<dyn Hook>, &mut usize) -> Result<(), Error>;

/// A kind of change.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Makes the store that it is made to; `None`: it makes the store itself.
    pub(crate) prepare: Option<Prepare>,
    /// Makes the change, and counts its commits as they are acknowledged. After an error it has seen that nothing more can be
    /// written.
    pub(crate) change: Change,
    /// Before it, and behind each of its commits.
    pub(crate) states: Vec<State>,
    /// The store is damaged before.
    pub(crate) is_repair: bool,
}

/// A block as small as can be.
fn small(parent: Option<&Block>, extra: u64) -> Block {
    let number = parent.map_or(0, |parent| parent.number + 1);
    let mut fields = Vec::with_capacity(64);
    parent
        .map_or(B256::ZERO, |parent| parent.hash)
        .encode(&mut fields);
    fields.extend_from_slice(&[0x80; 6]);
    2_u64.encode(&mut fields);
    number.encode(&mut fields);
    extra.encode(&mut fields);
    let mut header = Vec::with_capacity(66);
    Header {
        list: true,
        payload_length: fields.len(),
    }
    .encode(&mut header);
    header.extend_from_slice(&fields);
    Block {
        number,
        hash: keccak256(&header),
        td: parent.map_or(U256::ZERO, |parent| parent.td) + U256::from(2),
        header,
        body: vec![0xc2, 0xc0, 0xc0],
        receipts: None,
    }
}

pub(crate) fn grow(blocks: &mut Vec<Block>, count: u64, extra: u64) {
    for _ in 0..count {
        blocks.push(small(blocks.last(), extra));
    }
}

/// The first blocks of the one long chain.
fn chain(head: u64) -> Vec<Block> {
    static LONG: LazyLock<Vec<Block>> = LazyLock::new(|| {
        let mut blocks = Vec::new();
        grow(&mut blocks, 4 * ERA + 2200, 0);
        blocks
    });
    LONG[..=head as usize].to_vec()
}

/// A branch of so many blocks on block `fork` of the long chain.
fn branch(fork: u64, count: u64) -> Vec<Block> {
    let mut blocks = chain(fork);
    grow(&mut blocks, count, 1);
    blocks
}

fn new(blocks: &[Block]) -> Vec<NewBlock<'_>> {
    blocks.iter().map(Block::new_block).collect()
}

/// A store of a chain, committed in parts of `part` blocks.
fn make(dir: &Path, blocks: &[Block], part: usize) -> Result<(), Error> {
    let mut writer = Writer::create(dir, &blocks[0].genesis())?;
    for part in blocks[1..].chunks(part) {
        let head = part.last().expect("a part has blocks").hash;
        writer.commit(&new(part), head)?;
    }
    Ok(())
}

/// Sees that a writer that failed writes no more.
fn sees<T>(writer: &mut Writer, result: Result<T, Error>) -> Result<T, Error> {
    if result.is_err() {
        let again = writer.commit(&[], B256::ZERO).map(drop);
        assert!(matches!(again, Err(Error::Poisoned)), "{again:?}");
    }
    result
}

/// Commits the parts of a chain, one after the other.
fn commits(
    dir: &Path,
    hook: Arc<dyn Hook>,
    done: &mut usize,
    parts: &[&[Block]],
) -> Result<(), Error> {
    let mut writer = Writer::open_with(dir, hook)?;
    for part in parts {
        let result = writer.commit(&new(part), part.last().expect("not empty").hash);
        sees(&mut writer, result)?;
        *done += 1;
    }
    Ok(())
}

fn settled(dir: &Path) -> Result<(), Error> {
    make(dir, &chain(3000), 3000)
}

fn with_an_era(dir: &Path) -> Result<(), Error> {
    make(dir, &chain(ERA + 1500), 5000)
}

fn heavy() -> Vec<Block> {
    let mut blocks = chain(3);
    grow(&mut blocks, 3, 0);
    blocks[5].body = vec![0; 9 << 20];
    blocks
}

fn with_late_receipts(mut blocks: Vec<Block>) -> Vec<Block> {
    for block in &mut blocks {
        if (50..60).contains(&block.number) || block.number > 2990 {
            block.receipts = Some(vec![0xc3, 1, 2, 3]);
        }
    }
    blocks
}

/// Damages a copy of the MANIFEST, the first page of a segment of bodies, and the hash index.
fn damage(dir: &Path) -> Result<(), Error> {
    with_an_era(dir)?;
    for (folder, at) in [(".", 100), ("bodies", 20), ("hash", 5000)] {
        let named = |path: &PathBuf| match folder {
            "." => path.ends_with("MANIFEST.1"),
            _ => true,
        };
        let mut paths: Vec<PathBuf> = fs::read_dir(dir.join(folder))
            .expect("the folder is there")
            .map(|entry| entry.expect("it can be read").path())
            .filter(named)
            .collect();
        paths.sort();
        let mut bytes = fs::read(&paths[0]).expect("it can be read");
        bytes[at] ^= 4;
        fs::write(&paths[0], bytes).expect("it can be written");
    }
    Ok(())
}

/// All kinds but the merge of runs, which takes four eras.
pub(crate) fn small_kinds() -> Vec<Kind> {
    let plain = |name, prepare, change, states: &[&[Block]]| Kind {
        name,
        prepare,
        change,
        states: states.iter().map(|blocks| State::of(blocks)).collect(),
        is_repair: false,
    };
    let expired = |first_body| State {
        first_body,
        ..State::of(&chain(ERA + 1500))
    };
    let joined = |first| State {
        first_header: first,
        first_body: first,
        ..State::of(&chain(ERA + 50))
    };
    let long = chain(3000);
    vec![
        plain(
            "create",
            None,
            |dir, hook, done| {
                Writer::create_with(dir, &chain(0)[0].genesis(), hook)?;
                *done += 1;
                Ok(())
            },
            &[&chain(0), &chain(0)],
        ),
        plain(
            "first change and frames",
            Some(|dir| make(dir, &chain(3), 1)),
            |dir, hook, done| {
                let blocks = chain(6);
                commits(
                    dir,
                    hook,
                    done,
                    &[&blocks[4..5], &blocks[5..6], &blocks[6..]],
                )
            },
            &[&chain(3), &chain(4), &chain(5), &chain(6)],
        ),
        plain(
            "settle",
            Some(|dir| make(dir, &chain(2030), 500)),
            |dir, hook, done| {
                let blocks = chain(2060);
                commits(dir, hook, done, &[&blocks[2031..2035], &blocks[2035..]])
            },
            &[&chain(2030), &chain(2034), &chain(2060)],
        ),
        plain(
            "batch",
            Some(|dir| make(dir, &chain(3), 1)),
            |dir, hook, done| commits(dir, hook, done, &[&heavy()[4..]]),
            &[&chain(3), &heavy()],
        ),
        plain(
            "reorganise below the tip",
            Some(settled),
            |dir, hook, done| commits(dir, hook, done, &[&branch(100, 20)[101..]]),
            &[&long, &branch(100, 20)],
        ),
        plain(
            "replace",
            Some(settled),
            |dir, hook, done| {
                let blocks = branch(100, ERA + 1500);
                let mut writer = Writer::open_with(dir, hook)?;
                let mut all = || {
                    let mut replace = writer.replace_above(100)?;
                    for part in blocks[101..].chunks(2500) {
                        replace.append(&new(part))?;
                    }
                    replace.finish(blocks.last().expect("not empty").hash)
                };
                let result = all();
                sees(&mut writer, result)?;
                *done += 1;
                Ok(())
            },
            &[&long, &branch(100, ERA + 1500)],
        ),
        plain(
            "receipts",
            Some(settled),
            |dir, hook, done| {
                let blocks = with_late_receipts(chain(3000));
                let late: Vec<NewReceipts<'_>> = blocks
                    .iter()
                    .filter_map(|block| {
                        Some(NewReceipts {
                            number: block.number,
                            hash: block.hash,
                            receipts: block.receipts.as_deref()?,
                        })
                    })
                    .collect();
                let mut writer = Writer::open_with(dir, hook)?;
                let result = writer.add_receipts(&late);
                sees(&mut writer, result)?;
                *done += 1;
                Ok(())
            },
            &[&long, &with_late_receipts(chain(3000))],
        ),
        Kind {
            name: "expire",
            prepare: Some(with_an_era),
            change: |dir, hook, done| {
                let mut writer = Writer::open_with(dir, hook)?;
                let result = writer.expire(ERA);
                sees(&mut writer, result)?;
                *done += 1;
                Ok(())
            },
            states: vec![expired(0), expired(ERA)],
            is_repair: false,
        },
        Kind {
            name: "join",
            prepare: Some(|dir| {
                let blocks = chain(ERA + 50);
                let below = blocks[ERA as usize - 1].head();
                let mut writer = Writer::create_at(dir, &blocks[0].genesis(), below)?;
                writer
                    .commit(
                        &new(&blocks[ERA as usize..]),
                        blocks[ERA as usize + 50].hash,
                    )
                    .map(drop)
            }),
            change: |dir, hook, done| {
                let blocks = chain(ERA - 1);
                let mut writer = Writer::open_with(dir, hook)?;
                let mut all = || {
                    let mut join = writer.join_below(0)?;
                    for block in &blocks {
                        join.push(&block.new_block())?;
                    }
                    join.finish()
                };
                let result = all();
                sees(&mut writer, result)?;
                *done += 1;
                Ok(())
            },
            states: vec![joined(ERA), joined(0)],
            is_repair: false,
        },
        Kind {
            name: "repair",
            prepare: Some(damage),
            change: |dir, hook, done| {
                let repair = repair_with(dir, false, hook)?;
                assert!(repair.left.is_empty(), "{repair:?}");
                *done += 1;
                Ok(())
            },
            states: vec![expired(0), expired(0)],
            is_repair: true,
        },
        Kind {
            name: "rebuild the index",
            prepare: Some(with_an_era),
            change: |dir, hook, done| {
                rebuild_index_with(dir, hook)?;
                *done += 1;
                Ok(())
            },
            states: vec![expired(0), expired(0)],
            is_repair: false,
        },
    ]
}

/// The merge of four runs.
pub(crate) fn merge() -> Kind {
    Kind {
        name: "merge runs",
        prepare: Some(|dir| make(dir, &chain(4 * ERA + 1000), 5000)),
        change: |dir, hook, done| {
            let blocks = chain(4 * ERA + 2100);
            commits(dir, hook, done, &[&blocks[4 * ERA as usize + 1001..]])
        },
        states: [1000, 2100]
            .map(|above| State::of(&chain(4 * ERA + above)))
            .to_vec(),
        is_repair: false,
    }
}

/// Copies a store.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("it can be listed") {
        let path = entry.expect("it can be read").path();
        let to = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).expect("it can be copied");
        }
    }
}
