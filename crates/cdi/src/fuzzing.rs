//! What the fuzz targets call of this crate's private parsers. Not part of its interface.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cricket_oci::oci_spec::runtime::Spec;
use cricket_oci::{HostDevice, MountFacts, PathKind, Propagation};

pub use crate::model::Specification;
pub use crate::parse::Format;

use crate::apply::{Able, Host, HostNode, NodeKind, Nodes};
use crate::error::Result;
use crate::snapshot::{Directory, Snapshot};

/// A file's content.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8], format: Format) -> std::result::Result<Specification, String> {
    crate::parse::parse(bytes, format)
}

/// A host that has every path, each a device.
struct Anything;

impl Nodes for Anything {
    fn node(&self, _: &Path) -> io::Result<Option<HostNode>> {
        Ok(Some(HostNode { kind: NodeKind::Char, major: 1, minor: 3, mode: 0o666 }))
    }
}

impl MountFacts for Anything {
    fn kind(&self, _: &Path) -> PathKind {
        PathKind::File
    }

    fn propagation(&self, _: &Path) -> Propagation {
        Propagation::Shared
    }

    fn devices(&self, _: &Path) -> Vec<HostDevice> {
        Vec::new()
    }
}

/// Edits `spec` for every device of a file, on a host and with a handler that can do everything.
///
/// # Errors
/// What cannot be done all the same.
pub fn inject(file: Specification, spec: &mut Spec) -> Result<()> {
    let names: Vec<String> = file.devices.iter().map(|device| format!("{}={}", file.kind, device.name)).collect();
    let files = vec![("/etc/cdi/file.json".into(), Arc::new(Ok(file)))];
    let snapshot = Snapshot { directories: vec![Directory { path: "/etc/cdi".into(), files, error: None }] };
    let able = Able { intel_rdt: true, net_devices: true, mapped_mounts: true };
    snapshot.inject(spec, &names, &Host { nodes: &Anything, mounts: &Anything, able })
}
