//! A walk over RLP in place that knows the name and the place of what it reads.

use std::fmt;

use alloy_primitives::{B256, U256};
use alloy_rlp::Header;

/// A peer's message that is not what the specification says: always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Name of the message, as in eth.md.
    pub message: &'static str,
    /// Name of the field, as in eth.md.
    pub field: &'static str,
    /// Where the field begins in the decompressed payload.
    pub offset_bytes: usize,
    /// What is wrong with it.
    pub what: What,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It ends, or its list does, before it is complete.
    Short,
    /// Bytes follow where the message or the list should end.
    Trailing,
    /// Its RLP is not the one canonical form (leading zeros, a long form of a short length).
    NotCanonical,
    /// A list stands where a byte string belongs.
    List,
    /// A byte string stands where a list belongs.
    String,
    /// It has another length than the field can have.
    Length {
        /// Bytes the field has, or the most it may have.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// More items than the limit allows.
    TooMany {
        /// The limit.
        most: usize,
    },
    /// A number that the field cannot have.
    Value {
        /// The number found.
        found: u64,
    },
    /// The version has no message of this code, or not at this time.
    Code {
        /// The code, counted from the capability's first.
        code: u8,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DecodeError {
            message,
            field,
            offset_bytes,
            what,
        } = self;
        write!(f, "{message}: {field} at byte {offset_bytes}: ")?;
        match what {
            What::Short => write!(f, "ends too early"),
            What::Trailing => write!(f, "more bytes than expected"),
            What::NotCanonical => write!(f, "RLP is not canonical"),
            What::List => write!(f, "expected a byte string, found a list"),
            What::String => write!(f, "expected a list, found a byte string"),
            What::Length { expected, found } => {
                write!(f, "expected {expected} bytes, found {found}")
            }
            What::TooMany { most } => write!(f, "more than {most} items"),
            What::Value { found } => write!(f, "cannot be {found}"),
            What::Code { code } => write!(f, "no such message code {code:#04x}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// What is left of one list (or of the whole payload).
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    message: &'static str,
    rest: &'a [u8],
    /// Length of the payload up to the end of `rest`, so that a place can be told from what is left.
    end: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(message: &'static str, payload: &'a [u8]) -> Cursor<'a> {
        Cursor {
            message,
            rest: payload,
            end: payload.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not read yet.
    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn error(&self, field: &'static str, what: What) -> DecodeError {
        DecodeError {
            message: self.message,
            field,
            offset_bytes: self.end - self.rest.len(),
            what,
        }
    }

    /// The next item as it stands, and its header; only the header is checked.
    fn item(&mut self, field: &'static str) -> Result<(Header, &'a [u8]), DecodeError> {
        let start = *self;
        let header = Header::decode(&mut self.rest).map_err(|error| {
            let what = match error {
                alloy_rlp::Error::InputTooShort | alloy_rlp::Error::Custom(_) => What::Short,
                _ => What::NotCanonical,
            };
            start.error(field, what)
        })?;
        // `Header::decode` has checked that the payload is there.
        self.rest = &self.rest[header.payload_length..];
        Ok((header, &start.rest[..start.rest.len() - self.rest.len()]))
    }

    /// The payload of the next item, a byte string.
    pub(super) fn string(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let start = *self;
        let (header, raw) = self.item(field)?;
        if header.list {
            return Err(start.error(field, What::List));
        }
        Ok(&raw[raw.len() - header.payload_length..])
    }

    /// Goes into the next item, a list; `self` goes on after it.
    pub(super) fn list(&mut self, field: &'static str) -> Result<Cursor<'a>, DecodeError> {
        let start = *self;
        let (header, raw) = self.item(field)?;
        if !header.list {
            return Err(start.error(field, What::String));
        }
        Ok(Cursor {
            message: self.message,
            rest: &raw[raw.len() - header.payload_length..],
            end: self.end - self.rest.len(),
        })
    }

    /// The next item, a list, raw: with its header, what is in it unchecked.
    pub(super) fn raw_list(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let start = *self;
        let (header, raw) = self.item(field)?;
        if !header.list {
            return Err(start.error(field, What::String));
        }
        Ok(raw)
    }

    /// A number of at most `bytes` bytes, big-endian without leading zeros.
    fn number(&mut self, field: &'static str, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let start = *self;
        let digits = self.string(field)?;
        if digits.len() > bytes {
            return Err(start.error(
                field,
                What::Length {
                    expected: bytes,
                    found: digits.len(),
                },
            ));
        }
        if digits.first() == Some(&0) {
            return Err(start.error(field, What::NotCanonical));
        }
        Ok(digits)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let digits = self.number(field, 8)?;
        Ok(digits.iter().fold(0, |n, digit| n << 8 | u64::from(*digit)))
    }

    pub(super) fn u256(&mut self, field: &'static str) -> Result<U256, DecodeError> {
        Ok(U256::from_be_slice(self.number(field, 32)?))
    }

    /// A byte string of exactly `N` bytes.
    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let start = *self;
        let bytes = self.string(field)?;
        bytes.try_into().map_err(|_| {
            start.error(
                field,
                What::Length {
                    expected: N,
                    found: bytes.len(),
                },
            )
        })
    }

    pub(super) fn b256(&mut self, field: &'static str) -> Result<B256, DecodeError> {
        self.array(field).map(B256::new)
    }

    /// Nothing may follow.
    pub(super) fn end(&self, field: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(field, What::Trailing))
        }
    }
}
