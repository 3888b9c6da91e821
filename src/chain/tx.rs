//! What can be judged of a body's transactions without executing them, recovering a sender or decoding them whole.
//!
//! The fields are read in place. Judged are: the shape of every field, the type (EIP-2718) against the fork, the chain id, the range
//! of the signature's values, fees against each other and the base fee, the gas limit against the intrinsic gas and the block's, the
//! lists of access, blobs and authorisations, and what the header says of all of them together: gas used, blob gas used, an empty
//! block's receipts. Who signed, nonces, balances and everything that code does are not judged.
//!
//! Two things are left alone on purpose. A transaction of a type that Ethereum does not have is skipped where the chain is known to have such
//! ([`foreign_transactions`](super::Spec::foreign_transactions)), and then the totals are not judged; everywhere else it is an error.
//! And from Amsterdam on gas is counted by rules that are not here, so it is not judged.

use std::cell::OnceCell;

use alloy_consensus::{Header, constants::EMPTY_ROOT_HASH};
use alloy_primitives::{U256, U512, uint};

use super::{
    error::Fault,
    fees::{self, GAS_PER_BLOB},
    rlp,
    spec::{Fork, Spec},
};

/// EIP-2718 types that are known.
const ACCESS_LIST: u8 = 1;
const DYNAMIC_FEE: u8 = 2;
const BLOB: u8 = 3;
const SET_CODE: u8 = 4;

/// Gas of a transaction (yellow paper, appendix G), of one that creates (EIP-2), of a zero byte of call data.
const GAS_TRANSACTION: u64 = 21_000;
const GAS_CREATE: u64 = 32_000;
const GAS_ZERO_BYTE: u64 = 4;
/// Gas of another byte, before and from EIP-2028 on.
const GAS_BYTE_FRONTIER: u64 = 68;
const GAS_BYTE_ISTANBUL: u64 = 16;
/// EIP-2930.
const GAS_ACCESS_ADDRESS: u64 = 2_400;
const GAS_ACCESS_KEY: u64 = 1_900;
/// EIP-3860: for each word of init code, and its most bytes.
const GAS_INIT_CODE_WORD: u64 = 2;
const INIT_CODE_LIMIT_BYTES: usize = 49_152;
/// EIP-7702.
const GAS_AUTHORISATION: u64 = 25_000;
/// EIP-7623: gas of a token of call data at least; a zero byte is one token, another is four.
const GAS_FLOOR_TOKEN: u64 = 10;
/// EIP-7825: most gas of a transaction.
const GAS_LIMIT_OSAKA: u64 = 1 << 24;
/// EIP-7594: most blobs of a transaction.
const BLOBS_LIMIT_OSAKA: u64 = 6;
/// EIP-4844: what a versioned hash begins with.
const BLOB_HASH_VERSION: u8 = 1;

/// The order of secp256k1: r and s are below it.
const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
/// Half of it: s is not above it (EIP-2).
const HALF_ORDER: U256 =
    uint!(0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0_U256);

/// The two values that v of a legacy transaction has where the chain id is signed (EIP-155), as they are written: for an id of 256 bits
/// they have up to 257.
#[derive(Clone, Debug)]
pub(crate) struct ChainIdV([Box<[u8]>; 2]);

impl ChainIdV {
    pub(crate) fn new(chain_id: U256) -> Self {
        let v = |parity: u64| {
            let v = U512::from(chain_id) * U512::from(2) + U512::from(35 + parity);
            v.to_be_bytes_trimmed_vec().into()
        };
        Self([v(0), v(1)])
    }
}

/// What the transactions of a block are judged by.
pub(crate) struct Judge<'a> {
    spec: &'a Spec,
    chain_id_v: &'a ChainIdV,
    header: &'a Header,
    fork: Fork,
    base_fee: U256,
    /// Found out at the first blob: it costs more than all else of an empty block.
    blob_base_fee: OnceCell<U256>,
}

/// What one transaction adds to its block's totals.
struct Part {
    gas_limit: u64,
    /// Gas that it uses at least, whatever it does and whatever is refunded.
    least_gas: u64,
    blobs: u64,
}

type Checked<T> = Result<T, Fault>;

impl<'a> Judge<'a> {
    pub(crate) fn new(spec: &'a Spec, chain_id_v: &'a ChainIdV, header: &'a Header) -> Self {
        Self {
            spec,
            chain_id_v,
            header,
            fork: spec.fork(header.number, header.timestamp),
            base_fee: U256::from(header.base_fee_per_gas.unwrap_or(0)),
            blob_base_fee: OnceCell::new(),
        }
    }

    /// Judges all transactions of the block, as the trie holds them.
    pub(crate) fn all(&self, transactions: &[&[u8]]) -> Checked<()> {
        let header = self.header;
        let gas_is_known = self.fork < Fork::Amsterdam;
        let mut most_gas = 0_u64;
        let mut least_gas = 0_u64;
        let mut blobs = 0_u64;
        let mut skipped = false;
        for (index, transaction) in transactions.iter().enumerate() {
            let at = |mut fault: Fault| {
                fault.field = format!("transactions[{index}].{}", fault.field);
                fault
            };
            let Some(part) = self.one(transaction).map_err(at)? else {
                skipped = true;
                continue;
            };
            if gas_is_known {
                let left = header.gas_limit.saturating_sub(least_gas);
                if part.gas_limit > left {
                    return Err(at(Fault::mismatch(
                        "gas",
                        format_args!(
                            "at most the {left} that those before it can have left of the block's"
                        ),
                        part.gas_limit,
                    )));
                }
            }
            most_gas = most_gas.saturating_add(part.gas_limit);
            least_gas = least_gas.saturating_add(part.least_gas);
            blobs = blobs.saturating_add(part.blobs);
        }
        if skipped {
            return Ok(());
        }
        let used = header.gas_used;
        if gas_is_known && (used > most_gas || used < least_gas) {
            let expected = format!("{least_gas} to {most_gas}, what its transactions can use");
            return Err(Fault::mismatch("gasUsed", expected, used));
        }
        if let Some(used) = header.blob_gas_used {
            let expected = blobs.saturating_mul(GAS_PER_BLOB);
            if used != expected {
                return Err(Fault::mismatch("blobGasUsed", expected, used));
            }
        }
        if transactions.is_empty() {
            if header.receipts_root != EMPTY_ROOT_HASH {
                return Err(Fault::mismatch(
                    "receiptsRoot",
                    format_args!("{EMPTY_ROOT_HASH}, for there are no transactions"),
                    header.receipts_root,
                ));
            }
            if !header.logs_bloom.is_zero() {
                return Err(Fault::mismatch(
                    "logsBloom",
                    "zero, for there are no transactions",
                    "another",
                ));
            }
        }
        Ok(())
    }

    /// Judges one. `None`: of a type that is foreign to Ethereum, on a chain that has such.
    fn one(&self, transaction: &[u8]) -> Checked<Option<Part>> {
        let Some(&first) = transaction.first() else {
            return Err(Fault::mismatch("type", "one byte", "nothing"));
        };
        let (kind, mut input) = match first {
            0xc0.. => (0, transaction),
            kind => (kind, &transaction[1..]),
        };
        let since = match (first, kind) {
            (0xc0.., _) => Fork::Frontier,
            (_, ACCESS_LIST) => Fork::Berlin,
            (_, DYNAMIC_FEE) => Fork::London,
            (_, BLOB) => Fork::Cancun,
            (_, SET_CODE) => Fork::Prague,
            _ if self.spec.foreign_transactions => return Ok(None),
            _ => return Err(Fault::mismatch("type", "one that is known", kind)),
        };
        if self.fork < since {
            return Err(Fault::mismatch(
                "type",
                format_args!("one that {:?} has", self.fork),
                kind,
            ));
        }
        let mut fields = rlp::list(&mut input).map_err(malformed("list"))?;
        if !input.is_empty() {
            return Err(Fault::malformed("list", "bytes after it"));
        }
        let part = self.fields(kind, &mut fields)?;
        match fields.is_empty() {
            true => Ok(Some(part)),
            false => Err(Fault::malformed("list", "more fields than its type has")),
        }
    }

    fn fields(&self, kind: u8, input: &mut &[u8]) -> Checked<Part> {
        if kind != 0 {
            let chain_id = rlp::wide(input).map_err(malformed("chainId"))?;
            if chain_id != self.spec.chain_id {
                return Err(Fault::mismatch("chainId", self.spec.chain_id, chain_id));
            }
        }
        let nonce = rlp::number(input).map_err(malformed("nonce"))?;
        if nonce == u64::MAX {
            return Err(Fault::mismatch("nonce", "below 2^64-1 (EIP-2681)", nonce));
        }
        self.fees(kind, input)?;
        let gas_limit = rlp::number(input).map_err(malformed("gas"))?;
        let to = rlp::string(input).map_err(malformed("to"))?;
        let creates = to.is_empty() && kind != BLOB && kind != SET_CODE;
        if to.len() != 20 && !creates {
            return Err(Fault::mismatch(
                "to",
                "20 bytes",
                format_args!("{}", to.len()),
            ));
        }
        rlp::wide(input).map_err(malformed("value"))?;
        let data = rlp::string(input).map_err(malformed("input"))?;
        let mut gas = Gas::of_data(self.fork, creates, data)?;
        if kind != 0 {
            gas.intrinsic += access_list(input).map_err(malformed("accessList"))?;
        }
        let blobs = if kind == BLOB { self.blobs(input)? } else { 0 };
        if kind == SET_CODE {
            let count = authorisations(input).map_err(malformed("authorizationList"))?;
            if count == 0 {
                return Err(Fault::mismatch("authorizationList", "one at least", "none"));
            }
            gas.intrinsic += count * GAS_AUTHORISATION;
        }
        self.signature(kind, input)?;
        if self.fork >= Fork::Amsterdam {
            return Ok(Part {
                gas_limit,
                least_gas: 0,
                blobs,
            });
        }
        if self.fork >= Fork::Osaka && gas_limit > GAS_LIMIT_OSAKA {
            let most = format!("at most {GAS_LIMIT_OSAKA} (EIP-7825)");
            return Err(Fault::mismatch("gas", most, gas_limit));
        }
        let needed = gas.intrinsic.max(gas.floor);
        if gas_limit < needed {
            let least = format!("at least {needed}, the intrinsic gas");
            return Err(Fault::mismatch("gas", least, gas_limit));
        }
        // Refunds give back at most half of what was used, and from London on (EIP-3529) a fifth.
        let share = if self.fork < Fork::London { 2 } else { 5 };
        let least_gas = (gas.intrinsic - gas.intrinsic / share).max(gas.floor);
        Ok(Part {
            gas_limit,
            least_gas,
            blobs,
        })
    }

    fn fees(&self, kind: u8, input: &mut &[u8]) -> Checked<()> {
        let (field, most) = if kind == 0 || kind == ACCESS_LIST {
            let price = rlp::wide(input).map_err(malformed("gasPrice"))?;
            ("gasPrice", price)
        } else {
            let tip = rlp::wide(input).map_err(malformed("maxPriorityFeePerGas"))?;
            let most = rlp::wide(input).map_err(malformed("maxFeePerGas"))?;
            if tip > most {
                let expected = format!("at most {most}, the maxFeePerGas");
                return Err(Fault::mismatch("maxPriorityFeePerGas", expected, tip));
            }
            ("maxFeePerGas", most)
        };
        if most < self.base_fee {
            let expected = format!("at least {}, the base fee", self.base_fee);
            return Err(Fault::mismatch(field, expected, most));
        }
        Ok(())
    }

    /// Fee and hashes of blobs (EIP-4844).
    fn blobs(&self, input: &mut &[u8]) -> Checked<u64> {
        let fee = rlp::wide(input).map_err(malformed("maxFeePerBlobGas"))?;
        let params = self.spec.blob_params(self.header.timestamp);
        let price = self.blob_base_fee.get_or_init(|| {
            let excess = self.header.excess_blob_gas;
            let params = excess.zip(params);
            params.map_or(U256::ZERO, |(excess, params)| {
                fees::blob_base_fee(excess, params)
            })
        });
        if fee < *price {
            let expected = format!("at least {price}, the blob base fee");
            return Err(Fault::mismatch("maxFeePerBlobGas", expected, fee));
        }
        const FIELD: &str = "blobVersionedHashes";
        let mut hashes = rlp::list(input).map_err(malformed(FIELD))?;
        let mut count = 0_u64;
        while !hashes.is_empty() {
            let hash = rlp::array::<32>(&mut hashes).map_err(malformed(FIELD))?;
            if hash[0] != BLOB_HASH_VERSION {
                let expected = format!("version {BLOB_HASH_VERSION}");
                return Err(Fault::mismatch(FIELD, expected, hash[0]));
            }
            count += 1;
        }
        let of_block = params.map_or(0, |params| params.max);
        let most = match self.fork >= Fork::Osaka {
            true => of_block.min(BLOBS_LIMIT_OSAKA),
            false => of_block,
        };
        match (1..=most).contains(&count) {
            true => Ok(count),
            false => Err(Fault::mismatch(FIELD, format_args!("1 to {most}"), count)),
        }
    }

    fn signature(&self, kind: u8, input: &mut &[u8]) -> Checked<()> {
        let v = rlp::item(input)
            .ok()
            .filter(|item| !item.list)
            .map(|item| item.payload)
            .ok_or_else(|| Fault::malformed("v", "not a number"))?;
        let allowed = if kind != 0 {
            matches!(v, [] | [1])
        } else {
            matches!(v, [27 | 28])
                || self.fork >= Fork::Spurious
                    && self.chain_id_v.0.iter().any(|allowed| **allowed == *v)
        };
        if !allowed {
            let expected = match (kind, self.fork >= Fork::Spurious) {
                (0, true) => format!("27, 28 or that of chain id {}", self.spec.chain_id),
                (0, false) => "27 or 28".to_owned(),
                _ => "0 or 1".to_owned(),
            };
            let found = U512::try_from_be_slice(v).unwrap_or(U512::MAX);
            return Err(Fault::mismatch("v", expected, found));
        }
        let r = rlp::wide(input).map_err(malformed("r"))?;
        let s = rlp::wide(input).map_err(malformed("s"))?;
        if r.is_zero() || r >= ORDER {
            return Err(Fault::mismatch("r", "1 to the order of secp256k1", r));
        }
        let most = if self.fork < Fork::Homestead {
            ORDER - U256::ONE
        } else {
            HALF_ORDER
        };
        if s.is_zero() || s > most {
            return Err(Fault::mismatch("s", format_args!("1 to {most}"), s));
        }
        Ok(())
    }
}

fn malformed(field: &'static str) -> impl Fn(alloy_rlp::Error) -> Fault {
    move |error| Fault::malformed(field, error)
}

/// Gas that is needed before anything is executed.
struct Gas {
    intrinsic: u64,
    /// EIP-7623.
    floor: u64,
}

impl Gas {
    fn of_data(fork: Fork, creates: bool, data: &[u8]) -> Checked<Self> {
        let length = data.len() as u64;
        let zeros = count_zeros(data);
        let byte = match fork < Fork::Istanbul {
            true => GAS_BYTE_FRONTIER,
            false => GAS_BYTE_ISTANBUL,
        };
        let mut intrinsic = GAS_TRANSACTION + zeros * GAS_ZERO_BYTE + (length - zeros) * byte;
        if creates && fork >= Fork::Homestead {
            intrinsic += GAS_CREATE;
        }
        if creates && fork >= Fork::Shanghai {
            // Amsterdam raises the limit (EIP-7954).
            if data.len() > INIT_CODE_LIMIT_BYTES && fork < Fork::Amsterdam {
                let most = format!("at most {INIT_CODE_LIMIT_BYTES} bytes of init code");
                return Err(Fault::mismatch("input", most, length));
            }
            intrinsic += length.div_ceil(32) * GAS_INIT_CODE_WORD;
        }
        let floor = match fork >= Fork::Prague {
            true => GAS_TRANSACTION + (zeros + (length - zeros) * 4) * GAS_FLOOR_TOKEN,
            false => 0,
        };
        Ok(Self { intrinsic, floor })
    }
}

/// Reads an access list, and gives the gas it costs (EIP-2930).
fn access_list(input: &mut &[u8]) -> Result<u64, alloy_rlp::Error> {
    let mut entries = rlp::list(input)?;
    let mut gas = 0;
    while !entries.is_empty() {
        let mut entry = rlp::list(&mut entries)?;
        rlp::array::<20>(&mut entry)?;
        let mut keys = rlp::list(&mut entry)?;
        if !entry.is_empty() {
            return Err(alloy_rlp::Error::Custom(
                "more than an address and its keys",
            ));
        }
        gas += GAS_ACCESS_ADDRESS;
        while !keys.is_empty() {
            rlp::array::<32>(&mut keys)?;
            gas += GAS_ACCESS_KEY;
        }
    }
    Ok(gas)
}

/// Reads a list of authorisations, and counts them (EIP-7702). One that is not valid does nothing, but one that is malformed
/// makes its transaction malformed.
fn authorisations(input: &mut &[u8]) -> Result<u64, alloy_rlp::Error> {
    let mut entries = rlp::list(input)?;
    let mut count = 0;
    while !entries.is_empty() {
        let mut entry = rlp::list(&mut entries)?;
        rlp::wide(&mut entry)?;
        rlp::array::<20>(&mut entry)?;
        rlp::number(&mut entry)?;
        if rlp::number(&mut entry)? > u64::from(u8::MAX) {
            return Err(alloy_rlp::Error::Overflow);
        }
        rlp::wide(&mut entry)?;
        rlp::wide(&mut entry)?;
        if !entry.is_empty() {
            return Err(alloy_rlp::Error::Custom("more than six fields"));
        }
        count += 1;
    }
    Ok(count)
}

/// Zero bytes in `data`, counted in bytes so that many of them fit into one register.
fn count_zeros(data: &[u8]) -> u64 {
    let in_chunk = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(*byte == 0)).sum::<u8>();
    data.chunks(usize::from(u8::MAX))
        .map(|chunk| u64::from(in_chunk(chunk)))
        .sum()
}
