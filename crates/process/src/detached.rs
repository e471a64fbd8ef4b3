//! Detached mounts: made or cloned where nobody sees them, given their attributes, then moved into place, all by
//! descriptor (fsopen(2), open_tree(2), mount_setattr(2), move_mount(2)). No path is followed in between, so nobody
//! can put a link in the way; a mount that is dropped before it is attached is gone.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::error::{Doing, Error, Result, check};
use crate::mounts::Propagation;

/// Attributes of a mount (`MOUNT_ATTR_*` of mount_setattr(2)), a set. None is "writable, with everything, relatime".
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u64);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// No writes.
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// No set-user-ID.
    pub const NO_SUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// No device files.
    pub const NO_DEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// No executing.
    pub const NO_EXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);
    /// Access times are never written.
    pub const NO_ATIME: Self = Self(libc::MOUNT_ATTR_NOATIME);
    /// Access times are always written.
    pub const STRICT_ATIME: Self = Self(libc::MOUNT_ATTR_STRICTATIME);
    /// Access times of directories are never written.
    pub const NO_DIR_ATIME: Self = Self(libc::MOUNT_ATTR_NODIRATIME);
    /// Symbolic links are not followed.
    pub const NO_SYMFOLLOW: Self = Self(libc::MOUNT_ATTR_NOSYMFOLLOW);
    /// To be cleared: the choice among access times, which is a field of its own.
    pub const ATIME: Self = Self(libc::MOUNT_ATTR__ATIME);

    /// Those of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A change of mounts by mount_setattr(2).
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'fd> {
    /// To turn on.
    pub set: Flags,
    /// To turn off, before the others are turned on.
    pub clear: Flags,
    /// How mount events travel from now on.
    pub propagation: Option<Propagation>,
    /// IDs on it are mapped by this user namespace. Only for mounts that were never attached.
    pub id_map: Option<BorrowedFd<'fd>>,
}

impl Change<'_> {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.clear.is_empty() && self.propagation.is_none() && self.id_map.is_none()
    }

    /// Applies it to the mount whose root `mount` is, and with `recursive` to all below; on failure to none.
    pub fn apply(&self, mount: impl AsFd, recursive: bool) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let propagation = self.propagation.map_or(0, |kind| match kind {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        });
        let id_map = if self.id_map.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
        // The field of access times has to be cleared for any of its values to be set.
        let atime = if self.set.0 & Flags::ATIME.0 != 0 { Flags::ATIME } else { Flags::NONE };
        let attributes = libc::mount_attr {
            attr_set: self.set.0 | id_map,
            attr_clr: self.clear.with(atime).0,
            propagation,
            userns_fd: self.id_map.map_or(0, |fd| fd.as_raw_fd() as u64),
        };
        let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
        // SAFETY: an empty path, and a structure of the size that is given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                mount.as_fd().as_raw_fd(),
                c"".as_ptr(),
                flags,
                &raw const attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        check(result).map(drop).doing(|| format!("change mount attributes ({self})"))
    }
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {:?}, clear {:?}", self.set, self.clear)?;
        if let Some(kind) = self.propagation {
            write!(f, ", {kind:?}")?;
        }
        if self.id_map.is_some() {
            f.write_str(", id-mapped")?;
        }
        Ok(())
    }
}

/// A mount of a new file system `kind`. Options are keys with or without a value, as fsconfig(2) takes them; the
/// kernel's own words about a wrong one are part of the error.
pub fn make<'a>(
    kind: &str,
    source: &str,
    options: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    flags: Flags,
) -> Result<OwnedFd> {
    let action = || format!("make a file system of type {kind}");
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).doing(action)?;
    let failed = |error: Errno| match last_words(&context) {
        Some(words) => Error::new(action(), io::Error::new(io::Error::from(error).kind(), words)),
        None => Error::new(action(), error),
    };
    fsconfig_set_string(&context, "source", source).map_err(failed)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, key),
        }
        .map_err(failed)
        .map_err(|e| Error::new(format!("{}: option {key}", action()), io::Error::new(e.io().kind(), e.to_line())))?;
    }
    fsconfig_create(&context).map_err(|e| Error::new(action(), e))?;
    let attributes = MountAttrFlags::from_bits_retain(flags.0 as u32);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(|e| Error::new(action(), e))
}

/// The last message of a file system context's log.
fn last_words(context: &OwnedFd) -> Option<String> {
    let mut file = std::fs::File::from(context.try_clone().ok()?);
    let mut last = None;
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = file.read(&mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]);
        // "e ", "w " or "i " goes first.
        last = Some(line.get(2..).unwrap_or_default().trim_end().to_owned());
    }
    last.filter(|words| !words.is_empty())
}

/// A detached copy of the mount that `place` (any descriptor, `O_PATH` too) is on, beginning there.
pub fn clone_at(place: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(place, "", flags).doing(|| "clone a mount")
}

/// Attaches a detached mount on what `target` is: a directory on a directory, anything else on a file.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags).doing(|| "attach a mount")
}

/// Gives the root of a mount an SELinux label; a file system without labels is left as it is.
pub fn label(tree: impl AsFd, label: &str) -> Result<()> {
    // No call sets an attribute of a descriptor that is but a place.
    let name = format!("/proc/self/fd/{}", tree.as_fd().as_raw_fd());
    match rustix::fs::setxattr(&*name, "security.selinux", label.as_bytes(), rustix::fs::XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        done => done.doing(|| format!("label a mount {label:?}")),
    }
}

/// Type of the file system that `fd` is on: one of the magic numbers of linux/magic.h, see statfs(2).
pub fn file_system(fd: impl AsFd) -> Result<u64> {
    Ok(rustix::fs::fstatfs(fd).doing(|| "look at a file system")?.f_type as u64)
}

/// Opens a path of the host for [`clone_at`]; links are followed.
pub fn open_place(path: &std::path::Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty()).doing(|| format!("open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn proc_path(fd: &OwnedFd, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", fd.as_raw_fd())
    }

    #[test]
    fn made_with_options_and_attributes() {
        let options = [("mode", Some("700")), ("size", Some("64k"))];
        let tree = make("tmpfs", "tmpfs", options, Flags::NO_DEV.with(Flags::NO_EXEC)).expect("make");
        let vfs = rustix::fs::fstatvfs(&tree).expect("statvfs");
        assert_eq!(vfs.f_blocks * vfs.f_frsize, 64 * 1024);
        assert!(vfs.f_flag.contains(rustix::fs::StatVfsMountFlags::NODEV | rustix::fs::StatVfsMountFlags::NOEXEC));
        std::fs::write(proc_path(&tree, "x"), "x").expect("write");
        Change { set: Flags::READ_ONLY.with(Flags::NO_ATIME), clear: Flags::NO_EXEC, ..Default::default() }
            .apply(&tree, true)
            .expect("change");
        let refused = std::fs::write(proc_path(&tree, "y"), "y").expect_err("read-only");
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
        let flags = rustix::fs::fstatvfs(&tree).expect("statvfs").f_flag;
        assert!(flags.contains(rustix::fs::StatVfsMountFlags::NOATIME));
        assert!(!flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC));
    }

    #[test]
    fn the_kernels_words_are_in_the_error() {
        let error = make("tmpfs", "tmpfs", [("colour", Some("red"))], Flags::NONE).expect_err("no such option");
        assert!(error.to_line().contains("colour"), "{}", error.to_line());
        assert!(make("no-such-file-system", "none", [], Flags::NONE).is_err());
    }

    #[test]
    fn cloned_attached_and_private() {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(directory.path().join("file"), "content").expect("write");
        let target = directory.path().join("target");
        std::fs::write(&target, "").expect("write");
        let place = open_place(&directory.path().join("file")).expect("open");
        let tree = clone_at(&place, false).expect("clone");
        Change { propagation: Some(Propagation::Private), ..Default::default() }.apply(&tree, true).expect("private");
        attach(&tree, open_place(&target).expect("open")).expect("attach");
        let seen = std::fs::read_to_string(&target).expect("read");
        crate::mounts::unmount_all(&target).expect("unmount");
        assert_eq!(seen, "content");
        assert_eq!(std::fs::read_to_string(&target).expect("read"), "");
    }

    #[test]
    fn ids_are_mapped() {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(directory.path().join("file"), "").expect("write");
        std::os::unix::fs::chown(directory.path().join("file"), Some(7), Some(8)).expect("chown");
        let range = crate::userns::Range { inside: 0, outside: 100_000, length: 1000 };
        let user = crate::userns::make(&[range], &[range]).expect("user namespace");
        let tree = clone_at(open_place(directory.path()).expect("open"), true).expect("clone");
        Change { id_map: Some(user.as_fd()), ..Default::default() }.apply(&tree, true).expect("map");
        let stat = std::fs::metadata(proc_path(&tree, "file")).expect("stat");
        assert_eq!((stat.uid(), stat.gid()), (100_007, 100_008));
    }
}
