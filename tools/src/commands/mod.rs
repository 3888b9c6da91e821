//! The commands, one in a file each.

mod dump;
mod gaps;
mod generate;
mod get;
mod info;
mod list;
mod verify;

use crate::{failure::Failure, request::Request};

/// Carries out `request`, printing to standard output.
pub(crate) fn run(request: Request) -> Result<(), Failure> {
    match request {
        Request::Info(store) => info::run(&store),
        Request::List(store, range) => list::run(&store, range),
        Request::Get(store, get) => get::run(&store, &get),
        Request::Dump(store, dump) => dump::run(&store, &dump),
        Request::Gaps(store, jobs) => gaps::run(&store, jobs),
        Request::Verify(store, verify) => verify::run(&store, &verify),
        Request::Generate(args) => generate::run(&args),
    }
}
