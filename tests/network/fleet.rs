//! The nodes of the network: real processes, each in its namespace, and the relay between them. Whatever is waited for has a bound,
//! and what fails tells where everybody stood.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, hex};
use cairn_net::enode::{Enode, NodeId};
use cairn_store::{Head, Reader, Snapshot};
use rustix::process::{Pid, Signal, kill_process};
use secp256k1::{Secp256k1, SecretKey};
use serde_json::Value;

use super::chain::{self, Chain};
use super::common::{run_ok, text};
use super::relay::{self, Line, Relay};
use super::space::{self, Space};

/// How often everybody is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Heads so far apart are the same chain on its way.
const SPREAD: u64 = 2;
/// Of a failure so much of each log is shown.
const LOG_LINES: usize = 12;

/// How a line is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Both sides are told at once.
    Reset,
    /// Nothing passes until it is joined; then what waited does.
    Paused,
    /// Nothing passes, and when it is joined what waited is lost with its connection.
    Lost,
}

impl Cut {
    pub const ALL: [Cut; 3] = [Cut::Reset, Cut::Paused, Cut::Lost];
}

/// See the file's first line. All that was started ends with it.
pub struct Fleet {
    dir: PathBuf,
    pub signers: usize,
    spaces: Vec<Space>,
    nodes: Vec<Option<Child>>,
    readers: Vec<Option<Reader>>,
    pub lines: Vec<Line>,
    pub relay: Relay,
    started: Instant,
    diary: Vec<String>,
}

impl Fleet {
    /// So many nodes, of which the first seal, joined by `lines`. The signers have the chain; the others have nothing.
    pub fn new(name: &str, signers: usize, count: usize, lines: &[Line], chain: &Chain) -> Fleet {
        let dir = folder(name);
        let fleet = Fleet {
            spaces: (0..count).map(Space::new).collect(),
            relay: Relay::start(lines),
            nodes: (0..count).map(|_| None).collect(),
            readers: (0..count).map(|_| None).collect(),
            lines: lines.into(),
            signers,
            started: Instant::now(),
            diary: Vec::new(),
            dir,
        };
        for place in 0..count {
            fs::write(
                fleet.node_key(place),
                hex::encode(key(place).secret_bytes()),
            )
            .unwrap();
            fleet.init(place, &chain.genesis);
        }
        for place in 0..signers {
            chain::signer_file(&fleet.dir, place);
            if chain.last > 0 {
                let datadir = fleet.datadir(place);
                run_ok(&["import", "--datadir", text(&datadir), text(&chain.blocks)]);
            }
        }
        fleet
    }

    fn init(&self, place: usize, genesis: &Path) {
        let datadir = self.datadir(place);
        run_ok(&["init", "--datadir", text(&datadir), text(genesis)]);
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    pub fn datadir(&self, place: usize) -> PathBuf {
        self.dir.join(format!("n{place}"))
    }

    fn node_key(&self, place: usize) -> PathBuf {
        self.dir.join(format!("n{place}.key"))
    }

    fn log_file(&self, place: usize) -> PathBuf {
        self.dir.join(format!("n{place}.log"))
    }

    pub fn log(&self, place: usize) -> String {
        fs::read_to_string(self.log_file(place)).unwrap_or_default()
    }

    pub fn is_running(&self, place: usize) -> bool {
        self.nodes[place].is_some()
    }

    /// Writes down what happens, and when.
    pub fn note(&mut self, what: &str) {
        let line = format!("{:7.2} {what}", self.started.elapsed().as_secs_f64());
        println!("{line}");
        self.diary.push(line);
    }

    pub fn start(&mut self, place: usize) {
        let enodes: Vec<String> = self
            .lines
            .iter()
            .filter(|(from, _)| *from == place)
            .map(|line| enode(*line))
            .collect();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file(place))
            .unwrap();
        let mut command = self.spaces[place].command(env!("CARGO_BIN_EXE_cairn"));
        command.env_remove("RUST_LOG");
        command.args(["--verbosity", "4", "--datadir", text(&self.datadir(place))]);
        command.args(["--listen-addr", &space::address(place).to_string()]);
        command.args(["--port", &relay::NODE_PORT.to_string()]);
        command.args(["--nodekey", text(&self.node_key(place))]);
        if !enodes.is_empty() {
            command.args(["--bootnodes", &enodes.join(",")]);
        }
        if place < self.signers {
            let key = self.dir.join(format!("signer-{place}.key"));
            command.args(["--enable-consensus", "--signer-key", text(&key)]);
        }
        self.nodes[place] = Some(command.stderr(log).spawn().unwrap());
    }

    /// Ends a node as a power cut does. Nothing that it had stored is gone, and what is there is sound.
    pub fn kill(&mut self, place: usize) {
        let before = self.head(place);
        let mut child = self.nodes[place].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let after = self.head(place);
        if let (Some(before), Some(after)) = (before, after) {
            // Of equal weight it may have been another one: the choice between equals is not by number.
            assert!(
                after.td >= before.td,
                "node {place} lost what it had stored: {before:?}, then {after:?}"
            );
        }
        let blocks = self.datadir(place).join("blocks");
        let report = cairn_store::check::verify(&blocks, &mut |_, _| {}).unwrap();
        assert!(report.is_sound(), "node {place}: {report:?}");
    }

    /// Ends a node that runs, and gives it an empty folder.
    pub fn wipe(&mut self, place: usize, chain: &Chain) {
        self.kill(place);
        self.readers[place] = None;
        fs::remove_dir_all(self.datadir(place)).unwrap();
        self.init(place, &chain.genesis);
    }

    /// Sends a signal to a node that runs.
    pub fn signal(&self, place: usize, signal: Signal) {
        let child = self.nodes[place].as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Ends all as Ctrl-C does.
    pub fn stop(&mut self) {
        let running: Vec<usize> = (0..self.count())
            .filter(|place| self.is_running(*place))
            .collect();
        running
            .iter()
            .for_each(|place| self.signal(*place, Signal::INT));
        for place in running {
            let status = self.nodes[place].take().unwrap().wait().unwrap();
            assert!(status.success(), "node {place}: {status}");
        }
    }

    /// The head that a node has stored, if its store can be looked into by now.
    pub fn head(&mut self, place: usize) -> Option<Head> {
        Some(self.snapshot(place)?.head())
    }

    /// What a node has stored.
    pub fn snapshot(&mut self, place: usize) -> Option<Arc<Snapshot>> {
        let blocks = self.datadir(place).join("blocks");
        let reader = &mut self.readers[place];
        match reader {
            Some(known) => known.refresh().unwrap(),
            None => *reader = Reader::open(&blocks).ok(),
        }
        reader.as_ref().map(Reader::snapshot)
    }

    fn hash(&mut self, place: usize, number: u64) -> Option<B256> {
        self.snapshot(place)?.hash(number).unwrap()
    }

    /// The highest head among `places`.
    pub fn top(&mut self, places: &[usize]) -> u64 {
        let heads = places.iter().filter_map(|place| self.head(*place));
        heads.map(|head| head.number).max().unwrap_or(0)
    }

    /// Whether these are on one chain, at `least` or above, and no further apart than blocks on their way.
    pub fn agree(&mut self, places: &[usize], least: u64) -> bool {
        let heads: Option<Vec<Head>> = places.iter().map(|place| self.head(*place)).collect();
        let Some(heads) = heads else { return false };
        let numbers = || heads.iter().map(|head| head.number);
        let (Some(lowest), Some(highest)) = (numbers().min(), numbers().max()) else {
            return true;
        };
        if lowest < least || highest - lowest > SPREAD {
            return false;
        }
        let hashes: BTreeSet<Option<B256>> = places
            .iter()
            .map(|place| self.hash(*place, lowest))
            .collect();
        hashes.len() == 1
    }

    /// Waits until `is_so`, for no longer than `bound_s`. Gives the time it took.
    pub fn wait(
        &mut self,
        what: &str,
        bound_s: u64,
        mut is_so: impl FnMut(&mut Fleet) -> bool,
    ) -> Duration {
        let start = Instant::now();
        while !is_so(self) {
            if start.elapsed() > Duration::from_secs(bound_s) {
                self.fail(&format!("not within {bound_s} s: {what}"));
            }
            self.look();
            std::thread::sleep(LOOK);
        }
        let took = start.elapsed();
        self.note(&format!("{what}: after {:.1} s", took.as_secs_f64()));
        took
    }

    /// All that run are on one chain, `more` blocks above the highest head of now.
    pub fn wait_all(&mut self, what: &str, bound_s: u64, more: u64) -> Duration {
        let running: Vec<usize> = (0..self.count())
            .filter(|place| self.is_running(*place))
            .collect();
        let least = self.top(&running) + more;
        self.wait(what, bound_s, |fleet| fleet.agree(&running, least))
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.look();
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Nobody may have ended by itself.
    fn look(&mut self) {
        for place in 0..self.count() {
            let ended = self.nodes[place]
                .as_mut()
                .and_then(|child| child.try_wait().unwrap());
            if let Some(status) = ended {
                self.fail(&format!("node {place} ended by itself: {status}"));
            }
        }
    }

    /// Tells where everybody stands, and fails.
    pub fn fail(&mut self, what: &str) -> ! {
        let mut said = format!("{what}\n\nwhat happened:\n{}\n", self.diary.join("\n"));
        for place in 0..self.count() {
            let (head, log) = (self.head(place), self.log(place));
            let head = head.map_or("no store".into(), |head| {
                format!("number={} hash={} td={}", head.number, head.hash, head.td)
            });
            let state = if self.is_running(place) {
                "runs"
            } else {
                "is down"
            };
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
            let _ = write!(
                said,
                "\nnode {place} {state}: {head}\n  {}\n",
                tail.join("\n  ")
            );
        }
        let _ = write!(said, "\nall of it: {}", self.dir.display());
        panic!("{said}");
    }

    /// Cuts a line.
    pub fn cut(&self, line: Line, how: Cut) {
        match how {
            Cut::Reset => self.relay.cut(line, true),
            Cut::Paused | Cut::Lost => self.relay.silence(line, true),
        }
    }

    /// Joins a line that was cut so.
    pub fn join(&self, line: Line, how: Cut) {
        if how != Cut::Paused {
            self.relay.cut(line, false);
        }
        self.relay.silence(line, false);
    }

    /// All lines are as good as they get.
    pub fn mend(&self) {
        self.lines.iter().for_each(|line| self.relay.mend(*line));
    }

    /// The lines of a node, dialled by it and by others.
    pub fn lines_of(&self, place: usize) -> Vec<Line> {
        let of = |line: &&Line| line.0 == place || line.1 == place;
        self.lines.iter().filter(of).copied().collect()
    }

    /// What a node says of itself over its control socket.
    pub fn status(&self, place: usize) -> Value {
        let output = run_ok(&["status", "--json", "--datadir", text(&self.datadir(place))]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Lines of a node's log that hold `what`.
    pub fn lines_with(&self, place: usize, what: &str) -> Vec<String> {
        let log = self.log(place);
        let found = log.lines().filter(|line| line.contains(what));
        found.map(str::to_owned).collect()
    }

    /// The folder goes; of a failure it stays.
    pub fn finish(self) {
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An empty folder of this name, where cargo has room for tests.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn key(place: usize) -> SecretKey {
    SecretKey::from_byte_array(&[0x61 + u8::try_from(place).unwrap(); 32]).unwrap()
}

/// What the node that dials a line is told.
fn enode(line: Line) -> String {
    let addr = relay::dialled(line);
    let id = NodeId::from_public_key(&key(line.1).public_key(&Secp256k1::new()));
    let (tcp, udp) = (addr.port(), addr.port());
    Enode {
        id,
        ip: addr.ip(),
        tcp,
        udp,
    }
    .to_string()
}
