//! One of the demo's two nodes: a process, its log, its store and what Linux counts of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_store::Reader;
use rustix::process::{Pid, Signal, kill_process};

use super::{DemoError, LOOK_INTERVAL, step};
use crate::datadir::DataDir;

/// A step that makes no progress for so long has failed, and the demo says which.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// What Linux counts for a process; zeros where it cannot be read.
#[derive(Default)]
pub(super) struct Usage {
    pub(super) peak_bytes: u64,
    pub(super) anonymous_bytes: u64,
    pub(super) cpu_seconds: f64,
}

/// One of the two processes. It is killed when it is dropped.
pub(super) struct Node {
    name: &'static str,
    child: Child,
    datadir: DataDir,
    log: PathBuf,
    reader: Option<Reader>,
    stop: Arc<AtomicBool>,
    /// The most memory of its own that was seen when it was looked at.
    pub(super) peak_anonymous_bytes: u64,
}

impl Node {
    pub(super) fn start(
        name: &'static str,
        dir: &Path,
        stop: &Arc<AtomicBool>,
        args: &[&str],
    ) -> Result<Node, DemoError> {
        let log = dir.with_extension("log");
        let out = File::create(&log).map_err(step("make a log file"))?;
        let program = std::env::current_exe().map_err(step("find this program"))?;
        let child = Command::new(program)
            .arg("--datadir")
            .arg(dir)
            .args(["--listen-addr", "127.0.0.1", "--port", "0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .map_err(step("start a node"))?;
        Ok(Node {
            name,
            child,
            datadir: DataDir::new(dir),
            log,
            reader: None,
            stop: stop.clone(),
            peak_anonymous_bytes: 0,
        })
    }

    /// Waits for the enode that the node logs when it listens.
    pub(super) fn enode(&mut self) -> Result<String, DemoError> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        while Instant::now() < deadline {
            let text = std::fs::read_to_string(&self.log).map_err(step("read a node's log"))?;
            let found = text
                .lines()
                .filter_map(|line| line.split_once("self=enode://"))
                .find_map(|(_, rest)| rest.split_once(' '));
            if let Some((enode, _)) = found {
                return Ok(format!("enode://{enode}"));
            }
            self.must_run()?;
            std::thread::sleep(LOOK_INTERVAL);
        }
        Err(self.failed("did not listen in time"))
    }

    pub(super) fn chain(&mut self) -> Result<Reader, DemoError> {
        if self.reader.is_none() {
            self.reader =
                Some(Reader::open(&self.datadir.blocks()).map_err(step("open a node's store"))?);
        }
        let reader = self.reader.clone().expect("it was opened above");
        reader.refresh().map_err(step("read a node's store"))?;
        Ok(reader)
    }

    pub(super) fn head(&mut self) -> Result<u64, DemoError> {
        Ok(self.chain()?.snapshot().head().number)
    }

    /// Waits until this node's head is `number`; `other` must run meanwhile.
    pub(super) fn wait_for(
        &mut self,
        other: &mut Node,
        number: u64,
        seen: &mut dyn FnMut(u64),
    ) -> Result<(), DemoError> {
        let (mut deadline, mut highest) = (Instant::now() + STEP_TIMEOUT, 0);
        while Instant::now() < deadline {
            let head = self.head()?;
            seen(head);
            self.usage();
            other.usage();
            if head >= number {
                return Ok(());
            }
            if head > highest {
                (deadline, highest) = (Instant::now() + STEP_TIMEOUT, head);
            }
            self.must_run()?;
            other.must_run()?;
            std::thread::sleep(LOOK_INTERVAL);
        }
        Err(self.failed(&format!("did not reach block {number} in time")))
    }

    pub(super) fn must_run(&mut self) -> Result<(), DemoError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(DemoError("interrupted".into()));
        }
        match self.child.try_wait().map_err(step("look at a node"))? {
            None => Ok(()),
            Some(status) => Err(self.failed(&format!("ended by itself ({status})"))),
        }
    }

    pub(super) fn usage(&mut self) -> Usage {
        /// Linux gives these times in hundredths of a second, whatever its own tick is.
        const TICKS_PER_SECOND: f64 = 100.0;
        let folder = format!("/proc/{}", self.child.id());
        let read =
            |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
        let status = read("status");
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let kib = line.and_then(|rest| {
                rest.trim()
                    .trim_end_matches("kB")
                    .trim()
                    .parse::<u64>()
                    .ok()
            });
            kib.unwrap_or(0) * 1024
        };
        // The fields after the name in parentheses begin with the third; utime and stime are the 14th and 15th.
        let stat = read("stat");
        let fields = stat
            .rsplit_once(") ")
            .map_or("", |(_, rest)| rest)
            .split(' ');
        let ticks: f64 = fields
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        let usage = Usage {
            peak_bytes: bytes("VmHWM:"),
            anonymous_bytes: bytes("RssAnon:"),
            cpu_seconds: ticks / TICKS_PER_SECOND,
        };
        self.peak_anonymous_bytes = self.peak_anonymous_bytes.max(usage.anonymous_bytes);
        usage
    }

    pub(super) fn stop(&mut self) -> Result<(), DemoError> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)
            .map_err(|e| DemoError(format!("cannot stop the {}: {e}", self.name)))?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().map_err(step("wait for a node"))? {
                return match status.success() {
                    true => Ok(()),
                    false => Err(self.failed(&format!("ended with {status}"))),
                };
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Err(self.failed("did not stop in time"))
    }

    /// An error about this node, with the end of its log, since the folder may be gone when it is read.
    pub(super) fn failed(&self, what: &str) -> DemoError {
        const TAIL_LINES: usize = 8;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ");
        DemoError(format!(
            "the {} {what}; the end of its log:\n  {tail}",
            self.name
        ))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Harmless where it has ended already; and a demo that failed leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
