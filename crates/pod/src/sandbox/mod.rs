//! A sandbox: namespaces, network, files and the monitor that holds them.
//!
//! ```text
//! run:      record Creating ─▶ namespaces ─▶ { CNI ADD ∥ monitor + hold ∥ files ∥ durable commit } ─▶ record Ready
//! teardown: CNI DEL ─▶ namespace unpinned ─▶ monitor leaves ─▶ mounts ─▶ files     (each step tried, whatever fails)
//! ```

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

use cricket_cri_api::v1;

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

/// Whether the pod's containers share one PID namespace.
pub(crate) fn shared_pid(config: &v1::PodSandboxConfig) -> bool {
    namespace_options(config).pid == i32::from(v1::NamespaceMode::Pod)
}

/// The pod's cgroup: what the kubelet says, else one of our own.
pub(crate) fn cgroup_parent(config: &v1::PodSandboxConfig) -> String {
    match config.linux.as_ref().map(|l| l.cgroup_parent.trim_end_matches('/')) {
        Some(parent) if parent.starts_with('/') => parent.to_owned(),
        Some(parent) if !parent.is_empty() => format!("/{parent}"),
        _ => "/cricket".to_owned(),
    }
}
