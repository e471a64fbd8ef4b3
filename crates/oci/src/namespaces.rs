//! The namespaces of a container. Network and IPC are the sandbox's, UTS goes with the network, the mount namespace is
//! always new; the PID namespace is the container's own choice. A user namespace is the sandbox's, and all others are its.

use cricket_cri_api::v1;
use cricket_model::IdMaps;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use crate::error::{Error, Result};
use crate::input::ContainerInput;
use crate::userns;
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
    /// `userns_options`; `None` means the host's user namespace.
    pub user: Option<IdMaps>,
}

/// Checks a set of options; none given means every namespace is the pod's.
pub(crate) fn modes(field: &str, options: Option<&v1::NamespaceOption>) -> Result<Modes> {
    let Some(options) = options else {
        let pod = NamespaceMode::Pod;
        return Ok(Modes { network: pod, pid: pod, ipc: pod, user: None });
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
    Ok(Modes {
        network: mode("network", options.network)?,
        pid: mode("pid", options.pid)?,
        ipc: mode("ipc", options.ipc)?,
        user: userns::of_options(field, Some(options))?,
    })
}

/// The modes of a sandbox.
pub(crate) fn sandbox_modes(sandbox: &v1::PodSandboxConfig) -> Result<Modes> {
    let context = sandbox.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let modes = modes(SANDBOX, context.and_then(|context| context.namespace_options.as_ref()))?;
    if modes.user.is_some() {
        // What is the host's belongs to the host's root, which the pod is not to be.
        let with = "cannot go with a user namespace of the pod's own";
        if context.is_some_and(|context| context.privileged) {
            return Err(Error::invalid("the sandbox's linux.security_context.privileged", with));
        }
        for (name, mode) in [("pid", modes.pid), ("ipc", modes.ipc)] {
            if mode == NamespaceMode::Node {
                return Err(Error::invalid(format!("{SANDBOX}.{name}"), format!("the host's {with}")));
            }
        }
    }
    Ok(modes)
}

/// The IDs of a sandbox with a user namespace of its own; `None`: it has the host's.
///
/// # Errors
/// When the namespace options are malformed, or contradict a user namespace.
pub fn sandbox_user_namespace(sandbox: &v1::PodSandboxConfig) -> Result<Option<IdMaps>> {
    Ok(sandbox_modes(sandbox)?.user)
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
    if own.user != pod.user {
        return Err(Error::invalid(format!("{CONTAINER}.userns_options"), "is not the same as the sandbox's"));
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
    if pod.user.is_some() {
        let user = paths.user.as_ref().ok_or(Error::Missing("the sandbox's user namespace"))?;
        join(LinuxNamespaceType::User, Some(user));
    }
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
