//! Peers that are named by host: one that cannot be resolved keeps no node from starting, and one that can is dialled.
#![allow(clippy::unwrap_used)]
mod common;

use common::*;

#[test]
fn a_node_starts_without_a_peer_whose_name_is_not_resolved_and_dials_one_whose_name_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Node::start(&dir.path().join("one"), &[]);
    let id = one.enode.split('@').next().unwrap().to_owned();
    let port = one.enode.rsplit(':').next().unwrap().to_owned();
    let peers = format!("{id}@localhost:{port},{id}@nobody.invalid:{port}");
    let mut two = Node::start(&dir.path().join("two"), &["--bootnodes", &peers]);
    two.wait_log("Peer connected");
    one.wait_log("Peer connected");
    let line = two.wait_log("nobody.invalid");
    assert!(
        line.contains("WARN") && line.contains("cannot be resolved") && line.contains("again"),
        "{line}"
    );
    two.stop();
    one.stop();
}
