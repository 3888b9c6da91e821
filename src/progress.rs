//! Progress of long work: a bar on a terminal, plain lines in a log otherwise.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::status::{Figures, Span};

/// The bar that is on the terminal, if one is: what else is written there must not write into it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Runs `write`, which writes to standard error, with no bar in its way.
pub fn beside_bar<T>(write: impl FnOnce() -> T) -> T {
    let bar = BAR.lock().clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Puts a bar of `total` units on the terminal, if standard error is one.
fn put_bar(total: u64, template: &str) -> Option<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(total);
    bar.set_style(ProgressStyle::with_template(template).expect("a template of our own"));
    *BAR.lock() = Some(bar.clone());
    Some(bar)
}

fn take_bar(bar: &ProgressBar) {
    *BAR.lock() = None;
    bar.finish_and_clear();
}

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
        let template = if unit == "bytes" {
            "{msg} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
        } else {
            "{msg} {bar:32} {human_pos}/{human_len} {per_sec} {eta}"
        };
        let bar = (!quiet).then(|| put_bar(total, template)).flatten();
        if let Some(bar) = &bar {
            bar.set_message(what);
        }
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
            take_bar(bar);
        }
    }
}

/// The bar of a node that catches up; on a terminal only, and gone when there is nothing to catch up with.
#[derive(Default)]
pub struct CatchUp {
    bar: Option<ProgressBar>,
    shown: Option<Instant>,
}

/// The bar of a catch-up is drawn this often at the most: more cannot be read.
const BAR_INTERVAL: Duration = Duration::from_millis(250);

impl CatchUp {
    /// Shows how far a catch-up is, or that there is none.
    pub fn show(&mut self, figures: Option<&Figures>, peers: usize) {
        let Some(figures) = figures else {
            if let Some(bar) = self.bar.take() {
                take_bar(&bar);
            }
            return;
        };
        if self.shown.is_some_and(|at| at.elapsed() < BAR_INTERVAL) {
            return;
        }
        self.shown = Some(Instant::now());
        if self.bar.is_none() {
            self.bar = put_bar(0, "{prefix} {wide_bar} {human_pos}/{human_len} {msg}");
        }
        let Some(bar) = &self.bar else { return };
        let (done, of, pace) = match &figures.falling {
            Some(falling) => (
                falling.fetched,
                falling.all.unwrap_or(falling.fetched),
                format!("{:.0} headers/s", figures.headers_per_s),
            ),
            None => (
                figures.reached,
                figures.target_number.unwrap_or(figures.reached),
                format!(
                    "{:.0} blocks/s, {:.1} MB/s",
                    figures.blocks_per_s,
                    figures.bytes_per_s / 1e6
                ),
            ),
        };
        bar.set_length(of);
        bar.set_position(done);
        bar.set_prefix(figures.phase.name().replace('_', " "));
        let left = figures
            .left_s()
            .map_or_else(String::new, |left_s| format!(", {} left", Span(left_s)));
        let many = if peers == 1 { "" } else { "s" };
        bar.set_message(format!("{pace}, {peers} peer{many}{left}"));
    }
}

impl Drop for CatchUp {
    fn drop(&mut self) {
        self.show(None, 0);
    }
}
