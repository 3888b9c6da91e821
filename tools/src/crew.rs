//! Work shared by threads: units that do not depend on each other, taken in order, with progress.

use std::{
    ops::ControlFlow,
    sync::{
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

use crate::{progress::Progress, request::Jobs};

/// Blocks of a unit: the store's era, so that a thread reads whole files.
pub(crate) const UNIT_BLOCKS: u64 = 8192;

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(200);

/// Blocks that were looked at, for the progress of all threads together.
#[derive(Default)]
pub(crate) struct Done(AtomicU64);

impl Done {
    pub(crate) fn add(&self, blocks: u64) {
        self.0.fetch_add(blocks, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Blocks `from..=to` cut where eras begin.
pub(crate) fn units(from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut units = Vec::new();
    let mut first = from;
    while first <= to {
        let last = (first / UNIT_BLOCKS * UNIT_BLOCKS + (UNIT_BLOCKS - 1)).min(to);
        units.push((first, last));
        first = last + 1;
    }
    units
}

/// Does `work` on each of `units`, as many at a time as there are jobs. Results come to `take` on this thread, in any order, with the
/// place of their unit; it ends the work by breaking. At most twice as many results wait as there are jobs.
pub(crate) fn share<U: Sync, R: Send>(
    units: &[U],
    Jobs(jobs): Jobs,
    (progress, done, of): (&mut Progress, &Done, u64),
    work: impl Fn(&U) -> R + Sync,
    mut take: impl FnMut(usize, R) -> ControlFlow<()>,
) {
    let next = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    let (give, results) = sync_channel(2 * jobs);
    thread::scope(|scope| {
        for _ in 0..jobs.min(units.len()) {
            let give = give.clone();
            let (next, stopped, work) = (&next, &stopped, &work);
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(unit) = units.get(at) else { break };
                    if give.send((at, work(unit))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(give);
        loop {
            match results.recv_timeout(TICK) {
                Ok((at, result)) => {
                    if take(at, result).is_break() {
                        stopped.store(true, Ordering::Relaxed);
                        // A thread that waits to give sees that nobody takes.
                        drop(results);
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            progress.at(done.get(), of);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_end_where_eras_end() {
        assert_eq!(units(5, 5), [(5, 5)]);
        assert_eq!(units(0, 8191), [(0, 8191)]);
        assert_eq!(units(8191, 8192), [(8191, 8191), (8192, 8192)]);
        assert_eq!(
            units(8000, 20000),
            [(8000, 8191), (8192, 16383), (16384, 20000)]
        );
    }

    #[test]
    fn every_unit_is_worked_on_once_by_any_number_of_threads() {
        for jobs in [1, 2, 7, 100] {
            let units: Vec<u64> = (0..50).collect();
            let done = Done::default();
            let mut results = vec![0; units.len()];
            let mut progress = Progress::new("testing");
            let work = |unit: &u64| {
                done.add(1);
                unit * 2
            };
            share(
                &units,
                Jobs(jobs),
                (&mut progress, &done, 50),
                work,
                |at, result| {
                    results[at] += result;
                    ControlFlow::Continue(())
                },
            );
            assert_eq!(results, (0..50).map(|unit| unit * 2).collect::<Vec<_>>());
            assert_eq!(done.get(), 50);
        }
    }

    #[test]
    fn breaking_ends_the_work_early() {
        let units: Vec<u64> = (0..10_000).collect();
        let done = Done::default();
        let mut progress = Progress::new("testing");
        share(
            &units,
            Jobs(2),
            (&mut progress, &done, 0),
            |_| done.add(1),
            |_, ()| ControlFlow::Break(()),
        );
        assert!(done.get() < 100, "{}", done.get());
    }
}
