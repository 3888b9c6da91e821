//! Stub: NET-B's.
#![allow(missing_docs)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 64]);
impl NodeId {
    pub fn short(&self) -> String {
        alloy_primitives::hex::encode(&self.0[..4])
    }
}
impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&alloy_primitives::hex::encode(self.0))
    }
}
