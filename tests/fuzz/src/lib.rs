//! What the fuzz targets share. Each target is a file of `targets/`, `run` runs them all, `README.md` has their table.
//!
//! The store's own files are built here a second time, with eras of eight blocks: a store of twenty blocks then has
//! segments, runs and a tip, and opening one takes some microseconds.
#![allow(dead_code, missing_docs, unreachable_pub, unused_qualifications)]

#[path = "../../../store/src/append.rs"]
mod append;
#[path = "../../../store/src/block.rs"]
mod block;
#[path = "../../../store/src/change.rs"]
mod change;
#[path = "../../../store/src/check.rs"]
mod check;
#[path = "../../../store/src/error.rs"]
mod error;
#[path = "../../../store/src/file.rs"]
mod file;
#[path = "../../../store/src/format.rs"]
mod format;
#[path = "../../../store/src/frame.rs"]
mod frame;
#[path = "../../../store/src/join.rs"]
mod join;
#[path = "../../../store/src/manifest.rs"]
mod manifest;
#[path = "../../../store/src/mapped.rs"]
mod mapped;
#[path = "../../../store/src/merge.rs"]
mod merge;
#[path = "../../../store/src/plan.rs"]
mod plan;
#[path = "../../../store/src/reader.rs"]
mod reader;
#[path = "../../../store/src/record.rs"]
mod record;
#[path = "../../../store/src/repair.rs"]
mod repair;
#[path = "../../../store/src/rlp.rs"]
mod rlp;
#[path = "../../../store/src/runs.rs"]
mod runs;
#[path = "../../../store/tests/power_loss/scale.rs"]
mod scale;
#[path = "../../../store/src/segment.rs"]
mod segment;
#[path = "../../../store/src/snappy.rs"]
pub mod snappy;
#[path = "../../../store/src/snapshot.rs"]
mod snapshot;
#[path = "../../../store/src/tip.rs"]
mod tip;
#[path = "../../../store/src/tiplog.rs"]
mod tiplog;
#[path = "../../../store/src/writer.rs"]
mod writer;

/// The vectors of EIP-8 and of go-ethereum, of the tests of `cairn_net::rlpx`.
#[path = "../../../net/src/rlpx/vectors.rs"]
mod vectors;

use block::{Genesis, Head, NewBlock, NewReceipts};
use reader::Reader;
use snapshot::Snapshot;
use writer::Writer;

pub mod input;
pub mod peer;
pub mod seeds;
pub mod store_files;
