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

mod error;
mod input;
mod output;
mod spec;

pub use error::{Error, Result};
pub use input::{
    AnonymousVolume, ContainerInput, DeviceKind, HostDevice, HostFacts, ImageDefaults, MountFacts, NamespacePaths,
    PathKind, Propagation, SandboxFiles, SpecOptions,
};
pub use oci_spec;
pub use output::{ContainerSpec, ResolvedUser};
pub use spec::*;
