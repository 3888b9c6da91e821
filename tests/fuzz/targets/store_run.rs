//! A changed run of the hash index: opened, read, verified and repaired dry.
#![no_main]

use cairn_fuzz::store_files::{Part, fuzz};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz(Part::Run, data));
