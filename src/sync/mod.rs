//! The sync role: a pure state machine (here) and the thread that drives it.
//!
//! Where a byte goes: an answer comes in through [`Machine::handle_event`] (`machine.rs`, `inbox.rs`), is judged against what was
//! asked (`answers.rs`), headers wait in order in `headers.rs` until the rules have taken them, then wait for their bodies
//! in `bodies.rs`, and leave whole in an [`Action::Commit`]. `schedule.rs` decides who is asked for what; `live.rs`
//! takes announced blocks, `branch.rs` heavier branches, `target.rs` chains that follow a hash they were told to trust;
//! `receipts/` fetches the receipts of what is stored. `storing.rs` carries out against the store what `thread.rs` (or a simulation) is
//! given to do.

mod announce;
mod announced;
mod answers;
mod asking;
mod behind;
mod bodies;
mod boundary;
mod branch;
mod choice;
mod fault;
mod headers;
mod inbox;
mod limits;
mod live;
mod machine;
mod peers;
mod pipe;
mod receipts;
mod schedule;
#[cfg(test)]
mod sim;
mod storing;
mod target;
mod thread;
mod timing;

pub use boundary::{Action, Block, ChainView, MachineConfig, SealedBlock, SyncStatus};
pub(crate) use choice::is_better;
pub use fault::Fault;
pub use limits::Limits;
pub use machine::Machine;
pub use receipts::Found;
pub use thread::{Heads, SyncError, SyncRole, local_chain};
