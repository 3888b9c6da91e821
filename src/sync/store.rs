//! The store role's thread: owns the store's only `Writer`, and carries out one thing after the other that sync gives it. What it says
//! is done is durable; a commit that fails ends the node, because nothing that follows could be trusted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_store::{Error, Replace, Writer};
use crossbeam_channel::{Receiver, Sender};

use super::boundary::{Action, Staging};
use super::storing::{self, Kept};

/// What the store thread is given, beside the store's only writer.
pub struct StoreRole {
    /// What to do. Closed when the node stops.
    pub jobs: Receiver<Job>,
    /// What is done.
    pub done: Sender<Done>,
}

/// The end of the two links that sync holds. The store has one job at a time, so that neither is ever full.
pub struct Store {
    /// What to do.
    pub jobs: Sender<Job>,
    /// What is done.
    pub done: Receiver<Done>,
}

/// Something for the store: an [`Action`] that is.
pub struct Job(pub(super) Arc<Action>);

/// A job is done.
pub struct Done {
    /// How long it took.
    pub(super) took: Duration,
    /// What became of receipts, if it was about those.
    pub(super) kept: Option<Kept>,
}

impl StoreRole {
    /// Runs until the link of jobs is closed, which it looks at between two of them.
    ///
    /// # Errors
    /// What the store says. The node stops with it.
    pub fn run(self, mut writer: Writer) -> Result<(), Error> {
        loop {
            // While a branch is on its way into it the store takes nothing else, which this says in types.
            match self.turn(Room::Whole(&mut writer))? {
                Turned::Stopped => return Ok(()),
                Turned::Ended => {}
                Turned::Begun { fork, start } => {
                    let branch = writer.replace_above(fork)?;
                    self.tell(start, None);
                    if let Turned::Stopped = self.turn(Room::Branch(Box::new(branch)))? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Runs as long as the store is what it is now.
    fn turn(&self, mut room: Room<'_>) -> Result<Turned, Error> {
        while let Ok(Job(action)) = self.jobs.recv() {
            let start = Instant::now();
            let mut kept = None;
            match &*action {
                Action::Commit { blocks, tip, .. } => storing::commit(room.whole(), blocks, tip)?,
                Action::Keep { receipts } => kept = Some(storing::keep(room.whole(), receipts)?),
                Action::Stage(Staging::Begin { fork }) => {
                    room.whole();
                    return Ok(Turned::Begun { fork: *fork, start });
                }
                Action::Stage(Staging::Add { blocks }) => storing::append(room.branch(), blocks)?,
                Action::Stage(Staging::Publish { tip }) => {
                    room.into_branch().finish(tip.header.hash)?;
                    self.tell(start, None);
                    return Ok(Turned::Ended);
                }
                Action::Stage(Staging::Leave) => {
                    drop(room.into_branch());
                    self.tell(start, None);
                    return Ok(Turned::Ended);
                }
                Action::Send { .. } | Action::Punish { .. } => {
                    unreachable!("sync gives the store what is for it")
                }
            }
            drop(action); // the last to let go of the blocks is sync
            self.tell(start, kept);
        }
        Ok(Turned::Stopped)
    }

    fn tell(&self, start: Instant, kept: Option<Kept>) {
        // Where sync has ended already, nobody asks.
        let _ = self.done.send(Done {
            took: start.elapsed(),
            kept,
        });
    }
}

/// The store as it may be written now.
enum Room<'a> {
    /// Blocks and receipts are stored as they come.
    Whole(&'a mut Writer),
    /// A branch is on its way in.
    Branch(Box<Replace<'a>>),
}

impl<'a> Room<'a> {
    fn whole(&mut self) -> &mut Writer {
        match self {
            Room::Whole(writer) => writer,
            Room::Branch(_) => panic!("while a branch is staged the machine stores nothing else"),
        }
    }

    fn branch(&mut self) -> &mut Replace<'a> {
        match self {
            Room::Whole(_) => panic!("the machine stages a branch after it has begun with it"),
            Room::Branch(branch) => branch,
        }
    }

    fn into_branch(self) -> Box<Replace<'a>> {
        match self {
            Room::Whole(_) => panic!("the machine ends a branch after it has begun with it"),
            Room::Branch(branch) => branch,
        }
    }
}

/// Why the store is not any more what it was.
enum Turned {
    /// The node stops.
    Stopped,
    /// A branch begins that hangs on this block.
    Begun { fork: u64, start: Instant },
    /// The branch has ended.
    Ended,
}
