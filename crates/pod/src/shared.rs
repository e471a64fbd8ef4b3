//! What all drivers share: the configuration, the other crates' handles, and the event stream.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cricket_cgroup::Hierarchies;
use cricket_cni::Cni;
use cricket_image::ImageStore;
use cricket_model::{ContainerId, SandboxId};
use cricket_runtime::handlers::Handlers;
use cricket_runtime::monitor::Helpers;
use cricket_store::Store;
use tokio::runtime::RuntimeFlavor;
use tokio::sync::broadcast;

use crate::host::Host;
use crate::stats::Readers;
use crate::view::PodView;

/// Where the pods live and how they are treated.
#[derive(Debug, Clone)]
pub struct PodsConfig {
    /// Durable files (`--root`): records, images, writable layers, anonymous volumes.
    pub root: PathBuf,
    /// Files that die with the boot (`--state`): sockets, bundles, journals, root file systems.
    pub state: PathBuf,
    /// Where network namespaces are pinned.
    pub netns_dir: PathBuf,
    /// Seccomp profile of containers that ask for none (`""`, `runtime/default`, `localhost/PATH`).
    pub unset_seccomp_profile: String,
    /// Set `net.ipv4.ip_unprivileged_port_start=0` in pods that have a network namespace of their own.
    pub enable_unprivileged_ports: bool,
    /// Open `net.ipv4.ping_group_range` in such pods.
    pub enable_unprivileged_icmp: bool,
    /// Largest log line in bytes before it is split with a `P` tag.
    pub max_log_line: u32,
    /// Give devices to the user of a container that runs as another than root.
    pub device_ownership_from_security_context: bool,
    /// Give every pod, not only those that share a PID namespace, a process in its network namespace and in a control
    /// group with the pod's ID: what knows pods by their pause containers looks for that.
    pub sandbox_process: bool,
}

/// What happened to a container or sandbox; becomes a `ContainerEventResponse`.
#[derive(Clone)]
pub struct Event {
    /// Container ID, or the sandbox's own.
    pub id: String,
    /// What happened.
    pub kind: EventKind,
    /// Nanoseconds since 1970.
    pub at: i64,
    /// The pod right after it.
    pub pod: PodView,
}

/// The CRI's `ContainerEventType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Made.
    Created,
    /// Its init runs.
    Started,
    /// Its init ended; a sandbox is no longer ready.
    Stopped,
    /// Gone from the lists.
    Deleted,
}

/// Handles of everything a driver needs; one per daemon.
pub struct Shared {
    /// Paths and switches.
    pub config: PodsConfig,
    /// Images and root file systems.
    pub images: ImageStore,
    /// Network plugins.
    pub cni: Cni,
    /// RuntimeClass handlers.
    pub handlers: Handlers,
    /// Sealed executables of monitor, launch and exec.
    pub helpers: Arc<Helpers>,
    /// The cgroup tree.
    pub hierarchies: Arc<Hierarchies>,
    /// Who makes cgroups in it.
    pub cgroups: crate::cgroups::Cgroups,
    /// Plugins of the Node Resource Interface.
    pub nri: crate::nri::Nri,
    /// CDI specifications, where containers may have devices of theirs.
    pub cdi: Option<cricket_cdi::Registry>,
    /// Durable records.
    pub store: Store,
    /// SELinux labels.
    pub selinux: crate::selinux::Selinux,
    /// What this host permits.
    pub host: Host,
    /// Whether pods can have user namespaces of their own here, or why not.
    pub user_namespaces: Result<(), String>,
    /// Open statistics files.
    pub readers: Readers,
    /// When the daemon started.
    pub started: SystemTime,
    /// Every state change; slow subscribers lose the oldest.
    pub events: broadcast::Sender<Event>,
}

impl Shared {
    /// The pod's folder below the state directory.
    pub fn pod_dir(&self, id: &SandboxId) -> PathBuf {
        self.config.state.join("pods").join(id.as_str())
    }

    /// The container's bundle.
    pub fn bundle(&self, pod: &SandboxId, id: &ContainerId) -> PathBuf {
        self.pod_dir(pod).join("c").join(id.as_str())
    }

    /// Where the container's anonymous volumes are.
    pub fn volumes(&self, id: &ContainerId) -> PathBuf {
        self.config.root.join("volumes").join(id.as_str())
    }
}

/// File with a container's exit record inside its bundle.
pub(crate) fn exit_record(bundle: &Path) -> PathBuf {
    bundle.join("exit.json")
}

/// Nanoseconds since 1970, as the CRI's timestamps are.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Runs code that blocks for microseconds: on this thread, whose other tasks another one takes over meanwhile. It is
/// answered two changes of threads earlier than by [`blocking`].
pub(crate) async fn brief<T: Send + 'static>(
    what: &'static str,
    f: impl FnOnce() -> crate::error::Result<T> + Send + 'static,
) -> crate::error::Result<T> {
    match tokio::runtime::Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(f),
        // There is nobody to take over.
        _ => blocking(what, f).await,
    }
}

/// Runs blocking code off the async threads; a panic in it becomes an error of the caller.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    f: impl FnOnce() -> crate::error::Result<T> + Send + 'static,
) -> crate::error::Result<T> {
    let _at = crate::stage::enter(what);
    match tokio::task::spawn_blocking(crate::stage::carried(f)).await {
        Ok(result) => result,
        Err(e) => Err(crate::Error::internal(what, &e)),
    }
}
