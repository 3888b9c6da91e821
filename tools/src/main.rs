//! cairn-store.
fn main() {}
