//! What a pod asks of its networks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use cricket_model::SandboxId;
use serde_json::{Map, Value, json};

use crate::Bandwidth;

/// A pod about to be attached.
#[derive(Debug, Clone)]
pub struct PodNetwork {
    /// The sandbox: `CNI_CONTAINERID`.
    pub sandbox: SandboxId,
    /// Its pinned network namespace: `CNI_NETNS`.
    pub netns: PathBuf,
    /// The runtime handler it names, may be empty: see [`CniConfig::handlers`](crate::CniConfig::handlers).
    pub handler: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Pod UID.
    pub uid: String,
    /// The pod's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Ports wanted on the host; those without a host port are left out.
    pub port_mappings: Vec<PortMapping>,
    /// Limits, see [`Bandwidth::from_annotations`].
    pub bandwidth: Option<Bandwidth>,
    /// The pod's resolver settings.
    pub dns: Option<Dns>,
    /// The pod's cgroup, empty when unknown.
    pub cgroup_parent: String,
}

/// Transport of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A host port led into the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortMapping {
    /// Port of the host; 0 is none.
    pub host_port: u16,
    /// Port in the pod.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// Address of the host; `None` is every one.
    pub host_ip: Option<IpAddr>,
}

/// Resolver settings, the `dns` capability.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options of resolv.conf(5).
    pub options: Vec<String>,
}

impl PodNetwork {
    /// Every capability argument this pod has; a plugin gets those it declares.
    pub(crate) fn capability_args(&self) -> Map<String, Value> {
        let mut args = Map::new();
        let ports: Vec<_> = self.port_mappings.iter().filter(|p| p.host_port > 0).map(port).collect();
        if !ports.is_empty() {
            args.insert("portMappings".into(), ports.into());
        }
        if let Some(limits) = self.bandwidth {
            args.insert("bandwidth".into(), limits.to_value());
        }
        if let Some(Dns { servers, searches, options }) = &self.dns {
            args.insert("dns".into(), json!({"servers": servers, "searches": searches, "options": options}));
        }
        if !self.cgroup_parent.is_empty() {
            args.insert("cgroupPath".into(), self.cgroup_parent.as_str().into());
        }
        if !self.annotations.is_empty() {
            args.insert("io.kubernetes.cri.pod-annotations".into(), json!(self.annotations));
        }
        args
    }
}

fn port(p: &PortMapping) -> Value {
    json!({
        "hostPort": p.host_port,
        "containerPort": p.container_port,
        "protocol": p.protocol.as_str(),
        "hostIP": p.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
    })
}
