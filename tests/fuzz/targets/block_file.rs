//! Files of blocks: read through a buffer and from a slice the same blocks come out, and nothing is allocated that is only claimed.
#![no_main]

use cairn::blockfile::BlockFile;
use cairn::chain::body;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut file = BlockFile::new(data);
    let mut rest = data;
    let mut at = 0;
    loop {
        let slice = body::next_block(&mut rest);
        match (file.next_block(), slice) {
            (Ok(Some(block)), Ok(Some(slice))) => {
                assert_eq!((&block.raw[..], block.offset_bytes), (slice, at));
                at += slice.len() as u64;
                if let Ok((header, payload)) = body::split_block(slice) {
                    let whole = body::body_of_block(slice).expect("split, so a block");
                    assert_eq!(body::join_block(header, &whole).expect("its parts"), slice);
                    assert!(slice.ends_with(payload));
                }
            }
            (Ok(None), Ok(None)) => return assert_eq!(file.offset_bytes(), data.len() as u64),
            (Err(error), Err(_)) => return assert!(error.to_string().contains("byte")),
            (file, slice) => panic!(
                "{:?}, but {slice:?}",
                file.map(|block| block.map(|block| block.raw))
            ),
        }
    }
});
