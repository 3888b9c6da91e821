//! Standard output: buffered, and quiet when whoever reads it goes away.

use std::{
    fmt,
    io::{self, BufWriter, IsTerminal, StdoutLock, Write},
};

use serde::Serialize;
use serde_json::Value;

use crate::{failure::Failure, people};

/// Standard output as one command uses it.
pub(crate) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            out: BufWriter::new(io::stdout().lock()),
            json,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Raw bytes are not for people to look at.
    pub(crate) fn refuse_terminal(&self, raw: bool) -> Result<(), Failure> {
        if raw && io::stdout().is_terminal() {
            return Err(Failure::Usage(
                "this writes bytes, which a terminal cannot show: redirect it to a file, or pipe it to `xxd`".to_owned(),
            ));
        }
        Ok(())
    }

    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.bytes(line.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Prints a value: as JSON over several lines, or for people.
    pub(crate) fn value(&mut self, value: &Value) -> Result<(), Failure> {
        if self.json {
            self.line(&format!("{value:#}"))
        } else {
            self.bytes(people::show(value).as_bytes())
        }
    }

    /// Prints what a job of the library reports, as it tells it itself.
    pub(crate) fn report(
        &mut self,
        report: &(impl Serialize + fmt::Display),
    ) -> Result<(), Failure> {
        if self.json {
            let value = serde_json::to_value(report)
                .map_err(|error| Failure::No(format!("cannot print the report: {error}")))?;
            self.value(&value)
        } else {
            self.bytes(report.to_string().as_bytes())
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|error| failed(&error))
    }

    /// Must be called at the end: what cannot be written is an error, not a loss.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| failed(&error))
    }
}

fn failed(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::ReaderGone
    } else {
        Failure::No(format!("cannot write to standard output: {error}"))
    }
}
