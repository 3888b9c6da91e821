//! A store of which one file is changed: what opening, reading, verifying and repairing make of it.
//!
//! An input is: which file, whether checksums are made right again, then edits. What is changed without new checksums must
//! be found; what is changed with them must harm nobody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use alloy_primitives::{B256, U256, keccak256};

use crate::format::{
    DATA_START, ENTRY_BYTES, ERA_BLOCKS, Entry, FRAME_HEAD_BYTES, FrameHead, Kind, PAGE_BYTES,
    RECORD_HEAD_BYTES, RecordHead, TD_BYTES, align_page, record_crc,
};
use crate::input::Input;
use crate::manifest::Manifest;
use crate::{Genesis, NewBlock, Reader, Snapshot, Writer, check, repair};

/// Which of a store's files a target changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Manifest,
    Tip,
    Segment,
    Run,
}

/// Blocks of the store: two finished eras of eight with their runs, one that is not finished, and a tip with a fork.
const BLOCKS: u64 = 26;
/// A fuzzed MANIFEST may claim any number of blocks: so many of each end are read.
const READ_BLOCKS: u64 = 64;

struct Made {
    number: u64,
    hash: B256,
    td: U256,
    header: Vec<u8>,
    body: Vec<u8>,
    receipts: Vec<u8>,
}

/// A store as it was written, and where its copy to be changed is.
struct Template {
    dir: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// The canonical chain.
    blocks: Vec<Made>,
}

static TEMPLATE: LazyLock<Template> = LazyLock::new(make);
/// One input at a time has the folder.
static FOLDER: Mutex<()> = Mutex::new(());

fn header(number: u64, parent: B256, salt: u8) -> Vec<u8> {
    let header = alloy_consensus::Header {
        number,
        parent_hash: parent,
        difficulty: U256::from(2),
        extra_data: vec![salt; usize::from(salt)].into(),
        ..Default::default()
    };
    alloy_rlp::encode(header)
}

fn block(number: u64, parent: &Made, salt: u8) -> Made {
    let header = header(number, parent.hash, salt);
    let text = vec![salt; 50 + 7 * number as usize];
    let body = match number % 3 {
        0 => vec![0xc2, 0xc0, 0xc0],
        _ => alloy_rlp::encode(vec![alloy_primitives::Bytes::from(text)]),
    };
    Made {
        number,
        hash: keccak256(&header),
        td: parent.td + U256::from(2),
        header,
        body,
        receipts: match number % 2 {
            0 => vec![0xc0],
            _ => alloy_rlp::encode(vec![U256::from(number); 9]),
        },
    }
}

fn make() -> Template {
    let base = std::env::temp_dir().join(format!("cairn-fuzz-{}", std::process::id()));
    let dir = base.join("store");
    std::fs::create_dir_all(&base).expect("a folder for the store");
    let first = header(0, B256::ZERO, 0);
    let genesis = Made {
        number: 0,
        hash: keccak256(&first),
        td: U256::from(2),
        header: first,
        body: vec![0xc2, 0xc0, 0xc0],
        receipts: vec![0xc0],
    };
    let mut writer = Writer::create(
        &dir,
        &Genesis {
            chain_id: 1337,
            hash: genesis.hash,
            difficulty: genesis.td,
            header: &genesis.header,
            body: &genesis.body,
        },
    )
    .expect("a new store");
    let mut blocks = vec![genesis];
    for number in 1..=BLOCKS {
        let next = block(number, &blocks[number as usize - 1], number as u8);
        blocks.push(next);
    }
    for group in blocks[1..].chunks(3) {
        let new: Vec<NewBlock<'_>> = group.iter().map(new_block).collect();
        writer
            .commit(&new, new[new.len() - 1].hash)
            .expect("blocks in a row");
    }
    let fork = block(BLOCKS, &blocks[BLOCKS as usize - 1], 99);
    writer
        .commit(&[new_block(&fork)], blocks[BLOCKS as usize].hash)
        .expect("a fork beside the head");
    drop(writer);
    let mut files = BTreeMap::new();
    for folder in ["", "headers", "bodies", "receipts", "hash"] {
        for entry in std::fs::read_dir(dir.join(folder)).expect("a store's folder") {
            let path = entry.expect("a store's file").path();
            if path.is_file() {
                let mut bytes = std::fs::read(&path).expect("a store's file");
                // Of the zeros that lie ahead of frames a page is enough.
                if path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("tip"))
                {
                    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0) as u64 + 1;
                    bytes.truncate((align_page(used) + PAGE_BYTES) as usize);
                }
                files.insert(path, bytes);
            }
        }
    }
    let template = Template { dir, files, blocks };
    for part in [Part::Manifest, Part::Tip, Part::Segment, Part::Run] {
        assert!(
            !template.of(part).is_empty(),
            "the template has no {part:?}"
        );
    }
    for (path, bytes) in &template.files {
        std::fs::write(path, bytes).expect("a store's file");
    }
    let sound = check::verify(&template.dir, &mut |_, _| {}).expect("a store");
    assert!(sound.is_sound(), "{:?}", sound.problems);
    template
}

fn new_block(made: &Made) -> NewBlock<'_> {
    NewBlock {
        number: made.number,
        hash: made.hash,
        td: made.td,
        header: &made.header,
        body: &made.body,
        receipts: (made.number % 2 == 0).then_some(&made.receipts),
    }
}

impl Template {
    /// The files of a part.
    fn of(&self, part: Part) -> Vec<&PathBuf> {
        let folder = |path: &Path| {
            let relative = path.strip_prefix(&self.dir).expect("in the store");
            relative.to_string_lossy().into_owned()
        };
        self.files
            .keys()
            .filter(|path| {
                let name = folder(path);
                match part {
                    Part::Manifest => name.starts_with("MANIFEST"),
                    Part::Tip => name.starts_with("tip"),
                    Part::Run => name.starts_with("hash"),
                    Part::Segment => name.contains('/') && !name.starts_with("hash"),
                }
            })
            .collect()
    }
}

/// Runs one input.
pub fn fuzz(part: Part, data: &[u8]) {
    let template = &*TEMPLATE;
    let _folder = FOLDER.lock().expect("no input leaves it poisoned");
    let mut input = Input(data);
    let paths = template.of(part);
    let path = input.of(&paths);
    let is_sealed = input.byte() % 2 == 1;
    let original = &template.files[path];
    let mut bytes = original.clone();
    let mut edits = 0;
    let mut small = false;
    while !input.is_empty() && edits < 64 {
        let at = usize::from(input.u16()).min(bytes.len());
        match input.byte() % 8 {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_slice(input.chunk()),
            n => {
                let new = input.take(usize::from(n).pow(2));
                let room = new.len().min(bytes.len() - at);
                bytes[at..at + room].copy_from_slice(&new[..room]);
                small = room <= 4;
            }
        }
        edits += 1;
    }
    // A checksum of 32 bits finds every change of up to 32 bits in a row.
    let must_be_found = !is_sealed && edits == 1 && small;
    if is_sealed {
        seal(part, &mut bytes);
    }
    let changed: Vec<&PathBuf> = match part {
        // Both copies, so that what is right in itself counts. (Of two that are not, each is read fifty times.)
        Part::Manifest if is_sealed && Manifest::decode(&bytes).is_ok() => paths.clone(),
        _ => vec![path],
    };
    for path in &changed {
        std::fs::write(path, &bytes).expect("a store's file");
    }
    look(template, must_be_found);
    for path in changed {
        std::fs::write(path, &template.files[path]).expect("a store's file");
    }
}

fn look(template: &Template, must_be_found: bool) {
    let report = check::verify(&template.dir, &mut |_, _| {});
    let sound = report.as_ref().is_ok_and(check::Report::is_sound);
    let reader = Reader::open(&template.dir);
    if let Ok(reader) = &reader {
        assert!(
            reader.refresh().is_ok() || !sound,
            "nothing has changed since"
        );
        read(template, &reader.snapshot(), sound, must_be_found);
    }
    assert!(
        reader.is_ok() || !sound,
        "sound, but not to be opened: {:?}",
        reader.err()
    );
    if !sound {
        let _ = repair::repair(&template.dir, true);
    }
}

/// Reads the first and the last blocks. What is given must be what was written, if the change must be found; and whatever
/// the change, what is sound can be read.
fn read(template: &Template, snapshot: &Snapshot, sound: bool, must_be_found: bool) {
    let head = snapshot.head().number;
    let last = head.min(READ_BLOCKS);
    for number in (0..=last).chain(head.saturating_sub(2)..=head.saturating_add(1)) {
        let hash = snapshot.hash(number);
        let td = snapshot.td(number);
        let header = snapshot
            .header(number)
            .map(|header| header.map(|raw| raw.to_vec()));
        let (body, receipts) = (snapshot.body(number), snapshot.receipts(number));
        let by_hash = match &hash {
            Ok(Some(hash)) => snapshot.number(hash),
            _ => Ok(None),
        };
        if sound {
            let all = (&hash, &td, &header, &body, &receipts, &by_hash);
            let readable = hash.is_ok() && header.is_ok() && body.is_ok() && receipts.is_ok();
            assert!(readable, "block {number} of a sound store: {all:?}");
        }
        if let (Ok(Some(hash)), Ok(Some(header))) = (&hash, &header)
            && sound
        {
            assert_eq!(keccak256(header), *hash, "header {number} of a sound store");
        }
        let Some(made) = template
            .blocks
            .get(number as usize)
            .filter(|_| must_be_found)
        else {
            continue;
        };
        assert!(hash.is_err() || hash.is_ok_and(|hash| hash.is_none_or(|hash| hash == made.hash)));
        assert!(td.is_err() || td.is_ok_and(|td| td.is_none_or(|td| td == made.td)));
        let same = |found: Result<Option<Vec<u8>>, _>, made: &[u8]| match found {
            Ok(Some(found)) => found == made,
            _ => true,
        };
        assert!(same(header, &made.header), "header {number}");
        assert!(same(body, &made.body), "body {number}");
        assert!(same(receipts, &made.receipts), "receipts {number}");
        assert!(
            by_hash.is_err()
                || by_hash.is_ok_and(|found| found.is_none_or(|found| found == number))
        );
    }
    let _ = snapshot.headers(head.saturating_sub(3), 8, &mut |_| {});
    let _ = snapshot.number(&B256::repeat_byte(7));
}

/// Makes every checksum right, as far as the file has its parts.
fn seal(part: Part, bytes: &mut [u8]) {
    match part {
        Part::Manifest => {
            let Some(head) = bytes.get(12..16) else {
                return;
            };
            let length = u32::from_le_bytes(head.try_into().expect("four bytes")) as usize;
            if let Some(crc) = bytes.get(12..length).map(crc32fast::hash) {
                bytes[8..12].copy_from_slice(&crc.to_le_bytes());
            }
            if let Ok(manifest) = Manifest::decode(bytes) {
                let again = Manifest::decode(&manifest.encode());
                assert_eq!(again, Ok(manifest), "read, written and read");
            }
        }
        Part::Run => {
            if let Some(crc) = bytes.get(PAGE_BYTES as usize..).map(crc32fast::hash) {
                bytes[60..64].copy_from_slice(&crc.to_le_bytes());
            }
            seal_page(bytes);
        }
        Part::Segment => {
            seal_page(bytes);
            seal_entries(bytes);
        }
        Part::Tip => {
            seal_page(bytes);
            seal_frames(bytes);
        }
    }
}

fn seal_page(bytes: &mut [u8]) {
    if let Some(crc) = bytes.get(12..PAGE_BYTES as usize).map(crc32fast::hash) {
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(number)
}

fn seal_entries(bytes: &mut [u8]) {
    if bytes.len() < DATA_START as usize {
        return;
    }
    let Some(kind) = Kind::of_record(number_at::<4>(bytes, 12) as u32) else {
        return;
    };
    let era = number_at::<4>(bytes, 36);
    let mut from = 0;
    for slot in 0..ERA_BLOCKS {
        let at = (PAGE_BYTES + slot * ENTRY_BYTES) as usize;
        let mut entry = Entry::decode(&bytes[at..at + ENTRY_BYTES as usize]);
        let place = |offset: u64| usize::try_from(DATA_START.checked_add(offset)?).ok();
        let stored = place(from).zip(place(entry.end));
        if let Some(stored) = stored.and_then(|(from, to)| bytes.get(from..to)) {
            entry.crc = record_crc(era * ERA_BLOCKS + slot, kind, entry.raw, stored);
            bytes[at..at + ENTRY_BYTES as usize].copy_from_slice(&entry.encode());
        }
        from = entry.end;
    }
}

fn seal_frames(bytes: &mut [u8]) {
    let mut at = PAGE_BYTES as usize;
    while let Some(frame) = bytes.get_mut(at..)
        && frame.len() >= FRAME_HEAD_BYTES
    {
        let head = FrameHead::decode(frame);
        let Some(frame) = usize::try_from(head.length)
            .ok()
            .and_then(|length| frame.get_mut(..length))
        else {
            return;
        };
        if frame.len() < FRAME_HEAD_BYTES {
            return;
        }
        let mut from = FRAME_HEAD_BYTES;
        for _ in 0..head.records {
            let Some(record) = frame
                .get(from..from + RECORD_HEAD_BYTES)
                .and_then(RecordHead::decode)
            else {
                break;
            };
            let td = if record.kind == Kind::Headers {
                TD_BYTES
            } else {
                0
            };
            let stored_at = from + RECORD_HEAD_BYTES + td;
            let Some(stored) = frame.get(stored_at..stored_at + record.stored as usize) else {
                break;
            };
            let crc = record_crc(record.number, record.kind, record.raw, stored);
            frame[from + 20..from + 24].copy_from_slice(&crc.to_le_bytes());
            from = stored_at + record.stored as usize;
        }
        head.seal(frame);
        at = align_page(at as u64 + head.length) as usize;
    }
}

/// An input that changes nothing, and some that change a little, for each file: the first corpus.
pub fn seeds(part: Part) -> Vec<Vec<u8>> {
    let template = &*TEMPLATE;
    let mut seeds = Vec::new();
    for (index, path) in template.of(part).into_iter().enumerate() {
        let length = template.files[path].len();
        for is_sealed in [0, 1] {
            let start = [index as u8, is_sealed];
            seeds.push(start.to_vec());
            let spread = (0..length).step_by(length / 6 + 1).take(6);
            for at in spread.chain([12, 32, 40, 56, 64]) {
                let at = (at.min(usize::from(u16::MAX)) as u16).to_le_bytes();
                seeds.push([&start[..], &at, &[2, 1, 0, 0, 0]].concat());
            }
        }
    }
    seeds
}
