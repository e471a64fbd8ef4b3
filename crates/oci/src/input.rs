//! What a caller passes in: the CRI configurations and everything that had to be read from the host, the image and
//! the sandbox beforehand. Invariant of the crate: whatever is not in here does not influence a specification.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cricket_cri_api::v1;
use cricket_model::{ContainerId, SandboxId};
use oci_spec::runtime::{Capabilities, PosixRlimit, Spec};
use serde::{Deserialize, Serialize};

/// The `config` object of an image (image-spec, "Image configuration"), as far as a container inherits it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDefaults {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, each `NAME=VALUE`.
    pub env: Vec<String>,
    /// `User`: `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid`; empty means root.
    pub user: String,
    /// `WorkingDir`; empty means `/`.
    pub working_dir: String,
    /// `StopSignal`; empty means SIGTERM.
    pub stop_signal: String,
    /// The keys of `Volumes`.
    pub volumes: Vec<String>,
    /// `Labels`; they never steer anything on the host.
    pub labels: BTreeMap<String, String>,
}

/// Files that the sandbox provides to all its containers; `None` mounts nothing.
#[derive(Debug, Clone, Default)]
pub struct SandboxFiles {
    /// For `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// For `/etc/hostname`.
    pub hostname: Option<PathBuf>,
    /// For `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    /// The directory for `/dev/shm` (the pod's tmpfs; the host's `/dev/shm` with host IPC). `None`: a private tmpfs.
    pub shm: Option<PathBuf>,
}

/// The sandbox's namespaces as paths to join
/// (pinned files, or `/proc/PID/ns/*`). Which of them a container needs follows from its `namespace_options`.
#[derive(Debug, Clone, Default)]
pub struct NamespacePaths {
    /// The pod's network namespace; not needed with host network.
    pub network: Option<PathBuf>,
    /// The pod's IPC namespace; not needed with host IPC.
    pub ipc: Option<PathBuf>,
    /// The pod's UTS namespace; not needed with host network, which has the host's.
    pub uts: Option<PathBuf>,
    /// The PID namespace to join: the pod's for `POD`, the target container's for `TARGET`.
    pub pid: Option<PathBuf>,
    /// The pod's user namespace; needed where the pod has one of its own.
    pub user: Option<PathBuf>,
}

/// Kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDevice {
    /// Its path on the host.
    pub path: PathBuf,
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits (0o777 at most).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What becomes of limits of huge pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hugetlb {
    /// The hugetlb controller is there: they are set.
    #[default]
    Enforced,
    /// Nothing limits huge pages here, and the node's configuration lets that pass.
    Ignored,
    /// The controller is missing and the configuration does not tolerate it: such a request is refused.
    Missing,
}

/// What this host and the daemon on it are able to do. Read once at start.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// The unified cgroup hierarchy is the one in use.
    pub cgroup_v2: bool,
    /// Every device node below `/dev` but for `pts`, `shm`, `fd`, `mqueue`, `console`: what privileged containers get.
    pub devices: Vec<HostDevice>,
    /// The daemon's capability bounding set: no container gets more.
    pub bounding: Capabilities,
    /// The daemon's own `oom_score_adj`.
    pub oom_score_adj: i32,
    /// The daemon may go below its own `oom_score_adj` (CAP_SYS_RESOURCE).
    pub may_lower_oom_score: bool,
    /// The daemon's own resource limits: containers inherit them, all but NOFILE.
    pub rlimits: Vec<PosixRlimit>,
    /// The daemon may raise hard limits (CAP_SYS_RESOURCE).
    pub may_raise_rlimits: bool,
    /// `fs.nr_open`: no process may have a higher NOFILE; 0 means unknown.
    pub nr_open: u64,
    /// The kernel has seccomp filters.
    pub seccomp_supported: bool,
    /// AppArmor is enabled in the kernel.
    pub apparmor_enabled: bool,
    /// The profile of containers that name none, loaded; `None` without AppArmor, or without a parser to load it.
    pub apparmor_default: Option<String>,
    /// The huge page sizes that the kernel has, as the hugetlb controller spells them (`2MB`, `1GB`).
    pub hugepage_sizes: Vec<String>,
    /// What becomes of their limits.
    pub hugetlb: Hugetlb,
    /// Memory cgroups account swap.
    pub swap_accounting: bool,
    /// The kernel can change whole trees of mounts, and map their IDs (mount_setattr(2), Linux 5.12).
    pub mount_attributes: bool,
    /// The kernel's release (`uname -r`), for seccomp rules that only newer kernels get.
    pub kernel: (u32, u32),
}

/// How a handler of the configuration file wants specifications made. Field names are containerd's where it has them.
#[derive(Debug, Clone, Default)]
pub struct SpecOptions {
    /// `base_runtime_spec`, parsed: its rlimits, hooks and extra fields are the base; what CRI says goes on top.
    pub base_spec: Option<Spec>,
    /// Privileged containers get the default devices only.
    pub privileged_without_host_devices: bool,
    /// With the former: they may still make and use any device node.
    pub privileged_without_host_devices_all_devices_allowed: bool,
    /// Globs (`*`, `?`, `[…]`) of pod annotations that are passed on to the runtime.
    pub pod_annotations: Vec<String>,
    /// Globs of container annotations that are passed on.
    pub container_annotations: Vec<String>,
    /// Device nodes belong to the container's user and group instead of the host's owner.
    pub device_ownership_from_security_context: bool,
    /// What a container without any seccomp request gets: empty or `unconfined`, `runtime/default`, or
    /// `localhost/PATH` with the profile in [`ContainerInput::localhost_seccomp`].
    pub unset_seccomp_profile: String,
    /// A set to start from instead of containerd's default capabilities.
    pub default_capabilities: Option<Vec<String>>,
    /// The handler can make mounts recursively read-only.
    pub recursive_read_only: bool,
    /// The handler can map the IDs of mounts.
    pub mapped_mounts: bool,
}

/// Kind of what a host path leads to, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A directory.
    Directory,
    /// Anything else that exists.
    File,
    /// Nothing, or a link to nothing.
    Missing,
}

/// Propagation of the mount a path is on (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Neither sends nor receives.
    Private,
    /// Receives.
    Slave,
    /// Sends and receives.
    Shared,
}

/// What is known of host paths named by a request. The real one asks the kernel; tests have a fake.
pub trait MountFacts {
    /// What `path` leads to.
    fn kind(&self, path: &Path) -> PathKind;
    /// The propagation of the mount that `path` is on, or its closest ancestor that exists.
    fn propagation(&self, path: &Path) -> Propagation;
    /// The device node at `path` (links followed), or every one below it when it is a directory; empty when none.
    fn devices(&self, path: &Path) -> Vec<HostDevice>;
}

/// An anonymous volume that the caller made for a VOLUME of the image (see [`crate::image_volumes`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnonymousVolume {
    /// Where it is mounted in the container.
    pub destination: PathBuf,
    /// The directory on the host.
    pub source: PathBuf,
}

/// An image that the request wants mounted (see [`crate::mounted_images`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedImage {
    /// The mount's index in the request.
    pub index: usize,
    /// The image's name or ID.
    pub image: String,
    /// A path inside the image without `.` and `..`; empty for its root.
    pub sub_path: PathBuf,
}

/// Everything a container's specification is made of.
pub struct ContainerInput<'a> {
    /// The container's ID.
    pub id: &'a ContainerId,
    /// Its sandbox.
    pub sandbox_id: &'a SandboxId,
    /// What the kubelet asked for.
    pub config: &'a v1::ContainerConfig,
    /// The sandbox's configuration.
    pub sandbox: &'a v1::PodSandboxConfig,
    /// The image's defaults.
    pub image: &'a ImageDefaults,
    /// The image as the container's status names it, for an annotation.
    pub image_name: &'a str,
    /// The container's root file system on the host.
    pub rootfs: &'a Path,
    /// The image's `/etc/passwd`, if it has one (the caller reads 10 MiB at most).
    pub passwd: Option<&'a [u8]>,
    /// The image's `/etc/group`, likewise.
    pub group: Option<&'a [u8]>,
    /// The sandbox's files.
    pub files: SandboxFiles,
    /// Anonymous volumes made for this container.
    pub volumes: Vec<AnonymousVolume>,
    /// Where the images of the request's mounts are on the host, sub-paths included, by the mount's index.
    pub images: BTreeMap<usize, PathBuf>,
    /// The container's SELinux labels; `None`: there are none here.
    pub selinux: Option<&'a crate::selinux::SelinuxLabels>,
    /// The sandbox's namespaces.
    pub namespaces: NamespacePaths,
    /// `linux.cgroupsPath`.
    pub cgroups_path: String,
    /// The name of the host: HOSTNAME of containers whose pod gives none.
    pub host_name: &'a str,
    /// The host.
    pub host: &'a HostFacts,
    /// The handler's options.
    pub handler: &'a SpecOptions,
    /// The content of the profile that [`crate::localhost_seccomp_path`] names.
    pub localhost_seccomp: Option<&'a [u8]>,
    /// The host's paths.
    pub mounts: &'a dyn MountFacts,
}
