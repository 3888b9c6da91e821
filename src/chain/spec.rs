//! What a chain lives by: its id, its forks and when they come, who may seal, and the fork id made of it.

use alloy_eip2124::{ForkFilter, ForkFilterKey, Head};
use alloy_primitives::U256;

use super::genesis::Genesis;

/// Clique's two settings (EIP-225).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CliqueConfig {
    /// Least seconds between a block and its parent.
    pub period_s: u64,
    /// Blocks from one checkpoint to the next; never 0.
    pub epoch: u64,
}

/// Sets of rules, each with all that came before it. What changes no rule judged here (DAO, bomb delays, EIP-158 apart from
/// EIP-155, Petersburg apart from Constantinople, the merge) has none of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fork {
    /// The first rules.
    Frontier,
    /// EIP-2: difficulty, low s.
    Homestead,
    /// EIP-150.
    Tangerine,
    /// EIP-155: the chain id is signed.
    Spurious,
    /// EIP-100: difficulty by ommers.
    Byzantium,
    /// EIP-1234.
    Constantinople,
    /// EIP-2028: cheaper call data.
    Istanbul,
    /// EIP-2930: access lists.
    Berlin,
    /// EIP-1559: base fee.
    London,
    /// EIP-4895: withdrawals.
    Shanghai,
    /// EIPs 4844 and 4788: blobs, the parent's beacon block root.
    Cancun,
    /// EIPs 7685, 7702, 7623: requests, authorisations, call data floor.
    Prague,
    /// EIPs 7825, 7918, 7934: caps of a transaction's gas and a block's bytes, a floor for the price of blobs.
    Osaka,
    /// EIPs 7928 and 7843: hash of the block's access list and slot number in the header. How gas is counted there is not judged.
    Amsterdam,
}

/// When each fork comes, as genesis.json's `config` says it: by block number up to the merge, by Unix time in seconds after it.
/// `None`: never, unless a later one comes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Forks {
    /// `homesteadBlock`.
    pub homestead: Option<u64>,
    /// `daoForkBlock`.
    pub dao: Option<u64>,
    /// `daoForkSupport`: on which side of the DAO fork the chain is.
    pub dao_support: bool,
    /// `eip150Block`.
    pub eip150: Option<u64>,
    /// `eip155Block`.
    pub eip155: Option<u64>,
    /// `eip158Block`.
    pub eip158: Option<u64>,
    /// `byzantiumBlock`.
    pub byzantium: Option<u64>,
    /// `constantinopleBlock`.
    pub constantinople: Option<u64>,
    /// `petersburgBlock`, Besu's `constantinopleFixBlock`.
    pub petersburg: Option<u64>,
    /// `istanbulBlock`.
    pub istanbul: Option<u64>,
    /// `muirGlacierBlock` (EIP-2384).
    pub muir_glacier: Option<u64>,
    /// `berlinBlock`.
    pub berlin: Option<u64>,
    /// `londonBlock`.
    pub london: Option<u64>,
    /// `arrowGlacierBlock` (EIP-4345).
    pub arrow_glacier: Option<u64>,
    /// `grayGlacierBlock` (EIP-5133).
    pub gray_glacier: Option<u64>,
    /// `mergeNetsplitBlock`: only in the fork id (EIP-3675).
    pub merge_netsplit: Option<u64>,
    /// `shanghaiTime`.
    pub shanghai_time: Option<u64>,
    /// `cancunTime`.
    pub cancun_time: Option<u64>,
    /// `pragueTime`.
    pub prague_time: Option<u64>,
    /// `osakaTime`.
    pub osaka_time: Option<u64>,
    /// `bpo1Time` to `bpo5Time` (EIP-7892): they change the blob schedule alone.
    pub bpo_times: [Option<u64>; 5],
    /// `amsterdamTime`.
    pub amsterdam_time: Option<u64>,
}

impl Forks {
    /// The forks by block number with their names in genesis.json, in the order in which they must come.
    pub(crate) fn by_block(&self) -> [(&'static str, Option<u64>); 15] {
        [
            ("homesteadBlock", self.homestead),
            ("daoForkBlock", self.dao),
            ("eip150Block", self.eip150),
            ("eip155Block", self.eip155),
            ("eip158Block", self.eip158),
            ("byzantiumBlock", self.byzantium),
            ("constantinopleBlock", self.constantinople),
            ("petersburgBlock", self.petersburg),
            ("istanbulBlock", self.istanbul),
            ("muirGlacierBlock", self.muir_glacier),
            ("berlinBlock", self.berlin),
            ("londonBlock", self.london),
            ("arrowGlacierBlock", self.arrow_glacier),
            ("grayGlacierBlock", self.gray_glacier),
            ("mergeNetsplitBlock", self.merge_netsplit),
        ]
    }

    /// The forks by time with their names in genesis.json, in the order in which they must come.
    pub(crate) fn by_time(&self) -> [(&'static str, Option<u64>); 10] {
        [
            ("shanghaiTime", self.shanghai_time),
            ("cancunTime", self.cancun_time),
            ("pragueTime", self.prague_time),
            ("osakaTime", self.osaka_time),
            ("bpo1Time", self.bpo_times[0]),
            ("bpo2Time", self.bpo_times[1]),
            ("bpo3Time", self.bpo_times[2]),
            ("bpo4Time", self.bpo_times[3]),
            ("bpo5Time", self.bpo_times[4]),
            ("amsterdamTime", self.amsterdam_time),
        ]
    }
}

/// How many blobs a block may have and how their price moves (EIPs 4844, 7691, 7840, 7892).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobParams {
    /// Blobs a block at which the price stands still.
    pub target: u64,
    /// Most blobs of a block.
    pub max: u64,
    /// `baseFeeUpdateFraction`: how slowly the price moves; never 0.
    pub update_fraction: u64,
}

impl BlobParams {
    /// EIP-4844.
    pub const CANCUN: Self = Self::new(3, 6, 3_338_477);
    /// EIP-7691.
    pub const PRAGUE: Self = Self::new(6, 9, 5_007_716);
    /// EIP-7892, the first of mainnet's forks that change the blobs alone.
    pub const BPO1: Self = Self::new(10, 15, 8_346_193);
    /// EIP-7892, the second one.
    pub const BPO2: Self = Self::new(14, 21, 11_684_671);

    const fn new(target: u64, max: u64, update_fraction: u64) -> Self {
        Self {
            target,
            max,
            update_fraction,
        }
    }
}

/// Everything that a chain's rules depend on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// `chainId`, any number of 256 bits: real test chains have such.
    pub chain_id: U256,
    /// Set where the chain's blocks are sealed by clique (until the merge, if it has one).
    pub clique: Option<CliqueConfig>,
    /// When each fork comes.
    pub forks: Forks,
    /// `terminalTotalDifficulty`: blocks whose parent has at least this total difficulty are proof of stake (EIP-3675).
    pub terminal_total_difficulty: Option<U256>,
    /// The blob parameters from each Unix time on, in rising order.
    pub blob_schedule: Vec<(u64, BlobParams)>,
    /// The chain has transaction types that Ethereum has not (its `config` names a rollup, such as `scroll`). Transactions of
    /// unknown type are then not judged; on every other chain they make their block invalid.
    pub foreign_transactions: bool,
}

impl Spec {
    /// A chain of that id with these forks, mainnet's blob parameters, no seals and no merge.
    pub fn new(chain_id: U256, forks: Forks) -> Self {
        let blob_schedule = [
            (forks.cancun_time, BlobParams::CANCUN),
            (forks.prague_time, BlobParams::PRAGUE),
            (forks.osaka_time, BlobParams::PRAGUE),
            (forks.bpo_times[0], BlobParams::BPO1),
            (forks.bpo_times[1], BlobParams::BPO2),
        ]
        .into_iter()
        .filter_map(|(time, params)| Some((time?, params)))
        .collect();
        Self {
            chain_id,
            clique: None,
            forks,
            terminal_total_difficulty: None,
            blob_schedule,
            foreign_transactions: false,
        }
    }

    /// Blocks from one checkpoint of the signers to the next; 1 where there are none.
    pub(crate) fn clique_epoch(&self) -> u64 {
        self.clique.map_or(1, |clique| clique.epoch.max(1))
    }

    /// The latest set of rules in force for a block of that number and Unix time in seconds. A fork that has no place of its own comes with
    /// the next later one that has.
    pub fn fork(&self, number: u64, time_s: u64) -> Fork {
        let forks = &self.forks;
        let reached = |time: Option<u64>| time.is_some_and(|time| time <= time_s);
        let passed = |block: Option<u64>| block.is_some_and(|block| block <= number);
        // Latest first: chains live mostly at their end.
        if reached(forks.amsterdam_time) {
            Fork::Amsterdam
        } else if reached(forks.osaka_time) {
            Fork::Osaka
        } else if reached(forks.prague_time) {
            Fork::Prague
        } else if reached(forks.cancun_time) {
            Fork::Cancun
        } else if reached(forks.shanghai_time) {
            Fork::Shanghai
        } else if passed(forks.london) {
            Fork::London
        } else if passed(forks.berlin) {
            Fork::Berlin
        } else if passed(forks.istanbul) {
            Fork::Istanbul
        } else if passed(forks.petersburg) || passed(forks.constantinople) {
            Fork::Constantinople
        } else if passed(forks.byzantium) {
            Fork::Byzantium
        } else if passed(forks.eip155) || passed(forks.eip158) {
            Fork::Spurious
        } else if passed(forks.eip150) {
            Fork::Tangerine
        } else if passed(forks.homestead) {
            Fork::Homestead
        } else {
            Fork::Frontier
        }
    }

    /// The blob parameters in force at that Unix time in seconds; `None` before Cancun.
    pub fn blob_params(&self, time_s: u64) -> Option<BlobParams> {
        let latest = |(from, _): &&(u64, BlobParams)| *from <= time_s;
        self.blob_schedule
            .iter()
            .rev()
            .find(latest)
            .map(|(_, params)| *params)
    }

    /// The forks that peers compare (EIP-2124, EIP-6122), with our head at that number and Unix time. Forks in force at genesis do not
    /// count, and several at one place count once.
    pub fn fork_filter(&self, genesis: &Genesis, head_number: u64, head_time_s: u64) -> ForkFilter {
        let by_block = self.forks.by_block().into_iter();
        let by_time = self.forks.by_time().into_iter();
        let forks = by_block
            .filter_map(|(_, block)| block.map(ForkFilterKey::Block))
            .chain(by_time.filter_map(|(_, time)| time.map(ForkFilterKey::Time)));
        let head = Head {
            number: head_number,
            timestamp: head_time_s,
            ..Head::default()
        };
        let header = &genesis.header;
        ForkFilter::new(head, header.hash, header.header.timestamp, forks)
    }

    /// What eth's Status calls the network id: the low 64 bits of the chain id.
    pub fn network_id(&self) -> u64 {
        self.chain_id.as_limbs()[0]
    }
}
