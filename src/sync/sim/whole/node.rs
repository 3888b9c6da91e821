//! The node under test: the real machine, the real store, a real session for each connection and the real server, driven as the
//! threads of `src/node.rs` drive them, with a process that can die at any moment.

mod net;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cairn_net::eth::status::LocalChain;
use cairn_net::reactor::{NetEvent, OwnedOutgoing, PeerId};
use cairn_net::scores::{Ban, Scores};
use cairn_net::session::{Config, NotReady};
use cairn_store::{Snapshot, Writer};
use crossbeam_channel::Receiver;
use secp256k1::SecretKey;

use self::net::{Conn, flush_conn};
use super::disk::SimDisk;
use super::link::{Link, Side};
use super::remote::{NETWORK_ID, Remote};
use super::trace::{Short, Trace};
use super::watch::Watch;
use crate::chain::{Genesis, Rules, Tip};
use crate::serve::Server;
use crate::snapshots::Kept;
use crate::stored::stored_tip;
use crate::sync::storing::{self, View};
use crate::sync::tasks::{Task, Tasks};
use crate::sync::{Action, Block, Machine, MachineConfig, Staging, local_chain};

/// Events between net and sync, as in `src/node.rs`.
const EVENTS_BOUND: usize = 16;
/// The sync thread looks around at least this often, as in `thread.rs`.
const IDLE_WAIT_MS: u64 = 1_000;

/// The two clocks of the node's machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// Monotonic, since its process began.
    pub(super) ms: u64,
    /// Unix time.
    pub(super) s: u64,
}

/// Why the process ended.
#[derive(Debug)]
pub(super) enum Death {
    Killed,
    Store(cairn_store::Error),
}

/// The machine that the process runs on: what is left of it when it dies.
pub(super) struct Node {
    pub(super) dir: PathBuf,
    pub(super) disk: SimDisk,
    pub(super) genesis: Arc<Genesis>,
    pub(super) rules: Arc<Rules>,
    pub(super) config: MachineConfig,
    pub(super) session: Arc<Config>,
    /// The bans in its data folder.
    pub(super) bans: Vec<Ban>,
    /// How long a commit takes.
    pub(super) commit_ms: u64,
    /// The process is killed after so many more actions.
    pub(super) kill_in: Option<u64>,
    pub(super) run: Option<Run>,
}

/// A process.
pub(super) struct Run {
    pub(super) machine: Machine,
    pub(super) writer: Writer,
    /// The branch that is on its way in, and the block it hangs on.
    staged: Option<(u64, Vec<Block>)>,
    server: Server,
    events: Receiver<NetEvent>,
    stalled: Arc<AtomicBool>,
    chain: LocalChain,
    pub(super) scores: Scores,
    conns: BTreeMap<PeerId, Conn>,
    /// Ends of peers that sync had no room for.
    gone: VecDeque<NetEvent>,
    /// What sync wants done, but requests.
    tasks: Tasks,
    /// What the store is at, and when it is done, in the world's time.
    at_work: Option<(u64, Arc<Action>)>,
    /// The machine has not been called since blocks were stored.
    is_unheard: bool,
    looked_ms: u64,
}

/// What the node touches outside itself.
pub(super) struct Outside<'a> {
    /// The world's time.
    pub(super) now_ms: u64,
    pub(super) clocks: Clocks,
    pub(super) links: &'a mut BTreeMap<PeerId, Link>,
    pub(super) remotes: &'a [Remote],
    pub(super) watch: &'a mut Watch,
    pub(super) trace: &'a mut Trace,
}

impl Node {
    pub(super) fn key() -> SecretKey {
        SecretKey::from_slice(&[0xaa; 32]).unwrap()
    }

    /// Starts the process, from what is in its files.
    pub(super) fn start(&mut self, out: &mut Outside<'_>) {
        assert!(self.run.is_none());
        let writer = Writer::open_with(&self.dir, self.disk.hook()).unwrap();
        let tip = stored_tip(&self.rules, &writer, &Kept::default()).unwrap();
        out.watch.opened(&writer, &tip, out.now_ms, out.trace);
        let reader = writer.reader();
        let chain = self.chain(&tip, &reader.snapshot());
        let (events_in, events) = crossbeam_channel::bounded(EVENTS_BOUND);
        let stalled = Arc::new(AtomicBool::new(false));
        self.kill_in = None;
        self.run = Some(Run {
            machine: Machine::new(self.rules.clone(), tip, self.config.clone()),
            writer,
            staged: None,
            server: Server::new(reader, events_in, stalled.clone()),
            events,
            stalled,
            chain,
            scores: Scores::new(&self.bans),
            conns: BTreeMap::new(),
            gone: VecDeque::new(),
            tasks: Tasks::default(),
            at_work: None,
            is_unheard: false,
            looked_ms: out.now_ms,
        });
    }

    fn chain(&self, tip: &Tip, snapshot: &Snapshot) -> LocalChain {
        local_chain(&self.genesis, NETWORK_ID, tip, snapshot.first_body())
    }

    /// The process is gone, without a word; its system closes its sockets.
    pub(super) fn die(&mut self, now_ms: u64, links: &mut BTreeMap<PeerId, Link>) {
        let Some(run) = self.run.take() else { return };
        let is_storing = run.is_unheard || run.machine.storing_bytes.is_some();
        Watch::died(&run.machine, is_storing);
        for peer in run.conns.keys() {
            if let Some(link) = links.get_mut(peer) {
                link.close(now_ms, Side::Node);
            }
        }
    }

    /// Whether its end of this connection is open.
    pub(super) fn has(&self, peer: PeerId) -> bool {
        let run = self.run.as_ref();
        run.is_some_and(|run| run.conns.contains_key(&peer))
    }

    /// When something is to be done, in the world's time, if nothing else happens.
    pub(super) fn deadline_ms(
        &self,
        now_ms: u64,
        clocks: Clocks,
        links: &BTreeMap<PeerId, Link>,
    ) -> Option<u64> {
        let run = self.run.as_ref()?;
        let in_world = |ms: u64| now_ms + ms.saturating_sub(clocks.ms);
        let mut due_ms = Vec::from_iter(run.at_work.as_ref().map(|(at_ms, _)| *at_ms));
        if !run.tasks.must_wait() {
            due_ms.push(run.looked_ms + IDLE_WAIT_MS);
            if !run.events.is_empty() {
                due_ms.push(now_ms);
            }
            due_ms.extend(run.machine.deadline_ms().map(in_world));
        }
        for (peer, conn) in &run.conns {
            due_ms.extend(conn.session.deadline_ms().map(in_world));
            if !conn.is_blocked() {
                due_ms.extend(links.get(peer).and_then(|link| link.next_ms(Side::Node)));
            }
        }
        due_ms.into_iter().min()
    }

    /// Everything that can be done now.
    pub(super) fn turn(&mut self, out: &mut Outside<'_>) -> Result<(), Death> {
        let Some(mut run) = self.run.take() else {
            return Ok(());
        };
        let result = self.turn_of(&mut run, out);
        self.run = Some(run);
        result
    }

    fn turn_of(&mut self, run: &mut Run, out: &mut Outside<'_>) -> Result<(), Death> {
        loop {
            let peers: Vec<PeerId> = run.conns.keys().copied().collect();
            for peer in peers {
                self.conn_turn(run, peer, out);
            }
            if !self.sync_turn(run, out)? {
                break;
            }
            run.resume(out);
        }
        for (peer, conn) in &mut run.conns {
            flush_conn(out, *peer, conn);
        }
        Ok(())
    }

    /// The parts of sync and of the store, as `thread.rs` and `store.rs` do them, while there is something to do. True if there was.
    fn sync_turn(&mut self, run: &mut Run, out: &mut Outside<'_>) -> Result<bool, Death> {
        let mut moved = false;
        loop {
            let is_done = self.store_turn(run, out)?;
            if is_done {
                moved = true;
                self.act(run, out)?;
            }
            if run.tasks.must_wait() {
                if is_done {
                    continue;
                }
                break;
            }
            let event = run.events.try_recv().ok();
            let machine_ms = run.machine.deadline_ms();
            let is_due = machine_ms.is_some_and(|due_ms| due_ms <= out.clocks.ms)
                || run.looked_ms + IDLE_WAIT_MS <= out.now_ms;
            let is_event = event.is_some();
            if !is_event && !is_done && (!is_due || run.looked_ms == out.now_ms && moved) {
                break;
            }
            moved = true;
            run.looked_ms = out.now_ms;
            let view = View::of(&run.writer.reader(), &run.tasks);
            let Clocks { ms, s } = out.clocks;
            run.is_unheard = false;
            match event {
                Some(event) => run.machine.handle_event(ms, s, event, &view),
                None => run.machine.handle_timeout(ms, s, &view),
            }
            if let Some(error) = view.failed() {
                return Err(Death::Store(error));
            }
            self.act(run, out)?;
        }
        Ok(moved)
    }

    fn act(&mut self, run: &mut Run, out: &mut Outside<'_>) -> Result<(), Death> {
        out.watch.memory(&run.machine);
        while let Some(action) = run.machine.poll_action() {
            match action {
                Action::Send {
                    peer,
                    message: message @ OwnedOutgoing::Request { .. },
                } => self.send(run, peer, &message, out),
                action => run.tasks.push(action),
            }
        }
        while let Some(task) = run.tasks.next() {
            match &mut self.kill_in {
                Some(0) => return Err(Death::Killed),
                Some(actions) => *actions -= 1,
                None => {}
            }
            match task {
                Task::Store(action) => {
                    let takes_ms = match &*action {
                        Action::Stage(Staging::Begin { .. } | Staging::Leave) => 0,
                        _ => self.commit_ms,
                    };
                    run.at_work = Some((out.now_ms + takes_ms, action));
                }
                Task::Here(Action::Send { peer, message }) => self.send(run, peer, &message, out),
                Task::Here(Action::Punish { peer, fault }) => {
                    let what = format_args!("punish {} {fault}", peer.0);
                    out.trace.step(out.now_ms, what);
                    let remote = out.links.get(&peer).map(|link| &out.remotes[link.remote]);
                    if let Some(remote) = remote {
                        out.watch.punished(remote, &fault);
                    }
                    self.disconnect(run, peer, fault.cause(), out);
                }
                Task::Here(_) => unreachable!(),
            }
        }
        Ok(())
    }

    /// The store's part: what it is at, if that is done by now. True if it is.
    fn store_turn(&mut self, run: &mut Run, out: &mut Outside<'_>) -> Result<bool, Death> {
        let Some((_, action)) = run.at_work.take_if(|(at_ms, _)| *at_ms <= out.now_ms) else {
            return Ok(false);
        };
        let result = self.store(run, &action, out);
        result.map_err(|error| match self.disk.was_killed() {
            true => Death::Killed,
            false => Death::Store(error),
        })?;
        run.tasks.done();
        if let Action::Commit { .. } | Action::Stage(Staging::Add { .. }) = &*action {
            run.machine.stored();
            run.is_unheard = true;
        }
        if let Action::Keep { .. } = &*action {
            run.machine.kept();
        }
        Ok(true)
    }

    fn store(
        &mut self,
        run: &mut Run,
        action: &Action,
        out: &mut Outside<'_>,
    ) -> Result<(), cairn_store::Error> {
        match action {
            Action::Commit { blocks, tip, live } => {
                let number = tip.header.header.number;
                let what = format_args!("commit {} up to {number} live={live}", blocks.len());
                out.trace.step(out.now_ms, what);
                out.watch.committing(&run.writer, blocks, tip);
                storing::commit(&mut run.writer, blocks, tip)?;
                out.watch.committed(&run.writer, tip);
                run.chain = self.chain(tip, &run.writer.reader().snapshot());
            }
            Action::Stage(staging) => {
                let what = match staging {
                    Staging::Add { blocks } => format!("stage {} blocks", blocks.len()),
                    staging => format!("stage {staging:?}"),
                };
                out.trace.step(out.now_ms, format_args!("{what}"));
                match staging {
                    Staging::Begin { fork } => run.staged = Some((*fork, Vec::new())),
                    Staging::Leave => run.staged = None,
                    Staging::Add { blocks } => {
                        run.staged
                            .as_mut()
                            .unwrap()
                            .1
                            .extend(blocks.iter().cloned());
                    }
                    Staging::Publish { tip } => {
                        let (fork, blocks) = run.staged.take().unwrap();
                        out.watch.committing(&run.writer, &blocks, tip);
                        let mut branch = run.writer.replace_above(fork)?;
                        storing::append(&mut branch, &blocks)?;
                        branch.finish(tip.header.hash)?;
                        out.watch.committed(&run.writer, tip);
                        run.chain = self.chain(tip, &run.writer.reader().snapshot());
                    }
                }
            }
            Action::Keep { receipts } => {
                let what = format_args!("keep {} receipts", receipts.len());
                out.trace.step(out.now_ms, what);
                storing::keep(&mut run.writer, receipts)?;
            }
            Action::Send { .. } | Action::Punish { .. } => unreachable!(),
        }
        Ok(())
    }

    fn send(
        &mut self,
        run: &mut Run,
        peer: PeerId,
        message: &OwnedOutgoing,
        out: &mut Outside<'_>,
    ) {
        let Some(conn) = run.conns.get_mut(&peer) else {
            return;
        };
        let what = format_args!("send {} {}", peer.0, Short(message));
        out.trace.step(out.now_ms, what);
        if let OwnedOutgoing::Request { request, .. } = message {
            let remote = &out.remotes[conn.remote];
            let reader = run.writer.reader();
            let view = View::of(&reader, &run.tasks);
            out.watch.asks(&reader.snapshot(), &view, remote, request);
        } else if conn.session.is_behind() {
            return;
        }
        match conn.session.send(message.as_outgoing()) {
            Ok(()) | Err(NotReady::Closed) => {}
            Err(error) => panic!("{message:?} cannot be sent: {error:?}"),
        }
    }
}
