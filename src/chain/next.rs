//! What a signer must write into the next header, beyond what it chooses.

use alloy_consensus::Header;

use super::fees::{ELASTICITY, INITIAL_BASE_FEE, next_base_fee};
use super::rules::Rules;
use super::spec::Fork;

impl Rules {
    /// True if block `number` lists the signers in its extra data: clique's checkpoints.
    pub fn is_checkpoint(&self, number: u64) -> bool {
        self.spec
            .clique
            .is_some_and(|clique| number.is_multiple_of(clique.epoch))
    }

    /// Gas limit and base fee of a block after `parent` that leaves the limit where it is. EIP-1559: London's first block
    /// doubles the limit, so that the target stays, and begins the base fee at 1 gwei.
    pub fn next_gas(&self, parent: &Header) -> (u64, Option<u64>) {
        let fork = self.spec.fork(parent.number + 1, parent.timestamp);
        match parent.base_fee_per_gas {
            _ if fork < Fork::London => (parent.gas_limit, None),
            None => (
                parent.gas_limit.saturating_mul(ELASTICITY),
                Some(INITIAL_BASE_FEE),
            ),
            Some(base_fee) => (parent.gas_limit, Some(next_base_fee(parent, base_fee))),
        }
    }
}
