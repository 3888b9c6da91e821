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
        }
    }

    /// `done` of `of` are done.
    pub(crate) fn at(&mut self, done: u64, of: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(of);
                bar.set_position(done);
            }
            None if self.said.elapsed() >= LINE_EVERY => {
                self.said = Instant::now();
                // Standard error that is closed is nobody's loss.
                let _ = writeln!(io::stderr(), "{}: {done} of {of}", self.what);
            }
            None => {}
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
