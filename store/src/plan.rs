//! What a commit is to do: which blocks are new, what each hangs on, and the chain that leads to the head. Pure: decided
//! before anything is written.

use std::collections::HashMap;

use alloy_primitives::{B256, U256};

use crate::NewBlock;
use crate::error::Error;
use crate::format::{Kind, MAX_RECORD_BYTES};
use crate::frame::FrameBuilder;
use crate::rlp;
use crate::snappy::Compressor;
use crate::snapshot::Snapshot;
use crate::tip::{ANCHOR, TipIndex};

/// A block that others hang on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// The last cold block.
    Anchor,
    /// A block of the tip's index.
    Tip(u32),
    /// A block of the plan.
    Fresh(u32),
}

impl Link {
    pub(crate) fn of_tip(at: u32) -> Link {
        if at == ANCHOR {
            Link::Anchor
        } else {
            Link::Tip(at)
        }
    }
}

/// A block that is not stored yet.
pub(crate) struct Fresh<'b> {
    pub(crate) block: &'b NewBlock<'b>,
    pub(crate) parent_hash: B256,
    pub(crate) parent: Link,
}

impl Fresh<'_> {
    /// Uncompressed bytes of all its records.
    pub(crate) fn raw(&self) -> u64 {
        (self.block.header.len()
            + self.block.body.len()
            + self.block.receipts.map_or(0, <[u8]>::len)) as u64
    }

    /// Adds the block's records to a frame.
    pub(crate) fn put(&self, frame: &mut FrameBuilder, compressor: &mut Compressor) {
        let NewBlock {
            number,
            hash,
            td,
            header,
            body,
            receipts,
        } = *self.block;
        frame.header(number, hash, (self.parent_hash, td), header);
        frame.compress(number, Kind::Bodies, hash, body, compressor);
        if let Some(receipts) = receipts {
            frame.compress(number, Kind::Receipts, hash, receipts, compressor);
        }
    }
}

/// What a commit is to do.
pub(crate) struct Plan<'b> {
    pub(crate) fresh: Vec<Fresh<'b>>,
    pub(crate) head: Link,
    pub(crate) head_number: u64,
    pub(crate) head_hash: B256,
    /// Uncompressed bytes of the new blocks.
    pub(crate) raw: u64,
}

impl<'b> Plan<'b> {
    pub(crate) fn make(
        snapshot: &Snapshot,
        blocks: &'b [NewBlock<'b>],
        head: B256,
    ) -> Result<Plan<'b>, Error> {
        let tip = &snapshot.tip;
        let mut fresh: Vec<Fresh<'b>> = Vec::with_capacity(blocks.len());
        let mut by_hash: HashMap<B256, u32> = HashMap::with_capacity(blocks.len());
        let mut raw = 0;
        for block in blocks {
            if is_known(snapshot, block)? || by_hash.contains_key(&block.hash) {
                continue;
            }
            let fields = check(block)?;
            let missing = Error::NotLinked {
                number: block.number,
                parent: fields.parent,
            };
            let parent = match by_hash.get(&fields.parent) {
                Some(&at) => Link::Fresh(at),
                None => tip
                    .parent(block.number, &fields.parent)
                    .map(Link::of_tip)
                    .ok_or(missing)?,
            };
            let (parent_number, parent_td) = match parent {
                Link::Fresh(at) => (
                    Some(fresh[at as usize].block.number),
                    fresh[at as usize].block.td,
                ),
                Link::Tip(at) => (Some(tip.block(at).number), tip.block(at).td),
                Link::Anchor => (tip.base().checked_sub(1), tip.anchor().1),
            };
            if block.number.checked_sub(1) != parent_number {
                return Err(bad(
                    block,
                    format!("its parent is block {}", parent_number.unwrap_or_default()),
                ));
            }
            let td = parent_td.saturating_add(fields.difficulty);
            if block.td != td {
                return Err(bad(
                    block,
                    format!("total difficulty: expected {td}, found {}", block.td),
                ));
            }
            by_hash.insert(block.hash, fresh.len() as u32);
            fresh.push(Fresh {
                block,
                parent_hash: fields.parent,
                parent,
            });
            raw += fresh.last().map_or(0, Fresh::raw);
        }
        let (anchor, _) = tip.anchor();
        let (head_link, head_number) = if let Some(&at) = by_hash.get(&head) {
            (Link::Fresh(at), fresh[at as usize].block.number)
        } else if let Some(at) = tip.find(&head) {
            (Link::Tip(at), tip.block(at).number)
        } else if let Some(number) = tip.base().checked_sub(1).filter(|_| head == anchor) {
            (Link::Anchor, number)
        } else if let Some(number) = snapshot.number(&head)? {
            return Err(Error::TooDeep {
                number: number + 1,
                first: tip.base(),
            });
        } else {
            return Err(Error::UnknownHead { hash: head });
        };
        Ok(Plan {
            fresh,
            head: head_link,
            head_number,
            head_hash: head,
            raw,
        })
    }

    /// True if nothing would change.
    pub(crate) fn is_nothing(&self, snapshot: &Snapshot) -> bool {
        self.fresh.is_empty() && self.head_hash == snapshot.head.hash
    }

    /// The canonical chain above the last cold block, lowest first.
    pub(crate) fn chain(&self, tip: &TipIndex) -> Vec<Link> {
        let mut chain = Vec::new();
        let mut at = self.head;
        while at != Link::Anchor {
            chain.push(at);
            at = match at {
                Link::Tip(i) => Link::of_tip(tip.block(i).parent),
                Link::Fresh(i) => self.fresh[i as usize].parent,
                Link::Anchor => break,
            };
        }
        chain.reverse();
        chain
    }

    /// Number, hash and total difficulty of a block of the chain.
    pub(crate) fn name(&self, tip: &TipIndex, link: Link) -> (u64, B256, U256) {
        match link {
            Link::Tip(i) => (tip.block(i).number, tip.block(i).hash, tip.block(i).td),
            Link::Fresh(i) => {
                let block = self.fresh[i as usize].block;
                (block.number, block.hash, block.td)
            }
            Link::Anchor => (tip.base().saturating_sub(1), tip.anchor().0, tip.anchor().1),
        }
    }
}

fn is_known(snapshot: &Snapshot, block: &NewBlock<'_>) -> Result<bool, Error> {
    if let Some(at) = snapshot.tip.find(&block.hash) {
        let stored = snapshot.tip.block(at);
        if stored.number != block.number {
            return Err(bad(
                block,
                format!("it is stored as block {}", stored.number),
            ));
        }
        return Ok(true);
    }
    let base = snapshot.tip.base();
    if block.number >= base {
        return Ok(false);
    }
    match snapshot.hash(block.number)? {
        Some(hash) if hash == block.hash => Ok(true),
        _ => Err(Error::TooDeep {
            number: block.number,
            first: base,
        }),
    }
}

/// What a store can see of a block: that its header is one, of this number, and that its records can be kept.
fn check(block: &NewBlock<'_>) -> Result<rlp::Fields, Error> {
    let fields = rlp::fields(block.header)
        .ok_or_else(|| bad(block, "its header is not the RLP of a header".to_owned()))?;
    if fields.number != block.number {
        return Err(bad(
            block,
            format!("its header says block {}", fields.number),
        ));
    }
    debug_assert_eq!(
        alloy_primitives::keccak256(block.header),
        block.hash,
        "the caller hashed the header"
    );
    let records = [
        ("header", Some(block.header)),
        ("body", Some(block.body)),
        ("receipts", block.receipts),
    ];
    for (name, bytes) in records {
        match bytes.map_or(1, <[u8]>::len) {
            0 => return Err(bad(block, format!("its {name}: no bytes"))),
            n if n > MAX_RECORD_BYTES => {
                return Err(bad(
                    block,
                    format!("its {name}: {n} bytes, and at most {MAX_RECORD_BYTES} can be kept"),
                ));
            }
            _ => {}
        }
    }
    Ok(fields)
}

fn bad(block: &NewBlock<'_>, what: String) -> Error {
    Error::BadBlock {
        number: block.number,
        what,
    }
}
