//! A header beside its bytes and its hash.

use std::sync::OnceLock;

use alloy_consensus::Header;
use alloy_primitives::{Address, B64, B256, Bloom, keccak256};
use bytes::Bytes;

use super::{
    clique::{self, CliqueError},
    error::{Fault, HeaderError},
    rlp,
};

/// A header, the very bytes that it was read from, and their hash. The bytes are canonical RLP: encoding the header gives them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedHeader {
    /// The RLP of the header.
    pub raw: Bytes,
    /// keccak256 of `raw`: the block's hash.
    pub hash: B256,
    /// The header decoded. `extra_data` is a slice of `raw`.
    pub header: Header,
    signer: Signer,
}

/// Who sealed a header, once that was found out: it costs more than all else, and is asked for more than once. No part of what the
/// header is, so a copy, whose fields may be changed, is without.
#[derive(Debug, Default)]
struct Signer(OnceLock<Address>);

impl Clone for Signer {
    fn clone(&self) -> Signer {
        Signer::default()
    }
}

impl PartialEq for Signer {
    fn eq(&self, _: &Signer) -> bool {
        true
    }
}

impl Eq for Signer {}

impl SealedHeader {
    /// Reads a header (yellow paper, section 4.3; later fields by EIPs 1559, 4895, 4844, 4788 and 7685), strictly: canonical
    /// RLP, every field of its size, no field unknown and nothing after it.
    ///
    /// # Errors
    /// [`HeaderError::Invalid`] names the field.
    pub fn decode(raw: Bytes) -> Result<Self, HeaderError> {
        let header = decode(&raw)?;
        let hash = keccak256(&raw);
        Ok(Self::new(raw, hash, header))
    }

    /// Encodes and hashes a header of our own making.
    pub fn from_header(header: Header) -> Self {
        let raw = Bytes::from(alloy_rlp::encode(&header));
        let hash = keccak256(&raw);
        Self::new(raw, hash, header)
    }

    /// As `from_header`, for one that is still to be sealed and will be by `signer`: the other rules can then be tried on it.
    pub fn to_be_sealed(header: Header, signer: Address) -> Self {
        let sealed = Self::from_header(header);
        sealed.signer.0.get_or_init(|| signer);
        sealed
    }

    fn new(raw: Bytes, hash: B256, header: Header) -> Self {
        let signer = Signer::default();
        Self {
            raw,
            hash,
            header,
            signer,
        }
    }

    /// The address whose key sealed it, on a clique chain. The first time it costs some 45 us.
    ///
    /// # Errors
    /// As [`clique::signer`].
    pub fn signer(&self) -> Result<Address, CliqueError> {
        if let Some(signer) = self.signer.0.get() {
            return Ok(*signer);
        }
        let signer = clique::signer(&self.header)?;
        Ok(*self.signer.0.get_or_init(|| signer))
    }

    /// The block's number.
    pub fn number(&self) -> u64 {
        self.header.number
    }
}

fn decode(raw: &Bytes) -> Result<Header, Fault> {
    let mut rest: &[u8] = raw;
    let mut fields = rlp::list(&mut rest).map_err(|error| Fault::malformed("header", error))?;
    if !rest.is_empty() {
        return Err(Fault::malformed(
            "header",
            format_args!("{} bytes after it", rest.len()),
        ));
    }
    let input = &mut fields;
    let at = |field: &'static str| move |error: alloy_rlp::Error| Fault::malformed(field, error);
    // Struct fields are evaluated in the order they are written in, which is the order on the wire.
    let mut header = Header {
        parent_hash: rlp::hash(input).map_err(at("parentHash"))?,
        ommers_hash: rlp::hash(input).map_err(at("sha3Uncles"))?,
        beneficiary: rlp::array(input).map(Address::from).map_err(at("miner"))?,
        state_root: rlp::hash(input).map_err(at("stateRoot"))?,
        transactions_root: rlp::hash(input).map_err(at("transactionsRoot"))?,
        receipts_root: rlp::hash(input).map_err(at("receiptsRoot"))?,
        logs_bloom: rlp::array(input)
            .map(Bloom::from)
            .map_err(at("logsBloom"))?,
        difficulty: rlp::wide(input).map_err(at("difficulty"))?,
        number: rlp::number(input).map_err(at("number"))?,
        gas_limit: rlp::number(input).map_err(at("gasLimit"))?,
        gas_used: rlp::number(input).map_err(at("gasUsed"))?,
        timestamp: rlp::number(input).map_err(at("timestamp"))?,
        extra_data: rlp::string(input)
            .map(|bytes| raw.slice_ref(bytes).into())
            .map_err(at("extraData"))?,
        mix_hash: rlp::hash(input).map_err(at("mixHash"))?,
        nonce: rlp::array(input).map(B64::from).map_err(at("nonce"))?,
        ..Header::default()
    };
    fn more<'a, T>(
        input: &mut &'a [u8],
        field: &'static str,
        read: impl Fn(&mut &'a [u8]) -> Result<T, alloy_rlp::Error>,
    ) -> Result<Option<T>, Fault> {
        if input.is_empty() {
            return Ok(None);
        }
        read(input)
            .map(Some)
            .map_err(|error| Fault::malformed(field, error))
    }
    header.base_fee_per_gas = more(input, "baseFeePerGas", rlp::number)?;
    header.withdrawals_root = more(input, "withdrawalsRoot", rlp::hash)?;
    header.blob_gas_used = more(input, "blobGasUsed", rlp::number)?;
    header.excess_blob_gas = more(input, "excessBlobGas", rlp::number)?;
    header.parent_beacon_block_root = more(input, "parentBeaconBlockRoot", rlp::hash)?;
    header.requests_hash = more(input, "requestsHash", rlp::hash)?;
    header.block_access_list_hash = more(input, "blockAccessListHash", rlp::hash)?;
    header.slot_number = more(input, "slotNumber", rlp::number)?;
    if !input.is_empty() {
        return Err(Fault::malformed(
            "header",
            format_args!("{} bytes of fields that no known fork has", input.len()),
        ));
    }
    Ok(header)
}
