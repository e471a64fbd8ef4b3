//! Mounts: each takes the place of one with the same destination.

use std::path::{Path, PathBuf};

use cricket_oci::oci_spec::runtime::{Mount, Spec};
use cricket_oci::{PathKind, Propagation};

use super::{Edited, Host, clean, in_user_namespace, linux};
use crate::check::is_bind;
use crate::error::Refusal;
use crate::model;

pub(super) fn apply(spec: &mut Spec, asked: &[model::Mount], host: &Host<'_>) -> Edited {
    if asked.is_empty() {
        return Ok(());
    }
    let mapped = in_user_namespace(spec);
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in asked {
        let destination = clean(&mount.container_path);
        mounts.retain(|other| other.destination() != &destination);
        let mut options = mount.options.clone();
        if is_bind(mount) {
            bind(spec, mount, &mut options, host)?;
            map(mapped, mount, &mut options, host)?;
        }
        let mut made = Mount::default();
        made.set_destination(destination)
            .set_typ(Some(if mount.kind.is_empty() { "bind".to_owned() } else { mount.kind.clone() }))
            .set_source(Some(PathBuf::from(&mount.host_path)))
            .set_options((!options.is_empty()).then_some(options));
        mounts.push(made);
    }
    // Stable, so that none hides another by accident.
    mounts.sort_by_key(|mount| mount.destination().components().count());
    spec.set_mounts(Some(mounts));
    Ok(())
}

fn bind(spec: &mut Spec, asked: &model::Mount, options: &mut Vec<String>, host: &Host<'_>) -> Edited {
    let source = Path::new(&asked.host_path);
    if host.mounts.kind(source) == PathKind::Missing {
        return Err(Refusal::Host(format!("the mount's source {} does not exist", source.display())));
    }
    if !options.iter().any(|option| option == "bind" || option == "rbind") {
        options.push("rbind".to_owned());
    }
    propagate(spec, source, options, host)
}

/// A mount that propagates needs a source and a root that do.
fn propagate(spec: &mut Spec, source: &Path, options: &[String], host: &Host<'_>) -> Edited {
    let wanted = options.iter().rev().find_map(|option| match option.as_str() {
        "shared" | "rshared" => Some("rshared"),
        "slave" | "rslave" => Some("rslave"),
        "private" | "rprivate" | "unbindable" | "runbindable" => Some(""),
        _ => None,
    });
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Ok(()) };
    let from_host = host.mounts.propagation(source);
    if from_host == Propagation::Private || (wanted == "rshared" && from_host == Propagation::Slave) {
        let source = source.display();
        return Err(Refusal::Host(format!("{source} is not on a mount that propagates so ({wanted})")));
    }
    let mut linux = linux(spec);
    let shared = linux.rootfs_propagation().as_deref().is_some_and(|root| root.ends_with("shared"));
    if !shared {
        linux.set_rootfs_propagation(Some(wanted.to_owned()));
        spec.set_linux(Some(linux));
    }
    Ok(())
}

/// In a pod with a user namespace files are to belong to whom they belong to on the host, as the container counts.
fn map(mapped: bool, asked: &model::Mount, options: &mut Vec<String>, host: &Host<'_>) -> Edited {
    if !mapped || options.iter().any(|option| option == "idmap" || option == "ridmap") {
        return Ok(());
    }
    if !host.able.mapped_mounts {
        let reason = format!("the IDs of {} cannot be mapped: the handler or the kernel does not", asked.host_path);
        return Err(Refusal::Unsupported(reason));
    }
    let recursive = options.iter().any(|option| option == "rbind");
    options.push(if recursive { "ridmap" } else { "idmap" }.to_owned());
    Ok(())
}
