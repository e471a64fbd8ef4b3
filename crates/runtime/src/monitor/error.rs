//! What goes wrong between the daemon and a monitor.

use std::os::fd::OwnedFd;

use cricket_wire::helper::{Blame, Failure};
use cricket_wire::packet::PacketError;
use cricket_wire::{Code, Failed};

/// A helper's failure, as it reported it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HelperFailure {
    /// What failed.
    pub message: String,
    /// Whose fault it is.
    pub blame: Blame,
    /// For [`Blame::Command`]: 126 (cannot execute) or 127 (not found), as shells answer.
    pub shell_status: i32,
}

impl From<Failure> for HelperFailure {
    fn from(failure: Failure) -> Self {
        let blame = failure.blame();
        Self { message: failure.message, blame, shell_status: failure.shell_status }
    }
}

/// A request that a monitor did not carry out.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// No process listens on the pod's socket.
    #[error("the pod's monitor is not running")]
    NotRunning,
    /// The connection ended before the answer: the monitor died. What was asked may have happened.
    #[error("the connection to the pod's monitor was lost")]
    Lost,
    /// No answer within the deadline: the monitor is stopped or broken. What was asked may still happen.
    #[error("the pod's monitor did not answer {request} in {seconds} s")]
    TimedOut {
        /// The request.
        request: &'static str,
        /// The deadline.
        seconds: u64,
    },
    /// A monitor listens and cannot be used. Before another one takes its place it has to be ended, see
    /// [`kill_stuck`](super::kill_stuck).
    #[error("the pod's monitor is stuck: {source}")]
    Stuck {
        /// Its process.
        pidfd: OwnedFd,
        /// How it failed.
        source: Box<MonitorError>,
    },
    /// The helper that was to make the container or start the command failed.
    #[error(transparent)]
    Helper(HelperFailure),
    /// The monitor refused.
    #[error("the pod's monitor refused: {message}")]
    Refused {
        /// Why.
        code: Code,
        /// In words.
        message: String,
    },
    /// The monitor is older than the request: it has to be replaced, or the pod made again.
    #[error("the pod's monitor is of an earlier version and does not know {request}")]
    Unsupported {
        /// The request.
        request: &'static str,
    },
    /// The monitor said something that is no answer to what was asked.
    #[error("the pod's monitor answered {0}")]
    Unexpected(String),
    /// The request is too large, or the socket failed.
    #[error("cannot talk to the pod's monitor: {0}")]
    Packet(#[source] PacketError),
    /// A system call of the client failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl MonitorError {
    /// Names what was tried when a system call failed.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl From<Failed> for MonitorError {
    fn from(failed: Failed) -> Self {
        let code = failed.code();
        match failed.failure {
            Some(failure) => Self::Helper(failure.into()),
            None => Self::Refused { code, message: failed.message },
        }
    }
}

impl From<PacketError> for MonitorError {
    fn from(error: PacketError) -> Self {
        match error {
            PacketError::Closed => Self::Lost,
            other => Self::Packet(other),
        }
    }
}
