//! Image VOLUMEs: what the image has at the path becomes the volume's first content.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use super::chain::copy_attributes;
use super::overlay::open_dir;
use crate::unpack::resolve;
use crate::{Error, Result};

/// Copies `path` of the tree mounted at `rootfs` into the directory `volume`.
pub(crate) fn copy_up(rootfs: &Path, path: &str, volume: &Path) -> Result<()> {
    let root = open_dir(rootfs)?;
    let destination = open_dir(volume)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    // The image's links are followed with the rootfs as root, and no other mount is entered.
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_XDEV;
    let source = match resolve(&root, path.as_ref(), flags, inside) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(e) => return Err(Error::io("open the volume's content", rootfs.join(path.trim_start_matches('/')), e)),
    };
    Copy { source, destination: destination.into(), links: HashMap::new() }.run()
}

struct Copy {
    source: OwnedFd,
    destination: OwnedFd,
    /// The first name of files that have several, by inode.
    links: HashMap<u64, PathBuf>,
}

impl Copy {
    fn run(mut self) -> Result<()> {
        let mut done: Vec<PathBuf> = vec![PathBuf::new()];
        let mut next = 0;
        // `done` is both the queue and, backwards, the order in which directories get their times.
        while next < done.len() {
            let below = self.directory(&done[next].clone())?;
            done.extend(below);
            next += 1;
        }
        for dir in done.iter().rev() {
            let (from, to) = (self.open(&self.source, dir)?, self.open(&self.destination, dir)?);
            copy_attributes(&dot(&from), &dot(&to))?;
        }
        Ok(())
    }

    /// Copies what is in a directory, and names the directories in it.
    fn directory(&mut self, path: &Path) -> Result<Vec<PathBuf>> {
        let (from, to) = (self.open(&self.source, path)?, self.open(&self.destination, path)?);
        let failed = |e: Errno| Error::io("copy", path, e);
        let mut below = Vec::new();
        let mut buf = Vec::with_capacity(32 << 10);
        let mut entries = RawDir::new(&from, buf.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            let stat = rustix::fs::statat(&from, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let here = path.join(&name);
            if kind == FileType::Directory {
                match rustix::fs::mkdirat(&to, &name, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => below.push(here),
                    Err(e) => return Err(Error::io("make", here, e)),
                }
                continue;
            }
            if stat.st_nlink > 1
                && let Some(first) = self.links.get(&stat.st_ino)
            {
                let parent = self.open(&self.destination, first.parent().unwrap_or(Path::new("")))?;
                let first_name = first.file_name().unwrap_or_default();
                rustix::fs::linkat(&parent, first_name, &to, &name, AtFlags::empty()).map_err(failed)?;
                continue;
            }
            copy_one(&from, &to, &name, kind, &stat).map_err(|e| Error::io("copy", &here, e))?;
            copy_attributes(&dot(&from).join(&name), &dot(&to).join(&name))?;
            if stat.st_nlink > 1 {
                self.links.insert(stat.st_ino, here);
            }
        }
        Ok(below)
    }

    fn open(&self, root: &OwnedFd, path: &Path) -> Result<OwnedFd> {
        let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        resolve(root, name.as_os_str(), OFlags::RDONLY | OFlags::DIRECTORY, how).map_err(|e| Error::io("open", path, e))
    }
}

fn copy_one(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &OsString,
    kind: FileType,
    stat: &rustix::fs::Stat,
) -> std::io::Result<()> {
    match kind {
        FileType::RegularFile => {
            let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut source = std::fs::File::from(rustix::fs::openat(from, name, read, Mode::empty())?);
            let mut copy = std::fs::File::from(rustix::fs::openat(to, name, write, Mode::from_raw_mode(0o600))?);
            std::io::copy(&mut source, &mut copy).map(drop)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            Ok(rustix::fs::symlinkat(target, to, name)?)
        }
        kind => Ok(rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(0o600), stat.st_rdev)?),
    }
}

/// A path that names what the descriptor is.
fn dot(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/.", fd.as_fd().as_raw_fd()))
}
