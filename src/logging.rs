//! Log lines: one format, a level chosen by geth's `--verbosity`.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use alloy_primitives::B256;
use log::LevelFilter;

use crate::progress::beside_bar;

/// Starts logging to standard error. `verbosity` is geth's scale, 0 (nothing) to 5 (everything).
pub fn start(verbosity: u8) {
    let level = match verbosity {
        0 => LevelFilter::Off,
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    builder.target(env_logger::Target::Pipe(Box::new(Lines)));
    // To what is not standard error itself no colours would be written by themselves.
    let is_coloured = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    builder.write_style(match is_coloured {
        true => env_logger::WriteStyle::Always,
        false => env_logger::WriteStyle::Never,
    });
    builder.format(|out, record| {
        let style = out.default_level_style(record.level());
        writeln!(
            out,
            "{} {style}{:<5}{style:#} {}",
            out.timestamp_millis(),
            record.level(),
            record.args()
        )
    });
    // A second start (in tests) keeps the first logger.
    let _ = builder.try_init();
}

/// Standard error, above the bar if there is one.
struct Lines;

impl std::io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        beside_bar(|| std::io::stderr().write(line))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// A hash in the short form of log lines: its first and last three bytes.
pub fn short(hash: &B256) -> String {
    let hex = alloy_primitives::hex::encode(hash);
    format!("{}..{}", &hex[..6], &hex[58..])
}

/// The line that says that blocks give way to others: the last common block, the old head and the new one, in geth's words.
pub fn reorg(ancestor: (u64, B256), old: (u64, B256), new: (u64, B256)) {
    log::info!(
        "Chain reorg detected number={} hash={} drop={} dropfrom={} add={} addfrom={}",
        ancestor.0,
        ancestor.1,
        old.0 - ancestor.0,
        old.1,
        new.0 - ancestor.0,
        new.1,
    );
}

/// A duration for a log line, three digits after the point.
pub fn elapsed(time: Duration) -> String {
    format!("{time:.3?}")
}

/// A size for people: bytes, KiB, MiB, GiB.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.2} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_told_in_the_largest_unit_that_keeps_it_at_one_or_more() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.00 KiB");
        assert_eq!(size(3 << 20), "3.00 MiB");
    }

    #[test]
    fn a_hash_is_shortened_to_its_ends() {
        assert_eq!(short(&B256::repeat_byte(0xab)), "ababab..ababab");
    }
}
