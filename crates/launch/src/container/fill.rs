//! In the init: the container's root file system gets its place and its mounts. Every place is looked up inside the
//! root and kept as a descriptor, on which the mount is then put: no path is followed twice.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cricket_process::detached::{self, Change, Flags};
use cricket_process::mounts::Propagation;
use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::mount::{MountPropagationFlags, mount_change};

use super::inside::{self, Kind};
use super::mounts::{FileSystem, Mount, PROC, What};
use crate::error::Error;

/// What may be mounted in procfs, where a mount can hide or fake what programs rely on: single files that show
/// resources as the container has them.
const ALLOWED_IN_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Puts the root file system on the path where the host has it, in this process's own mount namespace: hooks look for
/// it there. From now on nothing that is mounted here is seen outside.
pub(super) fn attach_root(tree: &OwnedFd, path: &Path) -> Result<(), Error> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|e| Error::io("keep mounts from the host", e))?;
    detached::open_place(path)
        .and_then(|place| detached::attach(tree, place))
        .map_err(|e| Error::host(format!("mount the root file system {}: {}", path.display(), e.to_line())))
}

/// Makes the mounts, in their order.
pub(super) fn make(root: BorrowedFd<'_>, mounts: &[Mount]) -> Result<(), Error> {
    mounts.iter().try_for_each(|mount| one(root, mount))
}

fn one(root: BorrowedFd<'_>, mount: &Mount) -> Result<(), Error> {
    let at = mount.target.display();
    let failed = |e: cricket_process::Error| Error::host(format!("mount at {at}: {}", e.to_line()));
    let target = place(root, mount)?;
    if detached::file_system(&target).map_err(failed)? == PROC && !allowed_in_proc(&mount.target) {
        return Err(Error::content(format!("nothing may be mounted at {at}, which is in procfs")));
    }
    match &mount.what {
        What::Tree { tree, .. } => detached::attach(tree, &target).map_err(failed),
        What::New(file_system) => {
            let tree = new(file_system).map_err(failed)?;
            detached::attach(&tree, &target).map_err(failed)?;
            let Some((propagation, all)) = mount.propagation else { return Ok(()) };
            Change { propagation: Some(propagation), ..Default::default() }.apply(&tree, all).map_err(failed)
        }
        What::Cgroups { directories, read_only } => {
            cgroups(&target, directories, *read_only).map_err(|e| Error::host(format!("mount at {at}: {e}")))
        }
    }
}

/// Where it is mounted; made where it is missing. What programs trust by its path is a plain directory, never a link.
fn place(root: BorrowedFd<'_>, mount: &Mount) -> Result<OwnedFd, Error> {
    let at = mount.target.display();
    let trusted = match &mount.what {
        What::New(file_system) => ["proc", "sysfs"].contains(&file_system.kind.as_str()),
        _ => false,
    };
    let top = ["/dev", "/proc", "/sys"].iter().any(|top| mount.target == Path::new(top));
    let kind = match &mount.what {
        What::Tree { kind, .. } => *kind,
        _ => Kind::Directory,
    };
    let found = match trusted || top {
        true => inside::plain_dir(root, &mount.target),
        false => inside::make(root, &mount.target, kind),
    };
    let found = found.map_err(|e| Error::content(format!("make {at} in the root file system: {e}")))?;
    let there = inside::kind(&found).map_err(|e| Error::io(format!("look at {at}"), e))?;
    match (kind, there) {
        (Kind::Directory, Kind::File) => Err(Error::content(format!("{at} is no directory, and one is mounted there"))),
        (Kind::File, Kind::Directory) => {
            Err(Error::content(format!("{at} is a directory, and a file is mounted there")))
        }
        _ => Ok(found),
    }
}

fn allowed_in_proc(target: &Path) -> bool {
    ALLOWED_IN_PROC.iter().any(|allowed| target == Path::new(allowed))
}

fn new(file_system: &FileSystem) -> cricket_process::Result<OwnedFd> {
    let options = file_system.data.iter().map(|(key, value)| (key.as_str(), value.as_deref()));
    let made = detached::make(&file_system.kind, &file_system.source, options, file_system.flags);
    let host = match (&file_system.instead, &made) {
        (Some(host), Err(e)) if e.errno() == Some(libc::EPERM) => host,
        _ => {
            let made = made?;
            file_system.label.iter().try_for_each(|label| detached::label(&made, label))?;
            return Ok(made);
        }
    };
    let tree = detached::clone_at(detached::open_place(host)?, true)?;
    let change = Change { set: file_system.flags, propagation: Some(Propagation::Private), ..Default::default() };
    change.apply(&tree, true)?;
    Ok(tree)
}

/// A tmpfs with a directory for each hierarchy, and links for those that share one.
fn cgroups(target: &OwnedFd, directories: &[(String, OwnedFd)], read_only: bool) -> Result<(), Error> {
    let failed = |e: cricket_process::Error| Error::host(e.to_line());
    let flags = Flags::NO_SUID.with(Flags::NO_DEV).with(Flags::NO_EXEC);
    let top = detached::make("tmpfs", "tmpfs", [("mode", Some("755"))], flags).map_err(failed)?;
    detached::attach(&top, target).map_err(failed)?;
    for (name, tree) in directories {
        let io = |e| Error::io(format!("make {name}"), e);
        mkdirat(&top, name, Mode::from_raw_mode(0o755)).map_err(io)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = openat(&top, name, flags, Mode::empty()).map_err(io)?;
        detached::attach(tree, place).map_err(failed)?;
        for single in name.split(',').filter(|single| single != name) {
            symlinkat(name, &top, single).map_err(io)?;
        }
    }
    let set = if read_only { Flags::READ_ONLY } else { Flags::NONE };
    Change { set, ..Default::default() }.apply(top.as_fd(), false).map_err(failed)
}
