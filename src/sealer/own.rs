//! What this node's signer is at, shared: the sealer writes it, and sync says why a turn was missed.

use std::sync::Arc;

use alloy_primitives::Address;
use parking_lot::Mutex;

/// What it is at, by block numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The signer.
    pub signer: Address,
    /// The head that it was last given to seal on.
    pub parent: Option<u64>,
    /// The block that it sealed last.
    pub sealed: Option<u64>,
    /// The block that there is no signature for.
    pub unsigned: Option<u64>,
}

/// The same, shared.
#[derive(Clone, Debug, Default)]
pub struct OwnBoard(Arc<Mutex<Own>>);

impl OwnBoard {
    /// Of this signer, before its first head.
    pub fn new(signer: Address) -> OwnBoard {
        let own = Own {
            signer,
            ..Own::default()
        };
        OwnBoard(Arc::new(Mutex::new(own)))
    }

    /// What it is at.
    pub fn read(&self) -> Own {
        *self.0.lock()
    }

    pub(super) fn has_parent(&self, number: u64) {
        let mut own = self.0.lock();
        (own.parent, own.unsigned) = (Some(number), None);
    }

    pub(super) fn is_unsigned(&self, number: u64) {
        self.0.lock().unsigned = Some(number);
    }

    pub(super) fn has_sealed(&self, number: u64) {
        let mut own = self.0.lock();
        (own.sealed, own.unsigned) = (Some(number), None);
    }
}
