//! Named points at which a test may have the daemon die.
//!
//! `CRICKET_FAULT=NAME` in the daemon's environment kills the process (SIGKILL, as an OOM kill or a power cut would)
//! the first time it reaches that point. Without the variable a point is one load and a branch.

use std::sync::OnceLock;

/// Dies here when the environment says so.
pub fn point(name: &str) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    if WANTED.get_or_init(|| std::env::var("CRICKET_FAULT").ok()).as_deref() == Some(name) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
