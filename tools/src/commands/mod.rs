//! The commands, one in a file each.

mod bench;
mod dump;
mod export;
mod gaps;
mod generate;
mod get;
mod import;
mod info;
mod list;
mod prune;
mod rebuild_index;
mod repair;
mod stats;
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
        Request::Stats(store, stats) => stats::run(&store, &stats),
        Request::Bench(store, time) => bench::run(&store, time),
        Request::Export(store, export) => export::run(&store, &export),
        Request::Import(store, import) => import::run(&store, &import),
        Request::Prune(store, prune) => prune::run(&store, &prune),
        Request::RebuildIndex(store) => rebuild_index::run(&store),
        Request::Repair(store, dry_run) => repair::run(&store, dry_run),
        Request::Generate(args) => generate::run(&args),
    }
}
