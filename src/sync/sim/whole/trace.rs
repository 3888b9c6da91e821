//! What happened, step by step: shown when one seed is replayed, and hashed so that two runs can be told apart.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write};
use std::hash::Hasher;

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
