//! Whether the chain grows as long as a majority of the signers is up, connected, and has the right time.

use alloy_primitives::U256;

use super::Network;

/// How often it is looked at.
const LOOK_MS: u64 = 500;

/// See the file's first line.
pub(in crate::sync::sim) struct Watch {
    signers: usize,
    bound_ms: u64,
    /// Those who have been up, connected and right since the chain grew last: if they are a majority it must go on.
    core: Vec<usize>,
    /// Their greatest total difficulty.
    td: U256,
    since_ms: u64,
}

impl Watch {
    /// The first `signers` nodes are the signers. A majority of them that stands still for longer than `bound_ms` fails the run.
    pub(in crate::sync::sim) fn new(signers: usize, bound_ms: u64) -> Watch {
        Watch {
            signers,
            bound_ms,
            core: Vec::new(),
            td: U256::ZERO,
            since_ms: 0,
        }
    }

    /// Lets time pass, and looks on.
    pub(in crate::sync::sim) fn pass(&mut self, network: &mut Network, ms: u64) {
        let end_ms = network.now_ms + ms;
        self.look(network);
        while network.now_ms < end_ms {
            network.run((network.now_ms + LOOK_MS).min(end_ms));
            self.look(network);
        }
    }

    fn look(&mut self, network: &Network) {
        let is_majority = |nodes: &[usize]| nodes.len() > self.signers / 2;
        let able = network.able(self.signers);
        let mut kept = self.core.clone();
        kept.retain(|node| able.contains(node));
        if kept.len() < self.core.len() {
            self.td = network.best_td(&kept);
        }
        if !is_majority(&kept) || network.best_td(&kept) > self.td {
            (self.td, self.since_ms) = (network.best_td(&able), network.now_ms);
            kept = able;
        }
        if is_majority(&kept) {
            let stood_ms = network.now_ms - self.since_ms;
            assert!(
                stood_ms <= self.bound_ms,
                "at {} ms {kept:?} have stood still for {stood_ms} ms, and are a majority{}",
                network.now_ms,
                network.state()
            );
        }
        self.core = kept;
    }
}

impl Network {
    /// Sets a signer's clock wrong by so much, or right.
    pub(in crate::sync::sim) fn skew(&mut self, node: usize, skew_ms: i64) {
        let now_ms = self.now_ms;
        let it = &mut self.nodes[node];
        // What it signed meanwhile has a time of up to then, and it signs nothing else over the same parent.
        let last_ms = now_ms.saturating_add_signed(it.skew_ms);
        it.right_at_ms = it.right_at_ms.max(last_ms);
        it.skew_ms = skew_ms;
    }

    /// Whether its clock is right, and has been for as long as it was ahead.
    pub(in crate::sync::sim) fn is_right(&self, node: usize) -> bool {
        let it = &self.nodes[node];
        it.skew_ms == 0 && it.right_at_ms <= self.now_ms
    }

    /// Of the first `signers` nodes those who run, are right, and are in one part: the part that has the most of them.
    fn able(&self, signers: usize) -> Vec<usize> {
        let able = |node: &usize| self.is_running(*node) && self.is_right(*node);
        let of = |part: usize| -> Vec<usize> {
            let is_there = |node: &usize| self.part[*node] == part;
            (0..signers).filter(is_there).filter(able).collect()
        };
        let parts = self.part.iter().copied().map(of);
        parts.max_by_key(Vec::len).unwrap_or_default()
    }

    fn best_td(&self, nodes: &[usize]) -> U256 {
        let tds = nodes.iter().map(|node| self.nodes[*node].tip.td);
        tds.max().unwrap_or_default()
    }
}
