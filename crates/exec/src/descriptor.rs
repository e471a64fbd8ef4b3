//! Descriptors that were handed to this process by number.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

use crate::failure::{Doing, Failure};

/// Borrows the descriptor `number` for as long as the process runs.
pub(crate) fn borrow(number: i32) -> Result<BorrowedFd<'static>, Failure> {
    if number < 0 {
        return Err(Failure::host(format!("{number} is not a descriptor")));
    }
    // SAFETY: the number is not negative, and nothing in this process closes what it was handed: `take` is used for
    // the configuration only. Whether it is open at all is asked before anything else is done with it.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfd(fd).doing(&format!("use descriptor {number}"))?;
    Ok(fd)
}

/// Takes the descriptor `number`, which is not used through `borrow`.
pub(crate) fn take(number: i32) -> Result<OwnedFd, Failure> {
    borrow(number)?;
    // SAFETY: it is open, and by the protocol it belongs to this process.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes every descriptor from `first` on close at execve.
pub(crate) fn close_on_exec_from(first: i32) -> Result<(), Failure> {
    // SAFETY: changes flags of this process's descriptors only.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, i32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == -1 { Err(std::io::Error::last_os_error()).doing("mark descriptors to be closed") } else { Ok(()) }
}

/// Closes every descriptor from `first` on. Owners of these must never be dropped afterwards.
pub(crate) fn close_from(first: i32) -> Result<(), Failure> {
    // SAFETY: the callers (children that execute or exit without unwinding) use none of them again.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, i32::MAX, 0) };
    if result == -1 { Err(std::io::Error::last_os_error()).doing("close descriptors") } else { Ok(()) }
}

/// Puts a duplicate of `fd` at `number`, whatever was there, and lets it close at execve or not.
pub(crate) fn place(fd: BorrowedFd<'_>, number: i32, close_on_exec: bool) -> Result<BorrowedFd<'static>, Failure> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() != number {
        // SAFETY: integers; what was at `number` is not used again, as for `close_from`.
        if unsafe { libc::dup2(fd.as_raw_fd(), number) } == -1 {
            return Err(std::io::Error::last_os_error()).doing(&format!("move a descriptor to {number}"));
        }
    }
    let placed = borrow(number)?;
    let flags = if close_on_exec { FdFlags::CLOEXEC } else { FdFlags::empty() };
    fcntl_setfd(placed, flags).doing("set a descriptor's flags")?;
    Ok(placed)
}
