//! Handles of processes that cannot come to mean another process: a pidfd, and a PID with its start time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result, check};

/// A process as a record names it: PIDs are reused, a PID with its start time is not (within one boot).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// PID in the caller's PID namespace.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`, see proc_pid_stat(5): clock ticks since the boot.
    pub start_time: u64,
}

impl ProcessIdentity {
    /// Reads the start time of `pid`. `NotFound` where there is no such process.
    pub fn of(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        // ESRCH is the answer for a process that is reaped between the open and the read.
        let stat = std::fs::read(&path).map_err(gone_is_not_found).doing(|| format!("read {path}"))?;
        let start_time = parse_start_time(&stat)
            .ok_or_else(|| Error::new(format!("read {path}"), io::Error::from(io::ErrorKind::InvalidData)))?;
        Ok(Self { pid, start_time })
    }

    /// The process, unless it is gone or its PID belongs to another one now.
    pub fn open(&self) -> Result<Option<Pidfd>> {
        let pidfd = match Pidfd::open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.io().kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // The pidfd is held, so whatever the start time says now it says about the process the pidfd names.
        match Self::of(self.pid) {
            Ok(now) if now == *self => Ok(Some(pidfd)),
            Ok(_) => Ok(None),
            Err(error) if error.io().kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By exit(2) with this status.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl ExitStatus {
    /// From the status word of wait(2).
    pub fn from_wait_status(status: i32) -> Self {
        let signal = status & 0x7f;
        if signal == 0 { Self::Code((status >> 8) as u8) } else { Self::Signal(signal as u8) }
    }

    /// The last field of a zombie's proc_pid_stat(5), `exit_code`, in the form of waitpid(2), also of one that is just being
    /// reaped (`X`); `None` of a process that lives.
    pub fn of_zombie(stat: &[u8]) -> Option<Self> {
        // The command's name, in parentheses, may contain anything.
        let after = stat.rsplit(|byte| *byte == b')').next()?;
        let mut fields = std::str::from_utf8(after).ok()?.split_ascii_whitespace();
        let zombie = ["Z", "X"].contains(&fields.next()?);
        let code = fields.next_back()?.parse().ok()?;
        zombie.then(|| Self::from_wait_status(code))
    }

    /// As a shell counts: the status, or 128 + the signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code.into(),
            Self::Signal(signal) => 128 + i32::from(signal),
        }
    }
}

/// An open pidfd, see pidfd_open(2).
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens the process `pid`. `NotFound` where there is none.
    pub fn open(pid: i32) -> Result<Self> {
        let action = || format!("open process {pid}");
        let Some(raw) = rustix::process::Pid::from_raw(pid) else {
            return Err(Error::invalid(action(), "not a process ID"));
        };
        pidfd_open(raw, PidfdFlags::empty()).map(Self).map_err(io::Error::from).map_err(gone_is_not_found).doing(action)
    }

    /// Takes a descriptor that came from elsewhere. `InvalidInput` unless it is a pidfd.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let pidfd = Self(fd);
        pidfd.pid()?;
        Ok(pidfd)
    }

    /// Takes a descriptor that the kernel has just made as a pidfd.
    pub(crate) fn from_clone(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Its PID in the PID namespace of the mounted `/proc`; `None` when it has been reaped (or is in a namespace that
    /// is not below).
    pub fn pid(&self) -> Result<Option<i32>> {
        let mut info = info_request(libc::PIDFD_INFO_PID);
        match self.ask(&mut info) {
            Ok(()) => return Ok(Some(info.pid.cast_signed()).filter(|pid| *pid > 0)),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            // No such request before Linux 6.13, and none of other files.
            Err(_) => {}
        }
        Ok(Some(self.fdinfo_pid()?).filter(|pid| *pid > 0))
    }

    fn fdinfo_pid(&self) -> Result<i32> {
        let path = format!("/proc/self/fdinfo/{}", self.0.as_raw_fd());
        let text = std::fs::read_to_string(&path).doing(|| format!("read {path}"))?;
        text.lines()
            .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
            .ok_or_else(|| Error::invalid(format!("read {path}"), "not a pidfd"))
    }

    /// Sends a signal by number. `NotFound` when the process has been reaped; to a zombie it succeeds.
    pub fn send_signal(&self, signal: i32) -> Result<()> {
        let action = || format!("send signal {signal}");
        if signal == 0 || signal > libc::SIGRTMAX() {
            return Err(Error::invalid(action(), "not a signal"));
        }
        // SAFETY: the number is one of the kernel's signals; the real-time ones that libc keeps for itself would
        // only matter for a process of ours, and the kernel delivers them like any other.
        let signal = unsafe { Signal::from_raw_unchecked(signal) };
        pidfd_send_signal(&self.0, signal).map_err(io::Error::from).map_err(gone_is_not_found).doing(action)
    }

    /// Whether it runs: false as soon as it is a zombie.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(!self.wait(Some(Duration::ZERO))?)
    }

    /// Waits until it has ended (all its threads; reaped or not), at most `timeout`. Returns whether it has.
    ///
    /// In an event loop wait for the descriptor to become readable instead.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.map(|timeout| std::time::Instant::now() + timeout);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(std::time::Instant::now()));
            let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::new("wait for a process", error)),
                Ok(ready) => return Ok(ready > 0),
            }
        }
    }

    /// How it ended, once it has been reaped by whoever is its parent; `None` before that, and on kernels before
    /// 6.15, which do not keep it.
    pub fn exit_info(&self) -> Result<Option<ExitStatus>> {
        let mut info = info_request(libc::PIDFD_INFO_EXIT);
        match self.ask(&mut info) {
            Ok(()) if info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0 => {
                Ok(Some(ExitStatus::from_wait_status(info.exit_code)))
            }
            Ok(()) => Ok(None),
            // ENOTTY, EINVAL: no such request; ESRCH: reaped, and this kernel keeps no status.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL | libc::ESRCH)) => Ok(None),
            Err(error) => Err(Error::new("read how a process ended", error)),
        }
    }

    /// How it ended, whoever's child it is: [`Pidfd::exit_info`], or while it is a zombie (an init process may take its
    /// time to reap what it has inherited) its `/proc/PID/stat`. `None` while it lives, and where nobody knows any more.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.exit_info()? {
            return Ok(Some(status));
        }
        let Some(pid) = self.pid()? else { return self.exit_info() };
        let status = std::fs::read(format!("/proc/{pid}/stat")).ok().and_then(|stat| ExitStatus::of_zombie(&stat));
        // Still this process: the number was not reused before it was read.
        if self.pid()? == Some(pid) { Ok(status) } else { self.exit_info() }
    }

    fn ask(&self, info: &mut libc::pidfd_info) -> io::Result<()> {
        // SAFETY: the descriptor is open, and `info` is the structure that the request's number encodes.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::PIDFD_GET_INFO as _, std::ptr::from_mut(info)) };
        check(result.into()).map(drop)
    }

    /// Whether the kernel keeps exit statuses for [`Pidfd::exit_info`].
    pub fn keeps_exit_info() -> bool {
        let Ok(own) = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()) else { return false };
        let known = Self(own).ask(&mut info_request(libc::PIDFD_INFO_EXIT)).is_ok();
        // 6.13 and 6.14 know the request but keep no exit status, and answer the same for a living process.
        known && kernel_at_least(6, 15)
    }

    /// Moves the calling thread into those namespaces of the process that `kinds` names, see setns(2).
    ///
    /// `MOUNT` and `USER` want a process with one thread; `PID` takes effect for children.
    pub fn join_namespaces(&self, kinds: crate::namespaces::Kinds) -> Result<()> {
        // SAFETY: setns takes plain integers.
        let result = unsafe { libc::setns(self.0.as_raw_fd(), kinds.bits()) };
        check(result.into()).map_err(gone_is_not_found).doing(|| format!("join namespaces ({kinds})")).map(drop)
    }

    /// A duplicate of the descriptor.
    pub fn try_clone(&self) -> Result<Self> {
        self.0.try_clone().map(Self).doing(|| "duplicate a pidfd")
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl From<Pidfd> for OwnedFd {
    fn from(pidfd: Pidfd) -> Self {
        pidfd.0
    }
}

fn info_request(mask: libc::c_uint) -> libc::pidfd_info {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(mask);
    info
}

fn gone_is_not_found(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ESRCH) { io::Error::new(io::ErrorKind::NotFound, error) } else { error }
}

/// Whether the running kernel's release is at least `major.minor`.
pub(crate) fn kernel_at_least(major: u32, minor: u32) -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let (Some(a), Some(b)) = (numbers.next(), numbers.next()) else { return false };
    (a, b) >= (major, minor)
}

/// Field 22 of a stat line. The second field is the command in parentheses, which may hold spaces and parentheses.
pub(crate) fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let after = &stat[stat.iter().rposition(|byte| *byte == b')')? + 1..];
    std::str::from_utf8(after).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn start_time_of_a_command_with_parentheses() {
        let stat = b"12 (a) b (c)) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1000 2 3\n";
        assert_eq!(parse_start_time(stat), Some(987_654));
        assert_eq!(parse_start_time(b"12 (a"), None);
        assert_eq!(parse_start_time(b"12 (a) S 1"), None);
    }

    #[test]
    fn identity_opens_only_the_same_process() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("spawn sleep");
        let identity = ProcessIdentity::of(child.id() as i32).expect("identity");
        let pidfd = identity.open().expect("open").expect("alive");
        assert!(pidfd.is_alive().expect("alive"));
        assert_eq!(pidfd.pid().expect("pid"), Some(identity.pid));
        let other = ProcessIdentity { start_time: identity.start_time + 1, ..identity };
        assert!(other.open().expect("open").is_none());

        assert_eq!(pidfd.exit_info().expect("info"), None);
        assert_eq!(pidfd.exit_status().expect("status"), None);
        pidfd.send_signal(libc::SIGTERM).expect("signal");
        assert!(pidfd.wait(Some(Duration::from_secs(10))).expect("wait"));
        assert_eq!(pidfd.exit_status().expect("of a zombie"), Some(ExitStatus::Signal(15)));
        child.wait().expect("reap");
        assert!(identity.open().expect("open").is_none());
        assert_eq!(pidfd.pid().expect("pid"), None);
        assert_eq!(pidfd.send_signal(libc::SIGTERM).expect_err("gone").io().kind(), io::ErrorKind::NotFound);
        let expected = Pidfd::keeps_exit_info().then_some(ExitStatus::Signal(15));
        assert_eq!(pidfd.exit_info().expect("info"), expected);
        assert_eq!(pidfd.exit_status().expect("status"), expected);
    }

    #[test]
    fn a_zombie_tells_how_it_ended() {
        let stat = |state: &str, code: i32| format!("12 (a) b) {state} 1 12 12 0 -1 0 0 {code}\n").into_bytes();
        assert_eq!(ExitStatus::of_zombie(&stat("Z", 11 << 8)), Some(ExitStatus::Code(11)));
        assert_eq!(ExitStatus::of_zombie(&stat("Z", 9)), Some(ExitStatus::Signal(9)));
        assert_eq!(ExitStatus::of_zombie(&stat("X", 9)), Some(ExitStatus::Signal(9)));
        assert_eq!(ExitStatus::of_zombie(&stat("S", 0)), None);
        assert_eq!(ExitStatus::of_zombie(b""), None);
    }

    #[test]
    fn only_a_pidfd_is_taken_for_one() {
        let file = std::fs::File::open("/dev/null").expect("open");
        assert_eq!(Pidfd::from_fd(file.into()).expect_err("refused").io().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn status_words() {
        assert_eq!(ExitStatus::from_wait_status(3 << 8).shell_code(), 3);
        assert_eq!(ExitStatus::from_wait_status(9).shell_code(), 137);
        assert_eq!(ExitStatus::from_wait_status(11 | 0x80).shell_code(), 139);
    }
}
