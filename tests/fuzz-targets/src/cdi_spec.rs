//! Specifications of CDI devices, and what they make of a container's.

use std::path::{Component, Path};

use cricket_cdi::QualifiedName;
use cricket_cdi::fuzzing::{Format, Specification, inject, parse};
use cricket_oci::oci_spec::runtime::Spec;

/// What is read has names that can be asked for, is written and read as the same, and edits a specification with
/// paths that stay where they point to.
pub fn run(data: &[u8]) {
    for format in [Format::Json, Format::Yaml] {
        match parse(data, format) {
            Ok(spec) => holds(spec),
            Err(reason) => assert!(!reason.contains('\n') && reason.len() < 20_000, "{reason}"),
        }
    }
}

fn holds(read: Specification) {
    assert!(!read.devices.is_empty());
    for device in &read.devices {
        let name = format!("{}={}", read.kind, device.name);
        let parsed = QualifiedName::parse(&name).expect("a name");
        assert_eq!((parsed.kind, parsed.device), (read.kind.as_str(), device.name.as_str()));
    }
    let text = serde_json::to_vec(&read).expect("JSON");
    assert_eq!(parse(&text, Format::Json).as_ref(), Ok(&read));
    let mut spec = Spec::default();
    if inject(read, &mut spec).is_err() {
        return;
    }
    let env = spec.process().as_ref().and_then(|process| process.env().as_deref()).unwrap_or_default();
    assert!(env.iter().all(|variable| variable.find('=').is_some_and(|at| at > 0)), "{env:?}");
    let nodes = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    for path in nodes.iter().map(|node| node.path()).chain(mounts.iter().map(|mount| mount.destination())) {
        assert!(plain(path), "{}", path.display());
    }
    let depths: Vec<_> = mounts.iter().map(|mount| mount.destination().components().count()).collect();
    assert!(depths.is_sorted() || mounts.len() == Spec::default().mounts().iter().flatten().count(), "{depths:?}");
}

/// Absolute, below the root, without `..`.
fn plain(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && path.components().count() > 1
        && parts.all(|part| matches!(part, Component::Normal(_)))
}
