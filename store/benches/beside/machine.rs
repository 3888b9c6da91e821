//! What the kernel says of this process: CPU time, bytes written, memory of its own, and of files on the disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Time this process has been on a CPU, in the kernel too, with all its threads.
pub(crate) fn cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// The same of this thread alone: reading is measured by it, so that a busy machine does not count.
pub(crate) fn thread_cpu() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// Bytes this process gave to calls that write.
pub(crate) fn written() -> u64 {
    field("/proc/self/io", "wchar")
}

fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Memory of this process that no file is behind, in KiB.
pub(crate) fn anon_kib() -> u64 {
    field("/proc/self/status", "RssAnon")
}

/// Bytes of disk that a folder's files take.
pub(crate) fn size_of(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let data = entry.metadata().unwrap();
        sum += if data.is_dir() {
            size_of(&entry.path())
        } else {
            512 * data.blocks()
        };
    }
    sum
}

/// The most memory of its own this process has, looked at every five milliseconds.
pub(crate) struct Peak {
    kib: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    before_kib: u64,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    /// What the process has now is the benchmark's own and does not count.
    pub(crate) fn begin() -> Peak {
        let (kib, done) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (seen, stop) = (kib.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                seen.fetch_max(anon_kib(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Peak {
            kib,
            done,
            before_kib: anon_kib(),
            thread: Some(thread),
        }
    }

    /// The most since this was asked last, in MiB.
    pub(crate) fn take_mib(&self) -> f64 {
        let kib = self.kib.swap(0, Ordering::Relaxed).max(anon_kib());
        kib.saturating_sub(self.before_kib) as f64 / 1024.0
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
