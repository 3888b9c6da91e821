//! The append-only, memory-mapped block store of cairn: headers, bodies and receipts, by number and by hash.
//!
//! One [`Writer`], any number of [`Reader`]s without locks, in other processes too. The bytes that were given are the
//! bytes that are read: nothing is decoded, headers lie end to end in the file, and bodies are kept as the snappy
//! elements that a wire message is composed of ([`Snapshot::body_stream`]).
//!
//! ```
//! # use cairn_store::{Genesis, NewBlock, Reader, Writer};
//! # fn commit(dir: &std::path::Path, genesis: &Genesis<'_>, block: NewBlock<'_>) -> Result<(), cairn_store::Error> {
//! let mut writer = Writer::create(dir, genesis)?;
//! let head = block.hash;
//! writer.commit(&[block], head)?; // it is on the disk
//! let snapshot = Reader::open(dir)?.snapshot(); // here or in another process
//! assert_eq!(snapshot.head().hash, head);
//! let body = snapshot.body_stream(1)?.expect("block 1 was committed");
//! println!("{} bytes, {} on the wire", body.raw_len, body.stream.len());
//! # Ok(())
//! # }
//! ```
//!
//! # Promises
//!
//! Each has a test file of its name in `tests/`.
//!
//! - **Every committed block is read back**, byte for byte, across eras, batches, sessions and forks.
//! - **Every block is found by its hash**, however the index is merged.
//! - **A failed write poisons the writer**: nothing is retried, the store opens as it was after the last commit. (If only
//!   the last sync failed it may open with the commit that was not acknowledged.)
//! - **A full disk is no damage**: when there is room again the store opens and goes on.
//! - **A killed writer loses nothing** that [`Writer::commit`] returned `Ok` for.
//! - **A power loss** at any moment does no more than that, whatever the disk wrote and did not write of what was not
//!   synced: random histories on a simulated disk, and the wrong orders of writes that they find.
//! - **A torn tail ends the log**: what a crash leaves of the last commit does not count. A commit that does not verify
//!   before one that does, or before the closing frame that is written behind each when it is durable, is damage, and said
//!   to be. Only if a power loss took the closing frame too, within the seconds until the system writes it back, can
//!   damage of the last commit not be told from a commit that was never finished: [`check::verify`] says so.
//! - **A flipped bit is found and never served**: every record's checksum is checked each time it is read.
//! - **Opening writes nothing**, nor do reading and [`check::verify`]; opening costs the same for any number of blocks.
//! - **A block costs at most 64 bytes** beside its records as they are kept, once it has settled.
//! - **One writer, many readers**: a [`Snapshot`] does not change; what was handed out stays readable.
//! - **Bodies are wire ready**: their streams can be laid end to end behind one length.
//! - **Damage can be repaired** ([`repair`]), when asked and dry first; what may be valid is never deleted, also if the
//!   repair is cut short, and a second one finishes. Bodies that it left out are put back by [`Writer::add_bodies`].
//! - **History is what it says**: bodies and receipts are pruned and joined by whole eras, receipts may come late, settled
//!   blocks may be replaced; headers stay.
//! - **A branch may be larger than memory**: [`Writer::replace_above`] takes it in parts, and until it is whole nothing has
//!   changed.
//! - **Newer versions are refused**, or only read, as they say themselves.
//!
//! # Limits
//!
//! - A record has at most 64 MiB, a frame of the tip log 16 MiB, the tip 2,048 blocks (forks included) and 64 MiB.
//! - Reorganising inside the tip ([`Snapshot::first_unsettled`]) costs one frame. After settling the tip has the last
//!   1,024 blocks or 16 MiB; after a batch the last 16 (or as many of the last 1,024 as fit in 1 MiB). Below it the era of
//!   the fork is copied up to there, and what was above is gone.
//! - Side blocks that hang below the tip are not kept: a branch that is to replace settled blocks is given in one commit,
//!   or in parts to [`Replace`], which needs some 16 MiB of memory and room on the disk for the branch beside the old one.
//! - Receipts may come with their block or later. Those of single blocks may be absent, but for no more than a million
//!   blocks in a row: what lies further above the others is not kept when it settles.
//! - Unix, 64 bits, one host: no network file systems. The files must not be changed by anybody else while they are
//!   mapped, as for every store of this kind. A sector that can no longer be read is an error where the kernel can be asked
//!   first (Linux 5.14); if it goes bad after it was read once, the process that reads it through a map may be ended.
//!
//! # How a change becomes durable
//!
//! A committed byte never changes and no file shrinks. There are two kinds of commit:
//!
//! - A **tip commit** is one frame behind the others in the tip log, and one `fdatasync`. It adds blocks and names the
//!   head: to append, to rewind and to reorganise is the same. Then a closing frame is written behind it, and not waited
//!   for: a page in the cache, which the next frame is written over.
//! - A **manifest commit** is all else: the first change of a session, settling the tip, batches, reorganisations of what
//!   has settled, late receipts of that, expiry, and joining older history. New bytes go behind the committed ends or to
//!   new files; these are synced, and the folders where names were made, at once; then MANIFEST.0 is written and synced,
//!   then MANIFEST.1; then what was replaced is unlinked. So a commit waits for the disk three times. What lies past the
//!   committed ends means nothing. Work that outlasts a call is in files whose names end in `.new`: synced, then renamed,
//!   then their folders are synced, just before the MANIFEST that names them.
//!
//! A session's first change writes the MANIFEST it found to both copies again and starts a new tip log: after a failed
//! sync the cache may show more than the disk has, and nothing must be built on that.
//!
//! # Files
//!
//! ```text
//! LOCK                       flock, held by the writer
//! MANIFEST.0  MANIFEST.1     equal copies, overwritten in place; the valid one with the higher sequence counts
//! tip.SSSSSSSS               unsettled blocks
//! headers/EEEEEE.SSSSSSSS    a segment: one era (8,192 blocks) of one kind
//! bodies/EEEEEE.SSSSSSSS
//! receipts/EEEEEE.SSSSSSSS
//! hash/EEEEEE.SSSSSSSS       a run of the hash index
//! ```
//!
//! E is the first era in decimal, S the sequence of the manifest that first names the file in hexadecimal. Integers are
//! little-endian; crc is zlib's CRC-32. A row is eight bytes:
//!
//! ```text
//! the first page of a segment, a tip log and a run: 4096 bytes
//!       +----+----+----+----+----+----+----+----+
//!    0  | C    A    I    R    N    0    0    1  |
//!    8  | crc of 12..4096   | kind              |   0 headers 1 bodies 2 receipts 3 tip 4 run
//!   16  | store id                              |   random
//!   24  |                                       |
//!   32  | S                 | E                 |   a tip log's E is 0
//!   40  | salt                                  |   random in a tip log, else 0
//!   48  | entries                               |   of a run; 8192 in a segment; else 0
//!   56  | level             | crc of the rest   |   of a run; else 0
//!   64  | total difficulty before the file's    |   of headers, all ones: unknown; else 0
//!   72  | first block                           |
//!   80  |                                       |
//!   88  |                                       |
//!   96  | zeros                                 |
//!       +----+----+----+----+----+----+----+----+
//!
//! a segment
//!       +----+----+----+----+----+----+----+----+
//!    0  | the first page                        |
//! 4096  | end of the record of slot 0           |   slot = number mod 8192; end counts from 135168
//! 4104  | raw               | crc               |
//!       | ... 8192 entries                      |
//! 135168| data: a record starts where the one before ends
//!       +----+----+----+----+----+----+----+----+
//!
//! a frame of the tip log, at a multiple of 4096; the first at 4096
//!       +----+----+----+----+----+----+----+----+
//!    0  | crc of 4..length  | records           |
//!    8  | length                                |
//!   16  | salt                                  |   the page's: frames of older files do not pass
//!   24  | frame, from 0                         |
//!   32  | head number                           |
//!   40  | head hash                             |
//!   48  |                                       |
//!   56  |                                       |
//!   64  |                                       |
//!   72  | records                               |
//!       +----+----+----+----+----+----+----+----+
//!
//! a closing frame, behind the last: without records, and with its head (a first frame is none). It is not counted: the
//! next frame takes its place and number.
//!
//! a record of a frame; the next follows at once
//!       +----+----+----+----+----+----+----+----+
//!    0  | number                                |
//!    8  | kind              | raw               |
//!   16  | stored            | crc               |
//!   24  | hash of the block                     |
//!   32  |                                       |
//!   40  |                                       |
//!   48  |                                       |
//!   56  | of a header: total difficulty with it |
//!   64  |                                       |
//!   72  |                                       |
//!   80  |                                       |
//!       | stored bytes                          |
//!       +----+----+----+----+----+----+----+----+
//!
//! MANIFEST
//!       +----+----+----+----+----+----+----+----+
//!    0  | C    A    I    R    N    M    A    N  |
//!    8  | crc of 12..length | length            |
//!   16  | to read | to write| 0                 |   versions
//!   24  | sequence                              |
//!   32  | store id                              |
//!   40  |                                       |
//!   48  | chain id, its low 64 bits             |
//!   56  | genesis hash (32 bytes)               |
//!   88  | hash of the last cold block (32)      |   before there is one: the genesis block's parent
//!  120  | total difficulty with it (32)         |
//!  152  | headers: first                        |   cold blocks first..end of each kind
//!  160  | headers: end                          |
//!  168  | bodies: first                         |   eth/69's earliest
//!  176  | bodies: end                           |
//!  184  | receipts: first                       |
//!  192  | receipts: end                         |
//!  200  | tip's S           | first era         |
//!  208  | eras              | runs              |
//!  216  | each era: S of headers, bodies, receipts (4 bytes each; 0: none)
//!       | each run: E, level, S (4 bytes each)
//!       +----+----+----+----+----+----+----+----+
//!
//! a run of level L, of 4^L eras
//!       +----+----+----+----+----+----+----+----+
//!    0  | the first page                        |
//! 4096  | starts: u32 for each value of the top b bits and one more; padded to 8
//!       | entries, sorted: the hash's first 8 bytes, big-endian, low 13 + 2L bits: number - 8192 E
//!       +----+----+----+----+----+----+----+----+       b = floor(log2(max(1, entries / 256)))
//! ```
//!
//! A record's crc covers `{u64 number, u32 kind, u32 raw}` and its stored bytes, and is carried unchanged from the tip to a
//! segment. `raw` is its uncompressed length; 0: absent. Headers are stored raw. Bodies and receipts are stored as snappy
//! elements without the length in front, or as literals (cut at 65,536 bytes) where that is smaller. No bytes and a raw
//! length of 3, 4 or 1 mean `c2c0c0`, `c3c0c0c0` and `c0`.
//!
//! The hash of cold block n is the first field of header n + 1, or in the MANIFEST. A run only proposes numbers: one counts
//! if its block has the hash; entries of replaced blocks stay and fail that. Four runs in a row become one of the next
//! level: merged as a stream into a `.new` file, a MiB at each commit, which the next manifest commit names. The unfinished era
//! has a table in memory, made at the first question. Requests name blocks in a row: a caller that was just given n does well to try n + 1 with
//! [`Snapshot::hash`] before it asks [`Snapshot::number`].
//!
//! A closing frame says that all frames before it were durable when it was written, so that one of them that does not
//! verify is damaged. It is the one thing that is ever written over: it was never synced, and what matters of it is only
//! that it is there. Were it left and the next frame written behind it, a power loss could keep that frame and lose the
//! closing one: a hole where nothing is missing.
//!
//! The genesis block is the first frame's. While frames are small 1 MiB of written zeros lies ahead of them, so that a
//! commit changes no length.
#![deny(unsafe_code)]

mod append;
mod block;
mod change;
pub mod check;
mod cold;
mod error;
mod file;
mod format;
mod frame;
mod join;
mod manifest;
mod mapped;
mod merge;
mod pack;
mod plan;
mod reader;
mod record;
pub mod repair;
mod replace;
mod rlp;
mod runs;
mod scale;
mod segment;
mod session;
mod settle;
pub mod snappy;
mod snapshot;
mod tip;
mod tiplog;
mod vectors;
mod writer;

pub use block::{Genesis, Head, NewBlock, NewBody, NewReceipts};
pub use error::Error;
pub use join::Join;
pub use reader::Reader;
pub use record::{BodyStream, Record};
pub use replace::Replace;
pub use snapshot::Snapshot;
pub use writer::Writer;

/// The seam under the writer, where tests record, refuse or tear its changes to the disk.
pub mod faults {
    pub use crate::file::{Change, Hook, Verdict};
}
