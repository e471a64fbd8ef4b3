//! The messages of containerd's API (module github.com/containerd/containerd/api, v1.10), with the fields that cAdvisor
//! reads; clients pass over those that are absent.

use std::collections::HashMap;

/// `containerd.services.version.v1.VersionResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct VersionResponse {
    /// The daemon's.
    #[prost(string, tag = "1")]
    pub(super) version: String,
}

/// `containerd.services.containers.v1.GetContainerRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetContainerRequest {
    /// A container's, or a sandbox's.
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// `containerd.services.containers.v1.GetContainerResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetContainerResponse {
    /// Never absent.
    #[prost(message, optional, tag = "1")]
    pub(super) container: Option<Container>,
}

/// `containerd.services.containers.v1.Container`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Container {
    /// Its ID.
    #[prost(string, tag = "1")]
    pub(super) id: String,
    /// The kubelet's labels, and whether it is a container or a sandbox.
    #[prost(map = "string, string", tag = "2")]
    pub(super) labels: HashMap<String, String>,
    /// The image's name.
    #[prost(string, tag = "3")]
    pub(super) image: String,
    /// The OCI runtime specification, as JSON.
    #[prost(message, optional, tag = "5")]
    pub(super) spec: Option<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    /// What `value` is.
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    /// It.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `containerd.services.tasks.v1.GetRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetRequest {
    /// A container's, or a sandbox's.
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    /// Empty: the container's first process.
    #[prost(string, tag = "2")]
    pub(super) exec_id: String,
}

/// `containerd.services.tasks.v1.GetResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetResponse {
    /// Never absent.
    #[prost(message, optional, tag = "1")]
    pub(super) process: Option<Process>,
}

/// `containerd.v1.types.Process`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Process {
    /// The container's.
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    /// The same.
    #[prost(string, tag = "2")]
    pub(super) id: String,
    /// In the host's PID namespace.
    #[prost(uint32, tag = "3")]
    pub(super) pid: u32,
    /// Whether it lives.
    #[prost(enumeration = "Status", tag = "4")]
    pub(super) status: i32,
    /// How it ended.
    #[prost(uint32, tag = "9")]
    pub(super) exit_status: u32,
}

/// `containerd.v1.types.Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Status {
    /// cAdvisor asks again.
    Unknown = 0,
    /// It lives.
    Running = 2,
    /// It has ended.
    Stopped = 3,
}
