//! Mounts: replaced and removed by destination, ordered so that none hides another.

use std::path::{Path, PathBuf};

use cricket_oci::oci_spec::runtime::{Mount, Spec};
use cricket_oci::{MountFacts, Propagation};

use crate::api;
use crate::error::{Error, Result};
use crate::merge::removal;

pub(super) fn apply(spec: &mut Spec, asked: &[api::Mount], facts: &dyn MountFacts) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in asked {
        let destination = removal(&mount.destination).unwrap_or(&mount.destination);
        mounts.retain(|other| other.destination() != Path::new(destination));
        if removal(&mount.destination).is_none() {
            propagate(spec, mount, facts)?;
            mounts.push(convert(mount)?);
        }
    }
    let depth = |mount: &Mount| mount.destination().components().count();
    mounts.sort_by(|a, b| depth(a).cmp(&depth(b)).then_with(|| a.destination().cmp(b.destination())));
    spec.set_mounts(Some(mounts));
    Ok(())
}

fn convert(asked: &api::Mount) -> Result<Mount> {
    let refused = |reason| Error::adjustment("mounts", format_args!("{}: {reason}", asked.destination));
    let destination = Path::new(&asked.destination);
    if !destination.is_absolute() || destination.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(refused("is not an absolute path"));
    }
    if asked.options.iter().any(|option| option == "relabel") {
        return Err(refused("mounts are not relabelled"));
    }
    let mut mount = Mount::default();
    mount
        .set_destination(destination.to_owned())
        .set_typ((!asked.r#type.is_empty()).then(|| asked.r#type.clone()))
        .set_source((!asked.source.is_empty()).then(|| PathBuf::from(&asked.source)))
        .set_options((!asked.options.is_empty()).then(|| asked.options.clone()));
    Ok(mount)
}

/// A mount that propagates needs a source and a root that do.
fn propagate(spec: &mut Spec, asked: &api::Mount, facts: &dyn MountFacts) -> Result<()> {
    let wanted = asked.options.iter().rev().find(|option| matches!(option.as_str(), "rshared" | "rslave" | "rprivate"));
    let Some(wanted) = wanted.filter(|wanted| *wanted != "rprivate") else { return Ok(()) };
    let source = facts.propagation(Path::new(&asked.source));
    if source == Propagation::Private || (wanted == "rshared" && source == Propagation::Slave) {
        let reason = format!("{}: {} is not on a mount that propagates so ({wanted})", asked.destination, asked.source);
        return Err(Error::adjustment("mounts", reason));
    }
    let mut linux = spec.linux().clone().unwrap_or_default();
    if wanted == "rshared" || linux.rootfs_propagation().as_deref() != Some("rshared") {
        linux.set_rootfs_propagation(Some(wanted.clone()));
    }
    spec.set_linux(Some(linux));
    Ok(())
}
