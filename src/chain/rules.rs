//! What makes a header valid after its parent, and a body valid under its header.

use std::sync::Arc;

use alloy_consensus::{Header, constants::EMPTY_OMMER_ROOT_HASH};
use alloy_primitives::{B64, U256, hex};
use bytes::Bytes;

use super::{
    body, clique,
    error::{BodyError, Fault, HeaderError},
    fees,
    genesis::Genesis,
    header::SealedHeader,
    ommers::MOST_OMMERS,
    pow,
    size::check_extra_length,
    spec::{Fork, Spec},
    tx,
};

/// Longest `extraData` where no signers stand in it, in bytes (yellow paper, section 4.3.4).
pub(super) const EXTRA_LIMIT_BYTES: usize = 32;
/// The gas limit moves by less than this fraction of the parent's (yellow paper, section 4.3.4).
const GAS_LIMIT_BOUND_DIVISOR: u64 = 1_024;
/// The least gas limit (yellow paper, section 4.3.4).
const GAS_LIMIT_MINIMUM: u64 = 5_000;
/// The greatest gas limit (EIP-1985's range, which clients enforce).
const GAS_LIMIT_MAXIMUM: u64 = i64::MAX as u64;
/// Headers of proof of work and stake may be so many seconds ahead of our clock.
const AHEAD_S: u64 = 15;
/// EIP-779: `extraData` of the blocks around the DAO fork, on the side that took it.
const DAO_EXTRA: &[u8] = b"dao-hard-fork";
/// EIP-779: how many blocks from the fork on.
const DAO_EXTRA_BLOCKS: u64 = 10;

/// EIP-7934: longest block from Osaka on, in bytes of its RLP: 10 MiB less a margin of 2.
const BLOCK_LIMIT_BYTES: usize = 8_388_608;

/// Everything known at one block that is needed to judge its children. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tip {
    /// The block's header.
    pub header: Arc<SealedHeader>,
    /// Total difficulty up to and with this block.
    pub td: U256,
    /// On clique chains: who may seal after this block.
    pub clique: Option<Arc<clique::Snapshot>>,
}

/// How a block came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seal {
    /// Ethash: what it proves is not checked.
    Work,
    /// EIP-3675: the consensus layer decides.
    Stake,
    /// EIP-225.
    Clique,
}

/// The rules of one chain.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What the rules depend on.
    pub spec: Spec,
    pub(super) genesis: Arc<SealedHeader>,
    chain_id_v: tx::ChainIdV,
}

impl Rules {
    /// The rules of the chain that begins with `genesis`.
    pub fn new(genesis: &Genesis) -> Self {
        Self {
            spec: genesis.spec.clone(),
            genesis: Arc::new(genesis.header.clone()),
            chain_id_v: tx::ChainIdV::new(genesis.spec.chain_id),
        }
    }

    /// The first block.
    pub fn genesis_tip(&self) -> Tip {
        let clique = self
            .spec
            .clique
            .and_then(|_| clique::Snapshot::genesis(&self.genesis).ok())
            .map(Arc::new);
        Tip {
            header: Arc::clone(&self.genesis),
            td: self.genesis.header.difficulty,
            clique,
        }
    }

    /// The total difficulty of block 0.
    pub fn genesis_td(&self) -> U256 {
        self.genesis.header.difficulty
    }

    /// True if the right to make a block is checked: clique's seals are. Work is not, and stake is not a header's matter.
    pub fn seal_is_checked(&self) -> bool {
        self.spec.clique.is_some()
    }

    /// True if the right to make the block after `tip` is checked: a clique chain that has passed its terminal total
    /// difficulty has no seals any more.
    pub fn seal_is_checked_after(&self, tip: &Tip) -> bool {
        self.seal_after(tip.td) == Seal::Clique
    }

    /// True if the block of `tip` was made by proof of stake: past it total difficulty stands still.
    pub fn is_staked(&self, tip: &Tip) -> bool {
        self.spec.terminal_total_difficulty.is_some()
            && tip.header.header.number > 0
            && tip.header.header.difficulty.is_zero()
    }

    /// Judges `header` after `parent` by every rule that needs no state, and gives what is known after it. `now_s` is the
    /// Unix time in seconds; without it no header is too early.
    ///
    /// # Errors
    /// [`HeaderError::Invalid`] names the field. [`HeaderError::Future`] is only given for a header that breaks no rule.
    pub fn extend(
        &self,
        parent: &Tip,
        header: Arc<SealedHeader>,
        now_s: Option<u64>,
    ) -> Result<Tip, HeaderError> {
        let of = |fault: Fault| HeaderError::from(fault.of(header.header.number, header.hash));
        let seal = self.judge_without_seal(parent, &header)?;
        let clique = match (seal, self.spec.clique) {
            (Seal::Clique, Some(config)) => {
                let snapshot = parent.clique.as_ref().ok_or_else(|| {
                    of(Fault::mismatch(
                        "extraData",
                        "a snapshot of the signers to judge it by",
                        "none",
                    ))
                })?;
                let time_s = parent.header.header.timestamp;
                let next = clique::verify(config, time_s, snapshot, &header).map_err(of)?;
                Some(Arc::new(next))
            }
            _ => None,
        };
        if let Some(now_s) = now_s {
            let ahead_s = if seal == Seal::Clique { 0 } else { AHEAD_S };
            let due_s = header.header.timestamp.saturating_sub(ahead_s);
            if due_s > now_s {
                return Err(HeaderError::Future {
                    number: header.header.number,
                    hash: header.hash,
                    due_s,
                });
            }
        }
        let td = parent.td.saturating_add(header.header.difficulty);
        Ok(Tip { header, td, clique })
    }

    /// The rules but for the seal, and the time of now: how the block must be sealed.
    pub(super) fn judge_without_seal(
        &self,
        parent: &Tip,
        header: &SealedHeader,
    ) -> Result<Seal, HeaderError> {
        let of = |fault: Fault| HeaderError::from(fault.of(header.header.number, header.hash));
        let seal = self.seal_after(parent.td);
        self.check_link(&parent.header, header).map_err(of)?;
        self.check_common(&parent.header.header, &header.header, seal)
            .map_err(of)?;
        Ok(seal)
    }

    /// Judges an ommer after its parent. Ommers end with the merge, so the total difficulty is not asked for.
    pub(crate) fn check_ommer(
        &self,
        parent: &SealedHeader,
        ommer: &SealedHeader,
    ) -> Result<(), HeaderError> {
        self.check_link(parent, ommer)?;
        self.check_common(&parent.header, &ommer.header, Seal::Work)?;
        Ok(())
    }

    /// How a block must be sealed whose parent has that total difficulty.
    fn seal_after(&self, parent_td: U256) -> Seal {
        let merged = |ttd: U256| parent_td >= ttd;
        if self.spec.terminal_total_difficulty.is_some_and(merged) {
            Seal::Stake
        } else if self.spec.clique.is_some() {
            Seal::Clique
        } else {
            Seal::Work
        }
    }

    fn check_link(&self, parent: &SealedHeader, header: &SealedHeader) -> Result<(), Fault> {
        same("parentHash", parent.hash, header.header.parent_hash)?;
        // The hash says that the parent is who it is, so a number that does not follow is a lie about itself.
        let number = parent.header.number.saturating_add(1);
        same("number", number, header.header.number)
    }

    fn check_common(&self, parent: &Header, header: &Header, seal: Seal) -> Result<(), Fault> {
        let fork = self.spec.fork(header.number, header.timestamp);
        let parent_fork = self.spec.fork(parent.number, parent.timestamp);
        if seal != Seal::Clique && header.timestamp <= parent.timestamp {
            return Err(Fault::mismatch(
                "timestamp",
                format_args!("above {}, the parent's", parent.timestamp),
                header.timestamp,
            ));
        }
        if header.gas_used > header.gas_limit {
            return Err(Fault::mismatch(
                "gasUsed",
                format_args!("at most {}, the gas limit", header.gas_limit),
                header.gas_used,
            ));
        }
        check_gas_limit(parent, header, fork, parent_fork)?;
        check_base_fee(parent, header, fork, parent_fork)?;
        self.check_later_fields(parent, header, fork)?;
        match seal {
            Seal::Work => self.check_work(parent, header, fork),
            Seal::Stake => check_stake(header),
            Seal::Clique if fork >= Fork::Shanghai => Err(no_seal_after_shanghai(header)),
            Seal::Clique => Ok(()),
        }
    }

    fn check_work(&self, parent: &Header, header: &Header, fork: Fork) -> Result<(), Fault> {
        if fork >= Fork::Shanghai {
            return Err(no_seal_after_shanghai(header));
        }
        check_extra_length(header)?;
        let forks = &self.spec.forks;
        let difficulty = pow::difficulty(fork, forks, parent, header.number, header.timestamp);
        same("difficulty", difficulty, header.difficulty)?;
        let in_dao_window = |dao: u64| {
            header
                .number
                .checked_sub(dao)
                .is_some_and(|since| since < DAO_EXTRA_BLOCKS)
        };
        if forks.dao.is_some_and(in_dao_window)
            && (header.extra_data[..] == *DAO_EXTRA) != forks.dao_support
        {
            let expected = match forks.dao_support {
                true => "dao-hard-fork, for the chain took the DAO fork",
                false => "anything but dao-hard-fork, for the chain did not take the DAO fork",
            };
            return Err(Fault::mismatch(
                "extraData",
                expected,
                hex::encode(&header.extra_data),
            ));
        }
        Ok(())
    }

    /// The fields that Shanghai and later forks added: there from their fork on and not before, with the right blob gas.
    fn check_later_fields(
        &self,
        parent: &Header,
        header: &Header,
        fork: Fork,
    ) -> Result<(), Fault> {
        let has = [
            (
                "withdrawalsRoot",
                header.withdrawals_root.is_some(),
                Fork::Shanghai,
            ),
            ("blobGasUsed", header.blob_gas_used.is_some(), Fork::Cancun),
            (
                "excessBlobGas",
                header.excess_blob_gas.is_some(),
                Fork::Cancun,
            ),
            (
                "parentBeaconBlockRoot",
                header.parent_beacon_block_root.is_some(),
                Fork::Cancun,
            ),
            ("requestsHash", header.requests_hash.is_some(), Fork::Prague),
            (
                "blockAccessListHash",
                header.block_access_list_hash.is_some(),
                Fork::Amsterdam,
            ),
            ("slotNumber", header.slot_number.is_some(), Fork::Amsterdam),
        ];
        for (field, is_there, from) in has {
            presence(field, is_there, fork >= from, fork)?;
        }
        let (Some(used), Some(excess)) = (header.blob_gas_used, header.excess_blob_gas) else {
            return Ok(());
        };
        let Some(params) = self.spec.blob_params(header.timestamp) else {
            return Ok(());
        };
        let most = params.max.saturating_mul(fees::GAS_PER_BLOB);
        if used > most || !used.is_multiple_of(fees::GAS_PER_BLOB) {
            return Err(Fault::mismatch(
                "blobGasUsed",
                format_args!("a multiple of {} of at most {most}", fees::GAS_PER_BLOB),
                used,
            ));
        }
        let expected = fees::next_excess_blob_gas(parent, params, fork >= Fork::Osaka);
        same("excessBlobGas", expected, excess)
    }

    /// Judges a body under its header: the roots that the header commits to, the structure of the lists, and of each transaction
    /// what can be judged without executing it or recovering its sender. Ommers are judged by [`OmmerWindow`](super::OmmerWindow).
    ///
    /// # Errors
    /// [`BodyError`] says whose fault it is: the bytes', the sender's or the block's.
    pub fn check_body(&self, header: &SealedHeader, body: &[u8]) -> Result<(), BodyError> {
        self.check_body_inner(header, body)
            .map_err(|error| error.of(header.header.number, header.hash))
    }

    fn check_body_inner(&self, sealed: &SealedHeader, body: &[u8]) -> Result<(), BodyError> {
        let header = &sealed.header;
        let not_of_header = |fault| BodyError::NotOfHeader(Box::new(fault));
        let parts = body::parts(body)?;
        let leaves = body::leaves(parts.transactions)?;
        let roots = body::roots_of(&parts, &leaves)?;
        same(
            "transactionsRoot",
            header.transactions_root,
            roots.transactions,
        )
        .and_then(|()| same("sha3Uncles", header.ommers_hash, roots.ommers))
        .and_then(|()| match (header.withdrawals_root, roots.withdrawals) {
            (Some(expected), Some(found)) => same("withdrawalsRoot", expected, found),
            (Some(expected), None) => Err(Fault::mismatch(
                "withdrawalsRoot",
                expected,
                "no withdrawals",
            )),
            (None, Some(_)) => Err(Fault::mismatch("withdrawals", "none", "a list")),
            (None, None) => Ok(()),
        })
        .map_err(not_of_header)?;
        // The first block is whatever its genesis.json says, a gasUsed without transactions too.
        if header.number == 0 {
            return Ok(());
        }
        self.check_contents(sealed, body, &leaves)
            .map_err(|fault| BodyError::Invalid(Box::new(fault)))
    }

    /// What is wrong here is wrong for ever: the header commits to it.
    fn check_contents(
        &self,
        sealed: &SealedHeader,
        body: &[u8],
        transactions: &[&[u8]],
    ) -> Result<(), Fault> {
        let header = &sealed.header;
        if body::ommers(body).nth(MOST_OMMERS).is_some() {
            let most = format!("at most {MOST_OMMERS}");
            return Err(Fault::mismatch("uncles", most, "more"));
        }
        if self.spec.fork(header.number, header.timestamp) >= Fork::Osaka {
            let bytes = body::block_length(sealed.raw.len(), body);
            if bytes > BLOCK_LIMIT_BYTES {
                let most = format!("at most {BLOCK_LIMIT_BYTES} bytes (EIP-7934)");
                return Err(Fault::mismatch("size", most, bytes));
            }
        }
        tx::Judge::new(&self.spec, &self.chain_id_v, header).all(transactions)
    }

    /// The tip at `head_number`, whose total difficulty is `td`, after a restart. `headers` gives the raw headers of the canonical chain, all of
    /// which were judged before. On a clique chain they are read from N/2+1 blocks before the last checkpoint on, or from `kept` on: a
    /// snapshot of this chain at the head or below.
    ///
    /// # Errors
    /// [`HeaderError::Missing`] if `headers` has none of a number that is needed, [`HeaderError::Invalid`] if one cannot have been
    /// judged before.
    pub fn restore(
        &self,
        head_number: u64,
        td: U256,
        kept: Option<&clique::Snapshot>,
        headers: &mut dyn FnMut(u64) -> Option<Bytes>,
    ) -> Result<Tip, HeaderError> {
        let mut read = |number: u64| match number {
            0 => Ok((*self.genesis).clone()),
            _ => headers(number)
                .ok_or(HeaderError::Missing { number })
                .and_then(SealedHeader::decode)
                .and_then(|header| match header.header.number == number {
                    true => Ok(header),
                    false => Err(Fault::mismatch("number", number, header.header.number)
                        .of(number, header.hash)
                        .into()),
                }),
        };
        let head = read(head_number)?;
        let merged = head_number > 0
            && self.spec.terminal_total_difficulty.is_some()
            && head.header.difficulty.is_zero();
        let clique = match self.spec.clique {
            Some(config) if !merged => {
                let restored = clique::restore(config, head_number, kept, &mut read)?;
                Some(Arc::new(restored))
            }
            _ => None,
        };
        Ok(Tip {
            header: Arc::new(head),
            td,
            clique,
        })
    }
}

fn same<T: PartialEq + std::fmt::Display>(
    field: &'static str,
    expected: T,
    found: T,
) -> Result<(), Fault> {
    match expected == found {
        true => Ok(()),
        false => Err(Fault::mismatch(field, expected, found)),
    }
}

fn presence(field: &'static str, is_there: bool, must_be: bool, fork: Fork) -> Result<(), Fault> {
    match (is_there, must_be) {
        (true, false) => Err(Fault::mismatch(
            field,
            format_args!("none in {fork:?}"),
            "one",
        )),
        (false, true) => Err(Fault::mismatch(
            field,
            format_args!("one in {fork:?}"),
            "none",
        )),
        _ => Ok(()),
    }
}

fn check_gas_limit(
    parent: &Header,
    header: &Header,
    fork: Fork,
    parent_fork: Fork,
) -> Result<(), Fault> {
    let found = header.gas_limit;
    // EIP-1559: the block of the fork has room for twice the parent's limit, which becomes the target.
    let base = match fork >= Fork::London && parent_fork < Fork::London {
        true => parent.gas_limit.saturating_mul(fees::ELASTICITY),
        false => parent.gas_limit,
    };
    let bound = base / GAS_LIMIT_BOUND_DIVISOR;
    if found > GAS_LIMIT_MAXIMUM {
        return Err(Fault::mismatch(
            "gasLimit",
            format_args!("at most {GAS_LIMIT_MAXIMUM}"),
            found,
        ));
    }
    if found < GAS_LIMIT_MINIMUM {
        return Err(Fault::mismatch(
            "gasLimit",
            format_args!("at least {GAS_LIMIT_MINIMUM}"),
            found,
        ));
    }
    if found.abs_diff(base) >= bound {
        return Err(Fault::mismatch(
            "gasLimit",
            format_args!("less than {bound} away from {base}"),
            found,
        ));
    }
    Ok(())
}

fn check_base_fee(
    parent: &Header,
    header: &Header,
    fork: Fork,
    parent_fork: Fork,
) -> Result<(), Fault> {
    let must_be = fork >= Fork::London;
    presence(
        "baseFeePerGas",
        header.base_fee_per_gas.is_some(),
        must_be,
        fork,
    )?;
    let Some(found) = header.base_fee_per_gas else {
        return Ok(());
    };
    let expected = match parent.base_fee_per_gas {
        Some(base_fee) if parent_fork >= Fork::London => fees::next_base_fee(parent, base_fee),
        _ => fees::INITIAL_BASE_FEE,
    };
    same("baseFeePerGas", expected, found)
}

/// EIP-3675: what proof of work needed is constant after it.
fn check_stake(header: &Header) -> Result<(), Fault> {
    check_extra_length(header)?;
    same("difficulty", U256::ZERO, header.difficulty)?;
    same("nonce", B64::ZERO, header.nonce)?;
    same("sha3Uncles", EMPTY_OMMER_ROOT_HASH, header.ommers_hash)
}

fn no_seal_after_shanghai(header: &Header) -> Fault {
    Fault::mismatch(
        "timestamp",
        "one before Shanghai, for the parent's total difficulty is below the terminal one",
        header.timestamp,
    )
}
