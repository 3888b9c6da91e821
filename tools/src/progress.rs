//! How far a long command is: a bar on a terminal, a line now and then elsewhere. On standard error.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar or lines.
pub(crate) struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    said: Instant,
    /// When the first number came, and which it was: what was done before is not this run's pace.
    begun: Option<(Instant, u64)>,
}

impl Progress {
    /// `what` is being done, to be said before the numbers.
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{prefix} [{bar:40}] {human_pos}/{human_len} {per_sec} eta {eta}",
            )
            .expect("the template is well-formed");
            ProgressBar::new(0)
                .with_style(style.progress_chars("=> "))
                .with_prefix(what)
        });
        Self {
            what,
            bar,
            said: Instant::now(),
            begun: None,
        }
    }

    /// `done` of `of` are done.
    pub(crate) fn at(&mut self, done: u64, of: u64) {
        let (begin, before) = *self.begun.get_or_insert((Instant::now(), done));
        match &self.bar {
            Some(bar) => {
                bar.set_length(of);
                bar.set_position(done);
            }
            None if self.said.elapsed() >= LINE_EVERY => {
                self.said = Instant::now();
                // Standard error that is closed is nobody's loss.
                let left = left(
                    begin.elapsed(),
                    done.saturating_sub(before),
                    of.saturating_sub(done),
                );
                let _ = writeln!(io::stderr(), "{}: {done} of {of}{left}", self.what);
            }
            None => {}
        }
    }
}

/// How long the rest takes at the pace so far, as it is said; nothing if there is no pace yet.
fn left(elapsed: Duration, done: u64, rest: u64) -> String {
    if done == 0 {
        return String::new();
    }
    let seconds = elapsed.as_secs_f64() / done as f64 * rest as f64;
    match seconds {
        0.0..100.0 => format!(", {seconds:.0} s left"),
        100.0..6000.0 => format!(", {:.0} min left", seconds / 60.0),
        _ => format!(", {:.1} h left", seconds / 3600.0),
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_told_at_the_pace_so_far() {
        let minute = Duration::from_secs(60);
        assert_eq!(left(minute, 0, 5), "");
        assert_eq!(left(minute, 60, 9), ", 9 s left");
        assert_eq!(left(minute, 1, 10), ", 10 min left");
        assert_eq!(left(minute, 1, 1000), ", 16.7 h left");
    }
}
