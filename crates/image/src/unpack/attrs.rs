//! Ownership, modes, extended attributes and times, in the order in which they survive one another.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::limits::Fault;
use super::tarball::Entry;

/// Sets everything but directory times on something that was opened: the owner first (it clears the setuid bits and
/// capabilities), then the mode, then the attributes.
pub(crate) fn apply_fd(fd: impl AsFd, entry: &Entry, shown: &str) -> Result<(), Fault> {
    let (uid, gid) = owner(entry);
    rustix::fs::fchown(&fd, uid, gid).map_err(|e| Fault::io("change the owner of", shown, e))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(entry.mode)).map_err(|e| Fault::io("change the mode of", shown, e))?;
    for (name, value) in wanted(entry) {
        let set = CString::new(name)
            .map_or(Err(Errno::INVAL), |name| rustix::fs::fsetxattr(&fd, name.as_c_str(), value, XattrFlags::empty()));
        tolerate(name, set, shown)?;
    }
    Ok(())
}

/// The same for what cannot be opened for reading: links, devices, pipes. It is held by an `O_PATH` descriptor, so that
/// nobody can put a link in its place between two calls.
pub(crate) fn apply_at(dir: impl AsFd, name: &OsStr, entry: &Entry, link: bool, shown: &str) -> Result<(), Fault> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&dir, name, flags, Mode::empty()).map_err(|e| Fault::io("open", shown, e))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| Fault::io("look up", shown, e))?;
    if (FileType::from_raw_mode(stat.st_mode) == FileType::Symlink) != link {
        return Err(Fault::Bad(format!("{shown}: was replaced while it was unpacked")));
    }
    let (uid, gid) = owner(entry);
    rustix::fs::chownat(&fd, "", uid, gid, AtFlags::EMPTY_PATH)
        .map_err(|e| Fault::io("change the owner of", shown, e))?;
    if !link {
        // Through proc the descriptor's own inode is meant. Links have neither modes nor user attributes.
        let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        rustix::fs::chmod(&path, Mode::from_raw_mode(entry.mode))
            .map_err(|e| Fault::io("change the mode of", shown, e))?;
        for (name, value) in wanted(entry) {
            let set = CString::new(name).map_or(Err(Errno::INVAL), |name| {
                rustix::fs::setxattr(&path, name.as_c_str(), value, XattrFlags::empty())
            });
            tolerate(name, set, shown)?;
        }
    }
    rustix::fs::utimensat(&fd, "", &times(entry.mtime), AtFlags::EMPTY_PATH)
        .map_err(|e| Fault::io("set the time of", shown, e))
}

/// Access and modification time, both the archive's.
pub(crate) fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
}

fn wanted(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry.xattrs.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).filter(|(name, _)| allowed(name))
}

/// Overlay's own attributes would steer the mount, labels are the host's policy's business, and what is left of
/// `trusted.` and `security.` has no meaning for an image.
pub(crate) fn allowed(name: &[u8]) -> bool {
    name == b"security.capability"
        || name.starts_with(b"system.posix_acl_")
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Capabilities have to be there; a file system without user attributes is only worth a note.
fn tolerate(name: &[u8], set: Result<(), Errno>, shown: &str) -> Result<(), Fault> {
    match set {
        Ok(()) => Ok(()),
        Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL) if name != b"security.capability" => {
            tracing::debug!(path = shown, attribute = %name.escape_ascii(), "attribute not restored");
            Ok(())
        }
        Err(e) => Err(Fault::io("set an extended attribute of", shown, e)),
    }
}

/// Copies the extended attributes that a layer may have from one thing to another.
pub(crate) fn copy_xattrs(from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
    let mut names = vec![0u8; 64 << 10];
    let n = match rustix::fs::llistxattr(from, &mut names[..]) {
        Ok(n) => n,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let mut value = vec![0u8; 64 << 10];
    for name in names[..n].split(|b| *b == 0).filter(|name| allowed(name)) {
        let name = OsStr::from_bytes(name);
        let n = rustix::fs::lgetxattr(from, name, &mut value[..])?;
        rustix::fs::lsetxattr(to, name, &value[..n], XattrFlags::empty())?;
    }
    Ok(())
}
