//! The topology: every thread, every link with its bound, and the order in which they stop.
//!
//! | thread | owns | takes | gives |
//! | --- | --- | --- | --- |
//! | main | signals, joins | the end of any thread | the stop, in the order below |
//! | net (`--net-threads N`: so many of them) | mio poll, sockets, sessions, a store Reader; the first the listener | commands, accepted sockets | events, accepted sockets |
//! | sync | the head, the schedule of requests, a store Reader | events, sealed, done | commands, jobs, heads |
//! | store | the store's Writer; the file of snapshots | jobs | done |
//! | ipc (not with `--ipcdisable`) | the control socket, a store Reader | requests on its socket, the board, the roll of peers | commands |
//! | names (only for peers that are named by host) | what their names stood for last | the roll of peers | commands |
//! | sealer (only with `--enable-consensus`) | the signing key, or the connection to who has it; the record of what was signed | heads | sealed |
//!
//! | link | from -> to | bound | when it is full |
//! | --- | --- | --- | --- |
//! | events | net -> sync | `EVENTS_BOUND` | net stops reading that peer's socket until sync wakes it |
//! | commands | sync, ipc and names -> net, each to the thread that has the peer | `cairn_net::limits` | sync keeps them in order and tries again in 5 ms, ipc says so to who asked, names looks up again in 30 s |
//! | jobs | sync -> store | 1 | never: sync gives one when the last is done, and keeps the others in order |
//! | done | store -> sync | 1 | never: there is one for each job |
//! | accepted sockets | the first net -> the one with the fewest | `cairn_net::limits` | the first keeps the socket itself |
//! | heads, and that there is none to seal on yet | sync -> sealer | 1 | sync takes the older one out: only the newest counts |
//! | sealed | sealer -> sync | 1 | the sealer waits |
//! | work | main -> sealer | 1 | never: there is one, with the chain's tip |
//!
//! Sync writes its figures on a board under a lock, which ipc reads. Which block the sealer is at stands under another, which sync reads. What the signer is to vote for stands under another one: ipc writes it,
//! and the sealer reads it before each block.
//!
//! The sealer's thread is the first, so that the key is in no other when the first socket opens; it waits for its work meanwhile.
//!
//! Before all that, with `--checkpoint` and nothing stored, `checkpoint/run.rs` asks peers for what the chain begins with: one net thread,
//! and main in the place of sync and store. They have ended when the threads above begin, all but the sealer's.
//!
//! When headers with seals come in, sync has up to 3 threads more for some milliseconds, which find out who signed them.
//!
//! The net threads share one book under a lock, held for some comparisons at a time: who is connected (the caps are the node's, not each
//! thread's), and who is banned. Sync writes the bans to the data folder.
//!
//! While it makes a large commit the store's Writer has threads of its own, which end before the commit does: as many as
//! there are cores, at most 4, to compress (three parts each at most), and at most 5 more to sync files at once.
//!
//! Stop order: ipc is told (nobody gives orders to a node that stops), then net (it says goodbye to peers, at most 200 ms), then sync, which waits until the store has done what
//! it was given, and whose end closes the links of the sealer and of the store (the store's lock goes with it); all are joined but names, which may wait for the system's resolver
//! and holds nothing: it ends with the process at the latest. A thread that ends unasked, by error or panic, stops the node the same way, exit status 1.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_net::enode::{Enode, NodeId};
use cairn_net::eth::status::LocalChain;
use cairn_net::limits::REDIAL_REMOTE_MS;
use cairn_net::reactor::{Command, Handle, Reactor, ReactorConfig, SendError};
use cairn_net::scores::Ban;
use cairn_net::session;
use cairn_store::Writer;
use crossbeam_channel::{Receiver, Sender, bounded, never, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::bans::BanFile;
use crate::chain::{Rules, Tip};
use crate::checkpoint::{self, Begun};
use crate::config::{Config, SealerConfig};
use crate::ipc::{Desk, Facts, IpcRole, Work};
use crate::names::NamesRole;
use crate::proposals::Proposals;
use crate::sealer::{self, OwnBoard, Pace};
use crate::serve::Server;
use crate::signed::{self, Record};
use crate::signer::Signer;
use crate::snapshots::SnapshotFile;
use crate::status::{self, Board};
use crate::stored::stored_tip;
use crate::sync::{Heads, Machine, MachineConfig, Store, StoreRole, SyncRole, local_chain};

/// Events between net and sync. Each may be one message of at most 10 MiB, in practice under 2: a few are enough to keep
/// sync busy while net reads on.
pub(crate) const EVENTS_BOUND: usize = 16;

/// A sealer leaves peers so long after the start to show a better chain; then it seals alone.
const FIRST_PEER_WAIT: Duration = Duration::from_secs(5);
/// The same where they were just left, at the end of the beginning: geth takes nobody back within 30 s, so they are dialled after
/// `REDIAL_REMOTE_MS`, and then shake hands.
const PEERS_BACK_WAIT: Duration = Duration::from_millis(REDIAL_REMOTE_MS + 10_000);

/// How soon a stop is tried again that did not fit into the link to net, which empties it in every round.
const SHUTDOWN_RETRY: Duration = Duration::from_millis(1);

/// What peers see as our name.
fn client_name() -> String {
    format!(
        "cairn/v{}/{}-{}/rust{}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        env!("CARGO_PKG_RUST_VERSION")
    )
}

/// Runs the node until a signal or a fault.
///
/// # Errors
/// Whatever kept it from starting, or the thread that died and why.
pub fn run(mut config: Config) -> Result<(), NodeError> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|e| NodeError::Start(format!("signals: {e}")))?;
    let (ended_in, ended) = unbounded::<Ended>(); // at most one message a thread
    let spawn = Spawner {
        ended: ended_in,
        wake_main: signals.handle(),
    };
    let waiting = match config.sealer.take() {
        None => None,
        Some(sealing) => Some(WaitingSealer::spawn(&spawn, sealing)?),
    };
    let begun = match config.checkpoint {
        Some(checkpoint) => checkpoint::begin(&config, checkpoint, &mut signals),
        None => Ok(Begun::Before),
    };
    let first_peer_wait = match begun.map_err(NodeError::Start)? {
        Begun::Before => FIRST_PEER_WAIT,
        Begun::Now => PEERS_BACK_WAIT,
        Begun::Stopped => return Ok(()),
    };
    let writer =
        Writer::open(&config.datadir.blocks()).map_err(|e| NodeError::Start(e.to_string()))?;
    let rules = Arc::new(Rules::new(&config.genesis));
    let file = config.datadir.snapshots();
    let mut snapshots = SnapshotFile::open(file, &config.genesis, &writer.reader().snapshot());
    let tip = stored_tip(&rules, &writer, snapshots.kept())?;
    let head = tip.header.header.number;
    snapshots.moved(head, &tip); // what was missing and took long to rebuild is kept at once
    let sealing = match waiting {
        None => None,
        Some(waiting) => {
            sealer::try_out(&rules, &tip, &waiting.pace)
                .map_err(|why| NodeError::Start(format!("this chain cannot be sealed: {why}")))?;
            let (chain, signer) = (&config.genesis.header.hash, waiting.pace.signer);
            let path = match waiting.has_key {
                false => config.datadir.asked(signer, chain),
                true => {
                    let path = config.datadir.signed_on(signer, chain);
                    if let Some(other) = config.datadir.record_of_other_role(signer, &path) {
                        return Err(NodeError::Start(signed::move_record(&other, &path)));
                    }
                    path
                }
            };
            let record = Record::open(&path);
            Some((
                waiting,
                record.map_err(|error| NodeError::Start(error.to_string()))?,
            ))
        }
    };
    let reader = writer.reader();
    log::info!(
        "Loaded chain genesis={} head={head} hash={} td={} datadir={}",
        config.genesis.header.hash,
        tip.header.hash,
        tip.td,
        config.datadir.path().display()
    );
    let expects_peers =
        !config.bootnodes.is_empty() || config.named.iter().any(|named| !named.is_trusted);
    let earliest = reader.snapshot().first_body();
    let settled = checkpoint::settled(
        config.checkpoint,
        &config.genesis,
        &tip,
        reader.snapshot().first_header(),
    );
    let chain = local_chain(&config.genesis, config.network_id, &tip, earliest);
    let (ban_file, bans) = BanFile::open(config.datadir.bans());
    let reactor_config = reactor_config(&config, chain, bans);
    let genesis = Arc::new(config.genesis);
    let (reactors, net) = Reactor::bind_threads(reactor_config, config.net_threads)
        .map_err(|e| NodeError::Start(e.to_string()))?;
    let listening = reactors[0].local_addr();
    let enode = Enode {
        id: NodeId::from_public_key(
            &config
                .node_key
                .public_key(&secp256k1::Secp256k1::signing_only()),
        ),
        // Where every address is bound, the loopback one is what surely works on this machine; geth prints the same.
        ip: if listening.ip().is_unspecified() {
            [127, 0, 0, 1].into()
        } else {
            listening.ip()
        },
        tcp: listening.port(),
        udp: listening.port(),
    };
    let board = Board::default();
    let proposals = Proposals::default();
    let ipc = match &config.ipc {
        None => None,
        Some(path) => {
            let facts = Facts {
                client: client_name(),
                datadir: config.datadir.path().to_owned(),
                chain_id: genesis.spec.chain_id,
                network_id: config.network_id,
                genesis: genesis.header.hash,
                enode,
                listen: listening,
                max_peers: config.max_peers,
                signer: sealing.as_ref().map(|(waiting, _)| waiting.pace.signer),
                started: Instant::now(),
            };
            let desk = Desk {
                facts,
                reader: reader.clone(),
                net: net.clone(),
                board: board.clone(),
                rules: rules.clone(),
                proposals: proposals.clone(),
                work: Work::default(),
            };
            match IpcRole::bind(path, desk) {
                Ok(bound) => {
                    log::info!("Control socket path={}", path.display());
                    Some(bound)
                }
                // A full disk is reason enough; blocks are served and sealed all the same.
                Err(error) => {
                    log::warn!(
                        "No control socket, so `cairn status` cannot ask this node: {}: {error} (--ipcpath names another place)",
                        path.display()
                    );
                    None
                }
            }
        }
    };
    // Last: who waits for this line finds everything in its place.
    log::info!("Listening for peers self={enode} addr={listening}");

    // Links.
    let (events_in, events) = bounded(EVENTS_BOUND);
    let stalled = Arc::new(AtomicBool::new(false));
    let (heads_in, heads) = bounded::<Option<Tip>>(1);
    let (sealed_in, sealed) = bounded(1);
    let (jobs_in, jobs) = bounded(1);
    let (done_in, done) = bounded(1);
    let (stop_sync, stop) = bounded::<()>(0);

    // Threads.
    let mut net_threads = Vec::with_capacity(reactors.len());
    for reactor in reactors {
        let mut server = Server::new(reader.clone(), events_in.clone(), stalled.clone());
        net_threads.push(spawn.role("net", move || {
            let ran = reactor
                .run(&mut server)
                .map_err(|e| format!("sockets: {e}"));
            match server.damage() {
                Some(error) => Err(error.to_string()),
                None => ran,
            }
        })?);
    }
    drop(events_in);
    let own = sealing
        .as_ref()
        .map(|(waiting, _)| OwnBoard::new(waiting.pace.signer));
    let board = status::Writer::new(board, &rules, &tip, &reader.snapshot(), own.clone());
    let kept = snapshots.kept().clone();
    let store = StoreRole {
        jobs,
        done: done_in,
        snapshots,
    };
    let run_store = move || {
        store
            .run(writer)
            .map_err(|e| format!("the block store: {e}"))
    };
    let store_thread = spawn.role("store", run_store)?;
    if !config.named.is_empty() {
        let (names, stop) = (NamesRole::new(config.named, net.clone()), stop.clone());
        let run = move || {
            names.run(&stop);
            Ok(())
        };
        drop(spawn.role("names", run)?); // not joined
    }
    let sync = SyncRole {
        machine: Machine::new(
            rules.clone(),
            tip,
            MachineConfig {
                sync_target: config.sync_target,
                earliest,
                settled,
                receipts: config.receipts,
                kept,
                memory_limit_bytes: config.sync_memory_bytes,
                ..MachineConfig::default()
            },
        ),
        genesis,
        network_id: config.network_id,
        events,
        stalled,
        net: net.clone(),
        store: Store {
            jobs: jobs_in,
            done,
        },
        reader,
        sealed: if sealing.is_some() { sealed } else { never() },
        heads: sealing.is_some().then(|| Heads {
            newest: heads_in,
            older: heads.clone(),
        }),
        expects_peers,
        first_peer_wait,
        bans: ban_file,
        board,
        stop,
    };
    let sync_thread = spawn.role("sync", move || sync.run().map_err(|e| e.to_string()))?;
    let sealer_thread = match sealing.zip(own) {
        None => None,
        Some(((waiting, record), own)) => {
            let Pace { signer, pace_s } = waiting.pace;
            log::info!("Sealing signer={signer} pace_s={pace_s}");
            waiting.begin(move |sealing| {
                sealer::run(
                    &rules, sealing, record, &proposals, &own, &heads, &sealed_in,
                )
                .map_err(|e| e.to_string())
            })
        }
    };

    let (ipc_thread, stop_ipc) = match ipc {
        None => (None, None),
        Some((role, stop)) => {
            let run = move || role.run().map_err(|e| format!("its socket: {e}"));
            (Some(spawn.role("ipc", run)?), Some(stop))
        }
    };

    let first_end = wait(&mut signals, &ended);
    let unasked = first_end.is_some();
    if let Some(stop) = stop_ipc {
        stop.stop();
    }
    let others = [
        Some(sync_thread),
        Some(store_thread),
        sealer_thread,
        ipc_thread,
    ];
    let others = others.into_iter().flatten().chain(net_threads).collect();
    stop_all(&net, stop_sync, others);
    // One that dies lets go of its links first, so another may have ended, without a fault, before it says why.
    let mut ends = first_end.into_iter().chain(ended.try_iter());
    match ends.find(|end| end.why.is_some()) {
        Some(Ended { role, why }) => Err(NodeError::Died {
            role,
            why: why.unwrap_or_default(),
        }),
        None if unasked => Err(NodeError::Died {
            role: "main",
            why: "a thread ended unasked and gave no reason; this is a fault of cairn".into(),
        }),
        None => Ok(()),
    }
}

/// What the network is made with.
pub(crate) fn reactor_config(config: &Config, chain: LocalChain, bans: Vec<Ban>) -> ReactorConfig {
    ReactorConfig {
        session: session::Config::new(
            config.node_key,
            client_name(),
            config.listen.port(),
            config.eth_versions.clone(),
        ),
        listen: config.listen,
        max_peers: config.max_peers,
        statics: config.bootnodes.clone(),
        trusted: config.trusted.clone(),
        bans,
        chain,
    }
}

/// Waits for a signal (`None`) or for the first thread that ends.
fn wait(signals: &mut Signals, ended: &Receiver<Ended>) -> Option<Ended> {
    match signals.forever().next() {
        Some(signal) => {
            log::info!("Stopping signal={signal}");
            None
        }
        None => ended.try_recv().ok(),
    }
}

/// Tells net to stop. Its link may be full for a moment; where it has ended already there is nobody to tell.
pub(crate) fn stop_net(net: &Handle) {
    while let Err(SendError::Full(_)) = net.send(Command::Shutdown) {
        std::thread::sleep(SHUTDOWN_RETRY);
    }
}

/// Stops in the written order.
fn stop_all(net: &Handle, stop_sync: Sender<()>, threads: Vec<JoinHandle<()>>) {
    stop_net(net);
    drop(stop_sync);
    for thread in threads {
        // The outcome, a panic too, has come through `ended`.
        let _ = thread.join();
    }
    log::info!("Stopped");
}

/// How a thread ended.
struct Ended {
    role: &'static str,
    why: Option<String>,
}

struct Spawner {
    ended: Sender<Ended>,
    wake_main: signal_hook::iterator::Handle,
}

impl Spawner {
    fn role(
        &self,
        role: &'static str,
        body: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Result<JoinHandle<()>, NodeError> {
        let (ended, wake_main) = (self.ended.clone(), self.wake_main.clone());
        std::thread::Builder::new()
            .name(role.into())
            .spawn(move || {
                let why = match catch_unwind(AssertUnwindSafe(body)) {
                    Ok(Ok(())) => None,
                    Ok(Err(why)) => Some(why),
                    Err(panic) => Some(format!(
                        "it panicked, which is a fault of cairn: {}",
                        panic_text(&*panic)
                    )),
                };
                // Main holds the receiver until all threads are joined.
                let _ = ended.send(Ended { role, why });
                wake_main.close();
            })
            .map_err(|e| NodeError::Start(format!("cannot start the {role} thread: {e}")))
    }
}

/// What the sealer's thread does once the node has begun.
type SealerWork = Box<dyn FnOnce(SealerConfig) -> Result<(), String> + Send>;

/// The sealer's thread, which has the key and waits for its work. Dropped, it ends, with the key wiped.
struct WaitingSealer {
    pace: Pace,
    /// It signs itself, and asks nobody.
    has_key: bool,
    work: Option<Sender<SealerWork>>,
    thread: Option<JoinHandle<()>>,
}

impl WaitingSealer {
    fn spawn(spawn: &Spawner, sealing: SealerConfig) -> Result<WaitingSealer, NodeError> {
        let (pace, has_key) = (sealing.pace(), matches!(sealing.signer, Signer::Key(_)));
        let (work_in, work) = bounded::<SealerWork>(1);
        let thread = spawn.role("sealer", move || match work.recv() {
            Ok(work) => work(sealing),
            Err(_) => Ok(()), // the node does not start
        })?;
        Ok(WaitingSealer {
            pace,
            has_key,
            work: Some(work_in),
            thread: Some(thread),
        })
    }

    /// Gives it its work. The thread is still to be joined.
    fn begin(
        mut self,
        work: impl FnOnce(SealerConfig) -> Result<(), String> + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        if let Some(link) = self.work.take() {
            let _ = link.send(Box::new(work)); // it waits for this alone
        }
        self.thread.take()
    }
}

impl Drop for WaitingSealer {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}

/// Why the node did not start, or did not run on.
#[derive(Debug)]
pub enum NodeError {
    /// It could not start.
    Start(String),
    /// A thread ended though nobody asked it to.
    Died {
        /// The thread.
        role: &'static str,
        /// What it ended with.
        why: String,
    },
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeError::Start(why) => f.write_str(why),
            NodeError::Died { role, why } => write!(f, "the {role} thread ended the node: {why}"),
        }
    }
}

impl std::error::Error for NodeError {}
