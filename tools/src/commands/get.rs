//! `get`: one block, its header, its body or its receipts, decoded or as it is.

use cairn_store::{Reader, Snapshot};

use crate::{
    block,
    cli::Part,
    failure::Failure,
    output::Output,
    request::{BlockId, Get, Store},
    view,
};

pub(crate) fn run(store: &Store, get: &Get) -> Result<(), Failure> {
    let mut out = Output::new(store.json);
    out.refuse_terminal(get.raw)?;
    let snapshot = Reader::open(&store.folder)?.snapshot();
    let number = number(&snapshot, get.block)?;
    let header = || block::header(&snapshot, number);
    let body = || block::body(&snapshot, number);
    if get.raw {
        out.bytes(&match get.part {
            Part::Header => header()?,
            Part::Body => body()?,
            Part::Receipts => block::receipts(&snapshot, number)?,
            Part::Block => block::rlp(&header()?, &body()?)?,
        })?;
    } else {
        out.value(&match get.part {
            Part::Header => view::header(&header()?),
            Part::Body => view::body(&body()?),
            Part::Receipts => view::receipts(&block::receipts(&snapshot, number)?),
            Part::Block => {
                let (hash, td) = (snapshot.hash(number)?, snapshot.td(number)?);
                block::value(number, hash, td, &header()?, &body()?)
            }
        })?;
    }
    out.finish()
}

fn number(snapshot: &Snapshot, block: BlockId) -> Result<u64, Failure> {
    let head = snapshot.head();
    match block {
        BlockId::Head => Ok(head.number),
        BlockId::Number(number) if number <= head.number => Ok(number),
        BlockId::Number(number) => Err(Failure::No(format!(
            "there is no block {number} yet: the head is {}",
            head.number
        ))),
        BlockId::Hash(hash) => snapshot.number(&hash)?.ok_or_else(|| {
            Failure::No(format!(
                "no block of the canonical chain has the hash {hash} (the head is {} {})",
                head.number, head.hash
            ))
        }),
    }
}
