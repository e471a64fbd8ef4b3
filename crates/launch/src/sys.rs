//! The few system calls without a safe wrapper.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::FdFlags;

/// Makes every descriptor above 2 close-on-exec.
pub(crate) fn protect_descriptors() -> io::Result<()> {
    // SAFETY: changes flags of descriptors, closes none.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes ownership of an inherited descriptor; `None` when there is none of that number. Each number is taken once.
pub(crate) fn take(number: i32) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: the protocol gives the helper this descriptor for its own, and nothing else in the program has it;
    // whether it is open is asked before it is used for anything else.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    match rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC) {
        Ok(()) => Some(fd),
        Err(_) => {
            std::mem::forget(fd);
            None
        }
    }
}

/// Gives every signal its default action and unblocks all: Rust ignores SIGPIPE, and a parent may have left others
/// ignored or blocked, which execve(2) would hand on.
pub(crate) fn reset_signals() {
    // SAFETY: the set is initialised by sigemptyset before it is used; SIG_DFL is valid for every signal, and those
    // that cannot be changed (SIGKILL, SIGSTOP, the C library's own) are refused with an error that does not matter.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

/// execve(2); returns only to say why it failed.
pub(crate) fn execve(path: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer, and they and their strings live through the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}
