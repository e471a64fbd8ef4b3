//! A sandbox: namespaces, network, files and the monitor that holds them.
//!
//! ```text
//! run:      record Creating ─▶ namespaces ─▶ { CNI ADD ∥ monitor + hold ∥ files ∥ durable commit } ─▶ record Ready
//! teardown: CNI DEL ─▶ namespace unpinned ─▶ monitor leaves ─▶ mounts ─▶ files     (each step tried, whatever fails)
//! ```

pub(crate) mod container;
mod files;
mod namespaces;
mod network;
mod run;
mod teardown;

pub(crate) use files::sandbox_files;
pub(crate) use namespaces::Made;
pub(crate) use run::{assemble, hold, open_journal, run};
pub(crate) use teardown::{Failures, discard, discard_later, disconnect, dismiss, make_dir, remove_dir, unmount};

/// The name under which a monitor knows the init of a shared PID namespace.
pub(crate) const INIT: &str = "init";

/// The name under which a monitor holds the pod's user namespace.
pub(crate) const USER: &str = "user";

use cricket_cri_api::v1;
use cricket_model::IdMaps;

use crate::error::{Error, Result};

/// The namespace options of a sandbox; absent means the defaults.
pub(crate) fn namespace_options(config: &v1::PodSandboxConfig) -> v1::NamespaceOption {
    let security = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
    security.and_then(|s| s.namespace_options.clone()).unwrap_or_default()
}

/// Whether the pod uses the host's network.
pub(crate) fn host_network(config: &v1::PodSandboxConfig) -> bool {
    namespace_options(config).network == i32::from(v1::NamespaceMode::Node)
}

/// Whether the pod uses the host's IPC namespace.
pub(crate) fn host_ipc(config: &v1::PodSandboxConfig) -> bool {
    namespace_options(config).ipc == i32::from(v1::NamespaceMode::Node)
}

/// The IDs of the pod where it has a user namespace of its own.
///
/// # Errors
/// `InvalidArgument` for options that were not checked before.
pub(crate) fn user_namespace(config: &v1::PodSandboxConfig) -> Result<Option<IdMaps>> {
    cricket_oci::sandbox_user_namespace(config).map_err(|e| Error::from_kinded("user namespace", &e))
}

/// The host's user and group that are root in the pod.
pub(crate) fn root_of(config: &v1::PodSandboxConfig) -> Result<(u32, u32)> {
    let Some(maps) = user_namespace(config)? else { return Ok((0, 0)) };
    maps.outside(0, 0).ok_or_else(|| Error::invalid("the pod's user namespace has no root"))
}

/// Whether the pod's containers share one PID namespace.
pub(crate) fn shared_pid(config: &v1::PodSandboxConfig) -> bool {
    namespace_options(config).pid == i32::from(v1::NamespaceMode::Pod)
}
