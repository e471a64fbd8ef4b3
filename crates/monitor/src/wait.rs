//! Looking at ended children, and reaping them: two steps, for a record is written in between.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use cricket_process::{ExitStatus, Pidfd};

/// What waitid(2) says of a child.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// Its PID.
    pub(crate) pid: i32,
    /// How it ended.
    pub(crate) status: ExitStatus,
}

/// The child of this pidfd, if it has ended; it stays a zombie. `ECHILD`: it is no child of this process.
pub(crate) fn look(pidfd: impl AsFd) -> io::Result<Option<Ended>> {
    waitid(libc::P_PIDFD, pidfd.as_fd().as_raw_fd().cast_unsigned(), libc::WNOWAIT)
}

/// Any child that has ended; it stays a zombie.
pub(crate) fn look_any() -> io::Result<Option<Ended>> {
    waitid(libc::P_ALL, 0, libc::WNOWAIT)
}

/// Reaps the child of this pidfd if it has ended.
pub(crate) fn reap(pidfd: impl AsFd) -> io::Result<Option<Ended>> {
    waitid(libc::P_PIDFD, pidfd.as_fd().as_raw_fd().cast_unsigned(), 0)
}

/// Reaps the child with this PID if it has ended.
pub(crate) fn reap_pid(pid: i32) -> io::Result<Option<Ended>> {
    waitid(libc::P_PID, pid.cast_unsigned(), 0)
}

/// How a process ended that is no child.
pub(crate) fn status_of_stranger(pidfd: &impl AsFd) -> Option<ExitStatus> {
    let pidfd = Pidfd::from_fd(pidfd.as_fd().try_clone_to_owned().ok()?).ok()?;
    pidfd.exit_status().ok()?
}

fn waitid(kind: libc::idtype_t, id: u32, flags: i32) -> io::Result<Option<Ended>> {
    // __WALL: a helper may have made a child that sends no SIGCHLD.
    let flags = flags | libc::WEXITED | libc::WNOHANG | libc::__WALL;
    // SAFETY: siginfo_t is plain data; with WNOHANG and no ended child waitid leaves si_pid zero.
    let (result, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        (libc::waitid(kind, id, &raw mut info, flags), info)
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid fills these fields for every child it reports.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let status = if info.si_code == libc::CLD_EXITED {
        ExitStatus::Code(status as u8)
    } else {
        ExitStatus::Signal(status as u8)
    };
    Ok(Some(Ended { pid, status }))
}
