//! What happened, step by step: shown when one seed is replayed, and hashed so that two runs can be told apart.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write};
use std::hash::Hasher;

use alloy_primitives::B256;
use cairn_net::eth::message::{Request, Start};
use cairn_net::reactor::OwnedOutgoing;

/// The steps of one run.
pub(super) struct Trace {
    hasher: DefaultHasher,
    shown: bool,
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.hasher.write(text.as_bytes());
        if self.shown {
            print!("{text}");
        }
        Ok(())
    }
}

impl Trace {
    pub(super) fn new(shown: bool) -> Trace {
        Trace {
            hasher: DefaultHasher::new(),
            shown,
        }
    }

    /// One step.
    pub(super) fn step(&mut self, now_ms: u64, what: fmt::Arguments<'_>) {
        let _ = writeln!(self, "{now_ms:>7} {what}");
    }

    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

/// A message in the trace.
pub(super) struct Short<'a>(pub(super) &'a OwnedOutgoing);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |hash: &B256| hex(&hash[..4]);
        match self.0 {
            OwnedOutgoing::Request { id, request } => match request {
                Request::Headers {
                    start,
                    amount,
                    reverse,
                    ..
                } => {
                    let way = if *reverse { "falling" } else { "rising" };
                    match start {
                        Start::Number(number) => {
                            write!(f, "#{id} {amount} headers {way} from {number}")
                        }
                        Start::Hash(hash) => {
                            write!(f, "#{id} {amount} headers {way} from {}", short(hash))
                        }
                    }
                }
                Request::Bodies { hashes } => {
                    write!(
                        f,
                        "#{id} {} bodies from {}",
                        hashes.len(),
                        short(&hashes[0])
                    )
                }
                Request::Receipts { hashes, .. } => {
                    write!(
                        f,
                        "#{id} {} receipts from {}",
                        hashes.len(),
                        short(&hashes[0])
                    )
                }
                other => write!(f, "#{id} {other:?}"),
            },
            OwnedOutgoing::NewBlockHashes(hashes) => write!(f, "hashes {}", hashes.len()),
            OwnedOutgoing::NewBlock { .. } => write!(f, "block"),
            OwnedOutgoing::BlockRange { latest, .. } => write!(f, "range up to {latest}"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
