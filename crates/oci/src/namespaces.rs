//! The namespaces of a container. Network and IPC are the sandbox's, UTS goes with the network, the mount namespace is
//! always new; the PID namespace is the container's own choice.

use cricket_cri_api::v1;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use crate::error::{Error, Result};
use crate::input::ContainerInput;
use v1::NamespaceMode;

const CONTAINER: &str = "linux.security_context.namespace_options";
const SANDBOX: &str = "the sandbox's linux.security_context.namespace_options";

/// The modes of a set of options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Modes {
    /// `network`.
    pub network: NamespaceMode,
    /// `pid`.
    pub pid: NamespaceMode,
    /// `ipc`.
    pub ipc: NamespaceMode,
}

/// Checks a set of options; none given means every namespace is the pod's.
pub(crate) fn modes(field: &str, options: Option<&v1::NamespaceOption>) -> Result<Modes> {
    let Some(options) = options else {
        return Ok(Modes { network: NamespaceMode::Pod, pid: NamespaceMode::Pod, ipc: NamespaceMode::Pod });
    };
    let mode = |name: &str, value: i32| {
        let field = format!("{field}.{name}");
        let mode = NamespaceMode::try_from(value)
            .map_err(|_| Error::invalid(&field, format!("{value} is not a namespace mode")))?;
        if mode == NamespaceMode::Target && name != "pid" {
            return Err(Error::invalid(&field, "only a PID namespace can be another container's"));
        }
        Ok(mode)
    };
    if let Some(user) = &options.userns_options {
        let field = format!("{field}.userns_options");
        match NamespaceMode::try_from(user.mode) {
            Ok(NamespaceMode::Node) if user.uids.is_empty() && user.gids.is_empty() => {}
            Ok(NamespaceMode::Node) => return Err(Error::invalid(field, "has mappings for the host's user namespace")),
            Ok(NamespaceMode::Pod) => return Err(Error::unsupported(field, "user namespaces are not implemented")),
            _ => return Err(Error::invalid(field, format!("{} is not a mode of user namespaces", user.mode))),
        }
    }
    Ok(Modes {
        network: mode("network", options.network)?,
        pid: mode("pid", options.pid)?,
        ipc: mode("ipc", options.ipc)?,
    })
}

/// The modes of a sandbox.
pub(crate) fn sandbox_modes(sandbox: &v1::PodSandboxConfig) -> Result<Modes> {
    let context = sandbox.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    modes(SANDBOX, context.and_then(|context| context.namespace_options.as_ref()))
}

/// The modes of a container, checked against its sandbox's.
pub(crate) fn container_modes(config: &v1::ContainerConfig, sandbox: &v1::PodSandboxConfig) -> Result<Modes> {
    let pod = sandbox_modes(sandbox)?;
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = context.and_then(|context| context.namespace_options.as_ref());
    let own = modes(CONTAINER, options)?;
    let escapes = |own: NamespaceMode, pod: NamespaceMode| own == NamespaceMode::Node && pod != NamespaceMode::Node;
    if escapes(own.network, pod.network) {
        return Err(Error::invalid(format!("{CONTAINER}.network"), "is the host's, and the sandbox's is not"));
    }
    if escapes(own.ipc, pod.ipc) {
        return Err(Error::invalid(format!("{CONTAINER}.ipc"), "is the host's, and the sandbox's is not"));
    }
    let target = options.map(|options| options.target_id.as_str()).unwrap_or_default();
    if own.pid == NamespaceMode::Target && target.is_empty() {
        return Err(Error::invalid(format!("{CONTAINER}.target_id"), "is missing"));
    }
    Ok(own)
}

/// `linux.namespaces`; one that is missing there is shared with the host.
pub(crate) fn namespaces(input: &ContainerInput<'_>, privileged: bool) -> Result<Vec<LinuxNamespace>> {
    let own = container_modes(input.config, input.sandbox)?;
    let pod = sandbox_modes(input.sandbox)?;
    let paths = &input.namespaces;
    let mut out = Vec::new();
    let mut join = |kind: LinuxNamespaceType, path: Option<&std::path::PathBuf>| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind).set_path(path.cloned());
        out.push(namespace);
    };
    join(LinuxNamespaceType::Mount, None);
    if pod.network != NamespaceMode::Node {
        let network = paths.network.as_ref().ok_or(Error::Missing("the sandbox's network namespace"))?;
        let uts = paths.uts.as_ref().ok_or(Error::Missing("the sandbox's UTS namespace"))?;
        join(LinuxNamespaceType::Network, Some(network));
        join(LinuxNamespaceType::Uts, Some(uts));
    }
    match (own.ipc, pod.ipc) {
        (NamespaceMode::Container, _) => join(LinuxNamespaceType::Ipc, None),
        (_, NamespaceMode::Node) => {}
        _ => {
            let ipc = paths.ipc.as_ref().ok_or(Error::Missing("the sandbox's IPC namespace"))?;
            join(LinuxNamespaceType::Ipc, Some(ipc));
        }
    }
    match (own.pid, pod.pid) {
        (NamespaceMode::Container, _) => join(LinuxNamespaceType::Pid, None),
        (NamespaceMode::Node, _) | (NamespaceMode::Pod, NamespaceMode::Node) => {}
        // The pod shares none, so that "the pod's" can only be one of its own.
        (NamespaceMode::Pod, NamespaceMode::Container) if paths.pid.is_none() => join(LinuxNamespaceType::Pid, None),
        _ => {
            let pid = paths.pid.as_ref().ok_or(Error::Missing("the PID namespace to join"))?;
            join(LinuxNamespaceType::Pid, Some(pid));
        }
    }
    if input.host.cgroup_v2 && !privileged {
        join(LinuxNamespaceType::Cgroup, None);
    }
    Ok(out)
}
