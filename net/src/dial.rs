//! When to dial a static node again: pure, by the time and the outcomes that are handed in.
