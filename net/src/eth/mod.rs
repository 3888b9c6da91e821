//! Stub: NET-B's.
#![allow(missing_docs)]
pub mod message;
pub mod status;
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(pub String);
impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl From<alloy_rlp::Error> for DecodeError {
    fn from(e: alloy_rlp::Error) -> Self {
        DecodeError(e.to_string())
    }
}
pub const VERSIONS: [u8; 2] = [69, 68];
pub fn message_count(version: u8) -> Option<u8> {
    match version {
        68 => Some(17),
        69 => Some(18),
        _ => None,
    }
}
