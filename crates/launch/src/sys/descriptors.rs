//! Descriptors by number: those of the protocol, of the terminal, and those that a command must not find.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

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

/// Borrows standard input, output or error, which are open as long as this process runs.
pub(crate) fn stdio(number: i32) -> BorrowedFd<'static> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: the protocol gives the helper these three, and nothing closes them.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Closes every descriptor above 2 but these, which come back under new numbers, close-on-exec. No owner of any other
/// may be used or dropped afterwards: the caller executes or exits.
pub(crate) fn keep_only<const N: usize>(fds: [Option<OwnedFd>; N]) -> io::Result<[Option<OwnedFd>; N]> {
    let first = fds.iter().flatten().map(AsRawFd::as_raw_fd).max().unwrap_or(2).max(2 + N as i32) + 1;
    let mut kept = [const { None }; N];
    // First out of the way, above all that is kept; then down to 3 and up.
    for (to, fd) in kept.iter_mut().zip(fds) {
        *to = fd.map(|fd| rustix::io::fcntl_dupfd_cloexec(&fd, first)).transpose()?;
    }
    let mut number = 3;
    for fd in kept.iter_mut().filter_map(Option::as_mut) {
        // The one above is closed below with all others.
        let _ = std::mem::replace(fd, place(fd, number)?).into_raw_fd();
        number += 1;
    }
    // SAFETY: the callers use none of what is closed again, as this function's contract says.
    let done = unsafe { libc::syscall(libc::SYS_close_range, number, libc::c_uint::MAX, 0) };
    if done == 0 { Ok(kept) } else { Err(io::Error::last_os_error()) }
}

/// Puts a duplicate at `number`, whatever was there.
fn place(fd: &OwnedFd, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: integers; what was at `number` is not used again, as for `keep_only`.
    if unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and by the contract nobody else owns that number any more.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The other end of a terminal, by ioctl: its path is the container's to change.
pub(crate) fn terminal_peer(master: &OwnedFd) -> io::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads an integer.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes flags by value.
    match unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a new descriptor that nobody else owns.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Makes a descriptor standard input, output and error.
pub(crate) fn become_stdio(fd: BorrowedFd<'_>) -> io::Result<()> {
    for number in 0..3 {
        // SAFETY: integers; this process's own stdio stays open, as another file.
        if unsafe { libc::dup2(fd.as_raw_fd(), number) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
