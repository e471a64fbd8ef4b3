//! The mounts of a container: default file systems, the sandbox's files, anonymous volumes, and what the request
//! brings, in the order in which they have to be made (by depth, so that none hides another by accident).
//!
//! A mount of the request takes the place of what cricket would put at the same path; on `/dev`, of everything below.

use std::path::{Path, PathBuf};

use cricket_cri_api::v1;
use oci_spec::runtime::Mount;

use crate::error::{Error, Result, shown};
use crate::input::{ContainerInput, ImageDefaults, PathKind, Propagation};
use crate::paths::{check, clean_absolute, depth};
use crate::userns;

/// More mounts than any pod has.
const MAX_MOUNTS: usize = 4096;

/// Host files that are never made up as directories when missing: a directory there breaks the host.
const NEVER_CREATED: [&str; 7] = [
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/localtime",
    "/etc/machine-id",
    "/etc/passwd",
    "/etc/group",
];

/// Options that a kubelet may add to a bind mount.
const EXTRA_OPTIONS: [&str; 9] =
    ["noexec", "exec", "nodev", "dev", "nosuid", "suid", "noatime", "nodiratime", "relatime"];

/// The mounts and what has to be done for them.
pub(crate) struct Mounts {
    /// In order.
    pub mounts: Vec<Mount>,
    /// Missing host paths to make as directories.
    pub create: Vec<PathBuf>,
    /// `linux.rootfsPropagation`: set when a mount has to propagate back to the host.
    pub rootfs_propagation: Option<String>,
}

pub(crate) fn mounts(input: &ContainerInput<'_>, privileged: bool, readonly_root: bool) -> Result<Mounts> {
    if input.config.mounts.len() > MAX_MOUNTS {
        let actual = input.config.mounts.len();
        return Err(Error::TooLarge { field: "mounts".into(), actual, limit: MAX_MOUNTS });
    }
    let mut out = Mounts { mounts: Vec::new(), create: Vec::new(), rootfs_propagation: None };
    let mut requested = Vec::new();
    for (index, mount) in input.config.mounts.iter().enumerate() {
        requested.push(bind_of_request(input, index, mount, &mut out)?);
    }
    let taken = |path: &Path| requested.iter().any(|mount: &Mount| mount.destination() == path);
    let covered = |path: &Path| requested.iter().any(|mount: &Mount| path.starts_with(mount.destination()));

    let base = input.handler.base_spec.as_ref().and_then(|spec| spec.mounts().clone());
    let defaults = base.unwrap_or_else(|| default_mounts(privileged));
    let shm = Path::new("/dev/shm");
    out.mounts.extend(defaults.into_iter().filter(|mount| {
        let replaced = mount.destination() == shm && input.files.shm.is_some();
        !covered(mount.destination()) && !replaced
    }));
    match &input.files.shm {
        Some(source) if !covered(shm) => {
            out.mounts.push(bind(shm, source, &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"]));
        }
        _ => {}
    }
    let access = if readonly_root { "ro" } else { "rw" };
    let files = &input.files;
    for (destination, source) in
        [("/etc/hostname", &files.hostname), ("/etc/hosts", &files.hosts), ("/etc/resolv.conf", &files.resolv_conf)]
    {
        if let Some(source) = source.as_ref().filter(|_| !taken(Path::new(destination))) {
            out.mounts.push(bind(Path::new(destination), source, &["rbind", "rprivate", access]));
        }
    }
    for volume in &input.volumes {
        if !taken(&volume.destination) {
            out.mounts.push(bind(&volume.destination, &volume.source, &["rbind", "rprivate", "rw"]));
        }
    }
    out.mounts.extend(requested);
    // Stable: of two mounts on one path the later one in the request ends up on top.
    out.mounts.sort_by_key(|mount| depth(mount.destination()));
    out.create.sort();
    out.create.dedup();
    Ok(out)
}

/// Adds nodes of the host, in their places.
pub(crate) fn bind_devices(mounts: &mut Vec<Mount>, nodes: &[(PathBuf, PathBuf)]) {
    let options = ["bind", "rprivate", "nosuid", "noexec", "rw"];
    mounts.extend(nodes.iter().map(|(host, container)| bind(container, host, &options)));
    mounts.sort_by_key(|mount| depth(mount.destination()));
}

/// The file systems every container has.
pub(crate) fn default_mounts(privileged: bool) -> Vec<Mount> {
    let access = if privileged { "rw" } else { "ro" };
    let made = |destination: &str, kind: &str, options: &[&str]| {
        let mut mount = Mount::default();
        mount
            .set_destination(destination.into())
            .set_typ(Some(kind.to_owned()))
            .set_source(Some(kind.into()))
            .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
        mount
    };
    vec![
        made("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        made("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        made("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        made("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        made("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        made("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]),
        made("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ]
}

fn bind(destination: &Path, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.to_owned())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

fn bind_of_request(input: &ContainerInput<'_>, index: usize, mount: &v1::Mount, out: &mut Mounts) -> Result<Mount> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let destination = clean_absolute(&field("container_path"), &mount.container_path)?;
    if destination == Path::new("/") {
        return Err(Error::invalid(field("container_path"), "is the root"));
    }
    if crate::images::mounted_image(index, mount)?.is_some() {
        let source = input.images.get(&index).ok_or(Error::Missing("the image of a mount"))?;
        let options = ["rbind", "rprivate", "ro"].into_iter().chain(extra_options(mount, &field("mount_options"))?);
        // IDs are mapped in the image's layers, as those of the pod.
        return Ok(bind(&destination, source, &options.collect::<Vec<_>>()));
    }
    let maps = userns::of_mount(&format!("mounts[{index}]"), mount)?;
    if maps.is_some() {
        able(input, input.handler.mapped_mounts, &field("uid_mappings"), "map the IDs of mounts")?;
    }
    let source = clean_host(&field("host_path"), &mount.host_path)?;
    match input.mounts.kind(&source) {
        PathKind::Directory | PathKind::File => {}
        PathKind::Missing if NEVER_CREATED.iter().any(|path| source == Path::new(path)) => {
            return Err(Error::invalid(field("host_path"), format!("{} does not exist", source.display())));
        }
        PathKind::Missing => out.create.push(source.clone()),
    }

    let propagation = v1::MountPropagation::try_from(mount.propagation)
        .map_err(|_| Error::invalid(field("propagation"), format!("{} is not a mode", mount.propagation)))?;
    let recursive = recursive_read_only(input, mount, propagation, &field("recursive_read_only"))?;
    let mut options = vec!["rbind"];
    options.push(match propagation {
        v1::MountPropagation::PropagationPrivate => "rprivate",
        v1::MountPropagation::PropagationHostToContainer => "rslave",
        v1::MountPropagation::PropagationBidirectional => "rshared",
    });
    let from_host = input.mounts.propagation(&source);
    let lacking = match propagation {
        v1::MountPropagation::PropagationPrivate => None,
        v1::MountPropagation::PropagationHostToContainer => (from_host == Propagation::Private).then_some("private"),
        v1::MountPropagation::PropagationBidirectional => (from_host != Propagation::Shared).then_some("not shared"),
    };
    // What does not exist yet will be on the mount of its parent, which the facts speak of as well.
    if let Some(lacking) = lacking {
        let reason = format!("{} is on a mount that is {lacking}", source.display());
        return Err(Error::host(field("propagation"), reason));
    }
    if propagation == v1::MountPropagation::PropagationBidirectional {
        out.rootfs_propagation = Some("shared".to_owned());
    }
    options.push(if mount.readonly { "ro" } else { "rw" });
    options.extend(recursive);
    options.extend(extra_options(mount, &field("mount_options"))?);
    let mut mount = bind(&destination, &source, &options);
    if let Some(maps) = maps {
        let (users, groups) = userns::mappings(maps)?;
        mount.set_uid_mappings(Some(users)).set_gid_mappings(Some(groups));
    }
    Ok(mount)
}

/// What the kubelet adds of its own.
fn extra_options(mount: &v1::Mount, field: &str) -> Result<Vec<&'static str>> {
    let known = |option: &String| {
        let found = EXTRA_OPTIONS.iter().find(|known| **known == option.as_str()).copied();
        found.ok_or_else(|| Error::invalid(field, format!("{} is not an option of bind mounts", shown(option))))
    };
    mount.mount_options.iter().map(known).collect()
}

/// Refuses what takes mount_setattr(2) where the handler or the kernel does not have it.
fn able(input: &ContainerInput<'_>, handler: bool, field: &str, what: &str) -> Result<()> {
    match (handler, input.host.mount_attributes) {
        (false, _) => Err(Error::unsupported(field, format!("the handler cannot {what}"))),
        (true, false) => Err(Error::host(field, format!("the kernel cannot {what}"))),
        (true, true) => Ok(()),
    }
}

/// Host paths are followed as they are, `..` included: a link in the middle gives it a meaning that text has not.
fn clean_host(field: &str, path: &str) -> Result<PathBuf> {
    check(field, path)?;
    if !path.starts_with('/') {
        return Err(Error::invalid(field, format!("{} is not absolute", shown(path))));
    }
    Ok(PathBuf::from(path))
}

fn recursive_read_only(
    input: &ContainerInput<'_>,
    mount: &v1::Mount,
    propagation: v1::MountPropagation,
    field: &str,
) -> Result<Option<&'static str>> {
    if !mount.recursive_read_only {
        return Ok(None);
    }
    if !mount.readonly {
        return Err(Error::invalid(field, "needs readonly"));
    }
    if propagation != v1::MountPropagation::PropagationPrivate {
        return Err(Error::invalid(field, "needs private propagation"));
    }
    able(input, input.handler.recursive_read_only, field, "make mounts recursively read-only")?;
    Ok(Some("rro"))
}

/// The VOLUMEs of the image that no mount of the request covers, as clean absolute paths, sorted, each once.
///
/// # Errors
/// When the image declares what cannot be a volume: a relative path, the root, or one that climbs out of it.
pub fn image_volumes(image: &ImageDefaults, mounts: &[v1::Mount]) -> Result<Vec<PathBuf>> {
    if image.volumes.len() > MAX_MOUNTS {
        let actual = image.volumes.len();
        return Err(Error::TooLarge { field: "image volumes".into(), actual, limit: MAX_MOUNTS });
    }
    let mut out = Vec::new();
    for volume in &image.volumes {
        let climbs = volume.split('/').any(|part| part == "..");
        let clean = clean_absolute("VOLUME", volume).ok().filter(|path| !climbs && path != Path::new("/"));
        let clean = clean.ok_or_else(|| Error::image(format!("VOLUME {} is not a usable path", shown(volume))))?;
        let covered = mounts
            .iter()
            .any(|mount| clean_absolute("container_path", &mount.container_path).is_ok_and(|path| path == clean));
        if !covered {
            out.push(clean);
        }
    }
    out.sort();
    out.dedup();
    Ok(out)
}
