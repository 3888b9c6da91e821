//! Why a header or a body is refused: the block, the field, what was expected and what was found.

use std::fmt;

use alloy_primitives::B256;

/// One thing that is wrong with a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Number and hash of the block, where they are known.
    pub block: Option<(u64, B256)>,
    /// The field, as JSON-RPC spells it: `baseFeePerGas`, `transactions[3].gasLimit`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The field has a value that the rules do not allow.
    Mismatch {
        /// What the rules ask for.
        expected: String,
        /// What the block has.
        found: String,
    },
    /// The field is not the RLP that it has to be.
    Malformed(String),
}

impl Fault {
    /// `field` should have been `expected` and is `found`.
    pub(crate) fn mismatch(
        field: impl Into<String>,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        Self {
            block: None,
            field: field.into(),
            problem: Problem::Mismatch {
                expected: expected.to_string(),
                found: found.to_string(),
            },
        }
    }

    /// `field` is not RLP of the right shape.
    pub(crate) fn malformed(field: impl Into<String>, what: impl fmt::Display) -> Self {
        Self {
            block: None,
            field: field.into(),
            problem: Problem::Malformed(what.to_string()),
        }
    }

    /// The same fault, of this block.
    pub(crate) fn of(mut self, number: u64, hash: B256) -> Self {
        self.block = Some((number, hash));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((number, hash)) = &self.block {
            write!(f, "block {number} ({hash}): ")?;
        }
        match &self.problem {
            Problem::Mismatch { expected, found } => {
                write!(f, "{}: expected {expected}, found {found}", self.field)
            }
            Problem::Malformed(what) => write!(f, "{}: {what}", self.field),
        }
    }
}

impl std::error::Error for Fault {}

/// Why a header is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// The bytes are no header, or a rule is broken: whoever made or vouched for the header is at fault.
    Invalid(Box<Fault>),
    /// The header is not due yet. It may be valid then, and its sender is not to blame: clocks differ.
    Future {
        /// The block's number.
        number: u64,
        /// The block's hash.
        hash: B256,
        /// Unix time in seconds from which on the header can be judged.
        due_s: u64,
    },
    /// A header that is needed to judge by is not there: our own store lacks it.
    Missing {
        /// The number of the header that lacks.
        number: u64,
    },
}

impl HeaderError {
    /// The fault, where there is one.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Invalid(fault) => Some(fault),
            Self::Future { .. } | Self::Missing { .. } => None,
        }
    }
}

impl From<Fault> for HeaderError {
    fn from(fault: Fault) -> Self {
        Self::Invalid(Box::new(fault))
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(fault) => fault.fmt(f),
            Self::Future {
                number,
                hash,
                due_s,
            } => write!(
                f,
                "block {number} ({hash}): timestamp: expected no later than now, found one that is due at {due_s}"
            ),
            Self::Missing { number } => {
                write!(
                    f,
                    "block {number}: header: expected in the store, found nothing"
                )
            }
        }
    }
}

impl std::error::Error for HeaderError {}

/// Why a body is refused. The three kinds have different culprits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BodyError {
    /// The bytes are no body: whoever sent them is at fault.
    Malformed(Box<Fault>),
    /// A body, but not the one that the header commits to: whoever sent it is at fault, and somebody else may have the right one.
    NotOfHeader(Box<Fault>),
    /// The body that the header commits to, and it breaks a rule: the block is invalid, whoever sends it.
    Invalid(Box<Fault>),
}

impl BodyError {
    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        match self {
            Self::Malformed(fault) | Self::NotOfHeader(fault) | Self::Invalid(fault) => fault,
        }
    }

    /// The same error, of this block.
    pub(crate) fn of(self, number: u64, hash: B256) -> Self {
        let of = |fault: Box<Fault>| Box::new(fault.of(number, hash));
        match self {
            Self::Malformed(fault) => Self::Malformed(of(fault)),
            Self::NotOfHeader(fault) => Self::NotOfHeader(of(fault)),
            Self::Invalid(fault) => Self::Invalid(of(fault)),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault().fmt(f)
    }
}

impl std::error::Error for BodyError {}
