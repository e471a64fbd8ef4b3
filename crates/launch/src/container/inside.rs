//! Places inside the container's root file system, which is hostile: links resolve inside, magic links are refused,
//! and what is answered is a descriptor, so that nothing can be put in the way afterwards.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cricket_process::rooted::open_in_root;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// As many links as the kernel follows in one path.
const MAX_LINKS: u32 = 40;
/// Steps of one resolution, those that links bring included.
const MAX_STEPS: u32 = 4096;

/// What has to be at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Opens a place (`O_PATH`), links followed inside the root.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open_in_root(root, path, OFlags::PATH)
}

/// Opens a directory that no link leads to; makes it where it is missing. One that is something else is
/// `NotADirectory`.
pub(super) fn plain_dir(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let look = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(root, relative, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    };
    match look() {
        Err(Errno::NOENT) => {
            make(root, path, Kind::Directory)?;
            Ok(look()?)
        }
        Err(Errno::LOOP | Errno::NOTDIR) => {
            Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is not a plain directory", path.display())))
        }
        opened => Ok(opened?),
    }
}

/// Opens a place to mount on; makes what is missing: directories with mode 0755, a file with mode 0644. Links are
/// followed inside the root, also those that lead nowhere yet.
pub(super) fn make(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    match open(root, path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let resolved = resolve(root, path, kind)?;
    let relative = resolved.strip_prefix("/").unwrap_or(&resolved);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    // No links are left in it: one that turns up now was put there meanwhile.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(openat2(root, relative, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?)
}

/// Walks the path and makes what is missing; returns it without any link.
fn resolve(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<PathBuf> {
    let mut left: VecDeque<OsString> = names(path);
    let mut resolved = PathBuf::from("/");
    let (mut links, mut steps) = (0, 0);
    while let Some(name) = left.pop_front() {
        steps += 1;
        if steps > MAX_STEPS {
            return Err(Errno::NAMETOOLONG.into());
        }
        if name == ".." {
            resolved.pop();
            continue;
        }
        let dir = open_in_root(root, &resolved, OFlags::PATH | OFlags::DIRECTORY)?;
        match readlinkat(&dir, &name, Vec::new()) {
            Ok(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                if target.is_absolute() {
                    resolved = PathBuf::from("/");
                }
                for name in names(target).into_iter().rev() {
                    left.push_front(name);
                }
                continue;
            }
            // It is there and no link.
            Err(Errno::INVAL) => {}
            Err(Errno::NOENT) if kind == Kind::File && left.is_empty() => make_file(&dir, &name)?,
            Err(Errno::NOENT) => match mkdirat(&dir, &name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            },
            Err(e) => return Err(e.into()),
        }
        resolved.push(name);
    }
    Ok(resolved)
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

fn make_file(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// What a descriptor is of.
pub(super) fn kind(fd: impl AsFd) -> io::Result<Kind> {
    match FileType::from_raw_mode(fstat(fd)?.st_mode) {
        FileType::Directory => Ok(Kind::Directory),
        _ => Ok(Kind::File),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cricket_process::rooted::open_root;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn made_inside_also_through_links_to_nowhere() {
        let (root, outside) = (tempfile::tempdir().expect("root"), tempfile::tempdir().expect("outside"));
        let fd = open_root(root.path()).expect("open");
        symlink("/run/there/file", root.path().join("link")).expect("link");
        make(fd.as_fd(), Path::new("/link"), Kind::File).expect("file");
        assert!(root.path().join("run/there/file").is_file());
        symlink(outside.path(), root.path().join("out")).expect("link");
        make(fd.as_fd(), Path::new("/out/dir"), Kind::Directory).expect("directory");
        assert_eq!(fs::read_dir(outside.path()).expect("list").count(), 0);
        let inside = root.path().join(outside.path().strip_prefix("/").expect("absolute"));
        assert!(inside.join("dir").is_dir());
        make(fd.as_fd(), Path::new("/a/../b/../../c"), Kind::Directory).expect("dots stay inside");
        assert!(root.path().join("c").is_dir());
        symlink("loop", root.path().join("loop")).expect("link");
        assert!(make(fd.as_fd(), Path::new("/loop/x"), Kind::Directory).is_err());
        assert_eq!(
            kind(make(fd.as_fd(), Path::new("/"), Kind::Directory).expect("root")).expect("kind"),
            Kind::Directory
        );
    }

    #[test]
    fn plain_directories_only() {
        let root = tempfile::tempdir().expect("root");
        let fd = open_root(root.path()).expect("open");
        plain_dir(fd.as_fd(), Path::new("/proc")).expect("made");
        assert!(root.path().join("proc").is_dir());
        symlink("/etc", root.path().join("sys")).expect("link");
        let error = plain_dir(fd.as_fd(), Path::new("/sys")).expect_err("link");
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        symlink("proc", root.path().join("p")).expect("link");
        assert!(plain_dir(fd.as_fd(), Path::new("/p/x")).is_err());
    }
}
