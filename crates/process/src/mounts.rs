//! Mounts by path and by descriptor. `/proc/self/mountinfo` is never parsed: its cost grows with the host's mounts.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind, mount_change,
    move_mount, open_tree, unmount,
};

use crate::error::{Doing, Error, Result, check};

/// What mount_setattr(2) is to turn on for a mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttributes<'fd> {
    /// No writes.
    pub read_only: bool,
    /// No set-user-ID.
    pub no_suid: bool,
    /// No device files.
    pub no_dev: bool,
    /// No executing.
    pub no_exec: bool,
    /// IDs on it are mapped by this user namespace. Only for mounts that are not attached yet.
    pub id_map: Option<BorrowedFd<'fd>>,
}

impl MountAttributes<'_> {
    /// Applies them to the mount whose root `mount` is, and with `recursive` to those below.
    pub fn apply(&self, mount: BorrowedFd<'_>, recursive: bool) -> Result<()> {
        let bit = |on: bool, bit: u64| if on { bit } else { 0 };
        let set = bit(self.read_only, libc::MOUNT_ATTR_RDONLY)
            | bit(self.no_suid, libc::MOUNT_ATTR_NOSUID)
            | bit(self.no_dev, libc::MOUNT_ATTR_NODEV)
            | bit(self.no_exec, libc::MOUNT_ATTR_NOEXEC)
            | bit(self.id_map.is_some(), libc::MOUNT_ATTR_IDMAP);
        let attributes = libc::mount_attr {
            attr_set: set,
            attr_clr: 0,
            propagation: 0,
            userns_fd: self.id_map.map_or(0, |fd| fd.as_raw_fd() as u64),
        };
        let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
        // SAFETY: an empty path, and a structure of the size that is given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                mount.as_raw_fd(),
                c"".as_ptr(),
                flags,
                &raw const attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        check(result).doing(|| format!("set mount attributes {self:?}")).map(drop)
    }
}

/// Mounts a tmpfs of at most `size` bytes on `target`: nosuid, nodev, noexec.
pub fn tmpfs(target: &Path, size: u64, mode: u32) -> Result<()> {
    tmpfs_of(target, size, mode, (0, 0))
}

fn tmpfs_of(target: &Path, size: u64, mode: u32, (uid, gid): (u32, u32)) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let data = CString::new(format!("mode={mode:o},size={size},uid={uid},gid={gid}"));
    let data = data.map_err(io::Error::from).doing(|| "mount tmpfs")?;
    mount("tmpfs", target, "tmpfs", flags, data.as_c_str()).doing(|| format!("mount a tmpfs on {}", target.display()))
}

/// A pod's `/dev/shm`: a tmpfs of 64 MiB, mode 1777, that belongs to this user and group.
pub fn shm(target: &Path, owner: (u32, u32)) -> Result<()> {
    tmpfs_of(target, 64 * 1024 * 1024, 0o1777, owner)
}

/// Mounts `source` on `target` as well, without what is mounted below it.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    mount_bind(source, target).doing(|| format!("bind {} on {}", source.display(), target.display()))
}

/// A detached copy of the mount at `source` (with those below it), which nobody else sees until it is attached.
pub fn clone_tree(source: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(CWD, source, flags).doing(|| format!("clone the mount at {}", source.display()))
}

/// Attaches a detached mount at `target`.
pub fn attach(tree: impl AsFd, target: &Path) -> Result<()> {
    move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .doing(|| format!("attach a mount at {}", target.display()))
}

/// How mount events travel between a mount and its peers, see mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// From the peers only.
    Slave,
    /// Both ways.
    Shared,
    /// Neither, and it cannot be bound.
    Unbindable,
}

/// Changes the propagation of the mount at `target` and, with `recursive`, of those below it.
pub fn propagation(target: &Path, kind: Propagation, recursive: bool) -> Result<()> {
    let mut flags = match kind {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    flags.set(MountPropagationFlags::REC, recursive);
    mount_change(target, flags).doing(|| format!("make {} {kind:?}", target.display()))
}

/// Detaches everything that is mounted on `target`. Succeeds when nothing is, or when it does not exist.
pub fn unmount_all(target: &Path) -> Result<()> {
    loop {
        match unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).doing(|| format!("unmount {}", target.display())),
        }
    }
}

/// Whether something is mounted on `path` itself (links are not followed). False when it does not exist.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    let action = || format!("look at {}", path.display());
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = match statx(CWD, path, flags, StatxFlags::empty()) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
        Err(error) => return Err(error).doing(action),
    };
    if !found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        // Before 5.8.
        return Err(Error::new(action(), io::Error::from(io::ErrorKind::Unsupported)));
    }
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn shared_memory_is_mounted_bound_and_unmounted() {
        let directory = tempfile::tempdir().expect("directory");
        let (shm_path, other) = (directory.path().join("shm"), directory.path().join("other"));
        std::fs::create_dir(&shm_path).expect("mkdir");
        std::fs::create_dir(&other).expect("mkdir");
        assert!(!is_mount_point(&shm_path).expect("look"));
        shm(&shm_path, (5, 6)).expect("mount");
        assert!(is_mount_point(&shm_path).expect("look"));
        let stat = rustix::fs::statvfs(&shm_path).expect("statvfs");
        assert_eq!(stat.f_blocks * stat.f_frsize, 64 * 1024 * 1024);
        assert_eq!(std::fs::metadata(&shm_path).expect("stat").permissions().mode() & 0o7777, 0o1777);
        std::fs::write(shm_path.join("x"), "1").expect("write");
        bind(&shm_path, &other).expect("bind");
        assert!(other.join("x").exists());
        unmount_all(&other).expect("unmount");
        unmount_all(&shm_path).expect("unmount");
        unmount_all(&shm_path).expect("again");
        unmount_all(&directory.path().join("absent")).expect("absent");
        assert!(!is_mount_point(&shm_path).expect("look"));
        assert!(!is_mount_point(&directory.path().join("absent")).expect("look"));
    }

    #[test]
    fn a_read_only_clone_is_attached() {
        let directory = tempfile::tempdir().expect("directory");
        let (source, target) = (directory.path().join("source"), directory.path().join("target"));
        std::fs::create_dir(&source).expect("mkdir");
        std::fs::create_dir(&target).expect("mkdir");
        let tree = clone_tree(&source, false).expect("clone");
        MountAttributes { read_only: true, ..Default::default() }.apply(tree.as_fd(), true).expect("attributes");
        attach(&tree, &target).expect("attach");
        std::fs::write(source.join("x"), "1").expect("write");
        let refused = std::fs::write(target.join("x"), "2").expect_err("read-only");
        unmount_all(&target).expect("unmount");
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
}
