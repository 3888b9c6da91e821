//! What a commit is to do: which blocks are new, what each hangs on, and the chain that leads to the head. Pure: decided
//! before anything is written.

use std::collections::HashMap;

use alloy_primitives::{B256, U256};

use crate::error::Error;
use crate::format::{Kind, MAX_RECORD_BYTES};
use crate::frame::FrameBuilder;
use crate::rlp;
use crate::snappy::Compressor;
use crate::snapshot::Snapshot;
use crate::tip::{ANCHOR, TipIndex};
use crate::{Head, NewBlock};

/// A block that others hang on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// The settled chain below this number: its last block is meant.
    Base(u64),
    /// A block of the tip's index.
    Tip(u32),
    /// A block of the plan.
    Fresh(u32),
}

impl Link {
    fn of_parent(tip: &TipIndex, at: u32) -> Link {
        if at == ANCHOR {
            Link::Base(tip.base())
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
    /// The number of the first block above the settled ones that the head's chain goes on from.
    base: u64,
    /// Uncompressed bytes of what is new.
    pub(crate) raw: u64,
    /// Receipts of blocks that are in the tip without any.
    pub(crate) late: HashMap<u32, &'b [u8]>,
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
                None => match tip.parent(block.number, &fields.parent) {
                    Some(at) => Link::of_parent(tip, at),
                    None => match block.number.checked_sub(1) {
                        Some(below)
                            if below < tip.base()
                                && snapshot.hash(below)? == Some(fields.parent) =>
                        {
                            Link::Base(block.number)
                        }
                        _ => return Err(missing),
                    },
                },
            };
            let (parent_number, parent_td) = match parent {
                Link::Fresh(at) => (
                    Some(fresh[at as usize].block.number),
                    fresh[at as usize].block.td,
                ),
                Link::Tip(at) => (Some(tip.block(at).number), tip.block(at).td),
                Link::Base(0) => (None, tip.anchor().1),
                Link::Base(n) => (Some(n - 1), snapshot.expect_td(n - 1)?),
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
        }
        let (head_link, head_number) = if let Some(&at) = by_hash.get(&head) {
            (Link::Fresh(at), fresh[at as usize].block.number)
        } else if let Some(at) = tip.find(&head) {
            (Link::Tip(at), tip.block(at).number)
        } else if let Some(number) = tip.base().checked_sub(1)
            && head == tip.anchor().0
        {
            (Link::Base(tip.base()), number)
        } else if let Some(number) = snapshot.number(&head)? {
            (Link::Base(number + 1), number)
        } else {
            return Err(Error::UnknownHead { hash: head });
        };
        let mut plan = Plan {
            fresh,
            head: head_link,
            head_number,
            head_hash: head,
            base: tip.base(),
            raw: 0,
            late: HashMap::new(),
        };
        plan.base = plan.find_base(tip);
        plan.drop_homeless(tip);
        plan.raw = plan.fresh.iter().map(Fresh::raw).sum();
        Ok(plan)
    }

    /// The plan of a branch in a row whose first block is to hang on the settled chain, wherever `base` is: checked before.
    pub(crate) fn of_branch(
        blocks: &'b [NewBlock<'b>],
        base: u64,
        head: (u64, B256),
    ) -> Result<Plan<'b>, Error> {
        let mut fresh: Vec<Fresh<'b>> = Vec::with_capacity(blocks.len());
        let mut at = Link::Base(base);
        for block in blocks {
            let parent_hash = check(block)?.parent;
            fresh.push(Fresh {
                block,
                parent_hash,
                parent: at,
            });
            at = Link::Fresh(fresh.len() as u32 - 1);
        }
        Ok(Plan {
            raw: fresh.iter().map(Fresh::raw).sum(),
            fresh,
            head: at,
            head_number: head.0,
            head_hash: head.1,
            base,
            late: HashMap::new(),
        })
    }

    /// Blocks that hang below the settled chain's end can only be kept on the way to the head: others are left out.
    fn drop_homeless(&mut self, tip: &TipIndex) {
        let base = self.base;
        let mut at = Vec::with_capacity(self.fresh.len());
        let mut kept = 0;
        for fresh in &self.fresh {
            let has_home = match fresh.parent {
                Link::Base(n) => n == base || n == tip.base(),
                Link::Tip(_) => true,
                Link::Fresh(parent) => at[parent as usize] != u32::MAX,
            };
            at.push(if has_home { kept } else { u32::MAX });
            kept += u32::from(has_home);
        }
        if kept as usize == self.fresh.len() {
            return;
        }
        let mut number = 0;
        self.fresh.retain(|_| {
            number += 1;
            at[number - 1] != u32::MAX
        });
        let link = |link: &mut Link| {
            if let Link::Fresh(i) = link {
                *i = at[*i as usize];
            }
        };
        link(&mut self.head);
        for fresh in &mut self.fresh {
            link(&mut fresh.parent);
        }
    }

    /// Whether the tip goes on: nothing that has settled is replaced.
    pub(crate) fn is_on_tip(&self, tip: &TipIndex) -> bool {
        self.base == tip.base()
    }

    fn find_base(&self, tip: &TipIndex) -> u64 {
        let mut at = self.head;
        loop {
            at = match at {
                Link::Tip(_) => return tip.base(),
                Link::Fresh(i) => self.fresh[i as usize].parent,
                Link::Base(n) => return n,
            };
        }
    }

    /// True if nothing would change.
    pub(crate) fn is_nothing(&self, snapshot: &Snapshot) -> bool {
        self.fresh.is_empty() && self.late.is_empty() && self.head_hash == snapshot.head.hash
    }

    /// The head's chain above the settled blocks it goes on from, lowest first, and the number of its first block.
    pub(crate) fn chain(&self, tip: &TipIndex) -> (u64, Vec<Link>) {
        let mut chain = Vec::new();
        let mut at = self.head;
        let base = loop {
            chain.push(at);
            at = match at {
                Link::Tip(i) => Link::of_parent(tip, tip.block(i).parent),
                Link::Fresh(i) => self.fresh[i as usize].parent,
                Link::Base(n) => break n,
            };
        };
        chain.pop();
        chain.reverse();
        (base, chain)
    }

    /// Number, hash and total difficulty of a block of the chain.
    pub(crate) fn name(&self, old: &Snapshot, link: Link) -> Result<(u64, B256, U256), Error> {
        Ok(match link {
            Link::Tip(i) => {
                let block = old.tip.block(i);
                (block.number, block.hash, block.td)
            }
            Link::Fresh(i) => {
                let block = self.fresh[i as usize].block;
                (block.number, block.hash, block.td)
            }
            Link::Base(n) => (n - 1, old.expect_hash(n - 1)?, old.expect_td(n - 1)?),
        })
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
    Ok(block.number < snapshot.tip.base() && snapshot.hash(block.number)? == Some(block.hash))
}

/// What a store can see of a block: that its header is one, of this number, and that its records can be kept.
pub(crate) fn check(block: &NewBlock<'_>) -> Result<rlp::Fields, Error> {
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

/// Sees that a block can be kept and is the next after `last`; returns what it makes the last.
pub(crate) fn follows(block: &NewBlock<'_>, last: &Head) -> Result<Head, Error> {
    let fields = check(block)?;
    if last.number.checked_add(1) != Some(block.number) {
        return Err(bad(block, format!("it follows block {}", last.number)));
    }
    if fields.parent != last.hash {
        return Err(bad(
            block,
            format!(
                "parent hash: expected {}, found {}",
                last.hash, fields.parent
            ),
        ));
    }
    let td = last.td.saturating_add(fields.difficulty);
    if block.td != td {
        return Err(bad(
            block,
            format!("total difficulty: expected {td}, found {}", block.td),
        ));
    }
    Ok(Head {
        number: block.number,
        hash: block.hash,
        td,
    })
}

fn bad(block: &NewBlock<'_>, what: String) -> Error {
    Error::BadBlock {
        number: block.number,
        what,
    }
}
