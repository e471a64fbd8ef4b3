//! Clones this process, which has one thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What makes the child differ.
#[derive(Debug, Default)]
pub(crate) struct Clone<'fd> {
    /// It is the init of a new PID namespace.
    pub(crate) new_pid_namespace: bool,
    /// It starts in this cgroup (v2).
    pub(crate) cgroup: Option<BorrowedFd<'fd>>,
}

/// On which side of the clone the caller is.
pub(crate) enum Side {
    /// The helper, with the child's PID as it sees it.
    Parent(i32),
    /// The child.
    Child,
}

impl Clone<'_> {
    /// Makes a child of this process's *parent*, with a copy of this process's memory.
    pub(crate) fn run(&self) -> io::Result<Side> {
        // SAFETY: a structure of integers, for which zero is a value.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        // The exit signal of such a child is that of this process, so it has to be given as 0.
        args.flags = libc::CLONE_PARENT as u64;
        if self.new_pid_namespace {
            args.flags |= libc::CLONE_NEWPID as u64;
        }
        if let Some(cgroup) = self.cgroup {
            // Bit 33: above what fits the flags of clone(2).
            args.flags |= 0x2_0000_0000;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        // SAFETY: memory is copied, not shared, and this process has one thread, so that no lock is held by another;
        // both sides go on as after fork(2).
        match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) } {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(Side::Child),
            pid => Ok(Side::Parent(pid as i32)),
        }
    }
}
