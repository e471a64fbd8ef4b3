//! The working directory: made where it is missing, entered, and checked to be in the container.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use cricket_process::rooted::{open_in_root, open_root};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, mkdirat};
use rustix::io::Errno;

use crate::error::Error;

/// Enters the working directory in the container, which is the process's root now; makes it where it is missing, for
/// its owner. False where that is not permitted: as the container's user it may be.
pub(super) fn enter(cwd: &Path, owner: (u32, u32)) -> Result<bool, Error> {
    let root = open_root(Path::new("/")).map_err(|e| Error::io("open the root", e))?;
    let entered = make(root.as_fd(), cwd, owner).and_then(|dir| Ok(rustix::process::fchdir(&dir)?));
    match entered {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        Err(e) => return Err(failed(cwd, &e)),
    }
    // The kernel says so when the directory is outside of the root (CVE-2024-21626).
    let here = rustix::process::getcwd(Vec::new()).map_err(|e| failed(cwd, &e.into()))?;
    if here.as_bytes().first() != Some(&b'/') {
        return Err(Error::content(format!("the working directory {} is outside of the container", cwd.display())));
    }
    Ok(true)
}

fn failed(cwd: &Path, error: &io::Error) -> Error {
    let cause = match error.raw_os_error() {
        Some(libc::EEXIST | libc::ENOTDIR) => "not a directory".to_owned(),
        _ => error.to_string(),
    };
    Error::content(format!("the working directory {}: {cause}", cwd.display()))
}

/// Opens the directory, links followed inside the root and magic links refused; makes it and whatever is missing above
/// it, mode 0755 and the owner's.
fn make(root: BorrowedFd<'_>, path: &Path, owner: (u32, u32)) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_in_root(root, path, flags) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
        opened => return opened,
    }
    let mut prefix = PathBuf::from("/");
    let mut dir = open_in_root(root, &prefix, flags)?;
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::ParentDir => OsStr::new(".."),
            _ => continue,
        };
        prefix.push(name);
        dir = match open_in_root(root, &prefix, flags) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => make_one(dir, name, owner)?,
            opened => opened?,
        };
    }
    Ok(dir)
}

fn make_one(parent: OwnedFd, name: &OsStr, (uid, gid): (u32, u32)) -> io::Result<OwnedFd> {
    match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => {}
        // Where a name is taken and yet leads nowhere, it is a dangling link.
        Err(Errno::EXIST) => return Err(Errno::NOTDIR.into()),
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
    fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn made_inside_for_its_owner() {
        let root = tempfile::tempdir().expect("directory");
        let outside = tempfile::tempdir().expect("directory");
        let fd = open_root(root.path()).expect("root");
        make(fd.as_fd(), Path::new("/a/b/c"), (7, 8)).expect("make");
        let meta = fs::metadata(root.path().join("a/b/c")).expect("made");
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (7, 8, 0o755));
        symlink(outside.path(), root.path().join("out")).expect("link");
        let error = make(fd.as_fd(), Path::new("/out/x"), (0, 0)).expect_err("dangling inside");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
        assert_eq!(fs::read_dir(outside.path()).expect("list").count(), 0);
        symlink("/a", root.path().join("link")).expect("link");
        make(fd.as_fd(), Path::new("/link/d"), (0, 0)).expect("through a link");
        assert!(root.path().join("a/d").is_dir());
        fs::write(root.path().join("file"), "").expect("write");
        assert!(make(fd.as_fd(), Path::new("/file"), (0, 0)).is_err());
    }
}
