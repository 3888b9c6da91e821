//! Lists the modules of the store and what it makes public, so that all of it can be built into the targets a second time.

use std::path::Path;

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says it");
    let store = Path::new(&root)
        .join("../../store")
        .canonicalize()
        .expect("the store's folder");
    let library = store.join("src/lib.rs");
    let text = std::fs::read_to_string(&library).expect("the store's library");
    let mut listed = String::new();
    for line in text.lines() {
        if line.starts_with("pub use ") {
            listed += &format!("{line}\n");
        }
        let name = line.strip_prefix("pub ").unwrap_or(line);
        let Some(name) = name
            .strip_prefix("mod ")
            .and_then(|name| name.strip_suffix(';'))
        else {
            continue;
        };
        let file = match name {
            // Tiny eras, as for the power-loss tests.
            "scale" => store.join("tests/power_loss/scale.rs"),
            // Tests, of the crate as a whole.
            "vectors" => continue,
            _ => store.join(format!("src/{name}.rs")),
        };
        listed += &format!("#[path = {file:?}]\npub mod {name};\n");
    }
    let out = std::env::var("OUT_DIR").expect("cargo says it");
    std::fs::write(Path::new(&out).join("store.rs"), listed).expect("room for a list");
    println!("cargo::rerun-if-changed={}", library.display());
}
