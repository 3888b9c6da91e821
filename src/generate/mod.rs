//! Test chains: reproducible from a seed, with real signatures, seals and roots.
//!
//! [`blocks`] gives a chain block by block, never holding it in memory. The same [`Params`] give the same bytes on every machine.
//! [`Fork::London`] chains are clique (EIP-225), sealed by one key, with transactions of types 0 to 2;
//! [`Fork::Prague`] chains are unsealed proof of stake with types 0 to 4, blobs, withdrawals and now and then a large block.
//!
//! What is real: each transaction's signature and rising nonce, the seal, the roots of transactions, ommers and
//! withdrawals, gas limits, base fees and blob gas by their EIPs. `cairn::chain::Rules` accepts every block.
//!
//! **What is declared, not executed:** nothing runs these transactions and nobody checks that their senders can pay. Every header
//! repeats the state root of the genesis block; `gasUsed` is made up (never less than the transaction's intrinsic gas); the
//! receipts root is that of receipts in which each transaction succeeded, used that gas and logged nothing, so the bloom is empty. A client
//! that executes blocks refuses every one that holds a transaction (a clique chain with no transactions is valid for it too).

mod body;
mod calldata;
mod dice;
mod file;
mod genesis;
mod header;
mod params;
#[cfg(test)]
mod tests;
mod transactions;
mod wallet;

pub use file::{Sizes, encode_block, write_blocks, write_era1};
pub use genesis::Generated;
pub use params::{BODY_BYTES_LIMIT, Fork, Params, ParamsError};

use alloy_primitives::U256;

use crate::chain::SealedHeader;
use body::{Plan, Withdrawals};
use dice::Dice;
use header::Headers;
use transactions::Maker;

/// A block of a generated chain.
#[derive(Clone, Debug)]
pub struct GeneratedBlock {
    /// The header, sealed if the chain is clique.
    pub header: SealedHeader,
    /// RLP `[transactions, ommers]` or `[transactions, ommers, withdrawals]`.
    pub body: Vec<u8>,
    /// RLP of its receipts in eth/69's form: those that the header's root is of, made up and not executed.
    pub receipts: Vec<u8>,
    /// Total difficulty up to and with this block.
    pub td: U256,
}

/// The chain of `params`: its genesis and its blocks from 1 on, in order.
///
/// A shorter chain is the beginning of a longer one, unless `end_time_s` is given.
///
/// # Panics
/// If [`Params::check`] finds fault with `params`: call it first where they come from somebody else.
pub fn blocks(params: &Params) -> (Generated, Blocks) {
    if let Err(error) = params.check() {
        panic!("{error}");
    }
    let generated = params.genesis();
    let seed = params.seed;
    let blocks = Blocks {
        headers: Headers::new(params, &generated.genesis),
        maker: Maker::new(seed, params::chain_id(&generated.genesis), params.fork),
        withdrawals: match params.fork {
            Fork::London => None,
            Fork::Prague => Some(Withdrawals::new(&mut Dice::new(seed, b"withdraw"))),
        },
        dice: Dice::new(seed, b"bodies.."),
        may_be_large: params.large_blocks_fit(generated.genesis.header.header.gas_limit),
        params: params.clone(),
        made: 0,
    };
    (generated, blocks)
}

/// The blocks of a generated chain. See [`blocks`].
pub struct Blocks {
    params: Params,
    headers: Headers,
    maker: Maker,
    withdrawals: Option<Withdrawals>,
    dice: Dice,
    may_be_large: bool,
    made: u64,
}

impl Iterator for Blocks {
    type Item = GeneratedBlock;

    fn next(&mut self) -> Option<GeneratedBlock> {
        if self.made == self.params.blocks {
            return None;
        }
        self.made += 1;
        let frame = self.headers.frame();
        let plan = Plan {
            transactions: self.params.txs_per_block,
            bytes: self
                .params
                .next_body_bytes(self.may_be_large, &mut self.dice),
            gas_limit: frame.gas_limit,
            base_fee: frame.base_fee,
            blob_fee: frame.blob_fee,
            blobs_are_dear: frame.blobs_are_dear,
        };
        let body = body::make(
            &plan,
            &mut self.maker,
            self.withdrawals.as_mut(),
            &mut self.dice,
        );
        let (header, td) = self.headers.seal(frame, &body);
        Some(GeneratedBlock {
            header,
            body: body.rlp,
            receipts: body.receipts,
            td,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.params.blocks - self.made).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}
