//! Ommers, judged against the last generations.

use std::collections::VecDeque;

use alloy_primitives::{B256, keccak256};
use bytes::Bytes;

use super::{
    body,
    error::{BodyError, Fault, HeaderError},
    header::SealedHeader,
    rules::Rules,
};

/// An ommer's parent is an ancestor of its block at most so many generations back (yellow paper, section 11.1), the block's parent
/// being the first.
const GENERATIONS: usize = 7;

/// Most ommers of a block.
pub(crate) const MOST_OMMERS: usize = 2;

/// The last blocks of a chain, to judge the ommers of the next one by. Blocks are pushed in order. A window that does not reach
/// back far enough (to the first block or seven generations) refuses no ommer for what it cannot see.
#[derive(Clone, Default, Debug)]
pub struct OmmerWindow {
    blocks: VecDeque<Generation>,
}

#[derive(Clone, Debug)]
struct Generation {
    header: SealedHeader,
    ommers: Vec<B256>,
}

impl OmmerWindow {
    /// Blocks that it looks back on: push so many after a restart.
    pub const BLOCKS: u64 = GENERATIONS as u64;

    /// A window that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next block of the chain. A block that does not follow the last one starts the window anew.
    pub fn push(&mut self, header: &SealedHeader, body: &[u8]) {
        let follows = |last: &Generation| last.header.hash == header.header.parent_hash;
        if !self.blocks.back().is_some_and(follows) {
            self.blocks.clear();
        }
        if self.blocks.len() == GENERATIONS {
            self.blocks.pop_front();
        }
        self.blocks.push_back(Generation {
            header: header.clone(),
            ommers: body::ommers(body)
                .take(MOST_OMMERS)
                .map(keccak256)
                .collect(),
        });
    }

    /// Judges the ommers of a block that follows the last one pushed: none an ancestor, none there before, each the child of an ancestor
    /// (not of the block's own parent's) within seven generations, and each a valid header after its parent.
    ///
    /// # Errors
    /// [`BodyError::Invalid`] names the ommer and what is wrong with it.
    pub fn check(
        &self,
        rules: &Rules,
        header: &SealedHeader,
        body: &[u8],
    ) -> Result<(), BodyError> {
        let parts = body::parts(body)?;
        if parts.ommers.len() == 1 {
            return Ok(());
        }
        let (number, hash) = (header.header.number, header.hash);
        let invalid = |fault: Fault| BodyError::Invalid(Box::new(fault.of(number, hash)));
        let mut seen: Vec<B256> = Vec::with_capacity(MOST_OMMERS);
        for (index, raw) in body::ommers(body).enumerate() {
            let field = format!("uncles[{index}]");
            let ommer = SealedHeader::decode(Bytes::copy_from_slice(raw))
                .map_err(|error| invalid(Fault::malformed(&*field, error)))?;
            if index >= MOST_OMMERS {
                return Err(invalid(Fault::mismatch(
                    "uncles",
                    format_args!("at most {MOST_OMMERS}"),
                    "more",
                )));
            }
            if seen.contains(&ommer.hash) || self.includes(&ommer.hash) {
                return Err(invalid(Fault::mismatch(
                    field,
                    "an ommer that was not included before",
                    format_args!("{}, which was", ommer.hash),
                )));
            }
            seen.push(ommer.hash);
            self.check_one(rules, header, &ommer, &field)
                .map_err(invalid)?;
        }
        Ok(())
    }

    fn includes(&self, ommer: &B256) -> bool {
        self.blocks
            .iter()
            .any(|block| block.header.hash == *ommer || block.ommers.contains(ommer))
    }

    fn check_one(
        &self,
        rules: &Rules,
        block: &SealedHeader,
        ommer: &SealedHeader,
        field: &str,
    ) -> Result<(), Fault> {
        let parent_hash = ommer.header.parent_hash;
        let parent = self
            .blocks
            .iter()
            .find(|generation| generation.header.hash == parent_hash);
        let Some(parent) = parent.filter(|_| parent_hash != block.header.parent_hash) else {
            if parent_hash != block.header.parent_hash && !self.is_whole() {
                return Ok(());
            }
            return Err(Fault::mismatch(
                format!("{field}.parentHash"),
                "an ancestor two to seven generations back",
                parent_hash,
            ));
        };
        rules
            .check_ommer(&parent.header, ommer)
            .map_err(|error| match error {
                HeaderError::Invalid(mut fault) => {
                    fault.field = format!("{field}.{}", fault.field);
                    *fault
                }
                other => Fault::malformed(field, other),
            })
    }

    /// True if no ancestor that an ommer could hang on is out of sight.
    fn is_whole(&self) -> bool {
        self.blocks.len() == GENERATIONS
            || self
                .blocks
                .front()
                .is_some_and(|first| first.header.header.number == 0)
    }
}
