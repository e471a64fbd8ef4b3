//! Containers as the daemon orders them and as the monitor reports them.

/// A container to make. It has no network or file system words: those are the helper's configuration.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Run {
    /// The container's id, unique in the monitor.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// `argv[0]` of the helper, further arguments follow; a reader of `ps` sees them.
    #[prost(string, repeated, tag = "2")]
    pub args: Vec<String>,
    /// Where the output goes; without it the output is discarded.
    #[prost(message, optional, tag = "3")]
    pub log: Option<Log>,
    /// The helper makes a terminal and sends its master with the report; no pipes are made.
    #[prost(bool, tag = "4")]
    pub tty: bool,
    /// Keep a pipe for standard input; without it (and without `tty`) it is `/dev/null`.
    #[prost(bool, tag = "5")]
    pub stdin: bool,
    /// Standard input ends with the first session that attached to it.
    #[prost(bool, tag = "6")]
    pub stdin_once: bool,
    /// The container's cgroup: killed when its init ends, asked for the number of OOM kills.
    #[prost(message, optional, tag = "7")]
    pub cgroup: Option<CgroupRef>,
    /// Absolute name of the file for the exit record; empty: none is written.
    #[prost(string, tag = "8")]
    pub exit_path: String,
    /// Sessions may attach to its output: it is read although there is no log.
    #[prost(bool, tag = "9")]
    pub attachable: bool,
}

/// Where a container's output goes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Log {
    /// The kubelet's log directory of the pod; absolute, resolved as any name (may contain links).
    #[prost(string, tag = "1")]
    pub directory: String,
    /// Below it: relative, without `..`, no part of it may be a link.
    #[prost(string, tag = "2")]
    pub path: String,
    /// Most bytes of an entry's content; 0: 16 KiB.
    #[prost(uint32, tag = "3")]
    pub max_line: u32,
}

/// A control group by its directories, which the daemon knows: a monitor reads no mount table.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CgroupRef {
    /// Absolute directory in the hierarchy that answers for its processes: v2's, or v1's `pids`.
    #[prost(string, tag = "1")]
    pub processes: String,
    /// Absolute directory in the hierarchy that counts OOM kills: v2's, or v1's `memory`; empty: nobody counts.
    #[prost(string, tag = "2")]
    pub memory: String,
}

/// What a descriptor of a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Stream {
    /// The writing end of standard input.
    Stdin = 0,
    /// The reading end of standard output.
    Stdout = 1,
    /// The reading end of standard error.
    Stderr = 2,
    /// The master of the terminal.
    Terminal = 3,
}

/// A container whose monitor died, for the one that follows it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Adopt {
    /// As it was made; `args` is not used.
    #[prost(message, optional, tag = "1")]
    pub run: Option<Run>,
    /// Host PID of its init.
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// When it was made, nanoseconds since 1970.
    #[prost(int64, tag = "3")]
    pub created_at: i64,
    /// What the descriptors after the pidfd are, in order.
    #[prost(enumeration = "Stream", repeated, tag = "4")]
    pub streams: Vec<i32>,
}

/// How a container ended.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ExitFacts {
    /// As a shell counts it: the status, or 128 + the signal; 255 when it is unknown.
    #[prost(int32, tag = "1")]
    pub exit_code: i32,
    /// The signal that ended it, or 0.
    #[prost(int32, tag = "2")]
    pub signal: i32,
    /// The kernel's counter of the container's own cgroup says that a process was killed for want of memory.
    #[prost(bool, tag = "3")]
    pub oom_killed: bool,
    /// When its helper reported it, nanoseconds since 1970.
    #[prost(int64, tag = "4")]
    pub created_at: i64,
    /// When the end was seen, nanoseconds since 1970.
    #[prost(int64, tag = "5")]
    pub finished_at: i64,
    /// Output that could not be written to the log.
    #[prost(uint64, tag = "6")]
    pub bytes_lost: u64,
    /// The kernel could not say how it ended: another monitor was its parent.
    #[prost(bool, tag = "7")]
    pub unknown: bool,
    /// The exit record could not be written; these facts are then only in memory.
    #[prost(bool, tag = "8")]
    pub unrecorded: bool,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Phase {
    /// Its helper has not reported yet.
    Making = 0,
    /// Its init lives, or has ended and its output is still being written.
    Running = 1,
    /// It has ended; the facts are known.
    Exited = 2,
}

/// One container of a list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerState {
    /// Its id.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Where it is in its life.
    #[prost(enumeration = "Phase", tag = "2")]
    pub phase: i32,
    /// Host PID of its init; 0 while it is being made. After the exit the number may belong to another process.
    #[prost(int32, tag = "3")]
    pub pid: i32,
    /// How it ended.
    #[prost(message, optional, tag = "4")]
    pub exit: Option<ExitFacts>,
}
