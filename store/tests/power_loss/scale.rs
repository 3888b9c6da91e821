//! The store's sizes, tiny: an era is eight blocks, so that a short history meets every boundary.

pub(crate) const ERA_BITS: u32 = 3;
pub(crate) const ERA_BLOCKS: u64 = 1 << ERA_BITS;
pub(crate) const TIP_BLOCKS: usize = 12;
pub(crate) const TIP_BYTES: u64 = 64 << 10;
pub(crate) const BATCH_BYTES: u64 = 3000;
pub(crate) const KEEP_BLOCKS: usize = 5;
pub(crate) const KEEP_BYTES: u64 = 2000;
pub(crate) const BATCH_KEEP_BLOCKS: usize = 2;
pub(crate) const BATCH_KEEP_BYTES: u64 = 600;
pub(crate) const BATCH_KEEP_MAX_BYTES: u64 = 1500;
pub(crate) const FRAME_BYTES: u64 = 2000;
pub(crate) const AHEAD_BYTES: u64 = 8 << 10;
pub(crate) const SMALL_FRAME_BYTES: u64 = 6000;
pub(crate) const WRITE_BYTES: usize = 1000;
pub(crate) const WRITEBACK_BYTES: u64 = 700;
pub(crate) const PART_BYTES: usize = 500;
pub(crate) const PACK_LANES: usize = 1; // its threads change nothing on the disk
pub(crate) const MERGE_ENTRIES: u64 = 20;
pub(crate) const TOP_LEVEL: u32 = 8;
pub(crate) const ABSENT_BLOCKS: u64 = 1024 * ERA_BLOCKS;
