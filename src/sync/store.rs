//! The store role's thread: owns the store's only `Writer`, and carries out one thing after the other that sync gives it. What it says
//! is done is durable; a commit that fails ends the node, because nothing that follows could be trusted. Once sync knows of a commit it
//! keeps a snapshot of the signers, if one is due; where that fails, only the next start takes longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_store::{Error, Replace, Writer};
use crossbeam_channel::{Receiver, Sender};

use super::boundary::{Action, Staging};
use super::storing::{self, Kept};
use crate::chain::Tip;
use crate::snapshots::SnapshotFile;

/// What the store thread is given, beside the store's only writer.
pub struct StoreRole {
    /// What to do. Closed when the node stops.
    pub jobs: Receiver<Job>,
    /// What is done.
    pub done: Sender<Done>,
    /// Where snapshots of the signers are kept.
    pub snapshots: SnapshotFile,
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
    pub fn run(mut self, mut writer: Writer) -> Result<(), Error> {
        loop {
            // While a branch is on its way into it the store takes nothing else, which this says in types.
            match self.turn(Room::Whole(&mut writer))? {
                Turned::Stopped => return Ok(()),
                Turned::Ended(_) => {}
                Turned::Begun { fork, start } => {
                    let branch = writer.replace_above(fork)?;
                    self.tell(start, None);
                    match self.turn(Room::Branch(Box::new(branch)))? {
                        Turned::Stopped => return Ok(()),
                        Turned::Ended(Some(head)) => self.snapshots.moved(fork, &head),
                        Turned::Ended(None) | Turned::Begun { .. } => {}
                    }
                }
            }
        }
    }

    /// Runs as long as the store is what it is now.
    fn turn(&mut self, mut room: Room<'_>) -> Result<Turned, Error> {
        while let Ok(Job(action)) = self.jobs.recv() {
            let start = Instant::now();
            let mut kept = None;
            let mut moved = None;
            match &*action {
                Action::Commit { blocks, tip, .. } => {
                    storing::commit(room.whole(), blocks, tip)?;
                    let ancestor = blocks[0].header.number().saturating_sub(1);
                    moved = Some((ancestor, tip.clone()));
                }
                Action::Keep { receipts } => kept = Some(storing::keep(room.whole(), receipts)?),
                Action::Stage(Staging::Begin { fork }) => {
                    room.whole();
                    return Ok(Turned::Begun { fork: *fork, start });
                }
                Action::Stage(Staging::Add { blocks }) => storing::append(room.branch(), blocks)?,
                Action::Stage(Staging::Publish { tip }) => {
                    room.into_branch().finish(tip.header.hash)?;
                    self.tell(start, None);
                    return Ok(Turned::Ended(Some(tip.clone())));
                }
                Action::Stage(Staging::Leave) => {
                    drop(room.into_branch());
                    self.tell(start, None);
                    return Ok(Turned::Ended(None));
                }
                Action::Send { .. } | Action::Punish { .. } => {
                    unreachable!("sync gives the store what is for it")
                }
            }
            drop(action); // the last to let go of the blocks is sync
            self.tell(start, kept);
            if let Some((ancestor, head)) = moved {
                self.snapshots.moved(ancestor, &head);
            }
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
    /// The branch has ended, with this head if it took the place of ours.
    Ended(Option<Tip>),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crossbeam_channel::bounded;

    use super::*;
    use crate::datadir::DataDir;
    use crate::generate::GeneratedBlock;
    use crate::snapshots::tests::{chain, numbers};
    use crate::sync::Block;

    #[test]
    fn snapshots_are_kept_as_the_stored_head_moves_over_a_branch_too() {
        let dir = tempfile::tempdir().unwrap();
        let (genesis, ours, our_tips) = chain(1, 21);
        let (_, theirs, their_tips) = chain(2, 34);
        let data = DataDir::new(dir.path());
        data.init(&genesis, None).unwrap();
        let writer = Writer::open(&data.blocks()).unwrap();
        let reader = writer.reader();
        let open = || SnapshotFile::open(data.snapshots(), &genesis, &reader.snapshot());
        let (jobs, taken) = bounded(1);
        let (tell, done) = bounded(1);
        let role = StoreRole {
            jobs: taken,
            done: tell,
            snapshots: open(),
        };
        let thread = std::thread::spawn(move || role.run(writer));
        let give = |action| {
            jobs.send(Job(Arc::new(action))).unwrap();
            done.recv().unwrap();
        };
        let run = |blocks: &[GeneratedBlock]| -> Vec<Block> {
            let block = |block: &GeneratedBlock| Block {
                header: Arc::new(block.header.clone()),
                body: block.body.clone().into(),
                receipts: None,
                td: block.td,
            };
            blocks.iter().map(block).collect()
        };
        let commit = |blocks: &[GeneratedBlock], tip: &Tip| Action::Commit {
            blocks: run(blocks),
            tip: tip.clone(),
            live: true,
        };
        for number in 1..=21 {
            give(commit(&ours[number - 1..number], &our_tips[number]));
        }
        assert_eq!(numbers(open().kept()), [10, 20]);
        // A branch that is let go leaves ours as it is.
        for end in [
            Staging::Leave,
            Staging::Publish {
                tip: their_tips[25].clone(),
            },
        ] {
            give(Action::Stage(Staging::Begin { fork: 0 }));
            for blocks in theirs[..25].chunks(10) {
                let blocks = run(blocks);
                give(Action::Stage(Staging::Add { blocks }));
            }
            give(Action::Stage(end));
        }
        let old = numbers(open().kept());
        assert!(old.is_empty(), "those are of our old chain: {old:?}");
        give(commit(&theirs[25..30], &their_tips[30]));
        give(commit(&theirs[30..], &their_tips[34]));
        drop(jobs);
        thread.join().unwrap().unwrap();
        let file = open();
        assert_eq!(numbers(file.kept()), [30]);
        let kept = file.kept().before(34, 10);
        assert_eq!(kept, their_tips[30].clique.as_deref());
    }
}
