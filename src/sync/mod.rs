//! The sync role: a pure state machine (here) and the thread that drives it.
//!
//! Where a byte goes: an answer comes in through [`Machine::handle_event`] (`machine.rs`, `inbox.rs`), is judged against what was
//! asked (`answers.rs`), headers wait in order in `headers.rs` until the rules have taken them, then wait for their bodies
//! in `bodies.rs`, and leave whole in an [`Action::Commit`]. `asking.rs` decides who is asked for what; `live.rs`
//! takes announced blocks, `branch.rs` looks for where a heavier branch leaves our chain, `follow.rs` follows it up, and `staged.rs` has
//! one fetched that is too long for the memory; `target.rs` and `falling.rs` follow a hash that is known to be right;
//! `receipts/` fetches the receipts of what is stored. What is to be done waits in `tasks.rs`, from where `thread.rs` hands it to the
//! net threads and to the store's (`store.rs`), which works with the code of `storing.rs`; `told.rs` says what there is to say, and `missing.rs` which signers are missing.

mod announce;
mod announced;
mod answers;
mod asking;
mod behind;
mod bodies;
mod boundary;
mod branch;
mod choice;
mod falling;
mod fault;
mod follow;
mod headers;
mod heads;
mod inbox;
mod limits;
mod live;
mod machine;
mod missing;
mod peers;
mod pipe;
mod receipts;
mod schedule;
#[cfg(test)]
mod sim;
mod staged;
mod store;
mod storing;
mod target;
mod tasks;
mod thread;
mod timing;
mod told;

pub use boundary::{
    Action, Block, ChainView, Falling, MachineConfig, SealedBlock, Staging, SyncStatus,
};
pub(crate) use choice::is_better;
pub use fault::Fault;
pub use heads::Heads;
pub use limits::{Limits, MEMORY_LIMIT_BYTES};
pub(crate) use limits::{STALE_AFTER_START_MS, still_after_s};
pub use machine::Machine;
pub use receipts::Found;
pub use store::{Store, StoreRole};
pub(crate) use storing::new_blocks;
pub use thread::{SyncError, SyncRole, local_chain};
