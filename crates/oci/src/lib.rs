//! Turns CRI configurations into OCI runtime specifications; pure: no I/O, no clock, no environment.
//!
//! ```text
//! ContainerConfig ─┐
//! PodSandboxConfig ┼─▶ container_spec ─▶ ContainerSpec { spec, user, mounts_to_create, … }
//! ImageDefaults    │
//! facts of the host┘    exec_process(spec, command, tty) ─▶ Process
//! ```
//!
//! The input is hostile where it comes from an image and possibly malformed where it comes over CRI: every value is
//! checked, and what this host cannot enforce is refused, never skipped.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on panics"))]

mod annotations;
mod args;
mod caps;
mod devices;
mod env;
mod error;
mod exec;
#[doc(hidden)]
pub mod fuzzing;
mod images;
mod input;
mod limits;
mod mounts;
mod namespaces;
mod output;
mod passwd;
mod paths;
mod resources;
mod sandbox;
mod seccomp;
mod security;
pub mod selinux;
mod signal;
mod spec;
mod sysctl;
mod user;
mod userns;
mod validate;

pub use caps::DEFAULT as DEFAULT_CAPABILITIES;
pub use error::{Error, Result};
pub use exec::exec_process;
pub use images::mounted_images;
pub use input::{
    AnonymousVolume, ContainerInput, DeviceKind, HostDevice, HostFacts, Hugetlb, ImageDefaults, MountFacts,
    MountedImage, NamespacePaths, PathKind, Propagation, SandboxFiles, SpecOptions,
};
pub use mounts::image_volumes;
pub use namespaces::sandbox_user_namespace;
pub use oci_spec;
pub use output::{ContainerSpec, ResolvedUser};
pub use resources::{linux_resources, merge_update};
pub use sandbox::{SandboxInput, sandbox_spec};
pub use seccomp::{default_profile, localhost_seccomp_path};
pub use signal::{cri_signal, parse_signal, stop_signal};
pub use spec::container_spec;
pub use sysctl::sandbox_sysctls;
pub use user::{ImageUser, uid_or_username};
pub use validate::{validate_container, validate_sandbox};
