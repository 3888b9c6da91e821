//! Has the allocator give back what is freed: a node that has caught up is as small as one that has just started.
//!
//! glibc keeps freed memory for each thread that asked for some, and large pieces too once a few of them were freed; a catch-up
//! that held 32 MiB would be seen in the node's size for ever. Elsewhere this does nothing.
#![allow(unsafe_code)] // two calls of the C library that take numbers

/// Pieces from this size on are maps of their own, which go back to the system when they are freed: answers with bodies are, what
/// serving uses again and again is not freed.
const MAP_FROM_BYTES: i32 = 256 << 10;
/// Freed memory at the end of the heap that is kept.
const KEEP_BYTES: i32 = 1 << 20;
/// Heaps at the most: threads share them, for they allocate little.
const HEAPS_MAX: i32 = 2;

/// Sets the allocator up; to be called before there are threads.
pub fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let options = [
            (libc::M_MMAP_THRESHOLD, MAP_FROM_BYTES),
            (libc::M_TRIM_THRESHOLD, KEEP_BYTES),
            (libc::M_ARENA_MAX, HEAPS_MAX),
        ];
        for (option, value) in options {
            // SAFETY: `mallopt` takes two numbers, and there is one thread.
            if unsafe { libc::mallopt(option, value) } == 0 {
                log::debug!("The allocator does not take option {option}={value}");
            }
        }
    }
}

/// Gives what is freed back to the system: some milliseconds.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes a number and locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}
