//! Pods with a user namespace of their own (`hostUsers: false`): which IDs they have, and what goes with that.
//!
//! The rules are those of the CRI's reference: one range of users, one of groups, with root in both, the same for the
//! sandbox and its containers.

use std::path::Path;

use cricket_cri_api::v1;
use cricket_model::{IdMaps, IdRange};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Mount};

use crate::error::{Error, Result};
use crate::output::ResolvedUser;
use v1::NamespaceMode;

/// The IDs that options ask for; `None` means the host's.
pub(crate) fn of_options(field: &str, options: Option<&v1::NamespaceOption>) -> Result<Option<IdMaps>> {
    let Some(user) = options.and_then(|options| options.userns_options.as_ref()) else { return Ok(None) };
    let field = format!("{field}.userns_options");
    match NamespaceMode::try_from(user.mode) {
        Ok(NamespaceMode::Node) if user.uids.is_empty() && user.gids.is_empty() => Ok(None),
        Ok(NamespaceMode::Node) => Err(Error::invalid(field, "has mappings for the host's user namespace")),
        Ok(NamespaceMode::Pod) => Ok(Some(IdMaps {
            users: root_range(&format!("{field}.uids"), &user.uids)?,
            groups: root_range(&format!("{field}.gids"), &user.gids)?,
        })),
        _ => Err(Error::invalid(field, format!("{} is not a mode of user namespaces", user.mode))),
    }
}

/// The one range of a pod's namespace.
fn root_range(field: &str, mappings: &[v1::IdMapping]) -> Result<IdRange> {
    let range = single(field, mappings)?;
    match range.inside {
        0 => Ok(range),
        _ => Err(Error::invalid(field, "does not map ID 0")),
    }
}

/// The one range that mappings are.
fn single(field: &str, mappings: &[v1::IdMapping]) -> Result<IdRange> {
    let [mapping] = mappings else {
        return Err(Error::invalid(field, format!("has {} mappings, not one", mappings.len())));
    };
    let range = IdRange { inside: mapping.container_id, outside: mapping.host_id, length: mapping.length };
    // The highest number is no ID: system calls take it for "leave it as it is".
    let fits = |first: u32| first.checked_add(range.length).is_some();
    match range.length {
        0 => Err(Error::invalid(field, "has the length 0")),
        _ if !fits(range.inside) || !fits(range.outside) => Err(Error::invalid(field, "goes beyond the highest ID")),
        _ => Ok(range),
    }
}

/// The IDs of a volume, where a mount says how they are mapped.
pub(crate) fn of_mount(field: &str, mount: &v1::Mount) -> Result<Option<IdMaps>> {
    if mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty() {
        return Ok(None);
    }
    let (users, groups) = (format!("{field}.uid_mappings"), format!("{field}.gid_mappings"));
    Ok(Some(IdMaps { users: single(&users, &mount.uid_mappings)?, groups: single(&groups, &mount.gid_mappings)? }))
}

/// `linux.uidMappings` and `linux.gidMappings`, of a container or of a mount.
pub(crate) fn mappings(maps: IdMaps) -> Result<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)> {
    let mapping = |range: IdRange| {
        let builder = LinuxIdMappingBuilder::default();
        let built = builder.container_id(range.inside).host_id(range.outside).size(range.length).build();
        built.map(|one| vec![one]).map_err(|e| Error::invalid("userns_options", e.to_string()))
    };
    Ok((mapping(maps.users)?, mapping(maps.groups)?))
}

/// Nobody can be who has no ID: the kernel would say so, but only when the container starts.
pub(crate) fn check_user(maps: IdMaps, user: &ResolvedUser) -> Result<()> {
    if maps.users.outside(user.uid).is_none() {
        let reason = format!("the pod's user namespace has no user {}", user.uid);
        return Err(Error::invalid("linux.security_context.run_as_user", reason));
    }
    let groups = user.additional_gids.iter().chain([&user.gid]);
    match groups.copied().find(|group| maps.groups.outside(*group).is_none()) {
        Some(group) => {
            let reason = format!("the pod's user namespace has no group {group}");
            Err(Error::invalid("linux.security_context", reason))
        }
        None => Ok(()),
    }
}

/// A sysfs shows the devices of a network namespace, and only who owns that may mount one: on the host's network a pod
/// sees the host's, read-only.
pub(crate) fn bind_sysfs(mounts: &mut [Mount]) {
    let sys = mounts.iter_mut().filter(|mount| mount.destination() == Path::new("/sys"));
    for mount in sys.filter(|mount| mount.typ().as_deref() == Some("sysfs")) {
        let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev", "rro"].map(str::to_owned).to_vec();
        mount.set_typ(Some("bind".to_owned())).set_source(Some("/sys".into())).set_options(Some(options));
    }
}

/// Terminals cannot belong to a group that the namespace does not have.
pub(crate) fn fit_terminals(maps: IdMaps, mounts: &mut [Mount]) {
    let pts = mounts.iter_mut().filter(|mount| mount.destination() == Path::new("/dev/pts"));
    for mount in pts.filter(|mount| mount.typ().as_deref() == Some("devpts")) {
        let mapped = |option: &String| {
            let group = option.strip_prefix("gid=").and_then(|id| id.parse().ok());
            group.is_none_or(|group| maps.groups.outside(group).is_some())
        };
        let options = mount.options().iter().flatten().filter(|option| mapped(option)).cloned().collect();
        mount.set_options(Some(options));
    }
}
