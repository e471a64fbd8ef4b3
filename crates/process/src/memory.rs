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

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    /// Resident memory that is in no file, in KiB.
    fn anonymous() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[test]
    fn what_threads_free_is_given_back() {
        super::give_back();
        let before = anonymous();
        let work = || {
            // Below and above the limit for blocks of their own, freed in the order they were made.
            let blocks: Vec<Vec<u8>> = (0..200).map(|n| vec![1; 16 * 1024 + n * 1024]).collect();
            std::hint::black_box(&blocks);
        };
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(work)).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("join"));
        let left = anonymous().saturating_sub(before);
        assert!(left < 4 * 1024, "{left} KiB of 90 MiB are left");
    }
}
