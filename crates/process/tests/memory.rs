//! What the allocator keeps. The only test of its program: others would allocate meanwhile.
#![cfg(target_env = "gnu")]

/// Resident memory that is in no file, in KiB.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn what_threads_free_is_given_back() {
    cricket_process::memory::give_back();
    let before = anonymous();
    let work = || {
        // Below and above the limit for blocks of their own, freed in the order they were made.
        let blocks: Vec<Vec<u8>> = (0..200).map(|n| vec![1; 16 * 1024 + n * 1024]).collect();
        std::hint::black_box(&blocks);
    };
    // How much the end of a heap holds depends on which thread frees last.
    let left = (0..10).map(|_| {
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(work)).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("join"));
        anonymous().saturating_sub(before)
    });
    let left: Vec<u64> = left.collect();
    assert!(left.iter().any(|left| *left < 4 * 1024), "{left:?} KiB of 90 MiB are left");
}
