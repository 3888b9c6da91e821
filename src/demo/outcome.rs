//! What the demo saw, as people read it and as JSON.

use std::fmt;

use cairn_store::Snapshot;
use serde::Serialize;

use crate::logging::size;

/// One node at the end.
#[derive(Clone, Debug, Serialize)]
pub struct NodeEnd {
    /// Its head's number.
    pub head_number: u64,
    /// Its head's hash.
    pub head_hash: String,
    /// The most memory it held, in bytes, mapped files included.
    pub peak_memory_bytes: u64,
    /// The most memory of its own (RssAnon) that was seen during the catch-up, in bytes.
    pub peak_anonymous_bytes: u64,
    /// Processor seconds it spent on the catch-up.
    pub catch_up_cpu_seconds: f64,
}

/// What the demo saw.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Blocks the full node caught up on.
    pub catch_up_blocks: u64,
    /// Transactions in them.
    pub catch_up_transactions: u64,
    /// Bytes of their headers and bodies.
    pub catch_up_bytes: u64,
    /// What their bodies compress to under snappy: generated ones are made to do as real ones (0.55 to 0.65).
    pub body_snappy_ratio: f64,
    /// Seconds from the full node's start to the last of them stored.
    pub catch_up_seconds: f64,
    /// Blocks that were sealed and followed live.
    pub live_blocks: u64,
    /// The validator.
    pub validator: NodeEnd,
    /// The full node.
    pub fullnode: NodeEnd,
    /// Do both hold the same blocks, byte for byte?
    pub same: bool,
    /// Where the folders are, if they were kept.
    pub folder: Option<String>,
}

impl NodeEnd {
    pub(super) fn new(
        chain: &Snapshot,
        peak_memory_bytes: u64,
        peak_anonymous_bytes: u64,
        catch_up_cpu_seconds: f64,
    ) -> NodeEnd {
        let head = chain.head();
        NodeEnd {
            head_number: head.number,
            head_hash: head.hash.to_string(),
            peak_memory_bytes,
            peak_anonymous_bytes,
            catch_up_cpu_seconds,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.catch_up_blocks as f64 / self.catch_up_seconds.max(1e-9);
        writeln!(f, "{:<24}{:>16}", "Blocks caught up", self.catch_up_blocks)?;
        writeln!(
            f,
            "{:<24}{:>16}",
            "Transactions", self.catch_up_transactions
        )?;
        writeln!(f, "{:<24}{:>16}", "Bytes", size(self.catch_up_bytes))?;
        let ratio = self.body_snappy_ratio;
        writeln!(f, "{:<24}{ratio:>16.3} of their size", "Bodies compress to")?;
        writeln!(f, "{:<24}{:>16.2}", "Seconds", self.catch_up_seconds)?;
        writeln!(f, "{:<24}{:>16.0}", "Blocks/s", rate)?;
        let megabytes = self.catch_up_bytes as f64 / 1e6;
        writeln!(
            f,
            "{:<24}{:>16.1}",
            "MB/s",
            megabytes / self.catch_up_seconds.max(1e-9)
        )?;
        writeln!(f, "{:<24}{:>16}", "Blocks followed live", self.live_blocks)?;
        for (name, node) in [
            ("Validator", &self.validator),
            ("Full node", &self.fullnode),
        ] {
            let head = format!("{name}'s head");
            let memory = format!("{name}'s peak memory");
            writeln!(f, "{head:<24}{:>16} {}", node.head_number, node.head_hash)?;
            writeln!(
                f,
                "{memory:<24}{:>16} ({} of its own in the catch-up)",
                size(node.peak_memory_bytes),
                size(node.peak_anonymous_bytes)
            )?;
            let cpu = format!("{name}'s CPU seconds");
            let per_gigabyte = node.catch_up_cpu_seconds * 1000.0 / megabytes.max(1e-9);
            writeln!(
                f,
                "{cpu:<24}{:>16.2} ({per_gigabyte:.2} a GB)",
                node.catch_up_cpu_seconds
            )?;
        }
        writeln!(
            f,
            "{:<24}{:>16}",
            "Same, byte for byte",
            if self.same { "yes" } else { "NO" }
        )?;
        if let Some(folder) = &self.folder {
            writeln!(f, "Folders kept in {folder}")?;
        }
        Ok(())
    }
}
