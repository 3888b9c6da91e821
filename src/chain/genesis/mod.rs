//! The first block and the rules: from a genesis.json of geth or Besu, or built in.

mod alloc;
mod builtin;
mod config;
mod json;

use alloy_consensus::{Header, constants::EMPTY_WITHDRAWALS};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B64, B256};
use bytes::Bytes;

use super::{
    body::{EMPTY_BODY, EMPTY_BODY_WITH_WITHDRAWALS},
    clique,
    fees::INITIAL_BASE_FEE,
    header::SealedHeader,
    spec::{Fork, Spec},
};
pub use builtin::{DEV_KEYS, DEV_SIGNER_KEY};
pub use json::GenesisError;
use json::{Node, Object};

/// A chain's first block and its rules.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// The rules.
    pub spec: Spec,
    /// Header of block 0.
    pub header: SealedHeader,
    /// Body of block 0: empty lists.
    pub body: Bytes,
    /// What the reader should be told: what was not understood or taken for granted.
    pub warnings: Vec<String>,
}

impl Genesis {
    /// Reads a genesis.json: geth's, or Besu's (`blockperiodseconds`, `epochlength`, keys that only name accounts). Numbers may be JSON
    /// integers, decimal strings or hex strings; the state root is computed from `alloc`.
    ///
    /// # Errors
    /// The place, what was expected there and what was found: for fields that are missing, malformed or there twice.
    pub fn from_json(text: &[u8]) -> Result<Self, GenesisError> {
        let json = json::parse(text)?;
        let top = Node::root(&json).object()?;
        let mut warnings = Vec::new();
        let spec = match top.get(&["config"])? {
            Some(config) => config::read(&config, &mut warnings)?,
            None => config::without(&mut warnings),
        };
        let header = header(&top, &spec)?;
        let genesis = Self::new(spec, header, warnings);
        if genesis.spec.clique.is_some()
            && let Err(error) = clique::Snapshot::genesis(&genesis.header)
        {
            return Err(GenesisError::new(
                "extraData",
                "32 bytes, the signers' addresses (at least one) and 65 bytes, for config.clique is there",
                error,
            ));
        }
        Ok(genesis)
    }

    fn new(spec: Spec, header: Header, warnings: Vec<String>) -> Self {
        let body = match header.withdrawals_root {
            Some(_) => EMPTY_BODY_WITH_WITHDRAWALS,
            None => EMPTY_BODY,
        };
        Self {
            spec,
            header: SealedHeader::from_header(header),
            body: Bytes::from_static(body),
            warnings,
        }
    }
}

/// The header of block 0, with the fields of the forks that are in force there.
fn header(top: &Object<'_>, spec: &Spec) -> Result<Header, GenesisError> {
    let number = |keys: &[&str]| Ok(top.number(keys)?.unwrap_or(0));
    if let Some(node) = top.get(&["number"])?
        && node.number()? != 0
    {
        return node.fail("0, the number of a first block");
    }
    let hash = |keys: &[&str]| match top.get(keys)? {
        Some(node) => Ok(B256::from(node.array()?)),
        None => Ok(B256::ZERO),
    };
    let mut header = Header {
        parent_hash: hash(&["parentHash"])?,
        beneficiary: match top.get(&["coinbase"])? {
            Some(node) => Address::from(node.array()?),
            None => Address::ZERO,
        },
        state_root: alloc::state_root(&top.need("alloc")?)?,
        difficulty: top.need("difficulty")?.wide()?,
        gas_limit: top.need("gasLimit")?.number()?,
        gas_used: number(&["gasUsed"])?,
        timestamp: number(&["timestamp"])?,
        extra_data: match top.get(&["extraData"])? {
            Some(node) => node.bytes()?.into(),
            None => alloy_primitives::Bytes::new(),
        },
        mix_hash: hash(&["mixHash", "mixhash"])?,
        nonce: B64::from(number(&["nonce"])?.to_be_bytes()),
        ..Header::default()
    };
    let fork = spec.fork(0, header.timestamp);
    if fork >= Fork::London {
        let given = top.number(&["baseFeePerGas"])?;
        header.base_fee_per_gas = Some(given.unwrap_or(INITIAL_BASE_FEE));
    }
    if fork >= Fork::Shanghai {
        header.withdrawals_root = Some(EMPTY_WITHDRAWALS);
    }
    if fork >= Fork::Cancun {
        header.blob_gas_used = Some(number(&["blobGasUsed"])?);
        header.excess_blob_gas = Some(number(&["excessBlobGas"])?);
        header.parent_beacon_block_root = Some(hash(&["parentBeaconBlockRoot"])?);
    }
    if fork >= Fork::Prague {
        header.requests_hash = Some(EMPTY_REQUESTS_HASH);
    }
    Ok(header)
}
