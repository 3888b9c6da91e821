//! The whole node in virtual time: the real machine, the real store on files, a real session at both ends of every connection and the
//! real server, among tens of peers, with everything that can go wrong drawn from a seed.
//!
//! Covered: the handshake and all frames, snappy and messages on links with latency, little bandwidth and small windows; peers of every
//! nature and lie of the simulation, and lies below them (a spoilt byte, noise, silence, another network, a peer that does not read);
//! branches, newcomers, leavers, a chain that grows and is announced in every way; a process that is killed between two actions or in the
//! middle of a write, a disk that fails or fills, connections cut at any byte with and without notice, partitions, the loss of all peers,
//! clocks that leap and machines that sleep. Bans are kept over restarts.
//!
//! Not covered: sockets, polls and threads (the reactor's part is played by `node.rs`, as close to `cairn_net`'s as it can be; `tests/`
//! runs the real one), the caps on who may connect, a loss of power (the store's own explorer has that: here what a killed process wrote
//! stays), bits that rot on the disk, the sealer (`network.rs` simulates networks of machines that seal), and chains that are long.
//!
//! `CAIRN_SIM_SEEDS=5000 cargo test --release -p cairn --lib sim::whole` runs more seeds; `CAIRN_SIM_SEED=7 cargo test -p cairn --lib
//! sim::whole -- --nocapture` runs one and prints it step by step.

mod disk;
mod link;
mod node;
mod remote;
mod runs;
mod scenario;
mod trace;
mod watch;
mod world;
