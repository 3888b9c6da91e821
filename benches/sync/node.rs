//! What Linux counts of a running node: the CPU time of each of its threads, and the most memory of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_store::Reader;

use crate::chains;
use crate::program::Node;

/// Linux gives CPU times in hundredths of a second, whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often its memory is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How often its head is looked at: what a rate is off by.
const HEAD_INTERVAL: Duration = Duration::from_millis(5);
/// A node that stores nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds of CPU time, in the kernel too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    /// Of the process, with the threads that have ended.
    pub(crate) all: f64,
    threads: BTreeMap<String, f64>,
}

impl Cpu {
    /// Of the threads of this name.
    pub(crate) fn thread(&self, name: &str) -> f64 {
        self.threads.get(name).copied().unwrap_or(0.0)
    }

    /// What was spent since.
    pub(crate) fn since(&self, before: &Cpu) -> Cpu {
        let threads = self.threads.iter();
        Cpu {
            all: self.all - before.all,
            threads: threads
                .map(|(name, cpu)| (name.clone(), cpu - before.thread(name)))
                .collect(),
        }
    }
}

pub(crate) fn cpu(pid: u32) -> Cpu {
    let mut cpu = Cpu {
        all: ticks(&format!("/proc/{pid}/stat")).1,
        ..Cpu::default()
    };
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let stat = thread.unwrap().path().join("stat");
        let (name, seconds) = ticks(stat.to_str().unwrap());
        *cpu.threads.entry(name).or_default() += seconds;
    }
    cpu
}

/// Name and CPU seconds of a process or a thread; of one that is just ending, nothing.
fn ticks(path: &str) -> (String, f64) {
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    let Some((name, fields)) = stat.rsplit_once(") ") else {
        return Default::default();
    };
    let name = name.split_once('(').map_or("", |(_, name)| name);
    // They begin with the third; utime and stime are the 14th and 15th.
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: f64 = ticks.map(|field| field.parse::<f64>().unwrap()).sum();
    (name.into(), ticks / TICKS_PER_SECOND)
}

/// Its RssAnon, in KiB.
pub(crate) fn anon_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    line.map_or(0, |rest| {
        rest.trim().trim_end_matches(" kB").parse().unwrap()
    })
}

/// A node that catches up, watched from its start on.
pub(crate) struct Follower {
    node: Node,
    started: Instant,
    peak_kib: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    watch: Option<JoinHandle<()>>,
    reader: Reader,
}

impl Follower {
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Follower {
        let started = Instant::now();
        let node = Node::start(dir, args);
        let (peak_kib, done) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (peak, stop, pid) = (peak_kib.clone(), done.clone(), node.child.id());
        let watch = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(anon_kib(pid), Ordering::Relaxed);
                std::thread::sleep(LOOK_INTERVAL);
            }
        });
        Follower {
            node,
            started,
            peak_kib,
            done,
            watch: Some(watch),
            reader: chains::reader(dir),
        }
    }

    /// Waits until its head is at `number` or above, and gives the head and the time since its start.
    pub(crate) fn reach(&mut self, number: u64) -> (u64, Duration) {
        let (mut highest, mut since) = (0, Instant::now());
        loop {
            self.reader.refresh().unwrap();
            let (head, now) = (self.reader.snapshot().head().number, Instant::now());
            if head >= number {
                return (head, now - self.started);
            }
            if head > highest {
                (highest, since) = (head, now);
            }
            let ended = self.node.child.try_wait().unwrap();
            assert!(
                ended.is_none() && since.elapsed() < PATIENCE,
                "it stopped at block {head} of {number} ({ended:?}):\n{}",
                self.node.log()
            );
            std::thread::sleep(HEAD_INTERVAL);
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.node.child.id()
    }

    /// The time that its log says was spent in commits up to this block, which it has reached: it may say so a little later.
    pub(crate) fn committing(&mut self, last: u64) -> Duration {
        self.node
            .wait_log(&format!("Imported new chain segment number={last} "));
        let log = self.node.log();
        let commits = log
            .lines()
            .filter(|line| line.contains("Imported new chain segment"));
        let seconds = commits.map(|line| {
            let (_, rest) = line.split_once("elapsed=").unwrap();
            let unit = rest.find(char::is_alphabetic).unwrap();
            let value: f64 = rest[..unit].parse().unwrap();
            value
                / if rest[unit..].starts_with("ms") {
                    1e3
                } else if rest[unit..].starts_with('s') {
                    1.0
                } else {
                    1e6
                }
        });
        Duration::from_secs_f64(seconds.sum())
    }

    /// The most RssAnon that was seen, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        self.peak_kib.load(Ordering::Relaxed) as f64 / 1024.0
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(watch) = self.watch.take() {
            watch.join().unwrap();
        }
    }
}
