//! Beginning above genesis: the first block that is kept, judged without its parent's header.

use std::sync::Arc;

use alloy_primitives::{B256, U256};

use super::error::{Fault, HeaderError};
use super::{Rules, SealedHeader, Tip};

impl Rules {
    /// What is known at `header`, whose parent is known by number, hash and total difficulty alone. That it is a valid child is
    /// taken on trust, as all below it is.
    ///
    /// # Errors
    /// [`HeaderError::Invalid`] if it is no child of that parent, or if the chain is clique: who may seal is known only to those who have
    /// followed the chain from its genesis block, or from a checkpoint that they trust (`crate::checkpoint`).
    pub fn begin_above(
        &self,
        parent: (u64, B256, U256),
        header: Arc<SealedHeader>,
    ) -> Result<Tip, HeaderError> {
        let (parent_number, parent_hash, parent_td) = parent;
        let fields = &header.header;
        let of = |fault: Fault| HeaderError::from(fault.of(fields.number, header.hash));
        if fields.parent_hash != parent_hash {
            let fault = Fault::mismatch("parentHash", parent_hash, fields.parent_hash);
            return Err(of(fault));
        }
        if fields.number != parent_number.saturating_add(1) {
            let fault = Fault::mismatch("number", parent_number.saturating_add(1), fields.number);
            return Err(of(fault));
        }
        if self.spec.clique.is_some() {
            let fault = Fault::mismatch("extraData", "the signers at its parent", "none");
            return Err(of(fault));
        }
        let td = parent_td.saturating_add(fields.difficulty);
        Ok(Tip {
            header,
            td,
            clique: None,
        })
    }

    /// [`Rules::extend`] of a block older than what is kept, which the parent hashes of what is kept vouch for: who sealed it is not judged.
    ///
    /// # Errors
    /// [`HeaderError::Invalid`] names the field.
    pub fn extend_below(
        &self,
        parent: &Tip,
        header: Arc<SealedHeader>,
    ) -> Result<Tip, HeaderError> {
        self.judge_without_seal(parent, &header)?;
        let td = parent.td.saturating_add(header.header.difficulty);
        Ok(Tip {
            header,
            td,
            clique: None,
        })
    }
}
