//! What comes out.

use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

/// Who a container's processes are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// User ID.
    pub uid: u32,
    /// Primary group ID.
    pub gid: u32,
    /// Supplementary groups, sorted, the primary one included.
    pub additional_gids: Vec<u32>,
    /// The name in the container's passwd, when there is one.
    pub name: Option<String>,
    /// The home directory in the container's passwd; `/` without one.
    pub home: String,
}

/// A specification and what the caller has to do for it.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// The OCI runtime specification, every field set explicitly.
    pub spec: Spec,
    /// The user the spec's process has.
    pub user: ResolvedUser,
    /// Missing host paths to make as directories, mode 0755, before the container is made.
    pub mounts_to_create: Vec<PathBuf>,
    /// The number of the stop signal: the request's, the image's, or SIGTERM.
    pub stop_signal: i32,
}
