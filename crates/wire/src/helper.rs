//! What a helper (launch, exec) finds when it starts and how it reports.
//!
//! A helper is started with a clean environment, its working directory at `/`, and these descriptors only:
//! 0–2 are the stdio of the process it makes, 3 is a `SOCK_SEQPACKET` socket on which it reports,
//! 4 is a sealed memfd with its configuration (JSON of the helper's own type); any further ones (5, 6, …)
//! are named by that configuration. It sends one [`Report`] and exits 0, or one with `error` and exits 1;
//! a helper that ends without a report is reported as a crash with its wait status.
//! The process it made is a child of the helper's parent, which therefore gets its exit status. That process may
//! end before its report is read, and helpers leave children that no report names (a launch's intermediate process,
//! a command that could not be executed): the parent keeps the statuses of unknown children until no helper runs.
//! `cricket-launch` sends its report when the container is made and **then** starts it, so that the PID is known before
//! the command runs; if starting fails (a wrong executable format, a runtime's `start`), it kills the init, sends a
//! second report with the same PID and `error`, and exits 1. So a launch succeeded when its helper exited 0.
//! An order that makes no process (deleting) is reported with [`NO_PROCESS`] as the PID and no error; with 0 the whole
//! report would be empty, which on a packet socket looks like its end.
//! `cricket-exec` reports a command when its execve has succeeded, and a failure to execute it as an error.

/// Descriptor of the report socket.
pub const REPORT_FD: i32 = 3;
/// Descriptor of the configuration.
pub const CONFIG_FD: i32 = 4;
/// First of the descriptors that the configuration names.
pub const FIRST_EXTRA_FD: i32 = 5;
/// Longest report, in bytes; messages in errors are cut to fit.
pub const MAX_REPORT: usize = 16 * 1024;

/// The PID in a report of something that was done without making a process.
pub const NO_PROCESS: i32 = -1;

/// A helper's one message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Report {
    /// Host PID of the process that was made (the container's init, or the executed command); 0 with an error.
    #[prost(int32, tag = "1")]
    pub pid: i32,
    /// Why nothing was made, or why what was made could not be started.
    #[prost(message, optional, tag = "2")]
    pub error: Option<Failure>,
    /// The master of the process's terminal comes with this message as a descriptor (`SCM_RIGHTS`).
    #[prost(bool, tag = "3")]
    pub terminal: bool,
}

/// A helper's failure.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Failure {
    /// What failed, lowercase, with names and the cause.
    #[prost(string, tag = "1")]
    pub message: String,
    /// Who is to blame; see [`Blame`].
    #[prost(enumeration = "Blame", tag = "2")]
    pub blame: i32,
    /// For `Blame::Command`: the status a shell would answer with (126: cannot execute, 127: not found).
    #[prost(int32, tag = "3")]
    pub shell_status: i32,
}

/// Whose fault a [`Failure`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Blame {
    /// The host, the kernel or cricket.
    Host = 0,
    /// The command: missing, not executable, wrong format.
    Command = 1,
    /// The image or the pod's configuration (a link where a directory has to be, a missing working directory).
    Content = 2,
    /// The process that was to be joined is gone.
    Gone = 3,
}
