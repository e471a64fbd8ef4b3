//! What the fuzz targets call of this crate's private parsers. Not part of its interface.

use std::path::Path;

use cricket_cri_api::v1;
use cricket_oci::Propagation;

/// The counters in proc_pid_net(5) `dev`.
pub fn net_dev(text: &str) -> Vec<v1::NetworkInterfaceUsage> {
    crate::netstat::parse(text)
}

/// How the mount that `path` is in propagates, by a table of proc_pid_mountinfo(5).
pub fn propagation(table: &str, path: &Path) -> Propagation {
    crate::host::propagation_in(table, path)
}
