//! Becoming the command, and what of it has no safe wrapper.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::ptr;

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

/// `struct sched_attr` of linux/sched/types.h.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Scheduling {
    /// Bytes of this structure; set by [`set_scheduling`].
    pub(crate) size: u32,
    /// `SCHED_*`.
    pub(crate) policy: u32,
    /// `SCHED_FLAG_*`.
    pub(crate) flags: u64,
    /// Of the ordinary policies.
    pub(crate) nice: i32,
    /// Of the real-time policies.
    pub(crate) priority: u32,
    /// Of the deadline policy, nanoseconds.
    pub(crate) runtime: u64,
    /// As above.
    pub(crate) deadline: u64,
    /// As above.
    pub(crate) period: u64,
    /// Hints, of 1024.
    pub(crate) util_min: u32,
    /// As above.
    pub(crate) util_max: u32,
}

/// sched_setattr(2) for this process.
pub(crate) fn set_scheduling(mut attributes: Scheduling) -> io::Result<()> {
    attributes.size = size_of::<Scheduling>() as u32;
    // SAFETY: a structure of integers whose size it carries; 0 is the caller.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
