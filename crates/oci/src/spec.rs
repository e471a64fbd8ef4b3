//! The assembly of a container's specification.

use std::path::PathBuf;

use cricket_cri_api::v1;
use oci_spec::runtime::{LinuxResources, Process, Spec};

use crate::{ContainerInput, ContainerSpec, ImageDefaults, Result};

/// The specification of a container.
///
/// # Errors
/// When the request or the image is malformed, or asks for what this host or handler cannot enforce.
pub fn container_spec(_input: &ContainerInput<'_>) -> Result<ContainerSpec> {
    unimplemented!("arrives with the modules it is assembled from")
}

/// The process of an exec in the container that `spec` describes: its environment, user, capabilities, working
/// directory, limits and profiles, with `command` as its arguments.
///
/// # Errors
/// When `command` is empty or `spec` has no process.
pub fn exec_process(_spec: &Spec, _command: &[String], _tty: bool) -> Result<Process> {
    unimplemented!("arrives with exec")
}

/// The VOLUMEs of the image that no mount of the request covers, as absolute paths without `.` and `..`, sorted.
///
/// # Errors
/// When the image declares a path that leaves the root or is malformed.
pub fn image_volumes(_image: &ImageDefaults, _mounts: &[v1::Mount]) -> Result<Vec<PathBuf>> {
    unimplemented!("arrives with mounts")
}

/// What ImageStatus says of an image's USER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// `Image.uid`; an empty USER is 0.
    Uid(i64),
    /// `Image.username`.
    Name(String),
}

/// Splits an image's USER as ImageStatus reports it: the part before `:`, a number or a name.
pub fn uid_or_username(_user: &str) -> ImageUser {
    unimplemented!("arrives with user")
}

/// The host path of the Localhost profile a container asks for, which the caller reads (bounded) for
/// [`ContainerInput::localhost_seccomp`].
///
/// # Errors
/// When it is not an absolute path.
pub fn localhost_seccomp_path(_config: &v1::ContainerConfig, _unset_profile: &str) -> Result<Option<PathBuf>> {
    unimplemented!("arrives with seccomp")
}

/// The sysctls of a sandbox: defaults overridden by the pod's, checked against what is namespaced for it.
///
/// # Errors
/// A name that is not one, or one that is not private to the pod.
pub fn sandbox_sysctls(_config: &v1::PodSandboxConfig) -> Result<Vec<(String, String)>> {
    unimplemented!("arrives with sysctl")
}

/// The number of a signal: `TERM`, `SIGTERM`, `15`, `SIGRTMIN+3`, `SIGRTMAX-1`, any case.
pub fn parse_signal(_text: &str) -> Option<i32> {
    unimplemented!("arrives with signal")
}

/// CRI resources as the specification has them; zero and empty mean not set.
///
/// # Errors
/// A negative or malformed value.
pub fn linux_resources(_resources: &v1::LinuxContainerResources) -> Result<LinuxResources> {
    unimplemented!("arrives with resources")
}

/// `current` with every value that `update` sets replaced (UpdateContainerResources: zero means unchanged).
pub fn merge_update(
    _current: &v1::LinuxContainerResources,
    _update: &v1::LinuxContainerResources,
) -> v1::LinuxContainerResources {
    unimplemented!("arrives with resources")
}

/// Checks what CreateContainer is given before anything is recorded: names, log path, bounds, enums, and the
/// combinations that the CRI definition calls errors.
///
/// # Errors
/// Names the field.
pub fn validate_container(_config: &v1::ContainerConfig, _sandbox: &v1::PodSandboxConfig) -> Result<()> {
    unimplemented!("arrives with validate")
}

/// Checks what RunPodSandbox is given.
///
/// # Errors
/// Names the field.
pub fn validate_sandbox(_config: &v1::PodSandboxConfig) -> Result<()> {
    unimplemented!("arrives with validate")
}
