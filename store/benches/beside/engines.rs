//! The engines: a store of headers and bodies, by number and by hash, each commit durable when it returns.

use std::borrow::Cow;
use std::hint::black_box;
use std::path::Path;

use cairn_store::{NewBlock, Reader, Writer, snappy};
use heed::PutFlags;
use heed::types::{Bytes, U64};
use redb::{ReadableDatabase, TableDefinition};

use crate::common::Block;
use crate::sets::{list_prefix, stream};

/// Those named "streams" keep the same compressed bodies as cairn does, the others raw RLP.
pub(crate) const ENGINES: [&str; 5] = ["cairn", "redb", "LMDB", "redb, streams", "LMDB, streams"];

/// What is measured of each.
pub(crate) trait Engine {
    fn append(&mut self, blocks: &[NewBlock<'_>]);
    fn header(&self, number: u64) -> usize;
    fn by_hash(&self, block: &Block) -> usize;
    fn scan(&self, first: u64, count: usize) -> usize;
    /// The message that answers a request for these bodies, compressed and contiguous, and its length. (Its id and code
    /// are the same work for all.)
    fn response(&self, first: u64, count: usize, answer: &mut Answer) -> usize;
}

/// Memory for an answer, in bytes: there, and touched, before what an engine takes is measured.
const ANSWER_BYTES: usize = 6 << 20;

/// Memory that answers are made in, used again.
pub(crate) struct Answer {
    out: Vec<u8>,
    message: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl Answer {
    pub(crate) fn new() -> Answer {
        Answer {
            out: vec![1; ANSWER_BYTES],
            message: vec![1; ANSWER_BYTES],
            encoder: snap::raw::Encoder::new(),
        }
    }

    /// Lays streams end to end behind one length and the list's prefix.
    fn compose<'a>(&mut self, raw: usize, streams: impl Iterator<Item = &'a [u8]>) -> usize {
        let out = &mut self.out;
        out.clear();
        let prefix = list_prefix(raw);
        snappy::varint(out, (prefix.len() + raw) as u64);
        snappy::literal(out, &prefix);
        for stream in streams {
            out.extend_from_slice(stream);
        }
        out.len()
    }

    /// Compresses the list of raw bodies.
    fn compress(&mut self, bodies: &[&[u8]]) -> usize {
        let raw = bodies.iter().map(|body| body.len()).sum();
        self.message.clear();
        self.message.extend_from_slice(&list_prefix(raw));
        for body in bodies {
            self.message.extend_from_slice(body);
        }
        let room = snap::raw::max_compress_len(self.message.len());
        if self.out.len() < room {
            self.out.resize(room, 0);
        }
        let out = &mut self.out[..];
        self.encoder.compress(&self.message, out).unwrap()
    }

    fn of_kept(&mut self, kept: &[&[u8]], streams: bool) -> usize {
        if !streams {
            return self.compress(kept);
        }
        let raw = |kept: &&[u8]| u32::from_le_bytes(kept[..4].try_into().unwrap()) as usize;
        self.compose(
            kept.iter().map(raw).sum(),
            kept.iter().map(|kept| &kept[4..]),
        )
    }
}

/// What the others keep of a body: its raw bytes, or its stream with the length that raw bytes say themselves.
fn kept(body: &[u8], streams: bool) -> Cow<'_, [u8]> {
    if !streams {
        return Cow::Borrowed(body);
    }
    let mut out = (body.len() as u32).to_le_bytes().to_vec();
    out.extend(stream(body));
    Cow::Owned(out)
}

/// Opens the engine's store in a folder, or makes it.
pub(crate) fn open(engine: &str, dir: &Path, genesis: &Block) -> Box<dyn Engine> {
    let streams = engine.ends_with("streams");
    match engine {
        "cairn" => {
            let dir = dir.join("cairn");
            let writer = match dir.exists() {
                true => Writer::open(&dir),
                false => Writer::create(&dir, &genesis.genesis()),
            };
            let writer = writer.unwrap();
            Box::new(Cairn {
                reader: writer.reader(),
                writer,
            })
        }
        _ if engine.starts_with("redb") => Box::new(Redb {
            db: redb::Database::builder().create(dir.join("redb")).unwrap(),
            streams,
        }),
        _ => Box::new(Lmdb::open(dir, streams)),
    }
}

struct Cairn {
    writer: Writer,
    reader: Reader,
}

impl Engine for Cairn {
    fn append(&mut self, blocks: &[NewBlock<'_>]) {
        let head = blocks[blocks.len() - 1].hash;
        self.writer.commit(blocks, head).unwrap();
    }

    fn header(&self, number: u64) -> usize {
        let snapshot = self.reader.snapshot();
        snapshot.header(number).unwrap().unwrap().len()
    }

    fn by_hash(&self, block: &Block) -> usize {
        let snapshot = self.reader.snapshot();
        let number = snapshot.number(&block.hash).unwrap().unwrap();
        snapshot.header(number).unwrap().unwrap().len()
    }

    fn scan(&self, first: u64, count: usize) -> usize {
        let mut bytes = 0;
        let snapshot = self.reader.snapshot();
        let mut each = |part: &[u8]| bytes += black_box(part).len();
        snapshot.headers(first, count, &mut each).unwrap();
        bytes
    }

    fn response(&self, first: u64, count: usize, answer: &mut Answer) -> usize {
        let snapshot = self.reader.snapshot();
        let bodies: Vec<_> = (first..first + count as u64)
            .map(|n| snapshot.body_stream(n).unwrap().unwrap())
            .collect();
        let raw = bodies.iter().map(|body| body.raw_len).sum();
        answer.compose(raw, bodies.iter().map(|body| &body.stream[..]))
    }
}

const HEADERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("headers");
const BODIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("bodies");
const NUMBERS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("numbers");

struct Redb {
    db: redb::Database,
    streams: bool,
}

impl Engine for Redb {
    fn append(&mut self, blocks: &[NewBlock<'_>]) {
        let change = self.db.begin_write().unwrap(); // durable when it commits, which is the default
        {
            let mut headers = change.open_table(HEADERS).unwrap();
            let mut bodies = change.open_table(BODIES).unwrap();
            let mut numbers = change.open_table(NUMBERS).unwrap();
            for block in blocks {
                let number = block.number;
                headers.insert(number, block.header).unwrap();
                let body = kept(block.body, self.streams);
                bodies.insert(number, &body[..]).unwrap();
                numbers.insert(&block.hash[..], number).unwrap();
            }
        }
        change.commit().unwrap();
    }

    fn header(&self, number: u64) -> usize {
        let view = self.db.begin_read().unwrap();
        let headers = view.open_table(HEADERS).unwrap();
        headers.get(number).unwrap().unwrap().value().len()
    }

    fn by_hash(&self, block: &Block) -> usize {
        let view = self.db.begin_read().unwrap();
        let numbers = view.open_table(NUMBERS).unwrap();
        let number = numbers.get(&block.hash[..]).unwrap().unwrap().value();
        let headers = view.open_table(HEADERS).unwrap();
        headers.get(number).unwrap().unwrap().value().len()
    }

    fn scan(&self, first: u64, count: usize) -> usize {
        let view = self.db.begin_read().unwrap();
        let headers = view.open_table(HEADERS).unwrap();
        let range = headers.range(first..first + count as u64).unwrap();
        range
            .map(|pair| black_box(pair.unwrap().1.value()).len())
            .sum()
    }

    fn response(&self, first: u64, count: usize, answer: &mut Answer) -> usize {
        let view = self.db.begin_read().unwrap();
        let bodies = view.open_table(BODIES).unwrap();
        let range = bodies.range(first..first + count as u64).unwrap();
        let values: Vec<_> = range.map(|pair| pair.unwrap().1).collect();
        let kept: Vec<&[u8]> = values.iter().map(|value| value.value()).collect();
        answer.of_kept(&kept, self.streams)
    }
}

type BigEndian = U64<heed::byteorder::BigEndian>;

struct Lmdb {
    env: heed::Env,
    headers: heed::Database<BigEndian, Bytes>,
    bodies: heed::Database<BigEndian, Bytes>,
    numbers: heed::Database<Bytes, BigEndian>,
    streams: bool,
}

impl Lmdb {
    #[allow(unsafe_code)]
    fn open(dir: &Path, streams: bool) -> Lmdb {
        // SAFETY: this process is the only one that has the file.
        let env = unsafe {
            heed::EnvOpenOptions::new()
                .map_size(64 << 30)
                .max_dbs(3)
                .open(dir)
                .unwrap()
        };
        let mut change = env.write_txn().unwrap();
        let headers = env.create_database(&mut change, Some("headers")).unwrap();
        let bodies = env.create_database(&mut change, Some("bodies")).unwrap();
        let numbers = env.create_database(&mut change, Some("numbers")).unwrap();
        change.commit().unwrap();
        Lmdb {
            env,
            headers,
            bodies,
            numbers,
            streams,
        }
    }
}

impl Engine for Lmdb {
    fn append(&mut self, blocks: &[NewBlock<'_>]) {
        let mut change = self.env.write_txn().unwrap();
        for block in blocks {
            let number = &block.number;
            let body = kept(block.body, self.streams);
            // Numbers rise: said so, it fills its pages.
            let rising = PutFlags::APPEND;
            let headers = &self.headers;
            headers
                .put_with_flags(&mut change, rising, number, block.header)
                .unwrap();
            self.bodies
                .put_with_flags(&mut change, rising, number, &body)
                .unwrap();
            self.numbers
                .put(&mut change, &block.hash[..], number)
                .unwrap();
        }
        change.commit().unwrap(); // durable when it returns, which is the default
    }

    fn header(&self, number: u64) -> usize {
        let view = self.env.read_txn().unwrap();
        self.headers.get(&view, &number).unwrap().unwrap().len()
    }

    fn by_hash(&self, block: &Block) -> usize {
        let view = self.env.read_txn().unwrap();
        let number = self.numbers.get(&view, &block.hash[..]).unwrap().unwrap();
        self.headers.get(&view, &number).unwrap().unwrap().len()
    }

    fn scan(&self, first: u64, count: usize) -> usize {
        let view = self.env.read_txn().unwrap();
        let numbers = first..first + count as u64;
        let range = self.headers.range(&view, &numbers).unwrap();
        range.map(|pair| black_box(pair.unwrap().1).len()).sum()
    }

    fn response(&self, first: u64, count: usize, answer: &mut Answer) -> usize {
        let view = self.env.read_txn().unwrap();
        let numbers = first..first + count as u64;
        let range = self.bodies.range(&view, &numbers).unwrap();
        let kept: Vec<&[u8]> = range.map(|pair| pair.unwrap().1).collect();
        answer.of_kept(&kept, self.streams)
    }
}
