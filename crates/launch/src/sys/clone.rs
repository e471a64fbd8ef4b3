//! Clones this process, which has one thread, and makes namespaces.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `CLONE_INTO_CGROUP` of linux/sched.h: above what fits the flags of clone(2).
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// What makes the child differ.
#[derive(Debug, Default)]
pub(crate) struct Clone<'fd> {
    /// It is the init of a new PID namespace.
    pub(crate) new_pid_namespace: bool,
    /// It starts in this cgroup (v2).
    pub(crate) cgroup: Option<BorrowedFd<'fd>>,
}

/// On which side of the clone the caller is.
#[derive(Debug)]
pub(crate) enum Side {
    /// The one that cloned.
    Parent {
        /// The child's PID as this process sees it.
        pid: i32,
        /// Its pidfd: the PID alone may be another's already, for the child's parent reaps.
        pidfd: OwnedFd,
    },
    /// The child.
    Child,
}

impl Clone<'_> {
    /// Makes a child of this process's *parent*, with a copy of this process's memory.
    pub(crate) fn run(&self) -> io::Result<Side> {
        // SAFETY: a structure of integers, for which zero is a value.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        // The exit signal of such a child is that of this process, so it has to be given as 0.
        args.flags = (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;
        let mut pidfd: libc::c_int = -1;
        args.pidfd = &raw mut pidfd as u64;
        if self.new_pid_namespace {
            args.flags |= libc::CLONE_NEWPID as u64;
        }
        if let Some(cgroup) = self.cgroup {
            args.flags |= INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        // SAFETY: memory is copied, not shared, and this process has one thread, so that no lock is held by another;
        // both sides go on as after fork(2).
        match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) } {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(Side::Child),
            pid => {
                // SAFETY: clone3 has stored a new descriptor there that nobody else owns.
                let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
                Ok(Side::Parent { pid: pid as i32, pidfd })
            }
        }
    }
}

/// unshare(2) of namespaces.
pub(crate) fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: the flags are those of namespaces (the caller's type has no others), and this process has one thread.
    if unsafe { libc::unshare(namespaces) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ends this process; nothing is dropped or flushed.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}
