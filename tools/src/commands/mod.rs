//! The commands, one in a file each.

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
        Request::Verify(store) => verify::run(&store),
        Request::Generate(args) => generate::run(&args),
    }
}
