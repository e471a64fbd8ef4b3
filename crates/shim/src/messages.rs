//! Messages of the task service (`containerd/api/runtime/task/v2/shim.proto`; version 3 has the same ones), as far as
//! they are used: unknown fields are passed over.

/// google.protobuf.Any.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// What it is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Its bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `containerd.runc.v1.Options`: options of `containerd-shim-runc-v2`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuncOptions {
    /// The OCI runtime.
    #[prost(string, tag = "6")]
    pub binary_name: String,
    /// The OCI runtime's state directory.
    #[prost(string, tag = "7")]
    pub root: String,
    /// Control groups are systemd scopes.
    #[prost(bool, tag = "9")]
    pub systemd_cgroup: bool,
}

/// `runtimeoptions.v1.Options`: options of every other shim.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeOptions {
    /// What the configuration is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The runtime's configuration file.
    #[prost(string, tag = "2")]
    pub config_path: String,
    /// The configuration itself, where there is no file.
    #[prost(bytes = "vec", tag = "3")]
    pub config_body: Vec<u8>,
}

/// Makes a container out of a bundle; its root file system is mounted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateRequest {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The directory with `config.json`.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// It has a terminal.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// Path that is read.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// Path that is written.
    #[prost(string, tag = "6")]
    pub stdout: String,
    /// Path that is written.
    #[prost(string, tag = "7")]
    pub stderr: String,
    /// The runtime's options.
    #[prost(message, optional, tag = "10")]
    pub options: Option<Any>,
}

/// Adds a process to a running container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecRequest {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process's ID.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// It has a terminal.
    #[prost(bool, tag = "3")]
    pub terminal: bool,
    /// Path that is read.
    #[prost(string, tag = "4")]
    pub stdin: String,
    /// Path that is written.
    #[prost(string, tag = "5")]
    pub stdout: String,
    /// Path that is written.
    #[prost(string, tag = "6")]
    pub stderr: String,
    /// The process (runtime-spec).
    #[prost(message, optional, tag = "7")]
    pub spec: Option<Any>,
}

/// A container, or a process added to it: for State, Start, Wait and Delete.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProcessRequest {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process's ID; empty: the container's init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// The answer to Create and Start.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PidResponse {
    /// PID on this host, where there is one.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// The answer to Wait.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WaitResponse {
    /// Exit code, or 128 and the signal.
    #[prost(uint32, tag = "1")]
    pub exit_status: u32,
}

/// The answer to Delete.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteResponse {
    /// PID on this host.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// Exit code, or 128 and the signal.
    #[prost(uint32, tag = "2")]
    pub exit_status: u32,
}

/// The answer to State.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StateResponse {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub id: String,
    /// PID on this host, where there is one.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// 1 created, 2 running, 3 stopped, 4 paused, 5 pausing.
    #[prost(int32, tag = "4")]
    pub status: i32,
    /// Exit code, or 128 and the signal.
    #[prost(uint32, tag = "9")]
    pub exit_status: u32,
}

/// Signals a process.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KillRequest {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process's ID; empty: the container's init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Number of the signal.
    #[prost(uint32, tag = "3")]
    pub signal: u32,
    /// All of the container's processes.
    #[prost(bool, tag = "4")]
    pub all: bool,
}

/// Ends the input of a process.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloseIoRequest {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process's ID; empty: the container's init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Its stdin.
    #[prost(bool, tag = "3")]
    pub stdin: bool,
}

/// Resizes a terminal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResizeRequest {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process's ID; empty: the container's init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Columns.
    #[prost(uint32, tag = "3")]
    pub width: u32,
    /// Rows.
    #[prost(uint32, tag = "4")]
    pub height: u32,
}

/// Changes a container's limits.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateRequest {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The limits (runtime-spec).
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Any>,
}

/// Asks what a container has used.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatsRequest {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// The answer to Stats.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatsResponse {
    /// Figures of some kind.
    #[prost(message, optional, tag = "1")]
    pub stats: Option<Any>,
}

/// Asks who serves a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConnectRequest {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// The answer to Connect.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConnectResponse {
    /// The shim's PID.
    #[prost(uint32, tag = "1")]
    pub shim_pid: u32,
    /// PID of the container's init on this host, where there is one.
    #[prost(uint32, tag = "2")]
    pub task_pid: u32,
}

/// Ends a shim that has no container any more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ShutdownRequest {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Without waiting for calls that are answered.
    #[prost(bool, tag = "2")]
    pub now: bool,
}

/// `containerd.runtime.bootstrap.v1.BootstrapParams`: what `start` reads.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BootstrapParams {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// containerd's namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Where events are taken ([`Events`](crate::Events)).
    #[prost(string, tag = "5")]
    pub ttrpc_address: String,
    /// The runtime's own address.
    #[prost(string, tag = "6")]
    pub grpc_address: String,
    /// Executed with each event where no event service is given.
    #[prost(string, tag = "7")]
    pub binary: String,
    /// The runtime's options.
    #[prost(message, repeated, tag = "8")]
    pub extensions: Vec<Extension>,
}

/// `containerd.runtime.bootstrap.v1.Extension`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Extension {
    /// Options of some kind.
    #[prost(message, optional, tag = "1")]
    pub value: Option<Any>,
}

/// `containerd.runtime.bootstrap.v1.BootstrapResult`: what `start` answers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BootstrapResult {
    /// Version of the task service.
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// Where it listens.
    #[prost(string, tag = "2")]
    pub address: String,
    /// What it speaks.
    #[prost(string, tag = "3")]
    pub protocol: String,
}

/// `containerd.services.events.ttrpc.v1.ForwardRequest`: an event.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ForwardRequest {
    /// The event, and what it is.
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

/// `containerd.types.Envelope`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// Which kind of event.
    #[prost(string, tag = "3")]
    pub topic: String,
    /// The event.
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// `containerd.events.TaskOOM`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TaskOom {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// `containerd.events.TaskExit`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TaskExit {
    /// The container's ID.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The process's ID: the container's own for its init.
    #[prost(string, tag = "2")]
    pub id: String,
}

/// google.protobuf.Empty.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

impl Any {
    /// Options of `containerd-shim-runc-v2`.
    pub fn runc(options: &RuncOptions) -> Self {
        Self { type_url: "containerd.runc.v1.Options".into(), value: prost::Message::encode_to_vec(options) }
    }

    /// Options of every other shim.
    pub fn runtime(options: &RuntimeOptions) -> Self {
        Self { type_url: "runtimeoptions.v1.Options".into(), value: prost::Message::encode_to_vec(options) }
    }

    /// Limits (runtime-spec, config-linux.md, "Control groups") as JSON.
    pub fn resources(json: &str) -> Self {
        Self { type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(), value: json.into() }
    }

    /// A process (runtime-spec, config.md, "Process") as JSON.
    pub fn process(json: &str) -> Self {
        Self { type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(), value: json.into() }
    }
}
