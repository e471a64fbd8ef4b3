//! Commands executed in a running container.

use crate::helper::Failure;

/// A command to execute. It lives as long as the connection that asked for it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Exec {
    /// Names the exec in messages.
    #[prost(string, tag = "1")]
    pub exec_id: String,
    /// The container it runs in; not looked up, for the monitor may be younger than the container.
    #[prost(string, tag = "2")]
    pub container_id: String,
    /// `argv[0]` of the helper, further arguments follow.
    #[prost(string, repeated, tag = "3")]
    pub args: Vec<String>,
    /// Milliseconds until it is killed; 0: none.
    #[prost(uint64, tag = "4")]
    pub timeout_ms: u64,
    /// Absolute directories of cgroups that hold nothing but this exec: one for each hierarchy that has one.
    /// Everything in them is killed at the timeout; they are removed at the end if they are empty then.
    #[prost(string, repeated, tag = "5")]
    pub leaves: Vec<String>,
    /// Its start need not be told ([`ExecStarted`]): nobody waits for it. A monitor that does not know this tells it.
    #[prost(bool, tag = "6")]
    pub silent_start: bool,
}

/// The command has started; the master of its terminal comes along if it has one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecStarted {
    /// Host PID.
    #[prost(int32, tag = "1")]
    pub pid: i32,
    /// A descriptor came along.
    #[prost(bool, tag = "2")]
    pub terminal: bool,
}

/// The command has ended, or never started.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecEnded {
    /// As a shell counts it: the status, or 128 + the signal.
    #[prost(int32, tag = "1")]
    pub exit_code: i32,
    /// The signal that ended it, or 0.
    #[prost(int32, tag = "2")]
    pub signal: i32,
    /// It was killed because its time was over.
    #[prost(bool, tag = "3")]
    pub timed_out: bool,
    /// It never started.
    #[prost(message, optional, tag = "4")]
    pub failure: Option<Failure>,
}
