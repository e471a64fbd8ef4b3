//! Names below the root and state directories, for everybody who looks there.

use std::path::{Path, PathBuf};

/// Held by the daemon, in the root and in the state directory.
pub(crate) const LOCK: &str = "lock";

/// The record store.
pub(crate) fn records(root: &Path) -> PathBuf {
    root.join("records.redb")
}

/// What the network plugins answered.
pub(crate) fn networks(root: &Path) -> PathBuf {
    root.join("cni")
}

/// The pods' folders.
pub(crate) fn pods(state: &Path) -> PathBuf {
    state.join("pods")
}
