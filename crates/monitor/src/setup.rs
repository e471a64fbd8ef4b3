//! What the process makes of itself before it serves.

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::process::{getpid, set_child_subreaper, setsid, umask};

/// Never the first choice of the OOM killer, as containers' monitors are everywhere.
const OOM_SCORE: i32 = -999;

/// Detaches from whoever started it, becomes the parent of orphans and gives the descriptor that tells of `SIGCHLD`.
/// Closes all descriptors above `last`.
pub(crate) fn prepare(last: i32) -> io::Result<OwnedFd> {
    close_above(last)?;
    // EPERM: it leads a session already.
    let _ = setsid();
    set_child_subreaper(Some(getpid()))?;
    rustix::thread::set_name(c"cricket-monitor")?;
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    std::env::set_current_dir("/")?;
    // Lowering it takes CAP_SYS_RESOURCE; without it the score of the daemon stays.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE.to_string());
    frugal_allocator();
    signals()
}

fn close_above(last: i32) -> io::Result<()> {
    // SAFETY: called first thing, when nothing in this program owns a descriptor above the ones it was started with.
    let result = unsafe { libc::syscall(libc::SYS_close_range, last + 1, libc::c_int::MAX, 0) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One heap for both threads, given back to the kernel as soon as it is free: idle monitors are many.
fn frugal_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only stores numbers; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 * 1024);
        libc::mallopt(libc::M_TOP_PAD, 4 * 1024);
    }
}

/// Blocks the signals that could end it (only `SIGKILL` ends a monitor), and makes `SIGCHLD` readable.
fn signals() -> io::Result<OwnedFd> {
    // SAFETY: sigset_t is plain data and initialised by sigemptyset before its use; signalfd copies it and returns a
    // new descriptor, which nobody else owns.
    unsafe {
        let mut children: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut children);
        libc::sigaddset(&raw mut children, libc::SIGCHLD);
        let mut blocked = children;
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2] {
            libc::sigaddset(&raw mut blocked, signal);
        }
        let errno = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, std::ptr::null_mut());
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let fd = libc::signalfd(-1, &raw const children, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd == -1 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}
