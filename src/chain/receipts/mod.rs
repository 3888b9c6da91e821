//! Receipts as raw RLP: the two forms they travel in, the roots and totals that a header commits to.
//!
//! Nothing is decoded: a receipt is kept as slices of the list it stands in, and one form is made of the other by copying them.
//! Only blooms are computed, for eth/69 leaves them out (EIP-7642) and a root needs them.
//!
//! Sources: EIP-7642 and devp2p `caps/eth.md` for the forms, EIP-658 for the status, EIP-2718 for types, the yellow paper,
//! section 4.3.1, for the bloom.

mod error;
mod read;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use alloy_primitives::{B256, Bloom};
use alloy_rlp::{EMPTY_STRING_CODE, Header as Prefix};

use super::error::Fault;
use super::root::ordered_root;
use super::{Fork, Rules, SealedHeader};
pub use error::ReceiptsError;
use read::Receipt;

/// Most receipts that are read of one block, so that a list of tiny ones cannot claim many times its own size of memory.
/// A block of as many transactions would use 2.7 G gas.
pub const RECEIPTS_LIMIT: usize = 1 << 17;

/// RLP of no receipts, in both forms.
pub const NO_RECEIPTS: &[u8] = &[alloy_rlp::EMPTY_LIST_CODE];

/// RLP of a bloom: the prefix of 256 bytes, and they.
const BLOOM_RLP_BYTES: usize = 3 + 256;

/// How a block's receipts are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `[status or state root, cumulative gas, bloom, logs]`, and before the list of a typed one its type, both in a string:
    /// what the receipts root is the root of, what eth/68 carries and what era1 files hold.
    Eth68,
    /// `[type, status or state root, cumulative gas, logs]`: what eth/69 carries and the store keeps.
    Eth69,
}

/// The receipts of one block, as slices of the list they were read from.
#[derive(Clone, Debug)]
pub struct Receipts<'a> {
    list: Vec<Receipt<'a>>,
}

impl<'a> Receipts<'a> {
    /// Reads the list of a block's receipts: its structure down to the topics of the logs, canonical and with nothing after it.
    /// The cumulative gas may not fall, and a bloom must be that of its logs.
    ///
    /// # Errors
    /// [`ReceiptsError::Malformed`] names the field: `receipts[3].logs[0].address`.
    pub fn decode(form: Form, raw: &'a [u8]) -> Result<Self, ReceiptsError> {
        match read::list(form, raw) {
            Ok(list) => Ok(Self { list }),
            Err(fault) => Err(ReceiptsError::Malformed(Box::new(fault))),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The root that `receiptsRoot` must be.
    pub fn root(&self) -> B256 {
        let mut leaves = Vec::new();
        let mut ends = Vec::with_capacity(self.list.len());
        for receipt in &self.list {
            receipt.put_leaf(&mut leaves);
            ends.push(leaves.len());
        }
        let starts = [0].into_iter().chain(ends.iter().copied());
        let items: Vec<&[u8]> = starts
            .zip(&ends)
            .map(|(start, end)| &leaves[start..*end])
            .collect();
        ordered_root(&items)
    }

    /// The bloom of all logs, which `logsBloom` must be.
    pub fn logs_bloom(&self) -> Bloom {
        let mut all = Bloom::ZERO;
        for bloom in self
            .list
            .iter()
            .filter_map(|receipt| receipt.bloom.as_ref())
        {
            all.accrue_bloom(bloom);
        }
        all
    }

    /// The cumulative gas of the last one, which `gasUsed` must be before Amsterdam.
    pub fn gas_used(&self) -> u64 {
        self.list.last().map_or(0, |receipt| receipt.cumulative_gas)
    }

    /// The receipts in a form. In the one they were read from it gives the same bytes.
    pub fn encode(&self, form: Form) -> Vec<u8> {
        let payload: usize = match form {
            Form::Eth68 => self.list.iter().map(Receipt::eth68_bytes).sum(),
            Form::Eth69 => self.list.iter().map(Receipt::eth69_bytes).sum(),
        };
        let prefix = list_prefix(payload);
        let mut out = Vec::with_capacity(prefix.length() + payload);
        prefix.encode(&mut out);
        for receipt in &self.list {
            match form {
                Form::Eth68 => receipt.put_eth68(&mut out),
                Form::Eth69 => receipt.put_eth69(&mut out),
            }
        }
        debug_assert_eq!(out.len(), prefix.length() + payload);
        out
    }
}

/// One form of a block's receipts made of the other.
///
/// # Errors
/// [`ReceiptsError::Malformed`] as [`Receipts::decode`].
pub fn convert(from: Form, to: Form, raw: &[u8]) -> Result<Vec<u8>, ReceiptsError> {
    Ok(Receipts::decode(from, raw)?.encode(to))
}

impl Rules {
    /// Judges receipts under their header: `receiptsRoot`, `logsBloom` and `gasUsed`. What a transaction did is not judged, for
    /// nothing is executed.
    ///
    /// # Errors
    /// [`ReceiptsError::NotOfHeader`] if the root is another, [`ReceiptsError::Invalid`] if the root is the header's and the rest of
    /// the header contradicts it. Both name the block.
    pub fn check_receipts(
        &self,
        header: &SealedHeader,
        receipts: &Receipts<'_>,
    ) -> Result<(), ReceiptsError> {
        let fields = &header.header;
        let of = |fault: Fault| Box::new(fault.of(fields.number, header.hash));
        let root = receipts.root();
        if root != fields.receipts_root {
            let fault = Fault::mismatch("receiptsRoot", fields.receipts_root, root);
            return Err(ReceiptsError::NotOfHeader(of(fault)));
        }
        let bloom = receipts.logs_bloom();
        if bloom != fields.logs_bloom {
            let fault = Fault::mismatch("logsBloom", bloom, fields.logs_bloom);
            return Err(ReceiptsError::Invalid(of(fault)));
        }
        // From Amsterdam on a block counts gas that its receipts do not (EIP-7778).
        let fork = self.spec.fork(fields.number, fields.timestamp);
        let gas_used = receipts.gas_used();
        if fork < Fork::Amsterdam && gas_used != fields.gas_used {
            let fault = Fault::mismatch("gasUsed", gas_used, fields.gas_used);
            return Err(ReceiptsError::Invalid(of(fault)));
        }
        Ok(())
    }
}

impl Receipt<'_> {
    /// Bytes of the fields of a consensus receipt.
    fn consensus_payload(&self) -> usize {
        self.outcome.len() + self.gas.len() + BLOOM_RLP_BYTES + self.logs.len()
    }

    /// Bytes of what the trie holds: a legacy receipt's list, or a type and the list of a typed one.
    fn leaf_bytes(&self) -> usize {
        usize::from(self.kind != 0) + list_prefix(self.consensus_payload()).length_with_payload()
    }

    fn put_leaf(&self, out: &mut Vec<u8>) {
        if self.kind != 0 {
            out.push(self.kind);
        }
        list_prefix(self.consensus_payload()).encode(out);
        out.extend_from_slice(self.outcome);
        out.extend_from_slice(self.gas);
        string_prefix(256).encode(out);
        match &self.bloom {
            Some(bloom) => out.extend_from_slice(bloom.data()),
            None => out.extend_from_slice(Bloom::ZERO.data()),
        }
        out.extend_from_slice(self.logs);
    }

    fn eth68_bytes(&self) -> usize {
        match self.kind {
            0 => self.leaf_bytes(),
            _ => string_prefix(self.leaf_bytes()).length_with_payload(),
        }
    }

    fn put_eth68(&self, out: &mut Vec<u8>) {
        if self.kind != 0 {
            string_prefix(self.leaf_bytes()).encode(out);
        }
        self.put_leaf(out);
    }

    fn eth69_payload(&self) -> usize {
        1 + self.outcome.len() + self.gas.len() + self.logs.len()
    }

    fn eth69_bytes(&self) -> usize {
        list_prefix(self.eth69_payload()).length_with_payload()
    }

    fn put_eth69(&self, out: &mut Vec<u8>) {
        list_prefix(self.eth69_payload()).encode(out);
        // A type is below 128, so one byte: itself, or the empty string of zero.
        out.push(match self.kind {
            0 => EMPTY_STRING_CODE,
            kind => kind,
        });
        out.extend_from_slice(self.outcome);
        out.extend_from_slice(self.gas);
        out.extend_from_slice(self.logs);
    }
}

fn list_prefix(payload_length: usize) -> Prefix {
    Prefix {
        list: true,
        payload_length,
    }
}

fn string_prefix(payload_length: usize) -> Prefix {
    Prefix {
        list: false,
        payload_length,
    }
}
