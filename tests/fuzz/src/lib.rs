//! What the fuzz targets share. Each target is a file of `targets/`, `run` runs them all, `README.md` has their table.
//!
//! The store's own files are built here a second time, with eras of eight blocks: a store of twenty blocks then has
//! segments, runs and a tip, and opening one takes some microseconds.
#![allow(dead_code, missing_docs, unreachable_pub, unused_qualifications)]

// `build.rs` lists them: all of the store's.
include!(concat!(env!("OUT_DIR"), "/store.rs"));

/// The vectors of EIP-8 and of go-ethereum, of the tests of `cairn_net::rlpx`.
#[path = "../../../net/src/rlpx/vectors.rs"]
mod vectors;

pub mod input;
pub mod peer;
pub mod seeds;
pub mod store_files;
