//! RLPx, p2p and eth for cairn: bytes to messages to sessions. Knows no store and no chain rules.
//!
//! A byte's way in: [`reactor`] reads it from a socket and hands it to a [`session`], which decrypts it in place
//! ([`rlpx`]), decompresses it, and parses it as a [`p2p`] or [`eth`] message. The way out is the same in reverse.
//! Only the reactor touches sockets, the clock and entropy; everything else is given them.

pub mod dial;
pub mod enode;
pub mod eth;
pub mod fault;
pub mod keccak;
pub mod limits;
pub mod p2p;
pub mod reactor;
pub mod rlpx;
pub mod scores;
pub mod session;
