//! Signal dispositions and masks.

use std::io;

use crate::error::check;

/// Gives every signal its default disposition and unblocks all of them, for the calling process (dispositions) and
/// thread (mask): a Rust program ignores `SIGPIPE`, and an ignored signal stays ignored across execve.
///
/// Async-signal-safe; asks the kernel directly, because libc refuses the two signals that it keeps for itself.
pub fn reset() -> io::Result<()> {
    // The kernel's `struct sigaction`: handler (SIG_DFL is 0), flags, restorer, mask.
    let default = [0_u64; 4];
    let empty = 0_u64;
    let size = size_of::<u64>();
    for signal in 1..=64 {
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            continue;
        }
        let none = std::ptr::null::<u64>();
        // SAFETY: a valid action that calls nothing, and the size of the kernel's signal set.
        check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, none, size) })?;
    }
    let none = std::ptr::null::<u64>();
    // SAFETY: a valid set of that size.
    check(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const empty, none, size) })?;
    Ok(())
}
