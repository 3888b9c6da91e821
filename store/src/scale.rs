//! The sizes that decide when the store does what. The power-loss explorer builds the same code with tiny ones, so that
//! a short history meets every boundary.

/// Bits of a number within its era.
pub(crate) const ERA_BITS: u32 = 13;
/// Blocks in an era: the unit of a segment file, 8,192 as in era1.
pub(crate) const ERA_BLOCKS: u64 = 1 << ERA_BITS;

/// Blocks, forks included, that the tip holds at most before it settles.
pub(crate) const TIP_BLOCKS: usize = 2048;
/// Length of the tip log before it settles, in bytes. With one frame more it stays below 64 MiB.
pub(crate) const TIP_BYTES: u64 = 48 << 20;
/// New blocks of this many uncompressed bytes go behind the cold ones at once: a batch.
pub(crate) const BATCH_BYTES: u64 = 8 << 20;

/// Blocks that stay in the tip when it settles, so that they can be reorganised by one frame, and their bytes at most.
/// Of side blocks as many.
pub(crate) const KEEP_BLOCKS: usize = 1024;
pub(crate) const KEEP_BYTES: u64 = 16 << 20;
/// After a batch fewer stay, for they are written twice: so many blocks whatever their size below the second limit, else
/// so many bytes.
pub(crate) const BATCH_KEEP_BLOCKS: usize = 16;
pub(crate) const BATCH_KEEP_BYTES: u64 = 1 << 20;
pub(crate) const BATCH_KEEP_MAX_BYTES: u64 = 8 << 20;

/// Frames of a new tip log are cut at this length, in bytes, so that none comes near the limit and scanning it is smooth.
pub(crate) const FRAME_BYTES: u64 = 4 << 20;
/// Zeros kept written ahead of small frames, in bytes: a commit then changes no length and costs one flush.
pub(crate) const AHEAD_BYTES: u64 = 1 << 20;
/// Frames longer than this, in bytes, get no zeros ahead: their own pages cost more than the length's change.
pub(crate) const SMALL_FRAME_BYTES: u64 = 256 << 10;

/// How much is gathered before it is written to a segment, in bytes: large enough that the call costs nothing beside the
/// copy.
pub(crate) const WRITE_BYTES: usize = 2 << 20;

/// Writing to the disk is begun when so much is there to be written, in bytes: it goes on beside the compression, and the
/// sync has less to wait for. Whole writes of the disk's own, so that little is written twice.
pub(crate) const WRITEBACK_BYTES: u64 = 1 << 20;

/// A batch's records are compressed in parts of so many uncompressed bytes: half a millisecond, long beside handing a part
/// over and short beside the batch.
pub(crate) const PART_BYTES: usize = 512 << 10;
/// By so many threads at most, as many as there are cores: with more the disk is what a batch waits for. Each has three
/// parts at most, so this is 6 MiB in all.
pub(crate) const PACK_LANES: usize = 4;

/// Entries of the hash index that a commit merges at most: a MiB.
pub(crate) const MERGE_ENTRIES: u64 = 128 << 10;
/// Runs of this level are not merged: 65,536 eras, half a billion blocks.
pub(crate) const TOP_LEVEL: u32 = 8;

/// Absent receipts are noted in tables, 16 bytes each, so that those behind them can be kept; but no more than these in a
/// row: 16 MiB of tables.
pub(crate) const ABSENT_BLOCKS: u64 = 128 * ERA_BLOCKS;
