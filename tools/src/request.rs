//! What the words typed mean: checked, before any file is opened.

use std::{num::NonZero, path::PathBuf, thread, time::Duration};

use alloy_primitives::{B256, hex};

use crate::{
    cli::{Cli, Command, Format, GenerateArgs, JobsArg, Part, StoreArgs},
    failure::Failure,
    locate,
};

/// A command with everything it needs.
#[derive(Debug)]
pub(crate) enum Request {
    Info(Store),
    List(Store, Range),
    Get(Store, Get),
    Dump(Store, Dump),
    Gaps(Store, Jobs),
    Verify(Store, Verify),
    Stats(Store, Stats),
    Bench(Store, Duration),
    Export(Store, Export),
    Import(Store, Import),
    Prune(Store, Prune),
    RebuildIndex(Store),
    Repair(Store, DryRun),
    Generate(GenerateArgs),
}

/// The store to look into, and how to speak.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) folder: PathBuf,
    pub(crate) json: bool,
}

/// The blocks to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Range {
    /// The last few.
    Last,
    /// From the first number to the second, both included; to the head if there is no second.
    Numbers(u64, Option<u64>),
}

/// What to get of which block.
#[derive(Debug)]
pub(crate) struct Get {
    pub(crate) block: BlockId,
    pub(crate) part: Part,
    pub(crate) raw: bool,
}

/// What to dump, and how.
#[derive(Debug)]
pub(crate) struct Dump {
    pub(crate) range: Range,
    pub(crate) raw: bool,
}

/// How thoroughly to verify.
#[derive(Debug)]
pub(crate) struct Verify {
    pub(crate) deep: bool,
    pub(crate) resume: Option<PathBuf>,
    pub(crate) genesis: Option<PathBuf>,
    pub(crate) jobs: Jobs,
}

/// What to count, and how to show it.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) range: Range,
    pub(crate) by: Option<u64>,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) force: bool,
    pub(crate) genesis: Option<PathBuf>,
    pub(crate) jobs: Jobs,
}

/// What to export, and where to.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) file: PathBuf,
    pub(crate) range: Option<Range>,
    pub(crate) era1: bool,
}

/// What to import.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) file: PathBuf,
    pub(crate) genesis: Option<PathBuf>,
}

/// What to forget.
#[derive(Debug)]
pub(crate) struct Prune {
    pub(crate) before: u64,
    pub(crate) dry_run: DryRun,
}

/// Whether a change is only told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DryRun(pub(crate) bool);

/// Threads that share the work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Jobs(pub(crate) usize);

/// How a block was named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BlockId {
    Head,
    Number(u64),
    Hash(B256),
}

impl Request {
    pub(crate) fn new(typed: Cli) -> Result<Self, Failure> {
        Ok(match typed.command {
            Command::Info { store } => Self::Info(located(store)?),
            Command::List { range, store } => {
                let range = range.as_deref().map_or(Ok(Range::Last), Range::parse)?;
                Self::List(located(store)?, range)
            }
            Command::Get {
                block,
                part,
                raw,
                store,
            } => {
                let block = BlockId::parse(&block)?;
                Self::Get(located(store)?, Get { block, part, raw })
            }
            Command::Dump { range, raw, store } => {
                let range = Range::parse(&range)?;
                Self::Dump(located(store)?, Dump { range, raw })
            }
            Command::Gaps { store, jobs } => Self::Gaps(located(store)?, jobs.into()),
            Command::Verify(args) => {
                let verify = Verify {
                    deep: args.deep,
                    resume: args.resume,
                    genesis: args.genesis,
                    jobs: args.jobs.into(),
                };
                Self::Verify(located(args.store)?, verify)
            }
            Command::Stats(args) => {
                let all = Ok(Range::Numbers(0, None));
                let stats = Stats {
                    range: args.range.as_deref().map_or(all, Range::parse)?,
                    by: args.by,
                    svg: args.svg,
                    force: args.force,
                    genesis: args.genesis,
                    jobs: args.jobs.into(),
                };
                Self::Stats(located(args.store)?, stats)
            }
            Command::Bench { seconds, store } => {
                if !(0.01..=86_400.0).contains(&seconds) {
                    return Err(Failure::Usage(format!(
                        "--seconds {seconds}: give 0.01 to 86400"
                    )));
                }
                Self::Bench(located(store)?, Duration::from_secs_f64(seconds))
            }
            Command::Export {
                file,
                range,
                format,
                store,
            } => {
                let ends = file.extension().is_some_and(|end| end == "era1");
                let era1 = format.map_or(ends, |format| format == Format::Era1);
                let range = range.as_deref().map(Range::parse).transpose()?;
                Self::Export(located(store)?, Export { file, range, era1 })
            }
            Command::Import {
                file,
                genesis,
                store,
            } => Self::Import(located(store)?, Import { file, genesis }),
            Command::Prune {
                before,
                dry_run,
                store,
            } => {
                let dry_run = DryRun(dry_run);
                Self::Prune(located(store)?, Prune { before, dry_run })
            }
            Command::RebuildIndex { store } => Self::RebuildIndex(located(store)?),
            Command::Repair { dry_run, store } => Self::Repair(located(store)?, DryRun(dry_run)),
            Command::Generate(args) => Self::Generate(args),
        })
    }
}

fn located(args: StoreArgs) -> Result<Store, Failure> {
    Ok(Store {
        folder: locate::store(&args.datadir)?,
        json: args.json,
    })
}

impl From<JobsArg> for Jobs {
    fn from(typed: JobsArg) -> Self {
        let cores = || thread::available_parallelism().map_or(1, NonZero::get);
        Self(typed.jobs.map_or_else(cores, usize::from))
    }
}

impl Range {
    /// The first and the last number, which must both be there. `last` is how many blocks are meant if none are named.
    pub(crate) fn within(self, head: u64, last: u64) -> Result<(u64, u64), Failure> {
        let (from, to) = match self {
            Self::Last => (head.saturating_sub(last.saturating_sub(1)), head),
            Self::Numbers(from, to) => (from, to.unwrap_or(head)),
        };
        match from.max(to) {
            beyond if beyond > head => Err(Failure::No(format!(
                "there is no block {beyond} yet: the head is {head}"
            ))),
            _ => Ok((from, to)),
        }
    }

    fn parse(typed: &str) -> Result<Self, Failure> {
        let number = |word: &str| {
            word.parse::<u64>().map_err(|_| {
                Failure::Usage(format!(
                    "{typed:?} is no range of blocks: give N, FROM..TO, FROM.. or ..TO with decimal numbers"
                ))
            })
        };
        let (from, to) = match typed.split_once("..") {
            None => {
                let one = number(typed)?;
                (one, Some(one))
            }
            Some((from, to)) => (
                if from.is_empty() { 0 } else { number(from)? },
                if to.is_empty() {
                    None
                } else {
                    Some(number(to)?)
                },
            ),
        };
        if to.is_some_and(|to| to < from) {
            return Err(Failure::Usage(format!(
                "{typed:?} is an empty range: its end is before its beginning"
            )));
        }
        Ok(Self::Numbers(from, to))
    }
}

impl BlockId {
    fn parse(typed: &str) -> Result<Self, Failure> {
        if typed == "head" {
            return Ok(Self::Head);
        }
        if let Some(digits) = typed.strip_prefix("0x") {
            let mut hash = B256::ZERO;
            return match hex::decode_to_slice(digits, hash.as_mut_slice()) {
                Ok(()) => Ok(Self::Hash(hash)),
                Err(_) => Err(Failure::Usage(format!(
                    "{typed:?} is no block hash: that is 0x and 64 hex digits"
                ))),
            };
        }
        typed.parse().map(Self::Number).map_err(|_| {
            Failure::Usage(format!(
                "{typed:?} names no block: give a decimal number, a hash (0x and 64 hex digits), or head"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_include_both_ends() {
        assert_eq!(Range::parse("7").unwrap(), Range::Numbers(7, Some(7)));
        assert_eq!(Range::parse("7..9").unwrap(), Range::Numbers(7, Some(9)));
        assert_eq!(Range::parse("7..").unwrap(), Range::Numbers(7, None));
        assert_eq!(Range::parse("..9").unwrap(), Range::Numbers(0, Some(9)));
    }

    #[test]
    fn what_is_no_range_is_wrong_usage() {
        for typed in [
            "",
            "x",
            "-1",
            "1-2",
            "9..7",
            "1..2..3",
            "0x10",
            "99999999999999999999",
        ] {
            let failure = Range::parse(typed).unwrap_err();
            assert_eq!(failure.exit_status(), 2, "{typed}");
            assert!(failure.to_string().contains(typed), "{failure}");
        }
    }

    #[test]
    fn blocks_are_named_by_number_hash_or_head() {
        let hash = format!("0x{}", "ab".repeat(32));
        assert_eq!(BlockId::parse("head").unwrap(), BlockId::Head);
        assert_eq!(BlockId::parse("17").unwrap(), BlockId::Number(17));
        assert_eq!(
            BlockId::parse(&hash).unwrap(),
            BlockId::Hash(B256::repeat_byte(0xab))
        );
        for typed in ["", "latest", "0x12", "-3", "1.5", &hash[..65]] {
            assert_eq!(
                BlockId::parse(typed).unwrap_err().exit_status(),
                2,
                "{typed}"
            );
        }
    }
}
