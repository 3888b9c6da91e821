//! `cairn-store`: looks into the block store of cairn, and makes test chains. Arguments -> request -> command -> exit code.
//!
//! Exit status: 0 all is well, 1 the answer is no (the store is not sound, there is no such block), 2 the question cannot be asked
//! (wrong usage, no store there, a file that cannot be written). Answers go to standard output, everything else to standard error.

mod block;
mod chain;
mod cli;
mod commands;
mod crew;
mod failure;
mod follow;
mod locate;
mod output;
mod people;
mod progress;
mod request;
mod rlp;
mod svg;
mod view;

use std::process::ExitCode;

use clap::Parser;

use failure::Failure;

#[expect(clippy::print_stderr, reason = "the one place that prints errors")]
fn main() -> ExitCode {
    let typed = cli::Cli::parse();
    match request::Request::new(typed).and_then(commands::run) {
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cairn-store: {failure}");
            ExitCode::from(failure.exit_status())
        }
    }
}
