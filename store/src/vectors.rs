//! Golden bytes of every structure of the format, so that it cannot change silently.
//!
//! They were not made by this crate: a few lines of Python packed them by hand (`int.to_bytes`, `zlib.crc32`).
#![cfg(test)]
#![allow(clippy::unwrap_used)]

use alloy_primitives::{B256, U256, hex};

use crate::format::{
    DATA_START, Entry, FrameHead, Kind, PAGE_BYTES, Page, constant_stream, is_constant, record_crc,
    slot_of,
};
use crate::frame::FrameBuilder;
use crate::manifest::{Invalid, Manifest, RunName, Span, era_path, parse_name, tip_path};
use crate::runs::Run;
use crate::snappy::Compressor;
use crate::tip::TipIndex;

const STORE_ID: [u8; 16] = [
    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
];
const SALT: u64 = 0x0123_4567_89ab_cdef;

const SEGMENT_PAGE: &str = concat!(
    "434149524e00000131c363a000000000101112131415161718191a1b1c1d1e1f",
    "2a0000000c000000000000000000000000200000000000000000000000000000",
    "020038d728a108d8700c00000000000000000000000000000000000000000000",
);

const TIP_PAGE: &str = concat!(
    "434149524e000001e14f193303000000101112131415161718191a1b1c1d1e1f",
    "2b00000000000000efcdab896745230100000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
);

const MANIFEST: &str = concat!(
    "434149524e4d414e3651357efc00000001000100000000002b00000000000000",
    "101112131415161718191a1b1c1d1e1f3905000000000000aaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb",
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb0500000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0820000000000000640000000000000008200000000000000000000000000000",
    "00000000000000002b0000000000000002000000010000000300000004000000",
    "000000002b0000002b0000000000000000000000000000002b000000",
);

const FRAME: &str = concat!(
    "cde8501002000000fa00000000000000efcdab89674523010500000000000000",
    "0820000000000000cccccccccccccccccccccccccccccccccccccccccccccccc",
    "cccccccccccccccc082000000000000000000000220000002200000051e8567e",
    "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
    "0700000000000000010000000000000000000000000000000000000000000000",
    "e1a0bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "bbbb0820000000000000010000000300000000000000f44572c9cccccccccccc",
    "cccccccccccccccccccccccccccccccccccccccccccccccccccc",
);

const ENTRY: &str = "0302000001000000bc020000d84e5a60";

const RUN_STARTS: [u32; 3] = [0, 300, 600];
const RUN_CRC: u32 = 0x5a2d01bc;
const RUN_FIRST: [u64; 2] = [0x0000000000000000, 0x007dc9d4dacae0e9];

fn manifest() -> Manifest {
    Manifest {
        read_version: 1,
        write_version: 1,
        sequence: 0x2b,
        store_id: STORE_ID,
        chain_id: 1337,
        genesis: B256::repeat_byte(0xaa),
        cold_hash: B256::repeat_byte(0xbb),
        cold_td: U256::from(u64::MAX) + U256::from(6),
        spans: [
            Span {
                first: 0,
                end: 8200,
            },
            Span {
                first: 100,
                end: 8200,
            },
            Span { first: 0, end: 0 },
        ],
        tip: 0x2b,
        first_era: 0,
        eras: vec![[3, 4, 0], [0x2b, 0x2b, 0]],
        runs: vec![RunName {
            era: 0,
            level: 0,
            sequence: 0x2b,
        }],
    }
}

fn page(kind: Kind, sequence: u32, era: u32) -> Page {
    Page {
        kind,
        store_id: STORE_ID,
        sequence,
        era,
        salt: 0,
        entries: 0,
        level: 0,
        rest_crc: 0,
        td: Some(U256::ZERO),
    }
}

#[test]
fn the_first_page() {
    // Mainnet's total difficulty does not fit 64 bits.
    let td = U256::from_str_radix("c70d808a128d7380002", 16).unwrap();
    let segment = Page {
        entries: 8192,
        td: Some(td),
        ..page(Kind::Headers, 0x2a, 12)
    };
    let tip = Page {
        salt: SALT,
        ..page(Kind::Tip, 0x2b, 0)
    };
    for (page, golden) in [(segment, SEGMENT_PAGE), (tip, TIP_PAGE)] {
        let bytes = page.encode();
        assert_eq!(hex::encode(&bytes[..96]), golden);
        assert_eq!(bytes.len() as u64, PAGE_BYTES);
        assert!(bytes[96..].iter().all(|&byte| byte == 0));
        assert_eq!(Page::decode(&bytes).unwrap(), page);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Page::decode(&bad).is_err(), "byte {at}");
        }
        assert!(Page::decode(&bytes[..4095]).is_err());
    }
    let unknown = Page {
        td: None,
        ..page(Kind::Headers, 1, 1)
    };
    assert_eq!(unknown.encode()[64..96], [0xff; 32]);
    assert_eq!(Page::decode(&unknown.encode()).unwrap(), unknown);
}

#[test]
fn the_manifest() {
    let bytes = hex::decode(MANIFEST).unwrap();
    assert_eq!(hex::encode(manifest().encode()), MANIFEST);
    assert_eq!(Manifest::decode(&bytes).unwrap(), manifest());
    // It is written over longer ones.
    let mut longer = bytes.clone();
    longer.extend_from_slice(&[7; 100]);
    assert_eq!(Manifest::decode(&longer).unwrap(), manifest());
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x80;
        assert!(
            matches!(Manifest::decode(&bad), Err(Invalid::Torn(_))),
            "byte {at}"
        );
        assert!(
            matches!(Manifest::decode(&bytes[..at]), Err(Invalid::Torn(_))),
            "cut at {at}"
        );
    }
    let newer = Manifest {
        read_version: 2,
        ..manifest()
    }
    .encode();
    assert_eq!(Manifest::decode(&newer), Err(Invalid::Newer(2)));
}

#[test]
fn a_frame() {
    let (bb, cc) = (B256::repeat_byte(0xbb), B256::repeat_byte(0xcc));
    let mut header = vec![0xe1, 0xa0];
    header.extend_from_slice(bb.as_slice());
    let td = U256::from(u64::MAX) + U256::from(8);
    let mut frame = FrameBuilder::new();
    frame.header(8200, cc, (bb, td), &header);
    frame.compress(
        8200,
        Kind::Bodies,
        cc,
        &[0xc2, 0xc0, 0xc0],
        &mut Compressor::new(),
    );
    let mut index = TipIndex::new(&manifest());
    index.frames = 5;
    let bytes = frame.finish(&index, SALT, 8200, cc);
    let golden = hex::decode(FRAME).unwrap();
    assert_eq!(bytes.len(), 4096);
    assert_eq!(hex::encode(&bytes[..golden.len()]), FRAME);
    assert!(bytes[golden.len()..].iter().all(|&byte| byte == 0));
    let head = FrameHead {
        records: 2,
        length: golden.len() as u64,
        salt: SALT,
        frame: 5,
        head_number: 8200,
        head: cc,
    };
    assert_eq!(FrameHead::decode(&golden), head);
}

#[test]
fn a_table_entry() {
    let entry = Entry {
        end: 0x1_0000_0203,
        raw: 700,
        crc: record_crc(9, Kind::Bodies, 700, b"stream"),
    };
    assert_eq!(hex::encode(entry.encode()), ENTRY);
    assert_eq!(Entry::decode(&entry.encode()), entry);
    assert_eq!(
        (DATA_START, slot_of(8191), slot_of(8192)),
        (135_168, 8191, 0)
    );
}

#[test]
fn a_run() {
    let run: Vec<u8> = Run {
        era: 3,
        level: 0,
        entries: run_entries(),
    }
    .encode(STORE_ID, 0x2c);
    let starts: Vec<u32> = (0..3)
        .map(|i| crate::format::u32_at(&run, 4096 + 4 * i))
        .collect();
    assert_eq!(starts, RUN_STARTS);
    assert_eq!(crate::format::u64_at(&run, 4096 + 16), RUN_FIRST[0]);
    assert_eq!(crate::format::u64_at(&run, 4096 + 24), RUN_FIRST[1]);
    assert_eq!(run.len(), 4096 + 16 + 8 * 600);
    assert_eq!(crc32fast::hash(&run), RUN_CRC);
}

/// Sorted entries of 600 blocks of era 3, whose hashes begin with multiples of the golden ratio.
fn run_entries() -> Vec<u64> {
    let hash = |i: u64| {
        let mut hash = B256::ZERO;
        hash[..8].copy_from_slice(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        hash
    };
    let blocks: Vec<(u64, B256)> = (0..600).map(|i| (3 * 8192 + i, hash(i))).collect();
    Run::of_blocks(3, 0, &blocks).entries
}

#[test]
fn constants_and_names() {
    for raw in [&[0xc2, 0xc0, 0xc0][..], &[0xc3, 0xc0, 0xc0, 0xc0], &[0xc0]] {
        assert!(is_constant(raw));
        let stream = constant_stream(raw.len() as u32).unwrap();
        assert_eq!(crate::snappy::decompress(raw.len(), stream).unwrap(), raw);
    }
    assert!(!is_constant(&[0xc2, 0xc0, 0xc1]) && !is_constant(&[]) && !is_constant(&[0xc1, 0xc0]));
    let dir = std::path::Path::new("/x");
    assert_eq!(
        era_path(dir, Kind::Bodies, 12, 0x2a),
        dir.join("bodies/000012.0000002a")
    );
    assert_eq!(tip_path(dir, 0x2b), dir.join("tip.0000002b"));
    assert_eq!(parse_name("000012.0000002a"), Some(("000012", 0x2a)));
    assert_eq!(parse_name("tip.0000002b"), Some(("tip", 0x2b)));
    for name in [
        "LOCK",
        "MANIFEST.0",
        "tip.2b",
        "12.0000002a",
        "00001x.0000002a",
        "000012.0000002a.new",
    ] {
        assert_eq!(parse_name(name), None, "{name}");
    }
}
