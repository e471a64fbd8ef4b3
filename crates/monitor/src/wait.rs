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

/// How a process ended that is no child: its pidfd knows once it is reaped (kernel ≥ 6.15), `/proc/PID/stat` while it
/// is a zombie, and an init process may take its time to reap.
pub(crate) fn status_of_stranger(pid: i32, pidfd: &impl AsFd) -> Option<ExitStatus> {
    let pidfd = Pidfd::from_fd(pidfd.as_fd().try_clone_to_owned().ok()?).ok()?;
    if let Some(status) = pidfd.exit_info().ok()? {
        return Some(status);
    }
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let status = zombie_status(&stat)?;
    // Still this process: the number was not reused before it was read.
    (pidfd.pid().ok()? == Some(pid)).then_some(status)
}

/// The last field of a zombie's proc_pid_stat(5), `exit_code`, in the form of waitpid(2).
pub(crate) fn zombie_status(stat: &[u8]) -> Option<ExitStatus> {
    // The command's name, in parentheses, may contain anything.
    let after = stat.rsplit(|byte| *byte == b')').next()?;
    let mut fields = std::str::from_utf8(after).ok()?.split_ascii_whitespace();
    let zombie = fields.next()? == "Z";
    let code = fields.next_back()?.parse().ok()?;
    zombie.then(|| ExitStatus::from_wait_status(code))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_tells_how_it_ended() {
        let stat = |state: &str, code: i32| format!("12 (a) b) {state} 1 12 12 0 -1 0 0 {code}\n").into_bytes();
        assert_eq!(zombie_status(&stat("Z", 11 << 8)), Some(ExitStatus::Code(11)));
        assert_eq!(zombie_status(&stat("Z", 9)), Some(ExitStatus::Signal(9)));
        assert_eq!(zombie_status(&stat("S", 0)), None);
        assert_eq!(zombie_status(b""), None);
    }
}
