//! Arguments -> Config -> node::run -> exit code.
fn main() {}
