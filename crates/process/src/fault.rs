//! Named points at which a test may have the daemon die, or stand still.
//!
//! `CRICKET_FAULT=NAME` in the daemon's environment kills the process (SIGKILL, as an OOM kill or a power cut would)
//! the first time it reaches that point; `CRICKET_FAULT=halt:NAME` stops it there once (SIGSTOP), so that something else
//! can be done to its processes just then. Without the variable a point is one load and a branch.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// Dies, or halts, here when the environment says so.
pub fn point(name: &str) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    static HALTED: AtomicBool = AtomicBool::new(false);
    let Some(wanted) = WANTED.get_or_init(|| std::env::var("CRICKET_FAULT").ok()) else { return };
    if wanted == name {
        let _ = kill_process(getpid(), Signal::KILL);
    } else if wanted.strip_prefix("halt:") == Some(name) && !HALTED.swap(true, Ordering::Relaxed) {
        let _ = kill_process(getpid(), Signal::STOP);
        // The signal may be another thread's first, and this one is stopped a moment later.
        std::thread::sleep(Duration::from_millis(20));
    }
}
