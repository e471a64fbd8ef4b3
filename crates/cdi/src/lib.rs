//! The Container Device Interface (github.com/cncf-tags/container-device-interface, SPEC.md, up to version 1.1.0):
//! devices of vendors that are made of environment, device nodes, mounts, hooks and groups.
//!
//! ```text
//! cdi_devices, annotations ─▶ requested ─▶ names ─┐
//! /etc/cdi, /var/run/cdi ─▶ Registry ─▶ Snapshot ─┴▶ inject ─▶ edited OCI specification
//! ```
//!
//! Invariants: a file that is not wholly valid gives no device at all, and takes none of another file; what a
//! specification asks for and cannot be had is an error that names device and file; files are read anew whenever
//! they have changed, and nothing watches them.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on panics"))]

mod apply;
mod check;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod model;
mod name;
mod parse;
mod read;
mod request;
mod snapshot;
mod version;

pub use apply::{Able, Host, HostNode, LiveNodes, NodeKind, Nodes};
pub use error::{Error, Result};
pub use name::{NameError, QualifiedName};
pub use read::Registry;
pub use request::{ANNOTATION_PREFIX, requested};
pub use snapshot::Snapshot;

/// Where specifications are looked for unless the configuration says otherwise (SPEC.md, "CDI JSON Specification");
/// later directories take precedence.
pub const DEFAULT_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
