//! Stub: NET-B's.
