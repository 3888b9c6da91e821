//! No target: writes the corpus of the repository anew, and ends. Here because it is built as the targets are.
#![no_main]
#![allow(unreachable_code)] // it ends before there is anything to fuzz

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let mut bytes = 0;
        for (target, name, input) in cairn_fuzz::seeds::all() {
            let folder = corpus.join(target);
            std::fs::create_dir_all(&folder).expect("a folder for the corpus");
            std::fs::write(folder.join(name.to_lowercase()), &input).expect("room for the corpus");
            bytes += input.len();
        }
        println!("{bytes} bytes in {}", corpus.display());
        std::process::exit(0);
    },
    |_data: &[u8]| {}
);
