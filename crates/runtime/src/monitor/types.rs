//! Requests and answers in the daemon's terms.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use cricket_wire::{Phase, Stream};
use tokio::sync::oneshot;

use super::HelperFailure;

/// What a monitor knows of a container, whether it makes it or takes it over.
#[derive(Debug, Default)]
pub struct Supervised {
    /// The container's id.
    pub container: String,
    /// Where the output goes; `None`: it is discarded.
    pub log: Option<LogTarget>,
    /// It has a terminal; then there are no pipes.
    pub tty: bool,
    /// Keep standard input open for sessions that attach; else it is `/dev/null`.
    pub stdin: bool,
    /// Standard input ends with the first session.
    pub stdin_once: bool,
    /// The container's cgroup.
    pub cgroup: Option<Cgroup>,
    /// File for the exit record.
    pub exit_path: Option<PathBuf>,
    /// Sessions may attach to its output, also without a log.
    pub attachable: bool,
}

/// A container to make.
#[derive(Debug)]
pub struct RunRequest {
    /// The container; its helper makes the terminal.
    pub container: Supervised,
    /// The helper's executable: a duplicate of one of [`Helpers`](super::Helpers), or another program that follows the
    /// helper protocol of `cricket_wire::helper`.
    pub helper: OwnedFd,
    /// The helper's arguments, `argv[0]` included.
    pub args: Vec<String>,
    /// The helper's configuration, a sealed memfd; it is descriptor 4 there.
    pub config: OwnedFd,
    /// Descriptors 5, 6, … of the helper.
    pub extra: Vec<OwnedFd>,
}

/// A log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTarget {
    /// The pod's log directory, absolute; links in it are followed.
    pub directory: PathBuf,
    /// Below it, relative; no links, no `..`.
    pub path: PathBuf,
    /// Most bytes of an entry's content; 0: 16 KiB.
    pub max_line: u32,
}

/// A control group by its directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// In the hierarchy that answers for its processes (v2's, or v1's `pids`): killed when the init ends.
    pub processes: PathBuf,
    /// In the hierarchy that counts OOM kills (v2's, or v1's `memory`).
    pub memory: Option<PathBuf>,
}

/// A container that was made.
#[derive(Debug)]
pub struct Started {
    /// Host PID of its init.
    pub pid: u32,
    /// Its init.
    pub pidfd: OwnedFd,
    /// Duplicates of what the monitor holds, to be kept for a replacement.
    pub stdio: Vec<(Stream, OwnedFd)>,
    /// When the helper reported it, nanoseconds since 1970.
    pub created_at: i64,
}

/// A command to execute in a container.
#[derive(Debug)]
pub struct ExecRequest {
    /// Names it in messages.
    pub exec_id: String,
    /// The container.
    pub container: String,
    /// As in [`RunRequest`].
    pub helper: OwnedFd,
    /// As in [`RunRequest`].
    pub args: Vec<String>,
    /// As in [`RunRequest`].
    pub config: OwnedFd,
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
    /// Descriptors 5, 6, … of the helper.
    pub extra: Vec<OwnedFd>,
    /// It is killed when this has passed since the monitor got the request.
    pub timeout: Option<Duration>,
    /// Absolute directories of the cgroups that are the exec's own.
    pub leaves: Vec<PathBuf>,
    /// Told when the command has started.
    pub started: Option<oneshot::Sender<ExecStart>>,
}

/// A command that has started.
#[derive(Debug)]
pub struct ExecStart {
    /// Host PID.
    pub pid: u32,
    /// Master of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecExit {
    /// The status, or 128 + the signal.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It was killed because its time was over.
    pub timed_out: bool,
    /// It never started.
    pub failure: Option<HelperFailure>,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitFacts {
    /// The status, or 128 + the signal; 255 when `unknown`.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// When the helper reported it, nanoseconds since 1970.
    pub created_at: i64,
    /// When the end was seen, nanoseconds since 1970.
    pub finished_at: i64,
    /// Output that could not be written to the log.
    pub bytes_lost: u64,
    /// Nobody knows how it ended.
    pub unknown: bool,
    /// The exit record could not be written.
    pub unrecorded: bool,
}

impl From<cricket_wire::ExitFacts> for ExitFacts {
    fn from(facts: cricket_wire::ExitFacts) -> Self {
        Self {
            exit_code: facts.exit_code,
            signal: (facts.signal != 0).then_some(facts.signal),
            oom_killed: facts.oom_killed,
            created_at: facts.created_at,
            finished_at: facts.finished_at,
            bytes_lost: facts.bytes_lost,
            unknown: facts.unknown,
            unrecorded: facts.unrecorded,
        }
    }
}

/// A container whose monitor died, for its replacement.
#[derive(Debug)]
pub struct AdoptRequest {
    /// The container.
    pub container: Supervised,
    /// Host PID of its init.
    pub pid: u32,
    /// Its init.
    pub pidfd: OwnedFd,
    /// What was kept of its stdio.
    pub stdio: Vec<(Stream, OwnedFd)>,
    /// As in [`Started`].
    pub created_at: i64,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerPhase {
    /// Its helper has not reported yet.
    Making,
    /// Its init lives, or its output is still being written.
    Running {
        /// Host PID of its init.
        pid: u32,
    },
    /// It has ended.
    Exited(ExitFacts),
}

/// A container as the monitor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Its id.
    pub container: String,
    /// Where it is in its life.
    pub phase: ContainerPhase,
}

impl From<cricket_wire::ContainerState> for ContainerFacts {
    fn from(state: cricket_wire::ContainerState) -> Self {
        let phase = match (state.phase(), state.exit) {
            (Phase::Exited, Some(facts)) => ContainerPhase::Exited(facts.into()),
            (Phase::Making, _) => ContainerPhase::Making,
            _ => ContainerPhase::Running { pid: state.pid.unsigned_abs() },
        };
        Self { container: state.container_id, phase }
    }
}

/// Duplicates of what a monitor holds for a container, asked for after a restart of the daemon.
#[derive(Debug)]
pub struct ContainerHandles {
    /// Where it is in its life.
    pub facts: ContainerFacts,
    /// Its init, unless it has exited.
    pub pidfd: Option<OwnedFd>,
    /// Its stdio.
    pub stdio: Vec<(Stream, OwnedFd)>,
    /// When the helper reported it, nanoseconds since 1970.
    pub created_at: i64,
}

/// A namespace or another descriptor that the monitor holds.
#[derive(Debug)]
pub struct HeldFd {
    /// As it was given.
    pub name: String,
    /// A duplicate.
    pub fd: OwnedFd,
    /// `/proc/MONITOR/fd/N`: names the object as long as the monitor lives.
    pub path: PathBuf,
}

/// What a monitor says unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MonitorEvent {
    /// A container has ended; its output is in the log, its record written, its init reaped.
    Exited {
        /// Its id.
        container: String,
        /// How.
        facts: ExitFacts,
    },
    /// The connection has ended: the monitor died. The last event.
    Gone,
}

/// A session that attaches to a container's stdio.
#[derive(Debug)]
pub struct AttachRequest {
    /// The container.
    pub container: String,
    /// Reading end of a pipe with the session's input.
    pub stdin: Option<OwnedFd>,
    /// Writing end of a pipe for standard output, or for what a terminal shows.
    pub stdout: Option<OwnedFd>,
    /// Writing end of a pipe for standard error.
    pub stderr: Option<OwnedFd>,
}
