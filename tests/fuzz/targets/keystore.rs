//! Key files: what is read is written as what reads the same, and nothing is derived that costs more than its limit.
#![no_main]

use cairn::keystore::{FileError, KeyFile};
use libfuzzer_sys::fuzz_target;

/// Some milliseconds: the limits are for a person who waits.
const WORK_LIMIT: u64 = 1 << 10;

fuzz_target!(|data: &[u8]| {
    let file = match KeyFile::from_json(data) {
        Ok(file) => file,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(
        KeyFile::from_json(file.to_json().as_bytes()),
        Ok(file.clone())
    );
    if file.work() > WORK_LIMIT {
        return;
    }
    match file.unlock(b"foobar") {
        Ok(key) => assert!(file.address().is_none_or(|said| said == key.address())),
        Err(FileError::OtherAddress { said, found }) => {
            assert!(file.address() == Some(said) && said != found);
        }
        Err(error) => assert!(matches!(error, FileError::WrongPassword | FileError::NoKey)),
    }
});
