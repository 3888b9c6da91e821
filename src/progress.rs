//! Progress of long work: a bar on a terminal, plain lines in a log otherwise.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Plain lines come at most this often: a log is read later, by people.
const LINE_INTERVAL: Duration = Duration::from_secs(8);

/// One piece of long work, shown until it is dropped or finished.
pub struct Progress {
    what: &'static str,
    unit: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    /// Shows `what` with `total` units to do. Nothing is shown when `quiet`.
    pub fn new(what: &'static str, unit: &'static str, total: u64, quiet: bool) -> Progress {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total);
            let template = if unit == "bytes" {
                "{msg} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
            } else {
                "{msg} {bar:32} {human_pos}/{human_len} {per_sec} {eta}"
            };
            bar.set_style(ProgressStyle::with_template(template).expect("a template of our own"));
            bar.set_message(what);
            bar
        });
        Progress {
            what,
            unit,
            total,
            bar,
            last_line: Instant::now(),
        }
    }

    /// `done` units of the total are done.
    pub fn set(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            log::info!(
                "{} {}={} of={} percent={:.1}",
                self.what,
                self.unit,
                done,
                self.total,
                100.0 * done as f64 / self.total.max(1) as f64
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
