//! The time of day, for what is compared with the time in headers or shown to people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of Unix time; 0 if the clock stands before it began.
pub fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
