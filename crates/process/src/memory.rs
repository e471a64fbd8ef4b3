//! How the allocator behaves.

/// Makes glibc's allocator give freed memory back: two heaps instead of eight for each processor, large blocks always
/// mapped by themselves (the limit for them would otherwise grow with what is freed, up to 32 MiB), and ends of heaps
/// trimmed (mallopt(3)). For a daemon that is idle most of the time. Before the first thread; nothing elsewhere.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only stores numbers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024);
    }
}

/// Gives back what is free between blocks in use, which glibc keeps otherwise (malloc_trim(3)). Takes up to a
/// millisecond for each few megabytes: for a moment when there is nothing to do.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
