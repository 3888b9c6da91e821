//! `get`: one block, its header or its body, decoded or as it is.

use cairn_store::{Reader, Snapshot};
use serde_json::{Map, Value, json};

use crate::{
    cli::Part,
    failure::Failure,
    output::Output,
    request::{BlockId, Get, Store},
    view,
};

pub(crate) fn run(store: &Store, get: &Get) -> Result<(), Failure> {
    let mut out = Output::new(store.json);
    if get.raw && out.is_terminal() {
        return Err(Failure::Usage(
            "--raw writes bytes, which a terminal cannot show: redirect it to a file, or pipe it to `xxd`".to_owned(),
        ));
    }
    let snapshot = Reader::open(&store.folder)?.snapshot();
    let number = number(&snapshot, get.block)?;
    let parts = Parts::read(&snapshot, number, get.part)?;
    if get.raw {
        out.bytes(&parts.raw()?)?;
    } else {
        out.value(&parts.value(&snapshot, number)?)?;
    }
    out.finish()
}

/// The bytes that were asked for.
struct Parts {
    header: Option<Vec<u8>>,
    body: Option<Vec<u8>>,
}

impl Parts {
    fn read(snapshot: &Snapshot, number: u64, part: Part) -> Result<Self, Failure> {
        let header = if part == Part::Body {
            None
        } else {
            let header = snapshot.header(number)?.ok_or_else(|| {
                Failure::No(format!("block {number}: the store has no header of it"))
            })?;
            Some(header.to_vec())
        };
        let body = if part == Part::Header {
            None
        } else {
            let body = snapshot.body(number)?.ok_or_else(|| {
                Failure::No(format!(
                    "block {number}: the store has no body of it (bodies begin at {})",
                    snapshot.first_body()
                ))
            })?;
            Some(body)
        };
        Ok(Self { header, body })
    }

    /// What was asked for in RLP: the header, the body, or the block as `geth export` writes it.
    fn raw(&self) -> Result<Vec<u8>, Failure> {
        Ok(match (&self.header, &self.body) {
            (Some(header), Some(body)) => cairn::chain::body::join_block(header, body)
                .map_err(|error| Failure::No(error.to_string()))?,
            (Some(bytes), None) | (None, Some(bytes)) => bytes.clone(),
            (None, None) => Vec::new(),
        })
    }

    fn value(&self, snapshot: &Snapshot, number: u64) -> Result<Value, Failure> {
        let header = self.header.as_deref().map(view::header);
        let body = self.body.as_deref().map(view::body);
        Ok(match (header, body) {
            (Some(header), Some(body)) => {
                let mut block = Map::new();
                block.insert("number".to_owned(), json!(number));
                if let Some(hash) = snapshot.hash(number)? {
                    block.insert("hash".to_owned(), view::text(hash));
                }
                if let Some(td) = snapshot.td(number)? {
                    block.insert("td".to_owned(), json!(format!("{td:#x}")));
                }
                block.insert("header".to_owned(), header);
                match body {
                    Value::Object(parts) if parts.contains_key("transactions") => {
                        block.extend(parts);
                    }
                    other => {
                        block.insert("body".to_owned(), other);
                    }
                }
                Value::Object(block)
            }
            (Some(value), None) | (None, Some(value)) => value,
            (None, None) => Value::Null,
        })
    }
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
