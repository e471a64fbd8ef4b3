//! The process behind a monitor's socket, for when it does not answer.
//!
//! A socket's peer is whoever called listen(2) last (unix(7), `SO_PEERCRED`), which a monitor does when it starts;
//! before that it is the daemon that made the socket. So nothing is taken for a monitor by its PID alone.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use cricket_model::SandboxId;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::MonitorError;
use super::connection::register;

/// A killed process ends within this, unless it is in an uninterruptible sleep.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// Reading a command line takes the process's memory lock, which a process that is stuck may have.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// A monitor's `argv[0]`.
pub(super) const ARGV0: &str = "cricket-monitor";

/// Who listens on a socket.
pub(super) struct Peer {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Peer {
    /// The listener that a connected socket was connected to; `None` if it has ended.
    pub(super) fn of(socket: &OwnedFd) -> Option<Self> {
        let pid = rustix::net::sockopt::socket_peercred(socket).ok()?.pid;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        Some(Self { pid, pidfd })
    }

    /// Whether it is stopped, traced, or in an uninterruptible sleep: `T`, `t`, `D` of proc_pid_stat(5).
    pub(super) fn is_halted(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't', 'D']))
    }

    /// Its pidfd, if it lives and is this sandbox's monitor.
    pub(super) async fn monitor_of(self, sandbox: &SandboxId) -> Option<OwnedFd> {
        let path = format!("/proc/{}/cmdline", self.pid);
        let read = tokio::task::spawn_blocking(move || std::fs::read(path));
        let line = tokio::time::timeout(READ_TIMEOUT, read).await.ok()?.ok()?.ok()?;
        // A process that has ended has none, and its PID is nobody else's while the pidfd can be signalled.
        (line == format!("{ARGV0}\0{sandbox}\0").as_bytes()).then_some(())?;
        let pidfd = cricket_process::Pidfd::from_fd(self.pidfd).ok()?;
        pidfd.is_alive().ok()?.then(|| pidfd.into())
    }
}

/// Ends a monitor that does not answer, so that it can be replaced. It runs no instruction more once this returns,
/// also where the kernel keeps it in an uninterruptible sleep.
///
/// # Errors
/// When the signal cannot be sent; a process that has ended is no error.
pub async fn kill_stuck(monitor: impl AsFd) -> Result<(), MonitorError> {
    let failed = MonitorError::io("kill a monitor that does not answer");
    match pidfd_send_signal(&monitor, Signal::KILL) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(failed(errno.into())),
    }
    let ended = async {
        let pidfd = register(monitor.as_fd().try_clone_to_owned()?)?;
        pidfd.readable().await?.retain_ready();
        std::io::Result::Ok(())
    };
    match tokio::time::timeout(KILL_TIMEOUT, ended).await {
        Ok(result) => result.map_err(failed),
        Err(_) => {
            tracing::warn!("a killed monitor is in an uninterruptible sleep");
            Ok(())
        }
    }
}
